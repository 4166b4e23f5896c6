"""Changes that requests ask for, judged and written: all of them or none, in the caller's transaction.

In this order, for all changes at once: the scopes; what is there, as far as the caller may see it, locked; the
preconditions; what each becomes; validation; references; who may write what (fhirgw.access.writing); the statements.
A change that makes no difference makes no version. https://hl7.org/fhir/R4/http.html#update

Longer than other modules, because it is one walk whose steps share what they know.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from fhirgw.access import writing as rules
from fhirgw.access.doubt import check as check_effective
from fhirgw.access.doubt import doubts
from fhirgw.access.label import EVERY, RESTRICTED, opened, restricted
from fhirgw.access.permit import Permit
from fhirgw.fhir import cohort
from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.index import Index, index
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.nhs import NHS_NUMBER
from fhirgw.fhir.patch import patched
from fhirgw.fhir.references import local, localised, references, referred
from fhirgw.mapping.identity import PLACEMENT
from fhirgw.store import audit, identity, ods, resources, write
from fhirgw.store.basis import LISTS, NOBODYS
from fhirgw.store.database import Connection
from fhirgw.store.doubtful import doubtful
from fhirgw.store.incoming import made_of
from fhirgw.store.load import Incoming
from fhirgw.store.schema import RENDERED
from fhirgw.store.write import Held
from fhirgw.validation import validate

VERBS = {"create": "c", "update": "u", "patch": "u", "delete": "d"}
READABLE = frozenset("0123456789abcdef")
AT_ONCE = 50
"""Resources that are judged before others get a turn."""
MOST_TOLD = 100
"""Issues that one refusal tells of several changes."""
MILLISECOND = timedelta(milliseconds=1)
ALLOW = "GET, HEAD, OPTIONS"
UNIQUE = "Organization"
"""The type of which no two have one code: who claims one keeps others waiting until their transaction ends."""
ASKING = ("test", "copy", "move")
"""Operations of a patch whose outcome tells what is there: for whoever may read it."""


class Change(NamedTuple):
    """What a request asks for. `kind` is create, update, patch or delete; `given` the resource, or a patch.

    `id` of what is there, or will be: an empty one is given to what is created. `match` holds the versions that
    it is meant for, None where nothing says so; `found` says that a search found the id, so that it needs no If-Match.
    `place` is where issues say that it stands. `bases` are the gateway's own, under which references are local ones.
    """

    kind: str
    type: str
    id: str
    given: Any = None
    match: Container[int] | None = None
    found: bool = False
    place: str = ""
    bases: tuple[str, ...] = ()


class Written(NamedTuple):
    """What became of a change: `kind` is created, updated, unchanged or deleted; the others are as it is now."""

    kind: str
    type: str
    id: str
    version: int
    updated: datetime | None
    person: str | None
    body: str | None = None
    doubts: tuple[Issue, ...] = ()
    """Of a Consent, what does not hold as it is written."""


@dataclass(slots=True)
class _Proposal:
    """A change, what it is made to, and what it makes of that; `shown`: what its writer sees of that, if not all."""

    change: Change
    held: Held | None
    before: Resource | None
    after: Resource | None
    found: Index | None
    incoming: Incoming | None = None
    new: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    shown: Resource | None = None


def new_id(person: str | None) -> str:
    """An id nobody has: about a person, in that person's place (fhirgw.mapping.identity)."""
    made = str(uuid.uuid4())
    place = (person or "")[:PLACEMENT]
    return place + made[PLACEMENT:] if len(place) == PLACEMENT and READABLE.issuperset(place) else made


async def apply(
    connection: Connection,
    permit: Permit,
    changes: Sequence[Change],
    moment: datetime,
    known: frozenset[str] = frozenset(),
) -> list[Written]:
    """Makes the changes; what became of each, in their order.

    `known` are references (`Type/id`) that need no looking up, because the same transaction has just made them.
    Raises FhirError for those that cannot be made, as far as each can be told by itself: nothing of any is to be kept
    then.
    """
    proposals, results = await _considered(connection, permit, changes, moment, known)
    await _store(connection, permit, proposals, moment)
    return results


