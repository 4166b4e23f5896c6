"""Consent and dissent as rules: what the Consents, and the labels, of a person come to.

An active Consent's provisions become Directives, nested ones as exceptions that inherit what surrounds them; whoever
acts for a person becomes a Delegation. https://hl7.org/fhir/R4/consent.html

What cannot be enforced as it is written errs on the safe side: a permit with such a limit is void, a deny loses the
limit and holds more widely. So more words about a permit never permit more, more words about a deny never deny less.

Who decided matters. Nobody empowers themselves: a permit by the very party it empowers is void, unless the Consent says
that it was verified (the Office of the Public Guardian's register, an order of court). A permit by anybody but the
person is void unless verified, or made in the person's best interests by somebody else and with an end: such a decision
is for one matter at one time (Mental Capacity Act 2005, section 4), so it has to be looked at again.

Long, because how a provision is read and what makes one void have to be seen together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import count
from typing import Any, NamedTuple

from fhirgw.access.label import CODES as LABELS
from fhirgw.access.label import SEALED, WHEREABOUTS, labels, restricted
from fhirgw.access.purpose import ACT_REASON
from fhirgw.access.purpose import CODES as REASONS
from fhirgw.access.relationship import NEVER, Bounds, bounds, party, within
from fhirgw.fhir.issue import Resource
from fhirgw.fhir.parameters import HELD

DEEPEST = 16
"""Provisions within provisions; what is deeper, or says more than MOST rules, is taken to deny everything."""
MOST = 500

PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
ROLE_CODE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
DECISION = "https://fhirgw.uk/fhir/CodeSystem/consent-decision"
SHARING = "https://fhirgw.uk/fhir/CodeSystem/consent-sharing"

PARTIES = ("Organization", "Practitioner", "RelatedPerson", "Patient")
PURPOSES = {code: str(purpose) for purpose, code in REASONS.items()}
DECIDED = {"person": "person", "attorney": "delegate", "deputy": "delegate", "best-interest": "best-interest"}
MAKERS = (("RelatedPerson", "delegate"), ("Patient", "delegate"), ("Practitioner", "best-interest"))
DELEGATES = {"HPOWATT": "attorney", "GUARD": "deputy", "PRN": "parent", "DELEGATEE": "carer"}
"""Who may act for a person, by the role of the provision's actor; not a power of attorney for money alone."""
REGISTERED = ("attorney", "deputy")
"""Those who count only when verified: there is a register, or an order of court."""

BASES = {"OPTIN": "permit", "OPTOUT": "deny"}
ELSEWHERE = {"adr", "treatment"}
"""Scopes of consents that are about treatment, not about who sees what."""

UNDERSTOOD = frozenset({"id", "extension", "type", "period", "actor", "purpose", "class", "securityLabel", "provision"})
"""Elements of a provision that are enforced, or limit nothing; any other is a limit that is not understood."""

HEAVIEST = 32 * 19 + 16 + 15


class Directive(NamedTuple):
    """One rule about a person's record.

    `effect` is permit, deny, restrict (whereabouts: for WHEREABOUTS types, lifted by clearance for restricted) or seal
    (everything, lifted by clearance for sealed). None (or 0 for `classes`) means any: `party` as in
    fhirgw.access.relationship.Tie, `purpose` a fhirgw.access.purpose.Purpose, `kinds` resource types, `classes` bits of
    fhirgw.access.label. Of the rules that match, the one with the greatest `weight` decides; of equals, the deny.
    """

    person: str
    effect: str
    party: str | None
    purpose: str | None
    kinds: tuple[str, ...] | None
    classes: int
    starts: datetime | None
    ends: datetime | None
    weight: int
    decided: str
    """Who decided: person, delegate, best-interest, or record (a label, a register, an order of court)."""


class Delegation(NamedTuple):
    """Somebody (`delegate`, a reference) acts for a person: `kind` is attorney, deputy, parent or carer."""

    person: str
    delegate: str
    kind: str
    kinds: tuple[str, ...] | None
    starts: datetime | None
    ends: datetime | None


