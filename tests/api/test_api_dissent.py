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
