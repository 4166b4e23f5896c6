"""A full export that begins from the one before is the export that would have been made without it, whatever happened.

The law is judged against exports that know of no parts and begin from nothing; and that what did not change was not
read again by the ledger, and by the files themselves: one file under two names.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from fhirgw.access.label import RELATED_PATIENT
from fhirgw.access.permit import Permit, operations
from fhirgw.access.scope import Scope
from fhirgw.fhir.nhs import NHS_NUMBER
from fhirgw.jobs.export_folder import export
from fhirgw.jobs.export_jobs import ExportJobs
from fhirgw.jobs.parts import run_part
from fhirgw.jobs.place import Folder
from fhirgw.jobs.segments import FOLDER
from fhirgw.jobs.withdrawal import withdraw
from fhirgw.jobs.work import Worker
from fhirgw.store import export_job, ledger, registration
from fhirgw.store.database import Engine, connect, direct
from fhirgw.store.export import Selection
from fhirgw.store.export_job import Job
from fhirgw.store.registration import Registration
from tests.access_policy.people import consent, provision, security
from tests.conftest import NewDatabase
from tests.jobs.working import LEASE, nobody, process
from tests.put import connected, put, supersede

Resource = dict[str, Any]
Lines = dict[str, list[bytes]]

SCOPES = (Scope.parse("system/*.rs"),)
VIEWS = {
    "operations": operations("Z99"),
    "council": Permit("Z99", "direct-care", SCOPES, registration="council", parties=("Organization/z99",)),
    "practice": Permit("Y1", "direct-care", SCOPES, registration="gp", parties=("Organization/gp",)),
    "research": Permit("Z99", "research", SCOPES, registration="lab", agreement="A1"),
}
PART = 60_000
NOTE = "What was seen and said at the visit, at some length. " * 12


def now() -> datetime:
    return datetime.now(UTC)


class Town:
    """People and what is written of them, in a database and here."""

    def __init__(self, url: str, engine: Engine, seed: int = 1) -> None:
        self.url, self.engine, self.rng = url, engine, random.Random(seed)
        self.held: dict[tuple[str, str], tuple[Resource, int]] = {}
        self.folder = Path()

    def id(self) -> str:
        return str(UUID(int=self.rng.getrandbits(128)))

    async def put(self, *resources: Resource) -> None:
        await put(self.url, *resources, updated=now())
        self.held |= {(each["resourceType"], each["id"]): (each, 1) for each in resources}

    async def change(self, old: Resource, new: Resource | None) -> None:
        key = old["resourceType"], old["id"]
        _, version = self.held.pop(key)
        await supersede(self.url, old, new, version + 1, now())
        if new is not None:
            self.held[key] = new, version + 1

    async def execute(self, sql: str, *values: Any) -> None:
        connection = await connected(self.url)
        await connection.execute(sql, *values)
        await connection.close()

    async def fetch(self, sql: str, *values: Any) -> list[Any]:
        connection = await connected(self.url)
        found = await connection.fetch(sql, *values)
        await connection.close()
        return list(found)

    def of(self, kind: str) -> list[Resource]:
        return [each for (one, _), (each, _) in sorted(self.held.items()) if one == kind]

    def one(self, kind: str) -> Resource:
        return self.rng.choice(self.of(kind))

    async def settle(self, people: int = 30, goals: int = 300) -> None:
        patients = [
            {"resourceType": "Patient", "id": self.id(), "generalPractitioner": [{"reference": "Organization/gp"}]}
            for _ in range(people)
        ]
        ids = [each["id"] for each in patients]
        await self.put(
            *patients,
            *(self.goal(ids[at % people]) for at in range(goals)),
            *(self.carer(one, self.rng.choice(ids)) for one in ids[:10]),
            *({"resourceType": "Organization", "id": self.id(), "name": f"O{at}"} for at in range(3)),
        )
        numbers = [f"99900{at:05}" for at in range(people)]
        rows = "SELECT $1, number, id, 'test', 'stated' FROM unnest($2::text[], $3::text[]) AS p (number, id)"
        await self.execute(
            f"INSERT INTO fhirgw.identifier (system, value, patient, origin, sure) {rows}", NHS_NUMBER, numbers, ids
        )

    def goal(self, patient: str) -> Resource:
        return {
            "resourceType": "Goal",
            "id": self.id(),
            "subject": {"reference": f"Patient/{patient}"},
            "text": {"status": "generated", "div": NOTE},
        }

    def carer(self, patient: str, carer: str) -> Resource:
        """A related person who is somebody in their own right: what is kept of the one is kept of the other."""
        also = {"url": RELATED_PATIENT, "valueReference": {"reference": f"Patient/{carer}"}}
        patient_of = {"reference": f"Patient/{patient}"}
        return {"resourceType": "RelatedPerson", "id": self.id(), "patient": patient_of, "extension": [also]}

    async def job(self, permit: Permit, **asked: Any) -> Job:
        """An export that is done."""
        id = await self.begun(permit, **asked)
        return await self.done(id)

    async def planned(self, permit: Permit, **asked: Any) -> str:
        """An export whose parts wait."""
        id, worker = await self.begun(permit, **asked), Worker(self.engine, self.folder, LEASE)
        async with direct(self.engine) as connection:
            part, job = await ledger.claim(connection, id, "test"), await export_job.find(connection, id)
        assert part and job
        await run_part(self.engine, worker.place(job), job, part)
        return id

    async def anew_in_parts(self, id: str) -> Job:
        """The other oracle: an export of the same snapshot and parts, with nothing to begin from."""
        other = uuid4().hex
        for table, key, less in (("export_job", "id", ()), ("export_part", "job", ("base", "segment"))):
            rows = await self.fetch(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = 'fhirgw' AND table_name = $1",
                table,
            )
            columns = ", ".join(row[0] for row in rows if row[0] not in (key, *less))
            copied = f"SELECT $1, {columns} FROM fhirgw.{table} WHERE {key} = $2"
            await self.execute(f"INSERT INTO fhirgw.{table} ({key}, {columns}) {copied}", other, id)
        undone = "state = 'waiting', token = 0, rows = 0, reused = 0, key = NULL, sha256 = NULL"
        await self.execute(f"UPDATE fhirgw.export_part SET {undone} WHERE job = $1 AND kind <> 'plan'", other)
        return await self.done(other)

    async def begun(self, permit: Permit, **asked: Any) -> str:
        id = uuid4().hex
        async with direct(self.engine) as connection:
            await export_job.accept(connection, id, permit, Selection(**({"part": PART} | asked)), "test")
        return id

    async def done(self, id: str) -> Job:
        worker = Worker(self.engine, self.folder, LEASE)
        for _ in range(2400):
            await worker.sweep()
            await worker.help(id, nobody)
            async with direct(self.engine) as connection:
                job = await export_job.find(connection, id)
            assert job
            if job.state != "running":
                assert job.state == "done", job.result
                return job
            await asyncio.sleep(0.05)
        pytest.fail("the export did not end")

    def files(self, job: Job) -> list[bytes]:
        """What is in its files, one by one, as they are kept."""
        return [(self.folder / job.id / each["key"]).read_bytes() for each in job.result["output"]]

    def lines(self, job: Job) -> Lines:
        """What is in its files, if its manifest tells the truth of them."""
        found: dict[str, list[bytes]] = {}
        for each in job.result["output"]:
            data = (self.folder / job.id / each["key"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (each["bytes"], each["sha256"])
            assert data.count(b"\n") == each["count"]
            found.setdefault(each["type"], []).extend(data.splitlines())
        return {kind: sorted(every) for kind, every in found.items()}

    async def anew(self, permit: Permit) -> Lines:
        """The oracle: all of it read from the database, into a folder of its own, which begins from nothing."""
        made = await export(self.engine, permit, Selection(), self.folder / "oracle", request="oracle")
        found: dict[str, list[bytes]] = {}
        for each in made.manifest["output"]:
            data = (self.folder / "oracle" / each["url"]).read_bytes()
            found.setdefault(each["type"], []).extend(data.splitlines())
        return {kind: sorted(every) for kind, every in found.items()}


@pytest.fixture
async def town(new_database: NewDatabase, tmp_path: Path) -> AsyncIterator[Town]:
    async with new_database() as url:
        engine = connect(url)
        made = Town(url, engine)
        made.folder = tmp_path
        await made.settle()
        yield made
        await engine.dispose()


async def test_nothing_has_changed_and_nothing_is_read_again(town: Town) -> None:
    first = await town.job(VIEWS["practice"])
    again = await town.job(VIEWS["practice"])
    assert (first.reused, again.reused) == (0, again.rows)
    assert again.parts > 6
    told = [[{k: v for k, v in each.items() if k != "key"} for each in job.result["output"]] for job in (first, again)]
    assert told[0] == told[1]
    for one, other in zip(first.result["output"], again.result["output"], strict=True):
        assert (town.folder / first.id / one["key"]).samefile(town.folder / again.id / other["key"])


def _same(old: Resource, **elements: Any) -> Resource:
    return {**old, **elements}


async def _changed(town: Town) -> None:
    for kind in ("Goal", "Patient", "Organization"):
        old = town.one(kind)
        await town.change(old, _same(old, language=town.rng.choice(["en", "cy", "fr"])))


async def _deleted(town: Town) -> None:
    for kind in ("Goal", "RelatedPerson", "Patient"):
        await town.change(town.one(kind), None)


async def _created(town: Town) -> None:
    person = {"resourceType": "Patient", "id": town.id(), "generalPractitioner": [{"reference": "Organization/gp"}]}
    await town.put(person, *(town.goal(person["id"]) for _ in range(3)), {"resourceType": "Flag", "id": town.id()})


async def _labelled(town: Town) -> None:
    """Restricted, sealed, or neither any more; and of a row's own."""
    for label in ("R", "V", "N"):
        old = town.one("Patient")
        await town.change(old, _same(old, **security(label)))
    old = town.one("Goal")
    await town.change(old, _same(old, **security(town.rng.choice(["safeguarding", "N"]))))


