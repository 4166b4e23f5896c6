"""Whoever is killed, stopped or too late: each line of an import is taken in once, and the ledger says so.

What is there is judged by the database alone, against what the files say; never by what a process says.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.jobs import failpoint, import_work, line, lines, taking
from fhirgw.jobs.import_work import Importer
from fhirgw.jobs.sources import Sources
from fhirgw.store import import_job
from fhirgw.store.database import Engine, connect, direct
from fhirgw.store.import_job import Job
from fhirgw.store.lease import ATTEMPTS
from fhirgw.store.migrate import migrate
from fhirgw.store.server import running
from tests.conftest import temporary
from tests.jobs.working import FORKED, LEASE, nobody, stopped, until
from tests.journeys.command import alive
from tests.put import connected

COUNCIL = Permit(
    "Z99",
    "direct-care",
    (Scope.parse("system/*.cruds"),),
    parties=("https://fhirgw.uk/fhir/CodeSystem/consent-sharing|council",),
    registration="council-system",
)
PATIENCE = timedelta(seconds=120)
NAMES = ("0.ndjson", "1.parquet", "2.ndjson")
PLACES = ("0.ndjson, line 34: ", "1.parquet, row 34: ", "2.ndjson, line 34: ")


@contextmanager
def worker(
    url: str, folder: Path, job: str, fail: str = "", lease: timedelta = LEASE, most: int = 0
) -> Iterator[BaseProcess]:
    """A worker on one import while the block runs, in transactions of twenty lines; `fail`: where it dies.

    `most`: bytes of the largest file it may write.
    """
    made = FORKED.Process(target=_work, args=(url, str(folder), job, fail, lease, most))
    made.start()
    try:
        yield made
    finally:
        if made.is_alive() and made.pid:
            os.kill(made.pid, signal.SIGKILL)
        made.join(120)


def _work(url: str, folder: str, job: str, fail: str, lease: timedelta, most: int) -> None:
    lines.LINES, taking.GROUP = 10, 2
    failpoint.arm(fail)
    if most:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    asyncio.run(_until_done(url, Path(folder), job, lease))


async def _until_done(url: str, folder: Path, job: str, lease: timedelta) -> None:
    engine = connect(url)
    importer = made(engine, folder, lease)
    try:
        while job in await importer.running():
            await importer.sweep()
            await importer.help(job, nobody)
            await asyncio.sleep(0.05)
    finally:
        await engine.dispose()


def made(engine: Engine, folder: Path, lease: timedelta = LEASE) -> Importer:
    return Importer(engine, folder / "spool", Sources.of(folder, "", 1), 1_000_000, lease)


class Import:
    """Three files of flags, the second Parquet, about people who come last, with a faulty line in each."""

    def __init__(self, folder: Path, url: str, engine: Engine) -> None:
        self.folder, self.url, self.engine, self.id = folder, url, engine, uuid4().hex
        self.ids = [[f"f{file}-{n:03}" for n in range(70)] for file in range(3)]
        self.people = [{"resourceType": "Patient", "id": f"p{n}"} for n in range(5)]
        for number, ids in enumerate(self.ids):
            texts = [json.dumps(self.flag(id)) for id in ids]
            texts.insert(33, '{"resourceType":"Flag","id":"faulty"}')
            if number == 1:
                pq.write_table(pa.table({"resource": texts}), folder / NAMES[number], row_group_size=32)
            else:
                (folder / NAMES[number]).write_text("\n".join(texts))
        (folder / "p.ndjson").write_text("\n".join(map(json.dumps, self.people)))

    @staticmethod
    def flag(id: str) -> dict[str, Any]:
        subject = {"reference": f"Patient/p{int(id[-3:]) % 5}"}
        return {"resourceType": "Flag", "id": id, "status": "active", "code": {"text": "x"}, "subject": subject}

    async def accept(self) -> None:
        inputs = [(f"file://{self.folder}/{name}", "Flag") for name in NAMES]
        inputs.append((f"file://{self.folder}/p.ndjson", "Patient"))
        async with direct(self.engine) as connection, connection.transaction():
            await import_job.accept(connection, self.id, COUNCIL, "app:council", "test", inputs)

    async def ask(self, query: str) -> list[Any]:
        connection = await connected(self.url)
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    async def job(self) -> Job:
        async with direct(self.engine) as connection:
            found = await import_job.find(connection, self.id)
        assert found
        return found

    async def check(self) -> None:
        """All of it, once; and of each input what came of it, with the faulty line told."""
        flags = sorted(id for ids in self.ids for id in ids)
        query = "SELECT id, version FROM fhirgw.resource WHERE type = '{}' ORDER BY id"
        assert await self.ask(query.format("Flag")) == [(id, 1) for id in flags]
        assert await self.ask(query.format("Patient")) == [(each["id"], 1) for each in self.people]
        assert await self.ask("SELECT count(*) FROM fhirgw.change") == [(215,)]
        assert await self.ask("SELECT count(*) FROM fhirgw.history") == [(0,)]
        job = await self.job()
        names = ("created", "updated", "unchanged", "refused", "nowhere", "failure")
        assert (job.state, [tuple(each[name] for name in names) for each in job.result["output"]]) == (
            "done",
            [*[(70, 0, 0, 1, 0, None)] * 3, (5, 0, 0, 0, 0, None)],
        )
        told = [path.read_text() for path in sorted((self.folder / "spool" / self.id).glob("errors-*.ndjson"))]
        assert len(told) == 3
        assert all(where in text for text, where in zip(told, PLACES, strict=True))
        assert [len(text.splitlines()) for text in told] == [each["count"] for each in job.result["error"]]


@pytest.fixture
async def asked(tmp_path: Path, database: str, engine: Engine) -> Import:
    found = Import(tmp_path, database, engine)
    await found.accept()
    return found


async def ended(asked: Import) -> None:
    deadline = time.monotonic() + 120
    while (await asked.job()).state == "running":
        assert time.monotonic() < deadline, "the import did not end"
        await asyncio.sleep(0.05)


async def test_workers_are_killed_and_another_goes_on(asked: Import) -> None:
    """The first within its third transaction of twenty lines, the second, at the next input, just after its second."""
    for number, fail in enumerate(("lines taken:3", "group kept:2"), 1):
        with worker(asked.url, asked.folder, asked.id, fail) as killed:
            await asyncio.to_thread(until, lambda made=killed: not made.is_alive())
            assert killed.exitcode == -signal.SIGKILL
        query = "SELECT line, created, refused FROM fhirgw.import_input ORDER BY number LIMIT {}"
        assert await asked.ask(query.format(number)) == [(41, 39, 1)] * number
        assert await asked.ask("SELECT count(*) FROM fhirgw.resource") == [(39 * number,)]
    with worker(asked.url, asked.folder, asked.id):
        await ended(asked)
    await asked.check()


async def test_who_was_given_up_for_dead_takes_in_nothing(asked: Import) -> None:
    """A zombie: stopped within a transaction until its lease has run out, and woken when another is done."""
    with worker(asked.url, asked.folder, asked.id, "lines taken:2:SIGSTOP") as zombie:
        await asyncio.to_thread(until, lambda: stopped(zombie))
        # What it wrote and did not commit is locked: another can go on when the server has ended its session.
        await asked.ask(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND state = 'idle in transaction'"
        )
        with worker(asked.url, asked.folder, asked.id):
            await ended(asked)
        await asked.check()
        assert zombie.pid
        os.kill(zombie.pid, signal.SIGCONT)
        await asyncio.to_thread(until, lambda: not zombie.is_alive())
    await asked.check()


async def test_two_workers_share_an_import(asked: Import) -> None:
    """Each has inputs of its own: the first stands still at its first one until the second has done another."""
    with worker(asked.url, asked.folder, asked.id, "group kept:1:SIGSTOP", PATIENCE) as one:
        await asyncio.to_thread(until, lambda: stopped(one))
        with worker(asked.url, asked.folder, asked.id, "", PATIENCE):
            for _ in range(6000):
                if await asked.ask("SELECT 1 FROM fhirgw.import_input WHERE state = 'done' LIMIT 1") == [(1,)]:
                    break
                await asyncio.sleep(0.02)
            assert one.pid
            os.kill(one.pid, signal.SIGCONT)
            await ended(asked)
    await asked.check()
    workers = await asked.ask("SELECT worker, max(attempts) FROM fhirgw.import_input GROUP BY worker")
    assert [attempts for _, attempts in workers] == [1, 1]


async def test_workers_are_killed_at_any_moment(asked: Import) -> None:
    moments = random.Random(20261122)
    for _ in range(2):  # an input that takes all its attempts with it has failed, as it should
        with worker(asked.url, asked.folder, asked.id), worker(asked.url, asked.folder, asked.id):
            await asyncio.sleep(moments.uniform(0.05, 0.3))
    with worker(asked.url, asked.folder, asked.id):
        await ended(asked)
    await asked.check()


async def test_a_disk_that_is_full_keeps_an_import_from_its_end_alone(asked: Import) -> None:
    """All is taken in; what was wrong cannot be told. It ends when there is room, and no half of a file is left."""
    with worker(asked.url, asked.folder, asked.id, most=64):
        for _ in range(6000):
            if await asked.ask("SELECT count(*) FROM fhirgw.import_input WHERE state = 'done'") == [(4,)]:
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)  # it tries to end it, again and again
        assert (await asked.job()).state == "running"
    assert not [each for each in asked.folder.glob("spool/*/*") if not each.name.endswith(".input")]
    with worker(asked.url, asked.folder, asked.id):
        await ended(asked)
    await asked.check()


async def test_postgresql_is_killed_while_lines_are_taken_in(tmp_path: Path) -> None:
    with temporary() as folder, running(folder) as url, ExitStack() as again:
        engine = connect(url)
        await migrate(engine)
        asked = Import(tmp_path, url, engine)
        await asked.accept()
        with worker(url, tmp_path, asked.id, "lines taken:2:SIGSTOP") as busy:
            await asyncio.to_thread(until, lambda: stopped(busy))
            server = int((folder / "cluster" / "postmaster.pid").read_text().splitlines()[0])
            os.kill(server, signal.SIGKILL)
            await asyncio.to_thread(until, lambda: not alive(server))
            again.enter_context(running(folder))
            await engine.dispose()  # its connections are gone
            assert busy.pid
            os.kill(busy.pid, signal.SIGCONT)
            with worker(url, tmp_path, asked.id):
                await ended(asked)
        await asked.check()
        await engine.dispose()


async def test_the_lines_of_a_large_input_are_judged_by_processes_of_their_own(
    asked: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes of them is the same; the few people are judged here."""
    pools: list[type] = []

    @contextmanager
    def told(processes: int) -> Iterator[Executor]:
        with line.judges(processes) as pool:
            pools.append(type(pool))
            yield pool

    monkeypatch.setattr(import_work, "judges", told)
    monkeypatch.setattr(line, "LARGE", 1000)
    monkeypatch.setattr(line, "MOST", 1)
    await made(asked.engine, asked.folder).help(asked.id, nobody)
    assert pools == [ProcessPoolExecutor] * 3 + [ThreadPoolExecutor]
    await asked.check()


