"""The second lock: row-level security shows nobody's data to a connection that has not declared a permit, whatever it
asks. https://www.postgresql.org/docs/18/ddl-rowsecurity.html"""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
from sqlalchemy import select

from fhirgw.store.database import SESSION, WRITING, declared, statement
from fhirgw.store.schema import resource
from fhirgw.store.visibility import values, visible
from tests.access_policy.oracle import Caller, World
from tests.access_policy.people import COUNCIL, NOW, callers, record
from tests.access_policy.stored import fill, permit
from tests.conftest import NewDatabase
from tests.put import connected, supersede

PERMIT = permit(Caller(COUNCIL, "direct-care"), NOW)
RULES = ("relationship", "directive", "delegation", "narrowed", "opt_out", "break_glass", "export_job", "export_part")
IMPORTS = ("import_job", "import_input", "import_error", "import_reference")
TABLES = ("resource", "history", "search_string", "search_number", "search_span", "identifier", *RULES, *IMPORTS)
PARTS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'fhirgw.resource'::regclass ORDER BY 1"
FORCED = "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = $1::text::regclass"
POLICIES = "SELECT tablename::text, count(*) FROM pg_policies WHERE schemaname = 'fhirgw' GROUP BY tablename"
OPEN = {
    *("alembic_version", "sync_run", "watermark", "opt_out_list", "pseudonymised"),  # when what was done
    *("change", "lineage", "indexed"),  # ids, keys and digests alone
    *("registration", "issued_token", "used_assertion", "cursor_key"),  # applications, and what signs their links
    *("pull", "pull_file"),  # addresses and digests of files of other servers
    *("audit", "audit_form", "audit_head"),  # append-only, and read to be verified by whoever runs the gateway
}
WRITES = (
    "INSERT INTO fhirgw.search_string (type, id, param, value) VALUES ('Patient', 'x', 'name', 'x')",
    "INSERT INTO fhirgw.search_number (type, id, place, low, high) VALUES ('Patient', 'x', 'x', 0, 0)",
    "INSERT INTO fhirgw.search_span (type, id, param, low, high) VALUES ('Patient', 'x', 'x', now(), now())",
    "INSERT INTO fhirgw.identifier (system, value, patient, origin, sure) VALUES ('x', 'x', 'x', 'x', 'stated')",
    "INSERT INTO fhirgw.resource (type, id, version, updated, origin, tokens, body)"
    " VALUES ('Patient', 'x', 1, now(), 'x', '{}', '{}')",
    "INSERT INTO fhirgw.resource_patient (type, id, version, updated, origin, tokens, body)"
    " VALUES ('Patient', 'x', 1, now(), 'x', '{}', '{}')",
    "INSERT INTO fhirgw.history (type, id, version, updated, origin, body)"
    " VALUES ('Patient', 'x', 1, now(), 'x', '{}')",
    "INSERT INTO fhirgw.relationship (person, party, kind, type, id) VALUES ('x', 'x', 'gp', 'Patient', 'x')",
    "INSERT INTO fhirgw.directive (person, effect, weight, decided, type, id)"
    " VALUES ('x', 'permit', 1, 'person', 'Consent', 'x')",
    "INSERT INTO fhirgw.delegation (person, delegate, kind, type, id)"
    " VALUES ('x', 'RelatedPerson/x', 'carer', 'Consent', 'x')",
    "INSERT INTO fhirgw.narrowed (person) VALUES ('x')",
    "INSERT INTO fhirgw.opt_out (nhs_number) VALUES ('x')",
    "INSERT INTO fhirgw.break_glass (id, person, practitioner, organisation, registration, reason, expires)"
    " VALUES ('x', 'x', 'x', 'x', 'x', 'They fell, and nobody answers', clock_timestamp())",
    "INSERT INTO fhirgw.export_job (id, permit, types, request) VALUES ('x', '{}', '{}', 'x')",
    "INSERT INTO fhirgw.export_part (job, number, kind) VALUES ('x', 0, 'plan')",
    "INSERT INTO fhirgw.import_job (id, permit, origin, request) VALUES ('x', '{}', 'x', 'x')",
    "INSERT INTO fhirgw.import_input (job, number, source) VALUES ('x', 1, 'x')",
    "INSERT INTO fhirgw.import_error (job, input, line, outcome) VALUES ('x', 1, 1, '{}')",
    "INSERT INTO fhirgw.import_reference (job, type, id, input, line) VALUES ('x', 'Patient', 'x', 1, 1)",
)


@pytest.fixture(scope="module")
async def stored(new_database: NewDatabase) -> AsyncIterator[str]:
    """A database with something in each of the tables."""
    async with new_database() as url:
        world = World()
        world.add(COUNCIL, *record("ann"))
        await fill(url, world)
        plan = world.resources["CarePlan", "ann-plan"]
        await supersede(url, plan, {**plan, "status": "completed"}, 2, NOW)
        connection = await connected(url)
        for write in (*WRITES[1:3], *WRITES[-len(RULES + IMPORTS) :]):
            await connection.execute(write)
        await connection.close()
        yield url