async def _left(town: Town) -> None:
    """Another practice's from now on; or this one's again."""
    old = town.one("Patient")
    practice = town.rng.choice(["gp", "elsewhere"])
    await town.change(old, _same(old, generalPractitioner=[{"reference": f"Organization/{practice}"}]))


async def _dissented(town: Town) -> None:
    """Somebody dissents, somebody does not any more."""
    if old := town.of("Consent"):
        await town.change(old[0], None)
    ids = [each["id"] for each in town.of("Patient")]
    await town.put(*(consent(id, uuid4().hex[:6], provision("deny")) for id in town.rng.sample(ids, 2)))


async def _opted_out(town: Town) -> None:
    await town.execute("DELETE FROM fhirgw.opt_out WHERE nhs_number = (SELECT min(nhs_number) FROM fhirgw.opt_out)")
    chosen = town.one("Patient")["id"], town.one("Patient")["id"]
    listed = "SELECT value FROM fhirgw.identifier WHERE patient = ANY ($1)"
    await town.execute(f"INSERT INTO fhirgw.opt_out {listed} ON CONFLICT DO NOTHING", chosen)
    await town.execute("DELETE FROM fhirgw.identifier WHERE patient = $1", town.one("Patient")["id"])


CHANGES = [_changed, _deleted, _created, _labelled, _left, _dissented, _opted_out]


