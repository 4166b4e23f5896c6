"""Whatever is killed, and whenever: an export is byte for byte that of its snapshot, nothing lost, nothing twice.

What came out is judged by the files and the database alone, against what was put in; never by what a process says.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from fhirgw.access.permit import Permit, operations
from fhirgw.access.scope import Scope
from fhirgw.fhir.canonical import encode
from fhirgw.jobs.export_jobs import ExportJobs
from fhirgw.jobs.failpoint import PLACES
from fhirgw.jobs.parts import run_part
from fhirgw.jobs.place import Places, places
from fhirgw.jobs.work import Worker
from fhirgw.store import export_job, ledger
from fhirgw.store.database import Engine, connect, direct
from fhirgw.store.export import Selection
from fhirgw.store.export_job import Job
from fhirgw.store.lease import ATTEMPTS
from fhirgw.store.ledger import Made
from fhirgw.store.migrate import migrate
from fhirgw.store.server import running
from tests.conftest import NewDatabase, temporary
from tests.jobs.working import LEASE, PATIENCE, nobody, process, stopped, until
from tests.journeys.command import alive
from tests.put import connected, put, stamped, supersede
from tests.s3 import S3, Asked, serving_s3

Resource = dict[str, Any]
ALL = operations("Z99")
ALL_SYSTEM = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
LATER = datetime(2026, 2, 3, tzinfo=UTC)
NOTE = "What was seen and said at the visit, at some length. " * 12


def made() -> list[Resource]:
    people = [{"resourceType": "Patient", "id": f"p{n}"} for n in range(40)]
    goals: list[Resource] = [
        {"resourceType": "Goal", "id": str(uuid4()), "subject": {"reference": f"Patient/p{n % 40}"}, "text": NOTE}
        for n in range(300)
    ]
    return [*people, *goals]


@dataclass
class Store:
    """A database with resources in it, and the lines that an export of them has, by type."""

    url: str
    engine: Engine
    resources: list[Resource]

    @property
    def expected(self) -> dict[str, list[bytes]]:
        """The oracle: what was put in, in the order of ids."""
        ordered = sorted(self.resources, key=lambda each: each["id"])
        return {
            kind: [encode(stamped(each)) for each in ordered if each["resourceType"] == kind]
            for kind in ("Goal", "Patient")
        }

    async def planned(self, folder: Path, form: Selection | None = None) -> str:
        """A job whose parts wait."""
        id, worker = uuid4().hex, Worker(self.engine, folder, LEASE)
        async with direct(self.engine) as connection:
            await export_job.accept(connection, id, ALL, form or Selection(part=60_000), "test")
            part, job = await ledger.claim(connection, id, "test"), await export_job.find(connection, id)
        assert part and job
        await run_part(self.engine, worker.place(job), job, part)
        return id

    async def twin(self, id: str) -> str:
        """Another job of the same snapshot and parts, none of them done."""
        other = uuid4().hex
        connection = await connected(self.url)
        for table, key in (("export_job", "id"), ("export_part", "job")):
            rows = await connection.fetch(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = 'fhirgw' AND table_name = $1",
                table,
            )
            columns = ", ".join(row[0] for row in rows if row[0] != key)
            await connection.execute(
                f"INSERT INTO fhirgw.{table} ({key}, {columns})"
                f" SELECT $1, {columns} FROM fhirgw.{table} WHERE {key} = $2",
                other,
                id,
            )
        await connection.close()
        return other

    async def disturbed(self) -> None:
        """Some resources changed and some deleted, some new: as life goes on while an export runs."""
        goals = [each for each in self.resources if each["resourceType"] == "Goal"]
        for each in goals[:30]:
            await supersede(self.url, each, {**each, "text": "Otherwise"}, 2, LATER)
        for each in goals[30:60]:
            await supersede(self.url, each, None, 2, LATER)
        await put(self.url, *({"resourceType": "Goal", "id": str(uuid4())} for _ in range(10)), updated=LATER)

    async def job(self, id: str) -> Job:
        async with direct(self.engine) as connection:
            job = await export_job.find(connection, id)
        assert job
        return job

    async def ledger(self, id: str) -> list[Any]:
        async with direct(self.engine) as connection:
            return await ledger.parts(connection, id)

    async def done(self, folder: Path | Places, id: str) -> None:
        """Does what is left, in this process."""
        worker = Worker(self.engine, folder, LEASE)
        for _ in range(2400):
            await worker.sweep()
            await worker.help(id, nobody)
            if (await self.job(id)).state != "running":
                return
            await asyncio.sleep(0.05)
        pytest.fail("the export did not end")

    async def files(self, folder: Path | S3, id: str) -> dict[str, list[bytes]]:
        """What the manifest names, by type, if it says the truth of it and nothing else is there."""
        result = (await self.job(id)).result
        found: dict[str, list[bytes]] = {}
        kept = _kept(folder, id)
        for each in result["output"]:
            data = kept[each["key"]]
            assert (len(data), hashlib.sha256(data).hexdigest()) == (each["bytes"], each["sha256"])
            assert data.count(b"\n") == each["count"]
            found.setdefault(each["type"], []).append(data)
        assert await self.tidied(folder, id)
        return found

    async def tidied(self, folder: Path | S3, id: str) -> bool:
        """Whether nothing is left of attempts that came to nothing: the manifest comes first."""
        return _names(folder, id) <= {each["key"] for each in await self.ledger(id)}

    async def whole(self, folder: Path | S3, id: str) -> None:
        """That the export is what was put in: no line lost, none twice, in order, whatever has happened since."""
        assert (await self.job(id)).state == "done"
        found = await self.files(folder, id)
        assert {kind: b"".join(data).splitlines() for kind, data in found.items()} == self.expected


def _names(place: Path | S3, id: str) -> set[str]:
    return place.names(id) if isinstance(place, S3) else {path.name for path in (place / id).iterdir()}


def _kept(place: Path | S3, id: str) -> dict[str, bytes]:
    """The files of a job, by their names."""
    if isinstance(place, S3):
        return place.files(id)
    return {path.name: path.read_bytes() for path in (place / id).iterdir()}


@pytest.fixture(scope="module")
async def store(new_database: NewDatabase) -> AsyncIterator[Store]:
    async with new_database() as url:
        engine = connect(url)
        resources = made()
        await put(url, *resources)
        yield Store(url, engine, resources)
        await engine.dispose()


@pytest.fixture(scope="module")
async def lively(
    new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Store, str]]:
    """A store that changed after a job was planned, which is still to be done."""
    async with new_database() as url:
        engine = connect(url)
        store = Store(url, engine, made())
        await put(url, *store.resources)
        id = await store.planned(tmp_path_factory.mktemp("planned"))
        await store.disturbed()
        yield store, id
        await engine.dispose()


async def test_undisturbed(store: Store, tmp_path: Path) -> None:
    id = await store.planned(tmp_path)
    await store.done(tmp_path, id)
    await store.whole(tmp_path, id)
    assert len(await store.ledger(id)) > 6


async def test_a_part_is_the_same_whenever_it_is_read(store: Store, lively: tuple[Store, str], tmp_path: Path) -> None:
    changed, id = lively
    other = await changed.twin(id)
    await changed.done(tmp_path, other)
    await changed.whole(tmp_path, other)
    again = await changed.twin(id)
    await changed.done(tmp_path, again)
    assert await changed.files(tmp_path, other) == await changed.files(tmp_path, again)


OF_PLANS = [each for each in PLACES if each.startswith("plan")]
OF_PARTS = [each for each in PLACES if each not in OF_PLANS]


@pytest.mark.parametrize("place", [*OF_PARTS, *(f"{each}:3" for each in OF_PARTS if "manifest" not in each)])
async def test_killed_anywhere_it_is_the_same(lively: tuple[Store, str], tmp_path: Path, place: str) -> None:
    store, planned = lively
    id = await store.twin(planned)
    await killed(store, tmp_path, place, id)
    await store.done(tmp_path, id)
    await store.whole(tmp_path, id)


@pytest.mark.parametrize("place", ["after claim", *OF_PLANS])
async def test_killed_while_planning(store: Store, tmp_path: Path, place: str) -> None:
    id = uuid4().hex
    async with direct(store.engine) as connection:
        await export_job.accept(connection, id, ALL, Selection(part=60_000), "test")
    await killed(store, tmp_path, place, id)
    await store.done(tmp_path, id)
    await store.whole(tmp_path, id)


async def killed(store: Store, folder: Path, place: str, id: str, s3: S3 | None = None) -> None:
    with process(store.url, folder, place, id, store=s3) as worker:
        await asyncio.to_thread(worker.join, 30)
        assert worker.exitcode == -signal.SIGKILL


async def test_killed_at_any_moment(lively: tuple[Store, str], tmp_path: Path) -> None:
    store, planned = lively
    moments = random.Random(20261122)
    for _ in range(3):
        id = await store.twin(planned)
        for _ in range(2):  # a part that takes all its attempts with it has failed, as it should
            with process(store.url, tmp_path, job=id), process(store.url, tmp_path, job=id):
                await asyncio.sleep(moments.uniform(0.02, 0.2))
        await store.done(tmp_path, id)
        await store.whole(tmp_path, id)


@pytest.mark.parametrize("place", ["first bytes", "file written", "before finish"])
async def test_who_was_given_up_for_dead_is_refused(lively: tuple[Store, str], tmp_path: Path, place: str) -> None:
    store, planned = lively
    id = await store.twin(planned)
    with process(store.url, tmp_path, f"{place}:2:SIGSTOP", id) as zombie:
        await asyncio.to_thread(until, lambda: stopped(zombie))
        await store.done(tmp_path, id)
        await store.whole(tmp_path, id)
        before = [dict(each) for each in await store.ledger(id)]
        assert zombie.pid
        os.kill(zombie.pid, signal.SIGCONT)
        await asyncio.to_thread(zombie.join, 30)
        assert zombie.exitcode == 0
    assert [dict(each) for each in await store.ledger(id)] == before
    assert max(each["attempts"] for each in before) == 2
    await store.whole(tmp_path, id)


async def test_a_finish_with_an_old_token_counts_for_nothing(store: Store, tmp_path: Path) -> None:
    id = await store.planned(tmp_path)
    async with direct(store.engine) as connection:
        old = await ledger.claim(connection, id, "one", -LEASE)
        assert old
        await ledger.sweep(connection)
        new = await ledger.claim(connection, id, "two")
        while new and new.number != old.number:
            new = await ledger.claim(connection, id, "two")
        assert new and (new.token, new.attempts) == (old.token + 1, old.attempts + 1)
        forged = Made("forged", 1, 1, "0")
        assert not await ledger.renew(connection, old, 1, 1)
        assert not await ledger.finish(connection, old, forged)
        await ledger.fail(connection, old, "forged", again=False)
        await ledger.release(connection, old)
        (held,) = [each for each in await ledger.parts(connection, id) if each["number"] == old.number]
        assert (held["state"], held["key"], held["reason"]) == ("running", None, held["reason"])
        assert held["reason"] != "forged"
        assert await ledger.renew(connection, new, 1, 1)
        assert await ledger.finish(connection, new, forged)


async def test_a_finish_that_nobody_heard_of_counts(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database commits and goes away before it has said so: what it named has to be there."""
    id = await store.planned(tmp_path)
    finish, lost = ledger.finish, iter([True])

    async def unheard(*given: Any) -> bool:
        told = await finish(*given)
        if next(lost, False):
            raise asyncpg.ConnectionDoesNotExistError("it went away")
        return told

    monkeypatch.setattr(ledger, "finish", unheard)
    await store.done(tmp_path, id)
    await store.whole(tmp_path, id)
    assert {each["attempts"] for each in await store.ledger(id)} == {1}
    assert next(lost, None) is None