async def create(
    connection: Connection,
    permit: Permit,
    changes: Sequence[Change],
    moment: datetime,
    rows: Callable[[Sequence[Written]], Sequence[audit.Row]],
) -> list[Written]:
    """Makes changes that create, with `rows` of the audit about them: all or nothing, by one statement where it can.

    It begins no transaction before it knows what to write. Not for what is unique (Organization): that is locked first.
    """
    proposals, results = await _considered(connection, permit, changes, moment)
    incoming = [each.incoming for each in proposals if each.incoming]
    if write.ruling(incoming):
        async with connection.transaction():
            await _store(connection, permit, proposals, moment)
            await audit.append(connection, rows(results))
    else:
        await write.create(connection, rules.origin(permit), incoming, rows(results))
    return results


async def _considered(
    connection: Connection,
    permit: Permit,
    changes: Sequence[Change],
    moment: datetime,
    known: frozenset[str] = frozenset(),
) -> tuple[list[_Proposal], list[Written]]:
    """What is to be written, and what will have become of each change."""
    for each in changes:
        with at(each.place):
            rules.check_type(permit, VERBS[each.kind], each.type)
    current = await _current(connection, permit, changes)
    results: dict[int, Written] = {}
    proposals: dict[int, _Proposal] = {}
    faults: list[FhirError] = []
    for number, each in enumerate(changes):
        try:
            with at(each.place):
                made = await _proposal(connection, permit, each, current.get((each.type, each.id)))
        except FhirError as error:
            faults.append(error)
            continue
        if isinstance(made, Written):
            results[number] = made
        else:
            proposals[number] = made
        if number % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)
    _refuse(faults)
    made_here = known | {f"{each.change.type}/{each.change.id}" for each in proposals.values() if each.after}
    visible = await _visible(connection, permit, list(proposals.values()), made_here)
    for number, proposal in proposals.items():
        with at(proposal.change.place):
            results[number] = await _judged(connection, permit, proposal, visible, moment)
    await _organisations(connection, [each for each in proposals.values() if each.change.type == UNIQUE])
    return list(proposals.values()), [results[number] for number in range(len(changes))]


def _refuse(faults: Sequence[FhirError]) -> None:
    """Raises what there is to raise: one fault as it is, several as one, with the status of the first."""
    if len(faults) == 1:
        raise faults[0]
    if faults:
        every = [each for fault in faults for each in fault.issues]
        more = [Issue("informational", f"{len(every) - MOST_TOLD:,} more were found", None, "information")]
        raise FhirError(*every[:MOST_TOLD], *(more if len(every) > MOST_TOLD else ()), status=faults[0].status)


class at:
    """Issues raised within say where in the request they are. A class: a generator costs four times as much."""

    __slots__ = ("place",)

    def __init__(self, place: str) -> None:
        self.place = place

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self.place and isinstance(error, FhirError):
            issues = [replace(each, expression=_placed(self.place, each.expression)) for each in error.issues]
            raise FhirError(*issues, status=error.status) from None


def _placed(place: str, expression: str | None) -> str:
    """`Observation.status` of what stands in an entry is `Bundle.entry[3].resource.status`."""
    if expression is None or expression.startswith("Bundle."):
        return expression or place
    return f"{place}.resource.{expression.partition('.')[2]}".rstrip(".")


async def _current(connection: Connection, permit: Permit, changes: Sequence[Change]) -> dict[tuple[str, str], Held]:
    """What the changes are made to, locked in an order that is the same for everybody."""
    wanted: dict[tuple[str, str], list[str]] = defaultdict(list)
    for each in changes:
        if each.kind != "create":
            wanted[each.type, VERBS[each.kind]].append(each.id)
    found: dict[tuple[str, str], Held] = {}
    for (kind, verb), ids in sorted(wanted.items()):
        held = await write.held(connection, permit, verb, kind, ids)
        found |= {(kind, id): each for id, each in held.items()}
    return found


