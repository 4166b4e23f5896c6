"""A spreadsheet of visits, saved as CSV by whatever saves them in the United Kingdom, as rows of JSON.

What spreadsheets do is taken as it comes: UTF-8 with or without its mark, UTF-16 or Windows-1252; commas, semicolons
or tabs; columns in any order, some of them of no interest. What would have to be guessed is refused, and said so that
whoever keeps the spreadsheet can mend it. Rows are numbered as the spreadsheet shows them: the header is row 1.

Long, because each of those habits is a few lines, and they are told apart by one another.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.mapping.refusal import Refusal
from fhirgw.visits.cell import CELLS, moment_of
from fhirgw.visits.field import identifier
from fhirgw.visits.layout import Layout, Row, Source, sources, split
from fhirgw.visits.moment import by_the_clock, instant, later
from fhirgw.visits.reading import Fault, Refused

DELIMITERS = ",;\t|"
HEADER_WITHIN = 10
"""Rows that are looked through for a header that does not come first."""
MERGED = (
    "The names of the columns are merged or stand in two rows: unmerge them, so that one row, the first, has a name for"
    " each column, and save as CSV again"
)

UNENDED = "a cell begins with a quotation mark and does not end with one: the file was cut off, save it as CSV again"
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""How the files of spreadsheet programs begin, that are not CSV."""
WORKBOOK = "The file is a workbook and no CSV: open it, and save the sheet with the visits as CSV UTF-8"
OVERNIGHT = timedelta(hours=16)
"""The longest visit whose end is taken to be the next day's: what is longer is a slip of the pen."""
NEAR = timedelta(hours=6)
"""How far from what it is near a time may be, to be taken to be of the day before or the next."""
TOTALS = ("total", "totals", "grandtotal", "subtotal", "sum")


class Sheet(NamedTuple):
    """The rows of a file, each with its number: JSON as fhirgw.visits.reading reads it, or why there is none.

    `file`: the file's own reference, if its layout has one. `columns`: by a field's path, what its columns are called.
    """

    rows: list[tuple[int, Row | Refused]]
    file: str | None
    columns: Mapping[str, tuple[str, ...]]

    def called(self, refused: Refused) -> Refused:
        """A refusal in the spreadsheet's own words."""
        return refused._replace(faults=tuple(self._called(each) for each in refused.faults))

    def _called(self, fault: Fault) -> Fault:
        path = fault.column
        while path and path not in self.columns:
            path = path.rpartition(".")[0]
        named = self.columns.get(path)
        if named and path == fault.column and fault.reason == "required":
            named = named[-1:]  # of a date and a time, which would be told by its date's own column
        return fault._replace(column=", ".join(named)) if named else fault


def read(body: bytes, layout: Layout) -> Sheet:
    """The file. Raises FhirError for what is wrong with all of it: its encoding, its header, its file reference."""
    text = _text(body)
    records, first = _opened(text, layout)
    header = [_plain(each) for each in records[first]]
    _check_header(header, layout)
    places = {name: at for at, name in enumerate(header) if name}
    used = {column: places[_plain(column)] for column in layout.columns if _plain(column) in places}
    rows: list[tuple[int, Row | Refused]] = []
    files: set[str] = set()
    for number, cells in enumerate(records[first + 1 :], first + 2):
        if not any(cell.strip() for cell in cells):
            continue
        lacking = len(header) - len(cells)
        if lacking < 0 or (lacking and number == len(records) and not text.endswith(("\n", "\r"))):
            rows.append((number, Refused(None, (_uneven(lacking < 0),))))
            continue
        cells += [""] * lacking  # Excel leaves out what is blank at the end of a row, sixteen rows at a time
        found = {column: cell for column, at in used.items() if (cell := cells[at].strip())}
        files.add(found.get(layout.file or "", ""))
        rows.append((number, _total(found, layout) or _row(found, layout)))
    if layout.file and (len(files) > 1 or "" in files):
        raise _refusal(f"The column {layout.file} names the file: it has one value, the same in each row")
    return Sheet(rows, files.pop() if layout.file and files else None, sources(layout))


