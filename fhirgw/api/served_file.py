"""A finished file of an export, as its caller takes it: whole or a Range of it, packed or not.

Its entity tag is the SHA-256 of what is in it; with `-gzip` behind it, of the same, packed.
https://www.rfc-editor.org/rfc/rfc9110#name-content-encoding
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from isal import igzip, isal_zlib
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from fhirgw.api.packed import takes_gzip
from fhirgw.fhir.issue import FhirError, Issue

BLOCK = 1 << 18
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
"""Longer numbers are no place in any file, and Python refuses to read those of thousands of digits."""
_igzip: Any = igzip  # which has no types of its own

Read = Callable[[BinaryIO, int, int], Iterator[bytes]]
"""Of an open file, so many bytes from a place on."""


class _Sent(StreamingResponse):
    """What is sent of an open file, which is closed at the end, whoever goes away."""

    def __init__(self, file: BinaryIO, *given: Any) -> None:
        super().__init__(*given)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


def file_answer(request: Request, path: Path, size: int, sha256: str, packed: bool, media: str) -> Response:
    """The answer with a file of a media type, of `size` bytes unpacked. A packed one is unpacked for who wants it so.

    It is opened before the request is audited and answered: whoever takes lines out of it meanwhile puts another in its
    place. Raises FhirError(not-found) where that has happened already.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        told = "This file is not there any more: others may be in its place, so ask for the manifest again"
        raise FhirError(Issue("not-found", told)) from None
    whole = "range" not in request.headers
    if takes_gzip(request.headers.get("accept-encoding", "")) and (packed or whole):
        headers = {"etag": f'"{sha256}-gzip"', "content-encoding": "gzip", "vary": "accept-encoding"}
        if not packed:
            return _Sent(file, _nothing() if request.method == "HEAD" else _packing(file), 200, headers, media)
        return _answered(request, file, _length(file), headers, media, _reading)
    headers = {"etag": f'"{sha256}"', "vary": "accept-encoding"}
    return _answered(
        *(request, file, size if packed else _length(file), headers, media, _unpacking if packed else _reading)
    )


def _answered(request: Request, file: BinaryIO, size: int, headers: dict[str, str], media: str, read: Read) -> Response:
    """One range at most, as a server may choose; any other is answered with the whole."""
    headers |= {"accept-ranges": "bytes"}
    low, high, status = 0, size - 1, 200
    asked = RANGE.fullmatch(request.headers.get("range", "").strip())
    if asked is not None and request.headers.get("if-range") in (None, headers["etag"]):
        first, last = asked.groups()
        if first and not (last and int(last) < int(first)):
            low, high, status = int(first), min(high, int(last or high)), 206
        elif last and not first:
            low, status = max(0, size - int(last)), 206
    if status == 206 and low > high:
        file.close()
        return Response(status_code=416, headers=headers | {"content-range": f"bytes */{size}"})
    if status == 206:
        headers |= {"content-range": f"bytes {low}-{high}/{size}"}
    headers |= {"content-length": str(high - low + 1)}
    body = _nothing() if request.method == "HEAD" else read(file, low, high - low + 1)
    return _Sent(file, body, status, headers, media)


def _length(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


def _nothing() -> Iterator[bytes]:
    return iter(())


def _packing(file: BinaryIO) -> Iterator[bytes]:
    packer = isal_zlib.compressobj(level=1, wbits=31)
    while block := file.read(BLOCK):
        yield packer.compress(block)
    yield packer.flush()


def _reading(file: BinaryIO, skipped: int, size: int) -> Iterator[bytes]:
    file.seek(skipped)
    while size and (block := file.read(min(BLOCK, size))):
        size -= len(block)
        yield block


def _unpacking(packed: BinaryIO, skipped: int, size: int) -> Iterator[bytes]:
    with _igzip.open(packed, "rb") as file:
        while skipped and (block := file.read(min(BLOCK, skipped))):
            skipped -= len(block)
        while size and (block := file.read(min(BLOCK, size))):
            size -= len(block)
            yield block
