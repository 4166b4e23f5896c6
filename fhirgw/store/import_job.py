"""Imports as rows: what was asked for, and the ledger of how far each input is.

Who has which input, and for how long, is as with all that is done in parts: see fhirgw.store.lease. Its place moves in
the transaction that takes its lines in, and only with the token it was claimed with: so each line is taken in once,
whoever dies, and whoever comes back that was given up for dead takes in nothing.

Long, because a third of it is SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import orjson

from fhirgw.access.permit import OPERATOR, Permit
from fhirgw.store.database import Connection
from fhirgw.store.export_job import ALONE, REVOKED, permit_of
from fhirgw.store.lease import LEASE, Leases

COUNTS = ("created", "updated", "unchanged", "refused")

STOPPED = """
'It was begun ' || attempts || ' times at line ' || line || ', and each time its worker stopped without a word'"""
PATIENTS = "i.source !~ '(^|/)Patient[.][^/]*$'"
"""Files of Patients first, by their names: what decides who sees somebody's record waits for them."""

SEEN = "i.source <> ALL ($4::text[])"
LEASES = Leases("fhirgw.import_job", "fhirgw.import_input", STOPPED, first=PATIENTS, able=SEEN, ours="NOT j.local")
renew, fail, release, waiting = LEASES.renew, LEASES.fail, LEASES.release, LEASES.waiting

BEGIN = f"UPDATE fhirgw.import_input SET stamp = $4, size = $5 WHERE {LEASES.wanted}"
ADVANCE = f"""
UPDATE fhirgw.import_input
SET lease = clock_timestamp() + $4::interval, place = $5, line = $6, attempts = 1, created = created + $7,
    updated = updated + $8, unchanged = unchanged + $9, refused = refused + $10
WHERE {LEASES.wanted}"""
END = f"UPDATE fhirgw.import_input SET state = $4, lease = NULL, reason = $5 WHERE {LEASES.wanted}"

FIND = """
SELECT id, state, permit::text, origin, bases, local, request, created, finished, polled, result::text
FROM fhirgw.import_job WHERE id = $1"""

REFER = """
INSERT INTO fhirgw.import_reference (job, input, type, id, line)
SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::bigint[]) ON CONFLICT DO NOTHING"""


@dataclass(frozen=True, slots=True)
class Job:
    """An import, and the permit it was asked for with; `state` is running, done (`result`: its counts) or cancelled.

    `polled`: somebody has asked how it goes.
    """

    id: str
    state: str
    permit: Permit
    origin: str
    bases: tuple[str, ...]
    local: bool
    request: str
    created: datetime
    finished: datetime | None
    polled: bool
    result: Any

    @property
    def operator(self) -> bool:
        """Whether whoever runs the gateway asked for it, and no application."""
        return self.permit.registration == OPERATOR


@dataclass(frozen=True, slots=True)
class Input:
    """An input as it was claimed: of resources of one `type` (of any where it is empty), taken in up to `place`."""

    job: str
    number: int
    source: str
    type: str
    stamp: str | None
    token: int
    place: int
    line: int
    attempts: int

    @property
    def held(self) -> tuple[str, int, int]:
        """What says whose it is."""
        return self.job, self.number, self.token


async def accept(
    connection: Connection,
    id: str,
    permit: Permit,
    origin: str,
    request: str,
    inputs: Sequence[tuple[str, str]],
    *,
    bases: Sequence[str] = (),
    local: bool = False,
) -> None:
    """Writes the job down, before anything of it is done; `inputs` as (source, type). In the caller's transaction."""
    await connection.execute(
        "INSERT INTO fhirgw.import_job (id, permit, origin, request, bases, local)"
        " VALUES ($1, $2::jsonb, $3, $4, $5, $6)",
        *(id, orjson.dumps(asdict(permit)).decode(), origin, request, list(bases), local),
    )
    await connection.executemany(
        "INSERT INTO fhirgw.import_input (job, number, source, type) VALUES ($1, $2, $3, $4)",
        [(id, number, *each) for number, each in enumerate(inputs, 1)],
    )


