"""The one seam to a system of record: what the gateway asks of it, whatever it is kept in.

A row is text as the extract writes it; a blank cell is None. Rows of a one-to-many table hang under that
table's name as a list of rows. Every implementation is an async context manager: inside it, all tables are of
one moment where the system of record can give that (a database can; files are as consistent as their writer).
"""

from __future__ import annotations

import difflib
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from fhirgw.fhir.issue import FhirError, Issue

Row = dict[str, Any]
"""Column -> text or None; name of a child table -> list of rows."""


@dataclass(frozen=True, slots=True)
class Child:
    """A one-to-many table: `parent` is the column with the parent's key, `order` the one that sorts siblings.

    No `columns` means all of them. `key` tells siblings apart; only writing back needs it.
    """

    table: str
    parent: str
    order: str | None = None
    columns: tuple[str, ...] = ()
    key: str | None = None

    @property
    def read(self) -> tuple[str, ...]:
        """The columns to read: those asked for and the one that sorts, or none for all."""
        return tuple(dict.fromkeys((*self.columns, *([self.order] if self.order else ())))) if self.columns else ()


class ExtractError(FhirError):
    """The extract cannot be used: where (`place`), what is wrong (`rule`), what to do (`remedy`).

    No cell is quoted: it may be about a person.

    `code` is FHIR's issue type: `structure` for an unusable extract, `not-found` for a missing one,
    `transient` where the system of record went away, `not-supported` for what it cannot do.
    """

    def __init__(self, place: str, rule: str, remedy: str, code: str = "structure") -> None:
        super().__init__(Issue(code, f"{place}: {rule}. {remedy}."))
        self.place, self.rule, self.remedy, self.code = place, rule, remedy, code


class System(Protocol):
    """A system of record. `orphans`: by child table, how many rows the extract found without a parent."""

    name: str
    orphans: dict[str, int]

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def tables(self) -> dict[str, tuple[str, ...]]:
        """The columns of every table, in their order."""

    async def count(self, table: str) -> int | None:
        """How many rows the table has, to tell progress or a shrunken extract; None if only reading tells."""

    def extract(
        self, table: str, key: str, columns: Sequence[str], children: Sequence[Child] = (), batch: int = 2000
    ) -> AsyncIterator[list[Row]]:
        """Batches of rows holding `columns` (all of them when empty) and the child rows.

        Raises ExtractError, perhaps after giving batches: keep nothing of a table that did not end.
        """

    async def fetch(
        self, table: str, key: str, value: str, columns: Sequence[str] = (), children: Sequence[Child] = ()
    ) -> Row | None:
        """The row whose `key` column holds `value`, as it is now."""

    async def apply(
        self,
        table: str,
        key: str,
        value: str,
        before: Row | None,
        after: Row | None,
        children: Sequence[Child] = (),
    ) -> bool:
        """Turn `before` into `after` (None: no row); False if it had moved on: then nothing was written."""


def blanked(cells: Iterable[str | None]) -> list[str | None]:
    """The cells with those that say nothing (empty, or spaces alone) as None."""
    return [cell if cell and not cell.isspace() else None for cell in cells]


def arranged(rows: list[Row], order: str | None) -> list[Row]:
    """Siblings by their order column, then by all they hold.

    Neither a file nor a table promises an order, and one that changed between two extracts of the same facts
    would look like a change of the facts.
    """
    if len(rows) > 1:
        if not order or len({row[order] for row in rows}) < len(rows):
            rows.sort(key=lambda row: [cell or "" for cell in row.values()])
        if order:
            rows.sort(key=lambda row: _natural(row[order]))
    return rows


def _natural(cell: str | None) -> tuple[int, int, str]:
    """Blanks, then whole numbers by size (2 before 10), then text by code point."""
    if cell is None:
        return (0, 0, "")
    return (1, int(cell), cell) if cell.isdecimal() and len(cell) < 19 else (2, 0, cell)


def nearest(name: str, known: Collection[str]) -> str:
    """What to tell somebody who asked for a name that is not there."""
    close = difflib.get_close_matches(name.lower(), [each.lower() for each in known], 1, 0.75)
    meant = next((each for each in known if close and each.lower() == close[0]), None)
    return f"did you mean {meant!r}" if meant else f"it has {', '.join(sorted(known)) or 'none'}"