async def test_two_workers_share_one_job(lively: tuple[Store, str], tmp_path: Path) -> None:
    store, planned = lively
    id = await store.twin(planned)
    patient = timedelta(seconds=PATIENCE)
    with process(store.url, tmp_path, "first bytes:2:SIGSTOP", id, lease=patient) as one:
        await asyncio.to_thread(until, lambda: stopped(one))  # with a part of its own, and most are left
        with process(store.url, tmp_path, job=id, lease=patient) as two:
            for _ in range(12_000):
                if (await store.job(id)).done >= 3:
                    break
                await asyncio.sleep(0.01)
            assert one.pid
            os.kill(one.pid, signal.SIGCONT)
            for each in (one, two):
                await asyncio.to_thread(each.join, PATIENCE)
                assert each.exitcode == 0
    await store.whole(tmp_path, id)
    async with direct(store.engine) as connection:
        workers = await connection.fetch(
            "SELECT worker, max(attempts) FROM fhirgw.export_part WHERE job = $1 AND kind = 'output' GROUP BY worker",
            id,
        )
    assert [each[1] for each in workers] == [1, 1]


async def test_a_part_that_kills_its_workers_fails_with_its_reason(store: Store, tmp_path: Path) -> None:
    id = await store.planned(tmp_path)
    for _ in range(ATTEMPTS):
        await killed(store, tmp_path, "first bytes", id)
        await asyncio.sleep(LEASE.total_seconds())
        async with direct(store.engine) as connection:
            await ledger.sweep(connection)
            await connection.execute(  # the others do not wait, so that it is this one's turn
                "UPDATE fhirgw.export_part SET attempts = 2 WHERE job = $1 AND state = 'waiting' AND number > 1", id
            )
    await store.done(tmp_path, id)
    job = await store.job(id)
    assert job.state == "failed"
    (reason,) = {each["diagnostics"] for each in job.result["issue"]}
    assert "was begun 3 times, and each time its worker stopped without a word" in reason
    async with direct(store.engine) as connection:
        assert await ledger.resume(connection, id)
        await connection.execute("UPDATE fhirgw.export_part SET attempts = 0 WHERE job = $1 AND state = 'waiting'", id)
    await store.done(tmp_path, id)
    await store.whole(tmp_path, id)