async def find(connection: Connection, id: str) -> Job | None:
    """The job; None for one that nobody asked for, or that was forgotten."""
    found = await connection.fetchrow(FIND, id)
    if found is None:
        return None
    permit, result = permit_of(orjson.loads(found["permit"])), found["result"] and orjson.loads(found["result"])
    return Job(**dict(found) | {"permit": permit, "bases": tuple(found["bases"]), "result": result})


async def unfinished(connection: Connection, origin: str, request: str) -> str | None:
    """The command line's own import that broke off and asked for the same; the newest, if there are several."""
    query = (
        "SELECT id FROM fhirgw.import_job WHERE local AND state = 'running' AND origin = $1 AND request = $2"
        " ORDER BY created DESC LIMIT 1"
    )
    found: str | None = await connection.fetchval(query, origin, request)
    return found


async def reopen(connection: Connection, id: str) -> None:
    """Has all inputs of the command line's own import that are not done wait again: who was at them has gone."""
    await connection.execute(
        "UPDATE fhirgw.import_input SET state = 'waiting', attempts = 0, lease = NULL, reason = NULL"
        " WHERE job = $1 AND state IN ('running', 'failed')",
        id,
    )


async def claim(
    connection: Connection, job: str, worker: str, lease: timedelta = LEASE, *, unseen: Sequence[str] = ()
) -> Input | None:
    """The next input of a job that waits, begun; None where none does or the job is not to go on.

    `unseen`: sources that the worker cannot read, and leaves to others.
    """
    found = await LEASES.claim(connection, job, worker, lease, list(unseen))
    return Input(*(found[each.name] for each in fields(Input))) if found else None


async def begin(connection: Connection, held: Input, stamp: str, size: int) -> bool:
    """Says what the file is, of so many bytes. False: it is not one's own any more, or not wanted."""
    return bool(await connection.execute(BEGIN, *held.held, stamp, size) == "UPDATE 1")


async def advance(
    connection: Connection, held: Input, place: int, line: int, counts: Iterable[int], lease: timedelta = LEASE
) -> bool:
    """All before the place is taken in, by COUNTS. False: it is not one's own any more, or not wanted: roll back."""
    return bool(await connection.execute(ADVANCE, *held.held, lease, place, line, *counts) == "UPDATE 1")


async def bound(connection: Connection, patience: timedelta) -> None:
    """Has the server end the transaction when whoever began it has stood still so long: its rows are locked."""
    milliseconds = int(patience.total_seconds() * 1000)
    await connection.execute(f"SET LOCAL idle_in_transaction_session_timeout = {milliseconds}")


async def end(connection: Connection, held: Input, failure: str | None = None) -> bool:
    """The input is done, or there is no more to be had of it. False: it is not one's own any more, or not wanted."""
    status = await connection.execute(END, *held.held, "failed" if failure else "done", failure)
    return bool(status == "UPDATE 1")


async def refuse(connection: Connection, held: Input, outcomes: Iterable[tuple[int, str]]) -> None:
    """Why lines are not taken, as OperationOutcomes."""
    await connection.executemany(
        "INSERT INTO fhirgw.import_error (job, input, line, outcome) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (job, input, line) DO UPDATE SET outcome = excluded.outcome",
        [(held.job, held.number, line, outcome) for line, outcome in outcomes],
    )


async def refer(connection: Connection, held: Input, waiting: Sequence[tuple[str, str, int]]) -> None:
    """What lines refer to that is not here yet, as (type, id, line)."""
    if waiting:
        types, ids, lines = (list(column) for column in zip(*sorted(waiting), strict=True))
        await connection.execute(REFER, held.job, held.number, types, ids, lines)


