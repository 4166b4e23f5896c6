"""Profiles, extensions and code lists: UK Core's as published, ours as they stand in profiles/."""

from __future__ import annotations

import json

import pytest

from fhirgw.fhir.elements import element, is_resource, kind
from fhirgw.fhir.profile import OURS, UK_CORE, code_system, extension, profile, profiles_for
from tests.fhir.conftest import REPOSITORY
from tests.judged import check

OWN = [json.loads(path.read_text("utf-8")) for path in sorted((REPOSITORY / "profiles").glob("*.json"))]
EXTENSIONS = [each for each in OWN if each["resourceType"] == "StructureDefinition" and each["type"] == "Extension"]


def test_a_published_profile() -> None:
    patient = profile(f"{UK_CORE}Patient|2.5.0")
    assert patient is not None
    assert (patient.type, patient.version, patient.status, patient.draft) == ("Patient", "2.5.0", "active", False)
    assert patient.required == ()
    assert patient.constraints["identifier:nhsNumber.system"] == {
        "min": 1,
        "fixed": "https://fhir.nhs.uk/Id/nhs-number",
        "must_support": True,
    }
    assert patient.constraints["identifier"]["discriminators"] == [["value", "system"]]
    assert "https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-AddressKey" in patient.extensions["address"]


def test_what_a_profile_requires_is_r4s_and_its_own() -> None:
    def required(name: str) -> tuple[tuple[str, ...], ...]:
        found = profile(UK_CORE + name)
        assert found is not None
        return found.required

    assert required("Observation") == (("status",), ("code",))
    assert required("MedicationAdministration")[1] == ("medicationCodeableConcept", "medicationReference")
    assert ("subject",) in required("ServiceRequest")


def test_a_draft_is_marked_and_never_stands_in_for_what_is_published() -> None:
    drafts = {
        name
        for name in ("Task", "CarePlan", "Flag", "EpisodeOfCare", "Consent")
        if (found := profile(UK_CORE + name)) and found.draft
    }
    assert drafts == {"Task", "CarePlan", "Flag", "EpisodeOfCare", "Consent"}
    address_key = extension("https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-AddressKey")
    assert address_key is not None and not address_key.draft
    assert profile(f"{UK_CORE}Goal") is None
    ours = [f"{OURS}/StructureDefinition/{name}" for name in ("assessment", "review", "visit-alert", "visit-task")]
    assert [each.url for each in profiles_for("Task")] == [*ours, f"{UK_CORE}Task"]


def test_extensions_say_what_they_hold_and_where() -> None:
    rank = extension("https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-ContactRank")
    assert rank is not None and rank.value_types == ("positiveInt",) and rank.contexts == ("Patient.contact",)
    assert rank.fits("Patient.contact") and not rank.fits("Patient", "Address")
    key = extension("https://fhir.hl7.org.uk/StructureDefinition/Extension-UKCore-AddressKey")
    assert key is not None and {name: part.value_types for name, part in key.parts.items()} == {
        "type": ("CodeableConcept",),
        "value": ("string",),
    }
    core = extension("http://hl7.org/fhir/StructureDefinition/patient-birthPlace")
    assert core is not None and core.value_types == ("Address",)
    assert extension("https://fhirgw.uk/fhir/StructureDefinition/ext-nope") is None


def test_code_systems_with_their_displays() -> None:
    status = code_system("https://fhir.hl7.org.uk/CodeSystem/UKCore-NHSNumberVerificationStatusEngland")
    assert status is not None and status["01"] == "Number present and verified"
    eligibility = code_system(f"{OURS}/CodeSystem/eligibility")
    assert eligibility is not None and eligibility["eligible"] == "Eligible"
    assert code_system("https://nowhere.uk") is None


@pytest.mark.parametrize("definition", OWN, ids=lambda each: f"{each['resourceType']}-{each['id']}")
def test_each_of_our_definitions_is_sound(definition: dict[str, str]) -> None:
    assert definition["url"] == f"{OURS}/{definition['resourceType']}/{definition['id']}"
    assert (REPOSITORY / "profiles" / f"{definition['resourceType']}-{definition['id']}.json").is_file()
    assert [issue for issue in check(definition) if issue.severity == "error"] == []


@pytest.mark.parametrize("definition", EXTENSIONS, ids=lambda each: each["id"])
def test_each_of_our_extensions_says_what_it_holds(definition: dict[str, str]) -> None:
    found = extension(definition["url"])
    assert found is not None and found.contexts
    assert all(is_resource(context) or element(context) for context in found.contexts)
    assert all(kind(each) for each in found.value_types) and (found.values or found.parts)
    if found.binding and found.binding.partition(" ")[2].startswith(OURS):
        assert (REPOSITORY / "profiles" / f"ValueSet-{found.binding.rpartition('/')[2]}.json").is_file()
