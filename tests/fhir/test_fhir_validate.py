"""The check at the edge: R4's own examples pass, and each kind of mistake is found, without quoting anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fhirgw.fhir.canonical import decode
from fhirgw.fhir.issue import Resource
from fhirgw.fhir.parameters import HELD
from fhirgw.fhir.profile import OURS, UK_CORE
from fhirgw.fhir.validate import check

WRONG_IN_R4 = {"DeviceUseStatement-example"}
"""Official examples that break R4 itself: a reason that is not one of the types allowed."""

UK_EXTENSION = "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-"


def task(**elements: Any) -> Resource:
    """A Task that nothing is wrong with, changed."""
    right = {
        "resourceType": "Task",
        "id": "t1",
        "meta": {"profile": [f"{UK_CORE}Task"]},
        "extension": [{"url": f"{OURS}/StructureDefinition/ext-due-date", "valueDate": "2025-01-31"}],
        "status": "completed",
        "intent": "plan",
        "for": {"reference": "Patient/p1"},
        "owner": {"reference": "Practitioner/w1"},
    }
    changed = right | elements
    return {name: value for name, value in changed.items() if value is not None}


def patient(*addresses: Resource) -> Resource:
    return {"resourceType": "Patient", "meta": {"profile": [f"{UK_CORE}Patient"]}, "address": list(addresses)}


def address_key(*parts: Resource) -> Resource:
    return {"postalCode": "SS1 1AA", "extension": [{"url": f"{UK_EXTENSION}AddressKey", "extension": list(parts)}]}


UPRN = {"url": "value", "valueString": "100090000001"}
KEY_TYPE = {"url": "type", "valueCodeableConcept": {"text": "UPRN"}}


def errors(resource: Resource) -> list[tuple[str, str | None]]:
    return [(issue.code, issue.expression) for issue in check(resource) if issue.severity == "error"]


def test_what_is_right_passes() -> None:
    assert check(task()) == []
    assert check(patient(address_key(KEY_TYPE, UPRN))) == []


def test_every_official_example_passes_that_keeps_to_r4(data: Path) -> None:
    wrong = {
        path.stem
        for path in sorted((data / "r4-examples").glob("*.json"))
        if (resource := decode(path.read_bytes()))["resourceType"] in HELD and errors(resource)
    }
    assert wrong == WRONG_IN_R4


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ({"resourceType": "Nope"}, [("structure", "resourceType")]),
        (task(nope="Smith"), [("structure", "Task.nope")]),
        (task(status=None), [("structure", "Task.status"), ("required", "Task.status")]),
        (task(status="done"), [("code-invalid", "Task.status")]),
        (task(authoredOn="30/01/2025"), [("structure", "Task.authoredOn")]),
        (task(owner={"reference": "Location/l1"}), [("value", "Task.owner")]),
        (
            task(extension=[{"url": f"{OURS}/StructureDefinition/ext-nope", "valueDate": "2025-01-31"}]),
            [("value", "Task.extension[0]")],
        ),
        (
            task(extension=[{"url": f"{OURS}/StructureDefinition/ext-due-date", "valueString": "Smith"}]),
            [("value", "Task.extension[0]")],
        ),
        (
            task(extension=[{"url": f"{OURS}/StructureDefinition/ext-carers-required", "valuePositiveInt": 2}]),
            [("value", "Task.extension[0]")],
        ),
        (task(meta={"profile": [f"{UK_CORE}Patient"]}), [("invalid", "meta.profile")]),
        (patient(address_key(UPRN)), [("required", "Patient.address[0].extension[0]")]),
        (
            patient(address_key(KEY_TYPE, UPRN, {"url": "nope", "valueString": "x"})),
            [("value", "Patient.address[0].extension[0].extension[2]")],
        ),
    ],
)
def test_each_kind_of_mistake_is_found(resource: Resource, expected: list[tuple[str, str]]) -> None:
    assert errors(resource) == expected
    assert not any("Smith" in issue.diagnostics for issue in check(resource))


def test_what_others_define_is_a_warning() -> None:
    elsewhere = task(
        extension=[{"url": "https://elsewhere.uk/x", "valueString": "y"}], meta={"profile": ["https://elsewhere.uk/P"]}
    )
    assert [(issue.severity, issue.expression) for issue in check(elsewhere)] == [
        ("warning", "Task.extension[0]"),
        ("warning", "meta.profile"),
    ]
