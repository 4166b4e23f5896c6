"""What a resource is found by, held against an independent reading of R4's own expressions on R4's own examples."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhirgw.fhir import table
from fhirgw.fhir.canonical import decode
from fhirgw.fhir.index import VERSION, Index, index
from fhirgw.fhir.issue import FhirError, Resource
from fhirgw.fhir.leaves import telling
from fhirgw.fhir.parameters import COLUMNS, HELD, parameters, supported
from fhirgw.fhir.query import Query
from tests.fhir import fhirpath_oracle as oracle
from tests.fhir.indexed import resources
from tests.fhir.plain_index import plain_index

Published = list[dict[str, Any]]


MADE = {
    "a canonical with its version": {
        "resourceType": "QuestionnaireResponse",
        "questionnaire": "https://fhirgw.uk/fhir/Questionnaire/about-me|1.0",
    },
    "a timing with events and bounds": {
        "resourceType": "ServiceRequest",
        "occurrenceTiming": {
            "event": ["2025-03-01", "2025-02-28T09:00:00Z"],
            "repeat": {"boundsPeriod": {"start": "2025-01", "end": "2025-02"}},
        },
    },
    "a coding of which only the system is known": {
        "resourceType": "Task",
        "code": {"coding": [{"system": "http://snomed.info/sct"}, {"display": "Dog"}]},
    },
    "spaces, accents and a postcode": {
        "resourceType": "Patient",
        "name": [{"text": " Siân  ffion"}],
        "address": [{"line": ["1 Straße"], "postalCode": "SS1 1AA"}],
        "telecom": [{"system": "phone", "value": "(07700) 900-123"}, {"system": "email", "value": "A-B@x.uk"}],
    },
    "a plan with its activities": {
        "resourceType": "CarePlan",
        "activity": [
            {"detail": {"scheduledPeriod": {"start": "2025-03"}}},
            {"detail": {"scheduledTiming": {"event": ["2025-01-01", "2025-02"]}}},
            {"detail": {"scheduledString": "daily"}},
        ],
    },
    "a goal with two targets": {"resourceType": "Goal", "target": [{"dueDate": "2025"}, {"dueDate": "2026-02-01"}]},
    "measurements of every kind": {
        "resourceType": "Observation",
        "code": {"coding": [{"system": "http://loinc.org", "code": "85354-9"}, {"code": "bp"}]},
        "valueRange": {"low": {"value": 1.5, "unit": "kg"}},
        "component": [
            {"code": {"coding": [{"system": "s", "code": "a"}]}, "valueQuantity": {"value": 5.40, "code": "kg"}},
            {"code": {"coding": [{"code": "b"}]}, "valueQuantity": {"value": 7, "comparator": "<", "unit": "kg"}},
            {
                "code": {"text": "no code"},
                "valueSampledData": {
                    "origin": {"value": 10, "unit": "mV"},
                    "period": 1,
                    "factor": 0.5,
                    "dimensions": 1,
                    "data": "1 -2 4",
                },
            },
            {"code": {"coding": [{"code": "c"}]}, "valueCodeableConcept": {"coding": [{"system": "t", "code": "d"}]}},
        ],
    },
    "a measurement that is a word": {
        "resourceType": "Observation",
        "code": {"coding": [{"code": "x"}]},
        "valueString": "Two Sugars",
    },
    "what a questionnaire is for": {
        "resourceType": "Questionnaire",
        "useContext": [
            {"code": {"system": "c", "code": "age"}, "valueRange": {"low": {"value": 18, "code": "a"}}},
            {"code": {"system": "c", "code": "focus"}, "valueCodeableConcept": {"coding": [{"code": "dementia"}]}},
        ],
    },
    "a document that replaces another": {
        "resourceType": "DocumentReference",
        "relatesTo": [{"code": "replaces", "target": {"reference": "DocumentReference/old"}}],
    },
    "a reference by identifier alone": {
        "resourceType": "Task",
        "for": {
            "type": "Patient",
            "identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9000000009"},
        },
        "owner": {"identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "Z9C01"}},
        "basedOn": [{"display": "Nothing to find it by"}],
    },
}
"""What the official examples happen not to hold."""


@pytest.fixture(scope="session")
def published(data: Path) -> Published:
    return oracle.search_parameters(data / "r4" / "hl7.fhir.r4.core-4.0.1.tgz")


@pytest.fixture(scope="session")
def examples(data: Path) -> dict[str, Resource]:
    """The official examples of the types held here by file name, and those above."""
    found = {path.stem: decode(path.read_bytes()) for path in sorted((data / "r4-examples").glob("*.json"))}
    return {name: resource for name, resource in (found | MADE).items() if resource["resourceType"] in HELD}


NO_REFERENCE = {"contentType", "title", "data", "coding", "text"}
"""What tells an attachment or a concept from a reference, where the oracle takes an element for a choice of another."""


def found(definition: dict[str, Any], resource: Resource) -> list[Any]:
    """What R4's expression finds of the parameter's kind: not words in a date's place, nor an attachment in a
    reference's.
    """
    words = {one for each in resource.get("activity", ()) for one in [each.get("detail", {}).get("scheduledString")]}
    every = oracle.values(definition["expression"], resource)
    if definition["type"] == "reference":
        return [each for each in every if not isinstance(each, dict) or not NO_REFERENCE & {*each}]
    return [each for each in every if definition["type"] != "date" or not isinstance(each, str) or each not in words]


def looked_up(published: Published, resource: Resource) -> dict[str, tuple[str, list[Any]]]:
    """Parameter -> its kind and what R4's expression finds, for those that are supported."""
    kind = resource["resourceType"]
    known = supported(kind)
    return {
        each["code"]: (each["type"], found(each, resource))
        for each in published
        if {kind, "Resource"} & set(each["base"]) and each["code"] in known and each["code"] not in COLUMNS
    }


