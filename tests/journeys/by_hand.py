"""Searches answered the plain way, by looking at every exported resource; and which searches each type is asked.

The dates and the texts are compared as tests/store/search_world.py does; nothing is shared with what is judged.
https://hl7.org/fhir/R4/search.html, https://hl7.org/fhir/R4/searchparameter-registry.html
"""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

from tests.journeys.exported import Resource, at, references
from tests.store.search_world import Span, compares, plain, span

TOKEN, DATE, PATIENT, TEXT = "token", "date", "patient", "text"
ALWAYS = (datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC))

SEARCHES: dict[str, dict[str, tuple[str, str]]] = {
    "Patient": {
        "identifier": (TOKEN, "identifier"),
        "gender": (TOKEN, "gender"),
        "birthdate": (DATE, "birthDate"),
        "death-date": (DATE, "deceasedDateTime"),
        "family": (TEXT, "name.family"),
        "given": (TEXT, "name.given"),
        "address-postalcode": (TEXT, "address.postalCode"),
        "general-practitioner": (TOKEN, "generalPractitioner.reference"),
    },
    "RelatedPerson": {
        "identifier": (TOKEN, "identifier"),
        "patient": (PATIENT, "patient"),
        "relationship": (TOKEN, "relationship.coding"),
        "address-city": (TEXT, "address.city"),
    },
    "Practitioner": {"identifier": (TOKEN, "identifier"), "family": (TEXT, "name.family"), "active": (TOKEN, "active")},
    "PractitionerRole": {
        "identifier": (TOKEN, "identifier"),
        "role": (TOKEN, "code.coding"),
        "date": (DATE, "period"),
        "practitioner": (TOKEN, "practitioner.reference"),
    },
    "Organization": {
        "identifier": (TOKEN, "identifier"),
        "type": (TOKEN, "type.coding"),
        "name": (TEXT, "name"),
        "partof": (TOKEN, "partOf.reference"),
    },
    "Location": {
        "identifier": (TOKEN, "identifier"),
        "status": (TOKEN, "status"),
        "type": (TOKEN, "type.coding"),
        "name": (TEXT, "name"),
    },
    "ServiceRequest": {
        "identifier": (TOKEN, "identifier"),
        "patient": (PATIENT, "subject"),
        "authored": (DATE, "authoredOn"),
        "occurrence": (DATE, "occurrenceDateTime|occurrenceTiming.repeat.boundsPeriod"),
        "status": (TOKEN, "status"),
        "code": (TOKEN, "code.coding"),
        "category": (TOKEN, "category.coding"),
    },
    "Task": {
        "identifier": (TOKEN, "identifier"),
        "patient": (PATIENT, "for"),
        "authored-on": (DATE, "authoredOn"),
        "period": (DATE, "executionPeriod"),
        "status": (TOKEN, "status"),
        "code": (TOKEN, "code.coding"),
        "owner": (TOKEN, "owner.reference"),
    },
    "QuestionnaireResponse": {
        "identifier": (TOKEN, "identifier"),
        "patient": (PATIENT, "subject"),
        "authored": (DATE, "authored"),
        "status": (TOKEN, "status"),
    },
    "Observation": {
        "identifier": (TOKEN, "identifier"),
        "patient": (PATIENT, "subject"),
        "date": (DATE, "effectiveDateTime|effectivePeriod"),
        "status": (TOKEN, "status"),
        "code": (TOKEN, "code.coding"),
        "value-concept": (TOKEN, "valueCodeableConcept.coding"),
    },
    "Condition": {
        "identifier": (TOKEN, "identifier"),
        "patient": (PATIENT, "subject"),
        "recorded-date": (DATE, "recordedDate"),
        "code": (TOKEN, "code.coding"),
        "category": (TOKEN, "category.coding"),
    },
    "AllergyIntolerance": {
        "identifier": (TOKEN, "identifier"),
        "patient": (PATIENT, "patient"),
        "date": (DATE, "recordedDate"),
        "clinical-status": (TOKEN, "clinicalStatus.coding"),
        "code": (TOKEN, "code.coding"),
    },
    "CarePlan": {
        "identifier": (TOKEN, "identifier"),
        "patient": (PATIENT, "subject"),
        "date": (DATE, "period"),
        "status": (TOKEN, "status"),
        "category": (TOKEN, "category.coding"),
    },
    "Goal": {
        "identifier": (TOKEN, "identifier"),
        "patient": (PATIENT, "subject"),
        "start-date": (DATE, "startDate"),
        "lifecycle-status": (TOKEN, "lifecycleStatus"),
        "achievement-status": (TOKEN, "achievementStatus.coding"),
    },
    "CareTeam": {
        "identifier": (TOKEN, "identifier"),
        "patient": (PATIENT, "subject"),
        "status": (TOKEN, "status"),
        "participant": (TOKEN, "participant.member.reference"),
    },
    "EpisodeOfCare": {
        "identifier": (TOKEN, "identifier"),
        "patient": (PATIENT, "patient"),
        "date": (DATE, "period"),
        "status": (TOKEN, "status"),
        "type": (TOKEN, "type.coding"),
    },
    "Flag": {"identifier": (TOKEN, "identifier"), "patient": (PATIENT, "subject"), "date": (DATE, "period")},
    "DeviceRequest": {
        "identifier": (TOKEN, "identifier"),
        "patient": (PATIENT, "subject"),
        "authored-on": (DATE, "authoredOn"),
        "event-date": (DATE, "occurrencePeriod"),
        "status": (TOKEN, "status"),
        "code": (TOKEN, "codeCodeableConcept.coding"),
    },
    "Device": {
        "identifier": (TOKEN, "identifier"),
        "patient": (PATIENT, "patient"),
        "status": (TOKEN, "status"),
        "type": (TOKEN, "type.coding"),
    },
    "DeviceUseStatement": {
        "identifier": (TOKEN, "identifier"),
        "patient": (PATIENT, "subject"),
        "device": (TOKEN, "device.reference"),
    },
    "Consent": {
        "identifier": (TOKEN, "identifier"),
        "patient": (PATIENT, "patient"),
        "date": (DATE, "dateTime"),
        "period": (DATE, "provision.period"),
        "status": (TOKEN, "status"),
        "category": (TOKEN, "category.coding"),
    },
}
"""By type and parameter: how it compares, and where it looks. R4 gives a Flag and a DeviceUseStatement no status."""

