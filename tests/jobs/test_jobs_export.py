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
from fhirgw.jobs.export import Exported, export
from fhirgw.jobs.files import Draft, Unwritable
from fhirgw.store import runs
from fhirgw.store.database import Engine, away
from fhirgw.store.export import Selection, snapshot
from fhirgw.store.trouble import trouble
from tests.put import STAMP, connected, put, stamped

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
    return {name: set((folder / file.name).read_bytes().splitlines()) for name, file in done.files.items()}


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

    async def sink(lines: list[bytes]) -> None:
        got.extend(lines)

    async with snapshot(engine, ALL) as taken:
        assert await taken.types() == ["Organization", "Patient", "Task"]
        await other.execute("DELETE FROM fhirgw.resource")
        await taken.copy(ALL, "Patient", Selection(), sink)
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


async def test_how_many_there_are_is_told_to_those_who_see_them_all(engine: Engine, held: None, database: str) -> None:
    other = await connected(database)
    await other.execute("ANALYZE fhirgw.resource")
    await other.close()
    hers = Permit("Z99", "person", (Scope.parse("patient/*.rs"),), patient="ada")
    ours = Permit("Z99", "operations", ALL.scopes)
    async with snapshot(engine, ALL) as taken:
        assert await taken.estimate(ours, ["Patient", "Task"]) == 4
        assert await taken.estimate(ALL, ["Patient", "Task"]) == 0
        assert await taken.estimate(hers, ["Patient", "Task"]) == 0


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
    engine: Engine, held: None, tmp_path: Path, database: str
) -> None:
    await put(database, *({"resourceType": "Goal", "id": f"g{n}", "note": [{"text": "x" * 3000}]} for n in range(3000)))
    other = await connected(database)
    begun = asyncio.Event()

    async def kill() -> None:
        await begun.wait()
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fhirgw export'"
        assert await other.fetchval(query)

    killing = asyncio.create_task(kill())
    with pytest.raises(Exception) as raised:
        await export(engine, ALL, Selection(), tmp_path, request="", progress=lambda *so_far: begun.set())
    assert "cannot be reached" in (trouble(raised.value) or "")
    await killing
    await other.close()
    assert contents(tmp_path) == {".lock": b""}
    done = await export(engine, ALL, Selection(), tmp_path, request="")
    assert done.files["Goal"].lines == 3000


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
