"""The pages of a Parquet column as their own headers tell them, looked at before anything unpacks one.

What a footer says of sizes anybody may have written; a page's header says how much memory reading it takes, and a page
is unpacked whole. So each header is read first: Thrift's compact protocol, of which a few fields are wanted. Where a
column's pages are is read from the footer by the same means: pyarrow 26, asked that of one whose statistics are spoilt,
ends the process (an exception of C++ that nothing catches; found by changing bytes at random, 22 November 2026).
https://parquet.apache.org/docs/file-format/data-pages/,
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

HEADER = 1 << 16
"""Bytes that the header of a page has at most: it may hold the least and the greatest value."""
FOOTER = 64 << 20
DEPTH = 16
END = 8
"""Bytes at the end of a file: how long its footer is, and what it begins with."""

TYPE, UNPACKED, PACKED, DATA, DICTIONARY, DATA_V2 = 1, 2, 3, 5, 7, 8
"""Fields of a PageHeader; the first field of each of the last three is how many values."""
VALUES = 1
GROUPS, CHUNKS, COLUMN, SIZE, FIRST, DICTIONARY_AT = 4, 1, 3, 7, 9, 11
"""Fields of FileMetaData, RowGroup, ColumnChunk; and of ColumnMetaData the last three."""
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)


class Malformed(Exception):
    """It is no page of a column."""


class Chunk(NamedTuple):
    """Where a column's pages of one row group are, by bytes of the file."""

    start: int
    end: int


class Page(NamedTuple):
    """A page: so many bytes unpacked, of so many values; of a dictionary, of which rows are made, or of rows."""

    unpacked: int
    values: int
    dictionary: bool


def chunks(file: BinaryIO, column: int) -> list[Chunk]:
    """Where the pages of the column of that number are, for each row group. Raises Malformed."""
    size = file.seek(0, 2)
    file.seek(max(0, size - END))
    length = int.from_bytes(file.read(4), "little")
    if not 0 < length <= min(size - END, FOOTER):
        raise Malformed
    file.seek(size - END - length)
    footer = _Reader(file.read(length)).struct()
    try:
        return [_chunk(group[CHUNKS][column][COLUMN], size) for group in footer[GROUPS]]
    except (LookupError, TypeError):
        raise Malformed from None


def _chunk(told: dict[int, Any], size: int) -> Chunk:
    start = min(told[FIRST], told.get(DICTIONARY_AT) or told[FIRST])
    found = Chunk(start, start + told[SIZE])
    if not 0 < found.start <= found.end <= size:
        raise Malformed
    return found


def pages(file: BinaryIO, start: int, end: int) -> Iterator[Page]:
    """The pages between two places of a file. Raises Malformed."""
    while start < end:
        file.seek(start)
        reader = _Reader(file.read(min(HEADER, end - start)))
        found = reader.struct()
        unpacked, packed = found.get(UNPACKED), found.get(PACKED)
        kinds = [found[each] for each in (DATA, DATA_V2, DICTIONARY) if isinstance(found.get(each), dict)]
        values = kinds[0].get(VALUES, 0) if kinds else 0
        if not all(isinstance(each, int) and each >= 0 for each in (unpacked, packed, values)):
            raise Malformed
        yield Page(unpacked or 0, values, DICTIONARY in found)
        start += reader.at + (packed or 0)


class _Reader:
    """Reads one structure; what it has no use for it reads over."""

    def __init__(self, data: bytes) -> None:
        self._data, self.at = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """A structure's fields by number."""
        if depth > DEPTH:
            raise Malformed
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            found[number] = self._value(head & 15, depth, within=False)
        return found

    def _value(self, kind: int, depth: int, *, within: bool = True) -> Any:
        if kind in (_TRUE, _FALSE):
            return self._byte() if within else kind == _TRUE
        if kind in (_I16, _I32, _I64):
            return self._zigzag()
        if kind in (_BYTE, _DOUBLE, _BINARY):
            return self._skip(1 if kind == _BYTE else 8 if kind == _DOUBLE else self._varint())
        if kind in (_LIST, _SET):
            head = self._byte()
            return self._several((head >> 4) if head >> 4 != 15 else self._varint(), [head & 15], depth)
        if kind == _MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            return self._several(count, [kinds >> 4, kinds & 15], depth)
        if kind == _STRUCT:
            return self.struct(depth + 1)
        raise Malformed

    def _several(self, count: int, kinds: list[int], depth: int) -> list[Any]:
        if count > len(self._data):
            raise Malformed
        return [self._value(kind, depth + 1) for _ in range(count) for kind in kinds]

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self._data):
            raise Malformed

    def _byte(self) -> int:
        self._skip(1)
        return self._data[self.at - 1]

    def _varint(self) -> int:
        value = shift = 0
        while True:
            each = self._byte()
            value |= (each & 127) << shift
            shift += 7
            if each < 128:
                return value
            if shift > 63:
                raise Malformed

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
