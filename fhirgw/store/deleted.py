"""What had been deleted as of a snapshot, since a moment: for whoever took a copy then, and may know of it."""

from __future__ import annotations

from sqlalchemy import Select, Text, exists, literal, select

from fhirgw.access.permit import Permit
from fhirgw.store import visibility
from fhirgw.store.database import Connection, declared, statement
from fhirgw.store.export import Selection, about
from fhirgw.store.matching import ended
from fhirgw.store.schema import history, resource
from fhirgw.store.visibility import visible

TYPES = "SELECT DISTINCT type FROM fhirgw.history WHERE deleted AND updated > $1"
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


def _deleted(permit: Permit, resource_type: str, selection: Selection) -> Select[tuple[str]]:
    """Tombstones that no later version follows, as of the snapshot."""
    found = select(history.c.id).where(
        history.c.type == literal(resource_type, Text, literal_execute=True),
        history.c.deleted,
        history.c.updated > selection.since,
        ended(history.c.transaction),
        visible(permit, "r", resource_type, history),
    )
    for table in (resource, history):
        later = table.alias("after")
        same = (later.c.type == history.c.type, later.c.id == history.c.id, later.c.version > history.c.version)
        found = found.where(~exists().where(*same, ended(later.c.transaction)).correlate(history))
    return found.where(*about(selection, history)).order_by(history.c.id)
