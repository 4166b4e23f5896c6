"""The ledger of an export's parts: who has which, and what each came to.

Who has which, and for how long, is as with all that is done in parts: see fhirgw.store.lease. What a worker wrote that
was given up for dead is under a key that nobody will ever read: the key has the token in it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from fhirgw.store.database import Connection
from fhirgw.store.lease import HELD, LEASE, Leases

FAILED = "EXISTS (SELECT FROM fhirgw.export_part f WHERE f.job = {} AND f.state = 'failed')"
STOPPED = """
'Part ' || number || ' (' || coalesce(nullif(type, ''), kind) || ') was begun ' || attempts
    || ' times, and each time its worker stopped without a word'"""

LEASES = Leases(
    "fhirgw.export_job",
    "fhirgw.export_part",
    STOPPED,
    progress=("rows", "bytes"),
    unless=FAILED.format("$1"),
    over=FAILED.format("j.id"),
    ours="NOT j.local",
)
renew, fail, release = LEASES.renew, LEASES.fail, LEASES.release
waiting, sweep = LEASES.waiting, LEASES.sweep

FINISH = f"""
UPDATE fhirgw.export_part
SET state = 'done', lease = NULL, rows = $4, bytes = $5, sha256 = $6, key = $7, persons = $8,
    reused = $9, reason = NULL
WHERE {HELD} AND EXISTS (SELECT FROM fhirgw.export_job WHERE id = $1 AND state = 'running')"""

PLANNED = f"UPDATE fhirgw.export_part SET state = 'done', lease = NULL WHERE {HELD}"

REFUSE = """
UPDATE fhirgw.export_part SET state = 'failed', reason = $3, rows = 0, bytes = 0
WHERE job = $1 AND number = ANY ($2::int[]) AND state = 'done'"""

PARTS = """
SELECT number, kind, type, view, state, attempts, rows, bytes, sha256, key, reason, persons, reused,
    CASE WHEN state = 'running' THEN worker END AS worker,
    CASE WHEN state = 'running' THEN greatest(0, ceil(extract(epoch FROM lease - clock_timestamp())))::int END AS lease
FROM fhirgw.export_part
WHERE job = $1 ORDER BY type, view, number"""
"""`worker` has it, and for so many seconds more (`lease`) unless it gives a sign of life, as it does each second."""

MEMBERS = """
INSERT INTO fhirgw.export_member (job, patient, joined)
SELECT $1, patient, patient = ANY ($3::text[]) FROM unnest($2::text[]) AS members (patient)"""

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
    found = await LEASES.claim(connection, job, worker, lease)
    return Part(*(found[each.name] for each in fields(Part))) if found else None


async def finish(connection: Connection, part: Part, made: Made) -> bool:
    """The part is done. False: it is somebody else's now, or not wanted, and what was made of it counts for nothing."""
    told = made.rows, made.bytes, made.sha256, made.key, made.persons, made.reused
    status = await connection.execute(FINISH, *part.held, *told)
    return bool(status == "UPDATE 1")


async def refuse(connection: Connection, job: str, numbers: Sequence[int], reason: str) -> None:
    """Parts that are done are not to be had."""
    await connection.execute(REFUSE, job, list(numbers), reason)


async def plan(
    connection: Connection,
    part: Part,
    taken: tuple[str, datetime],
    types: Sequence[str],
    parts: Sequence[Planned],
    members: Collection[str] = (),
    joined: Collection[str] = (),
) -> bool:
    """Writes the plan down, in one transaction with its being done. False: somebody else has planned it.

    `members`: the ids of the Patients whom an export of a Group is of; of those who have `joined` it is of all.
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
        await connection.execute(MEMBERS, part.job, list(members), list(joined))
    return True


def _columns(each: Planned) -> tuple[Any, ...]:
    return each.kind, each.type, each.low, each.high, each.expected, each.view, each.base, each.segment


async def disbelieve(connection: Connection, job: str, workers: Sequence[str]) -> None:
    """Takes the parts that workers have who are known to be gone: it need not be waited for what they would say."""
    query = (
        "UPDATE fhirgw.export_part SET lease = clock_timestamp() - interval '1 second'"
        " WHERE job = $1 AND state = 'running' AND worker = ANY ($2)"
    )
    await connection.execute(query, job, list(workers))
    await sweep(connection)


async def parts(connection: Connection, job: str) -> list[Any]:
    """What the ledger says of each part of a job, by type and number."""
    return list(await connection.fetch(PARTS, job))


async def stretches(connection: Connection, job: str, kind: str, view: str) -> list[tuple[str | None, str | None]]:
    """The bounds of a job's parts of a type and view, in their order."""
    query = (
        "SELECT low, high FROM fhirgw.export_part WHERE job = $1 AND kind = 'output' AND type = $2 AND view = $3"
        " ORDER BY number"
    )
    return list(map(tuple, await connection.fetch(query, job, kind, view)))


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
