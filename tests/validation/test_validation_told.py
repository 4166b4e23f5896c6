"""How issues are worded: they name what is fixed and which codes there are, and never a value that was sent."""

from __future__ import annotations

from typing import Any

from fhirgw.validation import validate
from tests.validation.right import CONDITION, PATIENT, spoilt

ENTERED = {
    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": "entered-in-error"}]
}
CONFIRMED = {"coding": [{**ENTERED["coding"][0], "code": "confirmed"}]}


def told(resource: dict[str, Any], *words: str) -> list[str]:
    return [each.severity for each in validate(resource) if all(word in (each.diagnostics or "") for word in words)]


def test_a_required_code_names_those_there_are() -> None:
    assert told({**PATIENT, "gender": "F"}, "administrative-gender", "male", "female", "other", "unknown") == ["error"]
    assert told({**PATIENT, "gender": "female"}, "administrative-gender") == []
    long = {"resourceType": "Patient", "contact": [{"telecom": [{"system": "phone", "value": "1"}]}]}
    assert told({**long, "language": "klingon!"}, "klingon") == []


def test_two_of_a_choice_and_a_wrong_kind() -> None:
    assert told({**PATIENT, "deceasedBoolean": True, "deceasedDateTime": "2020"}, "keep one of them") == ["error"]
    assert told({**PATIENT, "active": "true"}, "true or false, without quotes") == ["error"]
    task = {"resourceType": "Task", "status": "draft", "intent": "order", "input": [{"type": {"text": "x"}}]}
    assert told(task, "value[x], which is one of") == ["error"]
    assert told(task, "valueAddress") == []


def test_a_narrative_is_good_practice() -> None:
    assert told(spoilt(PATIENT, {}), "dom-6") in ([], ["information"])
    bare = {name: value for name, value in PATIENT.items() if name != "text"}
    assert told(bare, "dom-6") == ["information"]


def test_con_3_asks_for_a_clinical_status_but_of_an_error() -> None:
    """https://hl7.org/fhir/R4/condition.html#invs"""
    bare = {name: value for name, value in CONDITION.items() if name not in ("clinicalStatus", "verificationStatus")}
    bare["category"] = [{"text": "a problem"}]
    assert told(bare, "con-3") == ["warning"]
    assert told({**bare, "verificationStatus": CONFIRMED}, "con-3") == ["warning"]
    assert told({**bare, "verificationStatus": ENTERED}, "con-3") == []
    assert told({name: value for name, value in bare.items() if name != "category"}, "con-3") == []
