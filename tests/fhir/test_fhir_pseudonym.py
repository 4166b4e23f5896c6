"""Pseudonymised resources: nothing of who they are about, dates that still follow each other, rules that are data."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.elements import children
from fhirgw.fhir.pseudonym import PSEUDED, Pseudonymiser, RuleError, read, rules
from fhirgw.fhir.views import views

TODAY = date(2026, 11, 22)
KEY, OTHER = b"k" * 32, b"o" * 32
ONE = Pseudonymiser(KEY, rules(), TODAY)
MAPPINGS = Path(__file__).parents[2] / "mappings"
GOLDEN = [
    decode(json.dumps(pair["resource"]))
    for file in sorted(MAPPINGS.glob("*/*.golden.json"))
    for pair in json.loads(file.read_text())
]
RULED = [each for each in GOLDEN if each["resourceType"] in rules().types]
PERSON = {"reference": "Patient/p1"}


def expected(text: str) -> str:
    """What an id becomes, by hand."""
    return hmac.new(KEY, text.encode(), hashlib.sha256).hexdigest()[:32]


def telling(node: Any, name: str = "") -> Iterator[str]:
    """The texts of a resource by which somebody could be known: ids, names, numbers, addresses, what was written."""
    if isinstance(node, list):
        for each in node:
            yield from telling(each, name)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key not in ("coding", "meta", "url", "use", "status", "repeat", "quantityQuantity", "valueQuantity"):
                yield from telling(value, key)
    elif isinstance(node, str) and name in TELLS:
        yield node


TELLS = ("id", "reference", "value", "family", "given", "line", "city", "district", "postalCode", "text", "display")
TELLS += ("birthDate", "start", "end", "authoredOn", "description", "valueString", "valueDate", "valueDateTime")


@pytest.mark.parametrize("resource", RULED, ids=lambda each: f"{each['resourceType']}/{each['id'][:8]}")
def test_nothing_is_left_by_which_somebody_could_be_known(resource: dict[str, Any]) -> None:
    codes = set(re.findall(r'"code":"([^"]*)"', encode(resource).decode()))  # one system's codes are its labels
    found = set(telling(resource)) - codes - {"unknown"}  # which is a gender too
    assert resource["id"] in found
    written = encode(ONE.resource(resource)).decode()
    assert [each for each in found if len(each) > 3 and f'"{each}"' in written] == []
    assert resource["id"] not in written


def test_a_person_by_hand() -> None:
    person = {
        "resourceType": "Patient",
        "id": "p1",
        "meta": {"versionId": "3", "lastUpdated": "2026-01-02T03:04:05.678Z"},
        "extension": [
            {
                "url": "https://fhirgw.uk/fhir/StructureDefinition/ext-client-type",
                "valueCodeableConcept": {"text": "x"},
            },
            {"url": "http://hl7.org/fhir/StructureDefinition/patient-interpreterRequired", "valueBoolean": True},
            {"url": "http://hl7.org/fhir/StructureDefinition/patient-interpreterRequired", "valueString": "Polish"},
            {"url": "https://elsewhere.example/nickname", "valueString": "Ash"},
        ],
        "identifier": [{"value": "9990000018"}],
        "name": [{"family": "Ash"}],
        "gender": "female",
        "birthDate": "1940-02-01",
        "_birthDate": {"extension": [{"url": "x", "valueString": "in the morning"}]},
        "address": [{"postalCode": "ZZ112YT", "line": ["1 High Street"]}, {"postalCode": "by the sea"}],
        "maritalStatus": {"text": "widowed in 2020", "coding": [{"system": "s", "code": "W", "display": "Widowed"}]},
    }
    assert ONE.resource(person) == {
        "resourceType": "Patient",
        "meta": {"security": [PSEUDED]},
        "id": expected("Patient/p1"),
        "extension": [
            {"url": "http://hl7.org/fhir/StructureDefinition/patient-interpreterRequired", "valueBoolean": True}
        ],
        "gender": "female",
        "birthDate": "1940",
        "address": [{"postalCode": "ZZ11"}],
        "maritalStatus": {"coding": [{"system": "s", "code": "W"}]},
    }


def episode(person: str, start: str, end: str) -> dict[str, Any]:
    period = {"start": start, "end": end}
    return {"resourceType": "EpisodeOfCare", "id": "e", "patient": {"reference": person}, "period": period}


def test_dates_are_moved_by_person_and_project() -> None:
    def moved(by: Pseudonymiser, person: str) -> tuple[int, int]:
        period = by.resource(episode(person, "2024-02-28", "2024-03-01T10:30:00+00:00"))["period"]
        assert period["end"].endswith("T10:30:00+00:00")
        first, last = date.fromisoformat(period["start"]), date.fromisoformat(period["end"][:10])
        return (first - date(2024, 2, 28)).days, (last - first).days

    days = {person: moved(ONE, f"Patient/{person}") for person in map(str, range(400))}
    assert {length for _, length in days.values()} == {2}
    offsets = {offset for offset, _ in days.values()}
    assert 0 not in offsets and min(offsets) >= -rules().shift and max(offsets) <= rules().shift
    assert len(offsets) > 200
    assert moved(ONE, "Patient/7") == days["7"]
    assert [moved(Pseudonymiser(OTHER, rules(), TODAY), f"Patient/{person}") for person in ("1", "2", "3")] != [
        days[person] for person in ("1", "2", "3")
    ]
    task = {"resourceType": "Task", "id": "t", "for": {"reference": "Patient/7"}, "authoredOn": "2024-02-28"}
    shifted = date(2024, 2, 28) + timedelta(days=days["7"][0])
    assert ONE.resource(task)["authoredOn"] == shifted.isoformat()  # whatever the type: it is the person who is moved


def test_the_change_of_the_clocks_does_not_tell_how_far_dates_are_moved() -> None:
    """Whoever sees the offset turn between two records would know of what day they are: all are moved alike."""
    winter, summer = "2024-03-30T09:00:00+00:00", "2024-04-01T09:00:00+01:00"
    first = ONE.resource(episode("Patient/p1", winter, summer))["period"]
    assert {each[10:] for each in first.values()} == {"T09:00:00+00:00"}
    same = ONE.resource(episode("Patient/p1", "2024-03-30T09:00:00Z", "2024-04-01T08:00:00Z"))["period"]
    assert same == first  # however a system spells the moment: nine o'clock is nine o'clock, all the year round
    days = date.fromisoformat(first["end"][:10]) - date.fromisoformat(first["start"][:10])
    assert days == timedelta(days=2)


@pytest.mark.parametrize(("born", "told"), [("1937-12-31", "1937"), ("1936", "1936"), ("1920-02", "1936")])
def test_nobody_is_told_apart_by_a_great_age(born: str, told: str) -> None:
    patient = {"resourceType": "Patient", "id": "p1", "birthDate": born}
    assert ONE.resource(patient)["birthDate"] == told
    later = Pseudonymiser(KEY, rules(), date(2036, 1, 1))
    assert later.resource(patient)["birthDate"] == "1946"


def test_dates_that_cannot_be_moved() -> None:
    vague = ONE.resource(episode("Patient/p1", "2024", "2024-03"))
    assert vague["period"] == {"start": "2024", "end": "2024"}
    assert "period" not in ONE.resource(episode("Group/g1", "2024-02-28", "2024-03-01"))  # about nobody known
    assert "period" not in ONE.resource(episode("Patient/p1", "9999-12-31", "0001-01-01") | {"patient": {}})


def test_references_lead_where_they_led_and_nowhere_else() -> None:
    carer = {"resourceType": "RelatedPerson", "id": "r1", "patient": {**PERSON, "display": "Ann", "identifier": {}}}
    assert ONE.resource(carer)["patient"] == {"reference": f"Patient/{expected('Patient/p1')}"}
    assert ONE.id("Patient", "p1") == expected("Patient/p1") != ONE.id("Task", "p1")
    assert Pseudonymiser(OTHER, rules(), TODAY).id("Patient", "p1") != ONE.id("Patient", "p1")
    for elsewhere in ("https://surgery.example/Patient/4", "#contained", "urn:uuid:4"):
        assert "patient" not in ONE.resource({**carer, "patient": {"reference": elsewhere}})


def test_numbers_stay_as_they_are() -> None:
    text = b'{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/p"},"valueQuantity":{"value":1.10}}'
    assert b'"value":1.10' in encode(ONE.resource(decode(text)))


def test_every_view_of_a_type_with_rules_has_its_keys() -> None:
    """What is joined by stays: a view's first column is never empty."""
    for made in views().values():
        for each in RULED:
            if each["resourceType"] == made.resource and made.rows(each):
                assert [row[0] for row in made.rows(ONE.resource(each))] == [ONE.id(made.resource, each["id"])]


