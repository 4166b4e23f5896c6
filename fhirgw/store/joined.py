"""Who has come into a Group since a moment: whoever took a copy of its people then has nothing of them yet.

So an export `_since` that moment has all of their records, as the specification lets it: "resources ... of patients who
have been added to the group", https://hl7.org/fhir/uv/bulkdata/export.html#query-parameters. Who was in it then is told
by the Group as it was then, and where that has searches, by what each resource said then. Searches that lead through
other resources are of those as they are now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import orjson
from sqlalchemy import ColumnElement, DateTime, FromClause, Select, Text, bindparam, exists, func, literal, not_, select
from sqlalchemy import cast as as_type
from sqlalchemy.dialects.postgresql import JSON

from fhirgw.access.permit import Permit
from fhirgw.fhir import cohort
from fhirgw.fhir.type_filter import read
from fhirgw.store import visibility
from fhirgw.store.chain import unchained
from fhirgw.store.database import Connection, once, statement
from fhirgw.store.matching import Matching
from fhirgw.store.schema import PAST, history, resource, same, versions
from fhirgw.store.visibility import visible


async def joined(
    connection: Connection, permit: Permit, id: str, members: Collection[str], since: datetime
) -> frozenset[str]:
    """Those of a Group's `members`, by their Patients' ids, who were not in it at a moment.

    On a connection that declared the permit. Raises FhirError.
    """
    made = once(("cohort then", visibility.shape(permit)), partial(_then, permit))
    asked = visibility.values(permit) | {"id": id, "since": since}
    found = await connection.fetchrow(made.sql, *made.arguments(asked))
    if found is None:
        return frozenset(members)
    filters = cohort.filters({"modifierExtension": orjson.loads(found["extensions"] or "[]")})
    sets = [await _meeting(connection, permit, kind, told, since) for kind, told in sorted(filters.items())]
    if found["actual"] == "true":
        sets.append(frozenset(found["members"]))
    return frozenset(members).difference(frozenset.intersection(*sets) if sets else ())


async def _meeting(
    connection: Connection, permit: Permit, kind: str, searches: Sequence[str], since: datetime
) -> frozenset[str]:
    """Who met one of the searches of a type then."""
    found: set[str] = set()
    for each in searches:
        matching = Matching.of(permit, kind, await unchained(connection, permit, read(each).criteria))
        for table in matching.everywhere:
            query = matching.select(table.c.patient, table=table).where(table.c.patient.is_not(None), *_current(table))
            made = statement(query.distinct())
            rows = await connection.fetch(made.sql, *made.arguments(matching.values() | {"since": since}))
            found.update(row[0] for row in rows)
    return frozenset(found)


def _current(table: FromClause) -> Iterator[ColumnElement[bool]]:
    """That a version was current at a moment, the parameter `since`."""
    moment = bindparam("since", type_=DateTime(timezone=True), required=False)
    yield table.c.updated <= moment
    if table in PAST:
        yield not_(table.c.deleted)
        for other in versions(table):
            later = other.alias(f"later_{other.name}")
            newer = (*same(later, table), later.c.version > table.c.version)
            yield ~exists().where(*newer, later.c.updated <= moment).correlate(table)


def _then(permit: Permit) -> Select[Any]:
    """The Group as it was, if it was there."""
    found = []
    for table in (resource, history):
        document = as_type(table.c.body, JSON)
        found.append(
            select(
                document["actual"].astext.label("actual"),
                document["modifierExtension"].astext.label("extensions"),
                func.fhirgw.members(table.c.body, "Patient", literal(True)).label("members"),
            ).where(
                table.c.type == literal("Group", Text, literal_execute=True),
                table.c.id == bindparam("id", type_=Text, required=False),
                visible(permit, "r", "Group", table),
                *_current(table),
            )
        )
    return found[0].union_all(found[1])  # type: ignore[return-value]