def test_every_example_is_indexed_as_the_standard_reads(published: Published, examples: dict[str, Resource]) -> None:
    assert len(examples) > 100
    for name, resource in examples.items():
        found, expected = index(resource), expectation(published, resource)
        assert sorted(found.tokens) == sorted(expected.tokens), name
        assert sorted(found.strings) == sorted(expected.strings), name
        assert found.dates == expected.dates, name
        assert sorted(found.spans) == sorted(expected.spans), name


def kinds(published: Published) -> dict[str, str]:
    return {each["url"]: each["type"] for each in published}


def composites(published: Published, resource: Resource) -> list[dict[str, Any]]:
    """R4's composites of the resource's type."""
    return [each for each in published if each["type"] == "composite" and resource["resourceType"] in each["base"]]


def test_numbers_are_found_where_the_standard_looks(published: Published, examples: dict[str, Resource]) -> None:
    asked = 0
    for name, resource in examples.items():
        found = index(resource)
        for parameter, (kind, values) in looked_up(published, resource).items():
            if kind == "quantity":
                places = supported(resource["resourceType"])[parameter].places
                kept = [row[1:6] for row in found.numbers if row[0] in places]
                expected = [row for value in values for row in oracle.measured(value)]
                assert sorted(map(str, kept)) == sorted(map(str, expected)), (name, parameter)
                asked += len(expected)
    assert asked > 50


def test_a_number_says_what_it_stands_beside(published: Published, examples: dict[str, Resource]) -> None:
    asked = 0
    for name, resource in examples.items():
        kept = {(row[0].rpartition(".")[0], *row[1:6], *sorted(row[6] or ())) for row in index(resource).numbers}
        for definition in composites(published, resource):
            for group, head, kind, tail in oracle.beside(definition, kinds(published), resource):
                if group and kind == "quantity":
                    texts = oracle.behind("token", head)
                    tokens = sorted(oracle.hashed(f"{group}${text}") for text in texts)
                    assert {(group, *row, *tokens) for row in oracle.measured(tail)} <= kept, name
                    asked += 1
    assert asked > 5


def test_the_bits_say_which_parameters_have_a_value(published: Published, examples: dict[str, Resource]) -> None:
    for name, resource in examples.items():
        found = index(resource)
        expected = {
            parameter
            for parameter, (kind, values) in looked_up(published, resource).items()
            if values and kind != "composite"
        }
        expected |= {
            each["code"] for each in composites(published, resource) if oracle.beside(each, kinds(published), resource)
        }
        known = supported(resource["resourceType"]).values()
        assert {each.name for each in known if each.bit is not None and found.present >> each.bit & 1} == expected, name