async def test_a_disk_that_is_full_leaves_nothing_half_written(store: Store, tmp_path: Path) -> None:
    id = await store.planned(tmp_path)
    with process(store.url, tmp_path, job=id, most=8192) as worker:  # a file-size limit, which write() tells as well
        await asyncio.to_thread(worker.join, 30)
        assert worker.exitcode == 0
    job = await store.job(id)
    assert (job.state, job.done) == ("failed", 0)
    assert {each["diagnostics"] for each in job.result["issue"]} == {
        "The gateway cannot write the export: its operators have to make room"
    }
    assert not list((tmp_path / id).iterdir())
    async with direct(store.engine) as connection:
        assert await ledger.resume(connection, id)
        assert not await ledger.resume(connection, id)
    await store.done(tmp_path, id)
    await store.whole(tmp_path, id)


async def test_a_job_that_is_cancelled_stops_its_worker(store: Store, tmp_path: Path) -> None:
    id = await store.planned(tmp_path)
    with process(store.url, tmp_path, "file written:1:SIGSTOP", id) as worker:
        await asyncio.to_thread(until, lambda: stopped(worker))
        async with direct(store.engine) as connection:
            assert await export_job.end(connection, id, "cancelled")
        assert worker.pid
        os.kill(worker.pid, signal.SIGCONT)
        await asyncio.to_thread(worker.join, 30)
        assert worker.exitcode == 0
    assert not list((tmp_path / id).iterdir())
    assert (await store.job(id)).done == 0