ABOUT = {kind: path for kind, asked in SEARCHES.items() for how, path in asked.values() if how == PATIENT}
"""Whose record a resource is in. R4's compartment leaves Task and Device out; a person's own are in theirs here."""

REFERENCE_DATA = ("HealthcareService", "Location", "Organization", "Practitioner", "PractitionerRole", "Questionnaire")
Search = tuple[str, str]


def searches(resources: list[Resource], kind: str, parameter: str) -> Iterator[Search]:
    """What to ask: the commonest and the rarest value that the resources hold, as (parameter, value)."""
    how, path = SEARCHES[kind][parameter]
    if how == DATE:
        for day in _extremes(value[:10] for each in resources for value in _moments(each, path)):
            yield from ((parameter, f"{prefix}{day}") for prefix in ("", "ge", "lt", "sa", "eb"))
    elif how == TEXT:
        yield from ((parameter, plain(value)[:6].strip()) for value in _extremes(_texts(resources, path)))
    else:
        yield from ((parameter, _spelt(each)) for each in _extremes(_keys(resources, path, how)))


def found(resources: list[Resource], searches: list[Search]) -> set[str]:
    """The ids of those that meet every one of the searches."""
    return {each["id"] for each in resources if all(_holds(each, *search) for search in searches)}


def record(export: dict[str, list[Resource]], patient: str) -> set[str]:
    """Everything about one person and the reference data it leads to, as `Type/id`."""
    whose = f"Patient/{patient}"
    own = [
        each
        for kind, resources in export.items()
        for each in resources
        if f"{kind}/{each['id']}" == whose or (kind in ABOUT and whose in at(each, f"{ABOUT[kind]}.reference"))
    ]
    shared = {
        f"{kind}/{each['id']}": each
        for kind, resources in export.items()
        if kind in REFERENCE_DATA
        for each in resources
    }
    reached = {f"{each['resourceType']}/{each['id']}" for each in own}
    waiting = own
    while waiting:
        named = {name for each in waiting for name in references(each)} & shared.keys() - reached
        reached |= named
        waiting = [shared[name] for name in named]
    return reached


def _holds(resource: Resource, parameter: str, value: str) -> bool:
    how, path = SEARCHES[resource["resourceType"]][parameter]
    if how == DATE:
        prefix, day = (value[:2], value[2:]) if value[0].isalpha() else ("eq", value)
        return any(compares(prefix, kept, span(day)) for kept in _spans(resource, path))
    if how == TEXT:
        return any(plain(each).startswith(value) for each in _texts([resource], path))
    return value in {_spelt(each) for each in _keys([resource], path, how)}


def _keys(resources: list[Resource], path: str, how: str) -> Iterator[tuple[str, str]]:
    """(system, code) of identifiers, codings, plain codes and references."""
    for node in (value for each in resources for value in at(each, f"{path}.reference" if how == PATIENT else path)):
        if isinstance(node, dict):
            yield node.get("system", ""), node.get("value") or node["code"]
        else:
            yield "", {True: "true", False: "false"}[node] if isinstance(node, bool) else node


def _spelt(key: tuple[str, str]) -> str:
    system, code = key
    return f"{system}|{code}" if system else code


def _texts(resources: list[Resource], path: str) -> Iterator[str]:
    return (value for each in resources for value in at(each, path))


def _moments(resource: Resource, path: str) -> Iterator[str]:
    for node in (value for one in path.split("|") for value in at(resource, one)):
        yield from [node[end] for end in ("start", "end") if end in node] if isinstance(node, dict) else [node]


def _spans(resource: Resource, path: str) -> Iterator[Span]:
    for node in (value for one in path.split("|") for value in at(resource, one)):
        if isinstance(node, dict):
            start, end = node.get("start"), node.get("end")
            yield (span(start)[0] if start else ALWAYS[0]), (span(end)[1] if end else ALWAYS[1])
        else:
            yield span(node)


def _extremes(values: Iterator[object]) -> list:
    """The commonest and the rarest, whichever comes first where several are."""
    counted = Counter(sorted(values)).most_common()
    return list(dict.fromkeys([counted[0][0], counted[-1][0]]))