async def _proposal(connection: Connection, permit: Permit, change: Change, held: Held | None) -> _Proposal | Written:
    if change.kind == "create":
        given = localised(change.given, change.bases)
        found = sound(given)
        change = change._replace(id=change.id or new_id(found.patient), given=given)
        if change.type == "Patient":
            found.patient = change.id
        return _Proposal(change, None, None, named(change.given, change.id), found)
    if held is None:
        return await _missing(connection, permit, change)
    _precondition(change, held)
    lists = change.type in LISTS and rules.council(permit)
    if not held.entire and not lists:
        told = "Part of this resource is withheld from you, and would be lost: ask the organisation that controls it"
        raise FhirError(Issue("forbidden", told, change.type))
    if change.kind == "patch" and not held.readable and _asks(change.given):
        told = f"Operations that tell what is there ({', '.join(ASKING)}) need a scope that reads this {change.type}"
        raise FhirError(Issue("forbidden", f"{told}: leave them out", change.type))
    before = decode(held.body)
    after = None if change.kind == "delete" else _after(change, before)
    if not rules.owns(permit, held.origin, held.controller):
        told = f"Another organisation controls this {change.type}: ask it to change what it holds"
        raise FhirError(Issue("forbidden", told, change.type))
    if after is not None and same(before, after):
        same_as = (change.type, change.id, held.version, held.updated, held.person, _shown(held))
        return Written("unchanged", *same_as, tuple(doubts(after)) if held.readable else ())
    if held.entire or after is None:
        return _Proposal(change, held, before, after, None if after is None else sound(after))
    whole = decode(held.whole or held.body)
    kept = cohort.completed(after, before, whole)
    return _Proposal(change, held, whole, kept, sound(kept), shown=after)


def _asks(operations: Any) -> bool:
    found = operations if isinstance(operations, list) else ()
    return any(isinstance(each, dict) and each.get("op") in ASKING for each in found)


def _shown(held: Held) -> str | None:
    return held.body if held.readable else None


def _after(change: Change, before: Resource) -> Resource:
    after = patched(before, change.given) if change.kind == "patch" else named(change.given, change.id)
    return localised(after, change.bases)


def named(resource: Resource, id: str) -> Resource:
    """The resource under its id, which stands where people look for it; what the store adds leaves the caller's be."""
    made = {"resourceType": resource["resourceType"], "id": id}
    made |= {name: value for name, value in resource.items() if name not in made}
    if isinstance(made.get("meta"), dict):
        made["meta"] = dict(made["meta"])
    return made


def same(before: Resource, after: Resource) -> bool:
    """Whether two bodies say the same, digit for digit, apart from what the store says in meta."""
    return encode(_bare(before)) == encode(_bare(after))


def _bare(resource: Resource) -> Resource:
    meta = resource.get("meta")
    if not isinstance(meta, dict):
        return resource
    kept = {name: value for name, value in meta.items() if name not in ("versionId", "lastUpdated")}
    without = {name: value for name, value in resource.items() if name != "meta"}
    return without | ({"meta": kept} if kept else {})


async def _missing(connection: Connection, permit: Permit, change: Change) -> Written:
    """What is not there: deleted and once to be seen, or nothing. Raises FhirError, but for a DELETE that is done."""
    if change.type in RENDERED:
        await _not_rendered(connection, permit, change)
    if permit.covering("r", change.type):
        past = await resources.past(connection, permit, change.type, change.id, count=1)
        if past and past[0].deleted:
            if change.kind != "delete":
                raise resources.gone(change.type)
            return Written("deleted", change.type, change.id, past[0].version, past[0].updated, past[0].person)
    if change.kind != "update":
        raise resources.absent(change.type)
    told = f"There is no such {change.type} to update: the gateway gives ids, so create it by POST"
    raise NotAllowed(Issue("not-supported", told), status=405)


async def _not_rendered(connection: Connection, permit: Permit, change: Change) -> None:
    """Raises FhirError (405) for what a homecare visit is rendered as: there is nothing else that could be changed.

    Only to those who see it: to others it is absent.
    """
    if await write.seen(connection, permit, change.type, [change.id]):
        told = f"This {change.type} is a homecare visit: it is corrected by its care provider, who sends it again"
        raise NotAllowed(Issue("not-supported", f"{told} to POST /homecare/visits"), status=405)


