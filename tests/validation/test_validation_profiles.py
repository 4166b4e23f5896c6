"""What a profile can ask, one thing at a time: slices by every kind of discriminator, fixed values, types, targets."""

from __future__ import annotations

from typing import Any

import pytest

from fhirgw.fhir import profile
from fhirgw.fhir.issue import Resource
from fhirgw.validation import validate
from tests.validation.right import BUNDLE, GONE, NARRATIVE, OBSERVATION, PATIENT, UCUM, concept, spoilt

URL = "https://elsewhere.example/StructureDefinition"
R4 = "http://hl7.org/fhir/StructureDefinition"
pytestmark = pytest.mark.usefixtures("added")


def element(path: str, **stated: Any) -> Resource:
    """An element of a differential by its id."""
    bare = ".".join(step.partition(":")[0] for step in path.split("."))
    sliced = path.rpartition(":")[2] if ":" in path.rpartition(".")[2] else None
    return {"id": path, "path": bare, **({"sliceName": sliced} if sliced else {}), **stated}


def by(kind: str, path: str, rules: str = "open") -> Resource:
    return {"discriminator": [{"type": kind, "path": path}], "rules": rules}


def asked(name: str, type_code: str, *elements: Resource, base: str | None = None) -> str:
    """Adds a profile of these elements; its url."""
    definition = {
        "resourceType": "StructureDefinition",
        "url": f"{URL}/{name}",
        "name": name,
        "status": "active",
        "kind": "resource",
        "abstract": False,
        "type": type_code,
        "baseDefinition": base or f"{R4}/{type_code}",
        "derivation": "constraint",
        "differential": {"element": list(elements)},
    }
    profile.add([definition])
    return f"{URL}/{name}"


def errors(resource: Resource, url: str) -> list[tuple[str, str | None]]:
    return [(each.code, each.expression) for each in validate(resource, [url]) if each.severity == "error"]


def found(url: str, resource: Resource, changes: dict[str, Any]) -> list[tuple[str, str | None]]:
    """What is found of a spoilt resource, the right one being right."""
    assert errors(resource, url) == []
    return errors(spoilt(resource, changes), url)


def test_a_slice_by_value_that_is_closed() -> None:
    url = asked(
        "Phone",
        "Patient",
        element("Patient.telecom", slicing=by("value", "system", "closed"), min=1),
        element("Patient.telecom:phone", min=1, max="1"),
        element("Patient.telecom:phone.system", min=1, fixedCode="phone"),
        element("Patient.telecom:phone.use", max="0"),
    )
    email = {"system": "email", "value": "a@b.example"}
    assert found(url, PATIENT, {"telecom[1]": email}) == [("structure", "Patient.telecom[1]")]
    assert found(url, PATIENT, {"telecom[0]": email}) == [
        ("structure", "Patient.telecom[0]"),
        ("required", "Patient.telecom"),
    ]
    again = {"system": "phone", "value": "1"}
    assert found(url, PATIENT, {"telecom[1]": again}) == [("structure", "Patient.telecom")]
    assert found(url, PATIENT, {"telecom[0].use": "home"}) == [("structure", "Patient.telecom[0].use")]


def test_a_slice_by_pattern_that_is_open_at_the_end() -> None:
    url = asked(
        "First",
        "Observation",
        element("Observation.category", slicing=by("pattern", "$this", "openAtEnd")),
        element("Observation.category:social", min=1, patternCodeableConcept=OBSERVATION["category"][0]),
    )
    other = {"text": "other"}
    assert found(url, spoilt(OBSERVATION, {"category[1]": other}), {}) == []
    swapped = {"category": [other, OBSERVATION["category"][0]]}
    assert found(url, OBSERVATION, swapped) == [("structure", "Observation.category[0]")]


def test_a_slice_by_what_is_there() -> None:
    url = asked(
        "Valued",
        "Observation",
        element("Observation.component", slicing=by("exists", "value")),
        element("Observation.component:valued", max="1"),
        element("Observation.component:valued.value[x]", min=1),
        element("Observation.component:empty", max="0"),
        element("Observation.component:empty.value[x]", max="0"),
    )
    bare = {"code": concept("http://loinc.org", "8462-4")}
    assert found(url, OBSERVATION, {"component[1]": bare}) == [("structure", "Observation.component")]
    assert found(url, OBSERVATION, {"component[1]": {**bare, "valueInteger": 1}}) == [
        ("structure", "Observation.component")
    ]


def test_a_slice_by_type() -> None:
    url = asked(
        "Entries",
        "Bundle",
        element("Bundle.entry", slicing=by("type", "resource")),
        element("Bundle.entry:patient", min=1, max="1"),
        element("Bundle.entry:patient.resource", min=1, type=[{"code": "Patient"}]),
    )
    assert found(
        url, BUNDLE, {"entry[0].resource": {"resourceType": "Basic", "text": NARRATIVE, "code": {"text": "x"}}}
    )[-1] == ("required", "Bundle.entry")


