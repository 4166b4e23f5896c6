"""The tables: as the code sees them, made once however many make them at once, and given back."""

import asyncio
from typing import Any

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from alembic import command
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.parameters import HELD
from fhirgw.store import migrate
from fhirgw.store.database import connect
from fhirgw.store.schema import SCHEMA, metadata
from tests.api.conftest import made
from tests.conftest import TEMPLATE, named
from tests.put import connected, put, stamped


@pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")
async def test_the_tables_are_those_the_code_sees(database: str) -> None:
    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(
            connection,
            opts={
                "version_table_schema": SCHEMA,
                "compare_server_default": False,
                "include_object": lambda made, name, kind, *_: kind != "table" or not name.startswith("resource_"),
                "include_name": lambda name, kind, parents: kind != "schema" or name == SCHEMA,
                "include_schemas": True,
            },
        )
        return list(compare_metadata(context, metadata))

    # With our schema on the search path it would be the default one, which alembic compares under no name.
    elsewhere = {"server_settings": {"search_path": "public"}}
    url = make_url(database).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, connect_args=elsewhere)
    async with engine.connect() as connection:
        found = await connection.run_sync(differences)
    await engine.dispose()
    assert found == []


async def test_every_type_held_has_a_partition_of_its_own(engine: AsyncEngine) -> None:
    async with engine.connect() as connection:
        names = await connection.execute(text("SELECT relname FROM pg_class WHERE relispartition AND relkind = 'r'"))
    assert {f"resource_{each.lower()}" for each in HELD} | {"resource_other"} <= {name for (name,) in names}


async def test_every_table_of_bodies_packs_what_is_large_and_keeps_the_row_together(database: str) -> None:
    """A partition that comes later too: else its ids and tokens would be moved out of its large rows."""
    connection = await connected(database)
    unlike = await connection.fetch(
        "SELECT c.relname, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'"
        " LEFT JOIN pg_inherits i ON i.inhrelid = c.oid"
        " WHERE (i.inhparent = 'fhirgw.resource'::regclass OR c.oid = 'fhirgw.history'::regclass) AND a.attnum > 0"
        " AND a.attlen = -1 AND NOT a.attisdropped"
        " AND (a.attstorage <> 'm' OR 'toast_tuple_target=2032' <> ALL (coalesce(c.reloptions, '{}')))"
    )
    assert unlike == []
    notes = [{"text": f"What the carer saw on day {n} of the visit: all was well"} for n in range(100)]
    large, small = made("Observation", "large", note=notes), made("Observation", "small", note=notes[:3])
    await put(database, large, small)
    rows = await connection.fetch(
        "SELECT body, octet_length(body) AS said, pg_column_size(body) AS kept FROM fhirgw.resource ORDER BY id"
    )
    assert [row["body"] for row in rows] == [encode(stamped(each)).decode() for each in (large, small)]
    assert [row["kept"] < row["said"] / 2 for row in rows] == [True, False]
    aside = await connection.fetchval(
        "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'fhirgw.resource_observation'::regclass"
    )
    assert aside == 0
    await connection.close()


async def test_it_says_the_version_and_changes_nothing_the_second_time(engine: AsyncEngine) -> None:
    assert await migrate.version(engine) == migrate.newest()
    assert await migrate.migrate(engine) == migrate.newest()


def test_the_migrations_follow_one_another_as_alembic_says() -> None:
    every = [each.revision for each in ScriptDirectory.from_config(migrate.configuration()).walk_revisions()]
    assert every[0] == migrate.newest()
    assert all(migrate.serves(each) == (each == every[0]) for each in every)
    assert migrate.serves("9999")


async def test_many_at_once_make_them_once(server_url: str) -> None:
    name = f"{TEMPLATE}_many"
    admin = await connected(server_url)
    await admin.execute(f"CREATE DATABASE {name}")
    engine = connect(named(server_url, name))
    try:
        assert await migrate.version(engine) is None
        assert set(await asyncio.gather(*(migrate.migrate(engine) for _ in range(4)))) == {migrate.newest()}
        assert await migrate.version(engine) == migrate.newest()
    finally:
        await engine.dispose()
        await admin.execute(f"DROP DATABASE {name}")
        await admin.close()


async def test_they_go_as_they_came(engine: AsyncEngine) -> None:
    def down(connection: Connection) -> None:
        config = migrate.configuration()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")

    async with engine.begin() as connection:
        await connection.run_sync(down)
        left = await connection.execute(
            text("SELECT relname FROM pg_class WHERE relnamespace = 'fhirgw'::regnamespace")
        )
        assert {name for (name,) in left if not name.startswith("alembic_version")} == set()
    assert await migrate.migrate(engine) == migrate.newest()


async def test_a_body_with_a_control_character_is_refused(database: str) -> None:
    insert = (
        "INSERT INTO fhirgw.resource (type, id, version, updated, origin, tokens, body)"
        " VALUES ('Patient', $1, 1, now(), 'test', '{}', $2)"
    )
    connection = await connected(database)
    try:
        await connection.execute(insert, "plain", '{"a":"\u00e9 \\n \u2028"}')
        for code in range(1, 32):
            with pytest.raises(asyncpg.CheckViolationError, match="resource_body_plain"):
                await connection.execute(insert, f"c{code}", f'{{"a":"{chr(code)}"}}')
    finally:
        await connection.close()


async def test_a_migration_does_not_wait_long_for_a_lock(database: str) -> None:
    """`SET LOCAL` in env.py: without it, one long report would stop the gateway behind a waiting migration."""
    connection = await connected(database)
    engine = connect(database)
    try:
        async with engine.begin() as migrating:
            await migrating.run_sync(migrate._upgrade)
            waits = (await migrating.execute(text("SHOW lock_timeout"))).scalar_one()
            lasts = (await migrating.execute(text("SHOW statement_timeout"))).scalar_one()
        assert (waits, lasts) == ("5s", "10min")
    finally:
        await engine.dispose()
        await connection.close()
