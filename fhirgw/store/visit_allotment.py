"""Visits that are in nobody's record, and find their person by themselves.

Whatever makes a Patient, a number or a tie (a sync, an import, a FHIR write) finds the visits that waited for it, in
its own transaction; whatever takes a Patient or a number away sends the visits on (alembic/versions/0029). What is left
for the sweep is what no transaction does: a package that begins by its own date, two that wrote at the same moment. It
looks at those who wait alone, and done twice it is done once.
"""

from __future__ import annotations

from fhirgw.store.database import Connection

LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended('fhirgw visit sweep', 1))"


async def sweep(connection: Connection) -> int | None:
    """How many visits found their person; None where another process looks at this moment. In a transaction."""
    if not await connection.fetchval(LOCK):
        return None
    return int(await connection.fetchval("SELECT fhirgw.visit_sweep()"))