def _text(body: bytes) -> str:
    """The file as text. Windows-1252 is what is left where UTF-8 does not fit: it is what Excel saves as CSV."""
    if body.startswith(WORKBOOKS):
        raise _refusal(WORKBOOK)
    encodings = ("utf-16",) if body[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            text = body.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" in text:
            break
        return text
    raise _refusal("The file is not text, or is damaged: save the spreadsheet as CSV UTF-8 again")


def _opened(text: str, layout: Layout) -> tuple[list[list[str]], int]:
    """The records of the file, split by what splits its header best, and which of them the header is."""
    wanted = {_plain(each) for each in layout.columns}
    top = text.split("\n", HEADER_WITHIN)[:HEADER_WITHIN]
    delimiter = max(
        DELIMITERS,
        key=lambda by: max((len(wanted & set(map(_plain, each.split(by)))), each.count(by)) for each in top),
    )
    records: list[list[str]] = []
    try:
        records.extend(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:
        raise _refusal(f"Row {len(records) + 1}: {UNENDED}") from None
    if not records:
        raise _refusal("The file is empty: its first row has the names of the columns")
    return records, _header(records, layout)


def _check_header(header: Sequence[str], layout: Layout) -> None:
    """Raises FhirError(structure) for a row that is no header of this layout."""
    missing = [each for each in layout.needed if _plain(each) not in header]
    if missing:
        blanks = sum(not each for each in header)
        if blanks * 2 >= len(header):
            raise _refusal(MERGED)
        told = f"The first row lacks: {', '.join(missing)}. "
        if "" in header[: max((at for at, name in enumerate(header) if name), default=0)]:
            raise _refusal(told + MERGED)
        raise _refusal(f"{told}It is read as {layout.title}: if it is another, name its layout")
    twice = [each for each in layout.columns if header.count(_plain(each)) > 1]
    if twice:
        raise _refusal(f"Two columns are called {', '.join(twice)}: give each a name of its own")


def _header(records: Sequence[Sequence[str]], layout: Layout) -> int:
    """Which row has the names of the columns: a title or merged headings may stand above. Else the first."""
    needed = {_plain(each) for each in layout.needed}
    top = enumerate(records[:HEADER_WITHIN])
    return next((at for at, cells in top if needed <= {_plain(each) for each in cells}), 0)


def _total(cells: Mapping[str, str], layout: Layout) -> Refused | None:
    """A line of totals, that says so and lacks what every visit has."""
    column = next((name for name, cell in cells.items() if _plain(cell) in TOTALS), None)
    if column is None or all(each in cells for each in layout.needed):
        return None
    told = "this is a line of totals, and no visit"
    return Refused(None, (Fault(column, "structure", told, "Nothing is lost by it: leave it out of the next file"),))


def _row(cells: Mapping[str, str], layout: Layout) -> Row | Refused:
    """A row as JSON. Cells that are blank say nothing."""
    faults: list[Fault] = []
    found: dict[str, Any] = {}
    for path, source in layout.fields.items():
        try:
            value = _value(cells, source, layout, found)
        except Refusal as refusal:
            column = ", ".join(_wrong(source, refusal.reason))
            faults.append(Fault(column, refusal.reason, refusal.rule, refusal.remedy))
            continue
        if value is not None:
            found[path] = value
    if faults:
        return Refused(_own_id(found.get("visit")), tuple(dict.fromkeys(faults)))
    return _nested(found, {path for path, source in layout.fields.items() if source.value is not None})


def _wrong(source: Source, reason: str) -> tuple[str, ...]:
    """The columns to be mended: a date that is wrong is so for each time beside it, and is told once."""
    if source.date and source.time and reason in ("date", "time", "required"):
        return (source.time,) if reason == "time" else (source.date,)
    return source.columns


def _own_id(visit: Any) -> str | None:
    """What the visit is called, if that is an id: anything else may be somebody's name."""
    try:
        return identifier(visit)
    except Refusal:
        return None


def _value(cells: Mapping[str, str], source: Source, layout: Layout, found: Mapping[str, Any]) -> Any:
    if source.value is not None:
        return source.value
    if source.column:
        cell = cells.get(source.column)
        if cell is None:
            return None
        if source.codes is not None:
            return _coded(cell, source.codes)
        return (
            moment_of(cell, None, layout.dates, layout.short_years)
            if source.kind == "moment"
            else CELLS[source.kind](cell)
        )
    if source.minutes:
        return _after(cells.get(source.minutes), found.get(source.after or ""))
    return _timed(cells, source, layout, found)


def _timed(cells: Mapping[str, str], source: Source, layout: Layout, found: Mapping[str, Any]) -> str | None:
    """A date and a time of day; which day it is about midnight is told by what it is near, or comes after."""
    date, time = cells.get(source.date or ""), cells.get(source.time or "")
    if time is None:
        return None
    if date is None:
        raise Refusal("required", "there is a time and no date", "Fill in the date")
    near, start = found.get(source.near or ""), found.get(source.after or "")
    if start and layout.fields[source.after or ""].date == source.date:
        date = start[:10]  # which may not be the row's: see _nearest
    made = moment_of(date, time, layout.dates, layout.short_years)
    if near:
        return _nearest(made, near)
    if not start or instant(made) >= instant(start):
        return made
    following = later(made)
    if by_the_clock(instant(start), instant(following)) > OVERNIGHT:
        told = "it ends before it starts, and as the next day's it would take longer than 16 hours"
        raise Refusal("order", told, "Correct the times")
    return following


def _nearest(made: str, near: str) -> str:
    """The same time of day, of the day before or the next if that is about when it should be: 00:02 of 23:50."""
    off = by_the_clock(instant(near), instant(made))
    return next((later(made, days=days) for days in (1, -1) if abs(off + timedelta(days=days)) <= NEAR), made)


def _after(minutes: str | None, start: str | None) -> str | None:
    """So many minutes after a start, as they pass: clocks that change do not lengthen a visit."""
    if minutes is None or start is None:
        return None
    return later(start, minutes=CELLS["integer"](minutes))


def _coded(cell: str, codes: Mapping[str, str | bool]) -> str | bool:
    known = {_plain(each): word for each, word in codes.items()}
    if _plain(cell) not in known:
        told = f"the layout knows these words: {', '.join(codes)}"
        raise Refusal("code", told, "Use one of them, or have yours added to the layout")
    return known[_plain(cell)]


def _nested(found: Mapping[str, Any], constants: set[str]) -> Row:
    """`planned.start` in its part, `carers[1].start` in its place; constants alone say nothing."""
    row: Row = {}
    said = {split(path)[:2] for path in found if path not in constants}
    for path, value in found.items():
        part, at, name = split(path)
        if (part, at) not in said and path in constants and name is not None:
            continue
        if name is None:
            row[part] = value
        elif at is None:
            row.setdefault(part, {})[name] = value
        else:
            row.setdefault(part, {}).setdefault(at, {})[name] = value
    lists = {split(path)[0] for path in found if split(path)[1] is not None}
    return {part: [value[at] for at in sorted(value)] if part in lists else value for part, value in row.items()}


def _plain(name: str) -> str:
    """A name as people mean it: `Visit  Date ` is `visit date`, and `VisitDate`."""
    return "".join(each for each in name.casefold() if each.isalnum())


def _uneven(more: bool) -> Fault:
    if more:
        told = "the row has more cells than there are columns"
        return Fault("", "structure", told, "Put quotation marks round text with a comma in it, or save as CSV again")
    return Fault("", "structure", "the row has fewer cells than there are columns", "Save the spreadsheet as CSV again")


def _refusal(diagnostics: str) -> FhirError:
    return FhirError(Issue("structure", diagnostics))