def test_a_slice_by_the_type_a_reference_leads_to() -> None:
    url = asked(
        "Practice",
        "Patient",
        element("Patient.generalPractitioner", slicing=by("type", "resolve()")),
        element("Patient.generalPractitioner:practice", min=1, max="1", type=[
            {"code": "Reference", "targetProfile": [f"{R4}/Organization"]}]),
    )  # fmt: skip
    assert found(url, PATIENT, {"generalPractitioner[0]": {"reference": "Practitioner/w1"}}) == [
        ("required", "Patient.generalPractitioner")
    ]


def test_a_slice_by_the_type_of_a_choice() -> None:
    url = asked(
        "Hours",
        "Observation",
        element("Observation.valueQuantity.code", min=1, fixedCode="h"),
    )
    assert found(url, OBSERVATION, {"valueQuantity.code": "d"}) == [
        ("value", "Observation.value.ofType(Quantity).code")
    ]
    assert found(url, OBSERVATION, {"valueQuantity": GONE, "valueString": "7"}) == [
        ("structure", "Observation.value.ofType(string)")
    ]


def test_a_slice_by_an_extension() -> None:
    url = asked(
        "Key",
        "Patient",
        element("Patient.address.extension:key", min=1, max="1", type=[
            {"code": "Extension",
             "profile": ["https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-AddressKey"]}]),
    )  # fmt: skip
    assert found(url, PATIENT, {"address[0].extension": GONE}) == [("required", "Patient.address[0].extension")]


@pytest.mark.parametrize(
    ("stated", "changes", "expected"),
    [
        ({"fixedCode": "female"}, {"gender": "male"}, ("value", "Patient.gender")),
        ({"min": 1}, {"gender": GONE}, ("required", "Patient.gender")),
    ],
)
def test_a_value_that_is_fixed_or_must_be_there(
    stated: dict[str, Any], changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    assert found(asked("Women", "Patient", element("Patient.gender", **stated)), PATIENT, changes) == [expected]


def test_a_fixed_whole_and_a_pattern() -> None:
    whole = {"low": {"value": 1}, "high": {"value": 9}}
    fixed = asked("Fixed", "Observation", element("Observation.referenceRange.low", fixedQuantity=whole["low"]))
    assert found(fixed, OBSERVATION, {"referenceRange[0].low.unit": "h"}) == [
        ("value", "Observation.referenceRange[0].low")
    ]
    pattern = asked("Pattern", "Observation", element("Observation.value[x]", patternQuantity={"system": UCUM}))
    assert found(pattern, OBSERVATION, {"valueQuantity.system": "https://x.example"}) == [
        ("value", "Observation.value.ofType(Quantity)")
    ]
    assert found(pattern, OBSERVATION, {"valueQuantity.value": 8}) == []


def test_lengths_bindings_and_invariants() -> None:
    short = asked("Short", "Patient", element("Patient.name.family", maxLength=5))
    assert found(short, PATIENT, {"name[0].family": "Smithson"}) == [("too-long", "Patient.name[0].family")]
    bound = asked("Bound", "Patient", element("Patient.maritalStatus", binding={
        "strength": "required", "valueSet": "http://hl7.org/fhir/ValueSet/marital-status"}))  # fmt: skip
    assert found(bound, PATIENT, {"maritalStatus": {"text": "married"}}) == [("code-invalid", "Patient.maritalStatus")]
    ruled = asked("Ruled", "Patient", element("Patient.name", constraint=[
        {"key": "one", "severity": "error", "human": "x", "expression": "given.count() = 2"}]))  # fmt: skip
    assert found(ruled, PATIENT, {"name[0].given": ["Jane"]}) == [("invariant", "Patient.name[0]")]


def test_a_rule_that_cannot_be_worked_out_is_said_to_be_so() -> None:
    url = asked("Odd", "Patient", element("Patient.name", constraint=[
        {"key": "odd", "severity": "error", "human": "x", "expression": "given.memberOf('x')"}]))  # fmt: skip
    assert [(each.severity, each.code) for each in validate(PATIENT, [url])] == [("warning", "processing")]


def test_a_profile_on_a_profile_keeps_both() -> None:
    first = asked("One", "Patient", element("Patient.telecom", slicing=by("value", "system")),
                  element("Patient.telecom:phone", max="1"),
                  element("Patient.telecom:phone.system", min=1, fixedCode="phone"))  # fmt: skip
    second = asked("Two", "Patient", element("Patient.telecom:phone", min=1), base=first)
    assert found(second, PATIENT, {"telecom": GONE}) == [("required", "Patient.telecom")]
    more = {"telecom[1]": {"system": "phone", "value": "1"}}
    assert found(second, PATIENT, more) == [("structure", "Patient.telecom")]


def test_what_a_reference_leads_to_keeps_to_the_profile_asked_of_it() -> None:
    named = asked("Named", "Practitioner", element("Practitioner.name", min=1))
    url = asked("Signed", "Flag", element("Flag.author", type=[{"code": "Reference", "targetProfile": [named]}]))
    signed = spoilt(BUNDLE, {"entry[1].resource.meta": {"profile": [url]}})
    assert [each for each in validate(signed) if each.severity == "error"] == []
    nameless = spoilt(signed, {"entry[2].resource.name": GONE})
    assert [(each.code, each.expression) for each in validate(nameless)] == [
        ("invalid", "Bundle.entry[1].resource.author")
    ]
    wrong = spoilt(signed, {"entry[1].resource.author": {"reference": "Organization/o1"}})
    assert ("value", "Bundle.entry[1].resource.author") in [(each.code, each.expression) for each in validate(wrong)]


def test_profiles_that_lead_to_each_other_come_to_an_end() -> None:
    url = f"{URL}/Loop"
    asked(
        "Loop", "Flag", element("Flag.subject", type=[{"code": "Reference", "targetProfile": [url, f"{R4}/Patient"]}])
    )
    flag = {"resourceType": "Flag", "text": NARRATIVE, "status": "active", "code": {"text": "x"}}
    looped = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [
            {"fullUrl": "urn:uuid:0d4fd1a6-4a4e-4c3c-9f43-1c2c0a5e8a10", "resource": {
                **flag, "meta": {"profile": [url]},
                "subject": {"reference": "urn:uuid:0d4fd1a6-4a4e-4c3c-9f43-1c2c0a5e8a10"}}},
        ],
    }  # fmt: skip
    assert {each.code for each in validate(looped)} == {"value"}  # a Flag is about no Flag


