"""One resource: as it is now, as it was, and how it came to be.

What the permit does not show is not there: FhirError(not-found), word for word the same as for an id nobody ever used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    false,
    literal,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.selectable import SelectBase

from fhirgw.access.permit import Permit
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store import visibility
from fhirgw.store.database import Connection, Statement, once
from fhirgw.store.registration import Standing, holds
from fhirgw.store.schema import PAST, among, held, identified, superseded
from fhirgw.store.visibility import visible

MOST_VERSIONS = 1000
"""Versions a history answers with at once."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A version of a resource: `body` is its JSON as stored, `deleted` true for the tombstone that ends it.

    `person` is the id of the Patient in whose record it is.
    """

    body: str
    version: int
    updated: datetime
    deleted: bool = False
    person: str | None = None


def absent(resource_type: str) -> FhirError:
    """The answer for what does not exist, and for what the caller may not see."""
    return FhirError(Issue("not-found", f"There is no such {resource_type}"))


def gone(resource_type: str) -> FhirError:
    """The answer for what was deleted and could be seen."""
    return FhirError(Issue("deleted", f"This {resource_type} has been deleted; its history is still there"))


async def read(connection: Connection, permit: Permit, resource_type: str, id: str) -> Stored:
    """The current version. Raises FhirError: forbidden, not-found, deleted."""
    permit.require("r", resource_type)
    made = _statement("read", permit, resource_type)
    row = await connection.fetchrow(made.sql, *made.arguments(visibility.values(permit) | {"id": id}))
    if row is None:
        versions = await past(connection, permit, resource_type, id, count=1)
        raise gone(resource_type) if versions and versions[0].deleted else absent(resource_type)
    return Stored(*row)


async def read_each(
    connection: Connection, permit: Permit, resource_type: str, ids: Sequence[str], standing: Standing | None = None
) -> list[Stored | None]:
    """The current versions, in the order of the ids; None for what is not there. Raises FhirError(forbidden).

    `standing`: what the permit rests on, where that is not known to hold; if it does not, nothing is there.
    """
    permit.require("r", resource_type)
    made = _statement("standing" if standing else "each", permit, resource_type)
    asked = visibility.values(permit) | {"ids": list(ids)} | (standing._asdict() if standing else {})
    rows = await connection.fetch(made.sql, *made.arguments(asked))
    found = {row[-1]: Stored(*row[:-1]) for row in rows}
    return [found.get(id) for id in ids]


async def vread(connection: Connection, permit: Permit, resource_type: str, id: str, version: int) -> Stored:
    """One version, current or not. Raises FhirError: forbidden, not-found, deleted."""
    permit.require("r", resource_type)
    made = _statement("vread", permit, resource_type)
    asked = visibility.values(permit) | {"id": id, "version": version}
    row = await connection.fetchrow(made.sql, *made.arguments(asked))
    if row is None:
        raise absent(resource_type)
    if row["deleted"]:
        raise gone(resource_type)
    return Stored(*row)


async def past(
    connection: Connection,
    permit: Permit,
    resource_type: str,
    id: str,
    *,
    count: int = MOST_VERSIONS,
    before: int | None = None,
) -> list[Stored]:
    """At most `count` versions, the newest first, older than `before`; none for what is absent. Raises FhirError."""
    permit.require("r", resource_type)
    made = _statement("past", permit, resource_type)
    asked: dict[str, Any] = {"id": id, "count": count, "before": before or 2**31 - 1}
    rows = await connection.fetch(made.sql, *made.arguments(visibility.values(permit) | asked))
    return [Stored(*row) for row in rows]


def _statement(interaction: str, permit: Permit, resource_type: str) -> Statement:
    """The interaction's SQL for permits of this shape, made once."""
    builders = {"read": _current, "each": _each, "standing": _standing, "vread": _one_version, "past": _versions}
    build = builders[interaction]
    key = (interaction, resource_type, visibility.shape(permit))
    return once(key, lambda: build(permit, resource_type))


def _current(permit: Permit, resource_type: str) -> SelectBase:
    return _all(_of(permit, resource_type, table) for table in held(resource_type))


def _each(permit: Permit, resource_type: str) -> SelectBase:
    return _all(_some_of(permit, resource_type, table) for table in held(resource_type))


def _standing(permit: Permit, resource_type: str) -> SelectBase:
    return _all(_some_of(permit, resource_type, table).where(holds()) for table in held(resource_type))


def _some_of(permit: Permit, resource_type: str, table: Any) -> Select[Any]:
    ids = bindparam("ids", type_=ARRAY(Text), required=False)
    return select(*_columns(permit, resource_type, table), table.c.id).where(
        table.c.type == literal(resource_type, Text, literal_execute=True),
        *among(table, ids),
        visible(permit, "r", resource_type, table),
    )


def _all(selects: Iterable[Select[Any]]) -> SelectBase:
    first, *others = selects
    return union_all(first, *others) if others else first


def _columns(permit: Permit, resource_type: str, table: Any) -> tuple[ColumnElement[Any], ...]:
    """What a Stored is made of."""
    deleted = table.c.deleted if table in PAST else false().label("deleted")
    shown = visibility.body(permit, resource_type, table).label("body")
    return shown, table.c.version, table.c.updated, deleted, table.c.patient


def _of(permit: Permit, resource_type: str, table: Any) -> Select[Any]:
    return select(*_columns(permit, resource_type, table)).where(*_named(permit, resource_type, table))


def _one_version(permit: Permit, resource_type: str) -> SelectBase:
    version = bindparam("version", type_=Integer, required=False)
    tables = (*held(resource_type), *superseded(resource_type))
    return _all(_of(permit, resource_type, table).where(table.c.version == version) for table in tables)


def _versions(permit: Permit, resource_type: str) -> Select[Any]:
    tables = (*held(resource_type), *superseded(resource_type))
    every = union_all(*(_of(permit, resource_type, table) for table in tables)).subquery("every")
    return (
        select(every)
        .where(every.c.version < bindparam("before", type_=Integer, required=False))
        .order_by(every.c.version.desc())
        .limit(bindparam("count", type_=Integer, required=False))
    )


def _named(permit: Permit, resource_type: str, table: Any) -> tuple[Any, ...]:
    """The type as a literal, because it chooses the partition when the statement is planned; the id as a parameter."""
    return (
        table.c.type == literal(resource_type, Text, literal_execute=True),
        *identified(table, bindparam("id", type_=Text, required=False)),
        visible(permit, "r", resource_type, table),
    )
