"""Resources in Parquet: a row each, its JSON in a column of text; read as NDJSON is, a batch of bounded size at a time.

FHIR has no columns that all resources share, so what lakes keep of it is the text: in a column `resource` (as exports
to BigQuery and Databricks have it), `body`, or `value` (Spark's own for lines of text), beside others that say what is
in it anyway and are not read. A place is how many rows come before it: who goes on there reads no row group that
precedes it. https://parquet.apache.org/docs/file-format/
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from fhirgw.fhir.issue import Issue
from fhirgw.jobs.lines import BYTES, LINES, Batch, Unreadable
from fhirgw.jobs.parquet_pages import Chunk, Malformed, chunks, pages

COLUMNS = ("resource", "body", "value")
TEXT = ("STRING", "JSON", "NONE")
"""What a column of bytes may be said to be."""
LARGEST = 128 << 20
"""Bytes that a page has unpacked: a reader needs them all at once."""
STRINGS, LISTS = 1 << 20, 1 << 20
"""What a footer may hold, in bytes of a text and in members of a list."""
AHEAD = 1 << 20
REPEATED = 64 << 20
"""Bytes that rows may be at once which are the longest value of a dictionary, each."""

SMALLER = "write it with smaller ones (row_group_size=10000, data_page_size=1048576 of pyarrow)"
NULL = Issue("required", "A row holds a resource: leave out those that hold none")


class _Column(NamedTuple):
    """The column that holds the resources, and which of the file's it is."""

    name: str
    number: int


def rows(path: Path, longest: int, place: int, line: int) -> Iterator[Batch]:
    """The batches of a file from a row on; see fhirgw.jobs.lines.batches. Raises Unreadable at the end."""
    held, size = Batch(place, line), 0
    try:
        with path.open("rb") as file, _opened(path) as table:
            column = _column(table)
            if place > table.metadata.num_rows:
                raise Unreadable("It is shorter than it was when it was begun: load it as a file of another name")
            for each in _rows(table, column, file, place):
                _add(held, each, longest)
                size += min(len(each or b""), longest)
                if len(held) >= LINES or size >= BYTES:
                    yield held
                    held, size = Batch(held.place, held.line), 0
    except (pa.ArrowException, Malformed, OSError, ValueError, MemoryError):
        if len(held):
            yield held
        told = f"After row {held.line - 1:,} it is not what Parquet holds, or ends before that does"
        raise Unreadable(f"{told}: send it whole, what was taken is not taken twice") from None
    yield held


def _opened(path: Path) -> pq.ParquetFile:
    """The file, to be read page by page: all of a row group would be a gigabyte as many write it."""
    limits = {"thrift_string_size_limit": STRINGS, "thrift_container_size_limit": LISTS}
    return pq.ParquetFile(path, buffer_size=AHEAD, pre_buffer=False, page_checksum_verification=True, **limits)


def _column(table: pq.ParquetFile) -> _Column:
    """Where the resources are. Raises Unreadable."""
    schema = table.schema
    paths = [schema.column(at).path for at in range(len(schema))]
    name = next((each for each in COLUMNS if each in table.schema_arrow.names), None)
    if name is None and len(table.schema_arrow.names) == 1:
        name = table.schema_arrow.names[0]
    if name is None:
        told = f"It has no column {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}, and more than one of another name"
        raise Unreadable(f"{told}: put each resource's JSON into a column `{COLUMNS[0]}`")
    found = schema.column(paths.index(name)) if name in paths else None
    text = found is not None and found.physical_type == "BYTE_ARRAY" and found.logical_type.type in TEXT
    if found is None or not text or found.max_repetition_level:
        raise Unreadable("Its column of resources is not of text: a row holds a resource as JSON")
    return _Column(name, paths.index(name))


def _rows(table: pq.ParquetFile, column: _Column, file: BinaryIO, place: int) -> Iterator[bytes | None]:
    """What the column holds from a row on."""
    found = chunks(file, column.number)
    if len(found) != table.metadata.num_row_groups:
        raise Malformed
    for number, chunk in enumerate(found):
        count = table.metadata.row_group(number).num_rows
        if place >= count:
            place -= count
            continue
        size = _at_once(file, chunk, number)
        seen = 0
        for batch in table.iter_batches(size, row_groups=[number], columns=[column.name], use_threads=False):
            if place < len(batch):
                yield from map(_text, _plain(batch.column(0))[place:])
            place = max(0, place - len(batch))
            seen += len(batch)
        if seen != count:
            raise Malformed


def _at_once(file: BinaryIO, chunk: Chunk, number: int) -> int:
    """How many rows of a row group fit into memory. Raises Unreadable where not even a page of it does."""
    widest, most = 1, LINES
    for each in pages(file, *chunk):
        if each.unpacked > LARGEST:
            told = f"A page of its row group {number + 1:,} has more than {LARGEST >> 20} MB unpacked"
            raise Unreadable(f"{told}: {SMALLER}")
        if each.dictionary:
            most = min(most, REPEATED // max(1, each.unpacked))
        else:
            widest = max(widest, each.unpacked // max(1, each.values))
    return max(1, min(most, BYTES // widest))


def _plain(array: Any) -> Any:
    """Without what else Arrow knows of it, as that it is JSON."""
    return array.storage if isinstance(array, pa.ExtensionArray) else array


def _text(cell: Any) -> bytes | None:
    """The bytes of a cell as they are: whether they are UTF-8 whoever judges them says."""
    if not cell.is_valid:
        return None
    held = (cell.value if isinstance(cell, pa.DictionaryScalar) else cell).as_buffer()
    return held.to_pybytes() if held is not None else b""


def _add(held: Batch, text: bytes | None, longest: int) -> None:
    if text is None:
        held.refused.append((held.line, NULL))
    elif len(text) > longest:
        told = f"A row has at most {longest:,} bytes (FHIRGW_LONGEST_BODY): write a smaller resource"
        held.refused.append((held.line, Issue("too-long", told)))
    elif said := text.strip(b" \t\r\n"):
        held.lines.append((held.line, said))
    held.place += 1
    held.line += 1
