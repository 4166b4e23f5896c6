"""An AuditEvent told to the person it is about: who, of which organisation, when, why and what, in plain English.

Long, because half of it is the words.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from html import escape
from zoneinfo import ZoneInfo

from fhirgw.access.audit_event import BENEFICIARY, EVERYBODY, RECIPIENT, TIMES
from fhirgw.access.audit_facets import Facets, facets
from fhirgw.access.permit import OPERATOR
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
    "AllergyIntolerance": "your allergies",
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
    "Group": "lists that you are on",
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
    "search-type": "searched, and found {}",
    "create": "added {}",
    "update": "changed {}",
    "patch": "changed {}",
    "delete": "deleted {}",
    "batch": "looked at or changed {}",
    "transaction": "looked at or changed {}",
    "notify": "was told of changes to {}",
    "break-glass": "was given emergency access to your record, for half an hour at most",
    "break-glass-list": "looked at why somebody was given emergency access to your record, and whether they should be",
    "break-glass-review": "judged whether somebody should have had emergency access to your record",
    "explain": "asked which rules decide who may see your record",
    "app-add": "registered an application that may ask for your record",
    "app-rotate": "gave other keys to an application that may ask for your record",
    "app-activate": "let in again an application that may ask for your record",
    "app-deactivate": "shut out an application that could ask for your record",
}
"""What was done, by FHIR's word for an interaction or our name of an operation; what is not here looked at {}."""

LOOKED = "looked at {}"
REFUSED = {
    **dict.fromkeys(("create", "update", "patch", "delete"), "asked to change your record and was not allowed to"),
    "break-glass": "asked for emergency access to your record and was not given it",
}
NOT_GIVEN = "asked for your record and was not given it"
FAILED = "asked for your record and got no answer, as something had failed"

CHECKING = "to check how these records are used"
WHY_DONE = {
    "break-glass": WHY[Purpose.EMERGENCY],
    **dict.fromkeys(("break-glass-list", "break-glass-review", "explain", "audit-list"), CHECKING),
}
"""Acts whose reason is not what the application that did them is otherwise for."""

STAFF = "a member of staff"
OTHERS = ("another person", "somebody who acts for another person")
SOMEBODY = {"display": "another person"}
"""What is left of other people's ids."""

Shown = Callable[[str, str], bool]
"""Whether the reader may see a resource, by type and id."""


def told(
    event: Resource, person: str, names: Mapping[str, str], shown: Shown | None = None, again: Sequence[Resource] = ()
) -> Resource:
    """The person's own part of an AuditEvent, with its sentence as the narrative; `names` of organisations by code.

    Without `shown`, for an auditor, nothing that is about the person is left out. The sentence of the newest of a group
    is that of the group: `again` are the others.
    """
    own = about(event, person, shown)
    said = account([own, *(about(each, person, shown) for each in again)], person, names)
    div = f'<div xmlns="{XHTML}"><p>{escape(said, quote=False)}</p></div>'
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
        for detail in (each for each in entity.get("detail", ()) if each["type"] != TIMES):
            yield from ((detail["type"], each) for each in detail["valueString"].split() if each != EVERYBODY)


def sentence(event: Resource, person: str, names: Mapping[str, str]) -> str:
    """What happened, told to the person. `event` is their own part of it."""
    return account([event], person, names)


def account(events: Sequence[Resource], person: str, names: Mapping[str, str]) -> str:
    """What happened again and again on one day, told to the person: AuditEvents of one group, the newest first."""
    found = [facets(each) for each in events]
    newest, act = found[0], _act(events[0])
    who = _who(events[0], newest, person, names)
    kinds = list(dict.fromkeys(kind for each in events for kind in _kinds(each)))
    reason = _why(act, kinds, newest)
    times = sum(map(_times, events))
    told = _did(act, newest, who, _listed(kinds)) + (f", {times} times" if times > 1 else "")
    return f"{_when(found)}, {told}.{f' Why: {reason}.' if reason else ''}"


