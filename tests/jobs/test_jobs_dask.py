"""Exports and imports moved by a real Dask cluster: a scheduler and workers as processes, which are killed.

What came out is judged as in test_jobs_crash: by files and database, against what was put in.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from fhirgw.fhir.issue import FhirError
from fhirgw.jobs import cluster as clusters
from fhirgw.jobs import engine as moving
from fhirgw.jobs.cluster import Cluster, reachable
from fhirgw.jobs.engine import EXPORTS, IMPORTS, Queue
from fhirgw.jobs.import_work import Importer
from fhirgw.jobs.sources import Sources
from fhirgw.jobs.work import Worker
from fhirgw.store import import_job, ledger
from fhirgw.store.database import connect, direct
from tests.conftest import NewDatabase
from tests.jobs.test_jobs_crash import Store, made
from tests.jobs.test_jobs_import_crash import COUNCIL
from tests.jobs.working import LEASE, stopped, until
from tests.put import put

PROGRAM = "import sys; {}\nfrom distributed.cli.dask_{} import main; main()"
BARE = "sys.modules['fhirgw'] = None"
"""What keeps a program from our code, as a machine does that has none of it."""


@dataclass
class Dask:
    """A cluster on this machine: `port` is its scheduler's, free until that is started."""

    store: Store
    folder: Path
    port: int = 0
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def exports(self) -> Path:
        return self.folder / "exports"

    @property
    def at(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def scheduler(self) -> subprocess.Popen[bytes]:
        """Starts it, where there is no fhirgw; nothing is left of the last one."""
        self.end()
        return self._start("scheduler", "--host", "127.0.0.1", "--port", str(self.port))

    @contextmanager
    def worker(self, fail: str = "", lease: int = 1) -> Iterator[subprocess.Popen[bytes]]:
        """A worker of Dask's while the block runs, as k8s/README.md says; `fail`: where it dies."""
        given = ("--nthreads", "1", "--no-nanny", "--local-directory", str(self.folder))
        ours = ("--resources", "fhirgw=1", "--preload", "fhirgw.jobs.cluster_work")
        running = self._start("worker", self.at, *given, *ours, FHIRGW_FAILPOINT=fail, FHIRGW_LEASE_SECONDS=str(lease))
        try:
            yield running
        finally:
            running.kill()
            running.wait(120)

    def _start(self, what: str, *arguments: str, **environment: str) -> subprocess.Popen[bytes]:
        settings = {
            "FHIRGW_DATABASE_URL": self.store.url,
            "FHIRGW_DATA": str(self.folder),
            "FHIRGW_IMPORT_FOLDER": str(self.folder),
        }
        with (self.folder / f"{what}.log").open("ab") as told:
            running = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    PROGRAM.format(BARE if what == "scheduler" else "", what),
                    *arguments,
                    "--no-dashboard",
                ],
                env=os.environ | settings | environment,
                cwd=self.folder,
                stdout=told,
                stderr=told,
            )
        self.started.append(running)
        return running

    def end(self) -> None:
        for each in self.started:
            each.kill()
            each.wait(120)

    async def until(self, query: str, id: str) -> None:
        """Waits for the database to say yes of a job."""
        async with direct(self.store.engine) as connection:
            for _ in range(3000):
                if await connection.fetchval(query, id):
                    return
                await asyncio.sleep(0.02)
        pytest.fail(f"{query}: {(self.folder / 'worker.log').read_text()[-3000:]}")

    async def done(self, id: str) -> None:
        await self.until("SELECT state <> 'running' FROM fhirgw.export_job WHERE id = $1", id)


@pytest.fixture(scope="module")
async def dask(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Dask]:
    async with new_database() as url, AsyncExitStack() as owned:
        engine = connect(url)
        owned.push_async_callback(engine.dispose)
        store = Store(url, engine, made())
        await put(url, *store.resources)
        found = Dask(store, tmp_path_factory.mktemp("dask"))
        owned.callback(found.end)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            found.port = free.getsockname()[1]
        yield found


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "SWEPT", 0.3)
    monkeypatch.setattr(clusters, "PATIENCE", 1)


