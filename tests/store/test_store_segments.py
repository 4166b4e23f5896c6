"""An export of what changed, and one that begins from another, read what changed and not what did not."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

from fhirgw.access.permit import Permit, operations
from fhirgw.access.scope import Scope
from fhirgw.store import export_job, segments, visibility
from fhirgw.store.database import Connection, Engine, direct, statement
from fhirgw.store.export import Selection, Stretch, _part
from fhirgw.store.export_job import Job

GOALS, CHANGED = 20_000, 40
COUNCIL = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),), parties=("Organization/z99",))

FILLED = f"""
INSERT INTO fhirgw.resource (type, id, version, updated, patient, origin, controller, tokens, body)
SELECT 'Goal', md5(n::text), 1, now() - interval '1 day', md5('p' || n % 1000), 'test', 'Z99', '{{}}',
    '{{"resourceType":"Goal","id":"' || md5(n::text) || '","text":"' || repeat('x', 800) || '"}}'
FROM generate_series(1, {GOALS}) n"""

TIED = """
INSERT INTO fhirgw.relationship (person, party, kind, type, id)
SELECT md5('p' || n), 'Organization/z99', 'council', 'Patient', md5('p' || n) FROM generate_series(1, 1000) n"""

UPDATED = f"""
WITH old AS (SELECT * FROM fhirgw.resource ORDER BY id LIMIT {CHANGED}), kept AS (
    INSERT INTO fhirgw.history (type, id, version, updated, patient, origin, controller, body)
    SELECT type, id, version, updated, patient, origin, controller, body FROM old)
UPDATE fhirgw.resource r SET version = 2, updated = now(), transaction = pg_current_xact_id()
FROM old WHERE r.type = old.type AND r.id = old.id"""

DISSENT = """
INSERT INTO fhirgw.directive (person, effect, weight, decided, type, id)
VALUES (md5('p7'), 'deny', 5, 'person', 'Consent', 'c')"""

READ = """
SELECT coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::int FROM pg_stat_xact_user_tables
WHERE relname = 'resource_goal' OR relname = 'history'"""


async def _job(connection: Connection, permit: Permit) -> Job:
    id = uuid4().hex
    await export_job.accept(connection, id, permit, Selection(), "test")
    job = await export_job.find(connection, id)
    assert job
    return job


async def _begun(connection: Connection, permit: Permit, base: str | None) -> tuple[str, int]:
    """An export's name, and how many rows were read to tell what is stale."""
    job = await _job(connection, permit)
    taken = await connection.fetchrow("SELECT pg_current_snapshot()::text, clock_timestamp()")
    async with connection.transaction():
        before = await connection.fetchval(READ)  # of transactions that are not told of yet
        await segments.begin(connection, job, "view", tuple(taken), base, ("Goal",))
        return job.id, await connection.fetchval(READ) - before


async def test_what_is_stale_is_found_without_reading_the_rest(engine: Engine) -> None:
    async with direct(engine) as connection:
        await connection.execute(FILLED)
        await connection.execute(TIED)
        await connection.execute("ANALYZE")
        first, _ = await _begun(connection, COUNCIL, None)
        await connection.execute(UPDATED)
        again, read = await _begun(connection, COUNCIL, first)
        stale = "SELECT count(*) FROM fhirgw.export_stale WHERE base = $1"
        assert await connection.fetchval(stale, again) == CHANGED
        assert CHANGED <= read <= 4 * CHANGED
        await connection.execute(DISSENT)
        third, read = await _begun(connection, COUNCIL, again)
        theirs = GOALS // 1000
        assert await connection.fetchval(stale, third) == theirs
        assert theirs <= read <= 4 * (theirs + CHANGED)


async def test_an_export_since_reads_what_changed(engine: Engine) -> None:
    async with direct(engine) as connection:
        await connection.execute(FILLED)
        await connection.execute(UPDATED)
        await connection.execute("ANALYZE")
        since = await connection.fetchval("SELECT now()") - timedelta(hours=1)
        snapshot = await connection.fetchval("SELECT pg_current_snapshot()::text")
        for permit in (operations("Z99"), COUNCIL):
            made = statement(_part(permit, Stretch("Goal"), Selection(since=since), {}, ()))
            asked = made.arguments(visibility.values(permit) | {"snapshot": snapshot})
            plan: Any = await connection.fetch("EXPLAIN (COSTS OFF) " + made.sql, *asked)
            told = "\n".join(row[0] for row in plan)
            assert "resource_goal_updated_idx" in told
            assert "Seq Scan on resource" not in told
            assert "Seq Scan on history" not in told
