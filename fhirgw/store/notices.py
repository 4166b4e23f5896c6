"""What subscribers are to be told of: events, found in the change log and numbered; and what may be shown of each.

A subscription has read the log up to a snapshot. What transactions did that have ended since is looked through in one
statement, under the subscriber's permit, and becomes notices in the transaction that remembers the new snapshot: an
event is noted once, whenever its transaction ended, and nothing is remembered that was not noted.
https://www.postgresql.org/docs/18/functions-info.html#FUNCTIONS-INFO-SNAPSHOT

What a permit does not show when it is looked for is no event of its subscriber's. What it shows no more when it is to
be sent is told by its number alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    DateTime,
    FromClause,
    Insert,
    Integer,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    cast,
    column,
    exists,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
    union_all,
)

from fhirgw.access.permit import Permit
from fhirgw.fhir.criterion import Criterion
from fhirgw.fhir.notification import Happening, Shown
from fhirgw.fhir.topics import Trigger
from fhirgw.store import visibility
from fhirgw.store.chain import unchained
from fhirgw.store.database import Connection, declared, once, statement
from fhirgw.store.matching import Matching
from fhirgw.store.schema import history, notice, resource
from fhirgw.store.subscription import Subscription
from fhirgw.store.visibility import visible

SINCE = """
    (c.transaction >= pg_snapshot_xmax(CAST({0} AS pg_snapshot))
     OR c.transaction = ANY (ARRAY(SELECT pg_snapshot_xip(CAST({0} AS pg_snapshot)))))
    AND pg_visible_in_snapshot(c.transaction, CAST({1} AS pg_snapshot)) AND c.sequence > {2} AND c.type = ANY ({3})"""
"""A change (c) by a transaction that ended between two snapshots."""

STIRRED = """
SELECT s.id FROM fhirgw.subscription s
WHERE s.status = 'active' AND (
    EXISTS (SELECT FROM fhirgw.change c
            WHERE c.transaction >= pg_snapshot_xmax(s.snapshot::pg_snapshot) AND c.sequence > s.floor)
    OR EXISTS (SELECT FROM pg_snapshot_xip(s.snapshot::pg_snapshot) AS running JOIN fhirgw.change c
               ON c.transaction = running AND c.sequence > s.floor)
    OR pg_snapshot_xmax(s.snapshot::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot()))
ORDER BY s.id"""

LOCK = "SELECT s.id FROM fhirgw.subscription s WHERE s.id = $1 AND s.status = 'active' FOR UPDATE SKIP LOCKED"
NEW = """
SELECT s.snapshot, s.floor, s.events, pg_current_snapshot()::text AS now,
    pg_snapshot_xmax(s.snapshot::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot()) AS restored
