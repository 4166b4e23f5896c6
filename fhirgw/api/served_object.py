"""A finished file that is in an object store, as its caller takes it: passed on by the gateway, or by a signed address.

Passed on, it is answered as a file of a folder is: by Range, packed or not, with its SHA-256 as entity tag, a piece of
it in memory at a time. What is missing, or in a store that is away, is told before an answer begins; a store that goes
away in the midst of one breaks it off, so that nobody takes half a file for the whole.

With FHIRGW_SIGNED_URL_SECONDS, five minutes at most, the answer is 307 with an address of the store's that nobody needs
a token for. The manifest still names the gateway's own, which do: `requiresAccessToken` stays true. So each file is
authorised and audited when it is taken, nobody gets at a record by a manifest that was left lying about, and no address
in it has run out before its turn comes. The store's own addresses in the manifest (`requiresAccessToken: false`) would
have none of that. A consumer is not to send its token on to another origin, and those in use do not:
https://www.rfc-editor.org/rfc/rfc9110#section-15.4. One that does is refused by the store, which has seen the token by
then: this is why it is off unless somebody asks for it.

The gateway passes on itself, all the same, what the store would answer otherwise than is asked: HEAD, which a signed
GET is not good for; a packed file for who does not take it packed; and what is gone on with (`If-Range`), since the
entity tags that the caller knows are ours.
https://hl7.org/fhir/uv/bulkdata/export.html#response---output-file-request
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from isal import isal_zlib
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from fhirgw.api.packed import takes_gzip
from fhirgw.api.served_file import BLOCK, asked_range, beyond, file_headers, unchanged

HIDDEN = {"cache-control": "no-store", "referrer-policy": "no-referrer"}
"""An address that opens a file is nobody's to keep."""


class Stored(Protocol):
    """See fhirgw.jobs.place."""

    async def size(self) -> int: ...
    def pieces(self, start: int, end: int) -> AsyncIterator[bytes]: ...
    async def signed(self) -> str | None: ...


async def object_answer(request: Request, stored: Stored, size: int, sha256: str, packed: bool, media: str) -> Response:
    """The answer with a file of a media type, of `size` bytes unpacked. Raises FhirError: not-found, transient."""
    headers = file_headers(request, sha256, packed)
    if known := unchanged(request, headers):
        return known
    gzip = takes_gzip(request.headers.get("accept-encoding", ""))
    kept = await stored.size()
    direct = request.method == "GET" and (gzip or not packed) and "if-range" not in request.headers
    if direct and (address := await stored.signed()):
        return Response(status_code=307, headers=HIDDEN | {"location": address})
    if "content-encoding" not in headers:
        return _ranged(request, stored, headers, size, media, packed)
    if packed:
        return _ranged(request, stored, headers, kept, media, packed=False)
    return _answer(request, _packing(stored, kept), 200, headers, media)


def _ranged(request: Request, stored: Stored, headers: dict[str, str], size: int, media: str, packed: bool) -> Response:
    """Of so many bytes, or a range of them, which are `packed` in the store."""
    headers |= {"accept-ranges": "bytes"}
    asked = asked_range(request, headers["etag"], size)
    low, high = asked or (0, size)
    if asked and low >= high:
        return beyond(headers, size)
    headers |= {"content-length": str(high - low)}
    if asked:
        headers |= {"content-range": f"bytes {low}-{high - 1}/{size}"}
    content = _unpacking(stored, low, high) if packed else stored.pieces(low, high)
    return _answer(request, content, 206 if asked else 200, headers, media)


def _answer(
    request: Request, content: AsyncIterator[bytes], status: int, headers: dict[str, str], media: str
) -> Response:
    if request.method == "HEAD":  # nothing is fetched of what nobody gets
        content = _nothing()
    return StreamingResponse(content, status, headers, media)


async def _nothing() -> AsyncIterator[bytes]:
    no: tuple[bytes, ...] = ()
    for each in no:
        yield each


async def _packing(stored: Stored, size: int) -> AsyncIterator[bytes]:
    packer = isal_zlib.compressobj(level=1, wbits=31)
    async for piece in stored.pieces(0, size):
        yield await asyncio.to_thread(packer.compress, piece)
    yield packer.flush()


async def _unpacking(stored: Stored, low: int, high: int) -> AsyncIterator[bytes]:
    """What is unpacked is as long as it likes: BLOCK of it is in memory at a time."""
    unpacker, at = isal_zlib.decompressobj(wbits=31), 0
    async for piece in stored.pieces(0, await stored.size()):
        waiting, block = piece, b"\0"
        while waiting or block:
            block = unpacker.decompress(waiting, BLOCK)
            waiting = unpacker.unconsumed_tail
            if part := block[max(0, low - at) : max(0, high - at)]:
                yield part
            at += len(block)
            if at >= high or unpacker.eof:
                return
