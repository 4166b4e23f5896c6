"""A search: one SELECT with the caller's visibility inside feeds the page, its total and the keys of the next one.

Every page of a search shows what matched as of the first one's snapshot, though others write between them: nothing
twice, nothing lost (fhirgw.store.matching). What a caller may see is asked anew for each page: what has become hidden
since is on none, what has become visible since may be on a later one. What comes along (`_include`) is as it is now.

The total is exact or absent, and that of the first page. It costs nothing where that page holds every match. Else
matches are counted, once for all pages, up to COUNTED of them: beyond that a count costs more than the page it comes
with, so whoever needs it says `_total=accurate`.

Searches of more than one statement are exact to each other in a transaction of one snapshot (REPEATABLE READ).

Long, because each way to read a page has to keep all of this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from typing import cast as cast_to

from sqlalchemy import Integer, Select, Text, bindparam, cast, func, literal, select, union_all
from sqlalchemy.sql.selectable import SelectBase

from fhirgw.access.permit import Permit
from fhirgw.fhir.criterion import Dates, Numbers, Strings
from fhirgw.fhir.issue import Issue
from fhirgw.fhir.query import Query
from fhirgw.store import cursor as cursors
from fhirgw.store import paging, rendered, visibility
from fhirgw.store.chain import unchained
from fhirgw.store.criterion import Plain
from fhirgw.store.cursor import Cursor
from fhirgw.store.database import Connection, Statement, once
from fhirgw.store.include import Found, included
from fhirgw.store.matching import Asked, Matching, Way
from fhirgw.store.paging import Stretch
from fhirgw.store.registration import Standing, holds
from fhirgw.store.schema import cursor_key, resource

COUNTED = 2_000
"""Matches counted without being asked to: each costs a microsecond to be judged, a page of 50 costs two thousand."""


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

    Raises FhirError: forbidden for a type, invalid for a cursor of another search, too-costly.
    """
    query = covered(permit, query)
    cursor = await cursors.read(connection, query, permit)
    matching = await matchings(connection, permit, query, cursor.snapshot if cursor else None)
    if query.count == 0:
        return Page([], total=await _count(connection, matching))
    return await _read(connection, permit, query, cursor, matching)


async def _read(
    connection: Connection, permit: Permit, query: Query, cursor: Cursor | None, matching: Sequence[Matching]
) -> Page:
    return await _paged(connection, permit, query, cursor, matching, await _rows(connection, matching, query, cursor))


async def _paged(
    connection: Connection,
    permit: Permit,
    query: Query,
    cursor: Cursor | None,
    matching: Sequence[Matching],
    rows: Sequence[Any],
) -> Page:
    """The page of what was read: up to one more row than it has."""
    more = len(rows) > query.count
    rows = rows[: query.count]
    matches = [Found(*row[:4]) for row in rows]
    along, notes = await included(connection, permit, query, matches)
    total = await _total(connection, matching, query, cursor, None if more else len(rows))
    if not more:
        return Page(matches, along, total, None, notes)
    *keys, snapshot, key = rows[-1][4:]
    following = Cursor(tuple(keys), total, cursor.snapshot if cursor else snapshot)
    return Page(matches, along, total, cursors.write(query, following, permit, key), notes)


async def walked(
    connection: Connection, permit: Permit, query: Query, way: Way, standing: Standing | None = None
) -> Page | None:
    """The same for what is `walkable` (fhirgw.store.rarity), outside of a transaction: by one plan, whatever it finds.

    `standing`: what the permit rests on, where that is not known to hold; None if it does not, or nothing is found.
    Raises FhirError: forbidden for the type.
    """
    query = covered(permit, query)
    matching = (replace((await matchings(connection, permit, query))[0], way=way),)
    made, values = _made(matching, Stretch(paging.keys(permit, query)), bool(standing))
    asked = values | {"most": query.count + 1} | (standing._asdict() if standing else {})
    rows = await connection.fetch(made.sql, *made.arguments(asked))
    return None if standing and not rows else await _paged(connection, permit, query, None, matching, rows)


async def only(connection: Connection, permit: Permit, query: Query) -> list[Found]:
    """What a search finds that is alone (fhirgw.store.matching), outside of a transaction: up to one more than a page.

    Raises FhirError: forbidden for the type.
    """
    matching, stretch = direct(permit, query)
    made, values = _made((matching,), stretch)
    rows = await connection.fetch(made.sql, *made.arguments(values | {"most": query.count + 1}))
    return [Found(*row[:4]) for row in rows]


def direct(permit: Permit, query: Query) -> tuple[Matching, Stretch]:
    """What a search that is alone matches, and its order: in one part, because few are sorted. Raises FhirError."""
    query = covered(permit, query)
    matching = Matching.of(permit, query.type, cast_to("list[Plain]", list(query.criteria)))
    return matching, Stretch(paging.keys(permit, query))


async def matchings(
    connection: Connection, permit: Permit, query: Query, snapshot: str | None = None
) -> tuple[Matching, ...]:
    """What the search matches, of each type it is of. Raises FhirError(too-costly)."""
    found = []
    for at, (each, asked) in enumerate(query.parts):
        criteria = await unchained(connection, permit, asked, snapshot)
        matching = Matching.of(permit, each, criteria, snapshot)
        found.append(matching.apart(at) if query.others else matching)
    await rendered.afford(connection, *found)
    return tuple(found)


