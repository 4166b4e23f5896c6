"""A gateway to subscribe at, whose notifications go out when a test says so; and somebody who receives them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.api.writing import COUNCIL, PEOPLE, PROVIDER
from tests.conftest import NewDatabase
from tests.gateway import Gateway, served
from tests.put import put
from tests.subscriptions.receiving import Receiver, receiving
from tests.subscriptions.subscribing import World
from tests.subscriptions.telling import notifying
from tests.visits.visiting import county


@pytest.fixture(scope="package")
async def module_database(new_database: NewDatabase) -> AsyncIterator[str]:
    """People of whom records are written, and those whom homecare visits are made to."""
    async with new_database() as url:
        await county(url)
        await put(url, *PEOPLE)
        yield url


@pytest.fixture(scope="package")
def gateway(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One for all: whoever listens is of this machine, and nobody is told unless a test says so."""
    data = tmp_path_factory.mktemp("data")
    with served(module_database, data, loopback_hooks=True, worker_in_serve=False) as gateway:
        yield gateway


@pytest.fixture(scope="package")
def clients(gateway: Gateway) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """The council's and a care provider's."""
    with gateway.client(COUNCIL) as council, gateway.client(PROVIDER) as provider:
        yield council, provider


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.fixture
async def world(
    gateway: Gateway, module_database: str, clients: tuple[httpx.Client, httpx.Client], receiver: Receiver
) -> AsyncIterator[World]:
    """What a test of subscriptions needs; its Subscriptions are deleted afterwards."""
    async with notifying(module_database, gateway.settings.key_folder) as notifier:
        made = World(gateway, module_database, *clients, receiver, notifier)
        try:
            yield made
        finally:
            await made.sql("DELETE FROM fhirgw.subscription")
