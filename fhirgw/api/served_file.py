"""A finished file of an export, as its caller takes it: whole or a Range of it, packed or not.

Its entity tag is the SHA-256 of what is in it; with `-gzip` behind it, of the same, packed.
https://www.rfc-editor.org/rfc/rfc9110#name-content-encoding
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from isal import igzip, isal_zlib
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse

from fhirgw.api.packed import takes_gzip

BLOCK = 1 << 18
RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_igzip: Any = igzip  # which has no types of its own


def file_answer(request: Request, path: Path, size: int, sha256: str, packed: bool, media: str) -> Response:
    """The answer with a file of a media type, of `size` bytes unpacked.

    A file that is kept packed is unpacked for who wants it so.
    """
    whole = "range" not in request.headers
    if takes_gzip(request.headers.get("accept-encoding", "")) and (packed or whole):
        headers = {"etag": f'"{sha256}-gzip"', "content-encoding": "gzip", "vary": "accept-encoding"}
        if packed:
            return FileResponse(path, headers=headers, media_type=media)
        return StreamingResponse(_packing(path), headers=headers, media_type=media)
    headers = {"etag": f'"{sha256}"', "vary": "accept-encoding"}
    if not packed:
        return FileResponse(path, headers=headers, media_type=media)
    return _unpacked(request, path, size, headers, media)


def _unpacked(request: Request, path: Path, size: int, headers: dict[str, str], media: str) -> Response:
    """One range at most, as a server may choose; any other is answered with the whole."""
    headers |= {"accept-ranges": "bytes"}
    asked = asked_range(request, headers["etag"], size)
    if asked is None:
        return StreamingResponse(_unpacking(path, 0, size), 200, headers | {"content-length": str(size)}, media)
    low, end = asked
    if low >= end:
        return Response(status_code=416, headers=headers | {"content-range": f"bytes */{size}"})
    told = {"content-range": f"bytes {low}-{end - 1}/{size}", "content-length": str(end - low)}
    return StreamingResponse(_unpacking(path, low, end - low), 206, headers | told, media)


def asked_range(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """The first byte that is asked for and the one after the last, none if the first is not before it; None: all.

    https://www.rfc-editor.org/rfc/rfc9110#name-range-requests
    """
    asked = RANGE.fullmatch(request.headers.get("range", "").strip())
    if asked is None or asked[0] == "bytes=-" or request.headers.get("if-range") not in (None, etag):
        return None
    if not asked[1]:
        return max(0, size - int(asked[2])), size
    return int(asked[1]), min(size, int(asked[2]) + 1) if asked[2] else size


def _packing(path: Path) -> Iterator[bytes]:
    packer = isal_zlib.compressobj(level=1, wbits=31)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield packer.compress(block)
    yield packer.flush()


def _unpacking(path: Path, skipped: int, size: int) -> Iterator[bytes]:
    with _igzip.open(path, "rb") as file:
        while skipped:
            skipped -= len(file.read(min(BLOCK, skipped)))
        while size and (block := file.read(min(BLOCK, size))):
            size -= len(block)
            yield block
