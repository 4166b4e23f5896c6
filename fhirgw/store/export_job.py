"""Exports as rows: what was asked for, under which permit, as of which snapshot, and what came of it.

Their state outlives every process that works on them: the parts of each are in the ledger (fhirgw.store.ledger).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.store.database import Connection
from fhirgw.store.export import Selection

COLUMNS = """
SELECT j.id, j.state, j.permit::text, j.types, j.effective, j.asked::text, j.request, j.place, j.created, j.finished,
    j.polled, j.local, j.snapshot, j.time, p.rows, p.bytes, p.expected, p.parts, p.done, p.running, j.looked,
    j.result::text, p.reused, p.believed
FROM fhirgw.export_job j CROSS JOIN LATERAL (
    SELECT coalesce(sum(rows), 0)::bigint AS rows, coalesce(sum(bytes), 0)::bigint AS bytes,
        coalesce(sum(reused), 0)::bigint AS reused, coalesce(sum(expected), 0)::bigint AS expected,
        count(*) FILTER (WHERE kind <> 'plan') AS parts,
        count(*) FILTER (WHERE kind <> 'plan' AND state = 'done') AS done,
        count(*) FILTER (WHERE state = 'running') AS running,
        ceil(extract(epoch FROM max(lease) FILTER (WHERE state = 'running') - clock_timestamp()))::int AS believed
    FROM fhirgw.export_part WHERE job = j.id) p"""
FIND = f"{COLUMNS} WHERE j.id = $1"

REVOKED = """
EXISTS (
    SELECT FROM fhirgw.registration r WHERE r.id = permit ->> 'registration' AND (
        NOT r.active OR NOT permit ->> 'purpose' = ANY (r.purposes)
        OR (permit ->> 'purpose' IN ('planning', 'research') AND (
            r.agreement IS DISTINCT FROM permit ->> 'agreement' OR r.agreement_until <= statement_timestamp()))
        OR (r.pseudonyms AND coalesce(permit -> 'pseudonymous', '[]') = '[]')))"""
"""The application that asked for the job has been stopped since, or may no longer ask for its purpose, or not so."""

ALONE = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
"""Who counts jobs and adds one does so alone: of many who ask at the same time, not more are let in than may be."""


@dataclass(frozen=True, slots=True)
class Job:
    """An export, and the permit it was asked for with.

    `state` is running, done (`result`: its manifest), failed (an OperationOutcome) or cancelled. `types` were asked
    for, `effective` are those it is of, once it is planned, as of `snapshot` (`time` for callers). `place` is its
    folder, None for the one where all exports are. `expected` is about how many rows there will be, 0 if that is not
    for the caller to know; `polled`: somebody has asked how it goes. `local`: no worker takes it but who asked for it.
    `reused`: of its rows, those that were taken from the files of an earlier one. `believed`: seconds until others take
    what is worked on, unless whoever is at it gives a sign of life, as each does every second; None where nobody is.
    """

    id: str
    state: str
    permit: Permit
    types: tuple[str, ...]
    effective: tuple[str, ...]
    asked: Selection
    request: str
    place: str | None
    created: datetime
    finished: datetime | None
    polled: bool
    local: bool
    snapshot: str | None
    time: datetime | None
    rows: int
    bytes: int
    expected: int
    parts: int
    done: int
    running: int
    looked: datetime
    result: Any
    reused: int
    believed: int | None


async def accept(
    connection: Connection,
    id: str,
    permit: Permit,
    asked: Selection,
    request: str,
    *,
    policy: str = "",
    place: str | None = None,
    local: bool = False,
) -> None:
    """Writes the job down with the one part it begins with, its plan; before anything else of it is done."""
    await connection.execute(
        "WITH job AS (INSERT INTO fhirgw.export_job (id, permit, types, request, asked, policy, place, local,"
        " narrowed) VALUES ($1, $2::jsonb, $3, $4, $5::jsonb, $6, $7, $8,"
        " pg_snapshot_xmin(pg_current_snapshot())::text::bigint)"
        " RETURNING id) INSERT INTO fhirgw.export_part (job, number, kind) SELECT id, 0, 'plan' FROM job",
        id,
        orjson.dumps(asdict(permit)).decode(),
        list(asked.types),
        request,
        orjson.dumps(asdict(asked)).decode(),
        policy,
        place,
        local,
    )


async def find(connection: Connection, id: str) -> Job | None:
    """The job; None for one that nobody asked for, or that was forgotten."""
    found = await connection.fetchrow(FIND, id)
    return _job(found) if found else None


async def listed(connection: Connection) -> list[Job]:
    """All of them that workers take, the newest first."""
    return [_job(each) for each in await connection.fetch(f"{COLUMNS} WHERE NOT local ORDER BY j.created DESC, j.id")]


def _job(found: Any) -> Job:
    return Job(
        **dict(found)
        | {
            "permit": permit_of(orjson.loads(found["permit"])),
            "types": tuple(found["types"]),
            "effective": tuple(found["effective"]),
            "asked": Selection.stored(orjson.loads(found["asked"])),
            "result": orjson.loads(found["result"]) if found["result"] else None,
        }
    )


def permit_of(stored: dict[str, Any]) -> Permit:
    """The permit as `accept` wrote it down. It is judged anew, at the moment of each statement."""
    scopes = {
        name: tuple(
            Scope(each["context"], each["type"], each["verbs"], tuple(map(tuple, each["constraint"])))
            for each in stored.get(name, ())
        )
        for name in ("scopes", "pseudonymous")
    }
    return Permit(**(stored | scopes | {"parties": tuple(stored["parties"]), "moment": None}))


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


async def under_way(connection: Connection, permit: Permit) -> int:
    """How many exports of one application run; nobody else counts them until the transaction that asks this ends."""
    await connection.execute(ALONE, f"exports of {permit.organisation} {permit.registration}")
    query = (
        "SELECT count(*) FROM fhirgw.export_job WHERE state = 'running'"
        " AND permit ->> 'organisation' = $1 AND permit ->> 'registration' = $2"
    )
    return int(await connection.fetchval(query, permit.organisation, permit.registration))


async def in_state(connection: Connection, state: str) -> list[str]:
    """The jobs that workers take which are running, done, failed or cancelled."""
    query = "SELECT id FROM fhirgw.export_job WHERE state = $1 AND NOT local"
    return [row["id"] for row in await connection.fetch(query, state)]


async def revoke(connection: Connection) -> None:
    """Cancels the jobs whose application has been stopped, or its agreement, finished or not."""
    await connection.execute(
        "UPDATE fhirgw.export_job SET state = 'cancelled', finished = clock_timestamp()"
        f" WHERE state <> 'cancelled' AND {REVOKED}"
    )


async def cancel(connection: Connection, id: str) -> None:
    """The job is nobody's any more, finished or not. It is forgotten when its files are sure to be gone."""
    await connection.execute(
        "UPDATE fhirgw.export_job SET state = 'cancelled', finished = clock_timestamp()"
        " WHERE id = $1 AND state <> 'cancelled'",
        id,
    )


