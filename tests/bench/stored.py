"""Bytes on disk for what is stored, indexes in, against the bytes it has on the wire; history and audit by themselves.

A council is taken in, and taken in again when some of its records have changed, so that there is a history.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from itertools import cycle, islice
from uuid import uuid4

from fhirgw.access.audit_event import Access, Seen
from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.store.audit import append, row
from fhirgw.store.database import Connection, direct
from tests.bench.council import world
from tests.bench.figures import Figure

SIZE = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::float FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'fhirgw'
WHERE c.relkind IN ('r', 'm') AND {}"""
HISTORY = "(c.relname = 'history' OR c.relname LIKE 'history\\_%')"
APART = ("audit", "audit_head")
OTHER = f"c.relname <> ALL ('{{{','.join(APART)}}}') AND NOT {HISTORY}"
WIRE = "SELECT sum(octet_length(body))::float FROM fhirgw.{}"
CHANGES = (
    "UPDATE meadow.package_line SET minutes = minutes + 5 WHERE minutes IS NOT NULL",
    "UPDATE meadow.person SET email = 'new.' || email WHERE email IS NOT NULL",
)
"""What changes in the council's records, so that there is a history."""
CARE = Permit("Z9C01", "direct-care", (Scope.parse("system/*.rs"),), registration="bench")
READS, FOUND = 4000, 10
"""Accesses that are recorded, and of every other one how many people's resources it found."""


def run() -> list[Figure]:
    """Ratios, and bytes an access."""
    return asyncio.run(_run())


async def _run() -> list[Figure]:
    now = Figure("stored bytes against wire", "ratio", "target at most 2.5")
    history = Figure("stored bytes of history against wire", "ratio")
    audit = Figure("stored bytes of a read's audit", "bytes")
    searches = Figure(f"stored bytes of the audit of a search that found {FOUND}", "bytes")
    async with world() as made:
        await made.sync()
        async with direct(made.engine) as connection:
            now.values.append(await connection.fetchval(SIZE.format(OTHER)) / await _wire(connection, "resource"))
            for change in CHANGES:
                await connection.execute(change)
        await made.sync()
        async with direct(made.engine) as connection:
            history.values.append(await connection.fetchval(SIZE.format(HISTORY)) / await _wire(connection, "history"))
            audit.values.append(await _audited(connection, 1))
            searches.values.append(await _audited(connection, FOUND))
    return [now, history, audit, searches]


async def _wire(connection: Connection, table: str) -> float:
    found: float = await connection.fetchval(WIRE.format(table))
    return found


async def _audited(connection: Connection, found: int) -> float:
    """Bytes that an access takes which found resources of so many people."""
    ids = [each[0] for each in await connection.fetch("SELECT id FROM fhirgw.resource WHERE type = 'Patient'")]
    people = cycle(ids)
    sized = SIZE.format("c.relname = ANY ('{audit,audit_head}')")
    before = await connection.fetchval(sized)
    for _ in range(READS // 100):
        await append(connection, [row(_access(list(islice(people, found)))) for _ in range(100)])
    after: float = await connection.fetchval(sized)
    return (after - before) / READS


def _access(people: list[str]) -> Access:
    seen = [Seen("Patient", each, each) for each in people]
    moment, request = datetime.now(UTC), str(uuid4())
    if len(people) == 1:
        named = f"Patient/{people[0]}"
        return Access("read", "/fhir/{type}/{id}", moment, request, type="Patient", asked=named, seen=seen, permit=CARE)
    return Access("search-type", "/fhir/{type}", moment, request, type="Patient", seen=seen, permit=CARE)
