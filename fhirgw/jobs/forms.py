"""What the files of an export are made of: NDJSON, by type or in blocks, or the rows of a view as CSV or Parquet.

A form turns what PostgreSQL copies, a line each, into the bytes of a file; and reads such a file again without some of
the resources, for withdrawal. The same lines make the same bytes, however they come in pieces: a part that is done
again is the same file.

Long, because what is alike in three forms and what is not is seen side by side; Parquet's library wants a module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import orjson

from fhirgw.fhir import csv_rows
from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.pseudonym import Pseudonymiser
from fhirgw.fhir.shorten import WHOLE_SHAPE, Shape
from fhirgw.fhir.view import Row, Several, View
from fhirgw.fhir.views import views
from fhirgw.jobs.elements import shape_of
from fhirgw.jobs.files import DATA, PACKED, unpacked
from fhirgw.store.copied import PARTED
from fhirgw.store.export import Selection

BATCH = 8 << 20
"""Bytes of a file that are looked through at once."""

SUFFIXES = {"ndjson": DATA, "csv": ".csv", "parquet": ".parquet"}

Left = Iterator[tuple[bytes, int]]
"""The bytes of a file, and how many rows or resources are in them."""

Other = Mapping[str, bytes | None]
"""By reference, `Patient/p1` (with its pseudonym, if it has one), what to have in a resource's place: a body, or
nothing.
"""

HEADER = "Parameters"
"""What begins the block of a Patient: it stays while something of the block does."""


class Form(Protocol):
    """How resources stand in a file; `plain`: their lines as they come, and nothing else."""

    @property
    def plain(self) -> bool: ...

    def begin(self) -> bytes:
        """What the file begins with."""

    def add(self, lines: Sequence[bytes]) -> tuple[bytes, int]:
        """More of the file, for more lines of a COPY, and how many rows were added. Raises FhirError."""

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
    if asked.organized:
        return Blocks(cache(lambda kind: shape_of(asked, kind)))
    if not table:
        return Lines(shape_of(asked, kind), pseudonyms)
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
    """Resources as NDJSON, each in a shape."""

    def __init__(self, shape: Shape = WHOLE_SHAPE, pseudonyms: Pseudonymiser | None = None) -> None:
        self._shape, self._pseudonyms = shape, pseudonyms
        self.plain = shape.whole and pseudonyms is None

    def begin(self) -> bytes:
        return b""

    def add(self, lines: Sequence[bytes]) -> tuple[bytes, int]:
        return b"".join(self._made(line) + b"\n" for line in lines), len(lines)

    def end(self) -> bytes:
        return b""

    def fits(self, path: Path) -> bool:
        return True

    def holds(self, path: Path, other: Other) -> bool:
        return _holds(path, other)

    def without(self, path: Path, other: Other) -> Left:
        with unpacked(path) as lines:
            while batch := lines.readlines(BATCH):
                yield from (self._left(line, other) for line in batch)

    def _made(self, line: bytes) -> bytes:
        text = line.decode()
        return self._shape.of(_changed(text, self._pseudonyms) if self._pseudonyms else text).encode()

    def _left(self, line: bytes, other: Other) -> tuple[bytes, int]:
        reference = _reference(orjson.loads(line))
        if reference not in other:
            return line, 1
        body = other[reference]
        return self.add([body]) if body is not None else (b"", 0)


class Blocks:
    """Resources as NDJSON in blocks, a Patient's each, which a header begins; `shape` says what of each type.

    https://hl7.org/fhir/uv/bulkdata/export.html#query-parameters (organizeOutputBy). A line of the COPY begins with the
    ids of the Patient and the type, parted by PARTED. Headers are counted as resources, which they are.
    """

    plain = False

    def __init__(self, shape: Callable[[str], Shape]) -> None:
        self._shape, self._patient = shape, b""

    def begin(self) -> bytes:
        return b""

    def add(self, lines: Sequence[bytes]) -> tuple[bytes, int]:
        made = b"".join(map(self._made, lines))
        return made, made.count(b"\n")

    def end(self) -> bytes:
        return b""

    def fits(self, path: Path) -> bool:
        return True

    def holds(self, path: Path, other: Other) -> bool:
        return _holds(path, other)

    def without(self, path: Path, other: Other) -> Left:
        header = b""
        with unpacked(path) as lines:
            for line in lines:
                resource = orjson.loads(line)
                if resource["resourceType"] == HEADER:
                    header = line
                elif (left := self._left(line, resource, other)) is not None:
                    yield header + left, 2 if header else 1
                    header = b""

    def _made(self, line: bytes) -> bytes:
        patient, kind, body = line.split(PARTED.encode(), 2)
        header = _header(patient.decode()) if patient != self._patient else b""
        self._patient = patient
        return header + self._shaped(kind.decode(), body)

    def _shaped(self, kind: str, body: bytes) -> bytes:
        shape = self._shape(kind)
        return (body if shape.whole else shape.of(body.decode()).encode()) + b"\n"

    def _left(self, line: bytes, resource: Resource, other: Other) -> bytes | None:
        reference = _reference(resource)
        if reference not in other:
            return line
        body = other[reference]
        return self._shaped(resource["resourceType"], body) if body is not None else None


def _header(patient: str) -> bytes:
    reference = {"name": "header", "valueReference": {"reference": f"Patient/{patient}"}}
    return encode({"resourceType": HEADER, "parameter": [reference]}) + b"\n"


def _holds(path: Path, other: Other) -> bool:
    with unpacked(path) as lines:
        return any(_reference(orjson.loads(line)) in other for line in lines)


def _reference(resource: Resource) -> str:
    """`Patient/p1`; of a header, which has no id, nothing that is anybody's."""
    return f"{resource['resourceType']}/{resource.get('id', '')}"


class Csv:
    """The rows of a view as CSV, below a line with the names of its columns."""

    plain = False

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
            return any(self._reference(record) in other for record in csv_rows.records(lines))

    def without(self, path: Path, other: Other) -> Left:
        """Rows of one resource stand together: what is in their place comes where the first of them was."""
        done: Any = None
        with unpacked(path) as lines:
            records = csv_rows.records(lines)
            yield next(records, b""), 0
            for record in records:
                reference = self._reference(record)
                if reference not in other:
                    yield record, 1
                elif reference != done and (body := other[reference]) is not None:
                    yield self.add([body])
                done = reference

    def _reference(self, record: bytes) -> str:
        return f"{self._view.resource}/{csv_rows.key(record)}"
