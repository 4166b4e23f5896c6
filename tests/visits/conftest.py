"""The county with its gateway, for each module of tests that asks: what differs is a fixture of the module's own."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import httpx
import pytest

from fhirgw.fhir.issue import Resource
from fhirgw.settings import Settings
from tests.conftest import NewDatabase
from tests.gateway import Gateway, serving
from tests.put import connected, put
from tests.visits.visiting import COUNCIL, HERON, KESTREL, county


@pytest.fixture(scope="module")
def besides() -> tuple[Resource, ...]:
    """What else is known in the county."""
    return ()


@pytest.fixture(scope="module")
def configured() -> dict[str, Any]:
    """Settings of the gateway that are not as usual."""
    return {}


@pytest.fixture(scope="module")
async def places(new_database: NewDatabase, besides: tuple[Resource, ...]) -> AsyncIterator[str]:
    async with new_database() as url:
        await county(url)
        await put(url, *besides)
        yield url


@pytest.fixture(scope="module")
def gateway(places: str, configured: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    data = tmp_path_factory.mktemp("data")
    with serving(Settings(database_url=places, data=data, controller="Z99", **configured)) as gateway:
        yield gateway


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
