"""The made-up council in a database and in files: the same rows in both, and nobody's real schema is dropped."""

from pathlib import Path

import asyncpg
import pytest

from fhirgw.council.expected import expected
from fhirgw.council.generate import generate
from fhirgw.council.layouts import LAYOUTS
from fhirgw.systems.csv import CsvSystem
from fhirgw.systems.database import DatabaseSystem
from fhirgw.systems.made_up import to_csv, to_database
from fhirgw.systems.system import Child, ExtractError

FORMS = {"meadow": (",", "utf-8"), "harbour": (";", "windows-1252")}


def ignored(table: str, rows: int) -> None:
    pass


@pytest.mark.parametrize("name", LAYOUTS)
async def test_both_forms_hold_the_same_rows(database: str, tmp_path: Path, name: str) -> None:
    council, layout = generate(20, 3), LAYOUTS[name]
    counts = expected(council, layout).rows
    assert await to_database(database, layout, council, ignored) == counts
    assert to_csv(tmp_path, layout, council, ignored, *FORMS[name]) == counts
    people = next(table for table in layout.declared if table.kind == "person" and not table.parent)
    children = [Child(each.name, each.parent.name) for each in layout.declared if each.parent and each.kind == "person"]
    async with DatabaseSystem(name, database) as kept, CsvSystem(name, tmp_path, *FORMS[name]) as written:
        assert await kept.tables() == await written.tables()
        found = [
            {
                row[people.key.name]: row
                async for rows in each.extract(people.name, people.key.name, (), children)
                for row in rows
            }
            for each in (kept, written)
        ]
    assert found[0] == found[1]
    assert len(found[0]) == counts[people.name]


async def test_made_twice_it_is_there_once(database: str) -> None:
    for people in (10, 5):
        written = await to_database(database, LAYOUTS["meadow"], generate(people), ignored)
    async with DatabaseSystem("meadow", database) as system:
        assert await system.count("person") == written["person"]


async def test_a_schema_of_somebody_elses_is_left_alone(database: str) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE SCHEMA meadow; CREATE TABLE meadow.person (id int)")
    with pytest.raises(ExtractError, match="schema meadow: it exists and was not made by fhirgw"):
        await to_database(database, LAYOUTS["meadow"], generate(5), ignored)
    assert await connection.fetchval("SELECT count(*) FROM meadow.person") == 0
    await connection.close()


def test_a_writing_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    def full(table: str, rows: int) -> None:
        if table == "person":
            raise OSError(28, "No space left on device")

    with pytest.raises(ExtractError, match=r"it cannot be written \(No space left on device\)"):
        to_csv(tmp_path / "meadow", LAYOUTS["meadow"], generate(5), full)
    assert list((tmp_path / "meadow").iterdir()) == []
