"""A Consent's provisions, each with the limits it has within those around it: what is understood, and what is not.

What cannot be enforced as it is written errs on the safe side: a permit with such a limit is void (`clear` is false), a
deny loses the limit and holds more widely. https://hl7.org/fhir/R4/consent.html

An actor is "who or what is controlled by this rule", its role "how the individual is involved in the resource's
content". So a role that gets records, gives care or says who somebody is leaves it at that (PARTS): the rule is about
the actor. One that made or keeps records (author, custodian) says about which, as HL7's own examples do: that is a
limit that is not understood, as a role nobody knows is.

Long, because how the limits of a provision are read has to be seen together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, NamedTuple

from fhirgw.access.label import CODES as LABELS
from fhirgw.access.purpose import ACT_REASON
from fhirgw.access.purpose import CODES as REASONS
from fhirgw.access.relationship import NEVER, Bounds, bounds, party, within
from fhirgw.fhir.elements import is_resource
from fhirgw.fhir.issue import Resource
from fhirgw.fhir.nhs import ODS_ORGANISATION

DEEPEST = 16
"""Provisions within provisions; what is deeper, or says more than MOST rules, is taken to deny everything."""
MOST = 500

PARTICIPATION = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
ROLE_CODE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
ROLE_CLASS = "http://terminology.hl7.org/CodeSystem/v3-RoleClass"
RESOURCE_TYPES = "http://hl7.org/fhir/resource-types"
SCOPE = "http://terminology.hl7.org/CodeSystem/consentscope"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ACTION = "http://terminology.hl7.org/CodeSystem/consentaction"
SHARING = "https://fhirgw.uk/fhir/CodeSystem/consent-sharing"

PARTIES = ("Organization", "Practitioner", "RelatedPerson", "Patient")
SECTORS = ("nhs", "care-provider", "voluntary", "council", "family")
"""With whom a Consent can be about sharing."""
PURPOSES = {code: str(purpose) for purpose, code in REASONS.items()}
DELEGATES = {"HPOWATT": "attorney", "GUARD": "deputy", "PRN": "parent", "DELEGATEE": "carer"}
"""Who may act for a person, by the role of the provision's actor; not a power of attorney for money alone."""
GETTING = ("IRCP", "NOT", "PRCP", "REFB", "REFT", "TRC", "RCV")
CARING = ("ADM", "ATND", "CALLBCK", "CON", "DIS", "ESC", "REF", "PRF", "PPRF", "SPRF", "RESP")
PARTS = {
    PARTICIPATION: frozenset((*GETTING, *CARING)),
    ROLE_CODE: frozenset((*DELEGATES, "DPOWATT", "POWATT", "SPOWATT", "GUADLTM", "RESPRSN", "EXCEST", "GRANTEE")),
    ROLE_CLASS: frozenset(("AFFL", "AGNT", "ASSIGNED", "EMP", "GUARD", "NOK", "PROV")),
}
"""Roles of an actor that a rule is about, and nothing more, by code system."""

ABSTRACT = ("Resource", "DomainResource")
"""Types that nothing is of, and that everything is."""

BASES = {"OPTIN": "permit", "OPTOUT": "deny"}

UNDERSTOOD = frozenset(
    ("id", "extension", "type", "period", "actor", "purpose", "class", "securityLabel", "provision", "action")
)
"""Elements of a provision that are enforced, or limit nothing; any other is a limit that is not understood."""


class Limits(NamedTuple):
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


class Provision(NamedTuple):
    """One that permits or denies: how deep it is, its limits, as it is written, and where that stands."""

    effect: str
    depth: int
    limits: Limits
    said: Mapping[str, Any]
    place: str


class TooMuch(Exception):
    """Deeper or longer than we read."""


