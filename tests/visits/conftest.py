"""The county with its gateway, for each module of tests that asks: what differs is a fixture of the module's own."""

from collections.abc import AsyncIterator, Iterator

import asyncpg
import httpx
import pytest

from fhirgw.fhir.issue import Resource
from tests.conftest import NewDatabase
from tests.gateway import Gateway
from tests.put import connected, put
from tests.visits.visiting import COUNCIL, HERON, KESTREL, county


@pytest.fixture(scope="module")
def besides() -> tuple[Resource, ...]:
    """What else is known in the county."""
    return ()


@pytest.fixture(scope="module")
async def places(new_database: NewDatabase, besides: tuple[Resource, ...]) -> AsyncIterator[str]:
    async with new_database() as url:
        await county(url)
        await put(url, *besides)
        yield url


@pytest.fixture(scope="module")
def module_database(places: str) -> str:
    """What the gateway serves."""
    return places


@pytest.fixture(scope="module")
def kestrel(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client(KESTREL) as client:
        yield client


@pytest.fixture(scope="module")
def heron(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client(HERON) as client:
        yield client


@pytest.fixture(scope="module")
def council(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client(COUNCIL) as client:
        yield client


@pytest.fixture(scope="module")
async def connection(places: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await connected(places)
    try:
        yield connection
    finally:
        await connection.close()
