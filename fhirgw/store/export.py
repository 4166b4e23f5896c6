"""Reading many resources at once, as NDJSON that PostgreSQL itself writes: one COPY a type, all of one snapshot.

A body is text without control characters, so CSV with a quote and a delimiter that are control characters never quotes
anything: the bytes of a COPY are the bodies, a line each. https://www.postgresql.org/docs/18/sql-copy.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, FromClause, Select, Text, any_, bindparam, literal, or_, select, union_all
from sqlalchemy.dialects.postgresql import ARRAY

from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.fhir.type_filter import read
from fhirgw.store import visibility
from fhirgw.store.chain import unchained
from fhirgw.store.database import Connection, Engine, declared, direct, statement
from fhirgw.store.matching import Matching, as_of
from fhirgw.store.schema import history, resource
from fhirgw.store.visibility import visible

Sink = Callable[[bytes], Awaitable[None]]

NDJSON = {"format": "csv", "quote": "\x01", "delimiter": "\x02"}
NAME = "fhirgw export"

PART = 96 << 20
"""Bytes of a table that one part is of: some 60,000 resources of a kilobyte, half a second's work."""

SORTED = "192MB"
"""For a part's bodies, which are put in order: the same part is the same bytes whenever it is read."""

MEMORY = "64MB"
"""For the list of those who dissent from anything: some 80 bytes each. One that did not fit would be searched from its
beginning for every row."""

TIME = """
SELECT date_trunc('milliseconds', least(
    statement_timestamp(),
    (SELECT min(xact_start) FROM pg_stat_activity
     WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
       AND application_name <> $1 AND (backend_xid IS NOT NULL OR state = 'active')),
    (SELECT min(run.started) FROM fhirgw.sync_run AS run
     WHERE run.finished IS NULL AND EXISTS (
        SELECT FROM pg_locks AS held
        WHERE held.locktype = 'advisory' AND held.objsubid = 1 AND held.granted
          AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND (held.classid::bigint << 32) | held.objid::bigint
              = hashtextextended('fhirgw sync ' || run.system, 0)))
)) - interval '1 ms'"""
"""Now; or the start of the oldest sync still running, whoever runs it (a sync stamps resources before the transaction
that writes them begins, and other accounts' transactions hide when they began); or that of the oldest transaction that
may yet commit. A session that idles in one and has written nothing is not waited for. Asked before the snapshot is
taken, it makes sure that what is stamped with that time or an earlier one is in it; a millisecond less, because stamps
are cut to milliseconds. Other exports only read, and do not hold it back. The lock is fhirgw.store.runs.alone's."""

TYPES = """
WITH RECURSIVE held AS (
    (SELECT type FROM fhirgw.resource ORDER BY type LIMIT 1)
    UNION ALL
    SELECT (SELECT type FROM fhirgw.resource WHERE type > held.type ORDER BY type LIMIT 1)
    FROM held WHERE held.type IS NOT NULL
)
SELECT type FROM held WHERE type IS NOT NULL"""
"""Steps from type to type through the primary key: DISTINCT would read every row."""

ESTIMATE = """
SELECT coalesce(sum(greatest(reltuples, 0)), 0)::bigint FROM pg_class JOIN pg_inherits ON inhrelid = oid
WHERE inhparent = 'fhirgw.resource'::regclass AND relname = ANY ($1)"""


@dataclass(frozen=True, slots=True)
class Selection:
    """What to export: the types (none named: all there are), whose records, and changed after when.

    `patients` None is the whole system; empty, everybody's records; else the records of these ids. `until`: changed
    before when. `filters`: searches (`Observation?code=…`), of which what is of their types meets at least one.
    `elements`: only these, as `_elements` has them. `form`: ndjson, or the rows of `views` (none named: of all of the
    types) as csv or parquet. `project`: whose pseudonyms everybody has, if they have any. `gzip`: how the files are
    kept. `part`: bytes of a table that are one part.
    """

    types: tuple[str, ...] = ()
    patients: tuple[str, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None
    filters: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    group: str | None = None
    ignored: tuple[str, ...] = ()
    gzip: bool = False
    part: int = PART
    form: str = "ndjson"
    views: tuple[str, ...] = ()
    project: str | None = None

    @classmethod
    def stored(cls, asked: dict[str, Any]) -> Selection:
        """As it was written down, in JSON."""
        told: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in asked.items()
        }
        moments = {name: datetime.fromisoformat(asked[name]) for name in ("since", "until") if asked.get(name)}
        return cls(**told | moments)


@dataclass(frozen=True, slots=True)
class Stretch:
    """The resources of a type with ids from `low` to before `high`; None is no bound."""

    type: str
    low: str | None = None
    high: str | None = None


