"""The profiles, labels and tags in use, among what the caller may see.

https://hl7.org/fhir/R4/resource-operation-meta.html
"""

from __future__ import annotations

from typing import Any

import orjson
from sqlalchemy import FromClause, Integer, Select, Text, bindparam, cast, func, literal, select, union_all
from sqlalchemy.dialects.postgresql import JSON

from fhirgw.access.permit import Permit
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.store import visibility
from fhirgw.store.database import Connection, once
from fhirgw.store.schema import RENDERED_AS, held
from fhirgw.store.visibility import visible

NEWEST = 20_000
"""Resources that are looked through, the newest: bodies are text, and reading all of a large store takes minutes."""

ELEMENTS = ("profile", "security", "tag")


async def used(connection: Connection, permit: Permit, resource_type: str | None) -> Resource:
    """A Meta of everything in use on a type, or anywhere. Raises FhirError(forbidden)."""
    if resource_type is not None:
        permit.require("s", resource_type)
    elif not any("s" in scope.verbs for scope in permit.scopes):
        raise FhirError(Issue("forbidden", "No scope of this token allows search"))
    made = once(("meta", resource_type, visibility.shape(permit)), lambda: _used(permit, resource_type))
    rows = await connection.fetch(made.sql, *made.arguments(visibility.values(permit) | {"most": NEWEST}))
    metas = [orjson.loads(row[0]) for row in rows]
    found = {name: _distinct(each for meta in metas for each in meta.get(name, ())) for name in ELEMENTS}
    return {name: values for name, values in found.items() if values}


def _used(permit: Permit, resource_type: str | None) -> Select[Any]:
    """The distinct metas of the newest, without what is each resource's own."""
    newest = [_newest(permit, resource_type, table).subquery().select() for table in held(resource_type)]
    each = union_all(*newest).subquery("newest")
    meta = cast(each.columns["body"], JSON)["meta"]
    kept = func.json_build_object(*(part for name in ELEMENTS for part in (literal(name), meta[name])))
    spelt = cast(func.json_strip_nulls(kept), Text).label("meta")
    return select(spelt).distinct().order_by(spelt)


def _newest(permit: Permit, resource_type: str | None, table: FromClause) -> Select[Any]:
    shown = visibility.body(permit, resource_type, table).label("body")
    newest = select(shown).where(visible(permit, "s", resource_type, table))
    if resource_type is not None:
        newest = newest.where(table.c.type == literal(resource_type, Text, literal_execute=True))
    most = literal(1) if table in RENDERED_AS else bindparam("most", type_=Integer, required=False)  # all have the same
    return newest.order_by(table.c.updated.desc()).limit(most)


def _distinct(values: Any) -> list[Any]:
    """Each once, in the order of their spelling."""
    return [
        orjson.loads(each) for each in sorted({orjson.dumps(value, option=orjson.OPT_SORT_KEYS) for value in values})
    ]
