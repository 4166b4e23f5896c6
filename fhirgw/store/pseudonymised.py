"""What agreements have had with pseudonyms: as of which moments, and of which lists of people."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any

from sqlalchemy import Select, Text, all_, bindparam, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from fhirgw.access.permit import Permit
from fhirgw.store import visibility
from fhirgw.store.database import Connection, once
from fhirgw.store.schema import resource
from fhirgw.store.visibility import visible

Cohort = frozenset[str]
"""The ids of Patients who are on a list."""


def digest(cohort: Collection[str]) -> str:
    """What a list is known by, whatever its order."""
    return sha256("\n".join(sorted(cohort)).encode()).hexdigest()


async def had(connection: Connection, permit: Permit, project: str, moment: datetime) -> bool:
    """Whether the project has had an export as of that moment."""
    query = "SELECT true FROM fhirgw.pseudonymised WHERE (organisation, agreement, project, time) = ($1, $2, $3, $4)"
    return bool(await connection.fetchval(query, permit.organisation, permit.agreement, project, moment))


async def given(connection: Connection, permit: Permit, project: str, moment: datetime) -> None:
    """The project has an export as of that moment."""
    query = "INSERT INTO fhirgw.pseudonymised (organisation, agreement, project, time) VALUES ($1, $2, $3, $4)"
    await connection.execute(f"{query} ON CONFLICT DO NOTHING", permit.organisation, permit.agreement, project, moment)


async def cohorts(connection: Connection, permit: Permit, but: Collection[str] = ()) -> list[Cohort]:
    """The lists that the agreement has had exports of, besides that one."""
    query = (
        "SELECT members FROM fhirgw.pseudonymised_cohort"
        " WHERE organisation = $1 AND agreement = $2 AND digest <> $3 ORDER BY digest"
    )
    found = await connection.fetch(query, permit.organisation, permit.agreement, digest(but))
    return [frozenset(each["members"]) for each in found]


async def keep(connection: Connection, permit: Permit, cohort: Collection[str]) -> bool:
    """Writes a list down; False: it is known."""
    status = await connection.execute(
        "INSERT INTO fhirgw.pseudonymised_cohort (organisation, agreement, digest, members) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT DO NOTHING",
        *(permit.organisation, permit.agreement, digest(cohort), sorted(cohort)),
    )
    return bool(status == "INSERT 0 1")


async def drop(connection: Connection, permit: Permit, cohort: Collection[str]) -> None:
    """The agreement has had no export of that list."""
    query = "DELETE FROM fhirgw.pseudonymised_cohort WHERE (organisation, agreement, digest) = ($1, $2, $3)"
    await connection.execute(query, permit.organisation, permit.agreement, digest(cohort))


async def others(connection: Connection, permit: Permit, ids: Collection[str], most: int) -> int:
    """How many Patients the permit shows who are not among these; `most`, if they are more. It has been declared."""
    made = once(("others", visibility.shape(permit)), partial(_others, permit))
    asked = visibility.values(permit) | {"ids": [*ids], "most": most}
    return int(await connection.fetchval(made.sql, *made.arguments(asked)))


def _others(permit: Permit) -> Select[Any]:
    """Those who are shown besides, as many as are asked for."""
    found = select(literal(1).label("one")).where(
        resource.c.type == literal("Patient", Text, literal_execute=True),
        resource.c.id != all_(bindparam("ids", type_=ARRAY(Text), required=False)),
        visible(permit, "r", "Patient"),
    )
    return select(func.count()).select_from(found.limit(bindparam("most", required=False)).subquery())
