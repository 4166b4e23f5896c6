"""A PostgreSQL schema as a system of record: one snapshot, read as text, written back by compare-and-set."""

from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import make_url

from fhirgw.systems.database import DatabaseSystem
from fhirgw.systems.system import Child, ExtractError, Row

TABLES = """
CREATE SCHEMA council;
CREATE TABLE council."PERSON" (id int, name varchar(20), born date, seen timestamp, hours numeric(6,2), kind char(4));
INSERT INTO council."PERSON" VALUES (10, 'Zoë', '1950-02-03', '2026-01-02 03:04:05', 7.50, 'A');
INSERT INTO council."PERSON" VALUES (9, ' ', NULL, NULL, NULL, NULL);
CREATE TABLE council.phone (id int PRIMARY KEY, person int, place int, number text);
INSERT INTO council.phone VALUES (1, 10, 10, 'b'), (2, 10, 9, 'a'), (3, 11, 1, 'nobody''s');
"""
PHONE = Child("phone", "person", "place", key="id")
NINE = {"id": "9", "name": None, "born": None, "seen": None, "hours": None, "kind": None}
TEN = {"id": "10", "name": "Zoë", "born": "1950-02-03", "seen": "2026-01-02 03:04:05", "hours": "7.50", "kind": "A"}


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else at the same database."""
    made = await asyncpg.connect(database)
    await made.execute(TABLES)
    yield made
    await made.close()


async def read(
    system: DatabaseSystem, table: str, *columns: str, children: tuple[Child, ...] = (), batch: int = 2
) -> list[Row]:
    return [row async for rows in system.extract(table, "id", columns, children, batch) for row in rows]


async def test_rows_are_text_in_the_order_of_the_keys_own_type(database: str, connection: asyncpg.Connection) -> None:
    async with DatabaseSystem("meadow", database, "council") as system:
        assert await read(system, "PERSON") == [NINE, TEN]
        assert await read(system, "PERSON", "kind", batch=1) == [{"kind": None, "id": "9"}, {"kind": "A", "id": "10"}]
        assert await system.count("PERSON") == 2
        assert await system.tables() == {"PERSON": tuple(TEN), "phone": ("id", "person", "place", "number")}


async def test_the_servers_own_settings_do_not_change_the_text(database: str, connection: asyncpg.Connection) -> None:
    name = make_url(database).database
    await connection.execute(f"ALTER DATABASE {name} SET datestyle = 'German, DMY'")
    async with DatabaseSystem("meadow", database, "council") as system:
        assert (await read(system, "PERSON"))[1] == TEN


async def test_children_hang_under_their_parents_in_their_order(database: str, connection: asyncpg.Connection) -> None:
    async with DatabaseSystem("meadow", database, "council") as system:
        rows = await read(system, "PERSON", "id", children=(Child("phone", "person", "place", ("number",)),))
    assert rows == [
        {"id": "9", "phone": []},
        {"id": "10", "phone": [{"number": "a", "place": "9"}, {"number": "b", "place": "10"}]},
    ]
    assert system.orphans == {"phone": 1}


async def test_all_tables_are_of_one_moment(database: str, connection: asyncpg.Connection) -> None:
    async with DatabaseSystem("meadow", database, "council") as system:
        before = await read(system, "PERSON")
        await connection.execute('DELETE FROM council."PERSON"; DELETE FROM council.phone')
        assert await read(system, "PERSON") == before
        assert await system.count("phone") == 3
    async with DatabaseSystem("meadow", database, "council") as system:
        assert await system.count("phone") == 0


async def test_rows_with_the_same_key_or_none_are_not_lost(database: str, connection: asyncpg.Connection) -> None:
    await connection.execute("INSERT INTO council.\"PERSON\" (id, name) VALUES (9, 'b'), (9, 'c'), (NULL, 'd')")
    async with DatabaseSystem("meadow", database, "council") as system:
        assert [row["id"] for row in await read(system, "PERSON", "id", batch=1)] == ["9", "9", "9", "10", None]


async def test_what_is_not_there_is_told_with_the_nearest(database: str, connection: asyncpg.Connection) -> None:
    async with DatabaseSystem("meadow", database, "council") as system:
        with pytest.raises(
            ExtractError, match=r"meadow, council\.PERSON: there is no column 'Names'.*did you mean 'name'"
        ):
            await read(system, "PERSON", "Names")
        with pytest.raises(ExtractError, match=r"council\.person: there is no such table.*did you mean 'PERSON'"):
            await read(system, "person")
    with pytest.raises(ExtractError, match="there is no table in schema 'elsewhere'"):
        async with DatabaseSystem("meadow", database, "elsewhere"):
            pytest.fail("it opened")


async def test_a_server_that_is_not_there(database: str) -> None:
    nowhere = make_url(database).set(query={"host": "/nowhere"}, host=None).render_as_string()
    with pytest.raises(ExtractError, match="database of meadow: the database is away") as raised:
        async with DatabaseSystem("meadow", nowhere):
            pytest.fail("it opened")
    assert raised.value.code == "transient"


async def test_a_database_that_goes_away_half_way(database: str, connection: asyncpg.Connection) -> None:
    await connection.execute('INSERT INTO council."PERSON" (id) SELECT generate_series(100, 5000)')
    async with DatabaseSystem("meadow", database, "council") as system:
        seen = 0
        with pytest.raises(
            ExtractError, match=r"meadow, council\.PERSON: the database is away.*run the same again"
        ) as raised:
            async for rows in system.extract("PERSON", "id", (), batch=100):
                seen += len(rows)
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fhirgw extract'"
                )
        assert (seen, raised.value.code) == (100, "transient")


async def test_no_right_to_read(database: str, connection: asyncpg.Connection) -> None:
    await connection.execute('CREATE VIEW council.broken AS SELECT 1 / (id - 9) AS id, name FROM council."PERSON"')
    async with DatabaseSystem("meadow", database, "council") as system:
        with pytest.raises(
            ExtractError, match=r"council\.broken: the database refused \(DivisionByZeroError, SQLSTATE 22012\)"
        ):
            await read(system, "broken")


async def written(database: str, before: Row | None, after: Row | None, key: str = "10") -> tuple[bool, Row | None]:
    async with DatabaseSystem("meadow", database, "council") as system:
        done = await system.apply("PERSON", "id", key, before, after, (PHONE,))
        return done, await system.fetch("PERSON", "id", key, children=(PHONE,))


async def test_a_row_that_is_as_it_was_seen_is_written(database: str, connection: asyncpg.Connection) -> None:
    async with DatabaseSystem("meadow", database, "council") as system:
        before = await system.fetch("PERSON", "id", "10", children=(PHONE,))
    assert before is not None
    first, second = before["phone"]
    after = {
        **before,
        "born": "1951-02-03",
        "name": None,
        "phone": [{**first, "number": "new"}, {"id": "7", "number": "x"}],
    }
    done, now = await written(database, before, after)
    assert done
    kept = {"id": "7", "person": "10", "place": None, "number": "x"}
    assert now == {**TEN, "born": "1951-02-03", "name": None, "phone": [kept, {**first, "number": "new"}]}
    assert second["id"] not in [each["id"] for each in now["phone"]]


async def test_a_row_that_moved_on_is_left_alone(database: str, connection: asyncpg.Connection) -> None:
    seen = {"name": "Zoë", "born": "1950-02-03"}
    await connection.execute("UPDATE council.\"PERSON\" SET born = '1950-02-04' WHERE id = 10")
    done, now = await written(database, seen, {"name": "Zoe", "born": "1950-02-03"})
    assert (done, now and now["name"], now and now["born"]) == (False, "Zoë", "1950-02-04")


async def test_a_child_that_moved_on_counts_too(database: str, connection: asyncpg.Connection) -> None:
    async with DatabaseSystem("meadow", database, "council") as system:
        seen = await system.fetch("PERSON", "id", "10", children=(PHONE,))
    await connection.execute("DELETE FROM council.phone WHERE id = 1")
    done, now = await written(database, seen, {**(seen or {}), "name": "Zoe"})
    assert (done, now and now["name"]) == (False, "Zoë")


async def test_rows_come_and_go(database: str, connection: asyncpg.Connection) -> None:
    new = {"name": "Ada", "phone": [{"id": "8", "number": "1"}]}
    assert await written(database, None, new, "12") == (
        True,
        {**NINE, "id": "12", "name": "Ada", "phone": [{"id": "8", "person": "12", "place": None, "number": "1"}]},
    )
    assert (await written(database, None, new, "12"))[0] is False
    assert (await written(database, {"name": "Bob"}, None, "12"))[0] is False
    assert await written(database, new | {"phone": [{"id": "8"}]}, None, "12") == (True, None)
    assert await connection.fetchval("SELECT count(*) FROM council.phone WHERE person = 12") == 0


async def test_children_without_a_key_are_not_guessed_at(database: str, connection: asyncpg.Connection) -> None:
    child = Child("phone", "person", "place")
    async with DatabaseSystem("meadow", database, "council") as system:
        before = await system.fetch("PERSON", "id", "10", children=(child,))
        assert before is not None
        with pytest.raises(ExtractError, match=r"council\.phone: its rows have no key"):
            await system.apply("PERSON", "id", "10", before, {**before, "phone": []}, (child,))
