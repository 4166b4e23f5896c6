"""No answer leaves before it is on disk, with its row of the audit: one that waits alone, or with others.

Here is a PostgreSQL whose own WAL writer sleeps, and that has no other reason to write: what nobody flushed is not on
disk, and is gone when the server is killed.
"""

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from fhirgw.fhir.canonical import encode
from fhirgw.settings import Settings
from fhirgw.store import audit
from fhirgw.store.audit_chain import verify
from fhirgw.store.database import connect
from fhirgw.store.looked import listed
from fhirgw.store.migrate import migrate
from fhirgw.store.server import SETTINGS, running
from tests.api.writing import COUNCIL, PEOPLE, observation
from tests.conftest import temporary
from tests.gateway import serving
from tests.put import connected, put
from tests.store.test_store_audit import access, request

QUIET = {"wal_writer_delay": "10s", "wal_level": "minimal", "max_wal_senders": "0", "autovacuum": "off"}
BEHIND = "SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn()"
JSON = {"content-type": "application/fhir+json"}


@dataclass(frozen=True)
class Server:
    """A PostgreSQL that can be killed."""

    folder: Path
    url: str

    async def processes(self) -> list[int]:
        """All that it consists of, but for those that come and go."""
        postmaster = int((self.folder / "cluster" / "postmaster.pid").read_text().split()[0])
        connection = await asyncpg.connect(self.url)
        children = await connection.fetch("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        await connection.close()
        return [postmaster, *(each["pid"] for each in children)]

    @staticmethod
    def kill(processes: Iterable[int]) -> None:
        """None of them does anything any more: one that had outlived the postmaster might have flushed."""
        for each in processes:
            with contextlib.suppress(ProcessLookupError):  # it saw that the first was gone
                os.kill(each, signal.SIGKILL)

    async def kept(self) -> list[str]:
        """The requests that the audit has after a restart, the newest first; it is one chain, whatever was lost."""
        with running(self.folder):
            connection = await asyncpg.connect(self.url)
            assert (await verify(connection)).sound
            found = [request(each.body) for each in await listed(connection, count=10_000)]
            await connection.close()
        return found


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Server]:
    with pytest.MonkeyPatch.context() as patch, temporary() as folder:
        for name, value in QUIET.items():
            patch.setitem(SETTINGS, name, value)
        with running(folder) as url:
            engine = connect(url)
            await migrate(engine)
            await engine.dispose()
            await put(url, *PEOPLE)
            yield Server(folder, url)


async def test_a_commit_that_did_not_wait_would_be_lost(server: Server) -> None:
    """Which is what the other test here relies on; and whoever appends waits, whatever their session says."""
    with running(server.folder) as url:
        connection = await asyncpg.connect(url, server_settings={"synchronous_commit": "off"})
        await audit.append(connection, [audit.row(access(1))])
        await connection.execute("CREATE TABLE unheard_of ()")
        assert await connection.fetchval(BEHIND) > 0
        server.kill(await server.processes())
        connection.terminate()
    assert await server.kept() == ["r1"]
    with running(server.folder):
        again = await connected(server.url)
        assert await again.fetchval("SELECT to_regclass('unheard_of')") is None
        await again.close()


def asked(id: str) -> list[tuple[int, str, str, dict[str, Any] | None]]:
    """Reads, searches, refusals and writes, alone, on a condition and in Bundles: status, method, address, body."""
    entry = {"resource": observation(), "request": {"method": "POST", "url": "Observation"}}
    bundle = {"resourceType": "Bundle", "entry": [entry, entry]}
    one = observation() | {"id": id}
    return [
        (200, "GET", "Patient/cared-for", None),
        (404, "GET", "Patient/nobody", None),
        (200, "GET", "Observation?patient=cared-for", None),
        (400, "GET", "Observation?nonsense=1", None),
        (201, "POST", "Observation", observation()),
        (422, "POST", "Observation", observation(status="nonsense")),
        (200, "POST", "", bundle | {"type": "transaction"}),
        (200, "POST", "", bundle | {"type": "batch"}),
        (200, "PUT", f"Observation?_id={id}", one),
        (428, "PUT", f"Observation/{id}", one),
        (204, "DELETE", f"Observation/{id}", None),
    ]


async def test_every_answer_is_on_disk_before_it_leaves(server: Server, tmp_path: Path) -> None:
    """And is there when the server has been killed the moment the last one came."""
    told: list[str] = []
    with running(server.folder) as url:
        watching = await connected(url)
        settings = Settings(database_url=url, data=tmp_path, controller="Z99", worker_in_serve=False)
        with serving(settings) as gateway, gateway.client(COUNCIL) as http:
            id = http.post("/fhir/Observation", content=encode(observation()), headers=JSON).json()["id"]
            for status, method, path, body in asked(id):
                content = encode(body) if body else b""
                response = http.request(method, f"/fhir/{path}".rstrip("/"), content=content, headers=JSON)
                assert await watching.fetchval(BEHIND) == 0, (method, path)
                assert response.status_code == status, response.text
                told.append(response.headers["x-request-id"])
            server.kill(await server.processes())
    assert set(told) <= set(await server.kept())
    with running(server.folder):
        again = await connected(url)
        assert await again.fetchval("SELECT count(*) FROM fhirgw.resource WHERE type = 'Observation'") == 5
        await again.close()