@pytest.fixture
async def plain(stored: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection as a pool of the gateway opens it, which has declared nothing."""
    connection = await asyncpg.connect(stored, server_settings=SESSION)
    yield connection
    await connection.close()


async def counts(connection: asyncpg.Connection, names: list[str]) -> dict[str, int]:
    # A comment of its own for each time: a statement that was prepared keeps the answer it was planned with.
    counts.times = getattr(counts, "times", 0) + 1  # type: ignore[attr-defined]
    asked = f"SELECT count(*) FROM {{}} /* {counts.times} */"  # type: ignore[attr-defined]
    return {name: await connection.fetchval(asked.format(name)) for name in names}


async def guarded(connection: asyncpg.Connection) -> list[str]:
    return [*(f"fhirgw.{each}" for each in TABLES), *(row[0] for row in await connection.fetch(PARTS))]


async def test_without_a_permit_there_is_not_one_row(plain: asyncpg.Connection, stored: str) -> None:
    names = await guarded(plain)
    assert len(names) > 25
    assert set((await counts(plain, names)).values()) == {0}
    async with declared(plain, PERMIT):
        permitted = await counts(plain, names)
    assert all(permitted[f"fhirgw.{each}"] > 0 for each in TABLES)
    # A partition has no policy of its own, so asked by its own name it shows nothing even then: but there are rows.
    parts = [name for name in names if "resource_" in name]
    assert {permitted[name] for name in parts} == {0}
    filled = {name for name in parts if await plain.fetchval("SELECT pg_relation_size($1::text::regclass)", name)}
    assert {name.rpartition("_")[2] for name in filled} == {each["resourceType"].lower() for each in record("ann")}
    assert set((await counts(plain, names)).values()) == {0}  # the transaction is over, and so is what it declared


async def test_a_search_or_a_join_goes_round_nothing(plain: asyncpg.Connection) -> None:
    for asked in (
        "SELECT exists (SELECT FROM fhirgw.resource WHERE id = 'ann')",
        "SELECT exists (SELECT FROM fhirgw.relationship t JOIN fhirgw.resource r ON r.patient = t.person)",
        "SELECT coalesce((SELECT body FROM fhirgw.history LIMIT 1), '') <> ''",
    ):
        assert await plain.fetchval(asked) is False
        async with declared(plain, PERMIT):
            assert await plain.fetchval(f"{asked} /* declared */") is True


@pytest.mark.parametrize(
    "settings", [{}, {"fhirgw.permit": "test"}, {"fhirgw.permit": "test", "fhirgw.writing": "off"}]
)
async def test_nobody_writes_but_who_says_so(stored: str, settings: dict[str, str]) -> None:
    connection = await asyncpg.connect(stored, server_settings=settings)
    try:
        for write in WRITES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(write)
        for table in TABLES:
            assert await connection.execute(f"DELETE FROM fhirgw.{table}") == "DELETE 0"
        assert await connection.execute("UPDATE fhirgw.resource SET body = '{}'") == "UPDATE 0"
    finally:
        await connection.close()
    writer = await connected(stored)
    try:
        undone = writer.transaction()
        await undone.start()
        for write in (*WRITES[:4], WRITES[7]):
            await writer.execute(write)
        assert await writer.execute("DELETE FROM fhirgw.history") == "DELETE 1"
        await undone.rollback()
    finally:
        await writer.close()


async def test_a_permit_that_was_declared_does_not_write(plain: asyncpg.Connection) -> None:
    for write in WRITES:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
            async with declared(plain, PERMIT):
                await plain.execute(write)


async def test_who_has_read_under_a_permit_still_sees_what_they_write(stored: str) -> None:
    """PL/pgSQL keeps the answers of immutable functions it calls: the lock must ask the setting itself."""
    writer = await asyncpg.connect(stored, server_settings=SESSION | WRITING)
    try:
        for table in TABLES:
            query = f"SELECT count(*) FROM fhirgw.{table} /* {table} */"
            async with declared(writer, PERMIT):
                assert await writer.fetchval(query) > 0
            assert await writer.fetchval(f"{query} /* again */") > 0
    finally:
        await writer.close()


async def test_the_lock_holds_for_the_owner_of_the_tables(plain: asyncpg.Connection) -> None:
    for name in await guarded(plain):
        assert await plain.fetchval(FORCED, name) is True, name
    policies = dict(await plain.fetch(POLICIES))
    assert {name: policies[name] for name in TABLES} == dict.fromkeys(TABLES, 4)


async def test_every_table_is_locked_or_holds_nobodys_data(plain: asyncpg.Connection) -> None:
    """So that a new table cannot forget it."""
    unlocked = await plain.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'fhirgw'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT (relrowsecurity AND relforcerowsecurity)"
    )
    assert {row[0] for row in unlocked} == OPEN


async def test_the_account_is_no_superuser_and_goes_round_no_policy(plain: asyncpg.Connection) -> None:
    asked = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"
    assert await plain.fetchval(asked) is False
    assert await plain.fetchval("SELECT count(*) FROM pg_roles WHERE rolsuper") >= 1
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await plain.execute("SET ROLE postgres")


@pytest.mark.parametrize("name", ["council", "surgery", "provider running"])
async def test_a_search_is_planned_as_if_rules_were_not_locked(new_database: NewDatabase, name: str) -> None:
    """The policies are worked out when a statement is planned, and leave no trace in the plan."""
    caller = permit(callers()[name], NOW)
    made = statement(select(resource.c.id).where(resource.c.type == "Flag", visible(caller, "s", "Flag")))
    async with new_database() as url:
        world = World()
        world.add(COUNCIL, *record("ann"), *record("ben"))
        await fill(url, world)
        owner = await connected(url)
        await owner.execute("ANALYZE")

        async def plan() -> list[str]:
            connection = await asyncpg.connect(url, server_settings=SESSION)
            try:
                async with declared(connection, caller):
                    rows = await connection.fetch(f"EXPLAIN {made.sql}", *made.arguments(values(caller)))
            finally:
                await connection.close()
            return [row[0] for row in rows]

        locked = await plan()
        for table in RULES:
            await owner.execute(f"ALTER TABLE fhirgw.{table} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY")
        assert await plan() == locked
        assert any("directive" in line for line in locked)
        await owner.close()
