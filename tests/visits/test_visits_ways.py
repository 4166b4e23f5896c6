"""Three ways to one row: what is said in JSON, in a spreadsheet and in FHIR is the same, to the digest."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fhirgw.fhir import incoming
from fhirgw.fhir.issue import FhirError
from fhirgw.visits import bundle, sheet
from fhirgw.visits.layout import layouts
from fhirgw.visits.reading import Reader, Refused, Sent
from fhirgw.visits.rules import rules
from tests.visits.visiting import MRS_A, NHS

MAPPINGS = Path(__file__).parents[2] / "mappings"
READER = Reader(rules(MAPPINGS))
LAYOUTS = layouts(MAPPINGS, READER.shapes)
NOW = datetime(2026, 11, 1, tzinfo=UTC)

SAID = {
    "visit": "V1",
    "changed": "2026-03-30T08:21:00+01:00",
    "person": {"nhsNumber": MRS_A},
    "planned": {"start": "2026-03-30T07:30", "end": "2026-03-30T08:00", "carers": 2},
    "carers": [
        {"carer": "C1", "start": "2026-03-30T07:52:10", "end": "2026-03-30T08:20:41", "method": "nfc-tag"},
        {"carer": "C2", "start": "2026-03-30T07:55", "end": "2026-03-30T08:20:41", "method": "nfc-tag"},
    ],
    "outcome": {"code": "delivered"},
}
CELLS = {
    "Visit": "V1",
    "Changed": "30/03/2026 08:21",
    "NHS number": "999 000 0018",
    "Date": "30/03/2026",
    "Planned start": "07:30",
    "Planned end": "08:00",
    "Carers needed": "2",
    "Carer": "C1",
    "Arrived": "07:52:10",
    "Left": "08:20:41",
    "How": "Tag",
    "Second carer": "C2",
    "Second arrived": "7:55",
    "Second left": "08:20:41",
    "Second how": "tag",
    "Outcome": "Delivered",
}


def _coded(name: str, code: str) -> dict[str, Any]:
    address = f"https://fhirgw.uk/fhir/StructureDefinition/{name}"
    return {"url": address, "valueCodeableConcept": {"coding": [{"code": code}]}}


def _carer(name: str, **period: str) -> dict[str, Any]:
    return {"individual": {"reference": f"PractitionerRole/{name}"}, "period": period}


def made_by(code: str) -> dict[str, Any]:
    system = "https://fhir.nhs.uk/Id/ods-organization-code"
    return {"serviceProvider": {"identifier": {"system": system, "value": code}}}


PERSON = {"type": "Patient", "identifier": {"system": NHS, "value": MRS_A}}
IDENTIFIER = [{"system": bundle.VISIT, "value": "K01.V1"}]
APPOINTMENT = {
    "resourceType": "Appointment",
    "id": "plan",
    "identifier": IDENTIFIER,
    "status": "fulfilled",
    "start": "2026-03-30T06:30:00Z",
    "end": "2026-03-30T07:00:00Z",
    "participant": [{"actor": PERSON}, *[{"type": [{"text": "Carer"}]}] * 2],
}
METHOD = {"url": "https://fhirgw.uk/x/visit-verification", "extension": [{**_coded("", "nfc-tag"), "url": "method"}]}
ENCOUNTER = {
    "resourceType": "Encounter",
    "id": "made",
    "identifier": IDENTIFIER,
    "status": "finished",
    "subject": PERSON,
    "participant": [
        _carer("C1", start="2026-03-30T07:52:10+01:00", end="2026-03-30T08:20:41+01:00"),
        _carer("C2", start="2026-03-30T07:55:00+01:00", end="2026-03-30T08:20:41+01:00"),
    ],
    "extension": [_coded("visit-outcome", "delivered-late"), METHOD],
}
BUNDLE = {
    "resourceType": "Bundle",
    "type": "collection",
    "timestamp": "2026-03-30T07:21:00Z",
    "entry": [{"resource": APPOINTMENT}, {"resource": ENCOUNTER}],
}


def read(row: Any) -> Sent:
    found = READER.read(row, "K01", NOW)
    assert isinstance(found, Sent), found
    return found


def csv(cells: dict[str, str], split: str = ",", encoding: str = "utf-8") -> bytes:
    return f"{split.join(cells)}\r\n{split.join(cells.values())}\r\n".encode(encoding)


@pytest.mark.parametrize(
    "body",
    [
        csv(CELLS),
        csv(CELLS, ";", "cp1252"),
        csv(CELLS, "\t", "utf-16"),
        csv(CELLS, ",", "utf-8-sig"),
        csv(dict(reversed(CELLS.items()))),
        csv({name.upper(): cell for name, cell in CELLS.items()} | {"Weather": "wet"}),
    ],
)
def test_a_spreadsheet_says_what_json_says(body: bytes) -> None:
    ((number, row),) = sheet.read(body, LAYOUTS["homecare"]).rows
    assert number == 2, "as the spreadsheet shows it"
    assert read(row) == read(SAID)


def test_fhir_says_what_json_says() -> None:
    ((number, row),) = bundle.rows(incoming.read(json.dumps(BUNDLE).encode()), "K01")
    assert number == 1
    assert read(row) == read(SAID)


def test_what_belongs_to_an_encounter_is_of_its_visit() -> None:
    encounter = {"encounter": {"reference": "Encounter/made"}}
    task = {"resourceType": "Task", "id": "T1", "status": "rejected", "code": {"text": "Wash"}, **encounter}
    reason = {"statusReason": {"text": "Person declined"}, "owner": {"reference": "PractitionerRole/C1"}}
    given = {
        "resourceType": "MedicationAdministration",
        "status": "not-done",
        "context": {"reference": "Encounter/made"},
        "medicationCodeableConcept": {
            "coding": [{"system": "https://dmd.nhs.uk/", "code": "22298006"}],
            "text": "Paracetamol 500 mg",
        },
        "statusReason": [{"text": "Asleep"}],
    }
    weight = {
        "resourceType": "Observation",
        "code": {"text": "Temperature"},
        "valueQuantity": {"value": 36.50, "unit": "Cel"},
        **encounter,
    }
    entries = [*BUNDLE["entry"], *({"resource": each} for each in (task | reason, given, weight))]  # type: ignore[misc]
    body = json.dumps(BUNDLE | {"entry": entries}).replace("36.5", "36.50").encode()
    ((_, row),) = bundle.rows(incoming.read(body), "K01")
    parts = read(row).said.parts
    assert parts["tasks"] == [
        {"task": "T1", "text": "Wash", "outcome": "refused", "reason": "Person declined", "carer": "C1"}
    ]
    assert parts["medication"] == [
        {"medicine": "Paracetamol 500 mg", "dmd": "22298006", "outcome": "not-given", "reason": "Asleep"}
    ]
    assert str(parts["observations"][0]["value"]) == "36.50"


def sent(*resources: dict[str, Any]) -> Any:
    """The one row of a Bundle, as it is kept, or why it is not."""
    ((_, row),) = bundle.rows({"resourceType": "Bundle", "entry": [{"resource": each} for each in resources]}, "K01")
    return row if isinstance(row, Refused) else read(row).said.parts


def _named(*names: str) -> list[dict[str, Any]]:
    return [{"individual": {"reference": f"PractitionerRole/{name}"}} for name in names]


PERIOD = {"start": "2026-03-30T07:31:00+01:00", "end": "2026-03-30T08:01:00+01:00"}


def test_an_encounter_s_period_is_that_of_its_carers_where_none_has_one_of_their_own() -> None:
    whole = {**ENCOUNTER, "extension": [], "period": PERIOD}
    family = {"individual": {"reference": "RelatedPerson/daughter"}}
    carers = [{"carer": each, **PERIOD} for each in ("C1", "C2")]
    assert sent(APPOINTMENT, whole | {"participant": [*_named("C1", "C2"), family]})["carers"] == carers
    one = [{**_named("C1")[0], "period": PERIOD}, *_named("C2")]
    assert sent(APPOINTMENT, whole | {"participant": one})["carers"] == [carers[0], {"carer": "C2"}], "C2 did not come"
    each = [whole | {"id": name, "participant": _named(name)} for name in ("C1", "C2")]
    assert sent(APPOINTMENT, *each)["carers"] == carers, "an Encounter for each carer"


@pytest.mark.parametrize(
    ("resource", "column", "reason"),
    [
        ({**ENCOUNTER, "participant": [], "period": PERIOD}, "Encounter.participant", "required"),
        ({**ENCOUNTER, "status": "complete"}, "Encounter.status", "code"),
        ({**APPOINTMENT, "status": "noshows"}, "Appointment.status", "code"),
    ],
)
def test_a_visit_that_was_made_does_not_come_to_one_that_was_missed(
    resource: dict[str, Any], column: str, reason: str
) -> None:
    """What cannot be read as it is meant is refused: else it would be an appointment that nobody kept."""
    refused = sent(resource)
    assert isinstance(refused, Refused)
    assert (refused.visit, [(each.column, each.reason) for each in refused.faults]) == ("V1", [(column, reason)])
    assert not isinstance(sent({**resource, "status": "entered-in-error"}), Refused)


@pytest.mark.parametrize(
    ("planned", "made", "code"),
    [
        ("fulfilled", None, "delivered"),
        ("fulfilled", "finished", None),
        ("noshow", "cancelled", "missed-by-provider"),
        ("noshow", "finished", "no-reply"),
        ("booked", "planned", None),
    ],
)
def test_what_two_statuses_come_to(planned: str, made: str | None, code: str | None) -> None:
    encounter = {**ENCOUNTER, "status": made, "extension": []}
    encounter |= {} if made == "finished" else {"participant": []}
    parts = sent({**APPOINTMENT, "status": planned}, *([encounter] if made else []))
    assert (parts.get("outcome") or {}).get("code") == code
    assert ("carers" in parts) == (made == "finished")


def test_what_is_observed_in_parts_or_words_is_kept() -> None:
    of = {"resourceType": "Observation", "encounter": {"reference": "Encounter/made"}}
    millimetres = {"unit": "mm[Hg]"}
    pressure = [
        {"code": {"text": name}, "valueQuantity": {"value": value, **millimetres}}
        for name, value in (("Systolic", 131), ("Diastolic", 82))
    ]
    words: tuple[dict[str, Any], ...]
    words = ({"valueString": "Low"}, {"valueBoolean": True}, {"valueCodeableConcept": {"text": "Amber"}})
    named = ("Mood", "Ate", "Urine")
    noted = [{**of, "code": {"text": name}, **each} for name, each in zip(named, words, strict=True)]
    message = {
        "resourceType": "Communication",
        "status": "completed",
        "encounter": {"reference": "Encounter/made"},
        "sent": PERIOD["end"],
        "payload": [{"contentString": "Milk is out"}],
    }
    score = {**of, "code": {"text": "Pain"}, "valueInteger": 3}
    parts = sent(APPOINTMENT, ENCOUNTER, {**of, "code": {"text": "BP"}, "component": pressure}, *noted, message, score)
    assert [(each["name"], each["value"]) for each in parts["observations"]] == [
        ("Systolic", 131),
        ("Diastolic", 82),
        ("Pain", 3),
    ]
    assert [each["text"] for each in parts["notes"]] == ["Mood: Low", "Ate: yes", "Urine: Amber", "Milk is out"]
    assert parts["notes"][-1]["at"] == PERIOD["end"]


@pytest.mark.parametrize(
    ("status", "elements", "code"),
    [
        ("noshow", {}, "missed-by-provider"),
        ("cancelled", {"cancelationReason": {"coding": [{"code": "pat"}]}}, "cancelled-by-person-notice"),
        ("cancelled", {"cancelationReason": {"coding": [{"code": "prov-pers"}]}}, "cancelled-by-provider"),
        ("cancelled", {"cancelationReason": {"coding": [{"code": "pat-dec"}]}}, "deceased"),
        ("cancelled", {"extension": [_coded("visit-outcome", "hospital")]}, "hospital"),
        ("entered-in-error", {}, "entered-in-error"),
        ("booked", {}, None),
    ],
)
def test_a_planned_visit_that_was_not_made(status: str, elements: dict[str, Any], code: str | None) -> None:
    alone = {**APPOINTMENT, "status": status, **elements}
    ((_, row),) = bundle.rows({"resourceType": "Bundle", "entry": [{"resource": alone}]}, "K01")
    assert (read(row).said.parts.get("outcome") or {}).get("code") == code
    assert "carers" not in read(row).said.parts


def test_who_is_to_come_is_planned_and_no_time_is() -> None:
    whom = ({"reference": "PractitionerRole/C1"}, {"reference": "PractitionerRole/C2"}, {"reference": "Location/home"})
    participants = [{"actor": PERSON}, *({"actor": each} for each in whom)]
    shadow = {"actor": {"reference": "PractitionerRole/C3"}, "required": "optional"}
    alone = {**APPOINTMENT, "status": "booked", "participant": [*participants, shadow]}
    ((_, row),) = bundle.rows({"resourceType": "Bundle", "entry": [{"resource": alone}]}, "K01")
    parts = read(row).said.parts
    assert (parts["planned"]["carers"], parts["planned"]["rostered"]) == (2, ["C1", "C2", "C3"])
    assert "carers" not in parts


def test_who_did_not_show_where_a_carer_came_is_the_person() -> None:
    entries = [{"resource": {**APPOINTMENT, "status": "noshow"}}, {"resource": {**ENCOUNTER, "extension": [METHOD]}}]
    ((_, row),) = bundle.rows({**BUNDLE, "entry": entries}, "K01")
    assert read(row).said.parts["outcome"] == {"code": "no-reply"}


OBSERVED = {"resourceType": "Observation", "encounter": {"reference": "Encounter/made"}, "code": {"text": "Mood"}}


@pytest.mark.parametrize(
    ("resource", "column"),
    [
        ({"resourceType": "Task", "id": "T", "encounter": {"reference": "Encounter/none"}}, "encounter"),
        ({"resourceType": "Claim"}, "resourceType"),
        (OBSERVED, "Observation.value"),
        ({**OBSERVED, "valueQuantity": {"unit": "Cel"}}, "Observation.value"),
        ({**OBSERVED, "component": [{"valueInteger": 3}, {"code": {"text": "Pain"}}]}, "Observation.value"),
        ({"resourceType": "Encounter", "status": "finished"}, "identifier"),
        ({"resourceType": "Encounter", "identifier": [{"value": "V2"}], **made_by("K02")}, "serviceProvider"),
    ],
)
def test_what_is_of_no_visit_or_says_nothing_is_refused_alone(resource: dict[str, Any], column: str) -> None:
    sent = {"resourceType": "Bundle", "entry": [*BUNDLE["entry"], {"resource": resource}]}  # type: ignore[misc]
    (_, sound), (number, refused) = bundle.rows(sent, "K01")
    assert isinstance(sound, dict)
    assert "observations" not in sound
    assert isinstance(refused, Refused)
    assert (number, refused.faults[0].column) == (3, column)


def test_a_visit_may_name_its_own_care_provider() -> None:
    sent = {"resourceType": "Bundle", "entry": [{"resource": ENCOUNTER | made_by("K01")}]}
    ((_, sound),) = bundle.rows(sent, "K01")
    assert isinstance(sound, dict)


@pytest.mark.parametrize("sent", [{"resourceType": "Patient"}, {"resourceType": "Bundle"}, {**BUNDLE, "entry": [{}]}])
def test_no_bundle_of_visits(sent: dict[str, Any]) -> None:
    with pytest.raises(FhirError):
        bundle.rows(sent, "K01")


def test_a_council_s_import_says_claimed_and_actual() -> None:
    cells = {
        "FileReference": "K01-2026-13",
        "OurRef": "V1",
        "ServiceUserRef": "42",
        "VisitDate": "28/03/2026",
        "StartTimeClaimed": "23:30",
        "DurationClaimed": "120",
        "CarerRef": "C1",
        "ActualStartTime": "23:30",
        "ActualDuration": "120",
        "VisitCode": "D",
    }
    found = sheet.read(csv(cells), LAYOUTS["abacus"])
    assert found.file == "K01-2026-13"
    parts = read(found.rows[0][1]).said.parts
    assert parts["claimed"] == {"start": "2026-03-28T23:30:00+00:00", "minutes": 120}
    assert parts["carers"][0]["end"] == "2026-03-29T02:30:00+01:00", "two hours, though the clock says three"
    assert "planned" not in parts, "it is not said, so what was planned stays"
    assert parts["person"] == {"number": "42", "system": "https://fhirgw.uk/Id/meadow/person"}