def test_the_layout_does_not_move_without_a_new_version() -> None:
    """Stored rows are laid out by it: change VERSION with the digest, and every row is indexed again."""
    laid = [(kind, each.name, each.bit, each.slot, each.places) for kind in HELD for each in supported(kind).values()]
    assert (VERSION, sha256(repr(laid).encode()).hexdigest()[:16]) == (4, "98348db08c405cc5")


def expectation(published: Published, resource: Resource) -> Index:
    expected = Index()
    texts, strings = set(), set()
    for name, (kind, values) in looked_up(published, resource).items():
        if kind in ("quantity", "composite"):
            continue
        if kind == "date":
            slot = parameters(resource["resourceType"])[name].slot
            for value in values:
                if slot is not None:
                    expected.dates[slot - 1] = oracle.covered(value)
                elif (span := oracle.covered(value)) is not None:
                    expected.spans.append((name, *span))
            continue
        for value in values:
            texts |= oracle.token_texts(name, kind, value)
            if kind == "string":
                strings |= {(name, oracle.folded(name, part)) for part in oracle.string_parts(value)}
    for definition in composites(published, resource):
        for group, head, kind, tail in oracle.beside(definition, kinds(published), resource):
            if not group and kind == "string":
                name = f"{definition['code']}.2"
                texts |= oracle.token_texts(name, kind, tail)
                strings.add((name, oracle.folded(name, tail)))
            if group and kind != "quantity":
                first = oracle.behind(kinds(published)[definition["component"][0]["definition"]], head)
                texts |= {f"{group}${one}${two}" for one in first for two in oracle.behind(kind, tail)}
    expected.tokens = [oracle.hashed(text) for text in texts]
    expected.strings = list(strings)
    return expected


@pytest.mark.parametrize("kind", HELD)
@settings(max_examples=30, deadline=None, derandomize=True, database=None)
@given(data=st.data())
def test_the_straight_line_function_is_the_plain_one(kind: str, data: st.DataObject) -> None:
    resource = data.draw(resources(kind))
    found, plain = index(resource), plain_index(resource)
    assert sorted(found.tokens) == sorted(plain.tokens)
    assert sorted(found.strings) == sorted(plain.strings)
    assert (found.dates, found.patient) == (plain.dates, plain.patient)
    assert sorted(found.spans) == sorted(plain.spans)


def test_what_a_table_forgets_it_works_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "LIMIT", 2)
    for number in (1, 2, 3, 1, 2, 3):
        resource = {
            "resourceType": "Task",
            "for": {"reference": f"Patient/{number}"},
            "code": {"coding": [{"code": f"{number}"}]},
        }
        assert sorted(index(resource).tokens) == sorted(plain_index(resource).tokens)


def test_what_is_indexed_is_what_a_search_looks_for(published: Published, examples: dict[str, Resource]) -> None:
    """The one place where the two meet: each value, asked for as a client would, is found."""
    asked = 0
    for name, resource in examples.items():
        found = index(resource)
        for parameter, (kind, values) in looked_up(published, resource).items():
            for value in values:
                for question in questions(parameter, kind, value):
                    query = Query.parse(resource["resourceType"], [question])
                    assert set(query.criteria[0].any_of) & set(found.tokens), (name, question[0])  # type: ignore[union-attr]
                    asked += 1
    assert asked > 1_000


def questions(name: str, kind: str, value: Any) -> list[tuple[str, str]]:
    """The ways in which a client may ask for a value by token."""
    match kind, value:
        case "reference", {"reference": str(target)} if not target.startswith("#"):
            target = target.partition("/_history/")[0]
            kind, _, bare = target.partition("/")
            return [(name, target), *([(name, bare)] if kind in HELD else [])]
        case "token", {"coding": codings}:
            return [
                (name, "|".join(escaped(coding[key]) for key in ("system", "code")))
                for coding in codings
                if "code" in coding and "system" in coding
            ]
        case "token", {"value": str(number)}:
            return [(name, escaped(number))]
        case "token", bool():
            return [(name, str(value).lower())]
        case "token" | "uri", str():
            return [(name, escaped(value))]
        case "string", _:
            return [(f"{name}:exact", escaped(part)) for part in oracle.string_parts(value)]
    return []


def escaped(value: str) -> str:
    for mark in "\\,$|":
        value = value.replace(mark, f"\\{mark}")
    return value


