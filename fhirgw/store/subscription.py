"""Subscriptions: what each asks, how far it has been told, and the lanes in which they are told.

A subscription is a lane of its own: one process at a time has it, under a lease, so that its events go out in their
order; another's endpoint that hangs holds up nobody. What a process says of a lane counts only with the token that it
claimed it with.

Long by its statements: each step of a lane is one.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.subscription import Wanted
from fhirgw.store.database import Connection

MOST = 200
"""Subscriptions that one application may have."""

KEPT = timedelta(days=7)
"""How long an event may be asked for again."""

GIVEN_UP = timedelta(hours=72)
"""How long delivery is tried before the subscription is in error."""


@dataclass(frozen=True, slots=True)
class Subscription:
    """As its row says (fhirgw.store.schema): `attempts` that failed since the last that did not, and the last's
    `reason`."""

    id: str
    registration: str
    scopes: str
    purpose: str
    base: str
    version: int
    updated: datetime
    status: str
    body: str
    topic: str
    filters: tuple[str, ...]
    endpoint: str
    origin: str
    headers: tuple[str, ...]
    content: str
    most: int
    seconds: int
    heartbeat: int | None
    ends: datetime | None
    snapshot: str | None
    floor: int
    events: int
    sent: int
    attempts: int
    failing: datetime | None
    reason: str | None
    due: datetime
    beat: datetime
    token: int


NAMES = tuple(each.name for each in fields(Subscription))
COLUMNS = ", ".join(f"s.{name}" for name in NAMES)
CHANGED = "version = version + 1, updated = clock_timestamp()"
FRESH = "attempts = 0, failing = NULL, reason = NULL, due = clock_timestamp(), lease = NULL, token = token + 1"
"""A lane that begins anew: who still has it, has it no more."""

READY = """
    s.due <= statement_timestamp() AND (s.lease IS NULL OR s.lease < statement_timestamp())
    AND (s.status = 'requested' OR s.status = 'active' AND (s.sent < s.events OR s.beat <= statement_timestamp()))"""
"""There is something to tell: a handshake, events, a heartbeat."""

CLAIM = f"""
UPDATE fhirgw.subscription s SET lease = clock_timestamp() + $2::interval, worker = $1, token = s.token + 1
WHERE s.id = (
    SELECT s.id FROM fhirgw.subscription s WHERE {READY}
        AND s.origin <> ALL ($3::text[]) AND s.registration <> ALL ($4::text[])
    ORDER BY s.due LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING {COLUMNS}"""

COUNTED = """
SELECT count(*) FILTER (WHERE status = 'active') AS active, count(*) FILTER (WHERE status = 'requested') AS requested,
    count(*) FILTER (WHERE status = 'error') AS error, count(failing) AS failing,
    coalesce(sum(events - sent) FILTER (WHERE status = 'active'), 0)::bigint AS waiting,
    coalesce(extract(epoch FROM statement_timestamp() - min(failing)), 0)::bigint AS failing_seconds
FROM fhirgw.subscription"""

HELD = "id = $1 AND token = $2 AND lease IS NOT NULL"
BEAT = "CASE WHEN heartbeat IS NULL THEN 'infinity' ELSE clock_timestamp() + make_interval(secs => heartbeat) END"
TOLD = f"""
UPDATE fhirgw.subscription SET sent = greatest(sent, $3), attempts = 0, failing = NULL, reason = NULL,
    due = clock_timestamp(), beat = {BEAT}, lease = NULL
WHERE {HELD}"""

GREETED = f"""
UPDATE fhirgw.subscription SET status = 'active', {CHANGED}, attempts = 0, failing = NULL, reason = NULL,
    due = clock_timestamp(), beat = {BEAT}, lease = NULL,
    floor = CASE WHEN snapshot IS NULL THEN $3 ELSE floor END, snapshot = coalesce(snapshot, $4),
    visited = CASE WHEN snapshot IS NULL THEN $5 ELSE visited END
WHERE {HELD}"""

FAILED = f"""
UPDATE fhirgw.subscription SET attempts = attempts + 1, failing = coalesce(failing, clock_timestamp()), reason = $3,
    due = clock_timestamp() + $4::interval, lease = NULL,
    status = CASE WHEN $5 OR failing < clock_timestamp() - $6::interval THEN 'error' ELSE status END,
    version = version + ($5 OR coalesce(failing < clock_timestamp() - $6::interval, false))::int,
    updated = CASE WHEN $5 OR failing < clock_timestamp() - $6::interval THEN clock_timestamp() ELSE updated END
WHERE {HELD} RETURNING status"""

HERE = """
SELECT pg_current_snapshot()::text, coalesce((
    SELECT max(sequence) FROM fhirgw.change WHERE transaction >= pg_snapshot_xmax(pg_current_snapshot())), 0), (
    SELECT max(updated) FROM fhirgw.visit
    WHERE patient IS NOT NULL AND transaction >= pg_snapshot_xmax(pg_current_snapshot()))"""
"""Where the change log and visits are now; what seems to be of transactions to come is of a life before a restore."""


async def add(
    connection: Connection, id: str, asker: tuple[str, str, str], base: str, wanted: Wanted, origin: str
) -> Subscription:
    """Keeps a new one; `asker` is its registration, scopes and purpose. Raises FhirError(throttled)."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 26))", asker[0])
        query = "SELECT count(*) FROM fhirgw.subscription WHERE registration = $1"
        if await connection.fetchval(query, asker[0]) >= MOST:
            told = f"An application has at most {MOST} Subscriptions: delete those that it needs no more"
            raise FhirError(Issue("throttled", told))
        values = {"id": id, **dict(zip(("registration", "scopes", "purpose"), asker, strict=True)), "base": base}
        values |= _asked(wanted, origin) | {"status": _begun(wanted), "headers": list(wanted.headers or ())}
        names, places = ", ".join(values), ", ".join(f"${at}" for at in range(1, len(values) + 1))
        row = await connection.fetchrow(
            f"INSERT INTO fhirgw.subscription AS s ({names}) VALUES ({places}) RETURNING {COLUMNS}", *values.values()
        )
    return _made(row)


