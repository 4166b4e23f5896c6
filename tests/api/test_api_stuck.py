"""A job that goes nowhere says why within a minute: nobody works on it, or its end cannot be written."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhirgw.api.bulk import ENDING
from fhirgw.api.patience import Standstill
from fhirgw.jobs.import_work import Importer
from fhirgw.jobs.sources import Sources
from fhirgw.settings import Settings
from fhirgw.store import ledger
from fhirgw.store.database import connect
from tests.api.test_api_import import kick_off
from tests.api.writing import COUNCIL, PEOPLE
from tests.conftest import NewDatabase
from tests.gateway import Gateway, serving
from tests.put import connected, put

LONG = "UPDATE fhirgw.{} SET created = created - interval '1 minute'"


@pytest.fixture(scope="module")
async def database(new_database: NewDatabase) -> Any:
    async with new_database() as url:
        await put(url, *PEOPLE)
        yield url


@pytest.fixture(scope="module")
def gateway(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One that does no work itself, and there are no workers."""
    data = tmp_path_factory.mktemp("data")
    given = Settings(database_url=database, data=data, controller="Z99", worker_in_serve=False, import_folder=data)
    with serving(given) as made:
        yield made


def told(client: httpx.Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 202
    return answer.headers["x-progress"]


async def changed(url: str, query: str) -> None:
    connection = await connected(url)
    await connection.execute(query)
    await connection.close()


async def test_an_export_that_nobody_works_on(gateway: Gateway, database: str) -> None:
    asked = gateway.http.get("/fhir/$export", headers={"prefer": "respond-async"})
    address = asked.headers["content-location"]
    assert told(gateway.http, address) == "0 resources, 0.0 MB"
    await changed(database, LONG.format("export_job"))
    assert told(gateway.http, address) == "0 resources, 0.0 MB; no worker is at it"


async def test_a_part_whose_worker_gives_no_sign_of_life(gateway: Gateway, database: str) -> None:
    asked = gateway.http.get("/fhir/$export", headers={"prefer": "respond-async"})
    address = asked.headers["content-location"]
    connection = await connected(database)
    part = await ledger.claim(connection, address.rpartition("/")[2], "elsewhere:7", timedelta(seconds=29))
    await connection.close()
    assert part is not None
    assert told(gateway.http, address) == "0 resources, 0.0 MB"
    await changed(database, "UPDATE fhirgw.export_part SET lease = lease - interval '20 s' WHERE lease IS NOT NULL")
    assert re.fullmatch(r"0 resources, 0.0 MB; its worker is silent: another in \d s", told(gateway.http, address))


async def test_a_part_whose_worker_lives_and_gets_nothing(
    gateway: Gateway, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await changed(database, "DELETE FROM fhirgw.export_job")  # those above are as many as one application has at once
    asked = gateway.http.get("/fhir/$export", headers={"prefer": "respond-async"})
    address = asked.headers["content-location"]
    connection = await connected(database)
    part = await ledger.claim(connection, address.rpartition("/")[2], "elsewhere:7", timedelta(seconds=300))
    assert part is not None
    assert told(gateway.http, address) == "0 resources, 0.0 MB"
    monkeypatch.setattr("fhirgw.api.bulk.STANDING", 1)
    await asyncio.sleep(1.1)
    assert re.fullmatch(r"0 resources, 0.0 MB; nothing has come for \d s", told(gateway.http, address))
    await ledger.renew(connection, part, 7, 100, lease=timedelta(seconds=300))
    await connection.close()
    assert told(gateway.http, address) == "7 resources, 0.0 MB"


def test_standing_still_is_counted_from_the_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("fhirgw.api.patience.time.monotonic", lambda: now)
    standstill = Standstill(kept=1)
    assert standstill.seconds("a", 1) == 0
    now += 30
    assert [standstill.seconds("a", far) for far in (1, 2, 2)] == [30, 0, 0]
    now += 5
    assert standstill.seconds("a", 2) == 5
    standstill.seconds("b", 1)  # and "a" is forgotten
    assert standstill.seconds("a", 2) == 0


@asynccontextmanager
async def importing(gateway: Gateway, folder: Path | None) -> AsyncIterator[Importer]:
    """Who works on imports of the gateway, and may read that folder."""
    engine = connect(str(gateway.settings.database_url))
    yield Importer(engine, gateway.settings.import_spool, Sources.of(folder, "", 1), 1 << 20)
    await engine.dispose()


async def nothing() -> None:
    """Nobody else is asked to help."""


async def test_an_import_that_nobody_works_on_or_that_cannot_end(gateway: Gateway, database: str) -> None:
    folder: Path = gateway.settings.data
    (folder / "in.ndjson").write_text("")
    with gateway.client(COUNCIL) as client:
        asked = kick_off(client, ("Patient", f"file://{folder}/in.ndjson"), inputSource="https://meadow.example")
        address = asked.headers["content-location"]
        assert told(client, address) == "0 of 1 inputs, 0 lines, 0 refused"
        await changed(database, LONG.format("import_job"))
        assert told(client, address).endswith("; no worker that can read it is at it")
        id = address.rpartition("/")[2]
        async with importing(gateway, None) as blind:
            assert (await blind.help(id, nothing), await blind.running()) == (False, [])
        assert told(client, address) == "0 of 1 inputs, 0 lines, 0 refused; no worker that can read it is at it"
        async with importing(gateway, folder) as seeing:
            assert await seeing.running() == [id]
        spool = gateway.settings.import_spool / address.rpartition("/")[2]
        spool.parent.mkdir(parents=True)
        spool.touch()  # a file where its folder is to be
        await changed(database, "UPDATE fhirgw.import_input SET state = 'done'")
        await asyncio.sleep(1)
        assert told(client, address).endswith(ENDING)
        spool.unlink()
        deadline = time.monotonic() + 120
        while client.get(address).status_code != 200:
            assert time.monotonic() < deadline, "it did not end"
            await asyncio.sleep(1)