def provisions(consent: Resource) -> Iterator[Provision]:
    """Each provision that permits or denies. Raises TooMuch.

    R4 has no type at the root: the policy rule says it. Systems write it there all the same; then the policy rule
    counts only where it denies what the root permits, and so makes of the root an exception. A Consent that says
    neither, and has no provisions, follows a policy that we cannot read: it is taken to deny.
    """
    policy, whole, sectors = base(consent), _whole(consent), _sectors(consent)
    root = mapping(consent.get("provision"))
    if policy == "deny" and (root.get("type") == "permit" or bare(root)):
        yield Provision("deny", 0, _addressed(whole, sectors, True), {}, "Consent.policyRule")
    waiting = [(0, whole, root, "Consent.provision")]
    for seen in count(1):
        if not waiting:
            return
        depth, around, said, place = waiting.pop()
        if depth > DEEPEST or seen > MOST:
            raise TooMuch
        effect = said.get("type", "deny" if depth or bare(said) else policy)
        nested = listed(said, "provision")
        inner = _limits(said, around, True)
        if effect == "permit":
            limits = _addressed(_limits(said, around, False), sectors, False)
            yield Provision(effect, depth, limits, said, place)
        elif effect is not None or not nested:
            yield Provision("deny", depth, _addressed(inner, sectors, True), said, place)
        waiting += [(depth + 1, inner, each, f"{place}.provision[{at}]") for at, each in enumerate(nested)]


def base(consent: Resource) -> str | None:
    """What the policy rule says of everything: permit, deny, or nothing that we know."""
    rules = codes(consent.get("policyRule"), ACT_CODE)
    return next((BASES[each] for each in sorted(rules) if each in BASES), None)


def bare(root: Mapping[str, Any]) -> bool:
    """Whether a root says of what it is an exception to the policy, and not which way.

    R4 calls it "an addition or removal of access permissions", and all of HL7's examples of this shape remove some: so
    it is taken to, whatever the policy. With provisions of its own it is what surrounds those.
    """
    return not root.keys() & {"type", "provision"} and bool(root.keys() - {"id", "extension"})


def recipient(actor: Mapping[str, Any]) -> str | None:
    """The party that an actor is; None for one in a part we do not know, and for who never asks by that name."""
    reference = actor.get("reference")
    known = not actor.get("role") or takes_part(actor)
    named = party(reference, PARTIES) if known else None
    logical = named is not None and not mapping(reference).get("reference")
    return None if logical and not str(named).startswith(f"{ODS_ORGANISATION}|") else named


def takes_part(actor: Mapping[str, Any]) -> bool:
    """Whether an actor's role leaves it at who the rule is about."""
    return any(codes(actor.get("role"), system) & known for system, known in PARTS.items())


def role(actor: Mapping[str, Any]) -> str | None:
    """What kind of delegate an actor is."""
    roles = sorted(codes(actor.get("role"), ROLE_CODE))
    return next((DELEGATES[each] for each in roles if each in DELEGATES), None)


def purpose(coding: Mapping[str, Any]) -> str | None:
    """The purpose of use that a coding is; None for one that nobody asks for here."""
    return PURPOSES.get(coding.get("code", "")) if coding.get("system") == ACT_REASON else None


def kind(coding: Mapping[str, Any]) -> str | None:
    """The type of resource that a coding is, held here or not; None for what is no type of R4."""
    code = str(coding.get("code"))
    known = coding.get("system") == RESOURCE_TYPES and code not in ABSTRACT and is_resource(code)
    return code if known else None


def label(coding: Mapping[str, Any]) -> int | None:
    """The class of record that a coding is, as a bit; None for one that we do not know."""
    return LABELS.get((coding.get("system", ""), coding.get("code", "")))


def beyond(said: Mapping[str, Any]) -> list[str]:
    """The elements of a provision that limit it in a way that is not understood.

    Of actions, access is what rules are about here, whatever else may be done with what was got.
    """
    more = sorted(said.keys() - UNDERSTOOD)
    actions = listed(said, "action")
    return [*more, "action"] if actions and not any("access" in codes(each, ACTION) for each in actions) else more


