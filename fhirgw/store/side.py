"""What is kept beside a resource: strings, numbers, spans; in tables, or in the row of a superseded version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Double,
    FromClause,
    Table,
    Text,
    and_,
    column,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP

from fhirgw.store.schema import search_number, search_span, search_string

Condition = ColumnElement[bool]
Holds = Callable[[Any], Condition]

SPELT = {
    "strings": (column("param", Text), column("value", Text)),
    "spans": (column("param", Text), column("low", TIMESTAMP(timezone=True)), column("high", TIMESTAMP(timezone=True))),
    "numbers": (
        *(column("place", Text), column("low", Double), column("high", Double)),
        *(column("system", Text), column("code", Text), column("unit", Text), column("tokens", ARRAY(BigInteger))),
    ),
}
"""What `beside` holds of a superseded version (fhirgw.beside, alembic 0007)."""

TABLES: dict[str, tuple[Table, str]] = {
    "strings": (search_string, "param"),
    "spans": (search_span, "param"),
    "numbers": (search_number, "place"),
}


def any_string(table: FromClause, resource_type: str, name: str, holds: Holds) -> Condition:
    """That a string of the parameter holds (`holds` of its columns)."""
    return _any(table, resource_type, "strings", (name,), holds)


def any_span(table: FromClause, resource_type: str, name: str, holds: Holds) -> Condition:
    """That a span of the parameter holds."""
    return _any(table, resource_type, "spans", (name,), holds)


def any_number(table: FromClause, resource_type: str, places: Sequence[str], holds: Holds) -> Condition:
    """That a number at one of the places holds."""
    return _any(table, resource_type, "numbers", places, holds)


def extreme(table: FromClause, resource_type: str, kind: str, keys: Sequence[str], last: bool) -> ColumnElement[Any]:
    """The least (or last) of a resource's values of a kind: what it is sorted by."""
    pick = func.max if last else func.min
    if "beside" in table.c:
        rows = _rows(table, kind)
        return select(pick(_worth(rows, kind))).select_from(rows).where(_keyed(rows, kind, keys)).scalar_subquery()
    side = TABLES[kind][0].alias("least")
    found = select(pick(_worth(side, kind))).where(_of(side, resource_type), side.c.id == table.c.id)
    return found.where(_keyed(side, kind, keys)).correlate(table).scalar_subquery()


def along(
    table: FromClause, resource_type: str, kind: str, keys: Sequence[str], last: bool
) -> tuple[FromClause, Condition, ColumnElement[Any]]:
    """The same as a table to join, which an index can be read along: (table, on, value), one row a resource."""
    side, other = TABLES[kind][0].alias("sorted"), TABLES[kind][0].alias("other")
    one, two = _worth(side, kind), _worth(other, kind)
    before = two > one if last else two < one
    same = and_(two == one, literal_column("other.ctid") < literal_column("sorted.ctid"))
    better = exists().where(
        _of(other, resource_type), other.c.id == side.c.id, _keyed(other, kind, keys), or_(before, same)
    )
    on = and_(_of(side, resource_type), side.c.id == table.c.id, _keyed(side, kind, keys), ~better)
    return side, on, one


def _any(table: FromClause, resource_type: str, kind: str, keys: Sequence[str], holds: Holds) -> Condition:
    if "beside" in table.c:
        rows = _rows(table, kind)
        return exists().select_from(rows).where(_keyed(rows, kind, keys), holds(_bytewise(rows, kind)))
    side = TABLES[kind][0]
    found = select(side.c.id).where(_of(side, resource_type), _keyed(side, kind, keys), holds(side.c))
    return table.c.id.in_(found)


def _rows(table: FromClause, kind: str) -> FromClause:
    rows = func.jsonb_to_recordset(table.c.beside[kind]).table_valued(*SPELT[kind], name="kept")
    found: FromClause = rows.render_derived(with_types=True)
    return found


def _of(side: FromClause, resource_type: str) -> Condition:
    return side.c.type == literal(resource_type, Text, literal_execute=True)


def _keyed(rows: FromClause, kind: str, keys: Sequence[str]) -> Condition:
    key = rows.c[TABLES[kind][1]]
    spelt = [key == literal(each, Text, literal_execute=True) for each in keys]
    return or_(*spelt)


def _worth(rows: FromClause, kind: str) -> ColumnElement[Any]:
    if kind != "strings":
        return rows.c.low
    return rows.c.value.collate("C")


class _bytewise:
    """The columns of a version's rows; text is compared byte by byte, as in the tables."""

    def __init__(self, rows: FromClause, kind: str) -> None:
        self.rows = rows

    def __getattr__(self, name: str) -> Any:
        found = self.rows.c[name]
        return found.collate("C") if name == "value" else found