async def change(
    connection: Connection, kept: Subscription, asker: tuple[str, str, str], wanted: Wanted, origin: str
) -> Subscription:
    """Has it ask something else. Headers that are not spoken of stay, but go to no other origin than before.

    What is asked of another endpoint, topic or filter is begun with a handshake; events keep their numbers, and what
    happened while it rested, if that is not long ago, is told then. Raises FhirError(conflict).
    """
    headers = list(kept.headers) if wanted.headers is None and origin == kept.origin else list(wanted.headers or ())
    same = kept.status == "active" and wanted.status == "active" and wanted.asks == _asks(kept)
    values = dict(zip(("registration", "scopes", "purpose"), asker, strict=True)) | _asked(wanted, origin)
    values |= {"status": "active" if same else _begun(wanted), "headers": headers}
    listed = ", ".join(f"{name} = ${at}" for at, name in enumerate(values, 3))
    row = await connection.fetchrow(
        f"UPDATE fhirgw.subscription s SET {listed}, {CHANGED}, {FRESH}, beat = {BEAT}"
        f" WHERE id = $1 AND version = $2 RETURNING {COLUMNS}",
        kept.id,
        kept.version,
        *values.values(),
    )
    if row is None:
        raise FhirError(Issue("conflict", "It was changed meanwhile: read it again, and send it with that version"))
    return _made(row)


def _asked(wanted: Wanted, origin: str) -> dict[str, Any]:
    plain = ("topic", "endpoint", "content", "most", "seconds", "heartbeat", "ends")
    found: dict[str, Any] = {name: getattr(wanted, name) for name in plain}
    return found | {"filters": list(wanted.filters), "origin": origin, "body": encode(wanted.body).decode()}


def _asks(kept: Subscription) -> tuple[Any, ...]:
    return kept.topic, kept.filters, kept.endpoint, kept.content


def _begun(wanted: Wanted) -> str:
    return "off" if wanted.status == "off" else "requested"


async def find(connection: Connection, id: str) -> Subscription | None:
    """The one of that id."""
    row = await connection.fetchrow(f"SELECT {COLUMNS} FROM fhirgw.subscription s WHERE s.id = $1", id)
    return _made(row) if row else None


async def of(connection: Connection, registration: str | None) -> list[Subscription]:
    """Those of an application, the oldest first; of all, for None."""
    query = f"SELECT {COLUMNS} FROM fhirgw.subscription s WHERE $1::text IS NULL OR s.registration = $1"
    return [_made(row) for row in await connection.fetch(f"{query} ORDER BY s.created, s.id", registration)]


