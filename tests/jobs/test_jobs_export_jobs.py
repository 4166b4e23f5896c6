"""Exports that run for their callers: whose they are, and what becomes of them when somebody dies or stops."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.issue import FhirError
from fhirgw.jobs.export_jobs import AT_ONCE, ExportJobs
from fhirgw.store.database import Engine, connect
from fhirgw.store.export import Selection
from fhirgw.store.export_job import Job
from tests.put import connected, put

ALL = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
PATIENT = {"resourceType": "Patient", "id": "p1"}
DEAD, LIVING = "d" * 32, "e" * 32


async def ended(jobs: ExportJobs, id: str, permit: Permit = ALL) -> Job:
    for _ in range(500):
        job = await jobs.status(permit, id)
        if job.state != "running":
            return job
        await asyncio.sleep(0.02)
    pytest.fail("the export did not end")


async def absent(jobs: ExportJobs, permit: Permit, id: str) -> bool:
    try:
        await jobs.status(permit, id)
    except FhirError as error:
        return error.status == 404
    return False


async def test_what_is_done_stays_when_the_process_is_another(engine: Engine, database: str, tmp_path: Path) -> None:
    await put(database, PATIENT)
    async with ExportJobs(engine, tmp_path) as jobs:
        id = await jobs.kick_off(ALL, Selection(), "request")
        assert (await ended(jobs, id)).state == "done"
    async with ExportJobs(engine, tmp_path) as others:
        path, sha256 = await others.file(ALL, id, "Patient.ndjson")
        assert (path.read_bytes().count(b"\n"), len(sha256)) == (1, 64)


async def test_a_job_is_there_for_those_who_may_read_what_is_in_it(
    engine: Engine, database: str, tmp_path: Path
) -> None:
    await put(database, PATIENT)
    async with ExportJobs(engine, tmp_path) as jobs:
        id = await jobs.kick_off(ALL, Selection(), "request")
        await ended(jobs, id)
        assert not await absent(jobs, ALL, id)
        assert await absent(jobs, Permit("Y88", "direct-care", ALL.scopes), id)
        assert await absent(jobs, Permit("Z99", "direct-care", (Scope.parse("system/Task.rs"),)), id)


async def test_a_type_that_may_not_be_read_is_refused_at_once(engine: Engine, tmp_path: Path) -> None:
    tasks = Permit("Z99", "direct-care", (Scope.parse("system/Task.rs"),))
    async with ExportJobs(engine, tmp_path) as jobs:
        with pytest.raises(FhirError, match="No scope of this token allows read on Patient"):
            await jobs.kick_off(tasks, Selection(("Patient",)), "request")
        assert (await ended(jobs, await jobs.kick_off(tasks, Selection(("Task",)), "request"), tasks)).state == "done"


async def test_more_than_a_few_at_once_are_told_to_wait(engine: Engine, tmp_path: Path) -> None:
    async with ExportJobs(engine, tmp_path) as jobs:
        ids = [await jobs.kick_off(ALL, Selection(), "request") for _ in range(AT_ONCE)]
        with pytest.raises(FhirError, match="exports are running here") as raised:
            await jobs.kick_off(ALL, Selection(), "request")
        assert raised.value.status == 429
        for id in ids:
            await ended(jobs, id)
        await asyncio.sleep(0.1)
        await ended(jobs, await jobs.kick_off(ALL, Selection(), "request"))


async def test_stopping_the_gateway_ends_its_exports(engine: Engine, tmp_path: Path) -> None:
    async with ExportJobs(engine, tmp_path) as jobs:
        id = await jobs.kick_off(ALL, Selection(), "request")
    async with ExportJobs(engine, tmp_path) as others:
        job = await others.status(ALL, id)
    assert job.state == "failed"
    assert "The gateway was stopped while it was exporting" in job.result["issue"][0]["diagnostics"]


async def test_the_job_of_a_process_that_died_is_found(engine: Engine, database: str, tmp_path: Path) -> None:
    """A job says it is running, and nobody holds its lock: what a `kill -9` leaves."""
    insert = "INSERT INTO fhirgw.export_job (id, permit, types, request) VALUES ($1, $2, '{}', '')"
    dead, living = await connected(database), await connected(database)
    for id, connection in ((DEAD, dead), (LIVING, living)):
        await connection.execute("SELECT pg_advisory_lock(hashtextextended('fhirgw export ' || $1, 0))", id)
        await connection.execute(insert, id, json.dumps(asdict(ALL)))
    (tmp_path / DEAD / ".unfinished").mkdir(parents=True)
    async with ExportJobs(engine, tmp_path) as jobs:
        assert (await jobs.status(ALL, DEAD)).state == "running"
        await dead.close()
        job = await ended(jobs, DEAD)
        assert "ask for the export again" in job.result["issue"][0]["diagnostics"]
        assert not (tmp_path / DEAD).exists()
        assert (await jobs.status(ALL, LIVING)).state == "running"
    await living.close()
    async with ExportJobs(engine, tmp_path) as jobs:
        assert (await jobs.status(ALL, LIVING)).state == "failed"


@pytest.mark.parametrize("id", ["", "\0", "dead", "../x", "D" * 32, "d" * 33, "d" * 32 + "\n"])
async def test_what_can_be_no_job_is_absent(engine: Engine, tmp_path: Path, id: str) -> None:
    async with ExportJobs(engine, tmp_path) as jobs:
        assert await absent(jobs, ALL, id)


async def test_another_process_cancels_it(engine: Engine, database: str, tmp_path: Path) -> None:
    await put(database, *({"resourceType": "Goal", "id": f"g{n}"} for n in range(10)))
    elsewhere = connect(database)
    async with ExportJobs(engine, tmp_path) as jobs, ExportJobs(elsewhere, tmp_path) as others:
        id = await jobs.kick_off(ALL, Selection(), "request")
        await others.cancel(ALL, id)
        assert await absent(jobs, ALL, id)
        assert await absent(others, ALL, id)
    await elsewhere.dispose()
    assert not (tmp_path / id / "manifest.json").exists()


async def test_a_folder_that_cannot_be_written_is_told(engine: Engine, database: str, tmp_path: Path) -> None:
    await put(database, PATIENT)
    (tmp_path / "exports").write_text("in the way")
    async with ExportJobs(engine, tmp_path / "exports") as jobs:
        job = await ended(jobs, await jobs.kick_off(ALL, Selection(), "request"))
    assert job.state == "failed"
    assert "cannot write the export: its operators" in job.result["issue"][0]["diagnostics"]
