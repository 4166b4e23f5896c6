"""What subscribers are to be told of: events, found in the change log and numbered; and what may be shown of each.

A subscription has read the log up to a snapshot. What transactions did that have ended since is looked through, under
the subscriber's permit, and becomes notices in the transaction that remembers the new snapshot: an event is noted once,
whenever its transaction ended, and nothing is remembered that was not noted.
https://www.postgresql.org/docs/18/functions-info.html#FUNCTIONS-INFO-SNAPSHOT

What a permit does not show when it is looked for is no event of its subscriber's. What it shows no more when it is to
be sent is told by its number alone.

Long, because that promise rests on its statements being read together, and half of it is SQL.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Iterable, Iterator, Sequence
from datetime import datetime
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
    Table,
    Text,
    and_,
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
from fhirgw.store import visibility, visit_changes
from fhirgw.store.chain import unchained
from fhirgw.store.database import Connection, declared, once, statement
from fhirgw.store.matching import Matching
from fhirgw.store.schema import (
    PAST,
    RENDERED,
    RENDERED_AS,
    among,
    held,
    identified,
    notice,
    superseded,
    versions,
    visit_past,
)
from fhirgw.store.subscription import Subscription
from fhirgw.store.visibility import visible

AT_ONCE = 1000
"""Changes that are looked through in one statement: so few that each is looked up by its id, however many there are."""

STIRRED = f"""
WITH newest AS (
    (SELECT c.transaction FROM fhirgw.change c WHERE c.transaction < pg_snapshot_xmax(pg_current_snapshot())
     ORDER BY c.transaction DESC LIMIT 1)
    UNION ALL {visit_changes.NEWEST}
    ORDER BY transaction DESC LIMIT 1)
SELECT s.id FROM fhirgw.subscription s
WHERE s.status = 'active' AND (
    pg_snapshot_xmax(s.snapshot::pg_snapshot) <= (SELECT transaction FROM newest)
    OR EXISTS (SELECT FROM pg_snapshot_xip(s.snapshot::pg_snapshot) AS running JOIN fhirgw.change c
               ON c.transaction = running AND c.sequence > s.floor)
    OR EXISTS ({visit_changes.ENDED})
    OR pg_snapshot_xmax(s.snapshot::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot()))
ORDER BY s.id"""

LOCK = "SELECT s.id FROM fhirgw.subscription s WHERE s.id = $1 AND s.status = 'active' FOR UPDATE SKIP LOCKED"
NEW = """
SELECT s.snapshot, s.floor, s.visited, s.events, pg_current_snapshot()::text AS now,
    pg_snapshot_xmax(s.snapshot::pg_snapshot) > pg_snapshot_xmax(pg_current_snapshot()) AS restored
FROM fhirgw.subscription s WHERE s.id = $1"""

FOUND = """
    SELECT c.sequence, c.type, c.id, c.version, c.kind, c.recorded, false AS of_visits FROM {}
    WHERE {} AND pg_visible_in_snapshot(c.transaction, $2::text::pg_snapshot)
        AND c.sequence > $3 AND c.type = ANY ($4)"""
BETWEEN = """c.transaction >= pg_snapshot_xmax($1::text::pg_snapshot)
    AND c.transaction < pg_snapshot_xmax($2::text::pg_snapshot)"""
RUNNING = "pg_snapshot_xip($1::text::pg_snapshot) AS running JOIN fhirgw.change c ON c.transaction = running"
CHANGED = f"""
{FOUND.format("fhirgw.change c", BETWEEN)} UNION ALL {FOUND.format(RUNNING, "true")}
ORDER BY sequence"""
"""What transactions changed that began between two snapshots, or were running at the first, and have ended."""

GIVEN = """
SELECT * FROM unnest(CAST(:sequences AS bigint[]), CAST(:types AS text[]), CAST(:ids AS text[]),
    CAST(:versions AS int[]), CAST(:kinds AS text[]), CAST(:moments AS timestamptz[]))
    AS given (sequence, type, id, version, kind, recorded)"""
LISTS = ("sequences", "types", "ids", "versions", "kinds", "moments")

LOOKED = "UPDATE fhirgw.subscription SET snapshot = $2, events = events + $3 WHERE id = $1"
RESTORED = """
UPDATE fhirgw.subscription
SET snapshot = $2, floor = (SELECT coalesce(max(sequence), 0) FROM fhirgw.change),
    visited = (SELECT max(updated) FROM fhirgw.visit WHERE patient IS NOT NULL)
