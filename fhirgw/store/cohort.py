"""Whom an export of a Group is of: its members, and who meets the searches that define it.

Members are taken as they stand in the Group, but for inactive ones, whether the permit shows them or not: each part of
the export asks that itself, and what tells who has become hidden needs to know them. A search finds whom the permit
lets one find.
https://hl7.org/fhir/uv/bulkdata/group.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from sqlalchemy import BigInteger, Select, Text, any_, bindparam, cast, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from fhirgw.access.permit import Permit
from fhirgw.fhir import cohort
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.tokens import plain_reference
from fhirgw.fhir.type_filter import read
from fhirgw.store import visibility
from fhirgw.store.chain import unchained
from fhirgw.store.database import Connection, once, statement
from fhirgw.store.matching import Matching
from fhirgw.store.resources import absent
from fhirgw.store.schema import resource
from fhirgw.store.visibility import visible


@dataclass(frozen=True, slots=True)
class Cohort:
    """A Group as its own words have it: `members` are the ids of Patients, None where searches alone define it."""

    members: frozenset[str] | None
    filters: dict[str, tuple[str, ...]]


async def find(connection: Connection, permit: Permit, id: str, among: Sequence[str] | None = None) -> Cohort:
    """The Group, on a connection that declared the permit; with `among` by its index, in a fraction of the time.

    Its members are then those, if it names all of them, inactive or not, and else nobody.

    Raises FhirError: forbidden; not-found for one that is hidden or not there; not-supported for one that says by its
    characteristics alone who is in it.
    """
    permit.require("r", "Group")
    made = once(("cohort", among is None, visibility.shape(permit)), partial(_raw, permit, among is None))
    asked = visibility.values(permit) | {"id": id}
    asked["among"] = [plain_reference("member", f"Patient/{each}") for each in among or ()]
    found = await connection.fetchrow(made.sql, *made.arguments(asked))
    if found is None:
        raise absent("Group")
    filters = cohort.filters({"modifierExtension": orjson.loads(found["extensions"] or "[]")})
    if found["actual"] == "true":
        return Cohort(frozenset(found["members"] if among is None else among if found["members"] else ()), filters)
    if not filters:
        told = f"This Group is a definition without a search: give it the modifierExtension {cohort.MEMBER_FILTER}"
        raise FhirError(Issue("not-supported", told))
    return Cohort(None, filters)


async def people(
    connection: Connection, permit: Permit, found: Cohort, among: Sequence[str] | None = None
) -> frozenset[str]:
    """The ids of the Patients who are in a Group, of those `among` whom it is looked for. Raises FhirError."""
    sets = [await _meeting(connection, permit, *each, among) for each in sorted(found.filters.items())]
    if found.members is not None:
        sets.append(found.members if among is None else found.members.intersection(among))
    return frozenset.intersection(*sets)


async def _meeting(
    connection: Connection, permit: Permit, kind: str, searches: Sequence[str], among: Sequence[str] | None
) -> frozenset[str]:
    """Who meets one of the searches of a type. Raises FhirError: forbidden, too-costly."""
    permit.require("s", kind)
    found: set[str] = set()
    for each in searches:
        criteria = await unchained(connection, permit, read(each).criteria)
        matching = Matching.of(permit, kind, criteria)
        for table in matching.tables:
            query = matching.select(table.c.patient, table=table).where(table.c.patient.is_not(None)).distinct()
            if among is not None:
                query = query.where(table.c.patient == any_(bindparam(None, list(among), ARRAY(Text))))
            made = statement(query)
            found.update(row[0] for row in await connection.fetch(made.sql, *made.arguments(matching.values())))
    return frozenset(found)


def _raw(permit: Permit, every: bool) -> Select[Any]:
    """The Group with its members, or with whether it names all those who are asked about."""
    document = cast(resource.c.body, JSON)
    members = func.fhirgw.members(resource.c.body, "Patient", literal(True))
    named = resource.c.tokens.contains(bindparam("among", type_=ARRAY(BigInteger), required=False))
    return select(
        document["actual"].astext.label("actual"),
        document["modifierExtension"].astext.label("extensions"),
        (members if every else named).label("members"),
    ).where(
        resource.c.type == literal("Group", Text, literal_execute=True),
        resource.c.id == bindparam("id", type_=Text, required=False),
        visible(permit, "r", "Group"),
    )
