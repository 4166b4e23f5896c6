"""Whatever JSON comes, a list of issues is the answer; and the time it takes grows as the input does."""

from __future__ import annotations

import time
from copy import deepcopy
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhirgw.fhir.elements import children
from fhirgw.fhir.issue import Issue, Resource
from fhirgw.fhir.parameters import HELD
from fhirgw.validation import validate
from tests.validation.conftest import golden
from tests.validation.right import NARRATIVE, PATIENT
from tests.validation.test_validation_defects import RIGHT

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
WORDS = st.sampled_from(
    ["id", "extension", "url", "valueString", "_value", "coding", "system", "code", "reference", "div", "type", "#a"]
)
JSON = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
MADE = [*RIGHT.values(), *(resource for _, resource in golden())]


def answered(value: Any) -> None:
    issues = validate(value)
    assert isinstance(issues, list) and all(isinstance(each, Issue) for each in issues)
    assert all(each.severity in ("error", "warning", "information") for each in issues)


@given(JSON)
@settings(max_examples=60, deadline=None)
def test_any_json_is_answered(value: Any) -> None:
    answered(value)


@given(st.sampled_from([*HELD, "Bundle", "Parameters", "StructureDefinition"]), st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_in_a_types_elements_is_answered(kind: str, data: st.DataObject) -> None:
    names = st.sampled_from(sorted(children(kind)))
    answered({"resourceType": kind, **data.draw(st.dictionaries(names, JSON, max_size=6))})


@given(st.sampled_from(MADE), st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_in_place_of_a_part_is_answered(resource: Resource, data: st.DataObject) -> None:
    made = deepcopy(resource)
    at: Any = made
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else list(range(len(at)))))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.booleans()):
            break
        at = at[key]
    at[key] = data.draw(JSON)
    answered(made)


def test_what_is_judged_is_left_as_it_was() -> None:
    for resource in RIGHT.values():
        before = deepcopy(resource)
        validate(resource)
        assert resource == before and list(resource) == list(before)


def test_deep_nesting_is_answered() -> None:
    deep: Any = {"resourceType": "Patient"}
    for _ in range(5_000):
        deep = {"resourceType": "Patient", "contained": [deep]}
    assert [each.code for each in validate(deep)] == ["structure"]


def bundle(entries: int) -> Resource:
    flag = {"resourceType": "Flag", "text": NARRATIVE, "status": "active", "code": {"text": "x"}}
    return {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {
                "fullUrl": f"https://council.example/fhir/Flag/{at}",
                "resource": {**flag, "id": str(at), "subject": {"reference": f"Patient/{at % 7}"}},
            }
            for at in range(entries)
        ],
    }


def seconds(resource: Resource) -> float:
    began = time.process_time()
    assert validate(resource) == []
    return time.process_time() - began


def test_a_bundle_takes_time_as_its_entries_do() -> None:
    small, large = bundle(300), bundle(3_000)
    assert min(seconds(large) for _ in range(3)) < 25 * min(seconds(small) for _ in range(3))


def test_many_alike_take_time_as_they_are_many() -> None:
    """Extensions, contained resources, identifiers: nothing is looked for in all of them for each of them."""
    for name, value in (
        ("extension", {"url": "https://x.example/e", "valueString": "x"}),
        ("identifier", PATIENT["identifier"][1]),
        ("contained", {"resourceType": "Basic", "id": "b", "code": {"text": "x"}}),
        ("name", {"family": ""}),
    ):
        few, many = ({**PATIENT, name: [value] * count} for count in (300, 3_000))
        taken = []
        for resource in (few, many):
            began = time.process_time()
            validate(resource)
            taken.append(time.process_time() - began)
        assert taken[1] < 40 * max(taken[0], 0.002), name


def test_what_is_wrong_a_thousand_times_is_told_a_thousand_times_errors_first() -> None:
    """And it takes time as it is long: unknown names, wrong values, each with a place."""
    for spoil in (
        lambda count: {f"element{at}": at for at in range(count)},
        lambda count: {"name": [{"given": [""] * count}]},
        lambda count: {"identifier": [{"value": ""}] * count},
    ):
        began = time.process_time()
        issues = validate({"resourceType": "Patient", **spoil(50_000)})
        assert time.process_time() - began < 4
        assert len(issues) == 1001 and issues[-1].severity == "information"
        assert {each.severity for each in issues[:-1]} == {"error"}


def test_a_name_of_any_length_is_looked_up_at_once() -> None:
    (unknown,) = [each for each in validate({**PATIENT, "Canary" * 100_000: 1}) if each.severity == "error"]
    assert unknown.expression == "Patient" and "Canary" not in unknown.diagnostics
    for name, remedy in (("birth_date", "did you mean birthDate?"), ("identifiers", "did you mean identifier?")):
        (unknown,) = [each for each in validate({**PATIENT, name: 1}) if each.severity == "error"]
        assert unknown.diagnostics.endswith(remedy)


def test_what_was_sound_once_is_judged_again_where_it_leads_elsewhere() -> None:
    """The judge knows again what is sound in itself; what a reference leads to is not in itself."""
    link = {"url": "http://hl7.org/fhir/StructureDefinition/flag-detail", "valueReference": {"reference": "#o"}}
    flag: Resource = {"resourceType": "Flag", "status": "active", "code": {"text": "x"}, "extension": [link]}
    flag |= {"subject": {"reference": "Patient/p"}}
    contained = [{"resourceType": "Organization", "id": "o", "name": "Hild House"}]
    for _ in range(2):
        for resource, rule in ((flag | {"contained": contained}, []), (flag, ["ref-1"])):
            keys = [each.diagnostics.partition(":")[0] for each in validate(resource)]
            assert [each for each in keys if each.startswith("ref-")] == rule