FROM fhirgw.subscription s WHERE s.id = $1"""

GIVEN = ("CAST(:before AS text)", "CAST(:after AS text)", "CAST(:floor AS bigint)", "CAST(:types AS text[])")
CHANGED = f"""
SELECT c.sequence, c.type, c.id, c.version, c.kind, c.recorded FROM fhirgw.change c WHERE {SINCE.format(*GIVEN)}"""
TYPES = f"""
SELECT DISTINCT c.type FROM fhirgw.change c WHERE {SINCE.format("$1::text", "$2::text", "$3::bigint", "$4::text[]")}"""

LOOKED = "UPDATE fhirgw.subscription SET snapshot = $2, events = events + $3 WHERE id = $1"
RESTORED = """
UPDATE fhirgw.subscription
SET snapshot = $2, floor = (SELECT coalesce(max(sequence), 0) FROM fhirgw.change) WHERE id = $1"""


class Window(NamedTuple):
    """What has been looked at up to where, and is to be: snapshots, of changes after `floor`; events there are."""

    before: str
    after: str
    floor: int
    events: int


async def stirred(connection: Connection) -> list[str]:
    """The active subscriptions for which there is something new in the change log."""
    return [row["id"] for row in await connection.fetch(STIRRED)]


async def opened(connection: Connection, id: str) -> Window | None:
    """What is new to a subscription, which nobody else looks at until the transaction ends; None where somebody does.

    After a restore transactions are counted anew, and a snapshot of before tells nothing: it begins again from now.
    """
    if await connection.fetchval(LOCK, id) is None:
        return None
    # In a statement of its own: the snapshot of the one that locks may be older than what another has just remembered.
    row = await connection.fetchrow(NEW, id)
    if row["restored"]:
        await connection.execute(RESTORED, id, row["now"])
        return None
    return Window(row["snapshot"], row["now"], row["floor"], row["events"])


async def note(
    connection: Connection, kept: Subscription, window: Window, permit: Permit, triggers: Sequence[Trigger]
) -> int:
    """Notes what of the window triggers the subscription and its permit shows, and remembers that it was looked at.

    How many events that were. Raises FhirError(too-costly) for a filter that passes through too much.
    """
    types = list(dict.fromkeys(each.type for each in triggers if permit.covering("r", each.type)))
    looked = window.before, window.after, window.floor
    found = {row["type"] for row in await connection.fetch(TYPES, *looked, types)}
    branches = [each for one in triggers if one.type in found for each in await _branches(connection, permit, one)]
    noted = 0
    if branches:
        made = statement(_noting(branches))
        asked = dict(zip(("before", "after", "floor"), looked, strict=True)) | {"types": list(found)}
        asked |= {"subscription": kept.id, "events": window.events}
        status = await connection.execute(made.sql, *made.arguments(visibility.values(permit) | asked))
        noted = int(status.rpartition(" ")[2])
    await connection.execute(LOOKED, kept.id, window.after, noted)
    return noted


_changed = (
    text(CHANGED)
    .bindparams(*(bindparam(name, required=False) for name in ("before", "after", "floor", "types")))
    .columns(
        *(column("sequence", BigInteger), column("type", Text), column("id", Text), column("version", Integer)),
        *(column("kind", Text), column("recorded", DateTime(timezone=True))),
    )
    .cte("changed")
)


def _noting(branches: Sequence[Select[Any]]) -> Insert:
    every = union_all(*branches).subquery("every")  # one change is one event, whatever triggers there are for it
    number = cast(bindparam("events", type_=BigInteger, required=False), BigInteger)
    columns: dict[str, ColumnElement[Any]] = {
        "subscription": cast(bindparam("subscription", type_=Text, required=False), Text),
        "number": number + func.row_number().over(order_by=every.c.sequence),
        **{name: every.c[name] for name in ("type", "id", "kind")},
        "happened": every.c.recorded,
    }
    once_each = select(*columns.values()).group_by(*every.c)
    return insert(notice).from_select(list(columns), once_each)


async def _branches(connection: Connection, permit: Permit, trigger: Trigger) -> list[Select[Any]]:
    """The changes that a trigger is about, of what is current and of what has been superseded or deleted since."""
    current = await _matching(connection, permit, trigger.type, trigger.current)
    previous = await _matching(connection, permit, trigger.type, trigger.previous) if trigger.previous else None
    return [_branch(permit, trigger, current, previous, table) for table in (resource, history)]


async def _matching(connection: Connection, permit: Permit, kind: str, criteria: Sequence[Criterion]) -> Matching:
    return Matching.of(permit, kind, await unchained(connection, permit, criteria))


def _branch(
    permit: Permit, trigger: Trigger, current: Matching, previous: Matching | None, table: FromClause
) -> Select[Any]:
    same = and_(
        table.c.type == literal(trigger.type, Text, literal_execute=True),
        table.c.id == _changed.c.id,
        table.c.version == _changed.c.version,
    )
    found = select(*(_changed.c[name] for name in ("sequence", "type", "id", "kind", "recorded")))
    found = found.select_from(_changed.join(table, same)).where(
        _changed.c.type == literal(trigger.type, Text, literal_execute=True),
        _changed.c.kind.in_([literal(each, Text, literal_execute=True) for each in trigger.kinds]),
        visible(permit, "r", trigger.type, table),
        current.met(table),
    )
    return found.where(_was(trigger.type, previous)) if previous else found


def _was(resource_type: str, previous: Matching) -> ColumnElement[bool]:
    """That the version before met the criteria."""
    before = history.alias("before")
    return exists(
        select(literal_column("1")).where(
            before.c.type == literal(resource_type, Text, literal_execute=True),
            before.c.id == _changed.c.id,
            before.c.version == _changed.c.version - 1,
            previous.met(before),
        )
    )


async def waiting(connection: Connection, id: str, after: int, most: int, until: int | None = None) -> list[Happening]:
    """Events of a subscription after a number, the oldest first; `until` a number, that one too."""
    rows = await connection.fetch(
        "SELECT number, happened, kind, type, id FROM fhirgw.notice WHERE subscription = $1 AND number > $2"
        " AND ($4::bigint IS NULL OR number <= $4) ORDER BY number LIMIT $3",
        *(id, after, most, until),
    )
    return [Happening(*row) for row in rows]


async def oldest(connection: Connection, id: str) -> int | None:
    """The number of the oldest event that is still kept."""
    found = await connection.fetchval("SELECT min(number) FROM fhirgw.notice WHERE subscription = $1", id)
    return None if found is None else int(found)


async def foci(
    connection: Connection, permit: Permit, events: Iterable[Happening], whole: bool
) -> dict[tuple[str, str], Shown]:
    """What the permit shows now of what events are about, by type and id; with bodies, if `whole`.

    What is not among it is hidden, or nobody knows any more what it was.
    """
    wanted: dict[str, dict[str, None]] = {}
    deleted = set()
    for each in events:
        wanted.setdefault(each.type, {})[each.id] = None
        if each.kind == "delete":
            deleted.add((each.type, each.id))
    found: dict[tuple[str, str], Shown] = {}
    async with declared(connection, permit, isolation="REPEATABLE READ"):
        for kind, ids in wanted.items():
            for ended in (False, True):
                left = [id for id in ids if (kind, id) not in found and (not ended or (kind, id) in deleted)]
                if not left or not permit.covering("r", kind):
                    continue
                shape = ("focus", kind, ended, whole, visibility.shape(permit))
                made = once(shape, partial(_ended if ended else _focus, permit, kind, whole))
                rows = await connection.fetch(made.sql, *made.arguments(visibility.values(permit) | {"ids": left}))
                found |= {(kind, row["id"]): Shown(row["version"], row["body"], row["patient"]) for row in rows}
    return found


def _focus(permit: Permit, kind: str, whole: bool) -> Select[Any]:
    body = visibility.body(permit, kind) if whole else literal("")
    columns = (resource.c.version, body.label("body"), resource.c.patient)
    return select(resource.c.id, *columns).where(*_of(resource, kind), visible(permit, "r", kind))


def _ended(permit: Permit, kind: str, whole: bool) -> Select[Any]:
    """Of what was deleted, that it was: its tombstones, the newest last."""
    gone = select(history.c.id, history.c.version, literal(None, Text).label("body"), history.c.patient)
    shown = gone.where(*_of(history, kind), history.c.deleted, visible(permit, "r", kind, history))
    return shown.order_by(history.c.version)


def _of(table: FromClause, kind: str) -> Iterator[ColumnElement[bool]]:
    yield table.c.type == literal(kind, Text, literal_execute=True)
    yield table.c.id == any_(bindparam("ids", type_=ARRAY(Text), required=False))
