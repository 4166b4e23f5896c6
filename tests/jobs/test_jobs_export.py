"""Exports: what is in the files, whose it is, and what is left when one breaks off."""

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError
from fhirgw.jobs.export import Filling
from fhirgw.jobs.export_folder import Exported, export
from fhirgw.jobs.files import UNFINISHED, Draft, Unwritable
from fhirgw.jobs.work import Worker
from fhirgw.store import export_job, runs
from fhirgw.store.copied import Line
from fhirgw.store.database import Engine, away, direct
from fhirgw.store.export import Selection, Stretch, copy_part, snapshot
from fhirgw.store.trouble import trouble
from tests.put import STAMP, connected, put, stamped, supersede

ALL = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
ADA, BOB = ({"resourceType": "Patient", "id": id} for id in ("ada", "bob"))
HERS, HIS = (
    {
        "resourceType": "Task",
        "id": f"task-{id}",
        "for": {"reference": f"Patient/{id}"},
        "description": 'tab "\t", é, \\.',
    }
    for id in ("ada", "bob")
)
COUNCIL = {"resourceType": "Organization", "id": "council"}
LATER = STAMP + timedelta(days=1)


@pytest.fixture
async def held(database: str) -> None:
    await put(database, ADA, HERS, COUNCIL)
    await put(database, BOB, HIS, updated=LATER)


def lines(folder: Path, done: Exported) -> dict[str, set[bytes]]:
    return {each["type"]: set((folder / each["url"]).read_bytes().splitlines()) for each in done.manifest["output"]}


def bodies(*resources: dict[str, Any]) -> set[bytes]:
    return {encode(stamped(each, updated=LATER if each in (BOB, HIS) else STAMP)) for each in resources}


@pytest.mark.parametrize(
    ("selection", "wanted"),
    [
        (Selection(), {"Organization": [COUNCIL], "Patient": [ADA, BOB], "Task": [HERS, HIS]}),
        (Selection(("Task", "Goal")), {"Task": [HERS, HIS]}),
        (Selection(patients=()), {"Patient": [ADA, BOB], "Task": [HERS, HIS]}),
        (Selection(patients=("bob", "nobody")), {"Patient": [BOB], "Task": [HIS]}),
        (Selection(("Patient",), ("ada",)), {"Patient": [ADA]}),
        (Selection(since=STAMP), {"Patient": [BOB], "Task": [HIS]}),
        (Selection(since=LATER), {}),
    ],
)
async def test_what_is_asked_for_is_written_as_it_is_stored(
    engine: Engine, held: None, tmp_path: Path, selection: Selection, wanted: dict[str, list[dict[str, Any]]]
) -> None:
    done = await export(engine, ALL, selection, tmp_path, request="test")
    assert lines(tmp_path, done) == {name: bodies(*resources) for name, resources in wanted.items()}