async def remove(connection: Connection, id: str, versions: Container[int] | None = None) -> bool:
    """Forgets it, and what it was still to be told. False: there is none, or of no such version."""
    async with connection.transaction():
        found = await connection.fetchval("SELECT version FROM fhirgw.subscription WHERE id = $1 FOR UPDATE", id)
        if found is None or (versions is not None and found not in versions):
            return False
        await connection.execute("DELETE FROM fhirgw.subscription WHERE id = $1", id)
    return True


async def again(connection: Connection, id: str) -> bool:
    """Has it tried at once: a handshake first, where it was in error or rested. False: there is none."""
    status = await connection.execute(
        "UPDATE fhirgw.subscription SET status = CASE status WHEN 'active' THEN 'active' ELSE 'requested' END,"
        f" {CHANGED}, {FRESH} WHERE id = $1",
        id,
    )
    return bool(status == "UPDATE 1")


async def rewound(connection: Connection, lane: Subscription, since: int) -> bool:
    """Has its events from this number on told again, in their order. False: it is not active, or was changed."""
    status = await connection.execute(
        f"UPDATE fhirgw.subscription SET sent = least(sent, $3), {FRESH}"
        " WHERE id = $1 AND version = $2 AND status = 'active'",
        *(lane.id, lane.version, since - 1),
    )
    return bool(status == "UPDATE 1")


async def claim(
    connection: Connection,
    worker: str,
    lease: timedelta,
    origins: Sequence[str] = (),
    applications: Sequence[str] = (),
) -> Subscription | None:
    """The lane that has waited longest, of none of the origins and applications that are busy; None: none waits."""
    row = await connection.fetchrow(CLAIM, worker, lease, list(origins), list(applications))
    return _made(row) if row else None


async def told(connection: Connection, lane: Subscription, number: int) -> bool:
    """Its events up to `number` were taken. False: it is another's by now."""
    return bool(await connection.execute(TOLD, lane.id, lane.token, number) == "UPDATE 1")


Place = tuple[str, int, datetime | None]
"""Where the change log and visits are: a snapshot, and what is of a life before a restore."""


async def here(connection: Connection) -> Place:
    """Where they are now."""
    snapshot, floor, visited = await connection.fetchrow(HERE)
    return snapshot, floor, visited


async def greeted(connection: Connection, lane: Subscription, place: Place) -> bool:
    """Its handshake was answered: from where they were before that was sent, or from where it was when it rested, it is
    told what happens.
    """
    snapshot, floor, visited = place
    return bool(await connection.execute(GREETED, lane.id, lane.token, floor, snapshot, visited) == "UPDATE 1")


async def failed(
    connection: Connection, lane: Subscription, reason: str, wait: timedelta, *, for_good: bool = False
) -> str | None:
    """What it was to be told was not taken: it is tried again after `wait`, unless it has failed for too long.

    What its status is then; None: it is another's by now.
    """
    found = await connection.fetchval(FAILED, lane.id, lane.token, reason, wait, for_good, GIVEN_UP)
    return str(found) if found else None


async def release(connection: Connection, lane: Subscription) -> None:
    """Gives a lane back as it was."""
    await connection.execute(f"UPDATE fhirgw.subscription SET lease = NULL WHERE {HELD}", lane.id, lane.token)


async def sweep(connection: Connection) -> None:
    """Ends those whose end has come, and forgets events that nobody may ask for any more."""
    await connection.execute(
        f"UPDATE fhirgw.subscription SET status = 'off', {CHANGED}, {FRESH}"
        " WHERE ends <= statement_timestamp() AND status <> 'off'"
    )
    await connection.execute("DELETE FROM fhirgw.notice WHERE noted < statement_timestamp() - $1::interval", KEPT)


async def counted(connection: Connection) -> dict[str, int]:
    """How many there are by status, how many events wait, and for how many seconds delivery of any has failed."""
    row = await connection.fetchrow(COUNTED)
    return dict(row)


async def stop(connection: Connection, id: str, reason: str) -> None:
    """It is in error, and nothing is sent any more until whoever subscribed asks again."""
    await connection.execute(
        f"UPDATE fhirgw.subscription SET status = 'error', {CHANGED}, {FRESH.replace('reason = NULL', 'reason = $2')}"
        " WHERE id = $1 AND status IN ('requested', 'active')",
        id,
        reason,
    )


def _made(row: Any) -> Subscription:
    values = {name: row[name] for name in NAMES}
    return Subscription(**values | {name: tuple(values[name]) for name in ("filters", "headers")})
