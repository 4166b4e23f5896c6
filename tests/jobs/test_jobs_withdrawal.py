"""What a finished export loses when a person says so, and what stays hidden of who is gone."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.issue import FhirError
from fhirgw.jobs.export_jobs import ExportJobs
from fhirgw.store import registration, resources
from fhirgw.store.database import connect, direct
from fhirgw.store.export import Selection
from fhirgw.store.export_job import Job
from fhirgw.store.registration import Registration
from tests.jobs.world import World
from tests.put import reading

ALL = Permit("Z9C01", "direct-care", (Scope.parse("system/*.rs"),), registration="ics")
CLEARED = replace(ALL, clearance=15)
CONSENT = """\
table: dissent
key: dissent_id
resource: Consent
person: person_id
constants:
  - {{path: status, value: active}}
  - {{path: scope, value: {{text: Privacy Consent}}}}
  - {{path: category, value: {{text: information access}}}}
  - {{path: provision.type, value: deny}}
fields:
  - {{column: dissent_id, path: "identifier.where(system = 'https://fhirgw.uk/Id/{name}/dissent').value"}}
  - {{column: person_id, path: patient, reference: person}}
"""


@pytest.fixture
async def world(tmp_path: Path, database: str) -> AsyncIterator[World]:
    engine = connect(database)
    made = World(tmp_path, engine, database, more={"dissent": CONSENT})
    made.tables["dissent"] = [["dissent_id", "person_id"]]
    yield made
    await engine.dispose()


async def done(jobs: ExportJobs, id: str) -> Job:
    for _ in range(1000):
        if (job := await jobs.status(ALL, id)).state != "running":
            return job
        await asyncio.sleep(0.02)
    pytest.fail("the export did not end")


async def lines(jobs: ExportJobs, id: str, name: str) -> set[str]:
    """The ids in a file, which is what the job says of it."""
    path, sha256 = await jobs.file(ALL, id, name)
    data = path.read_bytes()
    (told,) = [each for each in (await jobs.status(ALL, id)).result["output"] if each["url"] == name]
    assert (told["count"], told["bytes"]) == (data.count(b"\n"), len(data))
    assert hashlib.sha256(data).hexdigest() == sha256
    return {json.loads(line)["id"] for line in data.splitlines()}


async def test_a_dissent_takes_a_persons_lines_out_of_a_finished_export(world: World, tmp_path: Path) -> None:
    await world.sync()
    ashby, birch, cole = (each["id"] for each in await world.bodies("Patient"))
    async with ExportJobs(world.engine, tmp_path / "exports") as jobs:
        id = await jobs.kick_off(ALL, Selection(), "request")
        await done(jobs, id)
        assert await lines(jobs, id, "Patient.ndjson") == {ashby, birch, cole}
        assert len(await lines(jobs, id, "Flag.ndjson")) == 2
        await jobs.look()  # nothing has changed, and nothing does
        assert await lines(jobs, id, "Patient.ndjson") == {ashby, birch, cole}

        world.tables["dissent"].append(["900", "1"])
        await world.sync()
        await jobs.look()
        assert await lines(jobs, id, "Patient.ndjson") == {birch, cole}
        assert len(await lines(jobs, id, "Flag.ndjson")) == 1
        assert not list((tmp_path / "exports").rglob("*.without"))

        world.tables["dissent"].append(["901", "3"])
        await world.sync()
        await jobs.look()
        assert await lines(jobs, id, "Patient.ndjson") == {birch}
        with pytest.raises(FhirError, match="no such export"):  # a file nothing is left of is no file any more
            await jobs.file(ALL, id, "Flag.ndjson")


async def test_an_application_that_is_stopped_loses_its_exports(world: World, tmp_path: Path) -> None:
    await world.sync()
    async with direct(world.engine) as connection:
        for name in ("ics", "other"):
            await registration.add(connection, Registration(name, "Z9C01", "system/*.rs", jwks={"keys": []}))
    other = replace(ALL, registration="other")
    async with ExportJobs(world.engine, tmp_path / "exports") as jobs:
        id, theirs = await jobs.kick_off(ALL, Selection(), "r"), await jobs.kick_off(other, Selection(), "r")
        await done(jobs, id)
        await asyncio.sleep(0.3)
        async with direct(world.engine) as connection:
            await registration.activate(connection, "ics", False)
        await jobs.look()
        with pytest.raises(FhirError, match="no such export"):
            await jobs.status(ALL, id)
        assert not (tmp_path / "exports" / id).exists()
        assert (await jobs.status(other, theirs)).state == "done"
        with pytest.raises(FhirError, match="no such export"):
            await jobs.status(ALL, theirs)


@pytest.mark.parametrize("purpose", ["emergency", "safeguarding"])
async def test_nothing_is_exported_in_an_emergency(world: World, tmp_path: Path, purpose: str) -> None:
    asked = replace(ALL, purpose=purpose, practitioner="w", patient="p", grant="g", case="c")
    async with ExportJobs(world.engine, tmp_path / "exports") as jobs:
        with pytest.raises(FhirError, match="Nothing is exported"):
            await jobs.kick_off(asked, Selection(), "request")


@pytest.mark.parametrize("dissents", [True, False])
async def test_the_history_of_who_dissented_stays_hidden_when_they_are_gone(world: World, dissents: bool) -> None:
    """What said so is gone with them: the tombstone remembers."""
    if dissents:
        world.tables["dissent"].append(["900", "1"])
    await world.sync()
    ashby, *_ = await world.bodies("Patient")
    flag, _ = await world.bodies("Flag")
    world.tables["person"].pop(1)
    world.tables["alert"].pop(1)
    del world.tables["dissent"][1:]
    await world.sync(force=True)
    async with reading(world.url) as pool, pool.acquire() as connection:
        for kind, id in (("Patient", ashby["id"]), ("Flag", flag["id"])):
            seen = await resources.past(connection, ALL, kind, id)
            assert len(seen) == (0 if dissents else 2)
            assert len(await resources.past(connection, CLEARED, kind, id)) == 2
