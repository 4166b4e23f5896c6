"""An AuditEvent told to the person it is about: who, of which organisation, when, why and what, in plain English."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from zoneinfo import ZoneInfo

from fhirgw.access.audit_event import BENEFICIARY, EVERYBODY, OPERATION, RECIPIENT
from fhirgw.access.audit_facets import Facets, facets
from fhirgw.access.purpose import Purpose
from fhirgw.fhir.issue import Resource

HERE = ZoneInfo("Europe/London")
XHTML = "http://www.w3.org/1999/xhtml"

WHY = {
    Purpose.DIRECT_CARE: "to give or arrange care (direct care)",
    Purpose.PLANNING: "to plan services, under an approved agreement",
    Purpose.RESEARCH: "for research, under an approved agreement",
    Purpose.PERSON: "so that the person, or somebody who acts for them, can read it",
    Purpose.EMERGENCY: "in an emergency, for a reason that was written down and is reviewed",
    Purpose.SAFEGUARDING: "to keep somebody safe (safeguarding)",
    Purpose.OPERATIONS: "to run the gateway for the organisation that keeps these records",
}

WHAT = {
    "Appointment": "your appointments",
    "AuditEvent": "the list of who has looked at your record",
    "CarePlan": "your care plan",
    "CareTeam": "your care team",
    "Communication": "messages about you",
    "Condition": "your health conditions",
    "Consent": "your sharing decisions",
    "Device": "your equipment",
    "DeviceRequest": "equipment asked for",
    "DeviceUseStatement": "the equipment you use",
    "DocumentReference": "documents about you",
    "Encounter": "visits to you",
    "EpisodeOfCare": "your packages of care",
    "Flag": "alerts in your record",
    "Goal": "your goals",
    "MedicationAdministration": "medicines you were given",
    "Observation": "observations about you",
    "Patient": "your name and contact details",
    "Provenance": "where entries in your record come from",
    "QuestionnaireResponse": "your assessment answers",
    "RelatedPerson": "your family and other contacts",
    "ServiceRequest": "your referrals and the services asked for",
    "Task": "your assessments and reviews",
}
"""Kinds of record as the people they are about would call them."""

RECORD = "your record"
DONE = {
    "break-glass": "was given emergency access to your record",
    "explain": "asked which rules decide who may see your record",
}
"""Operations that are more than a look at what is in their answer."""

STAFF = "a member of staff"
OTHERS = ("another person", "somebody who acts for another person")
SOMEBODY = {"display": "another person"}
"""What is left of other people's ids."""

Shown = Callable[[str, str], bool]
"""Whether the reader may see a resource, by type and id."""


def told(event: Resource, person: str, names: Mapping[str, str], shown: Shown | None = None) -> Resource:
    """The person's own part of an AuditEvent, with its sentence as the narrative; `names` of organisations by code.

    Without `shown`, for an auditor, nothing that is about the person is left out.
    """
    own = about(event, person, shown)
    div = f'<div xmlns="{XHTML}"><p>{escape(sentence(own, person, names), quote=False)}</p></div>'
    if shown is not None and _people(event, person) in OTHERS:
        own["agent"] = [each | {"who": SOMEBODY} if _named(each) else each for each in own["agent"]]
    head = {"resourceType": own.pop("resourceType"), "id": own.pop("id")}
    return {**head, "text": {"status": "generated", "div": div}, **own}


def about(event: Resource, person: str, shown: Shown | None) -> Resource:
    """The AuditEvent without other people whose records were in the same answer, and without what is not shown."""
    kept = [each for each in event["entity"] if _reference(each) in ("", f"Patient/{person}") or not _patient(each)]
    if shown is not None:
        kept = [_pared(each, shown) for each in kept if _fits(_reference(each), shown)]
    return {**event, "entity": kept}


def mentioned(event: Resource) -> Iterator[tuple[str, str]]:
    """The type and id of everything an AuditEvent names that was in an answer."""
    for entity in event["entity"]:
        kind, _, id = _reference(entity).partition("/")
        if id:
            yield kind, id
        for detail in entity.get("detail", ()):
            yield from ((detail["type"], each) for each in detail["valueString"].split() if each != EVERYBODY)


