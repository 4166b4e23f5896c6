"""A gateway with a few people in it, for each module that asks."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import httpx
import pytest

from tests.api.writing import COUNCIL, PROVIDER
from tests.conftest import NewDatabase
from tests.gateway import Gateway
from tests.put import made, put, supersede

NHS = "https://fhir.nhs.uk/Id/nhs-number"
CANARY = {"number": "9000000009", "family": "Canarybird", "postcode": "ZZ99 3WZ"}
UPDATED = datetime(2026, 2, 1, tzinfo=UTC)


PERSON = made(
    "Patient",
    "p1",
    identifier=[{"system": NHS, "value": CANARY["number"]}],
    name=[{"family": CANARY["family"], "given": ["Zoë"]}],
    address=[{"postalCode": CANARY["postcode"]}],
    birthDate="1950-03-01",
    managingOrganization={"reference": "Organization/o1"},
)
OTHERS = [made("Patient", f"q{n:02}", gender="female" if n % 2 else "male") for n in range(20)]
OBSERVATIONS = [
    made(
        "Observation",
        f"ob{n}",
        status="final",
        subject={"reference": "Patient/p1"},
        effectiveDateTime=f"2025-03-{n:02}",
    )
    for n in range(1, 8)
]


@pytest.fixture(scope="module")
async def module_database(new_database: NewDatabase) -> AsyncIterator[str]:
    """The database that the gateway serves."""
    async with new_database() as url:
        await put(url, PERSON, made("Organization", "o1", name="A council"), *OTHERS, *OBSERVATIONS)
        await put(url, made("Organization", "gone"), made("Organization", "changed"))
        await supersede(url, made("Organization", "gone"), None, 2, UPDATED)
        await supersede(url, made("Organization", "changed"), made("Organization", "changed", active=True), 2, UPDATED)
        yield url


@pytest.fixture(scope="module")
def council(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client(COUNCIL) as client:
        yield client


@pytest.fixture(scope="module")
def provider(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client(PROVIDER) as client:
        yield client
