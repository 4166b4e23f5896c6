"""How sure it is that two are one person, case by case."""

from __future__ import annotations

from typing import Any

import pytest

from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.likeness import WEIGHTS, Likeness, facts, graded, likeness

NUMBER = {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9000000009"}
KNOWN: dict[str, Any] = {
    "resourceType": "Patient",
    "identifier": [NUMBER],
    "name": [{"family": "O'Brien", "given": ["Zoë", "Ann"]}, {"use": "old", "family": "Smith"}],
    "birthDate": "1950-03-01",
    "gender": "female",
    "address": [{"postalCode": "SS1 1AA"}],
}


def asked(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in (KNOWN | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (asked(), ("certain", 1.0)),
        (asked(name=[{"family": " o'BRIEN "}], address=None, gender=None), ("certain", 1.0)),
        (asked(identifier=None), ("certain", 1.0)),
        (asked(identifier=None, address=[{"postalCode": "ss11aa"}], name=[{"family": "OBrien"}]), None),
        (asked(identifier=None, gender=None), ("probable", 0.99)),
        (asked(birthDate="1951-03-01"), ("possible", 0.6)),
        (asked(name=[{"family": "Jones", "given": ["Zoe"]}]), ("possible", 0.76)),
        (asked(identifier=[{**NUMBER, "value": "9912003888"}]), None),
        (asked(identifier=[{**NUMBER, "value": "1234567890"}]), ("certain", 1.0)),
        (asked(identifier=None, birthDate=None, address=None, gender=None), ("probable", 0.99)),
        (asked(identifier=None, birthDate="1950-03-02"), None),
        (asked(name=[{"family": "Smith", "given": ["Zoe"]}]), ("possible", 0.76)),
    ],
)
def test_what_they_come_to(sent: dict[str, Any], expected: tuple[str, float] | None) -> None:
    found = likeness(facts(sent), facts(KNOWN))
    assert found == (Likeness(*expected) if expected else None)


COUNCIL = {"system": "https://council.example/person", "value": "P-1"}
PROVIDER = {"system": "https://provider.example/person", "value": "P-1"}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"identifier": [COUNCIL]}, ("probable", 0.99)),
        ({"identifier": [COUNCIL], "birthDate": "1950-03-01", "name": [{"family": "O'Brien"}]}, ("certain", 1.0)),
        ({"identifier": [COUNCIL], "birthDate": "1950-03-01"}, ("probable", 0.99)),
        ({"identifier": [COUNCIL], "birthDate": "1960-12-24", "name": [{"family": "Jones"}]}, None),
        ({"identifier": [PROVIDER, {**COUNCIL, "value": "P-2"}, {"value": "P-1"}]}, None),
        ({"identifier": [PROVIDER], "birthDate": "1950-03-01", "name": KNOWN["name"][:1]}, ("probable", 0.99)),
        ({"identifier": [COUNCIL, {**NUMBER, "value": "9912003888"}]}, None),
    ],
)
def test_a_number_that_somebody_else_gave(sent: dict[str, Any], expected: tuple[str, float] | None) -> None:
    """Where it agrees it does as well as the NHS number; to have others says nothing, but whose NHS number it is."""
    known = {**KNOWN, "identifier": [NUMBER, COUNCIL], "gender": None, "address": []}
    found = likeness(facts(sent), facts(known))
    assert found == (Likeness(*expected) if expected else None)


def test_what_a_candidate_does_not_say_is_no_certainty() -> None:
    found = likeness(facts(asked()), facts({"resourceType": "Patient", "identifier": [NUMBER]}))
    assert found == Likeness("possible", 0.5)


def test_two_who_are_certain_are_neither() -> None:
    sure, maybe = Likeness("certain", 1.0), Likeness("possible", 0.6)
    assert graded([sure, maybe]) == [sure, maybe]
    assert graded([sure, maybe, sure]) == [Likeness("probable", 0.99), maybe, Likeness("probable", 0.99)]


def test_all_that_can_agree_is_a_hundred() -> None:
    assert sum(WEIGHTS.values()) == 100


@pytest.mark.parametrize("sent", [{"name": 1}, {"name": ["x"]}, {"name": [{"family": 1}]}, {"address": [1]}])
def test_what_is_no_patient_is_refused(sent: dict[str, Any]) -> None:
    with pytest.raises(FhirError, match="not a Patient"):
        facts(sent)
