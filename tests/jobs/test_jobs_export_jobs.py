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
from fhirgw.jobs.import_jobs import ImportJobs
from fhirgw.jobs.import_work import Importer
from fhirgw.jobs.sources import Sources
from fhirgw.jobs.work import Worker
from fhirgw.store import import_job
from fhirgw.store.database import Engine, connect, direct
from fhirgw.store.export import Selection
from fhirgw.store.export_job import Job
from tests.put import connected, put

ALL = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
PATIENT = {"resourceType": "Patient", "id": "p1"}
DEAD = "d" * 32


async def ended(jobs: ExportJobs, id: str, permit: Permit = ALL) -> Job:
    for _ in range(6000):
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
        file = await others.file(ALL, id, "Patient.ndjson")
        assert (file.path.read_bytes().count(b"\n"), len(file.sha256), file.type) == (1, 64, "Patient")


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


YESTERDAY = "UPDATE fhirgw.{}_job SET finished = clock_timestamp() - interval '25 hours' WHERE id = $1"


async def test_an_export_that_has_expired_is_gone_while_the_gateway_runs(
    engine: Engine, database: str, tmp_path: Path
) -> None:
    await put(database, PATIENT)
    async with ExportJobs(engine, tmp_path) as jobs:
        old, new = [await jobs.kick_off(ALL, Selection(), "request") for _ in range(2)]
        for id in (old, new):
            await ended(jobs, id)
        async with direct(engine) as connection:
            await connection.execute(YESTERDAY.format("export"), old)
        await jobs.look()
        assert await absent(jobs, ALL, old)
        assert not await absent(jobs, ALL, new)
        assert [(tmp_path / id).is_dir() for id in (old, new)] == [False, True]


async def test_an_import_that_has_expired_is_gone_while_the_gateway_runs(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fhirgw.jobs.import_jobs.LOOKED", 0.02)
    ids = "a" * 32, "b" * 32
    importer = Importer(engine, tmp_path, Sources.of(None, "", 1), 1000)
    async with ImportJobs(importer, working=False), direct(engine) as connection:
        for id in ids:
            (tmp_path / id).mkdir()
            await import_job.accept(connection, id, ALL, "app:x", "request", [])
            await import_job.finish(connection, id, "done", {})
        await connection.execute(YESTERDAY.format("import"), ids[0])
        for _ in range(6000):
            if await import_job.find(connection, ids[0]) is None:  # which it is forgotten last
                break
            await asyncio.sleep(0.02)
        assert [(tmp_path / id).is_dir() for id in ids] == [False, True]
        assert [bool(await import_job.find(connection, id)) for id in ids] == [False, True]


async def test_a_type_that_may_not_be_read_is_refused_at_once(engine: Engine, tmp_path: Path) -> None:
    tasks = Permit("Z99", "direct-care", (Scope.parse("system/Task.rs"),))
    async with ExportJobs(engine, tmp_path) as jobs:
        with pytest.raises(FhirError, match="No scope of this token allows read on Patient"):
            await jobs.kick_off(tasks, Selection(("Patient",)), "request")
        assert (await ended(jobs, await jobs.kick_off(tasks, Selection(("Task",)), "request"), tasks)).state == "done"


async def test_more_than_a_few_at_once_are_told_to_wait(engine: Engine, tmp_path: Path) -> None:
    async with ExportJobs(engine, tmp_path, working=False) as jobs:
        ids = [await jobs.kick_off(ALL, Selection(), "request") for _ in range(AT_ONCE)]
        with pytest.raises(FhirError, match="exports are running here") as raised:
            await jobs.kick_off(ALL, Selection(), "request")
        assert raised.value.status == 429
    async with ExportJobs(engine, tmp_path) as jobs:
        for id in ids:
            await ended(jobs, id)
        await ended(jobs, await jobs.kick_off(ALL, Selection(), "request"))


async def test_of_many_who_ask_at_the_same_time_no_more_are_let_in(engine: Engine, tmp_path: Path) -> None:
    async with ExportJobs(engine, tmp_path, working=False) as jobs, ExportJobs(engine, tmp_path, working=False) as same:
        asked = [each.kick_off(ALL, Selection(), "request") for each in (jobs, same) * 12]
        came = await asyncio.gather(*asked, return_exceptions=True)
        refused = [each for each in came if isinstance(each, FhirError)]
        assert ({each.status for each in refused}, len(refused)) == ({429}, len(asked) - AT_ONCE)
        for id in came:
            if isinstance(id, str):
                await jobs.cancel(ALL, id)


async def test_an_export_goes_on_when_another_process_works(engine: Engine, database: str, tmp_path: Path) -> None:
    await put(database, PATIENT)
    async with ExportJobs(engine, tmp_path, working=False) as jobs:
        id = await jobs.kick_off(ALL, Selection(), "request")
        assert ((await jobs.status(ALL, id)).state, (await jobs.status(ALL, id)).parts) == ("running", 0)
    async with ExportJobs(engine, tmp_path) as others:
        job = await ended(others, id)
    assert (job.state, job.rows, job.parts, job.done) == ("done", 1, 1, 1)


async def test_the_export_of_an_older_version_is_said_to_have_failed(
    engine: Engine, database: str, tmp_path: Path
) -> None:
    """It ran without parts, in a process that is gone."""
    connection = await connected(database)
    insert = "INSERT INTO fhirgw.export_job (id, permit, types, request) VALUES ($1, $2, '{}', '')"
    await connection.execute(insert, DEAD, json.dumps(asdict(ALL)))
    await connection.close()
    await Worker(engine, tmp_path).sweep()
    async with ExportJobs(engine, tmp_path, working=False) as jobs:
        job = await jobs.status(ALL, DEAD)
    assert job.state == "failed"
    assert "ask for the export again" in job.result["issue"][0]["diagnostics"]


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
