"""Exports asked for over HTTP, as rows: their state outlives the process that runs them.

Whoever runs a job holds its lock, an advisory one, from before the row can be seen until the job has ended. So a job
that says it is running and whose lock is free is a job whose process died, and whoever looks may say so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.store.database import Connection, Engine, direct

LOCK = "hashtextextended('fhirgw export ' || $1, 0)"

FIND = """
SELECT id, state, permit::text, types, created, finished, polled, rows, bytes, expected,
       result::text
FROM fhirgw.export_job WHERE id = $1"""

REVOKED = """
EXISTS (
    SELECT FROM fhirgw.registration r WHERE r.id = permit ->> 'registration' AND (
        NOT r.active OR NOT permit ->> 'purpose' = ANY (r.purposes)
        OR (permit ->> 'purpose' IN ('planning', 'research') AND (
            r.agreement IS DISTINCT FROM permit ->> 'agreement' OR r.agreement_until <= statement_timestamp()))))"""
"""The application that asked for the job has been stopped since, or may no longer ask for its purpose."""


@dataclass(frozen=True, slots=True)
class Job:
    """An export, and the permit it was asked for with.

    `state` is running, done (`result`: its manifest), failed (an OperationOutcome) or cancelled.

    `expected` is about how many rows there will be, 0 if nobody knows; `polled`: somebody has asked how it goes.
    """

    id: str
    state: str
    permit: Permit
    types: tuple[str, ...]
    created: datetime
    finished: datetime | None
    polled: bool
    rows: int
    bytes: int
    expected: int
    result: Any


@asynccontextmanager
async def claimed(engine: Engine, id: str) -> AsyncIterator[Connection]:
    """A connection that holds the job's lock as long as it lives."""
    async with direct(engine) as connection:
        await connection.execute(f"SELECT pg_advisory_lock({LOCK})", id)
        try:
            yield connection
        finally:
            if not connection.is_closed():
                await connection.execute(f"SELECT pg_advisory_unlock({LOCK})", id)


async def accept(connection: Connection, id: str, permit: Permit, types: tuple[str, ...], request: str) -> None:
    """Writes the job down, before anything else of it is done."""
    await connection.execute(
        "INSERT INTO fhirgw.export_job (id, permit, types, request, narrowed)"
        " VALUES ($1, $2::jsonb, $3, $4, pg_snapshot_xmin(pg_current_snapshot())::text::bigint)",
        id,
        orjson.dumps(asdict(permit)).decode(),
        list(types),
        request,
    )


async def find(connection: Connection, id: str) -> Job | None:
    """The job; None for one that nobody asked for, or that was forgotten."""
    found = await connection.fetchrow(FIND, id)
    if found is None:
        return None
    result = orjson.loads(found["result"]) if found["result"] else None
    permit = _permit(orjson.loads(found["permit"]))
    return Job(**(dict(found) | {"permit": permit, "types": tuple(found["types"]), "result": result}))


def _permit(stored: dict[str, Any]) -> Permit:
    """The permit as `accept` wrote it down. It is judged anew, at the moment of each statement."""
    scopes = tuple(
        Scope(each["context"], each["type"], each["verbs"], tuple(map(tuple, each["constraint"])))
        for each in stored["scopes"]
    )
    return Permit(**(stored | {"scopes": scopes, "parties": tuple(stored["parties"]), "moment": None}))


async def report(connection: Connection, id: str, rows: int, size: int, expected: int) -> bool:
    """Says how far the job is. False: it is not to go on, because it was cancelled or its application stopped."""
    status = await connection.execute(
        "UPDATE fhirgw.export_job SET rows = $2, bytes = $3, expected = $4"
        f" WHERE id = $1 AND state = 'running' AND NOT {REVOKED}",
        id,
        rows,
        size,
        expected,
    )
    return bool(status != "UPDATE 0")


async def end(connection: Connection, id: str, state: str, result: dict[str, Any] | None = None) -> bool:
    """The job is done, failed or cancelled. False: it had ended before."""
    status = await connection.execute(
        "UPDATE fhirgw.export_job SET state = $2, result = $3::jsonb, finished = clock_timestamp()"
        " WHERE id = $1 AND state = 'running'",
        id,
        state,
        orjson.dumps(result).decode() if result is not None else None,
    )
    return bool(status != "UPDATE 0")


async def finished(connection: Connection) -> list[str]:
    """The jobs that have files."""
    return [row["id"] for row in await connection.fetch("SELECT id FROM fhirgw.export_job WHERE state = 'done'")]


async def revoked(connection: Connection) -> list[str]:
    """The jobs whose application has been stopped, or its agreement."""
    query = f"SELECT id FROM fhirgw.export_job WHERE state <> 'cancelled' AND {REVOKED}"
    return [row["id"] for row in await connection.fetch(query)]


async def poll(connection: Connection, id: str) -> None:
    """Somebody has asked how it goes."""
    await connection.execute("UPDATE fhirgw.export_job SET polled = true WHERE id = $1", id)


async def forget(connection: Connection, id: str) -> None:
    """There never was such a job."""
    await connection.execute("DELETE FROM fhirgw.export_job WHERE id = $1", id)


async def abandoned(connection: Connection, id: str) -> bool:
    """True when nobody runs the job: its lock can be had."""
    free = bool(await connection.fetchval(f"SELECT pg_try_advisory_lock({LOCK})", id))
    if free:
        await connection.execute(f"SELECT pg_advisory_unlock({LOCK})", id)
    return free


async def unfinished(connection: Connection) -> list[str]:
    """The jobs that say they are running."""
    return [row["id"] for row in await connection.fetch("SELECT id FROM fhirgw.export_job WHERE state = 'running'")]


async def expired(connection: Connection, age: timedelta) -> list[str]:
    """The jobs that ended longer ago than `age`."""
    query = "SELECT id FROM fhirgw.export_job WHERE finished < clock_timestamp() - $1::interval"
    return [row["id"] for row in await connection.fetch(query, age)]
