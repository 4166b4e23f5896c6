"""What of a Consent does not hold as it is written, for whoever writes it: where, by which rule, what to write instead.

What can be kept safely is kept, and told of by a warning: a deny that is not understood holds more widely than it says,
a permit less. Refused (an error) is what would hold for nobody, so that a dissent would be believed to be kept. Each
rests on what is read (fhirgw.access.provision, fhirgw.access.consent); nothing that a Consent says is quoted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fhirgw.access import provision as read
from fhirgw.access.consent import ELSEWHERE, UNREADABLE, Maker, delegations, maker, subject
from fhirgw.access.provision import MOST, Provision, codes, listed, mapping
from fhirgw.access.purpose import Purpose
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.nhs import ODS_ORGANISATION
from fhirgw.fhir.parameters import HELD

UNHEEDED = {str(each) for each in (Purpose.EMERGENCY, Purpose.SAFEGUARDING, Purpose.OPERATIONS)}
"""Purposes whose basis overrides a dissent (fhirgw.store.directives)."""

REMEDIES = {
    "actor": "a reference to an Organization, Practitioner, RelatedPerson or Patient held here, or an identifier with"
    f" the system {ODS_ORGANISATION}, in a role that gets records, as IRCP of v3-ParticipationType does",
    "purpose": "a purpose of v3-ActReason that is asked for here: TREAT, HSYSADMIN, HRESCH, PATRQT",
    "class": "the code of a type of R4, with the system http://hl7.org/fhir/resource-types",
    "securityLabel": "a class of record, with the system https://fhirgw.uk/fhir/CodeSystem/record-class",
    "period": "dates that exist, of which start is the earlier",
    "action": "access of consentaction: who may get at a record is all that is decided here",
}
"""What each limit of a provision takes."""
EFFECTS = {
    "permit": "the permit is void for it",
    "deny": "the deny holds as if it were not there, for more than it says",
    None: "what denies here holds as if it were not there, for more than it says, and what permits is void for it",
}
"""What comes of a limit that is not understood."""
ELEMENTS = ("action", "code", "data", "dataPeriod", "modifierExtension")
"""What else R4 lets a provision be limited by."""
READERS = {"actor": read.recipient, "purpose": read.purpose, "class": read.kind, "securityLabel": read.label}


def doubts(resource: Resource) -> list[Issue]:
    """Warnings, and errors, about a Consent in force; none about anything else."""
    if resource["resourceType"] != "Consent" or resource.get("status") != "active":
        return []
    try:
        return _doubts(resource)
    except UNREADABLE:
        told = f"This is deeper than it is read, or more than {MOST} rules: it is taken to deny everything to everybody"
        return [_warning(f"{told}; write several Consents", "Consent.provision")]


def check(resource: Resource) -> None:
    """Raises FhirError (422) for a Consent that would hold for nobody."""
    if errors := [each for each in doubts(resource) if each.severity == "error"]:
        raise FhirError(*errors, status=422)


def actors(consent: Resource) -> Iterator[tuple[str, str]]:
    """The parties that a Consent's provisions name and that are understood, each with where."""
    waiting = [(mapping(consent.get("provision")), "Consent.provision")]
    while waiting and len(waiting) <= MOST:
        said, place = waiting.pop()
        found = [(read.recipient(each), at) for at, each in enumerate(listed(said, "actor"))]
        yield from ((f"{place}.actor[{at}]", named) for named, at in found if named is not None)
        waiting += [(each, f"{place}.provision[{at}]") for at, each in enumerate(listed(said, "provision"))]


def _doubts(consent: Resource) -> list[Issue]:
    scopes = codes(consent.get("scope"), read.SCOPE)
    if scopes and scopes <= ELSEWHERE:
        told = "By its scope it is about treatment, so nothing follows from it for who sees what"
        says = {"provision", "policyRule"} & consent.keys()
        return [_warning(f"{told}: the scope patient-privacy is about that", "Consent.scope")] if says else []
    person = subject(consent)
    if person is None:
        told = "It would hold for nobody: say whose it is by a reference, Patient/[id]"
        return [Issue("required", told, "Consent.patient")]
    found = [*_whole(consent, scopes), *_written(mapping(consent.get("provision")), "Consent.provision")]
    known, acting = maker(consent, person), {each.delegate for each in delegations(consent)}
    for each in read.provisions(consent):
        found += _beside(each, found) or _decided(each, known, acting)
    return found