def test_types_that_are_about_nobody_have_no_rules() -> None:
    assert {"Organization", "Practitioner", "Flag", "Consent", "AuditEvent"}.isdisjoint(rules().types)
    for kind, rule in rules().types.items():
        assert rule.person == "id" or rule.person in children(kind)


RULES = "{{smallest: 1, shift: 1, types: {{Task: {{person: for, id: key, {}}}}}}}"
WRONG = {
    "smallest and shift": "{smallest: 0, shift: 1, types: {}}",
    "Thing: a type of R4": "{smallest: 1, shift: 1, types: {Thing: {person: id, id: key}}}",
    "Task: a type of R4, and `person`": "{smallest: 1, shift: 1, types: {Task: {id: key}}}",
    "Task.id: it is a key": "{smallest: 1, shift: 1, types: {Task: {person: for, id: keep}}}",
    "Task.forr: Task has no such element": RULES.format("forr: drop"),
    "Task.status: 'kept' is none of": RULES.format("status: kept"),
    "Task.status: a code cannot be shift": RULES.format("status: shift"),
    "Task.authoredOn: a dateTime cannot be age": RULES.format("authoredOn: age"),
    "oldest where it is said": "{smallest: 1, shift: 1, oldest: 0, types: {}}",
    "Task.description: a string is not kept": RULES.format("description: keep"),
    "Task.authoredOn: a dateTime is not kept": RULES.format("authoredOn: keep"),
    "Task.code: under datatypes there is no": RULES.format("code: keep"),
    "extensions: http://x: keep, shift or drop": "{smallest: 1, shift: 1, extensions: {'http://x': key}, types: {}}",
}


@pytest.mark.parametrize("told", WRONG)
def test_rules_that_would_leak_or_mean_nothing_are_refused(told: str) -> None:
    assert read(RULES.format("status: keep")).types
    with pytest.raises(RuleError) as raised:
        read(WRONG[told])
    assert told in str(raised.value)