async def test_one_worker_of_two_is_killed_and_the_bytes_are_those_of_procrastinate(
    dask: Dask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for when there is no scheduler yet. Both workers stop in the middle of a part; one of them for ever."""
    store, folder = dask.store, dask.exports
    usual = await store.planned(folder)
    await store.disturbed()
    async with Queue(store.url, Worker(store.engine, folder, LEASE)).opened() as queue, queue.working():
        await queue.ask(usual)
        await dask.done(usual)
    id = await undone(store, usual)
    with pytest.raises(FhirError) as away:
        await reachable(f"dask://127.0.0.1:{dask.port}")
    assert "FHIRGW_EXECUTOR" in str(away.value) and "dask scheduler" in str(away.value)
    async with Cluster(dask.at, Worker(store.engine, folder, LEASE), EXPORTS).opened() as cluster:
        with capture_logs() as told:
            await cluster.ask(id)
        assert [each["event"] for each in told] == ["Dask not told"]
        dask.scheduler()
        with dask.worker("first bytes:3:SIGSTOP") as killed, dask.worker("first bytes:1:SIGSTOP") as lives:
            await asyncio.to_thread(until, lambda: stopped(killed) and stopped(lives))
            assert (await store.job(id)).state == "running"
            killed.kill()
            lives.send_signal(signal.SIGCONT)
            await dask.done(id)
            assert (killed.wait(120), lives.poll()) == (-signal.SIGKILL, None)
    monkeypatch.setattr(clusters, "PATIENCE", 30)
    await reachable(f"dask://127.0.0.1:{dask.port}")
    await store.whole(folder, id)
    assert await store.files(folder, id) == await store.files(folder, usual)
    assert max(each["attempts"] for each in await store.ledger(id)) == 2


async def undone(store: Store, id: str) -> str:
    """Another job of the same snapshot and parts, none of them done."""
    other = await store.twin(id)
    async with direct(store.engine) as connection:
        await connection.execute(
            "UPDATE fhirgw.export_part SET state = 'waiting', attempts = 0, key = NULL, rows = 0, bytes = 0,"
            " sha256 = NULL WHERE job = $1 AND kind <> 'plan'",
            other,
        )
        await connection.execute("UPDATE fhirgw.export_job SET state = 'running', result = NULL WHERE id = $1", other)
    return other


async def test_the_scheduler_is_killed_and_a_worker_told_to_stop(dask: Dask) -> None:
    """An import is asked for when no worker takes it; then the scheduler dies with what it was told, and another comes.

    A worker that is told to stop in the middle of a part gives it back at once, as if it had never been begun.
    """
    store, folder, id = dask.store, dask.folder, uuid4().hex
    (folder / "people.ndjson").write_text('{"resourceType":"Patient","id":"a"}\n{"resourceType":"Patient","id":"b"}\n')
    async with direct(store.engine) as connection, connection.transaction():
        inputs = [(f"file://{folder}/people.ndjson", "Patient")]
        await import_job.accept(connection, id, COUNCIL, "app:council", "test", inputs)
    importer = Importer(store.engine, dask.exports / "imports", Sources.of(folder, "", 1), 1_000_000, LEASE)
    first = dask.scheduler()
    with capture_logs() as told:
        async with Cluster(dask.at, importer, IMPORTS).opened() as cluster:
            await cluster.ask(id)
            await heard(told, "no Dask worker takes it")
            first.kill()
            first.wait(120)
            await heard(told, "Dask not told")
            dask.scheduler()
            with dask.worker(lease=60) as worker:
                await dask.until("SELECT state = 'done' FROM fhirgw.import_job WHERE id = $1", id)
                await stopped_in_a_part(dask, worker)
    async with direct(store.engine) as connection:
        (taken,) = await import_job.inputs(connection, id)
        assert (taken["created"], taken["refused"], taken["attempts"]) == (2, 0, 1)


HELD = "SELECT EXISTS (SELECT FROM fhirgw.export_part WHERE job = $1 AND state = 'running')"


async def stopped_in_a_part(dask: Dask, worker: subprocess.Popen[bytes]) -> None:
    """Nobody can read resources while the test holds the table: so the worker is in the middle of a part for long."""
    store = dask.store
    id = await store.planned(dask.exports)
    exports = Cluster(dask.at, Worker(store.engine, dask.exports, LEASE), EXPORTS).opened()
    async with exports as cluster, direct(store.engine) as connection, connection.transaction():
        await connection.execute("LOCK TABLE fhirgw.resource IN ACCESS EXCLUSIVE MODE")
        await cluster.ask(id)
        await dask.until(f"{HELD} AND EXISTS (SELECT FROM pg_locks WHERE NOT granted)", id)
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 30) == 0
        parts = await ledger.parts(connection, id)
    assert {(each["state"], each["attempts"]) for each in parts if each["kind"] != "plan"} == {("waiting", 0)}


async def heard(told: list[Any], event: str) -> None:
    """Waits until the log has said so."""
    for _ in range(3000):
        if any(each["event"] == event for each in told):
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"never said: {event}")
