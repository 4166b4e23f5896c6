"""Reading many resources at once, as the lines of NDJSON: one COPY a type, all of one snapshot.

A body is text without control characters, so it is a line as it is. https://www.postgresql.org/docs/18/sql-copy.html

Long, because a part is chosen in as many ways as an export may be asked for: by people, time, search, block.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Exists,
    FromClause,
    Select,
    Text,
    and_,
    any_,
    bindparam,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY

from fhirgw.access.permit import Permit
from fhirgw.fhir.type_filter import read
from fhirgw.store import visibility
from fhirgw.store.chain import unchained
from fhirgw.store.copied import Sink, copied
from fhirgw.store.database import Connection, Engine, Statement, declared, direct, once, statement
from fhirgw.store.matching import Matching, as_of
from fhirgw.store.schema import RENDERED, both, export_member, identified
from fhirgw.store.visibility import visible

NAME = "fhirgw export"
PROVENANCE = "Provenance"

Filters = Mapping[str, Sequence[Matching]]

PART = 96 << 20
"""Bytes of a table that one part is of: some 60,000 resources of a kilobyte, half a second's work."""

MEMORY = "64MB"
"""For the list of those who dissent from anything: some 80 bytes each. One that did not fit would be searched from its
beginning for every row."""

SORTED = "SET LOCAL work_mem = '8MB'; SET LOCAL hash_mem_multiplier = 8"
"""A part is the same bytes whenever it is read: in the order of ids. Putting its bodies in order in the server's memory
costs half as much again as reading them, most of it for the memory; what leads to them in their order, or a sort that
goes through files, less. So little is given to that, and MEMORY still to the list."""

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

TYPES = (
    """
WITH RECURSIVE held AS (
    (SELECT type FROM fhirgw.resource ORDER BY type LIMIT 1)
    UNION ALL
    SELECT (SELECT type FROM fhirgw.resource WHERE type > held.type ORDER BY type LIMIT 1)
    FROM held WHERE held.type IS NOT NULL
)
SELECT type FROM held WHERE type IS NOT NULL
UNION """
    + " UNION ".join(
        f"SELECT '{each}' COLLATE \"C\" WHERE EXISTS (SELECT FROM fhirgw.visit_{each.lower()})" for each in RENDERED
    )
    + " ORDER BY type"
)
"""Steps from type to type through the primary key: DISTINCT would read every row."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What to export: the types (none named: all there are), whose records, and changed after when.

    `patients` None is the whole system; empty, everybody's records; else the records of these ids. `until`: changed
    before when. `group`: of the people in a Group, as the plan of the job `job` has them; of who has joined it since,
    all. `filters`: searches
    (`Observation?code=…`), of which what is of their types meets at least one. `elements`: only these, as `_elements`
    has them. `organized`: in blocks, a Patient's each. `associated`: of Provenance, `latest` or `relevant` to the rest.
    `paged`: the manifest comes in pages. `form`: ndjson, or the rows of `views` (none named: of all of the types) as
    csv or parquet. `project`: whose pseudonyms everybody has, if they have any. `gzip`: how the files are kept. `part`:
    bytes of a table that are one part.
    """

    types: tuple[str, ...] = ()
    patients: tuple[str, ...] | None = None
    since: datetime | None = None
    until: datetime | None = None
    filters: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    group: str | None = None
    organized: bool = False
    associated: str | None = None
    paged: bool = False
    job: str = ""
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
    """The resources of a type with ids from `low` to before `high`; None is no bound. `ids`: of those, these alone."""

    type: str
    low: str | None = None
    high: str | None = None
    ids: tuple[str, ...] | None = None


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
    connection: Connection,
    permit: Permit,
    part: Stretch,
    selection: Selection,
    snapshot: str,
    sink: Sink,
    types: Sequence[str] = (),
) -> None:
    """What the permit shows and the selection asks for in a stretch of a type, as of a snapshot, in the order of ids.

    Of now are only the rules of who may see what: what is withheld now is withheld of every version. `types` are all
    that the export is of. Of an organised one the stretch is of Patients, and each line begins with the ids of the
    Patient and the type, parted by PARTED.
    """
    asked = types if selection.organized or part.type == PROVENANCE else (part.type,)
    filters = {kind: await filtering(connection, permit, kind, selection, snapshot) for kind in asked}
    made = _made(permit, part, selection, filters, types)
    values = visibility.values(permit) | _values(part, selection) | {"snapshot": snapshot}
    async with declared(connection, permit):
        await connection.execute(f"SET LOCAL application_name = '{NAME}'; {SORTED}")
        await copied(connection, made, values, sink)


