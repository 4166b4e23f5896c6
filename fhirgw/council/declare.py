"""The grammar in which a made-up system of record declares its tables: text to Tables, no more.

    = table: kind [each FACT] [where FACT[=VALUE | !=VALUE]]
    column | fact | form | meaning

A table has a row for every record of its kind; with `each`, a row for every item of that record's collection FACT (of
a dict, for every key and value: facts `0` and `1`); with `where`, only those whose FACT is present, or is (not) VALUE.
The first column is the key. A fact is a path of attributes, dict keys and positions with dots between; `^` before it
reads from the record and not from the item; `.` is the item itself; `#` is the row's running number. A form says how
the fact is written:

    text integer decimal date moment time times flag   plain values
    code:LIST codes:LIST                                one code, or several
    key:KIND                                            the number of a record of that kind, as this system writes it
    parent:KIND                                         the same, in a child table: its rows belong to that row
    serial                                              a running number
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name, the fact it holds, the form it is written in, what it means."""

    name: str
    fact: str
    form: str
    meaning: str

    @property
    def style(self) -> str:
        """The form without its argument: 'code' of 'code:gender'."""
        return self.form.partition(":")[0]

    @property
    def about(self) -> str:
        """The form's argument: 'gender' of 'code:gender'; empty if it takes none."""
        return self.form.partition(":")[2]


@dataclass(frozen=True, slots=True)
class Table:
    """One table: which records it is made of, and its columns; the first is the key."""

    name: str
    kind: str
    each: str
    where: str
    columns: tuple[Column, ...]

    @property
    def key(self) -> Column:
        """The column that names a row."""
        return self.columns[0]

    @property
    def parent(self) -> Column | None:
        """Of a child table, the column that holds its parent's key."""
        return next((column for column in self.columns if column.style == "parent"), None)

    @property
    def references(self) -> tuple[Column, ...]:
        """The columns that hold another row's key."""
        return tuple(c for c in self.columns if c.style == "parent" or (c.style == "key" and c is not self.key))


def read(text: str) -> tuple[Table, ...]:
    """The tables that a layout's text declares, in its order."""
    blocks = (block.strip().splitlines() for block in text.split("\n= ")[1:])
    return tuple(_table(head, tuple(_column(line) for line in lines)) for head, *lines in blocks)


def _table(head: str, columns: tuple[Column, ...]) -> Table:
    name, _, source = head.partition(":")
    kind, *clauses = source.split()
    given = dict(zip(clauses[::2], clauses[1::2], strict=True))
    return Table(name, kind, given.pop("each", ""), given.pop("where", ""), columns)


def _column(line: str) -> Column:
    name, fact, form, meaning = (cell.strip() for cell in line.split("|"))
    return Column(name, fact, form, meaning)
