"""Whether what was fetched is the file that the manifest lists: whole, unpacked, NDJSON of its type, of so many lines.

Read once, in blocks: however long it is, and however well it is packed, a few of them are in memory. Each line is for
whoever loads it to judge; here the first and the last tell a page, or a file that is cut off, from NDJSON.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from isal import isal_zlib

from fhirgw.jobs.files import GZIP
from fhirgw.jobs.pull.trouble import Ended
from fhirgw.store.pulls import PulledFile

BLOCK = 1 << 20
LONGEST = 64_000_000
"""Bytes of one line."""

KINDS = {"deleted": "Bundle", "error": "OperationOutcome"}
_zlib: Any = isal_zlib  # which has no types of its own


class Spoiled(Exception):
    """What was fetched is not the file that the manifest lists; the message says why, and quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What a whole file came to, unpacked: bytes, lines, SHA-256."""

    bytes: int
    lines: int
    sha256: str


def judge(path: Path, file: PulledFile, most: int) -> Judged:
    """What a whole file is, read once. Raises Spoiled where it is not what the manifest lists."""
    digest, size, lines, tail, first = hashlib.sha256(), 0, 0, b"", True
    wanted = KINDS.get(file.kind, file.type)
    for block in _blocks(path, file.packed):
        digest.update(block)
        size += len(block)
        lines += block.count(b"\n")
        if size > most:
            raise Ended("too-long", f"File {file.number} is longer than {most:,} bytes unpacked")
        tail += block
        if first and b"\n" in tail:
            _check_line(tail[: tail.index(b"\n")], wanted)
            first = False
        tail = tail[tail.rfind(b"\n", 0, -1) + 1 :]  # the last line, its end included
        if len(tail) > LONGEST:
            raise Spoiled(f"it has a line of over {LONGEST >> 20} MB")
    if tail:
        _check_line(tail, wanted)
    lines += bool(tail) and not tail.endswith(b"\n")
    if file.count is not None and lines != file.count:
        raise Spoiled(f"it has {lines:,} lines and the manifest says {file.count:,}")
    return Judged(size, lines, digest.hexdigest())


def _blocks(path: Path, packed: bool) -> Iterator[bytes]:
    """What is in the file, unpacked; however well it is packed, no more at once than a few blocks."""
    unpacker = _zlib.decompressobj(wbits=GZIP)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            if not packed:
                yield block
                continue
            try:
                while block:
                    if unpacker.eof:  # one member after another is one file
                        unpacker = _zlib.decompressobj(wbits=GZIP)
                    yield unpacker.decompress(block, BLOCK)
                    block = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
            except _zlib.error:
                raise Spoiled("it is said to be gzip and is not") from None
    while packed and not unpacker.eof and (rest := unpacker.decompress(b"", BLOCK)):
        yield rest
    if packed and not unpacker.eof and path.stat().st_size:
        raise Spoiled("it is gzip, and cut off")


def _check_line(line: bytes, type: str) -> None:
    try:
        found = orjson.loads(line)
    except ValueError:
        raise Spoiled("its first or last line is no JSON: it is cut off, or no NDJSON") from None
    if not isinstance(found, dict) or found.get("resourceType") != type:
        raise Spoiled("its first or last line is of another type")
