"""A gateway to subscribe at, whose notifications go out when a test says so; and somebody who receives them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhirgw.api.keys import Keyring
from fhirgw.api.subscribing import permits, signer
from fhirgw.jobs.hook import Reach
from fhirgw.jobs.notify import Notifier
from fhirgw.settings import Settings
from fhirgw.store.audit import Auditor
from fhirgw.store.database import connect
from tests.api.writing import COUNCIL, PEOPLE, PROVIDER
from tests.conftest import NewDatabase
from tests.gateway import Gateway, serving
from tests.put import put
from tests.subscriptions.receiving import Receiver, receiving
from tests.subscriptions.subscribing import World


@pytest.fixture(scope="package")
async def module_database(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        await put(url, *PEOPLE)
        yield url


@pytest.fixture(scope="package")
def gateway(module_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    data: Path = tmp_path_factory.mktemp("data")
    given: dict[str, Any] = {"loopback_hooks": True, "worker_in_serve": False}
    with serving(Settings(database_url=module_database, data=data, controller="Z99", **given)) as gateway:
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
    engine = connect(module_database)
    keyring = Keyring(gateway.settings.key_folder)
    async with Auditor(module_database) as auditor:
        notifier = Notifier(engine, auditor, permits(["Z99"]), signer(keyring), Reach(loopback=True))
        made = World(gateway, module_database, *clients, receiver, notifier)
        try:
            yield made
        finally:
            await made.sql("DELETE FROM fhirgw.subscription")
    await engine.dispose()
