"""What an export holds that its permit no longer shows: of persons whom somebody may see less of since it began.

Whatever narrows a person's record (a dissent, a label, an ended relationship) notes the person, in its transaction
(fhirgw.store.rules). A job remembers how far it has looked, as the oldest transaction that was still running then: what
that one or a later one notes is looked at. https://www.postgresql.org/docs/18/functions-info.html#FUNCTIONS-INFO-SNAPSHOT
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import orjson
from sqlalchemy import ColumnElement, FromClause, Text, any_, bindparam, except_, literal, or_, select, union
from sqlalchemy.dialects.postgresql import ARRAY

from fhirgw.access.permit import Permit
from fhirgw.store import visibility
from fhirgw.store.database import Connection, declared, statement
from fhirgw.store.schema import history, resource
from fhirgw.store.visibility import visible

NARROWED = """
SELECT array(
    SELECT DISTINCT n.person FROM fhirgw.narrowed n
    WHERE n.transaction::text::bigint >= (SELECT narrowed FROM fhirgw.export_job WHERE id = $1)
) AS persons, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS looked"""


async def narrowed(connection: Connection, job: str) -> tuple[list[str], int]:
    """The persons to be looked at for a job, and what to remember when that is done."""
    found = await connection.fetchrow(NARROWED, job)
    return list(found["persons"]), int(found["looked"])


async def hidden(connection: Connection, permit: Permit, resource_type: str, persons: Sequence[str]) -> set[str]:
    """The ids of the persons' resources of a type, of now or before, that the permit does not show, or not whole."""
    made = statement(_hidden(permit, resource_type))
    async with declared(connection, permit):
        rows = await connection.fetch(made.sql, *made.arguments(visibility.values(permit) | {"persons": persons}))
    return {row["id"] for row in rows}


async def looked(connection: Connection, job: str, until: int, result: dict[str, Any] | None) -> None:
    """Remembers how far a job has been looked at, and what is left in its files (None: as it was)."""
    await connection.execute(
        "UPDATE fhirgw.export_job SET narrowed = $2, result = coalesce($3::jsonb, result) WHERE id = $1",
        job,
        until,
        orjson.dumps(result).decode() if result is not None else None,
    )


async def forget(connection: Connection, age: timedelta) -> None:
    """Forgets what no export can be about any more."""
    await connection.execute("DELETE FROM fhirgw.narrowed WHERE recorded < clock_timestamp() - $1::interval", age)


def _hidden(permit: Permit, resource_type: str) -> Any:
    persons = bindparam("persons", type_=ARRAY(Text), required=False)
    typed = literal(resource_type, Text, literal_execute=True)
    theirs = [select(table.c.id).where(table.c.type == typed, _of(persons, table)) for table in (resource, history)]
    shown = visible(permit, "r", resource_type), visibility.whole(permit)
    return except_(
        union(*theirs), select(resource.c.id).where(resource.c.type == typed, _of(persons, resource), *shown)
    )


def _of(persons: Any, table: FromClause) -> ColumnElement[bool]:
    """Of one of the persons, or telling of them."""
    return or_(table.c.patient == any_(persons), table.c.also == any_(persons))