async def references(connection: Connection, job: str) -> list[tuple[str, str, int, int]]:
    """What was not here when lines referred to it, as (type, id, input, line)."""
    query = "SELECT type, id, input, line FROM fhirgw.import_reference WHERE job = $1 ORDER BY input, line, type, id"
    return list(map(tuple, await connection.fetch(query, job)))


async def inputs(connection: Connection, job: str) -> list[Any]:
    """What the ledger says of each input of a job, in their order."""
    query = (
        "SELECT *, ceil(extract(epoch FROM lease - clock_timestamp()))::int AS believed"
        " FROM fhirgw.import_input WHERE job = $1 ORDER BY number"
    )
    return list(await connection.fetch(query, job))


async def left(connection: Connection, job: str, unseen: Sequence[str]) -> bool:
    """Whether all that is not done of a job are sources that nobody can read who cannot read these."""
    query = (
        "SELECT FROM fhirgw.import_input i WHERE job = $1 AND state IN ('waiting', 'running')"
        " AND source <> ALL ($2::text[]) LIMIT 1"
    )
    return bool(unseen) and await connection.fetchrow(query, job, list(unseen)) is None


async def outcomes(connection: Connection, job: str, number: int, after: int, count: int) -> list[tuple[int, str]]:
    """Why lines of an input were refused, in their order, some at a time."""
    query = (
        "SELECT line, outcome FROM fhirgw.import_error WHERE job = $1 AND input = $2 AND line > $3"
        " ORDER BY line LIMIT $4"
    )
    return list(map(tuple, await connection.fetch(query, job, number, after, count)))


async def ended(connection: Connection, job: str) -> bool:
    """Whether no input of a job waits or is worked on."""
    query = "SELECT FROM fhirgw.import_input WHERE job = $1 AND state IN ('waiting', 'running') LIMIT 1"
    return await connection.fetchrow(query, job) is None


async def finish(connection: Connection, id: str, state: str, result: dict[str, Any] | None = None) -> bool:
    """The job is done, or cancelled. False: it had ended before."""
    status = await connection.execute(
        "UPDATE fhirgw.import_job SET state = $2, result = $3::jsonb, finished = clock_timestamp()"
        " WHERE id = $1 AND state = 'running'",
        *(id, state, orjson.dumps(result).decode() if result is not None else None),
    )
    return bool(status == "UPDATE 1")


async def under_way(connection: Connection, permit: Permit) -> int:
    """How many imports of one application run; nobody else counts them until the transaction that asks this ends."""
    await connection.execute(ALONE, f"imports of {permit.organisation} {permit.registration}")
    query = (
        "SELECT count(*) FROM fhirgw.import_job WHERE state = 'running'"
        " AND permit ->> 'organisation' = $1 AND permit ->> 'registration' = $2"
    )
    return int(await connection.fetchval(query, permit.organisation, permit.registration))


async def poll(connection: Connection, id: str) -> None:
    """Somebody has asked how it goes."""
    await connection.execute("UPDATE fhirgw.import_job SET polled = true WHERE id = $1", id)


async def forget(connection: Connection, id: str) -> None:
    """There never was such a job. What it brought stays."""
    await connection.execute("DELETE FROM fhirgw.import_job WHERE id = $1", id)


async def expired(connection: Connection, age: timedelta) -> list[str]:
    """The jobs that ended longer ago than `age`."""
    query = "SELECT id FROM fhirgw.import_job WHERE finished < clock_timestamp() - $1::interval"
    return [row["id"] for row in await connection.fetch(query, age)]


async def sweep(connection: Connection) -> list[tuple[str, bool, bool]]:
    """Takes inputs from workers that have gone; then the jobs that run, whether inputs wait, whether all have ended.

    Those of stopped applications are cancelled.
    """
    await connection.execute(
        "UPDATE fhirgw.import_job SET state = 'cancelled', finished = clock_timestamp()"
        f" WHERE state = 'running' AND {REVOKED}"
    )
    return await LEASES.sweep(connection)
