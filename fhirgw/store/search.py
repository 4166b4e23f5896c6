"""A search: one SELECT with the caller's visibility inside feeds the page, its total and the keys of the next one.

The total is exact or absent. It costs nothing where the first page holds every match. Else matches are counted, once
for all pages, up to COUNTED of them: beyond that a count costs more than the page it comes with, so whoever needs it
says `_total=accurate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import Integer, Select, bindparam, func, literal, select

from fhirgw.access.permit import Permit
from fhirgw.fhir.criterion import Dates
from fhirgw.fhir.issue import Issue
from fhirgw.fhir.query import Query
from fhirgw.store import paging, visibility
from fhirgw.store.chain import unchained
from fhirgw.store.database import Connection, once
from fhirgw.store.include import Found, included
from fhirgw.store.matching import Matching
from fhirgw.store.paging import Cursor, Key, Stretch
from fhirgw.store.schema import resource

COUNTED = 50_000
"""Matches counted without being asked to."""


@dataclass(frozen=True, slots=True)
class Page:
    """The matches of one page in their order, what comes along, and the cursor of the next page if there is one."""

    matches: list[Found]
    included: list[Found] = field(default_factory=list)
    total: int | None = None
    next: str | None = None
    notes: Sequence[Issue] = ()


async def search(connection: Connection, permit: Permit, query: Query) -> Page:
    """One page of the resources that match and may be seen.

    Raises FhirError: forbidden for the type, invalid for a cursor of another search, too-costly.
    """
    permit.require("s", query.type)
    cursor = paging.read(query, permit)
    matching = Matching.of(permit, query.type, await unchained(connection, permit, query.criteria))
    if query.count == 0:
        return Page([], total=await _count(connection, matching))
    rows = await _rows(connection, matching, query, cursor)
    more = len(rows) > query.count
    rows = rows[: query.count]
    matches = [Found(query.type, *row[:3]) for row in rows]
    along, notes = await included(connection, permit, query, matches)
    total = await _total(connection, matching, query, cursor, None if more else len(rows))
    if not more:
        return Page(matches, along, total, None, notes)
    following = Cursor((*rows[-1][3:], rows[-1][0]), total)
    return Page(matches, along, total, paging.write(query, following, permit), notes)


async def _rows(connection: Connection, matching: Matching, query: Query, cursor: Cursor | None) -> list[Any]:
    """Up to one more than a page: (id, body, person, sort keys without the id)."""
    order = paging.keys(query.sort)
    slot = query.sort[0].parameter.slot if query.sort else None
    all_dated = any(isinstance(each, Dates) and each.parameter.slot == slot for each in query.criteria)
    sorted_by = tuple((each.parameter.name, each.descending) for each in query.sort)
    rows: list[Any] = []
    for stretch in paging.stretches(order, cursor, all_dated):
        shape = ("page", matching.shape, sorted_by, stretch.shape)
        made = once(shape, partial(_page, matching, order, stretch))
        values = matching.values() | stretch.values() | {"most": query.count + 1 - len(rows)}
        rows += await connection.fetch(made.sql, *made.arguments(values))
        if len(rows) > query.count:
            break
    return rows


def _page(matching: Matching, order: Sequence[Key], stretch: Stretch) -> Select[Any]:
    shown = visibility.body(matching.permit, matching.type)
    page = matching.select(resource.c.id, shown, resource.c.patient, *(key.spelt for key in order[:-1]))
    return stretch.build(page).limit(_most())


async def _total(
    connection: Connection, matching: Matching, query: Query, cursor: Cursor | None, all_there: int | None
) -> int | None:
    if query.total == "none":
        return None
    if cursor is not None:
        return cursor.total
    if all_there is not None:
        return all_there
    if query.total is not None:
        return await _count(connection, matching)
    counted = await _count(connection, matching, COUNTED + 1)
    return counted if counted <= COUNTED else None


async def _count(connection: Connection, matching: Matching, most: int | None = None) -> int:
    """How many match, or `most` if that is fewer."""
    bounded = most is not None
    made = once(("count", matching.shape, bounded), lambda: _counted(matching, bounded))
    return int(await connection.fetchval(made.sql, *made.arguments(matching.values() | {"most": most})))


def _counted(matching: Matching, bounded: bool) -> Select[Any]:
    if not bounded:
        return matching.select(func.count())
    return select(func.count()).select_from(matching.select(literal(1)).limit(_most()).subquery())


def _most() -> Any:
    return bindparam("most", type_=Integer, required=False)
