"""What is published is sound: R4's examples but those R4 refuses, all that the mappings make, our definitions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fhirgw.fhir.canonical import decode
from fhirgw.fhir.issue import Resource
from fhirgw.fhir.profile import OURS, profiles_for
from fhirgw.mapping.load import load
from fhirgw.mapping.mapping import Mapping, Row
from fhirgw.mapping.refusal import RefusedRow
from fhirgw.shipped import path
from fhirgw.validation import validate
from tests.bench import mapping
from tests.validation.conftest import REPOSITORY, golden
from tests.validation.right import APPOINTMENT, ENCOUNTER, GONE, RELATED, spoilt

REFUSED_BY_R4 = {
    "DeviceUseStatement-example": ["DeviceUseStatement.reasonReference[0]"],  # a type that is no reason
    "Questionnaire-zika-virus-exposure-assessment": ["Questionnaire.text.div"],  # txt-2: the narrative is blank
    "Bundle-3a0707d3-549e-4467-b8b8-5a2ab3800efe": ["Bundle.entry[3].fullUrl"],  # names Patient/pat12, holds pat2
    # A media type's parameter has no blank (RFC 6838): application/dicom; variant=DICOM WADO-RS
    "Bundle-b0a5e4277-83c4-4adb-87e2-e3efe3369b6f": [
        f"Bundle.entry[{at}].resource.payloadMimeType[0]" for at in range(8, 14)
    ],
}
"""Official examples that break R4 itself: where, and by what."""

OWN = {
    "person": "person",
    "contact": "contact",
    "assessment": "assessment",
    "plan": "plan",
    "package_line": "package-line",
    "reablement": "reablement",
    "review": "review",
    "technology": "care-technology",
    "equipment": "care-technology",
}
"""The profile of ours that everything a mapping makes keeps to."""

MADE = list(golden())
PROFILES = [
    json.loads(path.read_text("utf-8")) for path in sorted((REPOSITORY / "profiles").glob("StructureDefinition-*.json"))
]


def errors(resource: Resource, *profiles: str) -> list[tuple[str, str | None]]:
    found = validate(resource, [f"{OURS}/StructureDefinition/{each}" for each in profiles])
    return [(issue.code, issue.expression) for issue in found if issue.severity == "error"]


def test_every_official_example_passes_that_keeps_to_r4(data: Path) -> None:
    paths = sorted((data / "r4-examples").glob("*.json"))
    assert len(paths) > 150
    wrong = {path.stem: found for path in paths if (found := errors(decode(path.read_bytes())))}
    assert {name: [place for _, place in found] for name, found in wrong.items()} == REFUSED_BY_R4


def test_the_visit_example_passes(data: Path) -> None:
    assert errors(decode((data / "homecare" / "visit-example-bundle.json").read_bytes())) == []


def test_everything_the_mappings_make_passes() -> None:
    assert len(MADE) > 140
    assert {name: found for name, resource in MADE if (found := errors(resource))} == {}


@pytest.mark.parametrize("name", OWN)
def test_what_a_mapping_makes_keeps_to_our_profile(name: str) -> None:
    made = [resource for mapping, resource in MADE if mapping == name]
    assert made and [errors(each, OWN[name]) for each in made] == [[]] * len(made)


def test_a_carer_and_a_visit_keep_to_theirs() -> None:
    assert errors(RELATED, "carer") == errors(APPOINTMENT, "visit-planned") == errors(ENCOUNTER, "visit") == []


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("person", {"managingOrganization": GONE}, [("required", "Patient.managingOrganization")]),
        ("contact", {"intent": "order"}, [("value", "ServiceRequest.intent")]),
        ("contact", {"code": {"text": "call"}}, [("value", "ServiceRequest.code")]),
        (
            "contact",
            {"occurrenceDateTime": GONE, "occurrencePeriod": {"start": "2025"}},
            [("structure", "ServiceRequest.occurrence.ofType(Period)")],
        ),
        ("contact", {"status": "draft"}, [("invariant", "ServiceRequest")]),
        ("contact", {"subject.reference": "Group/g"}, [("value", "ServiceRequest.subject")]),
        ("assessment", {"owner": GONE}, [("required", "Task.owner")]),
        ("plan", {"category[0].coding[0].code": GONE}, [("required", "CarePlan.category[0].coding[0].code")]),
        ("package-line", {"occurrenceTiming": GONE}, [("required", "ServiceRequest.occurrence")]),
        (
            "reablement",
            {"type[0].coding[0].code": "direct-payment"},
            [("required", "EpisodeOfCare.type")],
        ),
        ("review", {"code.coding[0].code": "84478008"}, [("value", "Task.code")]),
        ("care-technology", {"intent": "plan"}, [("value", "DeviceRequest.intent")]),
    ],
)
def test_what_our_profiles_ask_besides_is_asked(
    name: str, changes: dict[str, object], expected: list[tuple[str, str]]
) -> None:
    mapping = next(mapping for mapping, own in OWN.items() if own == name)
    resource = next(each for made, each in MADE if made == mapping)
    assert errors(spoilt(resource, changes)) == []
    assert errors(spoilt(resource, changes), name) == expected


@pytest.mark.parametrize(
    ("resource", "name", "changes", "expected"),
    [
        (
            RELATED,
            "carer",
            {"relationship[0].coding[0].code": "Personal"},
            [("required", "RelatedPerson.relationship")],
        ),
        (ENCOUNTER, "visit", {"class.code": "AMB"}, [("value", "Encounter.class")]),
        (ENCOUNTER, "visit", {"status": "cancelled"}, [("invariant", "Encounter.status")]),
        (ENCOUNTER, "visit", {"period.start": GONE}, [("required", "Encounter.period.start")]),
        (
            APPOINTMENT,
            "visit-planned",
            {"participant[0].actor.reference": "Location/l"},
            [("invariant", "Appointment")],
        ),
    ],
)
def test_what_a_carer_and_a_visit_are_asked_is_asked(
    resource: Resource, name: str, changes: dict[str, object], expected: list[tuple[str, str]]
) -> None:
    assert errors(spoilt(resource, changes)) == []
    assert errors(spoilt(resource, changes), name) == expected


@pytest.mark.parametrize("definition", PROFILES, ids=lambda each: each["id"])
def test_our_definitions_are_sound(definition: Resource) -> None:
    assert errors(definition) == []


def test_ten_kinds_of_social_care_have_a_profile() -> None:
    ours = [each["id"] for each in PROFILES if each["type"] != "Extension"]
    assert len(ours) == 15 and {"person", "carer", "visit", "visit-planned"} <= set(ours)
    assert all(
        each["url"] in [known.url for known in profiles_for(each["type"])]
        for each in PROFILES
        if each["type"] != "Extension"
    )


def test_all_that_a_council_is_made_into_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in every state that the made-up council has, wrong ones too: they are refused, or make what is sound."""
    monkeypatch.setattr(mapping, "PEOPLE", 80)
    tables = mapping.rows()
    made = [
        made_of(row, each)
        for each in load(path("mappings")).systems["meadow"].mappings.values()
        for row in tables[each.table]
        if each.applies(row)
    ]
    sound = [each for each in made if each is not None]
    assert len(sound) > 1500 and len(sound) < len(made)
    assert [found for each in sound if (found := errors(each))] == []


def made_of(row: Row, of: Mapping) -> Resource | None:
    try:
        return of.to_fhir(row)
    except RefusedRow:
        return None
