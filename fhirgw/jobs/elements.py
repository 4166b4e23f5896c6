"""How much of each resource an export has: `_elements`, of all types or of one (`Patient.birthDate`); in what order.

https://hl7.org/fhir/uv/bulkdata/export.html#query-parameters. What is mandatory is always there, and what has been left
out is told by a tag. With `organizeOutputBy` each Patient's resources are one block, which a header begins.
"""

from __future__ import annotations

from functools import cache

from fhirgw.fhir.canonical import encode
from fhirgw.fhir.shorten import Shape
from fhirgw.store.export import PARTED, Selection


def shape_of(asked: Selection, kind: str) -> Shape:
    """What of each resource of a type; a type for which nothing is named is whole."""
    named = [each.rpartition(".") for each in asked.elements]
    return Shape(elements=tuple(element for of, _, element in named if of in ("", kind)))


def header(patient: str) -> bytes:
    """The line that begins the block of a Patient."""
    reference = {"name": "header", "valueReference": {"reference": f"Patient/{patient}"}}
    return encode({"resourceType": "Parameters", "parameter": [reference]}) + b"\n"


class Lines:
    """What PostgreSQL copies for an export, as it is to be in its file; chunks may end anywhere.

    `plain`: each line goes out as it comes.
    """

    def __init__(self, asked: Selection, kind: str) -> None:
        self._asked, self._kind = asked, kind
        self._begun, self._patient = b"", b""
        self._shape = cache(lambda kind: shape_of(asked, kind))
        self.plain = not asked.organized and self._shape(kind).whole

    def of(self, data: bytes) -> bytes:
        """The lines that end in a chunk."""
        if self.plain:
            return data
        *lines, self._begun = (self._begun + data).split(b"\n")
        return b"".join(map(self._block if self._asked.organized else self._shaped, lines))

    def _block(self, line: bytes) -> bytes:
        patient, kind, body = line.split(PARTED.encode(), 2)
        before = header(patient.decode()) if patient != self._patient else b""
        self._patient = patient
        return before + self._shaped(body, kind.decode())

    def _shaped(self, body: bytes, kind: str | None = None) -> bytes:
        shape = self._shape(kind or self._kind)
        return (body if shape.whole else shape.of(body.decode()).encode()) + b"\n"