class _Maker(NamedTuple):
    """Who made a Consent: `parties` they are, `decided` as a Directive says it."""

    person: str
    parties: frozenset[str]
    decided: str
    verified: bool

    def may_permit(self, to: str | None, ends: datetime | None) -> bool:
        """Whether a permit of theirs for a party (None: everybody) counts."""
        if self.verified or (self.decided == "person" and self.parties):
            return True
        others = self.parties and to is not None and to not in self.parties
        return bool(others) and self.decided == "best-interest" and ends is not None


class _Limits(NamedTuple):
    """What a provision is limited to, with what surrounds it: each None where it is not.

    `clear` is whether all of it is enforced; `stated` which limits count for how specific it is, enforced or not.
    """

    parties: frozenset[str] | None = None
    purposes: frozenset[str] | None = None
    kinds: frozenset[str] | None = None
    classes: int = 0
    period: Bounds = (None, None)
    clear: bool = True
    stated: frozenset[str] = frozenset()


STATED = {"actor": 8, "sector": 6, "kind": 4, "class": 4, "purpose": 2, "period": 1}
"""How much more specific each limit makes a rule; a rule has an actor or a sector. A limit of a deny that is not
enforced counts too, or the deny would give way to a permit that it was written against."""


def directives(resource: Resource) -> list[Directive]:
    """The rules that a Consent makes, or the labels of a Patient; none for anything else."""
    kind = resource["resourceType"]
    if kind == "Patient":
        return _labelled(resource) if "security" in resource.get("meta", ()) else []
    person = _subject(resource) if kind == "Consent" else None
    if person is None:
        return []
    try:
        return _directives(resource, person)
    except UNREADABLE:
        return [_rule(person, "deny", HEAVIEST, "record")]


def delegations(resource: Resource) -> list[Delegation]:
    """Whom a Consent lets act for the person; none for anything else."""
    person = _subject(resource) if resource["resourceType"] == "Consent" else None
    if person is None:
        return []
    found: list[Delegation] = []
    try:
        maker = _maker(resource, person)
        for effect, _, limits, provision in _provisions(resource):
            if effect == "permit" and limits.clear and not limits.classes:
                found += _delegated(maker, limits, provision)
    except UNREADABLE:
        return []
    return list(dict.fromkeys(found))


class _TooMuch(Exception):
    """Deeper or longer than we read."""


UNREADABLE = (_TooMuch, TypeError, AttributeError)
"""What comes of a Consent that is no FHIR (a list for a code, text for an object), beside what is too much of one."""


def _labelled(resource: Resource) -> list[Directive]:
    found: list[Directive] = []
    if restricted(resource):
        found.append(_rule(resource["id"], "restrict", HEAVIEST, "record")._replace(kinds=WHEREABOUTS))
    if labels(resource) & SEALED:
        found.append(_rule(resource["id"], "seal", HEAVIEST, "record"))
    return found


def _rule(person: str, effect: str, weight: int, decided: str) -> Directive:
    return Directive(person, effect, None, None, None, 0, None, None, weight, decided)


def _subject(consent: Resource) -> str | None:
    """Whose Consent it is, where it is in force and about who sees what."""
    scopes = _codes(consent.get("scope"), SCOPE)
    if consent.get("status") != "active" or (scopes and scopes <= ELSEWHERE):
        return None
    named = party(consent.get("patient"), ("Patient",))
    return named[8:] if named and named.startswith("Patient/") else None


def _directives(consent: Resource, person: str) -> list[Directive]:
    maker = _maker(consent, person)
    found: list[Directive] = []
    for effect, depth, limits, _ in _provisions(consent):
        weight = 32 * sum(STATED[each] for each in limits.stated) + 16 * (maker.decided == "person") + min(depth, 15)
        for to in _any(limits.parties):
            if effect == "permit" and not (limits.clear and maker.may_permit(to, limits.period[1])):
                continue
            for purpose in _any(limits.purposes):
                kinds = tuple(sorted(limits.kinds)) if limits.kinds is not None else None
                rule = (person, effect, to, purpose, kinds, limits.classes, *limits.period, weight, maker.decided)
                found.append(Directive(*rule))
                if len(found) > MOST:
                    raise _TooMuch
    return list(dict.fromkeys(found))


