"""By what a pseudonymised export may be narrowed: by the codes that it shows, and by nothing that it hides."""

from __future__ import annotations

import pytest

from fhirgw.fhir.parameters import supported
from fhirgw.fhir.pseudonym import rules
from fhirgw.fhir.pseudonym_filter import finer

SHOWN = (
    "Patient?gender=female",
    "Patient?gender:not=female&deceased=false",
    "Patient?language=pl",
    "Observation?status=final&category=laboratory,vital-signs",
    "Observation?code:in=http://example.org/ValueSet/x",
    "Observation?value-concept:missing=true",
    "Condition?patient.gender=female",
    "Condition?code=a&subject:Patient.gender=female",
    "EpisodeOfCare?status=active&type=reablement",
    "RelatedPerson?relationship=SPS",
)
FINER = {
    "Patient?birthdate=1950-03-01": "birthdate",
    "Patient?gender=male&birthdate=ge1950": "birthdate",
    "Patient?address-postalcode=ZZ99": "address-postalcode",
    "Patient?address-city=X": "address-city",
    "Patient?death-date=2020": "death-date",
    "Patient?identifier=9000000009": "identifier",
    "Patient?identifier:of-type=a|b|c": "identifier:of-type",
    "Patient?_id=p1": "_id",
    "Patient?_lastUpdated=gt2026-01-01": "_lastUpdated",
    "Patient?_security=x": "_security",
    "Patient?_tag=x": "_tag",
    "Patient?active=true": "active",
    "Patient?general-practitioner=Organization/o1": "general-practitioner",
    "Patient?general-practitioner:identifier=Y1": "general-practitioner:identifier",
    "Patient?general-practitioner:Organization.name=x": "general-practitioner:Organization.name",
    "Patient?organization=Organization/o1": "organization",
    "Patient?link=Patient/p2": "link",
    "Patient?_has:Condition:subject:code=x": "_has:Condition:subject:code",
    "Patient?_has:Group:member:_id=g1": "_has:Group:member:_id",
    "RelatedPerson?gender=female": "gender",
    "Observation?date=2025-03-01": "date",
    "Observation?value-date=2025": "value-date",
    "Observation?value-string=x": "value-string",
    "Observation?code:text=x": "code:text",
    "Observation?code-value-quantity=x$5": "code-value-quantity",
    "Observation?combo-code=x": "combo-code",
    "Observation?patient=Patient/p1": "patient",
    "Observation?subject=Patient/p1": "subject",
    "Observation?subject:identifier=x": "subject:identifier",
    "Observation?patient.birthdate=1950": "patient.birthdate",
    "Observation?subject:Patient.address-postalcode=Z": "subject:Patient.address-postalcode",
    "Observation?subject:Patient.general-practitioner.name=x": "subject:Patient.general-practitioner.name",
    "Observation?subject:Group.code=x": "subject:Group.code",
    "Observation?performer:Practitioner.gender=male": "performer:Practitioner.gender",
    "ServiceRequest?authored=2025": "authored",
    "ServiceRequest?performer=Organization/o1": "performer",
    "Condition?recorded-date=2025": "recorded-date",
    "Encounter?identifier=x": "identifier",
    "Flag?status=active": "status",
}


@pytest.mark.parametrize("search", SHOWN)
def test_codes_that_are_shown(search: str) -> None:
    assert finer(search) is None


@pytest.mark.parametrize("search", FINER)
def test_what_is_not_shown_so_finely(search: str) -> None:
    assert finer(search) == FINER[search]


def test_no_parameter_of_another_kind_gets_through() -> None:
    """Dates, texts, references, numbers: none of them is shown as it is, and a new one is not by itself."""
    every = [(kind, each) for kind in rules().types for each in supported(kind).values()]
    assert {each.kind for kind, each in every if not finer(f"{kind}?{each.name}=x")} == {"token"}
    assert {each.kind for _, each in every} >= {"date", "string", "reference", "quantity"}