def _whole(consent: Resource, scopes: set[str]) -> Iterator[Issue]:
    """What is said of all its provisions."""
    root = mapping(consent.get("provision"))
    for name in ("modifierExtension", "implicitRules"):
        if name in consent:
            yield _limit("This may change what is said, and is not understood", "Consent." + name, None, "leave it out")
    if "scope" in consent and not scopes & {"patient-privacy", "research"}:
        told = "This is no scope that is known here, so that whatever permits is void"
        yield _warning(f"{told}: write patient-privacy or research of consentscope", "Consent.scope")
    if read.unknown_sectors(consent):
        remedy = f"choose from {', '.join(read.SECTORS)}"
        yield _limit("There is no such sector to share with", "Consent.category", None, remedy)
    if read.bare(root):
        told = "An exception to a policy that does not say which way: it is taken to deny"
        yield _warning(f"{told}. Say so by its type, permit or deny", "Consent.provision")
    elif "type" not in root and read.base(consent) is None and not root.get("provision"):
        told = "Neither provision.type nor policyRule (OPTIN, OPTOUT of v3-ActCode) says which way it decides"
        yield _warning(f"{told}: it is taken to deny", "Consent.provision")


def _written(said: Mapping[str, Any], place: str) -> Iterator[Issue]:
    """What of the limits of a provision, and of those in it, is not understood."""
    effect = said.get("type")
    for name, reader in READERS.items():
        for at, each in enumerate(listed(said, name)):
            if reader(each) is None:
                yield _limit(
                    "This limit is not understood", f"{place}.{name}[{at}]", effect, f"it takes {REMEDIES[name]}"
                )
    for at, each in enumerate(listed(said, "class")):
        if read.kind(each) not in (None, *HELD):
            yield _warning("Nothing of this type is held here, so that nothing follows", f"{place}.class[{at}]")
    for name in read.beyond(said):
        remedy = f"it takes {REMEDIES[name]}" if name in REMEDIES else f"use {', '.join(READERS)} or period"
        where = f"{place}.{name}" if name in ELEMENTS else place  # a name that nobody knows may be anything
        yield _limit("This limit is not enforced", where, effect, remedy)
    if not read.dated(said):
        yield _limit("This period cannot be read", f"{place}.period", effect, f"it takes {REMEDIES['period']}")
    if len({read.label(each) for each in listed(said, "securityLabel")}) > 1:
        told = "Several labels would have to be on one record: a deny holds for either, a permit is void"
        yield _warning(f"{told}. Write a provision for each", f"{place}.securityLabel")
    for at, inner in enumerate(listed(said, "provision")):
        yield from _written(inner, f"{place}.provision[{at}]")


def _beside(each: Provision, told: list[Issue]) -> list[Issue]:
    """That a provision's limits lie outside of those around it, where nothing else is told of why it is not clear."""
    around = any(one.expression and _within(each.place, one.expression) for one in told)
    if each.limits.clear or around:
        return []
    said = "Its limits lie outside of those around it, where nothing is left of a permit; a deny holds for them"
    return [_warning(f"{said}. Write it as a Consent of its own", each.place)]


def _within(place: str, expression: str) -> bool:
    """Whether what an issue is about bears on the provision: it is the Consent's, its own, or one's around it."""
    last = expression.rpartition(".")[2]
    holder = expression if last.startswith("provision") else expression.removesuffix(f".{last}")
    return not expression.startswith("Consent.provision") or place == holder or place.startswith(f"{holder}.")


def _decided(each: Provision, known: Maker, acting: set[str]) -> list[Issue]:
    """That a provision decides less than it says, though it is understood."""
    limits = each.limits
    if each.effect == "deny":
        idle = limits.purposes is not None and limits.purposes <= UNHEEDED
        told = "Emergencies, safeguarding and the gateway's own running have a basis that overrides a dissent"
        return [_warning(f"{told}: this one changes nothing", each.place)] if idle else []
    if not limits.clear:
        return []
    named = limits.parties or (None,)
    if not all(known.may_permit(to, limits.period[1]) for to in named):
        told = "It permits nothing (to some of those it names, at least): a permit is the person's (performer), or"
        told += " verified (verification), or made in their best interests, for others than who made it, with an end"
        return [_warning(told, each.place)]
    return [
        _warning(
            "Nobody acts for the person by this: it takes a permit without labels, of the purpose PATRQT if any, and"
            " of an attorney or deputy (HPOWATT, GUARD) verification that says verified",
            f"{each.place}.actor[{at}]",
        )
        for at, actor in enumerate(listed(each.said, "actor"))
        if read.role(actor) is not None and read.recipient(actor) not in acting
    ]


def _limit(what: str, place: str, effect: str | None, remedy: str) -> Issue:
    return _warning(f"{what}, so {EFFECTS.get(effect, EFFECTS[None])}: {remedy}", place)


def _warning(told: str, place: str) -> Issue:
    return Issue("business-rule", told, place, "warning")
