"""Visits as FHIR says them, read into the same rows: a Bundle of Appointments, Encounters and what belongs to them.

| resource | part of the visit |
|---|---|
| Appointment | planned, and who is rostered; of one that is cancelled, not kept or wrong, the outcome |
| Encounter | carers, each with the period of their own, or all with its; the outcome. Several are of several carers |
| Task | tasks: completed, failed, rejected (refused), cancelled (not required) |
| MedicationAdministration | medication |
| Observation | observations, one for each component; what was observed and is no number is a note |
| Communication | notes |
| Patient, Practitioner, PractitionerRole | whom references of the Bundle lead to, by their identifiers |
| Provenance | when its target was recorded |

An Appointment and its Encounter are one visit by the identifier both have (system VISIT, or their first), the others by
the Encounter or Appointment they name. https://hl7.org/fhir/R4/bundle.html

Long, because six types of resource are read, each element by element.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.nhs import NHS_NUMBER, ODS_ORGANISATION
from fhirgw.mapping.refusal import Refusal
from fhirgw.terminology.shape import DMD
from fhirgw.visits.field import identifier
from fhirgw.visits.layout import Row
from fhirgw.visits.moment import instant, moment
from fhirgw.visits.reading import Fault, Refused

VISIT = "https://fhirgw.uk/Id/visit"
OUTCOME = "visit-outcome"
VERIFICATION = "visit-verification"
TIME_CRITICAL = "visit-time-critical"
"""Extensions, by the last part of their address: those of others' rota systems are told by the same words."""
OURS_OUTCOME = "https://fhirgw.uk/fhir/CodeSystem/visit-outcome"
TASK_OUTCOME = "https://fhirgw.uk/fhir/CodeSystem/visit-task-outcome"
TASKS = {
    "completed": "completed",
    "failed": "not-completed",
    "rejected": "refused",
    "cancelled": "not-required",
}
GIVEN = {"completed": "given", "not-done": "not-given"}
CANCELLED = {"pat": "cancelled-by-person-notice", "pat-dec": "deceased", "prov": "cancelled-by-provider"}
"""Who cancelled, by a code of R4's reasons or the group that it stands in (`prov-pers`)."""
DERIVED = ("delivered-late", "delivered-early", "delivered-short", "delivered-long")
"""Outcomes that follow from times, and are not said."""
VISITS = ("Appointment", "Encounter")
PARTS = ("Task", "MedicationAdministration", "Observation", "Communication")
STATUSES = {
    "Appointment": (
        *("proposed", "pending", "booked", "arrived", "checked-in", "fulfilled"),
        *("cancelled", "noshow", "entered-in-error", "waitlist"),
    ),
    "Encounter": (
        *("planned", "arrived", "triaged", "in-progress", "onleave", "finished"),
        *("cancelled", "entered-in-error", "unknown"),
    ),
}
"""https://hl7.org/fhir/R4/valueset-appointmentstatus.html and valueset-encounter-status.html"""
UNMADE = ("planned", "cancelled", "entered-in-error")
"""Of Encounters that nobody came to (yet)."""
WITH = ("Patient", "Practitioner", "PractitionerRole", "Organization", "Location", "ServiceRequest", "Provenance")
"""What may stand in the Bundle besides."""
BESIDES = ("Location", "HealthcareService", "Device", "RelatedPerson")
"""What may take part in a visit, and is no carer."""


Entries = Iterator[tuple[str, Row]]
"""Parts that are lists, each with an entry for it."""