def dated(said: Mapping[str, Any]) -> bool:
    """Whether a provision's own period, if it has one, can be read and held to."""
    return _period((None, None), said)[1]


def unknown_sectors(consent: Resource) -> bool:
    """Whether a Consent is about sharing with a sector that nobody is of."""
    return _sectors(consent) is None


def codes(concept: Any, system: str) -> set[str]:
    """The codes of a CodeableConcept in a code system."""
    return {str(each.get("code")) for each in listed(mapping(concept), "coding") if each.get("system") == system}


def mapping(value: Any) -> Mapping[str, Any]:
    """An object; an empty one for what is none."""
    return value if isinstance(value, dict) else {}


def listed(value: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """The objects of a list; what is none of them counts as one that says nothing we understand."""
    found = value.get(name, [])
    return [mapping(each) for each in (found if isinstance(found, list) else [found])]


def _whole(consent: Resource) -> Limits:
    """What holds for all of a Consent's provisions."""
    scopes = codes(consent.get("scope"), SCOPE)
    clear = "modifierExtension" not in consent and "implicitRules" not in consent
    known = "scope" not in consent or bool(scopes & {"patient-privacy", "research"})
    return Limits(purposes=frozenset({"research"}) if scopes == {"research"} else None, clear=clear and known)


def _sectors(consent: Resource) -> frozenset[str] | None:
    """With whom a Consent is about sharing, where its provisions name nobody: a sector is a party as well.

    None where one of them is none that we know.
    """
    found = set().union(*(codes(each, SHARING) for each in listed(consent, "category")))
    return frozenset(f"{SHARING}|{each}" for each in found) if found <= set(SECTORS) else None


def _addressed(limits: Limits, sectors: frozenset[str] | None, deny: bool) -> Limits:
    if "actor" in limits.stated or sectors == frozenset():
        return limits
    stated = limits.stated | {"sector"}
    if sectors is None:
        return limits._replace(clear=False, stated=stated)
    return limits._replace(parties=sectors, stated=stated)


def _limits(provision: Mapping[str, Any], around: Limits, deny: bool) -> Limits:
    """The limits of a provision within those around it: no fewer for a permit, no more for a deny, than it says."""
    actors, purposes, kinds = (listed(provision, each) for each in ("actor", "purpose", "class"))
    parties, found = _either(around.parties, [recipient(each) for each in actors], deny)
    reasons, known = _either(around.purposes, [purpose(each) for each in purposes], deny)
    types, held = _either(around.kinds, [kind(each) for each in kinds], deny)
    classes, labelled = _classes(around.classes, listed(provision, "securityLabel"))
    period, dated = _period(around.period, provision)
    more = bool(beyond(provision))
    says = {
        "actor": bool(actors),
        "purpose": bool(purposes),
        "kind": bool(kinds) or more,
        "class": "securityLabel" in provision,
        "period": "period" in provision,
    }
    clear = around.clear and found and known and held and labelled and dated and not more
    stated = around.stated | {each for each, said in says.items() if said}
    return Limits(parties, reasons, types, classes, period, clear, frozenset(stated))


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


def _classes(around: int, said: Sequence[Mapping[str, Any]]) -> tuple[int, bool]:
    """The classes a rule is about. Several labels must all be there: a permit for that cannot be enforced."""
    if not said:
        return around, True
    bits = {label(each) or 0 for each in said}
    enforced = len(bits) == 1 and 0 not in bits and around in (0, *bits)
    return (around if 0 in bits else sum(bits)), enforced


def _period(around: Bounds, provision: Mapping[str, Any]) -> tuple[Bounds, bool]:
    if "period" not in provision:
        return around, True
    period = mapping(provision["period"])
    own = bounds(period)
    common = within(around, own)
    if common is not NEVER and own is not NEVER:
        return common, bool(period) and period.keys() <= {"id", "extension", "start", "end"}
    return (around if own is NEVER else own), False