class NotAllowed(FhirError):
    """A 405, which says in a header what is allowed instead."""

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the answer."""
        return {"allow": ALLOW}


def _precondition(change: Change, held: Held) -> None:
    if change.match is None:
        if change.found or change.kind == "delete":
            return
        told = f'Say which version is meant to change: If-Match: W/"…", with the ETag of the {change.type} you read'
        if change.kind == "update":
            told += ", or its meta.versionId in the body"
        raise FhirError(Issue("required", told), status=428)
    if held.version not in change.match:
        told = f"This {change.type} has been changed since the version that is meant: read it again"
        raise FhirError(Issue("conflict", told), status=412)


def sound(resource: Resource) -> Index:
    """What a sound resource is found by. Raises FhirError: every error that validation finds (422).

    A date that does not exist is refused as what is no JSON is (400): nothing else can be said about it.
    """
    wrong: FhirError | None = None
    found = Index()
    try:
        found = index(resource)
    except FhirError as error:
        wrong = error
        if error.issues[0].code == "value":
            raise
    if errors := [each for each in validate(resource) if each.severity in ("error", "fatal")]:
        raise FhirError(*errors, status=422)
    if wrong is not None:
        raise FhirError(*wrong.issues, status=422)
    if resource["resourceType"] == "Group":
        cohort.check(resource)
    return found


async def _visible(
    connection: Connection, permit: Permit, proposals: Sequence[_Proposal], made: frozenset[str] | set[str]
) -> dict[str, str | None]:
    """Of the references that the proposals bring, those that lead to what the caller may see; each with its controller.

    A reference that was there before is left as it is.
    """
    wanted: dict[str, set[str]] = defaultdict(set)
    for each in proposals:
        if each.after is not None:
            old = set(local(referred(each.before))) if each.before else set()
            each.new = frozenset(set(local(referred(each.after))) - old)
            for kind, id in each.new:
                if f"{kind}/{id}" not in made:
                    wanted[kind].add(id)
    found: dict[str, str | None] = dict.fromkeys(made, permit.organisation)
    for kind, ids in sorted(wanted.items()):
        seen = await write.seen(connection, permit, kind, sorted(ids))
        found |= {f"{kind}/{id}": controller for id, controller in seen.items()}
    return found


async def _judged(
    connection: Connection, permit: Permit, proposal: _Proposal, visible: dict[str, str | None], moment: datetime
) -> Written:
    change, held = proposal.change, proposal.held
    rules.check(permit, proposal.before, proposal.after)
    if proposal.after is None:
        assert held is not None
        if change.type == "Patient" and await write.in_use(connection, change.id):
            raise FhirError(Issue("conflict", "There is more in this person's record: delete that first", "Patient"))
        return Written("deleted", change.type, change.id, held.version + 1, moment, held.person)
    for kind, id in sorted(proposal.new):
        if f"{kind}/{id}" not in visible and not rules.vouches(permit):
            raise _leads_nowhere(change.type, proposal.after, kind, id)
    version = held.version + 1 if held else 1
    made = _version(proposal, version, max(moment, held.updated + MILLISECOND) if held else moment)
    if held is not None and made.patient != held.person:
        raise FhirError(
            Issue("invariant", f"A {change.type} stays in one person's record: create another", change.type)
        )
    if held is None and made.patient is None and change.type not in NOBODYS and not permit.controls:
        raise FhirError(Issue("required", f"Say whose record this {change.type} belongs in", change.type), status=422)
    if not rules.covered(permit, VERBS[change.kind], change.type, made.tokens, made.patient):
        told = f"No scope of this token covers such a {change.type}: it is constrained to others"
        raise FhirError(Issue("forbidden", told, change.type))
    check_effective(proposal.after)
    hidden = EVERY & ~opened(permit, change.type)
    if made.labels & hidden or (hidden & RESTRICTED and change.type == "Patient" and restricted(proposal.after)):
        told = "Its label (meta.security) would hide it from you: have an application write it that is cleared for it"
        raise FhirError(Issue("forbidden", told, f"{change.type}.meta.security"))
    if change.type == "Patient" and proposal.before is not None:
        await _identity(connection, proposal.before, proposal.after)
    proposal.incoming = made._replace(
        origin=held.origin if held else rules.origin(permit),
        controller=(held.controller if held else _controller(permit, made, visible)) or "",
    )
    kind = "updated" if held else "created"
    read = (held is None or held.readable) and rules.covered(permit, "r", change.type, made.tokens, made.patient)
    if read and proposal.shown is not None:
        made = _version(replace(proposal, after=proposal.shown, found=None), version, made.updated)
    why = await _doubtful(connection, proposal, visible) if read or change.kind != "patch" else ()
    return Written(kind, change.type, change.id, version, made.updated, made.patient, made.body if read else None, why)


async def _doubtful(connection: Connection, proposal: _Proposal, visible: dict[str, str | None]) -> tuple[Issue, ...]:
    if proposal.after is None or proposal.change.type != "Consent":
        return ()
    nowhere = {f"{kind}/{id}" for kind, id in proposal.new} - visible.keys()
    return (await doubtful(connection, {"": proposal.after}, nowhere)).get("", ())


def _version(proposal: _Proposal, version: int, moment: datetime) -> Incoming:
    kind = "create" if proposal.held is None else "update"
    assert proposal.after is not None
    try:
        return made_of(proposal.after, kind, version, moment, "", None, proposal.found)
    except (AttributeError, TypeError, KeyError):
        told = Issue("structure", "An element has the wrong shape", proposal.change.type)
        raise FhirError(told, status=422) from None


def _controller(permit: Permit, made: Incoming, visible: dict[str, str | None]) -> str | None:
    """Who will control what is created: a controller its own, anybody else's the controller of the person."""
    if permit.controls and permit.delegate is None and permit.patient is None:
        return permit.organisation
    return visible.get(f"Patient/{made.patient}") or permit.organisation


