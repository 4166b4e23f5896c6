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

from fhirgw.api.answer import FHIR_JSON
from fhirgw.api.packed import takes_gzip
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError, Issue, outcome

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
    headers = file_headers(request, sha256, packed)
    if known := unchanged(request, headers):
        return known
    try:
        file = path.open("rb")
    except FileNotFoundError:
        told = "This file is not there any more: others may be in its place, so ask for the manifest again"
        raise FhirError(Issue("not-found", told)) from None
    if "content-encoding" in headers:
        if not packed:
            return _Sent(file, _nothing() if request.method == "HEAD" else _packing(file), 200, headers, media)
        return _answered(request, file, _length(file), headers, media, _reading)
    return _answered(
        *(request, file, size if packed else _length(file), headers, media, _unpacking if packed else _reading)
    )


def file_headers(request: Request, sha256: str, packed: bool) -> dict[str, str]:
    """What is said of a file whichever part of it is sent: its entity tag, and its encoding if it is sent as gzip."""
    headers = {"etag": f'"{sha256}"', "vary": "accept-encoding", "cache-control": "private, no-cache"}
    whole = "range" not in request.headers
    if takes_gzip(request.headers.get("accept-encoding", "")) and (packed or whole):
        headers |= {"etag": f'"{sha256}-gzip"', "content-encoding": "gzip"}
    return headers


def unchanged(request: Request, headers: dict[str, str]) -> Response | None:
    """The answer for who has the file already. https://www.rfc-editor.org/rfc/rfc9110#name-if-none-match"""
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if headers["etag"] not in known and known != ["*"]:
        return None
    return Response(status_code=304, headers={k: v for k, v in headers.items() if k != "content-encoding"})


def _answered(request: Request, file: BinaryIO, size: int, headers: dict[str, str], media: str, read: Read) -> Response:
    """One range at most, as a server may choose; any other is answered with the whole."""
    headers |= {"accept-ranges": "bytes"}
    asked = asked_range(request, headers["etag"], size)
    low, end = asked or (0, size)
    if asked is not None and low >= end:
        file.close()
        return beyond(headers, size)
    if asked is not None:
        headers |= {"content-range": f"bytes {low}-{end - 1}/{size}"}
    headers |= {"content-length": str(end - low)}
    body = _nothing() if request.method == "HEAD" else read(file, low, end - low)
    return _Sent(file, body, 200 if asked is None else 206, headers, media)


def beyond(headers: dict[str, str], size: int) -> Response:
    """The answer for a range that begins behind the end."""
    told = outcome([Issue("value", f"Range: the file has {size} bytes: ask for some of those, or for all")])
    left = {name: value for name, value in headers.items() if name != "content-encoding"}
    return Response(encode(told), 416, left | {"content-range": f"bytes */{size}"}, FHIR_JSON)


def asked_range(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """The first byte that is asked for and the one after the last, none if the first is not before it; None: all.

    https://www.rfc-editor.org/rfc/rfc9110#name-range-requests
    """
    asked = RANGE.fullmatch(request.headers.get("range", "").strip())
    if asked is None or request.headers.get("if-range") not in (None, etag):
        return None
    first, last = asked.groups()
    if not first:
        return (max(0, size - int(last)), size) if last else None
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size


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
