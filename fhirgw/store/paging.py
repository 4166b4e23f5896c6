"""Pages by key: where the last one ended, never how many rows to pass over; in the order that a search asks for.

https://hl7.org/fhir/R4/search.html#sort. A resource with several values of a key stands where the first of them would
(the last, in a descending order); one without a value comes last, whichever way the order goes. So does one whose value
is withheld from whoever asks.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, FromClause, Select, Text, and_, bindparam, case, cast, null, or_

from fhirgw.access.permit import Permit
from fhirgw.fhir.parameters import Parameter
from fhirgw.fhir.query import Query
from fhirgw.store import said, visibility
from fhirgw.store.cursor import Cursor
from fhirgw.store.membership import is_membership
from fhirgw.store.schema import resource
from fhirgw.store.side import along, extreme

Condition = ColumnElement[bool]
SIDES = {"string": "strings", "date": "spans", "number": "numbers", "quantity": "numbers"}


@dataclass(frozen=True, slots=True)
class Key:
    """One value of the order. `parameter` None is the id, or the type (`of_type`), which end every order."""

    permit: Permit
    type: str
    parameter: Parameter | None = None
    descending: bool = False
    of_type: bool = False

    @property
    def nullable(self) -> bool:
        """Whether a resource may be without it."""
        return self.parameter is not None and self.parameter.name != "_lastUpdated"

    @property
    def beside(self) -> bool:
        """Whether it is kept beside the row."""
        return self.nullable and self.parameter is not None and self.parameter.kind in SIDES and not self.parameter.slot

    @property
    def shape(self) -> Hashable:
        """What its SQL depends on."""
        return self.parameter and self.parameter.name, self.descending, self.of_type

    def column(self, table: FromClause) -> ColumnElement[Any]:
        """The value, in a row of a table."""
        if self.parameter is None:
            return table.c.type if self.of_type else table.c.id
        if self.parameter.name == "_lastUpdated":
            return table.c.updated
        if is_membership(self.parameter):
            return visibility.first_named(self.permit, table, self.descending)
        if self.parameter.kind in said.KINDS:
            return self._unless_withheld(said.worth(table, self.parameter, self.descending), table)
        if not self.beside:
            return table.c[f"date{self.parameter.slot}_low"]
        return self._unless_withheld(extreme(table, self.type, *self._kept(self.parameter), self.descending), table)

    def along(self, table: FromClause) -> tuple[FromClause, list[Condition], ColumnElement[Any]]:
        """The value as a table to be joined, of those who have one."""
        assert self.parameter is not None
        side, on, value = along(table, self.type, *self._kept(self.parameter), self.descending)
        return side, [on, visibility.whole(self.permit, table)] if self._withheld else [on], value

    def _kept(self, parameter: Parameter) -> tuple[str, Sequence[str]]:
        kind = SIDES[parameter.kind]
        return kind, parameter.places if kind == "numbers" else (parameter.name,)

    @property
    def _withheld(self) -> bool:
        return self.parameter is not None and visibility.withheld(self.type, self.parameter.name)

    def _unless_withheld(self, value: ColumnElement[Any], table: FromClause) -> ColumnElement[Any]:
        return case((visibility.whole(self.permit, table), value), else_=null()) if self._withheld else value

    def way(self, value: ColumnElement[Any], nullable: bool) -> ColumnElement[Any]:
        """What ORDER BY says."""
        found = value.desc() if self.descending else value.asc()
        return found.nulls_last() if nullable else found

    def past(self, value: ColumnElement[Any], bind: ColumnElement[Any]) -> Condition:
        """Strictly further on than a value that is not null."""
        further: Condition = value < bind if self.descending else value > bind
        return or_(further, value.is_(None)) if self.nullable else further


def keys(permit: Permit, query: Query) -> tuple[Key, ...]:
    """The values of an order; the id ends it and makes it total, and is the whole order of a search without one."""
    several = len(query.types) > 1
    found: list[Key] = []
    for each in query.sort:
        if each.parameter.name == "_id":
            found.append(Key(permit, query.type, None, each.descending))
            break
        found.append(Key(permit, query.type, each.parameter, each.descending))
    else:
        found.append(Key(permit, query.type))
    return (*found, Key(permit, query.type, of_type=True)) if several else tuple(found)


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the order that an index can be read along: what has the first value, then what has none.

    As one, an order with NULLS LAST would have to be sorted whole for every page. `valued` says which part it is, None
    for an order that needs no parts. `after` are the cursor's keys, if it begins in the middle.
    """

    order: tuple[Key, ...]
    after: tuple[str | None, ...] | None = None
    valued: bool | None = None

    @property
    def shape(self) -> Hashable:
        """What the SQL of the stretch depends on besides its search."""
        told = tuple(key.shape for key in self.order)
        return told, self.valued, None if self.after is None else tuple(key is None for key in self.after)

    def columns(self, table: FromClause) -> tuple[list[ColumnElement[Any]], FromClause | None, list[Condition]]:
        """The values in a row of the table; what is joined to it for them; and the conditions of the stretch."""
        first, *others = self.order
        rest = [key.column(table) for key in others]
        if self.valued is None or not first.beside or table is not resource or not self.valued:
            value = first.column(table)
            if self.valued is None:
                return [value, *rest], None, []
            return [value, *rest], None, [value.is_not(None) if self.valued else value.is_(None)]
        side, on, value = first.along(table)
        return [value, *rest], side, on

    def place(self, page: Select[Any], values: Sequence[ColumnElement[Any]]) -> Select[Any]:
        """The page, of what comes after the cursor, in order."""
        if self.after is not None:
            page = page.where(self._after(values))
        return page.order_by(*self.ways(values))

    def ways(self, values: Sequence[ColumnElement[Any]]) -> list[ColumnElement[Any]]:
        """What ORDER BY says, of the values by name or as they are."""
        first = (
            [] if self.valued is False else [self.order[0].way(values[0], self.order[0].nullable and not self.valued)]
        )
        return first + [key.way(value, key.nullable) for key, value in zip(self.order[1:], values[1:], strict=True)]

    def _after(self, values: Sequence[ColumnElement[Any]]) -> Condition:
        """The condition for what comes after the cursor, with parameters `key0`, `key1` …"""
        after = self.after or ()
        binds = [cast(bindparam(f"key{at}", type_=Text, required=False), each.type) for at, each in enumerate(values)]
        steps: list[Condition] = []
        for at, key in enumerate(self.order):
            if after[at] is None:
                continue
            same = (
                values[before].is_(None) if after[before] is None else values[before] == binds[before]
                for before in range(at)
            )
            steps.append(and_(*same, key.past(values[at], binds[at])))
        return or_(*steps)

    def values(self) -> dict[str, Any]:
        """The parameters it adds."""
        return {f"key{at}": key for at, key in enumerate(self.after)} if self.after else {}


def stretches(order: tuple[Key, ...], cursor: Cursor | None, all_valued: bool) -> Iterator[Stretch]:
    """What is still to come of an order, in parts to be read one after another.

    `all_valued`: the search itself asks for what it is sorted by, so that nothing without a value can match.
    """
    after = None if cursor is None else cursor.keys
    if not order[0].nullable:
        yield Stretch(order, after)
        return
    if after is None or after[0] is not None:
        yield Stretch(order, after, valued=True)
        after = None
    if not all_valued:
        yield Stretch(order, after, valued=False)
