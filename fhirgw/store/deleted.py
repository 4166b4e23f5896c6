"""What had been deleted as of a snapshot, since a moment: for whoever took a copy then, and may know of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import FromClause, Select, Text, exists, literal, select, union_all

from fhirgw.access.permit import Permit
from fhirgw.store import visibility
from fhirgw.store.database import Connection, declared, statement
from fhirgw.store.export import Selection, about
from fhirgw.store.matching import ended
from fhirgw.store.schema import same, superseded, versions
from fhirgw.store.visibility import visible

TYPES = """
SELECT DISTINCT type FROM fhirgw.history WHERE deleted AND updated > $1
UNION SELECT DISTINCT split_part(unnest(gone), '.', 1) FROM fhirgw.visit_past WHERE until > $1
UNION SELECT 'Provenance' WHERE EXISTS (SELECT FROM fhirgw.past_provenance WHERE deleted AND updated > $1)"""
"""Which types to look into: a statement for each of the others would cost more than all else."""


async def concerned(connection: Connection, selection: Selection) -> set[str]:
    """The types of which something has been deleted since, whoever may know of it."""
    return {row["type"] for row in await connection.fetch(TYPES, selection.since)}


async def deleted(
    connection: Connection, permit: Permit, resource_type: str, selection: Selection, snapshot: str
) -> list[str]:
    """The ids of a type's deleted resources, in order; of those that the permit would show."""
    made = statement(_deleted(permit, resource_type, selection))
    asked = visibility.values(permit) | {"snapshot": snapshot}
    async with declared(connection, permit):
        return [row["id"] for row in await connection.fetch(made.sql, *made.arguments(asked))]


def _deleted(permit: Permit, resource_type: str, selection: Selection) -> Select[Any]:
    """Tombstones that no later version follows, as of the snapshot."""
    found = [_tombstones(permit, resource_type, selection, table) for table in superseded(resource_type)]
    every = union_all(*found).subquery("every")
    return select(every.c.id).order_by(every.c.id)


def _tombstones(permit: Permit, resource_type: str, selection: Selection, table: FromClause) -> Select[Any]:
    found = select(table.c.id).where(
        table.c.type == literal(resource_type, Text, literal_execute=True),
        table.c.deleted,
        table.c.updated > selection.since,
        ended(table.c.transaction),
        visible(permit, "r", resource_type, table),
    )
    for each in versions(table):
        later = each.alias("after")
        newer = (*same(later, table), later.c.version > table.c.version)
        found = found.where(~exists().where(*newer, ended(later.c.transaction)).correlate(table))
    return found.where(*about(selection, table))
