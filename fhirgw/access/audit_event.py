"""One access as a FHIR AuditEvent: who asked for what, what for, on whose authority, and whose records were answered.

It holds references, ids and codes; no name, no number, no value that anybody searched for.
https://hl7.org/fhir/R4/auditevent.html

Long, because a third of it is what FHIR calls each thing.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from fhirgw.access.permit import Asking, Permit
from fhirgw.access.purpose import ACT_REASON, CODES, Purpose
from fhirgw.fhir.issue import Resource
from fhirgw.fhir.nhs import ODS_ORGANISATION

EVENT_TYPE = "http://terminology.hl7.org/CodeSystem/audit-event-type"
INTERACTION = "http://hl7.org/fhir/restful-interaction"
OPERATION = "https://fhirgw.uk/fhir/CodeSystem/audit-operation"
"""Operations by name: `everything`, `export`, `token`, `who-looked` …"""
ACTION = "http://hl7.org/fhir/audit-event-action"
DICOM = "http://dicom.nema.org/resources/ontology/DCM"
ENTITY_TYPE = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
ENTITY_ROLE = "http://terminology.hl7.org/CodeSystem/object-role"
SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
REGISTRATION = "https://fhirgw.uk/fhir/Id/registration"
REQUEST = "https://fhirgw.uk/fhir/Id/request"
GATEWAY = "https://fhirgw.uk/fhir/Id/gateway"
PURPOSE = "https://fhirgw.uk/fhir/CodeSystem/purpose-of-use"
POLICY = "https://fhirgw.uk/fhir/policy"

EVERYBODY = "*"
"""Stands for every person where a bulk copy was made: whose records were in it, nobody lists."""

TIMES = "times"
"""The detail that says for how many requests a row stands, where it is more than one."""

ACTIONS = {"create": "C", "update": "U", "patch": "U", "delete": "D", "search-type": "E", "operation": "E"}
ACTIONS |= {"transaction": "E", "batch": "E"}
"""What is not here reads. https://hl7.org/fhir/R4/valueset-audit-event-action.html"""

APPLICATION = {"system": DICOM, "code": "110150"}
PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
RECIPIENT = {"system": PARTICIPATION, "code": "IRCP"}
"""Who reads what the application fetched. https://hl7.org/fhir/R4/valueset-participation-role-type.html"""
BENEFICIARY = {"system": PARTICIPATION, "code": "BEN"}
"""For whom a delegate reads it."""

TYPE: Resource = {"system": EVENT_TYPE, "code": "rest"}
SOURCE: Resource = {
    "observer": {"identifier": {"system": GATEWAY, "value": "fhirgw"}},
    "type": [{"system": SOURCE_TYPE, "code": "4"}],
}
PERSON: Resource = {"type": {"system": ENTITY_TYPE, "code": "1"}, "role": {"system": ENTITY_ROLE, "code": "1"}}
ASKED: Resource = {"type": {"system": ENTITY_TYPE, "code": "2"}, "role": {"system": ENTITY_ROLE, "code": "4"}}
QUERY: Resource = {"type": {"system": ENTITY_TYPE, "code": "2"}, "role": {"system": ENTITY_ROLE, "code": "24"}}
CHANGED: Resource = {"type": {"system": ENTITY_TYPE, "code": "2"}, "role": {"system": ENTITY_ROLE, "code": "11"}}
"""What the parts of an AuditEvent are. No `display`: as many bytes again, of every request there will ever be."""

FRONT = '{"resourceType":"AuditEvent","id":"'
"""What every body in the audit begins with, before its id."""

ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What an id of ours looks like."""


class Seen(NamedTuple):
    """A resource in an answer, and the id of the Patient whose record it is of; None where it is nobody's."""

    type: str
    id: str
    person: str | None


