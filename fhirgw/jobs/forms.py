"""What the files of an export are made of: NDJSON, or the rows of a view as CSV or Parquet.

A form turns resources, a line of JSON each, into the bytes of a file; and reads such a file again without some of
them, for withdrawal. The same lines make the same bytes, however they come in pieces: a part that is done again is the
same file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson

from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.pseudonym import Pseudonymiser
from fhirgw.fhir.view import Row, Several, View
from fhirgw.fhir.views import views
from fhirgw.jobs import csv_rows
from fhirgw.jobs.elements import shape_of
from fhirgw.jobs.files import DATA, PACKED, unpacked
from fhirgw.store.export import Selection

BATCH = 8 << 20
"""Bytes of a file that are looked through at once."""

SUFFIXES = {"ndjson": DATA, "csv": ".csv", "parquet": ".parquet"}

Left = Iterator[tuple[bytes, int]]
"""The bytes of a file, and how many rows or resources are in them."""

Other = Mapping[str, bytes | None]
"""By the key of a resource what to have in its place: a body, or nothing."""


class Form(Protocol):
    """How resources stand in a file."""

    def begin(self) -> bytes:
        """What the file begins with."""

    def add(self, lines: Sequence[bytes]) -> tuple[bytes, int]:
        """More of the file, for more resources, and how many rows were added. Raises FhirError."""

    def end(self) -> bytes:
        """What the file ends with."""

    def fits(self, path: Path) -> bool:
        """Whether a file is of this form: not if it was made of a view as that was before."""

    def holds(self, path: Path, other: Other) -> bool:
        """Whether such a file has any of these resources."""

    def without(self, path: Path, other: Other) -> Left:
        """What such a file holds, with others in the place of these resources. Raises FhirError."""


def suffix(form: str, gzip: bool) -> str:
    """What the name of a file ends in. Parquet is packed within, and is not packed again."""
    return SUFFIXES[form] + (PACKED if gzip and form != "parquet" else "")


def form_of(asked: Selection, kind: str, table: str, pseudonyms: Pseudonymiser | None = None) -> Form:
    """The form of a file of a type, or of a view of it, with pseudonyms if it is to have any."""
    shape = shape_of(asked, kind)
    if not table:
        return Lines(lambda text: shape.of(_changed(text, pseudonyms)) if pseudonyms else shape.of(text))
    made = views()[table]
    if asked.form == "csv":
        return Csv(made, pseudonyms)
    from fhirgw.jobs.parquet_rows import Parquet  # a hundred megabytes of library, for who wants it alone

    return Parquet(made, pseudonyms)


def _changed(text: str, pseudonyms: Pseudonymiser) -> str:
    resource = decode(text)
    pseudonyms.count(resource)
    return encode(pseudonyms.resource(resource)).decode()


def rows_of(view: View, line: bytes, pseudonyms: Pseudonymiser | None = None) -> list[Row]:
    """The rows of a resource. Raises FhirError that names the view and the column, and no value."""
    try:
        resource = decode(line)
        rows = view.rows(pseudonyms.resource(resource) if pseudonyms else resource)
    except Several as error:
        raise FhirError(Issue("not-supported", f"View {view.name}: {error}")) from None
    if pseudonyms and rows:
        pseudonyms.count(resource)
    return rows


class Lines:
    """Resources as NDJSON, each as `shape` makes it."""

    def __init__(self, shape: Callable[[str], str]) -> None:
        self._shape = shape

    def begin(self) -> bytes:
        return b""

    def add(self, lines: Sequence[bytes]) -> tuple[bytes, int]:
        return b"".join(self._shape(line.decode()).encode() + b"\n" for line in lines), len(lines)

    def end(self) -> bytes:
        return b""

    def fits(self, path: Path) -> bool:
        return True

    def holds(self, path: Path, other: Other) -> bool:
        with unpacked(path) as lines:
            return any(_id(line) in other for line in lines)

    def without(self, path: Path, other: Other) -> Left:
        with unpacked(path) as lines:
            while batch := lines.readlines(BATCH):
                yield from (self._left(line, other) for line in batch)

    def _left(self, line: bytes, other: Other) -> tuple[bytes, int]:
        id = _id(line)
        if id not in other:
            return line, 1
        body = other[id]
        return self.add([body]) if body is not None else (b"", 0)


def _id(line: bytes) -> str:
    return str(orjson.loads(line)["id"])


class Csv:
    """The rows of a view as CSV, below a line with the names of its columns."""

    def __init__(self, view: View, pseudonyms: Pseudonymiser | None = None) -> None:
        self._view, self._pseudonyms = view, pseudonyms

    def begin(self) -> bytes:
        return csv_rows.written([[each.name for each in self._view.columns]])

    def add(self, lines: Sequence[bytes]) -> tuple[bytes, int]:
        rows = [row for line in lines for row in rows_of(self._view, line, self._pseudonyms)]
        return csv_rows.written(rows), len(rows)

    def end(self) -> bytes:
        return b""

    def fits(self, path: Path) -> bool:
        with unpacked(path) as lines:
            return next(lines, b"") == self.begin()

    def holds(self, path: Path, other: Other) -> bool:
        with unpacked(path) as lines:
            return any(csv_rows.key(record) in other for record in csv_rows.records(lines))

    def without(self, path: Path, other: Other) -> Left:
        """Rows of one resource stand together: what is in their place comes where the first of them was."""
        done: Any = None
        with unpacked(path) as lines:
            records = csv_rows.records(lines)
            yield next(records, b""), 0
            for record in records:
                key = csv_rows.key(record)
                if key not in other:
                    yield record, 1
                elif key != done and (body := other[key]) is not None:
                    yield self.add([body])
                done = key
