"""The book of sync runs: who runs now, when each began and ended, and what it counted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncEngine

from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store.database import Connection, direct


class AlreadyRunning(FhirError):
    """Another process is taking in the same system."""


@asynccontextmanager
async def alone(connection: Connection, system: str, what: str = "sync") -> AsyncIterator[None]:
    """Holds the system against a second sync (or `what` else it is), for as long as the connection lives."""
    lock = f"fhirgw {what} {system}"
    if not await connection.fetchval("SELECT pg_try_advisory_lock(hashtextextended($1, 0))", lock):
        raise AlreadyRunning(Issue("conflict", f"Another {what} of {system} is running: wait until it has ended."))
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock(hashtextextended($1, 0))", lock)


async def skew(connection: Connection) -> timedelta:
    """How far the database's clock is ahead of this process's."""
    there: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return there - datetime.now(UTC)


async def start(connection: Connection, system: str) -> int:
    """A new run's number. Runs that never ended are those of processes that died: they are closed."""
    await connection.execute(
        "UPDATE fhirgw.sync_run SET finished = clock_timestamp(), outcome = 'interrupted'"
        " WHERE system = $1 AND finished IS NULL",
        system,
    )
    return int(await connection.fetchval("INSERT INTO fhirgw.sync_run (system) VALUES ($1) RETURNING id", system))


async def finish(connection: Connection, run: int, counts: dict[str, Any]) -> None:
    """The run ended well."""
    await connection.execute(
        "UPDATE fhirgw.sync_run SET finished = clock_timestamp(), outcome = 'done', counts = $2::jsonb WHERE id = $1",
        run,
        orjson.dumps(counts).decode(),
    )


async def fail(engine: AsyncEngine, run: int, reason: str) -> None:
    """The run ended badly: `reason` names a kind of error, nobody's data. Silent where the database is away."""
    try:
        async with direct(engine) as connection:
            query = "UPDATE fhirgw.sync_run SET finished = clock_timestamp(), outcome = $2 WHERE id = $1"
            await connection.execute(query, run, f"failed: {reason}")
    except Exception:  # noqa: S110 - the failure that is being reported matters more; `start` closes the run later
        pass