def _delegated(maker: _Maker, limits: _Limits, provision: Mapping[str, Any]) -> Iterator[Delegation]:
    if limits.purposes is not None and "person" not in limits.purposes:
        return
    kinds = tuple(sorted(limits.kinds)) if limits.kinds is not None else None
    for actor in _list(provision, "actor"):
        named, kind = party(actor.get("reference"), PARTIES), _role(actor)
        if named is None or kind is None or named not in (limits.parties or ()):
            continue
        registered = kind not in REGISTERED or maker.verified
        if registered and named != f"Patient/{maker.person}" and maker.may_permit(named, limits.period[1]):
            yield Delegation(maker.person, named, kind, kinds, *limits.period)


def _provisions(consent: Resource) -> Iterator[tuple[str, int, _Limits, Mapping[str, Any]]]:
    """Each provision that permits or denies, how deep it is, and its limits. Raises _TooMuch.

    R4 has no type at the root: the policy rule says it. Systems write it there all the same; then the policy rule
    counts only where it denies what the root permits, and so makes of the root an exception. A Consent that says
    neither, and has no provisions, follows a policy that we cannot read: it is taken to deny.
    """
    rules = _codes(consent.get("policyRule"), ACT_CODE)
    policy = next((BASES[each] for each in sorted(rules) if each in BASES), None)
    whole, sectors = _whole(consent), _sectors(consent)
    root = _mapping(consent.get("provision"))
    if root.get("type") == "permit" and policy == "deny":
        yield "deny", 0, _addressed(whole, sectors), {}
    waiting = [(0, whole, root)]
    for seen in count(1):
        if not waiting:
            return
        depth, around, provision = waiting.pop()
        if depth > DEEPEST or seen > MOST:
            raise _TooMuch
        effect = provision.get("type", "deny" if depth else policy)
        nested = _list(provision, "provision")
        inner = _limits(provision, around, True)
        if effect == "permit":
            yield effect, depth, _addressed(_limits(provision, around, False), sectors), provision
        elif effect is not None or not nested:
            yield "deny", depth, _addressed(inner, sectors), provision
        waiting += [(depth + 1, inner, each) for each in nested]


def _whole(consent: Resource) -> _Limits:
    """What holds for all of a Consent's provisions."""
    scopes = _codes(consent.get("scope"), SCOPE)
    clear = "modifierExtension" not in consent and "implicitRules" not in consent
    known = "scope" not in consent or bool(scopes & {"patient-privacy", "research"})
    return _Limits(purposes=frozenset({"research"}) if scopes == {"research"} else None, clear=clear and known)


def _sectors(consent: Resource) -> frozenset[str]:
    """With whom a Consent is about sharing, where its provisions name nobody: a sector is a party as well."""
    codes = set().union(*(_codes(each, SHARING) for each in _list(consent, "category")))
    return frozenset(f"{SHARING}|{each}" for each in codes)


def _addressed(limits: _Limits, sectors: frozenset[str]) -> _Limits:
    if not sectors or "actor" in limits.stated:
        return limits
    return limits._replace(parties=sectors, stated=limits.stated | {"sector"})


def _limits(provision: Mapping[str, Any], around: _Limits, deny: bool) -> _Limits:
    """The limits of a provision within those around it: no fewer for a permit, no more for a deny, than it says."""
    actors, purposes, kinds = _list(provision, "actor"), _list(provision, "purpose"), _list(provision, "class")
    parties, found = _either(around.parties, [_recipient(each) for each in actors], deny)
    reasons, known = _either(around.purposes, [_purpose(each) for each in purposes], deny)
    types, held = _either(around.kinds, [_type(each) for each in kinds], deny)
    classes, labelled = _classes(around.classes, _list(provision, "securityLabel"))
    period, dated = _period(around.period, provision, deny)
    beyond = not provision.keys() <= UNDERSTOOD
    says = {
        "actor": bool(actors),
        "purpose": bool(purposes),
        "kind": bool(kinds) or beyond,
        "class": "securityLabel" in provision,
        "period": "period" in provision,
    }
    clear = around.clear and found and known and held and labelled and dated and not beyond
    stated = around.stated | {each for each, said in says.items() if said}
    return _Limits(parties, reasons, types, classes, period, clear, frozenset(stated))