@dataclass(slots=True)  # not frozen: that triples what it costs to make one, and there is one a request
class Access:
    """What happened.

    `interaction` is one of FHIR's restful-interaction codes, `operation` the name of an operation, without its `$`.
    `route` is the template of the address, `parameters` the names of search parameters, `asked` the instance that the
    address names (`Patient/…`), whether there is one or not. `status` is HTTP's. `everybody`: a bulk copy, of `types`
    (none: all). `permit` is None for a caller who has none: `asking` says who was refused theirs, if that is known, or
    `registration` who it claims to be. `behalf` is the ODS code of the organisation that the answer is for, where an
    application that serves several says so.

    `application` is the registration that was changed, or got a token. A row for many refusals alike says how
    many (`times`), and the instances that were asked for (`tried`).
    """

    interaction: str
    route: str
    moment: datetime
    request: str
    status: int = 200
    operation: str | None = None
    type: str | None = None
    asked: str | None = None
    parameters: Sequence[str] = ()
    seen: Sequence[Seen] = ()
    everybody: bool = False
    types: Sequence[str] = ()
    permit: Permit | None = None
    registration: str = ""
    behalf: str = ""
    application: str = ""
    tried: Sequence[str] = ()
    times: int = 1
    asking: Asking | None = None

    @property
    def permitted(self) -> bool:
        """Whether the caller got what was asked for."""
        return self.status < 400


MOST_TRIED = 50
"""Instances that one row for many refusals names: whoever asks for more makes them up."""


def together(accesses: Sequence[Access]) -> Access:
    """One row for many refusals of nobody known: how many they were, by which routes, of which instances."""
    first, *others = accesses
    if not others:
        return first
    alike = all((each.interaction, each.operation) == (first.interaction, first.operation) for each in others)
    tried = dict.fromkeys(each.asked for each in others if each.asked and each.asked != first.asked)
    return replace(
        first,
        interaction=first.interaction if alike else "operation",
        operation=first.operation if alike else "refused",
        route=" ".join(dict.fromkeys(each.route for each in accesses)),
        parameters=(),
        tried=tuple(tried)[:MOST_TRIED],
        times=len(accesses),
    )


def event(access: Access, id: str) -> Resource:
    """The AuditEvent of an access."""
    made: Resource = {
        "resourceType": "AuditEvent",
        "id": id,
        "type": TYPE,
        "subtype": _subtype(access),
        "action": ACTIONS.get(access.interaction, "R"),
        "recorded": instant(access.moment),
        "outcome": "0" if access.permitted else "4" if access.status < 500 else "8",
    }
    if not access.permitted:
        made["outcomeDesc"] = f"refused: {access.status}"
    if (who := access.permit or access.asking) and who.purpose:
        made["purposeOfEvent"] = [_purpose(who.purpose)]
    made["agent"] = _agents(access)
    made["source"] = SOURCE
    made["entity"] = list(_entities(access))
    return made


def instant(moment: datetime) -> str:
    """A moment as FHIR writes it, in UTC to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _subtype(access: Access) -> list[Resource]:
    codings = [{"system": INTERACTION, "code": access.interaction}]
    return [*codings, {"system": OPERATION, "code": access.operation}] if access.operation else codings


@lru_cache
def _purpose(purpose: str) -> Resource:
    """HL7's word, and ours, which is the finer."""
    coding = {"system": ACT_REASON, "code": CODES[Purpose(purpose)]}
    return {"coding": [coding, {"system": PURPOSE, "code": purpose}]}


def _agents(access: Access) -> list[Resource]:
    """Who took part. Addresses on a network are left out: they may be those of somebody's home."""
    who = access.permit or access.asking
    known = _permitted(who) if who else [_application(access.registration)]
    return [*known, _end_user(access.behalf)] if access.behalf else known


@lru_cache(maxsize=2000)
def _permitted(permit: Permit | Asking) -> list[Resource]:
    """The application that sent the request, in whose name, of which organisation."""
    policies = list(_policies(permit))
    made = [
        _application(permit.registration) | ({"policy": policies} if policies else {}),
        *({"type": {"coding": [code]}, "who": _party(who), "requestor": False} for code, who in _people(permit)),
    ]
    if permit.organisation:
        who = {"identifier": {"system": ODS_ORGANISATION, "value": permit.organisation}, "type": "Organization"}
        made.append({"who": who, "requestor": False})
    return made


