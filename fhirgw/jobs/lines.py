"""NDJSON as it comes: a file, packed by gzip or not, as batches of numbered lines that fit into memory. Or Parquet.

What a file is its first bytes say, and where its name says otherwise, it is not read at all. A line that is too long is
told and passed over, however long it is; a file that breaks off says after which line. Places are bytes of the unpacked
text, so that a reader who knows one goes on there. http://ndjson.org
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from isal import isal_zlib

from fhirgw.fhir.issue import FhirError, Issue

BLOCK = 1 << 20
LINES, BYTES = 1000, 1 << 22
"""What one batch holds at most; one line may be longer."""
ENDLESS = 1 << 30
"""Bytes of a line that are passed over: a few kilobytes, packed, may be as many as anybody likes of one letter."""
PACKED, GZIP = ".gz", b"\x1f\x8b"
PARQUET, MAGIC = ".parquet", b"PAR1"
OTHERS = {
    MAGIC: "Parquet: name it .parquet, and do not pack it again",
    b"PK\x03\x04": "a ZIP archive: unpack it",
    b"\x28\xb5\x2f\xfd": "packed by zstd: pack it by gzip, or not at all",
    b"BZh": "packed by bzip2: pack it by gzip, or not at all",
    b"\xff\xfe": "in UTF-16: write it in UTF-8",
    b"\xfe\xff": "in UTF-16: write it in UTF-8",
    b"<": "XML or HTML: only JSON is taken",
    b"[": "a JSON list: write one resource a line, without commas between",
}
"""What files are by their first bytes, and what to do about it."""
CORRUPT: Any = isal_zlib.IsalError  # whose own types say otherwise
BOM = b"\xef\xbb\xbf"


class Unreadable(FhirError):
    """The file cannot be read, or not any further; the issue says why and what to do."""

    def __init__(self, told: str) -> None:
        super().__init__(Issue("processing", told))


@dataclass(slots=True)
class Batch:
    """Lines by number, and those that are refused as they are; `place` and `line` are where the next one begins."""

    place: int
    line: int
    lines: list[tuple[int, bytes]] = field(default_factory=list)
    refused: list[tuple[int, Issue]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines) + len(self.refused)


def batches(path: Path, longest: int, place: int = 0, line: int = 1) -> Iterator[Batch]:
    """The batches of a file from a place on, where the line of that number begins. Raises Unreadable at the end.

    What precedes the place at which a file breaks off has been yielded then. `longest`: bytes that a line may have. A
    file that by its name is Parquet has rows for lines.
    """
    if path.suffix != PARQUET:
        yield from _batches(path, longest, place, line)
        return
    try:
        with path.open("rb") as file:
            first = file.read(len(MAGIC))
    except OSError as error:
        raise Unreadable(f"It cannot be read ({error.strerror or type(error).__name__})") from None
    if first != MAGIC:
        raise Unreadable("By its name it is Parquet, and it is not: name it as what it is")
    from fhirgw.jobs.parquet_lines import rows  # a hundred megabytes of library, for who brings it alone

    yield from rows(path, longest, place, line)


def _batches(path: Path, longest: int, place: int, line: int) -> Iterator[Batch]:
    """Those of NDJSON."""
    held, size = Batch(place, line), 0
    try:
        with path.open("rb") as file:
            for text in _lines(_from(place, _text(file, path)), longest):
                _add(held, text, longest)
                size += min(len(text), longest)
                if len(held) >= LINES or size >= BYTES:
                    yield held
                    held, size = Batch(held.place, held.line), 0
    except _Broken:
        if len(held):
            yield held
        told = f"After line {held.line - 1:,} it is not what gzip packs, or ends before that does"
        raise Unreadable(f"{told}: send it whole, what was taken is not taken twice") from None
    except Unreadable:
        if len(held):
            yield held
        raise
    except OSError as error:
        raise Unreadable(f"It cannot be read ({error.strerror or type(error).__name__})") from None
    yield held


class _Broken(Exception):
    """What gzip packed ends too early, or is something else."""


def _text(file: BinaryIO, path: Path) -> Iterator[bytes]:
    """The text, unpacked, in blocks. Raises Unreadable for what is not NDJSON, or not what its name says."""
    first = file.read(64)
    packed = first.startswith(GZIP)
    if path.suffix == PACKED and first and not packed:
        raise Unreadable("By its name it is packed by gzip, and it is not: name it as what it is")
    file.seek(0)
    blocks = _unpacked(file) if packed else iter(lambda: file.read(BLOCK), b"")
    start = next(blocks, b"")
    _check(start.removeprefix(BOM))
    yield start
    yield from blocks


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    """What gzip packed, in blocks of bounded size, with all there is before it breaks off. Raises _Broken.

    Several packed texts may follow one another: https://www.rfc-editor.org/rfc/rfc1952#page-5
    """
    unpacker, made = isal_zlib.decompressobj(wbits=31), b""
    while left := file.read(BLOCK >> 2):
        while left or len(made) == BLOCK:
            if unpacker.eof:
                if not left.strip(b"\0"):  # what a tape or a block device fills up with
                    break
                unpacker = isal_zlib.decompressobj(wbits=31)
            try:
                made = unpacker.decompress(left, BLOCK)
            except CORRUPT:
                raise _Broken from None
            yield made
            left = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    if not unpacker.eof:
        raise _Broken


def _check(start: bytes) -> None:
    """Raises Unreadable for what begins as something else does."""
    found = next((told for each, told in OTHERS.items() if start.startswith(each)), None)
    if found is None and start.partition(b"\n")[0].strip() == b"{" and b"\n" in start:
        found = "JSON over several lines: write each resource in one line (jq -c does)"
    if found:
        raise Unreadable(f"It is no NDJSON but {found}")


def _from(place: int, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """What comes at the place and after it."""
    for block in blocks:
        if place >= len(block):
            place -= len(block)
        else:
            yield block[place:]
            place = 0
    if place:
        raise Unreadable("It is shorter than it was when it was begun: load it as a file of another name")


def _lines(blocks: Iterator[bytes], longest: int) -> Iterator[bytes | _Passed]:
    """Each line with its end; of one that is too long no more than how many bytes it has."""
    begun, passed = b"", 0
    for block in blocks:
        *whole, rest = block.split(b"\n")
        for each in whole:
            yield _Passed(passed + len(each) + 1) if passed else begun + each + b"\n"
            begun, passed = b"", 0
        if passed:
            passed += len(rest)
            if passed > ENDLESS:
                raise Unreadable(f"It has a line of over {ENDLESS:,} bytes, and so no lines: write one resource a line")
        else:
            begun += rest
            if len(begun) > longest:
                begun, passed = b"", len(begun)
    if begun or passed:
        yield _Passed(passed) if passed else begun


class _Passed:
    """A line that was passed over, of so many bytes."""

    __slots__ = ("_size",)

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


def _add(held: Batch, text: bytes | _Passed, longest: int) -> None:
    if isinstance(text, _Passed) or len(text) > longest + 2:
        told = f"A line has at most {longest:,} bytes (FHIRGW_LONGEST_BODY): write a smaller resource"
        held.refused.append((held.line, Issue("too-long", told)))
    else:
        said = (text.removeprefix(BOM) if held.place == 0 else text).strip(b" \t\r\n")
        if said:  # a blank line says nothing, and is nothing wrong
            held.lines.append((held.line, said))
    held.place += len(text)
    held.line += 1
