"""Classes of record by security label: labels only add, and a restricted person's whereabouts are withheld."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.access.label import (
    CLASSES,
    CODES,
    EVERY,
    RESTRICTED,
    SAFEGUARDING,
    SEALED,
    THIRD_PARTY,
    UNSEARCHABLE,
    WITHHELD,
    labels,
    redacted,
    restricted,
)
from fhirgw.fhir.parameters import parameters

CLASS = "https://fhirgw.uk/fhir/CodeSystem/record-class"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ADDRESS = {"line": ["1 High Street"], "postalCode": "ZZ1 1AA"}


def labelled(kind: str, *codings: tuple[str, str], **elements: Any) -> dict[str, Any]:
    security = [{"system": system, "code": code} for system, code in codings]
    return {"resourceType": kind, "id": "x", "meta": {"security": security}, **elements}


@pytest.mark.parametrize(
    ("coding", "bits"),
    [
        ((CLASS, "restricted"), RESTRICTED),
        ((CLASS, "safeguarding"), SAFEGUARDING),
        ((CLASS, "sealed"), SEALED),
        ((CLASS, "third-party"), THIRD_PARTY),
        ((CONFIDENTIALITY, "R"), RESTRICTED),
        ((CONFIDENTIALITY, "V"), SEALED),
        ((CONFIDENTIALITY, "REDACTED"), SEALED),
        ((CONFIDENTIALITY, "N"), 0),
        ((CLASS, "R"), 0),
        (("https://elsewhere.example", "sealed"), 0),
    ],
)
def test_each_label_is_a_class(coding: tuple[str, str], bits: int) -> None:
    assert labels(labelled("Flag", coding)) == bits


@given(st.lists(st.sampled_from(sorted(CODES)), max_size=4), st.sampled_from(sorted(CODES)))
def test_labels_only_add(codings: list[tuple[str, str]], more: tuple[str, str]) -> None:
    before, after = labels(labelled("Flag", *codings)), labels(labelled("Flag", *codings, more))
    assert after == before | CODES[more]
    assert labels(labelled("Patient", *codings)) == before & ~RESTRICTED


def test_nothing_said_is_no_class() -> None:
    assert labels({"resourceType": "Flag", "id": "x"}) == 0
    assert labels({"resourceType": "Flag", "id": "x", "meta": {}}) == 0
    assert sum(CLASSES.values()) == EVERY


def person(*codings: tuple[str, str]) -> dict[str, Any]:
    born = {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace", "valueAddress": ADDRESS}
    within = {"url": "https://elsewhere.example/moves", "extension": [{"url": "to", "valueAddress": ADDRESS}]}
    religion = {"url": "http://hl7.org/fhir/StructureDefinition/patient-religion", "valueCodeableConcept": {}}
    return labelled(
        "Patient",
        *codings,
        extension=[born, religion, within],
        text={"status": "generated", "div": "<div>ZZ1 1AA</div>"},
        contained=[{"resourceType": "Organization", "id": "gp", "address": [ADDRESS]}],
        name=[{"family": "Brooks"}],
        telecom=[{"system": "phone", "value": "07700 900086"}],
        birthDate="1978-02-08",
        address=[ADDRESS],
        contact=[{"address": ADDRESS}],
        photo=[{"url": "https://elsewhere.example/photo"}],
        generalPractitioner=[{"reference": "#gp"}],
        managingOrganization={"reference": "Organization/o1"},
    )


def test_a_restricted_person_is_served_without_their_whereabouts() -> None:
    whole = person((CONFIDENTIALITY, "R"))
    assert restricted(whole)
    assert redacted(whole) == {
        "resourceType": "Patient",
        "id": "x",
        "meta": whole["meta"],
        "extension": [whole["extension"][1]],
        "name": [{"family": "Brooks"}],
        "birthDate": "1978-02-08",
    }
    assert set(WITHHELD) < whole.keys()


def test_an_extension_of_addresses_alone_leaves_no_empty_list() -> None:
    whole = person((CLASS, "restricted"))
    without = redacted(whole | {"extension": whole["extension"][:1]})
    assert without is not None
    assert "extension" not in without


def test_nobody_else_is_redacted() -> None:
    assert redacted(person()) is None
    assert redacted(person((CONFIDENTIALITY, "V"))) is None
    assert redacted(labelled("RelatedPerson", (CONFIDENTIALITY, "R"))) is None
    assert not restricted(person((CLASS, "safeguarding")))


def test_every_search_into_what_is_withheld_is_told() -> None:
    looks = {
        name
        for name, parameter in parameters("Patient").items()
        if parameter.supported and any(source.path[0].name in WITHHELD for source in parameter.sources)
    }
    assert looks == set(UNSEARCHABLE)
