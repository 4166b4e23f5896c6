"""The rows of a body of visits, by how it is sent: JSON, lines of JSON, a FHIR Bundle, a spreadsheet as CSV.

A mark of UTF-8 before JSON, as programs for Windows put it, is taken as none. https://www.rfc-editor.org/rfc/rfc8259#section-8.1
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

from starlette.requests import Request

from fhirgw.api.homecare_asked import parameters
from fhirgw.api.received import NotTaken, size
from fhirgw.fhir import incoming
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.mapping.refusal import Refusal
from fhirgw.visits import bundle, sheet
from fhirgw.visits.field import identifier
from fhirgw.visits.layout import Layout, own
from fhirgw.visits.reading import Fault, Reader, Refused

ROWS = 10_000
"""Of one batch."""
LINE = 64 * 1024
"""Bytes of a line of JSON: a visit has one or two thousand."""
JSON = ("application/json", "text/json")
LINES = ("application/x-ndjson", "application/ndjson")
CSV = ("text/csv",)
BUNDLE = ("application/fhir+json",)
TAKEN = (*JSON, *LINES, *CSV, *BUNDLE)
TOLD = f"Send visits as {JSON[0]}, {LINES[0]}, {CSV[0]} or {BUNDLE[0]} (a Bundle)"
SPREADSHEETS = ("officedocument.spreadsheet", "ms-excel", "opendocument.spreadsheet")
"""What stands in the types of spreadsheets that are not CSV."""
PARAMETERS = ("file", "layout")
BLANKS = re.compile(r"[ \t\r\n]*")
_SCANNER = json.JSONDecoder(parse_int=str, parse_float=str)

NumberedRow = tuple[int, Any]
"""A row's number as its sender counts, and its JSON, or Refused where it has none."""


class Batch(NamedTuple):
    """The rows of a body. `alone`: one visit, in no list. `file`: the file's own reference, which is taken in once.

    `called`: a refusal in the sender's own words.
    """

    rows: Sequence[NumberedRow]
    alone: bool = False
    file: str | None = None
    called: Callable[[Refused], Refused] = lambda refused: refused


@dataclass(frozen=True, slots=True)
class Rows:
    """By the rules and layouts of one gateway: `rows.of(request, body, provider)`."""

    reader: Reader
    layouts: Mapping[str, Layout]

    def of(self, request: Request, body: bytes, provider: str) -> Batch:
        """The batch that a body is. Raises FhirError for a body of which no row can be read, or too many can."""
        given, kind = parameters(request, *PARAMETERS), media(request)
        if kind in CSV:
            read = sheet.read(body, self._layout(given.get("layout"), provider))
            batch = Batch(read.rows, file=read.file, called=read.called)
        elif kind in LINES:
            batch = Batch(list(numbered(each for each in body.split(b"\n") if each.strip())))
        else:
            batch = _parsed(body.removeprefix(BOM_UTF8), provider if kind in BUNDLE else None)
        if len(batch.rows) > ROWS:
            raise FhirError(Issue("too-long", f"A batch has at most {ROWS:,} visits: send it in parts"))
        return batch._replace(file=_reference(given["file"])) if "file" in given else batch

    def _layout(self, name: str | None, provider: str) -> Layout:
        if name is None:
            return own(self.layouts, provider)
        if name not in self.layouts:
            near = get_close_matches(name, self.layouts, 1)
            meant = f"did you mean {near[0]}?" if near else f"these are: {', '.join(self.layouts)}"
            raise FhirError(Issue("invalid", f"There is no such layout: {meant}", "layout"))
        return self.layouts[name]


def _parsed(body: bytes, bundled: str | None) -> Batch:
    """The visits of JSON, or of the Bundle of a care provider. Raises FhirError."""
    try:
        found = incoming.parse(body)
    except FhirError:
        elements = None if bundled else _elements(body)
        if elements is None:
            raise
        return Batch(list(numbered(elements)))
    if bundled is None:
        listed = found if isinstance(found, list) else [found]
        return Batch(list(enumerate(listed, 1)), alone=listed is not found)
    if not isinstance(found, dict):
        raise FhirError(Issue("structure", "Visits in FHIR are sent as a Bundle with entries"))
    return Batch(bundle.rows(found, bundled))


def _elements(body: bytes) -> list[bytes] | None:
    """The text of each element of a list of which one is not as it should be: others are taken. None of no JSON."""
    found: list[bytes] = []
    try:
        text = body.decode()
        at = _past(text, 0)
        while text[at] == ("," if found else "[") and len(found) <= ROWS:
            first = _past(text, at + 1)
            _, at = _SCANNER.raw_decode(text, first)
            found.append(text[first:at].encode())
            at = _past(text, at)
    except (ValueError, IndexError, RecursionError):
        return None
    return found if len(found) > ROWS or text[at:].strip() == "]" else None


def _past(text: str, at: int) -> int:
    """Where the blanks that begin there end."""
    blanks = BLANKS.match(text, at)
    return blanks.end() if blanks else at


def readable(request: Request) -> None:
    """Raises FhirError(415) for a spreadsheet as its program keeps it: whoever sends one is told how to save it."""
    if any(each in media(request) for each in SPREADSHEETS):
        raise NotTaken(f"{sheet.WORKBOOK}, and send that as {CSV[0]}")


def media(request: Request) -> str:
    """The type of the body, without what it says besides."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def numbered(lines: Iterable[bytes], first: int = 1) -> Iterable[NumberedRow]:
    """Lines of JSON, each by itself: one that is none is refused alone."""
    for number, line in enumerate(lines, first):
        try:
            yield number, incoming.parse(line.removeprefix(BOM_UTF8))
        except FhirError as error:
            told = Fault(
                "",
                "structure",
                error.issues[0].diagnostics,
                "A visit is one JSON object: correct this one; others are taken",
            )
            yield number, Refused(None, (told,))


async def lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a body as it arrives, without blank ones. Raises FhirError (413) for one that is no visit: those
    before it have been told by then, in whatever pieces they came.
    """
    left = bytearray()
    async for piece in pieces:
        left += piece
        *whole, rest = left.split(b"\n")
        left = bytearray(rest)
        for each in whole:
            if _short(each).strip():
                yield bytes(each)
        _short(left)
    if left.strip():
        yield bytes(left)


def _short(line: bytearray) -> bytearray:
    if len(line) > LINE:
        raise FhirError(Issue("too-long", f"A line has at most {size(LINE)}: it is one visit"))
    return line


def _reference(value: str) -> str:
    try:
        return str(identifier(value))
    except Refusal as refusal:
        raise FhirError(Issue("invalid", f"file: {refusal.rule}", "file")) from None