async def test_whatever_changes_it_is_what_all_of_it_read_anew_would_be(town: Town) -> None:
    """Of every view, after some of every kind of change; and the next begins from what was itself begun so."""
    views = [each for name, each in VIEWS.items() if name != "operations"]
    seen = [town.lines(await town.job(permit)) for permit in views]
    reused = differed = 0
    order = town.rng.sample(CHANGES, len(CHANGES))
    for at in range(0, len(order), 3):
        changes = order[at : at + 3]
        for change in changes:
            await change(town)
        for number, permit in enumerate(views):
            job = await town.job(permit)
            found = town.lines(job)
            assert found == await town.anew(permit), (permit.registration, order[: at + 3])
            differed += found != seen[number]
            seen[number] = found
            reused += job.reused
    assert differed >= 2 * 3  # what changes matters to each of them
    assert reused > 1000


TURNING = {
    "a dissent begins": "INSERT INTO fhirgw.directive (person, effect, starts, weight, decided, type, id)"
    " VALUES ($1, 'deny', $2, 5, 'person', 'Consent', 'timed')",
    "a dissent ends": "INSERT INTO fhirgw.directive (person, effect, ends, weight, decided, type, id)"
    " VALUES ($1, 'deny', $2, 5, 'person', 'Consent', 'timed')",
    "a relationship ends": "UPDATE fhirgw.relationship SET ends = $2 WHERE person = $1",
    "a relationship begins": "UPDATE fhirgw.relationship SET starts = $2 WHERE person = $1",
}


