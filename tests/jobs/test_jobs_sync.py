"""Bulk sync on a real database: what arrives, changes, goes or is refused, and what a break leaves behind."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import asyncpg
import pytest

from fhirgw.jobs.preflight import ShrunkenExtract
from fhirgw.jobs.sync import sync
from fhirgw.mapping.load import load
from fhirgw.store.database import connect
from fhirgw.store.runs import AlreadyRunning
from fhirgw.systems.csv import CsvSystem
from fhirgw.systems.system import ExtractError
from tests.jobs.world import CUT_OFF, TABLES, World
from tests.put import connected


@pytest.fixture
async def world(tmp_path: Path, database: str) -> AsyncIterator[World]:
    engine = connect(database)
    yield World(tmp_path, engine, database)
    await engine.dispose()


async def test_a_first_load_makes_every_row_a_resource(world: World) -> None:
    summary = await world.sync()
    assert summary.resources == {"Flag": 2, "Patient": 3}
    assert summary.tables["person"].as_json() == {
        "read": 3, "created": 3, "updated": 0, "unchanged": 0, "deleted": 0, "refused": {},
    }  # fmt: skip
    ashby, _, _ = await world.bodies("Patient")
    assert ashby["name"] == [{"use": "official", "family": "Ashby"}]
    assert ashby["meta"]["versionId"] == "1"
    assert [phone["value"] for phone in ashby["telecom"]] == ["01632 960001", "07700 900001"]
    dog, two = await world.bodies("Flag")
    assert dog["subject"]["reference"] == f"Patient/{ashby['id']}"
    assert dog["id"][:3] == ashby["id"][:3]
    assert two["period"] == {"start": "2025-06-02T10:00:00+01:00", "end": "2025-07-01"}


async def test_a_second_run_changes_nothing(world: World) -> None:
    await world.sync()
    before = await world.state()
    summary = await world.sync()
    assert summary.written == 0
    assert summary.tables["person"].unchanged == 3
    assert await world.state() == before


async def test_a_changed_row_makes_one_new_version_and_keeps_the_old(world: World) -> None:
    await world.sync()
    (old,) = [body for body in await world.bodies("Patient") if body["name"][0]["family"] == "Birch"]
    world.tables["person"][2][2] = "Beech"
    summary = await world.sync()
    assert (summary.written, summary.tables["person"].updated, summary.tables["person"].unchanged) == (1, 1, 2)
    (new,) = [body for body in await world.bodies("Patient") if body["id"] == old["id"]]
    assert (new["name"][0]["family"], new["meta"]["versionId"]) == ("Beech", "2")
    ((kept, deleted),) = await world.ask("SELECT body, deleted FROM fhirgw.history WHERE version = 1")
    assert (json.loads(kept), deleted) == (old, False)
    assert await world.ask("SELECT count(*) FROM fhirgw.search_string WHERE value = 'birch'") == [(0,)]
    assert await world.ask("SELECT kind FROM fhirgw.change ORDER BY sequence DESC LIMIT 1") == [("update",)]


async def test_a_changed_child_row_changes_its_parent(world: World) -> None:
    await world.sync()
    world.tables["phone"][1][2] = "01632 960777"
    summary = await world.sync()
    assert (summary.written, summary.tables["person"].updated) == (1, 1)


async def test_a_row_that_is_gone_is_deleted_with_its_history(world: World) -> None:
    await world.sync()
    del world.tables["alert"][2]
    summary = await world.sync()
    assert (summary.written, summary.tables["alert"].deleted, summary.resources["Flag"]) == (1, 1, 1)
    rows = await world.ask("SELECT version, deleted FROM fhirgw.history WHERE type = 'Flag' ORDER BY version")
    assert rows == [(1, False), (2, True)]
    assert (await world.sync()).written == 0


async def test_a_row_that_comes_back_goes_on_where_it_ended(world: World) -> None:
    await world.sync()
    gone = world.tables["alert"].pop()
    await world.sync()
    world.tables["alert"].append(gone)
    summary = await world.sync()
    assert summary.tables["alert"].created == 1
    assert {body["meta"]["versionId"] for body in await world.bodies("Flag")} == {"1", "3"}


async def test_a_row_that_becomes_another_persons_moves_to_their_record(world: World) -> None:
    await world.sync()
    old, _ = await world.bodies("Flag")
    world.tables["alert"][1][1] = "2"
    summary = await world.sync()
    assert (summary.tables["alert"].created, summary.tables["alert"].deleted) == (1, 1)
    new, _ = await world.bodies("Flag")
    birch = next(each for each in await world.bodies("Patient") if each["name"][0]["family"] == "Birch")
    assert new["subject"]["reference"] == f"Patient/{birch['id']}"
    assert new["id"][:3] == birch["id"][:3]
    assert new["id"] != old["id"]
    kept = await world.ask("SELECT version, deleted FROM fhirgw.history WHERE id = $1 ORDER BY 1", old["id"])
    assert kept == [(1, False), (2, True)]
    assert (await world.sync()).written == 0
    world.tables["alert"][1][1] = "1"
    assert (await world.sync()).written == 2
    again, _ = await world.bodies("Flag")
    assert (again["id"], again["meta"]["versionId"]) == (old["id"], "3")


async def test_what_others_added_to_a_resource_stays_when_its_row_changes(world: World) -> None:
    await world.sync()
    (body,) = [each for each in await world.bodies("Patient") if each["name"][0]["family"] == "Cole"]
    added = body | {"maritalStatus": {"text": "Widowed"}}
    await world.ask("UPDATE fhirgw.resource SET body = $1 WHERE id = $2 RETURNING 1", json.dumps(added), body["id"])
    world.tables["person"][3][2] = "Coles"
    await world.sync()
    (body,) = [each for each in await world.bodies("Patient") if each["id"] == body["id"]]
    assert (body["name"][0]["family"], body["maritalStatus"]) == ("Coles", {"text": "Widowed"})


@pytest.mark.parametrize(
    ("table", "row", "column", "reason"),
    [
        ("person", ["4", "9990000019", "Dean", "1950-01-01", "F"], "nhs_number", "nhs-number"),
        ("person", ["4", "", "Dean", "1950-02-30", "F"], "born", "date"),
        ("person", ["4", "", "Dean", "", "Q"], "gender", "unknown-code"),
        ("person", ["1", "", "Dean", "", "F"], "person_id", "duplicate-key"),
        ("person", ["", "", "Dean", "", "F"], "person_id", "required"),
        ("alert", ["102", "1", "x", "2025-03-30 01:30:00", ""], "started", "local-time"),
        ("alert", ["102", "1", "x", "2025-05-01 09:00:00", "2025-04-30"], "ended", "order"),
        ("alert", ["102", "1", "", "", ""], "words", "required"),
        ("alert", ["102", "99", "x", "", ""], "person_id", "unknown-person"),
    ],
)
async def test_a_bad_row_is_refused_with_its_place_and_the_rest_go_on(
    world: World, table: str, row: list[str], column: str, reason: str
) -> None:
    world.tables[table].append(row)
    summary = await world.sync()
    assert summary.resources == {"Flag": 2, "Patient": 3}
    assert summary.tables[table].refused == {reason: 1}
    (fault,) = world.faults()
    assert (fault["table"], fault["key"], fault["column"], fault["reason"]) == (table, row[0], column, reason)
    assert fault["rule"]
    assert fault["remedy"]
    assert "Dean" not in json.dumps(fault)


async def test_rows_about_a_refused_person_are_taken_once_the_person_is(world: World) -> None:
    world.tables["person"][1][1] = "9990000019"
    summary = await world.sync()
    assert summary.resources == {"Flag": 1, "Patient": 2}
    assert {fault["reason"] for fault in world.faults()} == {"nhs-number", "unknown-person"}
    world.tables["person"][1][1] = "9990000018"
    assert (await world.sync()).resources == {"Flag": 2, "Patient": 3}
    assert world.faults() == []


async def test_two_people_with_one_nhs_number_are_both_kept_and_reported(world: World) -> None:
    world.tables["person"].append(["4", "9990000018", "Ashby", "1940-02-01", "F"])
    summary = await world.sync()
    assert summary.resources["Patient"] == 4
    (warning,) = summary.warnings
    assert warning.startswith("2 Patients hold one NHS number and are kept apart: ")
    assert "9990000018" not in warning


@pytest.fixture
def other(world: World, tmp_path: Path) -> World:
    """A second system of record that knows some of the same people."""
    made = World(tmp_path, world.engine, world.url, "other")
    made.tables["person"] = [
        TABLES["person"][0],
        ["77", "9990000018", "Ashby-Smith", "1940-02-01", "F"],
        ["78", "9000000009", "Somebody", "1990-01-01", "M"],
    ]
    made.tables["phone"] = [TABLES["phone"][0]]
    made.tables["alert"] = [TABLES["alert"][0], ["5", "77", "Key safe", "", ""]]
    return made


async def test_a_person_two_systems_know_is_one_patient(world: World, other: World) -> None:
    await world.sync()
    summary = await other.sync()
    assert (summary.tables["person"].updated, summary.tables["person"].created) == (1, 1)
    (ashby,) = [each for each in await world.bodies("Patient") if "9990000018" in str(each["identifier"])]
    assert ashby["name"][0]["family"] == "Ashby"
    assert {each["value"] for each in ashby["identifier"]} == {"1", "77", "9990000018"}
    (key_safe,) = [each for each in await world.bodies("Flag") if each["code"]["text"] == "Key safe"]
    assert key_safe["subject"]["reference"] == f"Patient/{ashby['id']}"
    assert len(summary.warnings) == 1  # the number is the same, the date of birth is not
    before = await world.state()
    assert ((await world.sync()).written, (await other.sync()).written) == (0, 0)
    assert await world.state() == before


async def test_a_system_that_forgets_a_person_takes_away_its_own_number_only(world: World, other: World) -> None:
    await world.sync()
    await other.sync()
    world.tables["person"][1][2] = "Ashbee"
    await world.sync()
    (ashby,) = [each for each in await world.bodies("Patient") if "9990000018" in str(each["identifier"])]
    assert ashby["name"][0]["family"] == "Ashbee"
    assert "77" in {each["value"] for each in ashby["identifier"]}
    del other.tables["person"][1]
    await other.sync()
    (ashby,) = [each for each in await world.bodies("Patient") if "9990000018" in str(each["identifier"])]
    assert ashby["name"][0]["family"] == "Ashbee"
    assert {each["value"] for each in ashby["identifier"]} == {"1", "9990000018"}
    assert ((await world.sync()).written, (await other.sync()).written) == (0, 0)


async def test_a_person_one_system_forgets_stays_for_the_other(world: World, other: World) -> None:
    await world.sync()
    await other.sync()
    del world.tables["person"][1], world.tables["phone"][1:], world.tables["alert"][1]
    await world.sync(force=True)
    assert not [each for each in await world.bodies("Patient") if "9990000018" in str(each["identifier"])]
    assert (await other.sync()).written == 1
    (ashby,) = [each for each in await world.bodies("Patient") if "9990000018" in str(each["identifier"])]
    assert (ashby["name"][0]["family"], ashby["meta"]["versionId"]) == ("Ashby-Smith", "4")
    (key_safe,) = [each for each in await world.bodies("Flag") if each["code"]["text"] == "Key safe"]
    assert key_safe["subject"]["reference"] == f"Patient/{ashby['id']}"
    assert (await other.sync()).written == 0


async def test_a_person_who_changes_identity_is_not_merged_into_somebody_elses_patient(
    world: World, other: World
) -> None:
    await world.sync()
    await other.sync()
    before = await world.bodies("Patient")
    other.tables["person"][1][1:4] = ["9912003888", "Zeal", "1999-09-09"]
    summary = await other.sync()
    assert summary.tables["person"].refused == {"identity": 1}
    assert await world.bodies("Patient") == before
    assert [fault["reason"] for fault in other.faults()] == ["identity"]


async def test_a_key_that_could_break_what_it_is_put_into_is_refused(world: World) -> None:
    world.tables["person"] += [
        ["5\n6", "", "Dean", "", "F"],
        ["7" * 300, "", "Dean", "", "F"],
        ["8\x02", "", "Dean", "", "F"],
    ]
    world.tables["person"].append(["9", "", "\u00b4", "", "F"])
    summary = await world.sync()
    assert summary.tables["person"].refused == {"key": 3}
    assert summary.resources["Patient"] == 4


async def test_what_was_about_a_person_goes_with_them(world: World) -> None:
    await world.sync()
    del world.tables["person"][3]
    world.tables["alert"].append(["103", "3", "x", "", ""])
    summary = await world.sync()
    assert (summary.tables["person"].deleted, summary.tables["alert"].deleted) == (1, 1)
    assert summary.tables["alert"].refused == {"unknown-person": 2}
    assert summary.resources == {"Flag": 1, "Patient": 2}


async def test_what_a_mapping_made_goes_with_it_when_that_is_meant(world: World, tmp_path: Path) -> None:
    await world.sync()
    (tmp_path / "toy-mappings/toy/flag.yaml").unlink()
    world.definition = load(tmp_path / "toy-mappings").systems["toy"]
    with pytest.raises(ShrunkenExtract, match=r"flag \(Flag\) made resources and is not declared any more"):
        await world.sync()
    assert len(await world.bodies("Flag")) == 2
    summary = await world.sync(force=True)
    assert summary.resources == {"Patient": 3}
    assert await world.bodies("Flag") == []
    assert (await world.sync()).written == 0


async def test_two_of_a_system_who_claim_one_patient_are_not_both_led_to_them(world: World, other: World) -> None:
    await world.sync()
    other.tables["person"].append(["79", "9990000018", "Ashby", "1940-02-01", "F"])
    summary = await other.sync()
    assert (summary.tables["person"].updated, summary.tables["person"].created) == (0, 3)
    assert any(warning.startswith("3 Patients hold one NHS number") for warning in summary.warnings)


async def test_an_extract_half_the_size_is_not_believed(world: World) -> None:
    await world.sync()
    before = await world.state()
    del world.tables["person"][1:4]
    with pytest.raises(ShrunkenExtract, match=r"toy, table person: the extract has 0 rows where the last one had 3\."):
        await world.sync()
    assert await world.state() == before
    summary = await world.sync(force=True)
    assert summary.tables["person"].deleted == 3


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "alert.csv").unlink(), "the extract has no such table"),
        (lambda folder: _rename(folder / "alert.csv", "words", "word"), "the extract has no column words"),
        (lambda folder: (folder / "alert.csv").write_text(CUT_OFF), "quote"),
    ],
)
async def test_an_unusable_extract_changes_nothing_but_what_was_finished(
    world: World, spoil: Callable[[Path], object], told: str
) -> None:
    await world.sync()
    before = await world.state()
    world.write()
    spoil(world.folder)
    async with CsvSystem("toy", world.folder) as system:
        with pytest.raises(ExtractError, match=told):
            await sync(world.engine, world.definition, system)
    assert await world.state() == before


def _rename(file: Path, old: str, new: str) -> None:
    file.write_text(file.read_text().replace(old, new))


async def test_a_database_that_goes_away_leaves_nothing_half_written(world: World) -> None:
    world.tables["person"] += [[str(n), "", f"Surname{n}", "1950-01-01", "F"] for n in range(1000, 9000)]
    world.write()

    async def cut() -> None:
        query = """
            SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ILIKE '%stage%'
        """
        for _ in range(24_000):
            if (await world.ask(query))[0][0]:
                return
            await asyncio.sleep(0.005)

    async with CsvSystem("toy", world.folder) as system:
        cutting = asyncio.create_task(cut())
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
            await sync(world.engine, world.definition, system)
        await cutting
    assert await world.ask("SELECT count(*) FROM fhirgw.resource") == [(0,)]
    assert (await world.sync()).resources == {"Flag": 2, "Patient": 8003}


async def test_one_system_is_synced_by_one_process_at_a_time(world: World) -> None:
    world.write()
    connection = await connected(world.url)
    await connection.execute("SELECT pg_advisory_lock(hashtextextended('fhirgw sync toy', 0))")
    async with CsvSystem("toy", world.folder) as system:
        with pytest.raises(AlreadyRunning):
            await sync(world.engine, world.definition, system)
    await connection.close()
    assert (await world.sync()).resources == {"Flag": 2, "Patient": 3}