def test_a_few_elements_tell_whose_record_it_is(examples: dict[str, Resource]) -> None:
    whose = {}
    for name, resource in examples.items():
        kind = resource["resourceType"]
        told = {each: resource[each] for each in ("resourceType", *telling(kind)) if each in resource}
        whose[name] = index(resource).patient
        if kind != "Patient":  # who is their own
            assert index(told).patient == whose[name], name
    assert len({each for each in whose.values() if each}) > 5


def test_whose_record_it_is() -> None:
    def patient(**elements: Any) -> str | None:
        return index(elements).patient

    them = {"reference": "Patient/p1"}
    assert patient(resourceType="Patient", id="p1") == "p1"
    assert patient(resourceType="Task", **{"for": them}) == "p1"
    assert patient(resourceType="Task", **{"for": {"reference": "Patient/p1/_history/2"}}) == "p1"
    assert patient(resourceType="Task", focus=them) is None
    assert patient(resourceType="RelatedPerson", patient=them) == "p1"
    assert patient(resourceType="Device", patient=them) == "p1"
    assert (
        patient(resourceType="Appointment", participant=[{"actor": {"reference": "Location/l"}}, {"actor": them}])
        == "p1"
    )
    assert patient(resourceType="Provenance", target=[{"reference": "Task/t"}, them]) == "p1"
    assert patient(resourceType="AuditEvent", entity=[{"what": them}]) == "p1"
    assert patient(resourceType="Observation", subject={"reference": "Group/g"}) is None
    assert patient(resourceType="Observation", subject={"reference": "https://elsewhere.uk/fhir/Patient/p1"}) is None
    assert patient(resourceType="Organization", partOf={"reference": "Organization/o"}) is None


def test_a_resource_of_the_wrong_shape_is_refused_without_quoting_it() -> None:
    for wrong in ({"code": "Smith"}, {"code": {"coding": "Smith"}}, {"identifier": ["Smith"]}, {"for": ["Smith"]}):
        with pytest.raises(FhirError, match="wrong shape") as refused:
            index({"resourceType": "Task", **wrong})
        assert refused.value.issues[0].code == "structure"
    with pytest.raises(FhirError, match="Not a date") as refused:
        index({"resourceType": "Task", "executionPeriod": {"start": "2025-02-30"}})
    assert refused.value.issues[0].expression == "Task.executionPeriod"


def test_a_primitive_that_is_only_an_extension_is_passed_over() -> None:
    resource = {"resourceType": "Patient", "name": [{"given": [None, "Zoë"]}], "_gender": {"extension": []}}
    assert sorted(index(resource).strings) == [("given", "zoe"), ("name", "zoe")]


def test_dates_have_slots_that_do_not_move() -> None:
    """Stored rows are laid out by these: a change needs every row indexed again."""
    slots = {kind: {slot: name for name, each in parameters(kind).items() if (slot := each.slot)} for kind in HELD}
    assert {kind: dict(sorted(names.items())) for kind, names in slots.items() if names} == {
        "Patient": {1: "birthdate", 2: "death-date"},
        "RelatedPerson": {1: "birthdate"},
        "PractitionerRole": {1: "date"},
        "ServiceRequest": {1: "authored", 2: "occurrence"},
        "Task": {1: "authored-on", 2: "modified", 3: "period"},
        "QuestionnaireResponse": {1: "authored"},
        "Questionnaire": {1: "date", 2: "effective"},
        "Observation": {1: "date", 2: "value-date"},
        "Condition": {1: "recorded-date", 2: "abatement-date", 3: "onset-date"},
        "CarePlan": {1: "date"},
        "Goal": {1: "start-date"},
        "CareTeam": {1: "date"},
        "EpisodeOfCare": {1: "date"},
        "Flag": {1: "date"},
        "DeviceRequest": {1: "authored-on", 2: "event-date"},
        "Consent": {1: "date", 2: "period"},
        "Encounter": {1: "date"},
        "Appointment": {1: "date"},
        "Communication": {1: "sent", 2: "received"},
        "Provenance": {1: "recorded", 2: "when"},
        "AuditEvent": {1: "date"},
        "MedicationAdministration": {1: "effective-time"},
        "DocumentReference": {1: "date", 2: "period"},
        "AllergyIntolerance": {1: "date", 2: "last-date"},
    }
