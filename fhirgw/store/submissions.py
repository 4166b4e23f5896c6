"""What care providers sent of homecare visits: how many rows came to what, and the receipts with something to mend.

Noted in the transaction that takes the rows in, so that there is never one without the other, and kept for 35 days: a
care manager comes back from leave and still sees what was refused. A receipt has the care provider's own id of a visit
and words of ours, nothing of a person. What comes visit by visit is one submission an hour; what comes in pieces has a
row for each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

import orjson

from fhirgw.store.database import Connection
from fhirgw.store.visit_stays import CELL
from fhirgw.visits.receipt import Receipt, counted

DAYS = 35
"""Days that a submission is kept: a four-week period of payment, and a week to look at it."""
SINGLES = "single"
"""The way of visits that come one by one."""

NOTE = """
INSERT INTO fhirgw.submission
    (provider, submission, received, way, file, stored, unchanged, superseded, refused, unallocated, mending, receipts)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
NOTE_ALL = """
INSERT INTO fhirgw.submission
    (provider, submission, received, way, file, stored, unchanged, superseded, refused, unallocated, mending, receipts)
SELECT p, s, m, w, f, c1, c2, c3, c4, c5, string_to_array(v, E'\\x03'), r
FROM unnest($1::text[], $2::uuid[], $3::timestamptz[], $4::text[], $5::text[],
    $6::int[], $7::int[], $8::int[], $9::int[], $10::int[], $11::text[], $12::text[])
    AS each (p, s, m, w, f, c1, c2, c3, c4, c5, v, r)
"""
COUNTS = ("stored", "unchanged", "superseded", "refused", "unallocated")
_SUMS = ", ".join(f"sum({name})::int AS {name}" for name in COUNTS)
SUMMED = f"""
SELECT submission::text, min(received) AS received, max(received) AS until, min(way) AS way, min(file) AS file,
    {_SUMS}, coalesce(sum(cardinality(mending)), 0)::int AS mend
FROM fhirgw.submission WHERE provider = $1
"""
LISTED = f"""{SUMMED} GROUP BY submission
HAVING $2::timestamptz IS NULL OR (min(received), submission) < ($2, $3::uuid)
ORDER BY min(received) DESC, submission DESC LIMIT $4
"""
ONE = f"{SUMMED} AND submission = $2 GROUP BY submission"
RECEIPTS = """
SELECT receipts FROM fhirgw.submission WHERE provider = $1 AND submission = $2 AND receipts IS NOT NULL ORDER BY id
"""
LAST = """
SELECT received, receipts FROM fhirgw.submission
WHERE provider = $1 AND receipts IS NOT NULL AND $2 = ANY (mending) ORDER BY received DESC, id DESC LIMIT 1
"""
WEEK = """
SELECT stored, unchanged, superseded, refused, receipts FROM fhirgw.submission
WHERE provider = $1 AND received >= $2 AND received < $3
"""
SWEEP = f"""
DELETE FROM fhirgw.submission WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM fhirgw.submission WHERE received <= statement_timestamp() - interval '{DAYS} days'
    LIMIT 5000 FOR UPDATE SKIP LOCKED))
"""


class Coming(NamedTuple):
    """A submission as it comes: what it is known by, how it was sent, and the file's own reference, if it has one."""

    id: UUID
    way: str
    file: str | None = None


class Cursor(NamedTuple):
    """Where a page of submissions ended."""

    received: datetime
    submission: UUID


class Submission(NamedTuple):
    """What came of a submission: `counts` by status, `mend` receipts with something to mend."""

    id: str
    received: datetime
    until: datetime
    way: str
    file: str | None
    counts: Mapping[str, int]
    mend: int


def single(provider: str, now: datetime) -> Coming:
    """The submission that a visit belongs to which comes alone: its hour's."""
    hour = now.replace(minute=0, second=0, microsecond=0).isoformat()
    return Coming(uuid5(NAMESPACE_URL, f"fhirgw/submission/{provider}/{hour}"), SINGLES)


async def note(
    connection: Connection, provider: str, coming: Coming, receipts: Sequence[Receipt], now: datetime
) -> None:
    """Notes what came of rows, in the transaction that took them in."""
    await connection.execute(NOTE, *_values(provider, coming, receipts, now))


async def note_singles(connection: Connection, receipts: Mapping[str, Sequence[Receipt]], now: datetime) -> None:
    """The same of visits that came alone, by their care provider: in one round trip, however many those are."""
    noted = [_values(provider, single(provider, now), each, now) for provider, each in sorted(receipts.items())]
    columns = [list(each) for each in zip(*noted, strict=True)]
    columns[-2] = [each and CELL.join(each) for each in columns[-2]]
    await connection.execute(NOTE_ALL, *columns)


def _values(provider: str, coming: Coming, receipts: Sequence[Receipt], now: datetime) -> tuple[Any, ...]:
    counts, mend = counted(receipts), [each for each in receipts if each.faults]
    mending = list(dict.fromkeys(each.visit for each in mend if each.visit is not None))
    told = orjson.dumps([each.as_json() for each in mend]).decode() if mend else None
    values = (*(counts[name] for name in COUNTS), mending if mend else None, told)
    return provider, coming.id, now, coming.way, coming.file, *values


async def listed(connection: Connection, provider: str, after: Cursor | None, count: int) -> list[Submission]:
    """A care provider's submissions, the newest first, at most `count`, those `after` a page's end."""
    values = after or (None, None)
    return [_submission(row) for row in await connection.fetch(LISTED, provider, *values, count)]


async def one(connection: Connection, provider: str, id: UUID) -> Submission | None:
    """A care provider's own submission; None for anybody else's, as for none."""
    row = await connection.fetchrow(ONE, provider, id)
    return None if row is None else _submission(row)


async def receipts(connection: Connection, provider: str, id: UUID) -> list[dict[str, Any]]:
    """A submission's receipts with something to mend, in the order of the rows."""
    return [each for row in await connection.fetch(RECEIPTS, provider, id) for each in orjson.loads(row["receipts"])]


async def last(connection: Connection, provider: str, visit: str) -> tuple[datetime, list[dict[str, Any]]] | None:
    """When a visit last had something to mend, and its receipts of then; None where it had nothing."""
    row = await connection.fetchrow(LAST, provider, visit)
    if row is None:
        return None
    return row["received"], [each for each in orjson.loads(row["receipts"]) if each.get("visit") == visit]


async def sweep(connection: Connection) -> None:
    """Forgets what is older."""
    await connection.execute(SWEEP)


def kept_until(submission: Submission) -> datetime:
    """When it is forgotten."""
    return submission.received + timedelta(days=DAYS)


def _submission(row: Mapping[str, Any]) -> Submission:
    counts = {name: row[name] for name in COUNTS}
    return Submission(row["submission"], row["received"], row["until"], row["way"], row["file"], counts, row["mend"])