async def test_the_part_of_a_worker_that_is_asked_to_stop_goes_back(store: Store, tmp_path: Path) -> None:
    id = await store.planned(tmp_path)
    async with direct(store.engine) as connection:
        part, job = await ledger.claim(connection, id, "test"), await export_job.find(connection, id)
        assert part and job
        worker = Worker(store.engine, tmp_path, LEASE)
        working = asyncio.create_task(worker.attempt(job, part))
        await asyncio.sleep(0)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await working
        (given,) = [each for each in await ledger.parts(connection, id) if each["number"] == part.number]
    assert (given["state"], given["attempts"]) == ("waiting", 0)
    await store.done(tmp_path, id)
    await store.whole(tmp_path, id)


async def test_who_is_asked_to_stop_while_claiming_keeps_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger has given the part out, and the worker does not know of it yet."""
    id, claimed, told = await store.planned(tmp_path), asyncio.Event(), asyncio.Event()
    claim = ledger.claim

    async def slowly(*asked: Any) -> Any:
        part = await claim(*asked)
        claimed.set()
        await told.wait()
        return part

    monkeypatch.setattr(ledger, "claim", slowly)
    working = asyncio.create_task(Worker(store.engine, tmp_path, 30 * LEASE).help(id, nobody))
    await claimed.wait()
    assert [each["state"] for each in await store.ledger(id)].count("running") == 1
    working.cancel()
    await asyncio.sleep(0)
    told.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert {(each["state"], each["attempts"]) for each in await store.ledger(id)} == {("done", 1), ("waiting", 0)}
    assert [each["state"] for each in await store.ledger(id)].count("done") == 1  # the plan


async def test_postgresql_is_killed(tmp_path: Path) -> None:
    with temporary() as folder, running(folder) as url, ExitStack() as running_again:
        engine = connect(url)
        await migrate(engine)
        store = Store(url, engine, made())
        await put(url, *store.resources)
        id = await store.planned(tmp_path)
        with process(url, tmp_path, "first bytes:3:SIGSTOP", id) as worker:
            await asyncio.to_thread(until, lambda: stopped(worker))
            server = int((folder / "cluster" / "postmaster.pid").read_text().splitlines()[0])
            os.kill(server, signal.SIGKILL)
            await asyncio.to_thread(until, lambda: not alive(server))
            running_again.enter_context(running(folder))
            assert worker.pid
            os.kill(worker.pid, signal.SIGCONT)
            await engine.dispose()  # its connections are gone
            await store.done(tmp_path, id)
        await store.whole(tmp_path, id)
        await engine.dispose()


async def test_what_a_killed_worker_was_asked_is_asked_again(store: Store, tmp_path: Path) -> None:
    """Procrastinate leaves its job `doing` for ever: another process sweeps, and its worker takes it over."""
    async with ExportJobs(store.engine, tmp_path, working=False, part=60_000, lease=LEASE) as jobs:
        with process(store.url, tmp_path, "first bytes:2") as killed:
            id = await jobs.kick_off(ALL_SYSTEM, Selection(), "test")
            await asyncio.to_thread(killed.join, PATIENCE)
            assert killed.exitcode == -signal.SIGKILL
        with process(store.url, tmp_path):
            for _ in range(6000):
                if (await store.job(id)).state != "running" and await store.tidied(tmp_path, id):
                    break
                await asyncio.sleep(0.02)
        await store.whole(tmp_path, id)
        assert max(each["attempts"] for each in await store.ledger(id)) == 2


async def test_deleting_waits_for_no_worker(store: Store, tmp_path: Path) -> None:
    async with ExportJobs(store.engine, tmp_path, working=False, part=60_000) as jobs:
        with process(store.url, tmp_path, "file written:1:SIGSTOP") as worker:
            id = await jobs.kick_off(ALL_SYSTEM, Selection(), "test")
            await asyncio.to_thread(until, lambda: stopped(worker))
            await jobs.cancel(ALL_SYSTEM, id)
            assert stopped(worker)
            assert worker.pid
            os.kill(worker.pid, signal.SIGCONT)
            for _ in range(6000):
                await jobs.look()
                if not (tmp_path / id).exists():
                    break
                await asyncio.sleep(0.02)
        assert not (tmp_path / id).exists()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with serving_s3() as server, pytest.MonkeyPatch.context() as environment:
        for name, value in server.environment.items():
            environment.setenv(name, value)
        yield server


@pytest.mark.parametrize("place", ["first bytes", "file kept:2", "before manifest", "after manifest"])
async def test_killed_anywhere_it_is_the_same_in_an_object_store(
    lively: tuple[Store, str], tmp_path: Path, s3: S3, place: str
) -> None:
    store, planned = lively
    id = await store.twin(planned)
    await killed(store, tmp_path, place, id, s3)
    await store.done(places(tmp_path, s3.url), id)
    await store.whole(s3, id)
    assert not [path for path in (tmp_path / "scratch").rglob("*") if path.is_file() and path.suffix != ".lock"]


async def test_killed_while_it_uploads_it_is_the_same(lively: tuple[Store, str], tmp_path: Path, s3: S3) -> None:
    store, planned = lively
    id = await store.twin(planned)
    s3.asked.clear()
    killed = threading.Event()

    def hold(asked: Asked) -> float:
        killed.wait(PATIENCE if asked.upload and len(s3.asked) >= 3 else 0)  # several parts are uploaded at once
        return 0

    s3.pause = hold
    with process(store.url, tmp_path, job=id, store=s3) as worker:
        await asyncio.to_thread(until, lambda: len(s3.asked) >= 3)
        assert worker.pid
        os.kill(worker.pid, signal.SIGKILL)
    killed.set()
    assert s3.unfinished() == 0
    s3.calm()
    await store.done(places(tmp_path, s3.url), id)
    await store.whole(s3, id)
    assert max(each["attempts"] for each in await store.ledger(id)) == 2


async def test_who_was_given_up_for_dead_uploads_for_nobody(lively: tuple[Store, str], tmp_path: Path, s3: S3) -> None:
    store, planned = lively
    s3.calm()
    id = await store.twin(planned)
    with process(store.url, tmp_path, "file written:2:SIGSTOP", id, store=s3) as zombie:
        await asyncio.to_thread(until, lambda: stopped(zombie))
        await store.done(places(tmp_path, s3.url), id)
        await store.whole(s3, id)
        assert zombie.pid
        os.kill(zombie.pid, signal.SIGCONT)
        await asyncio.to_thread(zombie.join, 30)
        assert zombie.exitcode == 0
    await store.whole(s3, id)