class Snapshot:
    """All resources as of one moment; `time` is what to ask `since` the next time."""

    def __init__(self, connection: Connection, time: datetime) -> None:
        self.connection = connection
        self.time = time

    async def text(self) -> str:
        """Which transactions it sees, for reading as of it when it is gone."""
        return str(await self.connection.fetchval("SELECT pg_current_snapshot()::text"))

    async def types(self) -> list[str]:
        """The types of which there is at least one resource, in their order."""
        return [found["type"] for found in await self.connection.fetch(TYPES)]

    async def estimate(self, permit: Permit, types: Sequence[str]) -> int:
        """About how many resources there are of the types, by the statistics; 0 where nobody knows.

        0 too for a permit that does not show all of them: how many there are is then not its holder's to know.
        """
        if permit.purpose != Purpose.OPERATIONS:
            return 0
        names = [f"resource_{name.lower()}" for name in types]
        return int(await self.connection.fetchval(ESTIMATE, names))

    async def copy(self, permit: Permit, resource_type: str, selection: Selection, sink: Sink) -> None:
        """Everything of the type that the permit shows and the selection asks for, a JSON text a line."""
        shown = visible(permit, "r", resource_type, bulk=selection.patients is None)
        asked = _conditions(resource_type, selection, resource)
        made = statement(select(visibility.body(permit, resource_type)).where(shown, *asked))
        await self.connection.copy_from_query(
            made.sql, *made.arguments(visibility.values(permit)), output=sink, **NDJSON
        )


async def filtering(
    connection: Connection, permit: Permit, resource_type: str, selection: Selection, snapshot: str
) -> list[Matching]:
    """What the selection's filters of a type match, as of the snapshot. Raises FhirError(too-costly)."""
    found = []
    for each in selection.filters:
        if each.partition("?")[0] == resource_type:
            async with declared(connection, permit):
                criteria = await unchained(connection, permit, read(each).criteria, snapshot)
            found.append(Matching.of(permit, resource_type, criteria, snapshot))
    return found


async def copy_part(
    connection: Connection, permit: Permit, part: Stretch, selection: Selection, snapshot: str, sink: Sink
) -> None:
    """What the permit shows and the selection asks for in a stretch of a type, as of a snapshot, in the order of ids.

    Of now are only the rules of who may see what: what is withheld now is withheld of every version.
    """
    filters = await filtering(connection, permit, part.type, selection, snapshot)
    made = statement(_part(permit, part, selection, filters))
    values = visibility.values(permit) | {"snapshot": snapshot}
    async with declared(connection, permit):
        await connection.execute(f"SET LOCAL application_name = '{NAME}'; SET LOCAL work_mem = '{SORTED}'")
        await connection.copy_from_query(made.sql, *made.arguments(values), output=sink, **NDJSON)


def _part(permit: Permit, part: Stretch, selection: Selection, filters: Sequence[Matching]) -> Select[Any]:
    """Current rows that were there, and superseded ones that were current then."""
    branches = []
    for table in (resource, history):
        found = select(table.c.id, visibility.body(permit, part.type, table).label("line"))
        found = found.where(visible(permit, "r", part.type, table, bulk=selection.patients is None))
        found = found.where(*_conditions(part.type, selection, table), *as_of(table))
        if filters:
            found = found.where(or_(*(each.met(table) for each in filters)))
        if part.low is not None:
            found = found.where(table.c.id >= bindparam(None, part.low, Text))
        if part.high is not None:
            found = found.where(table.c.id < bindparam(None, part.high, Text))
        branches.append(found)
    union = union_all(*branches).subquery()
    return select(union.c.line).order_by(union.c.id)


@asynccontextmanager
async def snapshot(engine: Engine, permit: Permit, lock: str = "") -> AsyncIterator[Snapshot]:
    """One REPEATABLE READ, READ ONLY transaction. While it lasts it holds `lock`, so that others see it is alive."""
    async with direct(engine) as connection:
        time = await connection.fetchval(TIME, NAME)
        async with declared(connection, permit, isolation="REPEATABLE READ"):
            await connection.execute(f"SET LOCAL application_name = '{NAME}'; SET LOCAL work_mem = '{MEMORY}'")
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", lock or str(uuid4()))
            yield Snapshot(connection, time)


def _conditions(resource_type: str, selection: Selection, table: FromClause) -> Iterator[ColumnElement[bool]]:
    """What is asked for, of what may be seen."""
    yield table.c.type == literal(resource_type, Text, literal_execute=True)
    if selection.patients is not None:
        yield table.c.patient.isnot(None)
    if selection.patients:
        yield table.c.patient == any_(bindparam(None, list(selection.patients), ARRAY(Text)))
    if selection.since is not None:
        yield table.c.updated > selection.since
    if selection.until is not None:
        yield table.c.updated < selection.until