class _Bundle:
    """The resources of a Bundle by what references call them."""

    def __init__(self, entries: list[Any]) -> None:
        self.resources: list[Resource] = []
        self.named: dict[str, int] = {}
        for at, entry in enumerate(entries):
            resource = entry.get("resource") if isinstance(entry, dict) else None
            if not isinstance(resource, dict) or not isinstance(resource.get("resourceType"), str):
                raise FhirError(Issue("structure", "Each entry has a resource", f"Bundle.entry[{at}]"))
            self.resources.append(resource)
            names = (entry.get("fullUrl"), f"{resource['resourceType']}/{resource.get('id')}")
            self.named.update({each: at for each in names if isinstance(each, str)})

    def at(self, reference: Any) -> int | None:
        """The place of what a reference leads to."""
        address = _get(reference, "reference")
        return self.named.get(address) if isinstance(address, str) else None

    def identifiers(self, reference: Any) -> Iterator[tuple[str, str]]:
        """By what its target is known: its own identifiers, or the reference's."""
        at = self.at(reference)
        listed = [_get(reference, "identifier"), *(_list(self.resources[at], "identifier") if at is not None else ())]
        for each in listed:
            system, value = _get(each, "system"), _get(each, "value")
            if isinstance(system, str) and isinstance(value, str):
                yield system, value

    def party(self, reference: Any) -> Any:
        """What a carer is called: by an identifier, or the id that the care provider gave them."""
        known = next(self.identifiers(reference), None)
        address = _get(reference, "reference")
        return known[1] if known else address.rpartition("/")[2] if isinstance(address, str) else None

    def person(self, reference: Any) -> Row | None:
        """Whose visit it is: by their NHS number, another number, or their id here."""
        if not isinstance(reference, dict):
            return None
        known = sorted(self.identifiers(reference), key=lambda each: each[0] != NHS_NUMBER)
        if known:
            system, value = known[0]
            return {"nhsNumber": value} if system == NHS_NUMBER else {"system": system, "number": value}
        return {"id": self.party(reference)}


def rows(bundle: Resource, provider: str) -> list[tuple[int, Row | Refused]]:
    """The visits of a Bundle, each with the number of its first entry. Raises FhirError(structure) for no Bundle."""
    if bundle.get("resourceType") != "Bundle" or not isinstance(bundle.get("entry"), list):
        raise FhirError(Issue("structure", "Visits in FHIR are sent as a Bundle with entries"))
    found = _Bundle(bundle["entry"])
    groups: dict[str, list[int]] = {}
    visit_of: dict[int, str] = {}
    told: list[tuple[int, Row | Refused]] = []
    for at, each in enumerate(found.resources):
        if each["resourceType"] in VISITS:
            if _anothers(found, each, provider):
                rule = "a visit is told by the care provider that made it"
                told.append((at + 1, _refused("serviceProvider", rule, "Name your own organisation, or leave it out")))
            elif (id := _visit(each, provider)) is None:
                told.append((at + 1, _refused("identifier", "a visit has an identifier", "Send your own id of it")))
            else:
                visit_of[at] = id
                groups.setdefault(id, []).append(at)
    for at, each in enumerate(found.resources):
        if each["resourceType"] in PARTS:
            owner = next((visit_of[to] for to in _owners(found, each) if to in visit_of), None)
            if owner is None:
                rule = "it names the Encounter or Appointment that it belongs to, in the same Bundle"
                told.append((at + 1, _refused("encounter", rule, "Send them together")))
            elif each["resourceType"] == "Observation" and not all(map(_valued, _parts(each))):
                rule = "what was observed has a value, and so has each component"
                told.append((at + 1, _refused("Observation.value", rule, "Send the value, or leave it out")))
            else:
                groups[owner].append(at)
        elif each["resourceType"] not in (*VISITS, *WITH):
            rule = f"a Bundle of visits has {', '.join((*VISITS, *PARTS))}, and whom they name"
            told.append((at + 1, _refused("resourceType", rule, "Leave it out")))
    recorded = _recorded(found)
    told += [(places[0] + 1, _row(found, id, places, recorded, bundle)) for id, places in groups.items()]
    return sorted(told, key=lambda each: each[0])


def _visit(resource: Resource, provider: str) -> str | None:
    """The care provider's own id of the visit, without the ODS code that may stand before it."""
    listed = [each for each in _list(resource, "identifier") if isinstance(_get(each, "value"), str)]
    chosen = next((each for each in listed if _get(each, "system") == VISIT), listed[0] if listed else None)
    return None if chosen is None else str(chosen["value"]).removeprefix(f"{provider}.")


def _anothers(found: _Bundle, resource: Resource, provider: str) -> bool:
    """Whether a visit says that another organisation made it, by an ODS code."""
    said = [value for system, value in found.identifiers(resource.get("serviceProvider")) if system == ODS_ORGANISATION]
    return any(each != provider for each in said)


def _owners(found: _Bundle, resource: Resource) -> Iterator[int]:
    for name in ("encounter", "context", "focus", "supportingInformation", "about"):
        named = resource.get(name)
        for each in named if isinstance(named, list) else [named]:
            if (at := found.at(each)) is not None:
                yield at


def _recorded(found: _Bundle) -> dict[int, str]:
    """When resources were recorded, by the Provenance that says so."""
    told: dict[int, str] = {}
    for each in found.resources:
        if each["resourceType"] == "Provenance" and isinstance(when := each.get("recorded"), str):
            told |= {at: when for target in _list(each, "target") if (at := found.at(target)) is not None}
    return told


