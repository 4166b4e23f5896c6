"""The ledger of an export's parts: who has which, until when they are believed, and what each came to.

A part is claimed before it is worked on: the attempt is counted, its token goes up, and a lease begins, which whoever
works on it renews. A lease that was not renewed is swept by any process: the part waits again, or has failed after
ATTEMPTS. What a worker finishes counts only with the token it claimed with, so one that was given up for dead and comes
back is refused, and what it wrote is under a key that nobody will ever read: the key has the token in it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fhirgw.store.database import Connection
from fhirgw.store.export_job import REVOKED

ATTEMPTS = 3
"""Times a part is begun: one that took three workers with it would take a fourth."""

LEASE = timedelta(seconds=30)
"""How long a worker that says nothing is believed."""

CLAIM = f"""
WITH next AS (
    SELECT p.job, p.number FROM fhirgw.export_part p JOIN fhirgw.export_job j ON j.id = p.job
    WHERE p.state = 'waiting' AND p.job = $1 AND j.state = 'running' AND NOT {REVOKED}
        AND NOT EXISTS (SELECT FROM fhirgw.export_part f WHERE f.job = $1 AND f.state = 'failed')
    ORDER BY p.attempts, p.number LIMIT 1 FOR UPDATE OF p SKIP LOCKED)
UPDATE fhirgw.export_part p
SET state = 'running', attempts = p.attempts + 1, token = p.token + 1, lease = clock_timestamp() + $3::interval,
    worker = $2, rows = 0, bytes = 0
FROM next WHERE p.job = next.job AND p.number = next.number
RETURNING p.job, p.number, p.kind, p.type, p.low, p.high, p.attempts, p.token, p.view, p.base,
    p.segment"""

HELD = "job = $1 AND number = $2 AND token = $3 AND state = 'running'"

RENEW = f"""
UPDATE fhirgw.export_part SET lease = clock_timestamp() + $4::interval, rows = $5, bytes = $6
WHERE {HELD} AND EXISTS (SELECT FROM fhirgw.export_job WHERE id = $1 AND state = 'running' AND NOT {REVOKED})"""

FINISH = f"""
UPDATE fhirgw.export_part
SET state = 'done', lease = NULL, rows = $4, bytes = $5, sha256 = $6, key = $7, persons = $8,
    reused = $9, reason = NULL
WHERE {HELD} AND EXISTS (SELECT FROM fhirgw.export_job WHERE id = $1 AND state = 'running')"""

PLANNED = f"UPDATE fhirgw.export_part SET state = 'done', lease = NULL WHERE {HELD}"

FAIL = f"""
UPDATE fhirgw.export_part
SET state = CASE WHEN $5 AND attempts < {ATTEMPTS} THEN 'waiting' ELSE 'failed' END, lease = NULL, reason = $4,
    rows = 0, bytes = 0
WHERE {HELD}"""

REFUSE = """
UPDATE fhirgw.export_part SET state = 'failed', reason = $3, rows = 0, bytes = 0
WHERE job = $1 AND number = ANY ($2::int[]) AND state = 'done'"""

RELEASE = f"""
UPDATE fhirgw.export_part SET state = 'waiting', lease = NULL, attempts = attempts - 1, rows = 0, bytes = 0
WHERE {HELD}"""

SWEEP = f"""
UPDATE fhirgw.export_part
SET state = CASE WHEN attempts < {ATTEMPTS} THEN 'waiting' ELSE 'failed' END, lease = NULL, rows = 0, bytes = 0,
    reason = 'Part ' || number || ' (' || coalesce(nullif(type, ''), kind) || ') was begun ' || attempts
        || ' times, and each time its worker stopped without a word'
WHERE state = 'running' AND lease < clock_timestamp()"""

OPEN = """
SELECT id, EXISTS (SELECT FROM fhirgw.export_part p WHERE p.job = j.id AND p.state = 'waiting') AS waiting,
    NOT EXISTS (SELECT FROM fhirgw.export_part p WHERE p.job = j.id AND p.state IN ('waiting', 'running'))
        OR EXISTS (SELECT FROM fhirgw.export_part p WHERE p.job = j.id AND p.state = 'failed') AS ended