async def test_what_begins_or_ends_by_its_own_date_is_seen_though_nobody_writes(town: Town) -> None:
    permit, patience = VIEWS["practice"], 1.0
    people = town.rng.sample([each["id"] for each in town.of("Patient")], len(TURNING))
    while True:
        turn = now() + timedelta(seconds=patience)
        for person, sql in zip(people, TURNING.values(), strict=True):
            await town.execute(sql, person, turn)
        before = town.lines(await town.job(permit))
        if now() < turn:
            break
        await town.execute("DELETE FROM fhirgw.directive")
        patience *= 2  # a machine that is busy is no failure
    await asyncio.sleep((turn - now()).total_seconds() + 0.01)
    job = await town.job(permit)
    after = town.lines(job)
    assert after == await town.anew(permit)
    assert job.reused > 0
    for person, there in zip(people, ([True, False], [False, True], [True, False], [False, True]), strict=True):
        assert [any(person.encode() in line for line in each["Patient"]) for each in (before, after)] == there


@pytest.mark.parametrize("asked", [{}, {"gzip": True}, {"elements": ("id", "subject")}], ids=str)
async def test_each_file_is_byte_for_byte_what_its_part_read_anew_is(town: Town, asked: dict[str, Any]) -> None:
    permit = VIEWS["operations"]
    await town.job(permit, **asked)
    for change in (_changed, _deleted, _created):
        await change(town)
    id = await town.planned(permit, **asked)
    anew = await town.anew_in_parts(id)
    job = await town.done(id)
    assert (anew.reused, anew.rows) == (0, job.rows)
    assert 0 < job.reused < job.rows
    assert town.files(job) == town.files(anew)


PLACES = ["plan kept", "first bytes", "before manifest", "after manifest"]


@pytest.mark.parametrize("place", PLACES)
async def test_killed_anywhere_it_is_the_same(town: Town, place: str) -> None:
    permit = VIEWS["operations"]
    await town.job(permit)
    await _changed(town)
    id = await town.begun(permit)
    with process(town.url, town.folder, place, id) as worker:
        await asyncio.to_thread(worker.join, 30)
        assert worker.exitcode == -signal.SIGKILL
    job = await town.done(id)
    assert 0 < job.reused < job.rows
    assert town.lines(job) == await town.anew(permit)
    again = await town.job(permit)
    assert again.reused in (again.rows, job.reused)
    assert town.lines(again) == town.lines(job)


async def test_who_dissents_for_a_moment_only_is_looked_at_again(town: Town) -> None:
    """A rule that was away while a file was read, and is back: both digests are what they were."""
    permit, person = VIEWS["practice"], town.one("Patient")["id"]
    dissent = (
        "INSERT INTO fhirgw.directive (person, effect, weight, decided, type, id)"
        " VALUES ($1, 'deny', 5, 'person', 'Consent', 'c')"
    )
    noted = "INSERT INTO fhirgw.narrowed (person) VALUES ($1)"  # by whatever writes or ends a rule
    await town.execute(dissent, person)
    id = await town.planned(permit)
    await town.execute("DELETE FROM fhirgw.directive")
    await town.execute(noted, person)
    async with direct(town.engine) as connection:
        while part := await ledger.claim(connection, id, "test"):
            job = await export_job.find(connection, id)
            assert job
            await run_part(town.engine, Folder(town.folder / id), job, part)
    assert any(person.encode() in path.read_bytes() for path in (town.folder / id).iterdir())
    await town.execute(dissent, person)
    await town.execute(noted, person)
    hidden = await town.done(id)
    kept = [path for path in (town.folder / FOLDER / id).iterdir() if person.encode() in path.read_bytes()]
    assert kept  # where nobody can fetch it
    for _ in range(2):
        job = await town.job(permit)
        assert town.lines(job) == town.lines(hidden) == await town.anew(permit)
        assert not any(person.encode() in line for line in town.lines(job)["Patient"])
    assert job.reused == job.rows


async def test_a_withdrawal_reaches_the_caller_and_not_the_segments(town: Town) -> None:
    permit, person = VIEWS["practice"], town.one("Patient")["id"]
    await town.job(permit)
    job = await town.job(permit)
    whole = town.lines(job)
    await town.put(consent(person, "c", provision("deny")))
    await town.execute("INSERT INTO fhirgw.narrowed (person) VALUES ($1)", person)
    async with direct(town.engine) as connection:
        assert await withdraw(connection, job, job.result, Folder(town.folder / job.id))
        found = await export_job.find(connection, job.id)
    assert found
    assert town.lines(found) == await town.anew(permit) != whole
    await town.change(town.of("Consent")[0], None)
    again = await town.job(permit)
    assert town.lines(again) == await town.anew(permit) == whole
    assert again.reused == again.rows  # they are seen as they were


