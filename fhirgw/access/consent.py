"""Consent and dissent as rules: what the Consents, and the labels, of a person come to.

An active Consent's provisions become Directives, nested ones as exceptions that inherit what surrounds them; whoever
acts for a person becomes a Delegation. What cannot be enforced as it is written errs on the safe side
(fhirgw.access.provision): more words about a permit never permit more, more words about a deny never deny less; and
whoever wrote it is told (fhirgw.access.doubt). https://hl7.org/fhir/R4/consent.html

Who decided matters. Nobody empowers themselves: a permit by the very party it empowers is void, unless the Consent says
that it was verified (the Office of the Public Guardian's register, an order of court). A permit by anybody but the
person is void unless verified, or made in the person's best interests by somebody else and with an end: such a decision
is for one matter at one time (Mental Capacity Act 2005, section 4), so it has to be looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fhirgw.access.label import SEALED, WHEREABOUTS, labels, restricted
from fhirgw.access.provision import (
    DEEPEST,
    MOST,
    PARTIES,
    SCOPE,
    Limits,
    TooMuch,
    codes,
    listed,
    mapping,
    provisions,
    role,
)
from fhirgw.access.relationship import party
from fhirgw.fhir.issue import Resource

DECISION = "https://fhirgw.uk/fhir/CodeSystem/consent-decision"
DECIDED = {"person": "person", "attorney": "delegate", "deputy": "delegate", "best-interest": "best-interest"}
MAKERS = (("RelatedPerson", "delegate"), ("Patient", "delegate"), ("Practitioner", "best-interest"))
REGISTERED = ("attorney", "deputy")
"""Those who act for a person only when verified: there is a register, or an order of court."""
ELSEWHERE = {"adr", "treatment"}
"""Scopes of consents that are about treatment, not about who sees what."""

HEAVIEST = 32 * 19 + 16 + 15
UNREADABLE = (TooMuch, TypeError, AttributeError)
"""What comes of a Consent that is no FHIR (a list for a code, text for an object), beside what is too much of one."""


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


class Maker(NamedTuple):
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


STATED = {"actor": 8, "sector": 6, "kind": 4, "class": 4, "purpose": 2, "period": 1}
"""How much more specific each limit makes a rule; a rule has an actor or a sector. A limit of a deny that is not
enforced counts too, or the deny would give way to a permit that it was written against."""


def directives(resource: Resource) -> list[Directive]:
    """The rules that a Consent makes, or the labels of a Patient; none for anything else."""
    kind = resource["resourceType"]
    if kind == "Patient":
        return _labelled(resource) if "security" in resource.get("meta", ()) else []
    person = subject(resource) if kind == "Consent" else None
    if person is None:
        return []
    try:
        return _directives(resource, person)
    except UNREADABLE:
        return [_rule(person, "deny", HEAVIEST, "record")]


def delegations(resource: Resource) -> list[Delegation]:
    """Whom a Consent lets act for the person; none for anything else."""
    person = subject(resource) if resource["resourceType"] == "Consent" else None
    if person is None:
        return []
    found: list[Delegation] = []
    try:
        known = maker(resource, person)
        for each in provisions(resource):
            if each.effect == "permit" and each.limits.clear and not each.limits.classes:
                found += _delegated(known, each.limits, each.said)
    except UNREADABLE:
        return []
    return list(dict.fromkeys(found))


def _labelled(resource: Resource) -> list[Directive]:
    found: list[Directive] = []
    if restricted(resource):
        found.append(_rule(resource["id"], "restrict", HEAVIEST, "record")._replace(kinds=WHEREABOUTS))
    if labels(resource) & SEALED:
        found.append(_rule(resource["id"], "seal", HEAVIEST, "record"))
    return found


def _rule(person: str, effect: str, weight: int, decided: str) -> Directive:
    return Directive(person, effect, None, None, None, 0, None, None, weight, decided)


def subject(consent: Resource) -> str | None:
    """Whose Consent it is, where it is in force and about who sees what."""
    scopes = codes(consent.get("scope"), SCOPE)
    if consent.get("status") != "active" or (scopes and scopes <= ELSEWHERE):
        return None
    named = party(consent.get("patient"), ("Patient",))
    return named[8:] if named and named.startswith("Patient/") else None


def _directives(consent: Resource, person: str) -> list[Directive]:
    known = maker(consent, person)
    found: list[Directive] = []
    for effect, depth, limits, _, _ in provisions(consent):
        weight = 32 * sum(STATED[each] for each in limits.stated) + 16 * (known.decided == "person") + min(depth, 15)
        for to in _any(limits.parties):
            if effect == "permit" and not (limits.clear and known.may_permit(to, limits.period[1])):
                continue
            for purpose in _any(limits.purposes):
                kinds = tuple(sorted(limits.kinds)) if limits.kinds is not None else None
                rule = (person, effect, to, purpose, kinds, limits.classes, *limits.period, weight, known.decided)
                found.append(Directive(*rule))
                if len(found) > MOST:
                    raise TooMuch
    return list(dict.fromkeys(found))


def _delegated(known: Maker, limits: Limits, provision: Mapping[str, Any]) -> Iterator[Delegation]:
    if limits.purposes is not None and "person" not in limits.purposes:
        return
    kinds = tuple(sorted(limits.kinds)) if limits.kinds is not None else None
    for actor in listed(provision, "actor"):
        named, kind = party(actor.get("reference"), PARTIES), role(actor)
        if named is None or kind is None or named not in (limits.parties or ()):
            continue
        registered = kind not in REGISTERED or known.verified
        if registered and named != f"Patient/{known.person}" and known.may_permit(named, limits.period[1]):
            yield Delegation(known.person, named, kind, kinds, *limits.period)


def maker(consent: Resource, person: str) -> Maker:
    """Who made a Consent. Where it does not say, commonly the person (R4); but then nobody is known to permit."""
    patient, performers = f"Patient/{person}", listed(consent, "performer")
    names = [_names(each) for each in performers]
    people = any(patient in each or each & _names(consent.get("patient")) for each in names)
    kinds = {each.partition("/")[0] for one in names for each in one}
    decided = "person" if people or not performers else next((said for kind, said in MAKERS if kind in kinds), "record")
    words = set().union(*(codes(each, DECISION) for each in listed(consent, "category")))
    said = next((DECIDED[each] for each in sorted(words) if each in DECIDED), decided)
    verified = any(each.get("verified") is True for each in listed(consent, "verification"))
    decided = said if decided == "person" or said != "person" else decided
    return Maker(person, _known_as(frozenset().union(*names), mapping(consent.get("provision"))), decided, verified)


def _known_as(names: frozenset[str], provision: Mapping[str, Any]) -> frozenset[str]:
    """All names of those who made a Consent, as far as its own actors tell which belong together."""
    waiting, depth = [provision], 0
    while waiting and depth <= DEEPEST:
        for actor in (actor for each in waiting for actor in listed(each, "actor")):
            same = _names(actor.get("reference"))
            names = names | same if names & same else names
        waiting, depth = [each for one in waiting for each in listed(one, "provision")], depth + 1
    return names


def _names(reference: Any) -> frozenset[str]:
    """Both names a reference gives: its address and its identifier."""
    given = mapping(reference)
    each = (party(given, PARTIES), party({"identifier": given.get("identifier")}, PARTIES))
    return frozenset(name for name in each if name is not None)


def _any(values: frozenset[str] | None) -> Sequence[str | None]:
    return (None,) if values is None else sorted(values)