WHERE id = $1"""


class Window(NamedTuple):
    """What has been looked at up to where, and is to be: snapshots; of changes after `floor`, of visits after
    `visited`; events there are."""

    before: str
    after: str
    floor: int
    visited: datetime | None
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
    return Window(row["snapshot"], row["now"], row["floor"], row["visited"], row["events"])


async def note(
    connection: Connection, kept: Subscription, window: Window, permit: Permit, triggers: Sequence[Trigger]
) -> int:
    """Notes what of the window triggers the subscription and its permit shows, and remembers that it was looked at.

    How many events that were. Raises FhirError(too-costly) for a filter that passes through too much.
    """
    types = list(dict.fromkeys(each.type for each in triggers if permit.covering("r", each.type)))
    visited = await _rendered(connection, permit, triggers, types)
    number, noting = window.events, {}
    async for rows in _new(connection, window, types, visited):
        of_visits, found = rows[0]["of_visits"], frozenset(row["type"] for row in rows)
        if (of_visits, found) not in noting:
            made = _noting(await _branches(connection, permit, triggers, found, of_visits))
            noting[of_visits, found] = statement(made)
        told = noting[of_visits, found]
        lists = {name: [row[at] for row in rows] for at, name in enumerate(LISTS)}
        asked = visibility.values(permit) | lists | {"subscription": kept.id, "events": number}
        status = await connection.execute(told.sql, *told.arguments(asked))
        number += int(status.rpartition(" ")[2])
    await connection.execute(LOOKED, kept.id, window.after, number - window.events)
    return number - window.events


_changed = (
    text(GIVEN)
    .bindparams(*(bindparam(name, required=False) for name in LISTS))
    .columns(
        *(column("sequence", BigInteger), column("type", Text), column("id", Text), column("version", Integer)),
        *(column("kind", Text), column("recorded", DateTime(timezone=True))),
    )
    .cte("changed")
)


def _noting(branches: Sequence[Select[Any]]) -> Insert:
    """One change is one event, whatever triggers there are for it."""
    every = union_all(*branches).subquery("every")
    number = cast(bindparam("events", type_=BigInteger, required=False), BigInteger)
    columns: dict[str, ColumnElement[Any]] = {
        "subscription": cast(bindparam("subscription", type_=Text, required=False), Text),
        "number": number + func.row_number().over(order_by=every.c.sequence),
        **{name: every.c[name] for name in ("type", "id", "kind")},
        "happened": every.c.recorded,
    }
    return insert(notice).from_select(list(columns), select(*columns.values()).group_by(*every.c))


async def _new(
    connection: Connection, window: Window, types: Sequence[str], visited: Sequence[str]
) -> AsyncIterator[Sequence[Any]]:
    """What is new of the types, and of visits that are rendered as `visited`, so many at a time."""
    bounds = window.before, window.after
    sources: list[tuple[str, tuple[Any, ...]]] = [(CHANGED, (*bounds, window.floor, types))] if types else []
    if visited:
        entries = not visit_changes.ENTRIES.isdisjoint(visited)
        sources.append((visit_changes.CHANGED, (*bounds, window.visited, visited, entries)))
    for query, arguments in sources:
        cursor = await connection.cursor(query, *arguments)
        while rows := await cursor.fetch(AT_ONCE):
            yield rows


async def _rendered(
    connection: Connection, permit: Permit, triggers: Sequence[Trigger], types: Container[str]
) -> list[str]:
    """Of the types, those that visits are rendered as which may meet what is asked."""
    found: dict[str, bool] = {}
    for each in triggers:
        if each.type in RENDERED and each.type in types:
            may = (await _matching(connection, permit, each.type, each.current)).of_visits
            found[each.type] = may or found.get(each.type, False)
    return [kind for kind, may in found.items() if may]


async def _branches(
    connection: Connection, permit: Permit, triggers: Sequence[Trigger], types: Container[str], of_visits: bool
) -> list[Select[Any]]:
    """The changes that triggers are about, of what is current and of what has been superseded or deleted since."""
    found = []
    for each in triggers:
        if each.type in types:
            current = await _matching(connection, permit, each.type, each.current)
            previous = await _matching(connection, permit, each.type, each.previous) if each.previous else None
            tables = (*held(each.type), *superseded(each.type))
            of = [table for table in tables if (table in RENDERED_AS) == of_visits]
            found += [_branch(permit, each, current, previous, table) for table in of]
    return found


async def _matching(connection: Connection, permit: Permit, kind: str, criteria: Sequence[Criterion]) -> Matching:
    return Matching.of(permit, kind, await unchained(connection, permit, criteria))


def _branch(
    permit: Permit, trigger: Trigger, current: Matching, previous: Matching | None, table: Table
) -> Select[Any]:
    kind = literal(trigger.type, Text, literal_execute=True)
    met = [table.c.type == kind, visible(permit, "r", trigger.type, table), current.met(table)]
    there: FromClause = table
    conditions = [_changed.c.type == kind]
    conditions.append(_changed.c.kind.in_([literal(each, Text, literal_execute=True) for each in trigger.kinds]))
    if table in RENDERED_AS and table in PAST:
        # A view of two parts, of which a join finds no index: looked for once, and not for each that changed.
        met += [*among(table, _ids()), *([_was(trigger.type, previous, table, table)] if previous else ())]
        there = select(table.c.id, table.c.version).where(*met).cte().prefix_with("MATERIALIZED")
        same = and_(there.c.id == _changed.c.id, there.c.version == _changed.c.version)
    else:
        same = and_(*identified(table, _changed.c.id), table.c.version == _changed.c.version)
        conditions += [*met, *([_was(trigger.type, previous, table, _changed)] if previous else ())]
    found = select(*(_changed.c[name] for name in ("sequence", "type", "id", "kind", "recorded")))
    return found.select_from(_changed.join(there, same)).where(*conditions)


def _was(resource_type: str, previous: Matching, table: Table, changed: FromClause) -> ColumnElement[bool]:
    """That the version before met the criteria."""
    before = versions(table)[1].alias("before")
    number: Any = changed.c.version - 1
    if table in RENDERED_AS:  # versions of a visit count what was said of it, and that may be several at once
        ended = (visit_past.c.key == before.c.key, visit_past.c.next == changed.c.version)
        number = select(visit_past.c.version).where(*ended).scalar_subquery()
    return exists(
        select(literal_column("1")).where(
            before.c.type == literal(resource_type, Text, literal_execute=True),
            *identified(before, changed.c.id),
            before.c.version == number,
            previous.met(before),
        )
    )


def _ids() -> Any:
    return bindparam("ids", type_=ARRAY(Text), required=False)


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


def _focus(permit: Permit, kind: str, whole: bool) -> Any:
    return union_all(*(_current(permit, kind, whole, table) for table in held(kind)))


def _current(permit: Permit, kind: str, whole: bool, table: Table) -> Select[Any]:
    body = visibility.body(permit, kind, table) if whole else literal("")
    columns = (table.c.id, table.c.version, body.label("body"), table.c.patient)
    return select(*columns).where(*_of(table, kind), visible(permit, "r", kind, table))


def _ended(permit: Permit, kind: str, whole: bool) -> Any:
    """Of what was deleted, that it was: its tombstones, the newest last."""
    return union_all(*(_tombstones(permit, kind, table) for table in superseded(kind))).order_by("version")


def _tombstones(permit: Permit, kind: str, table: Table) -> Select[Any]:
    gone = select(table.c.id, table.c.version, literal(None, Text).label("body"), table.c.patient)
    return gone.where(*_of(table, kind), table.c.deleted, visible(permit, "r", kind, table))


def _of(table: Table, kind: str) -> Iterator[ColumnElement[bool]]:
    yield table.c.type == literal(kind, Text, literal_execute=True)
    yield from among(table, _ids())
