"""Rows of a view as Parquet: https://parquet.apache.org/docs/file-format/, by pyarrow.

In row groups of a bounded size, each written as soon as it is full: however long a table is, one row group of it is in
memory. Numbers are DECIMAL(38, 9); dates and times are text, as FHIR has them, for they may be a year alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from io import RawIOBase
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.pseudonym import Pseudonymiser
from fhirgw.fhir.view import Column, Row, View
from fhirgw.jobs.forms import Left, Other, rows_of

GROUP_ROWS, GROUP_BYTES = 20_000, 16 << 20
"""A row group is full after so many rows, or rows of so many bytes of resources."""

DECIMAL = pa.decimal128(38, 9)
"""Exact: a number that it cannot hold is refused, and never rounded. Wider ones few programs read."""

TYPES: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "positiveInt": pa.int32(),
    "unsignedInt": pa.int32(),
    "decimal": DECIMAL,
}


class _Written(RawIOBase):
    """What the writer has written and nobody has taken yet."""

    def __init__(self) -> None:
        self._data, self._at = bytearray(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._data += data
        self._at += len(data)
        return len(data)

    def tell(self) -> int:
        return self._at

    def taken(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data


class Parquet:
    """The rows of a view as Parquet."""

    plain = False

    def __init__(self, view: View, pseudonyms: Pseudonymiser | None = None) -> None:
        self._view, self._pseudonyms = view, pseudonyms
        fields = [pa.field(each.name, _type(each)) for each in view.columns]
        self._schema = pa.schema(fields, metadata={"view": view.url})
        self._file = _Written()
        self._writer: Any = None
        self._rows: list[Row] = []
        self._bytes = 0

    def begin(self) -> bytes:
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        return self._file.taken()

    def add(self, lines: Sequence[bytes]) -> tuple[bytes, int]:
        added = 0
        for line in lines:
            made = rows_of(self._view, line, self._pseudonyms)
            added += len(made)
            self._keep(made, len(line))
        return self._file.taken(), added

    def end(self) -> bytes:
        self._flush()
        self._writer.close()
        return self._file.taken()

    def fits(self, path: Path) -> bool:
        return bool(pq.read_schema(path).equals(self._schema))

    def holds(self, path: Path, other: Other) -> bool:
        with pq.ParquetFile(path) as file:
            keys = file.iter_batches(columns=[self._view.columns[0].name])
            return any(self._reference(key) in other for batch in keys for key in batch.column(0).to_pylist())

    def without(self, path: Path, other: Other) -> Left:
        yield self.begin(), 0
        done: Any = None
        for row in _read(path):
            reference = self._reference(row[0])
            if reference not in other:
                self._keep([row], sum(len(str(each)) for each in row))
                yield self._file.taken(), 1
            elif reference != done and (body := other[reference]) is not None:
                yield self.add([body])
            done = reference
        yield self.end(), 0

    def _reference(self, key: Any) -> str:
        return f"{self._view.resource}/{key}"

    def _keep(self, rows: list[Row], size: int) -> None:
        self._rows += rows
        self._bytes += size
        if len(self._rows) >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(self._view.columns, zip(*self._rows, strict=True), strict=True)
            arrays = [self._array(column, values) for column, values in columns]
            self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
            self._rows, self._bytes = [], 0

    def _array(self, column: Column, values: Sequence[Any]) -> pa.Array:
        if column.type == "decimal":
            values = [_exact(each) for each in values]
        try:
            return pa.array(values, type=_type(column))
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            told = f"View {self._view.name}: the column {column.name} of Parquet cannot hold one of its values"
            raise FhirError(Issue("not-supported", f"{told} as {_type(column)}: ask for text/csv")) from None


def _type(column: Column) -> pa.DataType:
    inner = TYPES.get(column.type, pa.string())
    return pa.list_(inner) if column.collection else inner


def _exact(value: Any) -> Any:
    """JSON has whole numbers where FHIR has decimals."""
    if isinstance(value, list):
        return [_exact(each) for each in value]
    return Decimal(value) if isinstance(value, int) else value


def _read(path: Path) -> Iterator[Row]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=1000):
            yield from zip(*(each.to_pylist() for each in batch.columns), strict=True)
