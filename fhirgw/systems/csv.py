"""A folder of CSV extracts, one file per table, read as a stream.

Each file is scanned before its first row is given, so that what can be known about the whole file (it is
there, it decodes, no quote is left open, it was not cut off) is known before anything is done with its rows.
"""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Self

from fhirgw.systems.scan import AGAIN, opened, scan
from fhirgw.systems.system import Child, ExtractError, Row, arranged, blanked, nearest

DELIMITERS = ",;\t|"
LONGEST_CELL = 4 << 20
"""Characters. An assessment's narrative may be long; a quote that never closes must not eat the memory."""
UTF_8 = ("utf-8", "utf8", "utf_8")

Family = tuple[Child, Sequence[str], dict[str | None, list[tuple[str | None, ...]]]]
"""A child table, its columns, and its cells by parent."""


class CsvSystem:
    """The extracts in `folder`: `<table>.csv` each, split by `delimiter`, in `encoding`, with a header."""

    def __init__(self, name: str, folder: Path, delimiter: str = ",", encoding: str = "utf-8") -> None:
        self.name, self.folder, self.delimiter = name, folder, delimiter
        # Excel puts a byte order mark before UTF-8; it is no part of the first column's name.
        self.encoding = "utf-8-sig" if encoding.lower() in UTF_8 else encoding
        self.orphans: dict[str, int] = {}
        self._counts: dict[str, int] = {}
        csv.field_size_limit(LONGEST_CELL)

    async def __aenter__(self) -> Self:
        if not self.folder.is_dir():
            remedy = f"Name the folder that holds the CSV files of {self.name}"
            raise ExtractError(str(self.folder), "there is no such folder", remedy, "not-found")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def tables(self) -> dict[str, tuple[str, ...]]:
        """The header of every file in the folder."""
        return {path.stem: self._header(path.stem) for path in sorted(self.folder.glob("*.csv"))}

    async def count(self, table: str) -> int:
        """The file's records but the header (a blank line counts as one); scans the whole file, once."""
        if table not in self._counts:
            self._counts[table] = await asyncio.to_thread(scan, self._path(table), self.encoding)
            self._header(table)
        return self._counts[table]

    async def extract(
        self, table: str, key: str, columns: Sequence[str], children: Sequence[Child] = (), batch: int = 2000
    ) -> AsyncIterator[list[Row]]:
        """See System.extract. Children are held in memory by parent: files come in no promised order."""
        await self.count(table)
        families = [await self._family(child) for child in children]
        names = tuple(dict.fromkeys((*columns, key))) if columns else self._header(table)
        cells = self._cells(table, names)
        while rows := [Row(zip(names, blanked(each), strict=False)) for each in islice(cells, batch)]:
            for child, fields, members in families:
                for row in rows:
                    siblings = [dict(zip(fields, each, strict=False)) for each in members.pop(row[key], ())]
                    row[child.table] = arranged(siblings, child.order)
            yield rows
        self.orphans |= {child.table: sum(map(len, members.values())) for child, _, members in families}

    async def fetch(
        self, table: str, key: str, value: str, columns: Sequence[str] = (), children: Sequence[Child] = ()
    ) -> Row | None:
        """The row, found by reading the file: an extract has no index."""
        async for rows in self.extract(table, key, columns, children):
            for row in rows:
                if row[key] == value:
                    return row
        return None

    async def apply(
        self,
        table: str,
        key: str,
        value: str,
        before: Row | None,
        after: Row | None,
        children: Sequence[Child] = (),
    ) -> bool:
        """Refused: an extract is a copy, and writing to it would tell nobody."""
        remedy = f"Connect {self.name} as a database to write back to it"
        raise ExtractError(str(self._path(table)), "a CSV extract cannot be written back to", remedy, "not-supported")

    async def _family(self, child: Child) -> Family:
        await self.count(child.table)
        fields = child.read or self._header(child.table)
        share = dict[str | None, str | None]().setdefault
        members: dict[str | None, list[tuple[str | None, ...]]] = {}
        for cells in self._cells(child.table, (*fields, child.parent)):
            # Answers repeat a few codes and dates a million times over; held once, they take little memory.
            kept = tuple(share(cell, cell) if not cell or len(cell) < 12 else cell for cell in blanked(cells[:-1]))
            members.setdefault(cells[-1], []).append(kept)
        return child, fields, members

    def _path(self, table: str) -> Path:
        return self.folder / f"{table}.csv"

    def _records(self, table: str) -> Iterator[tuple[int, list[str]]]:
        """(line where it ends, cells) of every record, the header first; blank lines are left out."""
        path, line = self._path(table), 0
        opened(path).close()
        with path.open(encoding=self.encoding, newline="") as file:
            reader = csv.reader(file, delimiter=self.delimiter, strict=True)
            try:
                for cells in reader:
                    if cells:
                        line = reader.line_num
                        yield line, cells
            except csv.Error as error:
                raise ExtractError(f"{path}:{line + 1}", f"this is not CSV: {error}", AGAIN) from None
            except UnicodeDecodeError:
                scan(path, self.encoding)  # says where
                raise

    def _header(self, table: str) -> tuple[str, ...]:
        path = self._path(table)
        _, names = next(self._records(table), (0, []))
        if not names:
            raise ExtractError(str(path), "the file is empty: it has not even a header", AGAIN)
        others = [each for each in DELIMITERS if each != self.delimiter and each in names[0]]
        if len(names) == 1 and others:
            rule = f"the header is separated by {others[0]!r}, not by {self.delimiter!r}"
            raise ExtractError(f"{path}:1", rule, f"{AGAIN}, or name its delimiter in system.yaml")
        for at, name in enumerate(names):
            if not name.strip():
                raise ExtractError(f"{path}:1", f"column {at + 1} has no name", "Name every column in the header")
            if name in names[:at]:
                raise ExtractError(f"{path}:1", f"column {name!r} is there twice", "Give each column its own name")
        return tuple(names)

    def _cells(self, table: str, columns: Sequence[str]) -> Iterator[Sequence[str]]:
        """The cells of `columns` of each row; a row with more or fewer cells than the header is an error."""
        path, header, records = self._path(table), self._header(table), self._records(table)
        for name in columns:
            if name not in header:
                remedy = f"Add it to the extract, or take it out of the mapping; {nearest(name, header)}"
                raise ExtractError(f"{path}:1", f"there is no column {name!r}", remedy)
        pick, width = itemgetter(*map(header.index, columns)), len(header)
        next(records)
        for line, cells in records:
            if len(cells) != width:
                rule = f"the row has {len(cells)} cells where the header has {width}"
                remedy = f"{AGAIN}; cells that hold the delimiter or a line end need quotes"
                raise ExtractError(f"{path}:{line}", rule, remedy)
            yield pick(cells) if len(columns) > 1 else (pick(cells),)