def _made(permit: Permit, part: Stretch, selection: Selection, filters: Filters, types: Sequence[str]) -> Statement:
    """The statement of a part: of most parts the one that was made for another."""
    build = partial(_part, permit, part, selection, filters, types)
    if any(filters.values()):
        return statement(build())
    asked = selection.patients if selection.patients is None else bool(selection.patients)
    how = asked, selection.since is None, selection.until is None, selection.group is None, selection.associated
    where = part.low is None, part.high is None, part.ids is None
    every = tuple(types) if selection.organized or part.type == PROVENANCE else ()
    return once(("export", part.type, where, how, selection.organized, every, visibility.shape(permit)), build)


def _values(part: Stretch, selection: Selection) -> dict[str, Any]:
    """The parameters of a part's statement, besides those of the permit and of filters."""
    bounds = {"low": part.low, "high": part.high, "ids": list(part.ids or ())}
    told = {"since": selection.since, "until": selection.until, "job": selection.job}
    return bounds | told | {"patients": list(selection.patients or ())}


def _part(permit: Permit, part: Stretch, selection: Selection, filters: Filters, types: Sequence[str]) -> Select[Any]:
    """A type's bodies, or those of all types in blocks."""
    if not selection.organized:
        branches = _branches(permit, part, part.type, selection, filters, types)
        union = union_all(*(each.order_by(each.selected_columns.id) for each in branches)).subquery()
        return select(union.c.line).order_by(union.c.id)  # of those in order, which the planner can merge
    ordered = sorted(types, key=lambda kind: (kind != "Patient", kind))
    every = [each for kind in ordered for each in _branches(permit, part, kind, selection, filters, types)]
    union = union_all(*every).subquery()
    others = union.c.type != literal("Patient", Text)
    return select(union.c.patient, union.c.type, union.c.line).order_by(
        union.c.patient, others, union.c.type, union.c.id
    )


def _branches(
    permit: Permit, part: Stretch, kind: str, selection: Selection, filters: Filters, types: Sequence[str]
) -> Iterator[Select[Any]]:
    """Of a type, current rows that were there, and superseded ones that were current then."""
    related = kind == PROVENANCE and not selection.organized and relation(selection) is not None
    for table in both(kind):
        key = table.c.patient if selection.organized else table.c.id
        line = visibility.body(permit, kind, table).label("line")
        found = select(table.c.id, line, *((table.c.patient, table.c.type) if selection.organized else ()))
        found = found.add_columns(table.c.date1_low) if related else found
        bulk = selection.patients is None and part.ids is None
        found = found.where(visible(permit, "r", kind, table, bulk=bulk))
        found = found.where(*_conditions(kind, selection, table, whose=not related), *as_of(table))
        found = found.where(*_met(filters, kind, table))
        if part.low is not None:
            found = found.where(key >= bindparam("low", part.low, Text))
        if part.high is not None:
            found = found.where(key < bindparam("high", part.high, Text))
        if part.ids is not None:
            found = found.where(key == any_(bindparam("ids", list(part.ids), ARRAY(Text))))
        yield _related(found.subquery(), permit, selection, filters, types) if related else found


def relation(selection: Selection) -> str | None:
    """Which Provenance of what is exported comes with it: of people's records all, unless the latest is asked for."""
    return selection.associated or ("relevant" if selection.patients is not None else None)