def covered(permit: Permit, query: Query) -> Query:
    """The query, of the types that the permit lets one search where it names none. Raises FhirError(forbidden)."""
    parts = [each for each in query.parts if not query.anything or permit.covering("s", each[0])] or query.parts[:1]
    for each, _ in parts:
        permit.require("s", each)
    (first, criteria), *others = parts
    return replace(query, type=first, criteria=criteria, others=tuple(others)) if query.anything else query


def statements(
    matching: Sequence[Matching], query: Query, cursor: Cursor | None
) -> list[tuple[Statement, dict[str, Any]]]:
    """The statements of a page, one for each stretch of its order, each with its parameters (without `most`)."""
    order = paging.keys(matching[0].permit, query)
    return [_made(matching, stretch) for stretch in paging.stretches(order, cursor, _all_valued(query))]


def _made(matching: Sequence[Matching], stretch: Stretch, standing: bool = False) -> tuple[Statement, dict[str, Any]]:
    shapes = tuple(each.shape for each in matching)
    build = partial(_standing if standing else _page, matching, stretch)
    return once(("page", shapes, stretch.shape, standing), build), _values(matching) | stretch.values()


async def _rows(connection: Connection, matching: Sequence[Matching], query: Query, cursor: Cursor | None) -> list[Any]:
    """Up to one more than a page: (type, id, body, person, sort keys, snapshot, key of cursors)."""
    rows: list[Any] = []
    for made, values in statements(matching, query, cursor):
        most = {"most": query.count + 1 - len(rows)}
        rows += await connection.fetch(made.sql, *made.arguments(values | most))
        if len(rows) > query.count:
            break
    return rows


def _all_valued(query: Query) -> bool:
    """Whether every match has a value of the first key, because a criterion asks for one."""
    if not query.sort:
        return False
    key = query.sort[0].parameter
    return any(
        isinstance(each, Dates | Strings | Numbers) and each.parameter == key and not getattr(each, "beside", ())
        for each in query.criteria
    )


def _values(matching: Sequence[Matching]) -> dict[str, Any]:
    return {name: value for each in matching for name, value in each.values().items()}


def _standing(matching: Sequence[Matching], stretch: Stretch) -> SelectBase:
    """The same where a Standing holds."""
    return _page(matching, stretch).where(holds())


def _page(matching: Sequence[Matching], stretch: Stretch) -> Select[Any]:
    """One SELECT; or as many as there are types and tables, each as long as a page at most, in one order."""
    told = (
        select(cast(func.pg_current_snapshot(), Text)).scalar_subquery().label("snapshot"),
        select(cursor_key.c.key).scalar_subquery().label("seal"),
    )
    branches = [(each, table) for each in matching for table in each.tables]
    if len(branches) == 1:
        return branch(*branches[0], stretch, told)
    union = union_all(*(branch(*each, stretch).subquery().select() for each in branches)).subquery("every")
    values = [union.c[f"k{at}"] for at in range(len(stretch.order))]
    page = select(*list(union.c)[:4], *(cast(each, Text) for each in values), *told)
    return page.order_by(*stretch.ways(values)).limit(_most())


def branch(
    matching: Matching,
    table: Any,
    stretch: Stretch,
    told: Sequence[Any] | None = None,
    asked: Asked | None = None,
) -> Select[Any]:
    """The page of one type from one table. Alone it spells its keys (and `told`); of several it hands them on.

    `asked`: where its values stand, if they are not parameters.
    """
    if matching.way is Way.ORDER and table is resource:
        table, matching = matching.ordered(lambda every: stretch.ways(stretch.columns(every)[0]))
    values, joined, conditions = stretch.columns(table)
    spelt = [each.label(f"k{at}") if told is None else cast(each, Text) for at, each in enumerate(values)]
    shown = visibility.body(matching.permit, matching.type, table).label("body")
    columns = (table.c.type, table.c.id, shown, table.c.patient, *spelt, *(told or ()))
    page = matching.select(*columns, table=table, asked=asked)
    if joined is not None:
        page = page.select_from(joined)
    return stretch.place(page.where(*conditions), values).limit(_most())


async def _total(
    connection: Connection, matching: Sequence[Matching], query: Query, cursor: Cursor | None, all_there: int | None
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


async def _count(connection: Connection, matching: Sequence[Matching], most: int | None = None) -> int:
    """How many match, or `most` if that is fewer."""
    bounded = most is not None
    shape = ("count", tuple(each.shape for each in matching), bounded)
    made = once(shape, lambda: _counted(matching, bounded))
    return int(await connection.fetchval(made.sql, *made.arguments(_values(matching) | {"most": most})))


def _counted(matching: Sequence[Matching], bounded: bool) -> Select[Any]:
    every = [
        each.select(literal(1).label("one"), table=table, every=True) for each in matching for table in each.tables
    ]
    if len(every) == 1 and not bounded:
        return every[0].with_only_columns(func.count(), maintain_column_froms=True)
    union = every[0] if len(every) == 1 else union_all(*every)
    return select(func.count()).select_from((union.limit(_most()) if bounded else union).subquery())


def _most() -> Any:
    return bindparam("most", type_=Integer, required=False)