def sentence(event: Resource, person: str, names: Mapping[str, str]) -> str:
    """What happened, told to the person. `event` is their own part of it."""
    found = facets(event)
    who = _who(event, found, person, names)
    why = f" Why: {WHY[Purpose(found.purpose)]}." if found.purpose else ""
    return f"{when(found.recorded)}, {_did(event, found, who)}.{why}"


def when(moment: datetime) -> str:
    """`On 3 March 2026 at 10:02`, by the clocks of this country."""
    here = moment.astimezone(HERE)
    return f"On {here.day} {here:%B %Y} at {here:%H:%M}"


def _did(event: Resource, found: Facets, who: str) -> str:
    """What was done, with who did it: for a bulk copy nobody knows whether this person is in it."""
    kinds, refused = _listed(_kinds(event)), found.outcome != "0"
    if EVERYBODY in found.persons:
        if refused:
            return f"a bulk copy of records was asked for by {who}, and was not made"
        return f"a bulk copy of records was made for {who}, and may have included {kinds or 'all of your record'}"
    if refused:
        return f"{who} asked for your record and was not given it"
    operation = next((each["code"] for each in event["subtype"] if each["system"] == OPERATION), "")
    return f"{who} {DONE.get(operation, f'looked at {kinds or RECORD}')}"


def _who(event: Resource, found: Facets, person: str, names: Mapping[str, str]) -> str:
    """Whoever asked, by what they are, and the organisation by its name, or its code."""
    people, code = _people(event, person), found.organisation
    at = names.get(code) or (f"the organisation {code}" if code else "")
    if people and at:
        at = f"{people} {'at' if people == STAFF else 'through'} {at}"
    who = at or "somebody who did not say who they are"
    return f"{who} (with the application {found.registration})" if found.registration else who


def _people(event: Resource, person: str) -> str:
    agents = [(each["type"]["coding"], each["who"].get("reference", "")) for each in event["agent"] if "type" in each]
    asked = [who.partition("/")[0] for codings, who in agents if RECIPIENT in codings]
    yours = any(who == f"Patient/{person}" for _, who in agents)
    if not asked:
        return ""
    if "Practitioner" in asked:
        return STAFF
    if asked == ["Patient"]:
        return "you" if yours else OTHERS[0]
    return "somebody who acts for you" if yours else OTHERS[1]


def _named(agent: Resource) -> bool:
    codings = agent.get("type", {}).get("coding", ())
    return RECIPIENT in codings or BENEFICIARY in codings


def _kinds(event: Resource) -> list[str]:
    """What was in the answer about the person, each kind once."""
    held = [each["type"] for entity in event["entity"] if _patient(entity) for each in entity.get("detail", ())]
    return list(dict.fromkeys(WHAT.get(each, f"records of the kind {each}") for each in held))


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _patient(entity: Resource) -> bool:
    return entity.get("role", {}).get("code") == "1" or _reference(entity).startswith("Patient/")


def _reference(entity: Resource) -> str:
    found: str = entity.get("what", {}).get("reference", "")
    return found


def _fits(reference: str, shown: Shown) -> bool:
    kind, _, id = reference.partition("/")
    return not id or kind == "Patient" or shown(kind, id)


def _pared(entity: Resource, shown: Shown) -> Resource:
    """The entity without the ids that are not shown; nor what was searched for, which may be of a kind that is not."""
    held: dict[str, str] = {}
    for detail in entity.get("detail", ()):
        kind, ids = detail["type"], detail["valueString"].split()
        held[kind] = " ".join(each for each in ids if each == EVERYBODY or shown(kind, each))
    kept = [{"type": kind, "valueString": ids} for kind, ids in held.items() if ids]
    bare = {name: value for name, value in entity.items() if name not in ("detail", "query", "description")}
    return bare | {"detail": kept} if kept else bare