def groups(events: Sequence[Resource], person: str, most: int) -> list[list[Resource]]:
    """AuditEvents, the newest first, put together that tell of the same again: by day, by whom, what and what for.

    `most` groups at most: the events after that, from the first that would begin another one, are left for later.
    """
    made: dict[Hashable, list[Resource]] = {}
    for each in events:
        found = facets(each)
        day = found.recorded.astimezone(HERE).date()
        key = (day, _act(each), _people(each, person), EVERYBODY in found.persons, *found[2:])
        if key not in made and len(made) == most:
            break
        made.setdefault(key, []).append(each)
    return list(made.values())


def _when(found: Sequence[Facets]) -> str:
    """By the clocks of this country: `On 3 March 2026 at 10:02`, or from when to when."""
    first, last = (each.recorded.astimezone(HERE) for each in (found[-1], found[0]))
    begins, ends = f"{first:%H:%M}", f"{last:%H:%M}"
    at = f" at {ends}" if begins == ends else f" between {begins} and {ends}"
    return f"On {last.day} {last:%B %Y}{at}"


def _act(event: Resource) -> str:
    """What was done: the operation, or else the interaction."""
    code: str = event["subtype"][-1]["code"]
    return code


def _times(event: Resource) -> int:
    """How often: one row may stand for many attempts of nobody known."""
    details = event["entity"][0].get("detail", ()) if event["entity"] else ()
    return next((int(each["valueString"]) for each in details if each["type"] == TIMES), 1)


def _why(act: str, kinds: Sequence[str], found: Facets) -> str:
    if found.purpose and found.purpose != Purpose.PERSON and kinds == [WHAT["AuditEvent"]]:
        return CHECKING
    return WHY_DONE.get(act) or (WHY[Purpose(found.purpose)] if found.purpose else "")


def _did(act: str, found: Facets, who: str, kinds: str) -> str:
    """What was done, with who did it: for what is done in bulk nobody knows whether this person is in it."""
    if EVERYBODY in found.persons and act == "import":
        if found.outcome != "0":
            return f"{who} asked to send in records in bulk, and none were taken"
        return f"{who} sent in records in bulk, and may have added or changed {kinds or 'any of your record'}"
    if EVERYBODY in found.persons:
        if found.outcome != "0":
            return f"a bulk copy of records was asked for by {who}, and was not made"
        return f"a bulk copy of records was made for {who}, and may have included {kinds or 'all of your record'}"
    if found.outcome == "0":
        return f"{who} {DONE.get(act, LOOKED).format(kinds or RECORD)}"
    return f"{who} {FAILED if found.outcome == '8' else REFUSED.get(act, NOT_GIVEN)}"


def _who(event: Resource, found: Facets, person: str, names: Mapping[str, str]) -> str:
    """Whoever asked, by what they are, and the organisation by its name, or its code."""
    people, code = _people(event, person), found.organisation
    at = names.get(code) or (f"the organisation {code}" if code else "")
    if found.registration == OPERATOR:
        return f"those who run this service for {at}"
    if people and at:
        at = f"{people} {'at' if people == STAFF else 'through'} {at}"
    if found.registration:
        return f"{at or 'somebody'} (with the application {found.registration})"
    return at or "somebody who did not say who they are"


def _people(event: Resource, person: str) -> str:
    told = [each for each in event["agent"] if "type" in each and each["who"].get("type") != "Organization"]
    agents = [(each["type"]["coding"], each["who"].get("reference", "")) for each in told]
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
    person = agent["who"].get("type") != "Organization"
    return person and (RECIPIENT in codings or BENEFICIARY in codings)


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
        held[kind] = " ".join(each for each in ids if each == EVERYBODY or kind == TIMES or shown(kind, each))
    kept = [{"type": kind, "valueString": ids} for kind, ids in held.items() if ids]
    bare = {name: value for name, value in entity.items() if name not in ("detail", "query", "description")}
    return bare | {"detail": kept} if kept else bare
