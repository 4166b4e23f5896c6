"""A layout: how one system of record keeps the council, as tables of text and as the PostgreSQL that makes them.

Pure text: writing to a database or to files is done under `fhirgw.systems`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fhirgw.council.convention import Convention
from fhirgw.council.council import Council
from fhirgw.council.declare import Column, Table
from fhirgw.council.render import Text, rows


@dataclass(frozen=True, slots=True)
class TableRows:
    """One table filled: its name, column names and PostgreSQL types, and its rows, to be read once."""

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]
    rows: Iterator[tuple[Text, ...]]


@dataclass(frozen=True, slots=True)
class Layout:
    """A system of record's tables and conventions; its name is its PostgreSQL schema."""

    name: str
    declared: tuple[Table, ...]
    convention: Convention

    def tables(self, council: Council) -> Iterator[TableRows]:
        """The council in this layout, table by table; a table comes after those it refers to."""
        for table in self.declared:
            names = tuple(column.name for column in table.columns)
            types = tuple(self.convention.type_of(column.style) for column in table.columns)
            yield TableRows(table.name, names, types, rows(council, table, table.columns, self.convention))

    def ddl(self) -> list[str]:
        """Statements that make the schema and its tables, with their primary keys: to be run before loading."""
        return [f"CREATE SCHEMA {_quoted(self.name)}", *map(self._create, self.declared)]

    def constraints(self) -> list[str]:
        """Statements that index child tables by parent and tie references down: quicker run after loading."""
        owners = {table.key.about: table for table in self.declared if table.key.style == "key" and not table.where}
        statements = [self._index(table, table.parent) for table in self.declared if table.parent]
        for table in self.declared:
            ties = [(column, owners[column.about]) for column in table.references if column.about in owners]
            statements.extend(self._tie(table, column, owner) for column, owner in ties)
        return statements

    def _create(self, table: Table) -> str:
        columns = [f"{_quoted(column.name)} {self.convention.type_of(column.style)}" for column in table.columns]
        return f"CREATE TABLE {self._named(table)} ({', '.join(columns)}, PRIMARY KEY ({_quoted(table.key.name)}))"

    def _index(self, table: Table, parent: Column) -> str:
        return f"CREATE INDEX ON {self._named(table)} ({_quoted(parent.name)})"

    def _tie(self, table: Table, column: Column, owner: Table) -> str:
        here, there = _quoted(column.name), _quoted(owner.key.name)
        return f"ALTER TABLE {self._named(table)} ADD FOREIGN KEY ({here}) REFERENCES {self._named(owner)} ({there})"

    def _named(self, table: Table) -> str:
        return f"{_quoted(self.name)}.{_quoted(table.name)}"


def _quoted(name: str) -> str:
    """A PostgreSQL identifier as it is written, upper case and all; the names are ours and hold no quotes."""
    return f'"{name}"'