async def test_a_base_outlives_its_export_and_goes_when_nothing_begins_from_it(town: Town) -> None:
    permit = VIEWS["practice"]
    async with direct(town.engine) as connection:
        await registration.add(connection, Registration("gp", "Y1", "system/*.rs", jwks={"keys": []}))
    folder = town.folder / FOLDER
    async with ExportJobs(town.engine, town.folder, working=False, part=PART) as jobs:
        first = await town.job(permit)
        await jobs.cancel(permit, first.id)
        assert not (town.folder / first.id).exists()
        await jobs.look()
        assert [path.name for path in folder.iterdir()] == [first.id]
        again = await town.job(permit)
        assert again.reused == again.rows
        assert [path.name for path in folder.iterdir()] == [again.id]
        unfinished = await town.planned(permit)
        await jobs.look()
        assert await town.fetch("SELECT FROM fhirgw.export_base WHERE job = $1", unfinished)
        await jobs.cancel(permit, unfinished)
        await jobs.look()
        assert not await town.fetch("SELECT FROM fhirgw.export_base WHERE job = $1", unfinished)
        await town.execute("UPDATE fhirgw.registration SET active = false")
        await jobs.look()
        assert list(folder.iterdir()) == []


async def test_what_is_wrong_with_a_segment_heals_itself(town: Town) -> None:
    permit = VIEWS["operations"]
    base = await town.job(permit)
    await town.change(old := town.of("Goal")[0], _same(old, language="cy"))
    (damaged, *lost) = sorted((town.folder / FOLDER / base.id).glob("Goal*"))
    damaged.unlink()
    damaged.write_bytes(b'{"resourceType":"Goal","id":"0"}\n')
    lost[0].unlink()
    job = await town.job(permit)
    assert town.lines(job) == await town.anew(permit)
    attempts = await town.fetch("SELECT attempts, reused FROM fhirgw.export_part WHERE job = $1 AND rows > 0", job.id)
    assert (2, 0) in map(tuple, attempts)


OTHERS: dict[str, dict[str, Any]] = {
    "application": {"registration": "other"},
    "parties": {"parties": ("Organization/elsewhere",)},
    "scopes": {"scopes": (Scope.parse("system/Patient.rs"), Scope.parse("system/Goal.rs"))},
    "clearance": {"clearance": 15},
}


async def test_another_view_begins_from_nothing(town: Town) -> None:
    asked = {"types": ("Patient",)}
    await town.job(VIEWS["practice"], **asked)
    for name, elements in OTHERS.items():
        assert (await town.job(replace(VIEWS["practice"], **elements), **asked)).reused == 0, name
    assert (await town.job(VIEWS["practice"], types=("Patient", "Goal"))).reused == 0
    job = await town.job(VIEWS["practice"], **asked)
    assert job.reused == job.rows  # its own is still there


PARTIAL: list[dict[str, Any]] = [
    {"since": datetime(2020, 1, 1, tzinfo=UTC)},
    {"until": datetime(2120, 1, 1, tzinfo=UTC)},
    {"filters": ("Goal?lifecycle-status:missing=true",)},
    {"organized": True},
    {"form": "csv"},
]


async def test_some_exports_neither_begin_from_another_nor_does_another_from_them(town: Town) -> None:
    for asked in PARTIAL:
        for _ in range(2):
            job = await town.job(VIEWS["operations"], types=("Goal", "Patient"), **asked)
            assert (job.reused, job.rows > 0) == (0, True)
    assert not await town.fetch("SELECT FROM fhirgw.export_base")


async def test_of_peoples_records_what_rests_on_other_rows_is_read_anew(town: Town) -> None:
    """Provenance goes with what it is of; lists say whom the caller may see of them."""
    permit = VIEWS["council"]
    goals, people = ([f"{kind}/{each['id']}" for each in town.of(kind)] for kind in ("Goal", "Patient"))
    group = {"resourceType": "Group", "id": town.id(), "type": "person", "actual": True}
    group["member"] = [{"entity": {"reference": each}} for each in people]
    told = [{"resourceType": "Provenance", "id": town.id(), "target": [{"reference": each}]} for each in goals[:9]]
    await town.put(*told, group)
    types = ("Goal", "Group", "Provenance")
    first = await town.job(permit, patients=(), types=types)
    again = await town.job(permit, patients=(), types=types)
    parts = await town.fetch("SELECT type FROM fhirgw.export_part WHERE job = $1 AND rows > reused", again.id)
    assert town.lines(first) == town.lines(again)
    assert again.reused > 0
    assert [row["type"] for row in parts] == ["Provenance"]
    system = await town.job(permit, types=types)
    assert (await town.job(permit, types=types)).reused == system.rows - 1  # but the list