async def _identity(connection: Connection, before: Resource, after: Resource) -> None:
    """Two systems that met in a Patient did so by NHS number and date of birth: neither is changed under them."""
    if _identified(before) != _identified(after) and await identity.met(connection, after["id"]):
        told = (
            "Several systems know this person by NHS number and date of birth:"
            " correct those at their sources, which tells apart who is not the same"
        )
        raise FhirError(Issue("conflict", told, "Patient.identifier"))


async def _organisations(connection: Connection, proposals: Sequence[_Proposal]) -> None:
    """An ODS code that an Organization had not before is nobody else's, there or in the same request."""
    claims = [(each, ods.codes(each.after) - ods.codes(each.before)) for each in proposals]
    holders = Counter(code for each in proposals for code in ods.codes(each.after))
    writing = [each.change.id for each in proposals]
    taken = await ods.taken(connection, {code for _, new in claims for code in new}, writing)
    for each, new in claims:
        with at(each.change.place):
            if any(code in taken or holders[code] > 1 for code in new):
                raise ods.refusal()


def _identified(patient: Resource) -> tuple[Any, ...]:
    numbers = sorted(
        str(each.get("value")) for each in patient.get("identifier", ()) if each.get("system") == NHS_NUMBER
    )
    return patient.get("birthDate"), numbers


def _leads_nowhere(resource_type: str, resource: Resource, kind: str, id: str) -> FhirError:
    """Word for word the same for what does not exist and for what the caller may not see."""
    paths = [path for path, text in references(resource) if (kind, id) in local([text])]
    told = "The reference leads to nothing here: read what it names, or send an identifier instead"
    return FhirError(Issue("not-found", told, f"{resource_type}.{paths[0]}"), status=422)


async def _store(connection: Connection, permit: Permit, proposals: Sequence[_Proposal], moment: datetime) -> None:
    """The statements, one a type: what goes first, then what comes."""
    by_type: dict[str, list[Incoming]] = defaultdict(list)
    gone: dict[str, dict[str, int]] = defaultdict(dict)
    for each in proposals:
        if each.incoming is not None:
            by_type[each.change.type].append(each.incoming)
        elif each.held is not None:
            gone[each.change.type][each.change.id] = each.held.version
    origin = rules.origin(permit)
    for kind, versions in sorted(gone.items()):
        await write.remove(connection, origin, kind, versions, moment)
    for _, incoming in sorted(by_type.items()):
        await write.write(connection, origin, incoming)