async def test_the_manifest_tells_what_is_in_the_files(engine: Engine, held: None, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    await export(engine, ALL, Selection(), tmp_path, request="https://gateway.example/fhir/$export")
    manifest = orjson.loads((tmp_path / "manifest.json").read_bytes())
    moment = datetime.fromisoformat(manifest.pop("transactionTime"))
    assert before - timedelta(seconds=1) < moment <= datetime.now(UTC)
    contents = {name: (tmp_path / f"{name}.ndjson").read_bytes() for name in ("Organization", "Patient", "Task")}
    assert manifest == {
        "request": "https://gateway.example/fhir/$export",
        "requiresAccessToken": False,
        "output": [
            {
                "type": name,
                "url": f"{name}.ndjson",
                "count": len(content.splitlines()),
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            for name, content in contents.items()
        ],
        "error": [],
    }


async def test_a_permit_shows_no_more_here_than_anywhere(engine: Engine, held: None, tmp_path: Path) -> None:
    hers = Permit("Z99", "person", (Scope.parse("patient/*.rs"),), patient="ada")
    assert lines(tmp_path, await export(engine, hers, Selection(), tmp_path, request="")) == {
        "Patient": bodies(ADA),
        "Task": bodies(HERS),
    }
    tasks = Permit("Z99", "direct-care", (Scope.parse("system/Task.rs"),))
    done = await export(engine, tasks, Selection(), tmp_path, request="")
    assert lines(tmp_path, done) == {"Task": bodies(HERS, HIS)}
    with pytest.raises(FhirError, match="No scope of this token allows read on Patient"):
        await export(engine, tasks, Selection(("Patient",)), tmp_path, request="")


async def test_all_types_are_of_one_moment(engine: Engine, held: None, database: str) -> None:
    other = await connected(database)
    got: list[bytes] = []

    async def sink(lines: list[Line]) -> None:
        got.extend(map(bytes, lines))

    async with snapshot(engine, ALL) as taken:
        assert await taken.types() == ["Organization", "Patient", "Task"]
        text = await taken.text()
        await put(database, {"resourceType": "Patient", "id": "cyd"})
        await copy_part(other, ALL, Stretch("Patient"), Selection(), text, sink)
        assert await taken.types() == ["Organization", "Patient", "Task"]
    assert set(got) == bodies(ADA, BOB)
    await other.close()


async def test_what_may_yet_commit_holds_the_transaction_time_back(engine: Engine, database: str) -> None:
    other = await connected(database)
    writing = other.transaction()
    await writing.start()
    began = await other.fetchval("SELECT transaction_timestamp()")
    await asyncio.sleep(0.01)
    async with snapshot(engine, ALL) as idle:  # it has done nothing that could commit
        assert idle.time > began
    await other.execute("SELECT pg_current_xact_id()")
    async with snapshot(engine, ALL) as taken:
        assert taken.time < began
        async with snapshot(engine, ALL) as another:  # which only reads, and holds nothing back
            assert another.time < began
    await writing.rollback()
    async with snapshot(engine, ALL) as first, snapshot(engine, ALL) as second:
        assert began < first.time <= second.time
    await other.close()


async def test_a_sync_that_runs_holds_the_transaction_time_back(engine: Engine, database: str) -> None:
    """It stamps what it will write before the transaction that writes it begins."""
    other = await connected(database)
    async with runs.alone(other, "toy"):
        run = await runs.start(other, "toy")
        began = await other.fetchval("SELECT started FROM fhirgw.sync_run WHERE id = $1", run)
        await asyncio.sleep(0.01)
        async with snapshot(engine, ALL) as taken:
            assert taken.time < began
    async with snapshot(engine, ALL) as taken:  # nobody holds the lock: its process died
        assert taken.time > began
    async with runs.alone(other, "toy"):
        await runs.finish(other, run, {})
        async with snapshot(engine, ALL) as taken:
            assert taken.time > began
    await other.close()


@pytest.mark.parametrize("kind", [asyncpg.InternalClientError, asyncpg.InterfaceError, ConnectionResetError])
def test_a_connection_that_broke_is_a_database_that_is_away(kind: type[Exception]) -> None:
    assert away(kind("x"))
    assert not away(ValueError("x"))


def contents(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


async def test_a_cancelled_export_leaves_the_one_before(engine: Engine, held: None, tmp_path: Path) -> None:
    await export(engine, ALL, Selection(("Patient",)), tmp_path, request="")
    before = contents(tmp_path)
    task = asyncio.create_task(
        export(engine, ALL, Selection(), tmp_path, request="", progress=lambda *so_far: bool(task.cancel()))
    )
    with pytest.raises(asyncio.CancelledError):
        await task
    assert contents(tmp_path) == before


async def test_a_database_that_goes_away_leaves_nothing(
    engine: Engine, held: None, tmp_path: Path, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(database, *({"resourceType": "Goal", "id": f"g{n}", "note": [{"text": "x" * 3000}]} for n in range(3000)))
    other, plain, killed = await connected(database), Filling.sink, []

    async def sink(filling: Filling, data: bytes) -> None:
        if not killed:
            query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fhirgw export'"
            killed.append(await other.fetchval(query))
        await plain(filling, data)

    with monkeypatch.context() as patched, pytest.raises(Exception) as raised:
        patched.setattr(Filling, "sink", sink)
        await export(engine, ALL, Selection(("Goal",)), tmp_path, request="")
    assert killed == [True]
    assert "cannot be reached" in (trouble(raised.value) or "")
    await other.close()
    assert contents(tmp_path) == {".lock": b""}
    done = await export(engine, ALL, Selection(), tmp_path, request="")
    assert done.counts["Goal"] == 3000


async def left(url: str) -> list[Any]:
    """The jobs that are written down."""
    other = await connected(url)
    try:
        return [tuple(row) for row in await other.fetch("SELECT state, local FROM fhirgw.export_job")]
    finally:
        await other.close()


async def test_what_is_much_is_in_several_files_and_what_is_deleted_is_told(
    engine: Engine, held: None, tmp_path: Path, database: str
) -> None:
    goals = [{"resourceType": "Goal", "id": f"g{n}", "note": [{"text": "x" * 900}]} for n in range(300)]
    await put(database, *goals)
    other = await connected(database)
    await other.execute("ANALYZE fhirgw.resource")
    await other.close()
    done = await export(engine, ALL, Selection(part=60_000), tmp_path, request="test")
    urls = [each["url"] for each in done.manifest["output"] if each["type"] == "Goal"]
    assert len(urls) > 2 and urls[:2] == ["Goal.ndjson", "Goal-2.ndjson"]
    found = [line for each in urls for line in (tmp_path / each).read_bytes().splitlines()]
    assert sorted(found) == sorted(encode(stamped(each)) for each in goals)
    await supersede(database, goals[7], None, 2, LATER + timedelta(days=1))
    again = await export(engine, ALL, Selection(since=LATER), tmp_path, request="test")
    assert again.manifest["output"] == []
    (told,) = again.manifest["deleted"]
    (entry,) = orjson.loads((tmp_path / told["url"]).read_bytes())["entry"]
    assert entry["request"] == {"method": "DELETE", "url": "Goal/g7"}
    assert sorted(contents(tmp_path)) == [".lock", told["url"], "manifest.json"]
    await export(engine, ALL, Selection(("Patient",)), tmp_path, request="test")
    assert sorted(contents(tmp_path)) == [".lock", "Patient.ndjson", "manifest.json"]
    assert await left(database) == []


async def test_what_a_killed_export_left_is_nobodys_and_the_next_clears_it(
    engine: Engine, held: None, tmp_path: Path, database: str
) -> None:
    """No worker takes it: that could write where the next export does."""
    drafts = tmp_path / UNFINISHED / "killed"
    drafts.mkdir(parents=True)
    (drafts / "Patient-00001-1.ndjson").write_text("half")
    async with direct(engine) as connection:
        await export_job.accept(connection, "killed", ALL, Selection(), "r", place=str(drafts), local=True)
        await export_job.accept(connection, "other", ALL, Selection(), "r", place=str(tmp_path / "x"), local=True)
        await export_job.accept(connection, "shared", ALL, Selection(), "r", place=str(tmp_path / "y"))
    worker = Worker(engine, tmp_path / "exports")
    assert (await worker.sweep(), await worker.running()) == (["shared"], ["shared"])
    await export(engine, ALL, Selection(("Patient",)), tmp_path, request="test")
    assert sorted(contents(tmp_path)) == [".lock", "Patient.ndjson", "manifest.json"]
    assert sorted(await left(database)) == [("running", False), ("running", True)]


async def test_progress_says_how_far_it_is(engine: Engine, held: None, tmp_path: Path) -> None:
    told: list[tuple[int, int, int]] = []
    await export(engine, ALL, Selection(("Task",)), tmp_path, request="", progress=lambda *so_far: told.append(so_far))
    assert told[-1][:2] == (2, (tmp_path / "Task.ndjson").stat().st_size)


async def test_a_disk_that_is_full_at_the_last_line_is_told(
    engine: Engine, held: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL has sent all it has by then, and nothing that is awaited may hang."""
    full = Unwritable(tmp_path, OSError(28, "No space left on device"))

    def refused(draft: Draft, data: bytes, lines: int | None) -> None:
        raise full

    with monkeypatch.context() as patched:
        patched.setattr(Draft, "write", refused)
        async with asyncio.timeout(30):
            with pytest.raises(Unwritable, match="No space left on device"):
                await export(engine, ALL, Selection(("Patient",)), tmp_path / "to", request="r")
    assert [each.name for each in (tmp_path / "to").iterdir()] == [".lock"]
    done = await export(engine, ALL, Selection(("Patient",)), tmp_path / "to", request="r")
    assert lines(tmp_path / "to", done) == {"Patient": bodies(ADA, BOB)}