async def cancelled(connection: Connection, age: timedelta) -> list[str]:
    """The jobs that were cancelled no longer ago than that."""
    query = "SELECT id FROM fhirgw.export_job WHERE state = 'cancelled' AND finished > clock_timestamp() - $1::interval"
    return [row["id"] for row in await connection.fetch(query, age)]


async def unseen(connection: Connection, job: Job, age: timedelta) -> bool:
    """Whether it is longer ago than `age` that anybody looked at what the job's files may no longer hold."""
    return bool(await connection.fetchval("SELECT $1 < clock_timestamp() - $2::interval", job.looked, age))


async def poll(connection: Connection, id: str) -> None:
    """Somebody has asked how it goes."""
    await connection.execute("UPDATE fhirgw.export_job SET polled = true WHERE id = $1", id)


async def forget(connection: Connection, id: str) -> None:
    """There never was such a job."""
    await connection.execute("DELETE FROM fhirgw.export_job WHERE id = $1", id)


async def abandon(connection: Connection, below: str) -> None:
    """There never were the jobs whose folders are below one, which nobody else writes to now: who did was killed."""
    await connection.execute("DELETE FROM fhirgw.export_job WHERE local AND starts_with(place, $1)", below)


async def expired(connection: Connection, age: timedelta) -> list[str]:
    """The jobs that ended longer ago than `age`, but those in folders of their own."""
    query = "SELECT id FROM fhirgw.export_job WHERE finished < clock_timestamp() - $1::interval AND place IS NULL"
    return [row["id"] for row in await connection.fetch(query, age)]