def _end_user(organisation: str) -> Resource:
    """Whose staff reads it, as the application says: nobody has checked it, so it stands after what was checked."""
    who = {"identifier": {"system": ODS_ORGANISATION, "value": organisation}, "type": "Organization"}
    return {"type": {"coding": [RECIPIENT]}, "who": who, "requestor": False}


def _application(name: str) -> Resource:
    who = {"identifier": {"system": REGISTRATION, "value": name}} if name else {"display": "nobody known"}
    return {"type": {"coding": [APPLICATION]}, "who": who, "requestor": True}


def _people(permit: Permit | Asking) -> Iterator[tuple[Resource, str]]:
    """The member of staff; or the person themselves, or who acts for them and for whom."""
    if permit.practitioner:
        yield RECIPIENT, f"Practitioner/{permit.practitioner}"
    if permit.delegate:
        yield RECIPIENT, permit.delegate
    if permit.purpose == Purpose.PERSON and permit.patient:
        yield BENEFICIARY if permit.delegate else RECIPIENT, f"Patient/{permit.patient}"


def _party(party: str) -> Resource:
    system, bar, value = party.partition("|")
    return {"identifier": {"system": system, "value": value}} if bar else {"reference": party}


def _policies(permit: Permit | Asking) -> Iterator[str]:
    """What the request rested on: its purpose, and the grant, case or agreement by its id."""
    if permit.purpose:
        yield f"{POLICY}/{permit.purpose}"
    for name in ("grant", "case", "agreement"):
        if found := getattr(permit, name, None):
            yield f"{POLICY}/{name}/{quote(found, safe='')}"


def _entities(access: Access) -> Iterator[Resource]:
    """The request; then, by person, what was in the answer."""
    held: dict[str | None, dict[str, list[str]]] = {None: {}}
    for each in access.seen:
        held.setdefault(each.person, {}).setdefault(each.type, []).append(each.id)
    yield _asked(access) | _details(held.pop(None), access.times)
    if access.application:
        yield {"what": {"identifier": {"system": REGISTRATION, "value": access.application}}, **CHANGED}
    if access.everybody:
        yield _person(None) | _details({each: [] for each in access.types})
    asked = access.asked or ""
    for tried in (asked, *access.tried):
        if tried.startswith("Patient/") and ID.fullmatch(tried[8:]):
            held.setdefault(tried[8:], {})  # they are told of attempts too
    for person, types in held.items():
        yield _person(person) | _details(types)
    if _kept(access):
        yield {"what": {"reference": asked}, **ASKED}


def _kept(access: Access) -> bool:
    """Whether the address's instance is kept: its id could be ours, and nothing else tells it.

    In an address there may be anything: a name, or an NHS number where an id belongs.
    """
    kind, _, id = (access.asked or "").partition("/")
    return bool(ID.fullmatch(id)) and kind != "Patient" and all(each[:2] != (kind, id) for each in access.seen)


def _asked(access: Access) -> Resource:
    query = access.route + (f"?{'&'.join(access.parameters)}" if access.parameters else "")
    what: Resource = {"what": {"identifier": {"system": REQUEST, "value": access.request}}}
    told: Resource = {"query": b64encode(query.encode()).decode()}
    return what | QUERY | told | ({"description": access.type} if access.type else {})


def _person(id: str | None) -> Resource:
    return ({"what": {"reference": f"Patient/{id}"}} if id else {"description": "everybody"}) | PERSON


def _details(types: dict[str, list[str]], times: int = 1) -> Resource:
    """The ids by type: an entity for each would be four times as long."""
    held = [{"type": kind, "valueString": " ".join(ids) or EVERYBODY} for kind, ids in types.items()]
    held += [{"type": TIMES, "valueString": str(times)}] if times > 1 else []
    return {"detail": held} if held else {}