def _row(found: _Bundle, id: str, places: list[int], recorded: Mapping[int, str], bundle: Resource) -> Row | Refused:
    row: Row = {"visit": id}
    if faults := tuple(fault for at in places for fault in _faults(found.resources[at])):
        return Refused(_own_id(id), faults)
    stamps = [recorded.get(at) or _get(found.resources[at].get("meta"), "lastUpdated") for at in places]
    if changed := _latest([each for each in stamps if each is not None] or [bundle.get("timestamp")]):
        row["changed"] = changed
    for at in places:
        resource = found.resources[at]
        kind = resource["resourceType"]
        if kind == "Appointment":
            row |= _planned(found, resource, _came(found, places))
        elif kind == "Encounter":
            made = _made(found, resource)
            row |= made | ({"carers": [*row.get("carers", ()), *made["carers"]]} if "carers" in made else {})
        else:
            for name, entry in ENTRIES[kind](found, resource):
                row.setdefault(name, []).append(_filled(entry))
    return row


def _faults(resource: Resource) -> Iterator[Fault]:
    """What would be lost without a word: a status that is none, a visit that was made and nobody named who made it."""
    kind, status = resource["resourceType"], resource.get("status")
    if status is not None and status not in STATUSES.get(kind, (status,)):
        yield Fault(
            f"{kind}.status", "code", f"this is one of: {', '.join(STATUSES[kind])}", "Use the word that is nearest"
        )
    named = [_get(each, "individual") for each in _list(resource, "participant")]
    if kind == "Encounter" and status not in UNMADE and not any(named) and _get(resource.get("period"), "start"):
        told = "a visit that was made names who came: each carer is a participant, whose individual has an id"
        yield Fault("Encounter.participant", "required", told, "Name each carer, with the period of their own")


def _own_id(id: str) -> str | None:
    """The visit's id, if it is one: anything else may be somebody's name."""
    try:
        return identifier(id)
    except Refusal:
        return None


def _came(found: _Bundle, places: list[int]) -> bool | None:
    """Whether somebody came, as far as there is an Encounter."""
    encounters = [each for at in places if (each := found.resources[at])["resourceType"] == "Encounter"]
    return any(each.get("status") not in UNMADE for each in encounters) if encounters else None


def _latest(stamps: list[Any]) -> Any:
    """The latest of several moments; the one that is none, for its reader to refuse."""
    try:
        return max(map(moment, stamps), key=instant) if stamps != [None] else None
    except Refusal:
        return stamps[0] if len(stamps) == 1 else next(each for each in stamps if not _is_moment(each))


def _is_moment(value: Any) -> bool:
    try:
        return bool(moment(value))
    except Refusal:
        return False


def _planned(found: _Bundle, appointment: Resource, made: bool | None) -> Row:
    """What was planned. `made`: whether by an Encounter somebody came; None without one."""
    participants = _list(appointment, "participant")
    people = [actor for each in participants if _kind(found, actor := _get(each, "actor")) == "Patient"]
    carers = [each for each in participants if _kind(found, _get(each, "actor")) not in ("Patient", *BESIDES)]
    named = [found.party(actor) for each in carers if (actor := _get(each, "actor"))]
    types = _list(appointment, "serviceType")
    planned = {
        "start": appointment.get("start"),
        "end": appointment.get("end"),
        "carers": sum(_get(each, "required") in (None, "required") for each in carers) or None,
        "rostered": list(dict.fromkeys(filter(None, named))) or None,
        "type": _get(types[0], "text") if types else None,
        "timeCritical": _get(_extension(appointment, TIME_CRITICAL), "valueBoolean"),
    }
    row: Row = {"planned": _filled(planned)}
    if people and (person := found.person(people[0])):
        row["person"] = person
    if order := _order(found, appointment):
        row["line"] = {"order": order}
    return row | _outcome(appointment, _unkept(appointment, made)) | _besides(found, appointment)


def _kind(found: _Bundle, reference: Any) -> str:
    """The type of what a reference leads to, as far as it says; a number that only people have is a Patient's."""
    at = found.at(reference)
    if at is not None:
        return str(found.resources[at]["resourceType"])
    if _get(_get(reference, "identifier"), "system") == NHS_NUMBER:
        return "Patient"
    address = str(_get(reference, "reference") or "").split("/")
    return str(_get(reference, "type") or (address[-2] if len(address) > 1 else ""))