async def test_an_import_that_is_cancelled_stops_and_what_is_in_stays(asked: Import) -> None:
    with worker(asked.url, asked.folder, asked.id, "group kept:1:SIGSTOP", PATIENCE) as busy:
        await asyncio.to_thread(until, lambda: stopped(busy))
        async with direct(asked.engine) as connection:
            assert await import_job.finish(connection, asked.id, "cancelled")
        assert busy.pid
        os.kill(busy.pid, signal.SIGCONT)
        await asyncio.to_thread(until, lambda: not busy.is_alive())
    assert await asked.ask("SELECT count(*) FROM fhirgw.resource") == [(20,)]


async def test_an_input_that_takes_its_workers_with_it_fails_with_a_reason(asked: Import) -> None:
    for _ in range(ATTEMPTS):
        with worker(asked.url, asked.folder, asked.id, "lines taken", timedelta(milliseconds=100)) as doomed:
            await asyncio.to_thread(until, lambda made=doomed: not made.is_alive())
        await asyncio.sleep(0.15)
    async with direct(asked.engine) as connection:
        await import_job.sweep(connection)
    rows = await asked.ask("SELECT number, state, attempts, reason FROM fhirgw.import_input ORDER BY number")
    assert sum(attempts for _, _, attempts, _ in rows) == ATTEMPTS
    await asked.ask(
        f"UPDATE fhirgw.import_input SET attempts = {ATTEMPTS}, lease = now(), state = 'running' WHERE number = 1"
    )
    importer = made(asked.engine, asked.folder)
    while (await asked.job()).state == "running":
        await importer.sweep()
        await importer.help(asked.id, nobody)
    output = (await asked.job()).result["output"]
    assert output[0]["failure"] == "It was begun 3 times at line 1, and each time its worker stopped without a word"
    assert [each["created"] for each in output] == [0, 70, 70, 5]
    (told,) = (asked.folder / "spool" / asked.id / "errors-1.ndjson").read_text().splitlines()
    assert "0.ndjson, line 1: It was begun 3 times" in told
