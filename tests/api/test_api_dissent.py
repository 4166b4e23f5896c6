"""A dissent that names nobody: from sharing the record, and not about the council that keeps it and has to keep it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.api.writing import COUNCIL, PEOPLE, PROVIDER
from tests.gateway import Gateway
from tests.put import put

CATEGORY = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]}


@pytest.fixture(scope="module")
async def clients(gateway: Gateway, module_database: str) -> Any:
    """The council's and a care provider's, on a database with people in it."""
    await put(module_database, *PEOPLE)
    with gateway.client(COUNCIL) as council, gateway.client(PROVIDER) as provider:
        yield council, provider


def dissent(status: str = "active") -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "status": status,
        "scope": CATEGORY,
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/cared-for"},
        "performer": [{"reference": "Patient/cared-for"}],
        "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTOUT"}]},
    }


def seen(client: httpx.Client) -> int:
    return client.get("/fhir/Patient/cared-for").status_code


def test_the_council_takes_it_and_takes_it_back(clients: tuple[httpx.Client, httpx.Client]) -> None:
    council, provider = clients
    assert (seen(council), seen(provider)) == (200, 200)
    made = council.post("/fhir/Consent", json=dissent())
    assert made.status_code == 201, made.text
    place = f"/fhir/Consent/{made.json()['id']}"
    assert (seen(council), seen(provider)) == (200, 404)
    assert (council.get(place).status_code, provider.get(place).status_code) == (200, 404)
    withdrawn = {**dissent("inactive"), "id": made.json()["id"]}
    answer = council.put(place, json=withdrawn, headers={"if-match": made.headers["etag"]})
    assert answer.status_code == 200, answer.text
    assert (seen(council), seen(provider)) == (200, 200)


DOUBTFUL = {"type": "deny", "class": [{"system": "https://elsewhere.example/types", "code": "Gole"}]}
OUTCOME = {"prefer": "return=OperationOutcome"}


def doubtful(provision: dict[str, Any] | None = None) -> dict[str, Any]:
    return dissent() | {"provision": provision or DOUBTFUL}


def nobodys() -> dict[str, Any]:
    return {name: value for name, value in dissent().items() if name != "patient"}


def warnings(outcome: dict[str, Any]) -> list[tuple[str, str]]:
    """What is warned of, and where."""
    found = [each for each in outcome["issue"] if each["severity"] == "warning"]
    return [(each["code"], each["expression"][0]) for each in found]


def ended(client: httpx.Client, made: httpx.Response) -> None:
    """Takes a Consent away again, so that others begin as they are told."""
    assert client.delete(httpx.URL(made.headers["location"].partition("/_history")[0]).path).status_code == 204


def entries(kind: str, *resources: dict[str, Any]) -> dict[str, Any]:
    entry = [{"resource": each, "request": {"method": "POST", "url": "Consent"}} for each in resources]
    return {"resourceType": "Bundle", "type": kind, "entry": entry}


def test_who_writes_one_that_holds_more_widely_is_told(clients: tuple[httpx.Client, httpx.Client]) -> None:
    council, provider = clients
    made = council.post("/fhir/Consent", json=doubtful(), headers=OUTCOME)
    assert (made.status_code, warnings(made.json())) == (201, [("business-rule", "Consent.provision.class[0]")])
    assert seen(provider) == 404  # the safe side of what was meant
    id = made.headers["location"].split("/")[-3]
    judged = council.get(f"/fhir/Consent/{id}/$validate").json()
    assert ("business-rule", "Consent.provision.class[0]") in warnings(judged)
    ended(council, made)
    plain = council.post("/fhir/Consent", json=dissent(), headers=OUTCOME)
    assert (plain.status_code, warnings(plain.json()), "warning" in plain.headers) == (201, [], False)
    ended(council, plain)


def test_others_are_told_by_a_header(clients: tuple[httpx.Client, httpx.Client]) -> None:
    council, _ = clients
    for wish in ({}, {"prefer": "return=minimal"}):
        made = council.post("/fhir/Consent", json=doubtful(), headers=wish)
        assert made.status_code == 201, made.text
        assert made.headers["warning"].startswith('299 - "Consent.provision.class[0]: This limit is not understood')
        assert "Gole" not in made.headers["warning"]
        assert bool(made.content) is not bool(wish)
        ended(council, made)


def test_one_that_would_hold_for_nobody_is_refused(clients: tuple[httpx.Client, httpx.Client]) -> None:
    council, _ = clients
    answer = council.post("/fhir/Consent", json=nobodys())
    issue = answer.json()["issue"][0]
    assert (answer.status_code, issue["code"], issue["expression"]) == (422, "required", ["Consent.patient"])
    draft = council.post("/fhir/Consent", json=nobodys() | {"status": "draft"})
    assert draft.status_code == 201, draft.text


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_each_entry_of_a_bundle_is_told(clients: tuple[httpx.Client, httpx.Client], kind: str) -> None:
    council, _ = clients
    done = council.post("/fhir", json=entries(kind, doubtful(), dissent())).json()["entry"]
    assert [each["response"]["status"][:3] for each in done] == ["201", "201"]
    assert warnings(done[0]["response"]["outcome"]) == [("business-rule", "Consent.provision.class[0]")]
    assert "outcome" not in done[1]["response"]
    refused = council.post("/fhir", json=entries(kind, nobodys()))
    told = refused.json() if kind == "transaction" else refused.json()["entry"][0]["response"]["outcome"]
    assert told["issue"][0]["code"] == "required"
    for each in done:
        path = each["response"]["location"].partition("/fhir/")[2].partition("/_history")[0]
        assert council.delete(f"/fhir/{path}").status_code == 204


def test_an_actor_whom_nobody_knows_is_told(clients: tuple[httpx.Client, httpx.Client]) -> None:
    council, _ = clients
    role = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "PRCP"}]}
    ods = "https://fhir.nhs.uk/Id/ods-organization-code"
    for reference, known in (
        ({"identifier": {"system": ods, "value": "P01"}}, True),
        ({"identifier": {"system": ods, "value": "P10"}}, False),
        ({"reference": "Organization/provider"}, True),
        ({"reference": "Organization/nowhere"}, False),
    ):
        provision = {"type": "deny", "actor": [{"role": role, "reference": reference}]}
        made = council.post("/fhir/Consent", json=doubtful(provision), headers=OUTCOME)
        assert made.status_code == 201, made.text
        expected = [] if known else [("not-found", "Consent.provision.actor[0]")]
        assert warnings(made.json()) == expected
        ended(council, made)


def test_one_that_names_a_provider_in_a_part_that_gets_records_is_about_that_provider(
    clients: tuple[httpx.Client, httpx.Client],
) -> None:
    """The finding: an actor as PRCP, as in HL7's own example, was a dissent from everybody."""
    council, provider = clients
    role = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "PRCP"}]}
    plain = {name: value for name, value in dissent().items() if name != "policyRule"}
    plain["policy"] = [{"uri": "https://council.example/sharing"}]
    for reference, status in (("Organization/provider", 404), ("Organization/other", 200)):
        provision = {"type": "deny", "actor": [{"role": role, "reference": {"reference": reference}}]}
        made = council.post("/fhir/Consent", json=plain | {"provision": provision})
        assert (made.status_code, seen(provider), seen(council)) == (201, status, 200)
        ended(council, made)
        assert seen(provider) == 200