def _order(found: _Bundle, resource: Resource) -> Any:
    based = _list(resource, "basedOn")
    return found.party(based[0]) if based else None


def _unkept(appointment: Resource, made: bool | None) -> str | None:
    """What a status says by itself. Where a carer came, who did not show is the person; else times tell of it."""
    status = appointment.get("status")
    if status == "cancelled":
        codings = _list(appointment.get("cancelationReason"), "coding")
        code = str(_get(codings[0], "code")) if codings else ""
        return CANCELLED.get(code) or CANCELLED.get(code.partition("-")[0], "not-required")
    if status == "fulfilled":
        return "delivered" if made is None else None
    nobody = "no-reply" if made else "missed-by-provider"
    return {"noshow": nobody, "entered-in-error": "entered-in-error"}.get(str(status))


def _made(found: _Bundle, encounter: Resource) -> Row:
    of_all = _extension(encounter, VERIFICATION)
    present = [
        each
        for each in _list(encounter, "participant")
        if _kind(found, _get(each, "individual")) not in ("Patient", *BESIDES)
    ]
    own = any(_get(each, "period") for each in present)  # who has none beside others who do has not come
    carers = [
        _filled(
            {
                "carer": found.party(_get(each, "individual")),
                **_period(_get(each, "period") if own else encounter.get("period")),
                **_verified(_extension(each, VERIFICATION) or of_all),
            }
        )
        for each in present
    ]
    row: Row = {"carers": carers} if carers else {}
    if person := found.person(encounter.get("subject")):
        row["person"] = person
    if order := _order(found, encounter):
        row["line"] = {"order": order}
    wrong = "entered-in-error" if encounter.get("status") == "entered-in-error" else None
    return row | _outcome(encounter, wrong) | _besides(found, encounter)


def _verified(extension: Any) -> Row:
    """How a carer was verified; of others' systems one extension may hold for all of the visit's carers."""
    return {
        "method": _coded(_extension(extension, "method")),
        "endMethod": _coded(_extension(extension, "endMethod")),
        "distance": _get(_extension(extension, "distance"), "valueUnsignedInt"),
        "exception": _get(_extension(extension, "exception"), "valueString"),
    }


def _besides(found: _Bundle, resource: Resource) -> Row:
    """What only extensions of ours say: what is claimed, notes, and who amended it by hand."""
    row: Row = {}
    if claimed := _extension(resource, "visit-claimed"):
        start, minutes = _extension(claimed, "start"), _extension(claimed, "minutes")
        row["claimed"] = _filled({"start": _get(start, "valueDateTime"), "minutes": _get(minutes, "valueUnsignedInt")})
    if amended := _extension(resource, "visit-amended"):
        by, reason = (_get(_extension(amended, name), "valueString") for name in ("by", "reason"))
        at = _get(_extension(amended, "at"), "valueDateTime")
        row["amended"] = _filled({"by": by, "reason": reason, "at": at})
    notes = [_get(each, "valueAnnotation") for each in _extensions(resource, "visit-note")]
    if notes:
        row["notes"] = [
            _filled(
                {
                    "text": _get(each, "text"),
                    "at": _get(each, "time"),
                    "carer": found.party(_get(each, "authorReference")),
                }
            )
            for each in notes
        ]
    return row


def _outcome(resource: Resource, otherwise: str | None) -> Row:
    said = _get(_extension(resource, OUTCOME), "valueCodeableConcept")
    code = _coded(_extension(resource, OUTCOME)) or otherwise
    if code in DERIVED:
        code = "delivered"
    ours = any(_get(each, "system") == OURS_OUTCOME for each in _list(said, "coding"))
    reason = _get(resource.get("cancelationReason"), "text") or (_get(said, "text") if ours else None)
    return {"outcome": _filled({"code": code, "reason": reason})} if code else {}


def _task(found: _Bundle, task: Resource) -> Entries:
    ids = [_get(each, "value") for each in _list(task, "identifier")]
    yield (
        "tasks",
        {
            "task": ids[0] if ids else task.get("id"),
            "text": _get(task.get("code"), "text"),
            "outcome": _first_code(task.get("businessStatus"), TASK_OUTCOME) or TASKS.get(str(task.get("status"))),
            "reason": _get(task.get("statusReason"), "text"),
            "carer": found.party(task.get("owner")),
        },
    )