def _met(filters: Filters, kind: str, table: FromClause) -> Iterator[ColumnElement[bool]]:
    if filters.get(kind):
        yield or_(*(each.met(table) for each in filters[kind]))


def _related(
    found: FromClause, permit: Permit, selection: Selection, filters: Filters, types: Sequence[str]
) -> Select[Any]:
    """Of Provenance, what is of something else that is exported; and of each of those the latest, if that is asked for.

    Each target is looked for in the one type that it names, among what was current then.
    """
    target = func.fhirgw.targets(found.c.line).table_valued("kind", "id", name="target").render_derived()
    exported = []
    for kind in types:
        for table in both(kind) if kind != PROVENANCE else ():
            row = exists().where(
                *(*identified(table, target.c.id), visible(permit, "r", kind, table)),
                *(*_conditions(kind, selection, table), *as_of(table), *_met(filters, kind, table)),
            )
            exported.append(and_(target.c.kind == literal(kind, Text), row))
    conditions = [or_(false(), *exported)]
    if relation(selection) == "latest":
        token = func.fhirgw.token(literal("target|", Text) + target.c.kind + literal("/", Text) + target.c.id)
        conditions += [~_later(found, permit, table, token).correlate(found, target) for table in both(PROVENANCE)]
    return select(found.c.id, found.c.line).where(exists(select(literal(1)).select_from(target).where(*conditions)))


def _later(found: FromClause, permit: Permit, table: FromClause, token: ColumnElement[Any]) -> Exists:
    """That there is a later Provenance of the same, by when it was recorded; of two at once, by id."""
    return exists().where(
        table.c.type == literal(PROVENANCE, Text, literal_execute=True),
        table.c.tokens.overlap(func.array_append(literal([], ARRAY(BigInteger)), token, type_=ARRAY(BigInteger))),
        tuple_(table.c.date1_low, table.c.id) > tuple_(found.c.date1_low, found.c.id),
        visible(permit, "r", PROVENANCE, table),
        *as_of(table),
    )


@asynccontextmanager
async def snapshot(engine: Engine, permit: Permit, lock: str = "") -> AsyncIterator[Snapshot]:
    """One REPEATABLE READ, READ ONLY transaction. While it lasts it holds `lock`, so that others see it is alive."""
    async with direct(engine) as connection:
        time = await connection.fetchval(TIME, NAME)
        async with declared(connection, permit, isolation="REPEATABLE READ"):
            await connection.execute(f"SET LOCAL application_name = '{NAME}'; SET LOCAL work_mem = '{MEMORY}'")
            await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", lock or str(uuid4()))
            yield Snapshot(connection, time)


def _conditions(
    resource_type: str, selection: Selection, table: FromClause, whose: bool = True
) -> Iterator[ColumnElement[bool]]:
    """What is asked for, of what may be seen."""
    yield table.c.type == literal(resource_type, Text, literal_execute=True)
    if whose:
        yield from about(selection, table)
    if selection.since is not None:
        changed = table.c.updated > bindparam("since", selection.since)
        yield (
            changed if selection.group is None else or_(changed, table.c.patient.in_(_members(selection, joined=True)))
        )
    if selection.until is not None:
        yield table.c.updated < bindparam("until", selection.until)


def about(selection: Selection, table: FromClause) -> Iterator[ColumnElement[bool]]:
    """Whose records are asked for."""
    if selection.patients is not None:
        yield table.c.patient.isnot(None)
    if selection.patients:
        yield table.c.patient == any_(bindparam("patients", list(selection.patients), ARRAY(Text)))
    if selection.group is not None:
        yield table.c.patient.in_(_members(selection))


def _members(selection: Selection, *, joined: bool = False) -> Select[tuple[str]]:
    """The people of a Group; or who has joined it since."""
    found = select(export_member.c.patient).where(export_member.c.job == bindparam("job", selection.job, Text))
    return found.where(export_member.c.joined) if joined else found
