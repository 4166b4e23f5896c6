"""Searches that lead from answers to their questionnaires, by url, and from a reference to whichever type it names.

https://hl7.org/fhir/R4/search.html#chaining, https://hl7.org/fhir/R4/references.html#canonical
"""

from collections.abc import AsyncIterator

import pytest

from tests.api.test_api_fhir import entries, outcome
from tests.conftest import NewDatabase
from tests.gateway import Gateway
from tests.put import made, put

ONE, TWO = "https://example.org/Questionnaire/one", "https://example.org/Questionnaire/two"


def answers(id: str, questionnaire: str, subject: str) -> dict[str, object]:
    asked = {"questionnaire": questionnaire, "subject": {"reference": subject}}
    return made("QuestionnaireResponse", id, status="completed", authored=f"2025-0{id[1:]}-01T00:00:00Z", **asked)


HELD = [
    made("Patient", "p1", name=[{"family": "Rivers"}]),
    made("Practitioner", "w1", name=[{"family": "Rivers"}]),
    made("Practitioner", "w2", name=[{"family": "Banks"}]),
    made("Questionnaire", "one", url=ONE, version="1", title="Falls", status="active"),
    made("Questionnaire", "two", url=TWO, title="Sleep", status="draft"),
    answers("r1", ONE, "Patient/p1"),
    answers("r2", f"{ONE}|1", "Practitioner/w1"),
    answers("r3", f"{ONE}|2", "Practitioner/w2"),
    answers("r4", TWO, "Patient/p1"),
]


@pytest.fixture(scope="module")
async def module_database(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        await put(url, *HELD)
        yield url


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("QuestionnaireResponse?questionnaire.title=falls", ["r1", "r2", "r3"]),
        ("QuestionnaireResponse?questionnaire:Questionnaire.status=draft", ["r4"]),
        ("QuestionnaireResponse?questionnaire.title=nothing", []),
        ("Questionnaire?_has:QuestionnaireResponse:questionnaire:authored=2025-04", ["two"]),
        ("Questionnaire?_has:QuestionnaireResponse:questionnaire:authored=2025", ["one", "two"]),
        ("Questionnaire?_has:QuestionnaireResponse:questionnaire:authored=2024", []),
        ("QuestionnaireResponse?subject.family=rivers", ["r1", "r2", "r4"]),
        ("QuestionnaireResponse?subject:Patient.family=rivers", ["r1", "r4"]),
        ("QuestionnaireResponse?subject.family:exact=Banks", ["r3"]),
    ],
)
def test_chains_lead_to_definitions_and_to_every_type(gateway: Gateway, search: str, expected: list[str]) -> None:
    found = gateway.http.get(f"/fhir/{search}&_sort=_id")
    assert [each.rpartition("/")[2] for each in entries(found.json())] == expected


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        ("QuestionnaireResponse?_id=r1,r4&_include=QuestionnaireResponse:questionnaire", ["one", "two"]),
        ("QuestionnaireResponse?_id=r2&_include=QuestionnaireResponse:questionnaire:Questionnaire", ["one"]),
        ("QuestionnaireResponse?_id=r3&_include=QuestionnaireResponse:questionnaire", []),
        ("QuestionnaireResponse?_id=r4&_include=*", ["p1", "two"]),
        ("Questionnaire?_id=two&_revinclude=QuestionnaireResponse:questionnaire", ["r4"]),
        (
            "Patient?_id=p1&_revinclude=QuestionnaireResponse:subject&_include:iterate=QuestionnaireResponse:questionnaire",
            ["one", "r1", "r4", "two"],
        ),
    ],
)
def test_definitions_come_along_by_their_url(gateway: Gateway, search: str, expected: list[str]) -> None:
    found = gateway.http.get(f"/fhir/{search}")
    assert sorted(each.rpartition("/")[2] for each in entries(found.json(), "include")) == expected


def test_a_step_that_more_follow_names_its_type(gateway: Gateway) -> None:
    refused = gateway.http.get("/fhir/Observation?performer.organization.name=x")
    told = outcome(refused)[0]["diagnostics"]
    assert (refused.status_code, "name one, performer:Patient, performer:PractitionerRole" in told) == (400, True), told
    named = gateway.http.get("/fhir/Observation?performer:PractitionerRole.organization.name=x")
    assert (named.status_code, named.json()["total"]) == (200, 0)