def _either(
    around: frozenset[str] | None, said: Sequence[str | None], deny: bool
) -> tuple[frozenset[str] | None, bool]:
    """One limit of alternatives (None in `said`: not understood) within that around it, and whether it is enforced.

    A permit keeps those alternatives that are understood; a deny with one that is not has no such limit of its own.
    """
    if not said:
        return around, True
    known = frozenset(each for each in said if each is not None)
    if not known or (deny and None in said):
        return around, False
    common = known if around is None else known & around
    return common or known, bool(common)


def _classes(around: int, said: Sequence[Any]) -> tuple[int, bool]:
    """The classes a rule is about. Several labels must all be there: a permit for that cannot be enforced."""
    if not said:
        return around, True
    bits = {LABELS.get((each.get("system", ""), each.get("code", "")), 0) for each in said}
    enforced = len(bits) == 1 and 0 not in bits and around in (0, *bits)
    return (around if 0 in bits else sum(bits)), enforced


def _period(around: Bounds, provision: Mapping[str, Any], deny: bool) -> tuple[Bounds, bool]:
    if "period" not in provision:
        return around, True
    period = _mapping(provision["period"])
    own = bounds(period)
    common = within(around, own)
    if common is not NEVER and own is not NEVER:
        return common, bool(period) and period.keys() <= {"id", "extension", "start", "end"}
    return (around if own is NEVER else own), False


def _recipient(actor: Mapping[str, Any]) -> str | None:
    """The party that an actor is; None for one in a part we do not know."""
    role = actor.get("role")
    known = not role or _role(actor) is not None or "IRCP" in _codes(role, PARTICIPATION)
    return party(actor.get("reference"), PARTIES) if known else None


def _role(actor: Mapping[str, Any]) -> str | None:
    """What kind of delegate an actor is."""
    roles = sorted(_codes(actor.get("role"), ROLE_CODE))
    return next((DELEGATES[each] for each in roles if each in DELEGATES), None)


def _purpose(coding: Mapping[str, Any]) -> str | None:
    return PURPOSES.get(coding.get("code", "")) if coding.get("system") == ACT_REASON else None


def _type(coding: Mapping[str, Any]) -> str | None:
    code: str | None = coding.get("code")
    return code if coding.get("system") == RESOURCE_TYPES and code in HELD else None


def _maker(consent: Resource, person: str) -> _Maker:
    """Who made a Consent. Where it does not say, commonly the person (R4); but then nobody is known to permit."""
    patient, performers = f"Patient/{person}", _list(consent, "performer")
    names = [_names(each) for each in performers]
    people = any(patient in each or each & _names(consent.get("patient")) for each in names)
    kinds = {each.partition("/")[0] for one in names for each in one}
    decided = "person" if people or not performers else next((said for kind, said in MAKERS if kind in kinds), "record")
    codes = set().union(*(_codes(each, DECISION) for each in _list(consent, "category")))
    said = next((DECIDED[each] for each in sorted(codes) if each in DECIDED), decided)
    verified = any(each.get("verified") is True for each in _list(consent, "verification"))
    decided = said if decided == "person" or said != "person" else decided
    return _Maker(person, _known_as(frozenset().union(*names), _mapping(consent.get("provision"))), decided, verified)


def _known_as(names: frozenset[str], provision: Mapping[str, Any]) -> frozenset[str]:
    """All names of those who made a Consent, as far as its own actors tell which belong together."""
    waiting, depth = [provision], 0
    while waiting and depth <= DEEPEST:
        for actor in (actor for each in waiting for actor in _list(each, "actor")):
            same = _names(actor.get("reference"))
            names = names | same if names & same else names
        waiting, depth = [each for one in waiting for each in _list(one, "provision")], depth + 1
    return names


def _names(reference: Any) -> frozenset[str]:
    """Both names a reference gives: its address and its identifier."""
    given = _mapping(reference)
    each = (party(given, PARTIES), party({"identifier": given.get("identifier")}, PARTIES))
    return frozenset(name for name in each if name is not None)


def _codes(concept: Any, system: str) -> set[str]:
    codings = _list(_mapping(concept), "coding")
    return {str(each.get("code")) for each in codings if each.get("system") == system}


def _any(values: frozenset[str] | None) -> Sequence[str | None]:
    return (None,) if values is None else sorted(values)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The objects of a list; what is none of them counts as one that says nothing we understand."""
    found = value.get(name, [])
    return [_mapping(each) for each in (found if isinstance(found, list) else [found])]