def test_profiles_nobody_knows_are_warned_of() -> None:
    resting = asked("Resting", "Patient", base=f"{URL}/Nowhere")
    for url in (f"{URL}/Nope", resting):
        claimed = {**PATIENT, "meta": {**PATIENT.get("meta", {}), "profile": [url]}}
        assert [(each.severity, each.code) for each in validate(claimed)] == [("warning", "not-found")]
        assert [(each.severity, each.code) for each in validate(PATIENT, [url])] == [("error", "not-found")]
    circular = asked("Circular", "Patient", base=f"{URL}/Circular")
    assert [each.code for each in validate(PATIENT, [circular])] == ["not-found"]


def test_the_same_profile_named_twice_is_judged_once() -> None:
    url = asked("Once", "Patient", element("Patient.photo", min=1))
    claimed = spoilt(PATIENT, {"meta.profile": [url, url]})
    assert errors(claimed, f"{url}|1.0") == [("required", "Patient.photo")]


WEIGHT = {
    **{name: value for name, value in OBSERVATION.items() if name not in ("component", "referenceRange", "meta")},
    "category": [concept("http://terminology.hl7.org/CodeSystem/observation-category", "vital-signs")],
    "code": concept("http://loinc.org", "29463-7"),
    "effectiveDateTime": "2025-03-01T08:00:00Z",
    "valueQuantity": {"value": 71, "unit": "kg", "system": UCUM, "code": "kg"},
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"category": [{"text": "x"}]}, ("required", "Observation.category")),
        ({"code": concept("http://loinc.org", "8302-2")}, ("required", "Observation.code.coding")),
        ({"valueQuantity.code": GONE}, ("required", "Observation.value.ofType(Quantity).code")),
        ({"valueQuantity.code": "cm"}, ("code-invalid", "Observation.value.ofType(Quantity).code")),
        ({"valueQuantity": GONE, "valueString": "71 kg"}, ("structure", "Observation.value.ofType(string)")),
        ({"effectiveDateTime": "2025"}, ("invariant", "Observation.effective.ofType(dateTime)")),
        ({"valueQuantity": GONE}, ("invariant", "Observation")),
    ],
)
def test_r4s_own_profiles_are_judged_by(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    assert expected in found(f"{R4}/bodyweight", WEIGHT, changes)


def test_what_an_extension_refers_to() -> None:
    place = {"url": f"{R4}/bodySite", "valueReference": {"reference": "BodyStructure/b1"}}
    series = {"uid": "1.2", "modality": {"display": "x"}, "bodySite": {"extension": [place]}}
    reported = {"resourceType": "ImagingStudy", "text": NARRATIVE, "status": "available", "series": [series]}
    told = [each.expression for each in validate(reported) if each.severity == "error"]
    place["valueReference"] = {"reference": "Patient/p1"}
    more = [each.expression for each in validate(reported) if each.severity == "error"]
    assert [each for each in more if each not in told] == [
        "ImagingStudy.series[0].bodySite.extension[0].value.ofType(Reference)"
    ]


def test_what_others_define_is_a_warning_unless_it_changes_the_meaning() -> None:
    other = {"url": "https://elsewhere.example/x", "valueString": "y"}
    told = [(each.severity, each.code) for name in ("extension", "modifierExtension")
            for each in validate({**WEIGHT, name: [other]})]  # fmt: skip
    assert told == [("warning", "extension"), ("error", "extension")]
