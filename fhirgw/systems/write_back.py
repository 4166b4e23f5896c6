"""The SQL that turns one row of a PostgreSQL schema into another: values go as text, cast to each column's type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fhirgw.systems.system import Child, ExtractError, Row

Kinds = dict[str, dict[str, str]]
"""Table -> column -> PostgreSQL type."""
Statement = tuple[str, list[str | None]]
"""A query and its arguments."""


def quoted(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Writing:
    """Writes to the tables of one schema."""

    schema: str
    kinds: Kinds

    def row(
        self,
        table: str,
        at: dict[str, str | None],
        before: Row | None,
        after: Row | None,
        children: Sequence[Child] = (),
    ) -> list[Statement]:
        """What turns the row `at` a key from `before` into `after`; children go before their parent, come after it.

        Columns that `after` does not name keep what they hold.
        """
        (value,) = at.values()
        families = [
            statement
            for child in children
            for statement in self._family(child, value, _children(before, child), _children(after, child))
        ]
        own = list(self._difference(table, at, _cells(before), _cells(after)))
        return [*families, *own] if after is None else [*own, *families]

    def _family(self, child: Child, parent: str | None, before: list[Row], after: list[Row]) -> Iterator[Statement]:
        if before == after:
            return
        if child.key is None:
            place, rule = f"{self.schema}.{child.table}", "its rows have no key, so which one changed cannot be told"
            raise ExtractError(place, rule, "Name the key of this child table in its mapping", "not-supported")
        olds, news = ({row[child.key]: row for row in rows} for rows in (before, after))
        for key in dict.fromkeys((*olds, *news)):
            at = {child.parent: parent, child.key: key}
            yield from self._difference(child.table, at, olds.get(key), news.get(key))

    def _difference(
        self, table: str, at: dict[str, str | None], before: Row | None, after: Row | None
    ) -> Iterator[Statement]:
        target = f"{quoted(self.schema)}.{quoted(table)}"
        if after is None:
            where = self._equal(table, at, " AND ")
            yield f"DELETE FROM {target} WHERE {where}", list(at.values())
        elif before is None:
            cells = {**after, **at}
            names = ", ".join(map(quoted, cells))
            values = ", ".join(self._value(table, name, place) for place, name in enumerate(cells, 1))
            yield f"INSERT INTO {target} ({names}) VALUES ({values})", list(cells.values())
        elif changed := {name: cell for name, cell in after.items() if before.get(name) != cell}:
            assigned = self._equal(table, changed, ", ")
            where = self._equal(table, at, " AND ", len(changed))
            yield f"UPDATE {target} SET {assigned} WHERE {where}", [*changed.values(), *at.values()]

    def _equal(self, table: str, cells: dict[str, str | None], joiner: str, start: int = 0) -> str:
        return joiner.join(
            f"{quoted(name)} = {self._value(table, name, place)}" for place, name in enumerate(cells, start + 1)
        )

    def _value(self, table: str, column: str, place: int) -> str:
        return f"${place}::text::{self.kinds[table][column]}"


def _cells(row: Row | None) -> Row | None:
    return row and {name: cell for name, cell in row.items() if not isinstance(cell, list)}


def _children(row: Row | None, child: Child) -> list[Row]:
    rows: list[Row] = (row or {}).get(child.table, [])
    return rows