def _medicine(found: _Bundle, given: Resource) -> Entries:
    reasons = _list(given, "statusReason")
    performers = _list(given, "performer")
    yield (
        "medication",
        {
            "medicine": _words(given.get("medicationCodeableConcept")),
            "dmd": _first_code(given.get("medicationCodeableConcept"), DMD, f"{DMD}/"),  # some write it so
            "outcome": _coded(_extension(given, "visit-support")) or GIVEN.get(str(given.get("status"))),
            "timeCritical": _get(_extension(given, TIME_CRITICAL), "valueBoolean"),
            "at": given.get("effectiveDateTime"),
            "dose": _get(given.get("dosage"), "text"),
            "reason": _words(reasons[0]) if reasons else None,
            "carer": found.party(_get(performers[0], "actor")) if performers else None,
        },
    )


def _observed(found: _Bundle, observation: Resource) -> Entries:
    performers = _list(observation, "performer")
    by = {"at": observation.get("effectiveDateTime"), "carer": found.party(performers[0]) if performers else None}
    for each in _parts(observation):
        words = _value_of(each)
        name = _words(_get(each, "code"))
        if isinstance(words, str):
            yield "notes", {"text": f"{name}: {words}" if name else words, **by}
        else:
            yield "observations", {**_measured(each), **by}


def _parts(observation: Resource) -> list[Any]:
    """What of an Observation has a value: itself and its components, or these alone."""
    components = _list(observation, "component")
    return components if components and not _value_of(observation) else [observation, *components]


def _valued(observed: Any) -> bool:
    value = _value_of(observed)
    return isinstance(value, str) or _get(value, "value") is not None


def _value_of(observed: Any) -> Any:
    """The value of what was observed: a quantity, or in words; None of what has none."""
    concept, boolean, number = (_get(observed, f"value{kind}") for kind in ("CodeableConcept", "Boolean", "Integer"))
    if concept is not None:
        return _words(concept)
    if boolean is not None:
        return "yes" if boolean else "no"
    if number is not None:
        return {"value": number}
    return _get(observed, "valueString") or _get(observed, "valueQuantity")


def _measured(observed: Any) -> Row:
    quantity = _value_of(observed)
    coding = next(iter(_list(_get(observed, "code"), "coding")), None)
    return {
        "name": _words(_get(observed, "code")) or _get(coding, "code"),
        "code": _get(coding, "code"),
        "system": _get(coding, "system"),
        "value": _get(quantity, "value"),
        "unit": _get(quantity, "unit") or _get(quantity, "code"),
        "unitCode": _get(quantity, "code"),
        "unitSystem": _get(quantity, "system") if _get(quantity, "code") else None,
    }


def _noted(found: _Bundle, communication: Resource) -> Entries:
    by = {"at": communication.get("sent"), "carer": found.party(communication.get("sender"))}
    for each in _list(communication, "payload"):
        yield "notes", {"text": _get(each, "contentString"), **by}


ENTRIES = {"Task": _task, "MedicationAdministration": _medicine, "Observation": _observed, "Communication": _noted}


def _words(concept: Any) -> Any:
    """A concept as people read it."""
    codings = _list(concept, "coding")
    return _get(concept, "text") or (_get(codings[0], "display") if codings else None)


def _extension(element: Any, name: str) -> Any:
    """The first extension whose address ends so."""
    return next(_extensions(element, name), None)


def _extensions(element: Any, name: str) -> Iterator[Any]:
    """The extensions whose address ends so; ours have `ext-` before it."""
    for each in _list(element, "extension"):
        if str(_get(each, "url")).rpartition("/")[2].removeprefix("ext-") == name:
            yield each


def _first_code(concept: Any, *systems: str) -> Any:
    """The code that a concept has of a system."""
    return next((_get(each, "code") for each in _list(concept, "coding") if _get(each, "system") in systems), None)


def _coded(extension: Any) -> Any:
    codings = _list(_get(extension, "valueCodeableConcept"), "coding")
    return _get(codings[0], "code") if codings else None


def _period(period: Any) -> Row:
    return {"start": _get(period, "start"), "end": _get(period, "end")}


def _filled(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None}


def _get(element: Any, name: str) -> Any:
    """A member of what may be no object: whoever reads it says what is wrong with it."""
    return element.get(name) if isinstance(element, dict) else None


def _list(element: Any, name: str) -> list[Any]:
    found = _get(element, name)
    return found if isinstance(found, list) else []


def _refused(column: str, rule: str, remedy: str) -> Refused:
    return Refused(None, (Fault(column, "structure", rule, remedy),))