FROM fhirgw.export_job j WHERE state = 'running' ORDER BY created"""

PARTS = """
SELECT number, kind, type, view, state, attempts, rows, bytes, sha256, key, reason, persons, reused
FROM fhirgw.export_part
WHERE job = $1 ORDER BY type, view, number"""

MEMBERS = "INSERT INTO fhirgw.export_member (job, patient) SELECT $1, unnest($2::text[])"

RESUME = """
UPDATE fhirgw.export_part SET state = 'waiting', attempts = 0, reason = NULL WHERE job = $1 AND state = 'failed'"""


@dataclass(frozen=True, slots=True)
class Part:
    """A part as it was claimed: of a type (of none: the plan), ids from `low` to before `high`, None being no bound.

    `view` names the view it is written as, if it is one's rows. `base` is the job whose file, part `segment` of it, it
    may begin from.
    """

    job: str
    number: int
    kind: str
    type: str
    low: str | None
    high: str | None
    attempts: int
    token: int
    view: str = ""
    base: str | None = None
    segment: int | None = None

    @property
    def held(self) -> tuple[str, int, int]:
        """What says whose it is."""
        return self.job, self.number, self.token


@dataclass(frozen=True, slots=True)
class Planned:
    """A part to be; `expected`: about how many resources, of everybody's."""

    kind: str
    type: str
    low: str | None = None
    high: str | None = None
    expected: int = 0
    view: str = ""
    base: str | None = None
    segment: int | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What a part came to: `sha256` and `bytes` of what is in the file, however it is kept.

    `persons`: how many people it is about, where that is counted; as many as are enough, or more, say only that.
    `reused`: rows that were not read again.
    """

    key: str
    rows: int
    bytes: int
    sha256: str
    persons: int = 0
    reused: int = 0


async def claim(connection: Connection, job: str, worker: str, lease: timedelta = LEASE) -> Part | None:
    """The next part of a job that waits, begun; None where none does or the job is not to go on."""
    found = await connection.fetchrow(CLAIM, job, worker, lease)
    return Part(*found) if found else None


async def renew(connection: Connection, part: Part, rows: int, size: int, lease: timedelta = LEASE) -> bool:
    """Says that the part is being worked on, and how far it is. False: it is not one's own any more, or not wanted."""
    return bool(await connection.execute(RENEW, *part.held, lease, rows, size) == "UPDATE 1")


async def finish(connection: Connection, part: Part, made: Made) -> bool:
    """The part is done. False: it is somebody else's now, or not wanted, and what was made of it counts for nothing."""
    told = made.rows, made.bytes, made.sha256, made.key, made.persons, made.reused
    status = await connection.execute(FINISH, *part.held, *told)
    return bool(status == "UPDATE 1")


async def fail(connection: Connection, part: Part, reason: str, again: bool) -> None:
    """The part could not be made: it waits for another attempt if there is one and `again`, or has failed."""
    await connection.execute(FAIL, *part.held, reason, again)


async def refuse(connection: Connection, job: str, numbers: Sequence[int], reason: str) -> None:
    """Parts that are done are not to be had."""
    await connection.execute(REFUSE, job, list(numbers), reason)


async def release(connection: Connection, part: Part) -> None:
    """The part goes back as it was: whoever worked on it was asked to stop."""
    await connection.execute(RELEASE, *part.held)


async def plan(
    connection: Connection,
    part: Part,
    taken: tuple[str, datetime],
    types: Sequence[str],
    parts: Sequence[Planned],
    members: Collection[str] = (),
) -> bool:
    """Writes the plan down, in one transaction with its being done. False: somebody else has planned it.

    `members`: the ids of the Patients whom an export of a Group is of.
    """
    async with connection.transaction():
        if await connection.execute(PLANNED, *part.held) != "UPDATE 1":
            return False
        await connection.execute(
            "UPDATE fhirgw.export_job SET snapshot = $2, time = $3, effective = $4 WHERE id = $1",
            part.job,
            *taken,
            list(types),
        )
        rows = [(part.job, at, *_columns(each)) for at, each in enumerate(parts, 1)]
        await connection.executemany(
            "INSERT INTO fhirgw.export_part (job, number, kind, type, low, high, expected, view, base, segment)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            rows,
        )
        await connection.execute(MEMBERS, part.job, list(members))
    return True


def _columns(each: Planned) -> tuple[Any, ...]:
    return each.kind, each.type, each.low, each.high, each.expected, each.view, each.base, each.segment


async def sweep(connection: Connection) -> list[tuple[str, bool, bool]]:
    """Takes parts from workers that have gone; then the jobs that run, whether parts of each wait, whether it ended."""
    await connection.execute(SWEEP)
    return [tuple(row) for row in await connection.fetch(OPEN)]


async def parts(connection: Connection, job: str) -> list[Any]:
    """What the ledger says of each part of a job, by type and number."""
    return list(await connection.fetch(PARTS, job))


async def resume(connection: Connection, job: str) -> bool:
    """Has a failed job's failed parts wait again, with all their attempts. False: it has not failed."""
    async with connection.transaction():
        status = await connection.execute(
            "UPDATE fhirgw.export_job SET state = 'running', finished = NULL, result = NULL"
            " WHERE id = $1 AND state = 'failed'",
            job,
        )
        if status != "UPDATE 1":
            return False
        await connection.execute(RESUME, job)
    return True
