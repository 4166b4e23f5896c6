"""Exports as tables: what is in the files, whoever makes them and however often, and what is taken out of them."""

from __future__ import annotations

import csv
import hashlib
import io
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet as pq
import pytest

from fhirgw.access.permit import Permit, operations
from fhirgw.access.scope import Scope
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.view import view
from fhirgw.fhir.views import views
from fhirgw.jobs import parquet_rows
from fhirgw.jobs.export_jobs import ExportJobs
from fhirgw.jobs.forms import Csv
from fhirgw.jobs.parts import run_part
from fhirgw.jobs.place import Folder
from fhirgw.jobs.work import Worker
from fhirgw.store import export_job, ledger
from fhirgw.store.database import Engine, connect, direct
from fhirgw.store.export import Selection
from fhirgw.store.export_job import Job
from tests.jobs.test_jobs_withdrawal import CONSENT, RESTRICTED
from tests.jobs.working import process
from tests.jobs.world import World, done
from tests.put import put

ALL = Permit("Z9C01", "direct-care", (Scope.parse("system/*.rs"),), registration="ics")
Table = list[dict[str, Any]]


def read_csv(path: Path) -> Table:
    return list(csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")))


def read_parquet(path: Path) -> Table:
    return list(pq.read_table(path).to_pylist())


FORMS = [pytest.param(name, read, id=name) for name, read in (("csv", read_csv), ("parquet", read_parquet))]
Read = Callable[[Path], Table]


def observed(id: str, value: str) -> dict[str, Any]:
    """An observation with a number, as it is written."""
    quantity = {"value": Decimal(value), "code": "h/wk"}
    subject = {"reference": "Patient/p1"}
    return {"resourceType": "Observation", "id": id, "status": "final", "subject": subject, "valueQuantity": quantity}


async def made(engine: Engine, folder: Path, asked: Selection) -> Job:
    """The export, done by one worker."""
    id, worker = uuid4().hex, Worker(engine, folder)
    async with direct(engine) as connection:
        await export_job.accept(connection, id, operations("Z99"), asked, "test")
    await worker.help(id, _nobody)
    async with direct(engine) as connection:
        job = await export_job.find(connection, id)
    assert job is not None
    return job


async def _nobody() -> None:
    """There is nobody to recruit."""


async def test_a_table_of_a_view(engine: Engine, database: str, tmp_path: Path) -> None:
    await put(database, observed("o1", "10.50"), observed("o2", "-3"), {"resourceType": "Organization", "id": "x"})
    job = await made(engine, tmp_path, Selection(form="csv"))
    (told,) = job.result["output"]
    assert (told["type"], told["view"], told["url"], told["count"]) == (
        "Observation",
        "observations",
        "observations.csv",
        2,
    )
    data = (tmp_path / job.id / told["key"]).read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (told["bytes"], told["sha256"])
    assert data == (
        b"id,person_id,status,code,value_code,value_number,value_unit,value_integer,when,start,end,about_id,last_updated"
        b"\r\no1,p1,final,,,10.50,h/wk,,,,,,2026-01-02T03:04:05.678Z\r\n"
        b"o2,p1,final,,,-3,h/wk,,,,,,2026-01-02T03:04:05.678Z\r\n"
    )


async def test_parquet_has_numbers_and_not_their_texts(engine: Engine, database: str, tmp_path: Path) -> None:
    await put(database, observed("o1", "10.50"), observed("o2", "0.1"), observed("o3", "7"))
    job = await made(engine, tmp_path, Selection(form="parquet", gzip=True))
    (told,) = job.result["output"]
    assert told["key"].endswith(".parquet")  # packed within
    table = pq.read_table(tmp_path / job.id / told["key"])
    assert str(table.schema.field("value_number").type) == "decimal128(38, 9)"
    assert table.schema.metadata[b"view"] == b"https://fhirgw.uk/fhir/ViewDefinition/observations"
    assert table.column("value_number").to_pylist() == [Decimal("10.5"), Decimal("0.1"), Decimal(7)]


async def test_a_number_that_does_not_fit_is_refused_by_name_and_never_rounded(
    engine: Engine, database: str, tmp_path: Path
) -> None:
    await put(database, observed("o1", "0.12345678901"))
    job = await made(engine, tmp_path, Selection(form="parquet"))
    assert job.state == "failed"
    (issue,) = job.result["issue"]
    assert issue["diagnostics"].startswith("View observations: the column value_number of Parquet cannot hold one of")
    assert "0.123" not in issue["diagnostics"]
    whole = await made(engine, tmp_path, Selection(form="csv"))
    ((told,), folder) = whole.result["output"], tmp_path / whole.id
    assert read_csv(folder / told["key"])[0]["value_number"] == "0.12345678901"


async def test_a_spreadsheet_finds_no_formula(engine: Engine, database: str, tmp_path: Path) -> None:
    names = ['=cmd|"/c calc"!A1', "+1", "-1", "@SUM(A1)", "\tx", "O'Ash", 'two\r\nlines, and "quotes"']
    people = [
        {"resourceType": "Patient", "id": f"p{at}", "name": [{"use": "official", "family": name}]}
        for at, name in enumerate(names)
    ]
    await put(database, *people)
    job = await made(engine, tmp_path, Selection(("Patient",), form="csv"))
    (told,) = job.result["output"]
    found = [each["family_name"] for each in read_csv(tmp_path / job.id / told["key"])]
    assert found == [*(f"'{name}" for name in names[:5]), *names[5:]]
    assert told["count"] == len(names)


@pytest.mark.parametrize(("form", "gzip"), [("csv", False), ("csv", True), ("parquet", False)])
async def test_the_same_bytes_whenever_a_part_is_made(
    engine: Engine, database: str, tmp_path: Path, form: str, gzip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_rows, "GROUP_ROWS", 50)
    await put(database, *(observed(f"o{n:03}", f"{n}.5") for n in range(230)))
    job = await made(engine, tmp_path, Selection(form=form, gzip=gzip, part=32_000))
    assert len(job.result["output"]) > 1
    async with direct(engine) as connection:
        await connection.execute(
            "UPDATE fhirgw.export_part SET state = 'waiting' WHERE job = $1 AND kind = 'output'", job.id
        )
        await connection.execute("UPDATE fhirgw.export_job SET state = 'running' WHERE id = $1", job.id)
        again = [await ledger.claim(connection, job.id, "test") for _ in job.result["output"]]
    before = {each["key"]: (tmp_path / job.id / each["key"]).read_bytes() for each in job.result["output"]}
    for part in again:
        assert part is not None
        await run_part(engine, Folder(tmp_path / job.id), job, part)
    after = {path.name: path.read_bytes() for path in (tmp_path / job.id).iterdir() if path.name not in before}
    assert sorted(after.values()) == sorted(before.values())


async def test_row_groups_are_of_a_bounded_size(
    engine: Engine, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_rows, "GROUP_ROWS", 50)
    await put(database, *(observed(f"o{n:03}", "1") for n in range(120)))
    job = await made(engine, tmp_path, Selection(form="parquet"))
    (told,) = job.result["output"]
    with pq.ParquetFile(tmp_path / job.id / told["key"]) as file:
        sizes = [file.metadata.row_group(at).num_rows for at in range(file.metadata.num_row_groups)]
    assert sizes == [50, 50, 20]


async def test_only_the_views_that_are_asked_for(engine: Engine, database: str, tmp_path: Path) -> None:
    review = {"coding": [{"system": "http://snomed.info/sct", "code": "425268008"}]}
    task = {"resourceType": "Task", "status": "completed", "intent": "plan", "for": {"reference": "Patient/p1"}}
    await put(database, {**task, "id": "t1", "code": review}, {**task, "id": "t2", "code": {"text": "An assessment"}})
    both = await made(engine, tmp_path, Selection(("Task",), form="csv"))
    assert {(each["url"], each["count"]) for each in both.result["output"]} == {
        ("assessments.csv", 1),
        ("reviews.csv", 1),
    }
    one = await made(engine, tmp_path, Selection(form="csv", views=("reviews",)))
    assert [(each["url"], each["type"]) for each in one.result["output"]] == [("reviews.csv", "Task")]


@pytest.fixture
async def world(tmp_path: Path, database: str) -> AsyncIterator[World]:
    engine = connect(database)
    yield World(tmp_path, engine, database, more={"dissent": CONSENT, "person": RESTRICTED})
    await engine.dispose()


@pytest.mark.parametrize(("form", "read"), FORMS)
async def test_a_dissent_takes_rows_out_and_a_restriction_changes_them(
    world: World, tmp_path: Path, form: str, read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.tables["dissent"] = [["dissent_id", "person_id"]]
    people = world.tables["person"]
    people[:] = [[*row, "restricted" if at == 0 else ""] for at, row in enumerate(people)]
    await world.sync()
    folder = tmp_path / "exports"
    async with ExportJobs(world.engine, folder) as jobs:
        id = await jobs.kick_off(ALL, Selection(form=form), "request")
        before = await done(jobs, id, ALL)

        async def table(name: str) -> dict[str, Any]:
            file = await jobs.file(ALL, id, f"{name}.{form}")
            (told,) = [each for each in (await jobs.status(ALL, id)).result["output"] if each["view"] == name]
            data = file.path.read_bytes()
            found = read(file.path)
            assert (told["count"], told["bytes"]) == (len(found), len(data))
            assert told["sha256"] == file.sha256 == hashlib.sha256(data).hexdigest()
            return {each.get("family_name", each["id"]): each for each in found}

        assert set(await table("people")) == {"Ashby", "Birch", "Cole"}
        assert len(await table("flags")) == 2
        world.tables["dissent"].append(["900", "1"])
        people[3][-1] = "restricted"
        await world.sync()
        await jobs.look()
        assert set(await table("people")) == {"Birch", "Cole"}
        assert len(await table("flags")) == 1
        told = (await jobs.status(ALL, id)).result
        await jobs.look()  # nothing is left to be done
        assert (await jobs.status(ALL, id)).result == told != before.result

        # A gateway with other views cannot take rows out of these: what somebody is to be taken out of goes.
        known = dict(views())
        flags = replace(known.pop("flags"), name="alerts")
        people = replace(known["people"], columns=(*known["people"].columns[1:], known["people"].columns[0]))
        monkeypatch.setattr("fhirgw.jobs.forms.views", lambda: {**known, "people": people, "alerts": flags})
        monkeypatch.setattr("fhirgw.jobs.withdrawal.views", lambda: known)
        world.tables["dissent"].append(["901", "3"])
        await world.sync()
        await jobs.look()
        assert (await jobs.status(ALL, id)).result["output"] == []
        assert not list((folder / id).iterdir())


def test_a_form_without_some_resources_is_what_it_would_be_of_the_others(tmp_path: Path) -> None:
    """Rows of a resource stand together, several of them too, between those of others."""
    definition = {
        "resource": "Patient",
        "select": [
            {"column": [{"name": "id", "path": "getResourceKey()"}]},
            {"forEach": "telecom", "column": [{"name": "value", "path": "value"}]},
        ],
    }

    def line(id: str, *values: str) -> bytes:
        return encode({"resourceType": "Patient", "id": id, "telecom": [{"value": each} for each in values]})

    lines = [line("a", "1", "=2"), line("b", "3\n4", '"', "-5"), line("c", "6"), line("d", "7", "8")]
    lines.append(line("-e", "9"))  # an id that a spreadsheet would take for a formula
    changed = {"Patient/b": line("b", "new", "other"), "Patient/d": None, "Patient/-e": None, "Patient/z": None}
    for kind in (Csv, parquet_rows.Parquet):
        whole, expected = kind(view(definition)), kind(view(definition))
        (tmp_path / "file").write_bytes(whole.begin() + whole.add(lines)[0] + whole.end())
        assert whole.holds(tmp_path / "file", changed)
        assert whole.holds(tmp_path / "file", {"Patient/-e": None})
        assert not whole.holds(tmp_path / "file", {"Patient/z": None, "Patient/1": None, "Flag/b": None})
        left = [lines[0], changed["Patient/b"] or b"", lines[2]]
        wanted = expected.begin() + expected.add(left)[0] + expected.end()
        found = list(kind(view(definition)).without(tmp_path / "file", changed))
        assert b"".join(data for data, _ in found) == wanted
        assert sum(count for _, count in found) == 5


def test_a_job_of_before_is_as_it_was() -> None:
    """What a kick-off of an older version wrote down has no form: it is NDJSON."""
    assert Selection.stored({"types": ["Patient"]}) == replace(Selection(), types=("Patient",))


async def test_killed_with_a_table_half_made_it_is_the_same(engine: Engine, database: str, tmp_path: Path) -> None:
    await put(database, *(observed(f"o{n:03}", f"{n}.5") for n in range(230)))
    asked = Selection(form="parquet", part=32_000)
    calm = await made(engine, tmp_path, asked)
    id, folder = uuid4().hex, tmp_path / "killed"
    async with direct(engine) as connection:
        await export_job.accept(connection, id, operations("Z99"), asked, "test")
    with process(database, folder, "file written", id) as first:
        first.join(120)
        assert first.exitcode == -signal.SIGKILL
    with process(database, folder, "", id) as second:
        second.join(120)
        assert second.exitcode == 0
    async with direct(engine) as connection:
        job = await export_job.find(connection, id)
    assert job is not None and job.state == "done"

    def told(done: Job) -> list[tuple[Any, ...]]:
        return [(each["url"], each["count"], each["sha256"]) for each in done.result["output"]]

    assert told(job) == told(calm)
    for each in job.result["output"]:
        data = (folder / id / each["key"]).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (each["bytes"], each["sha256"])
    assert {path.name for path in (folder / id).iterdir()} == {each["key"] for each in job.result["output"]}
