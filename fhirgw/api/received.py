"""The body of a write as it comes in: of a type we take, no longer than allowed, unpacked, scanned.

Refused while it is still arriving: what is too long (413), packed or not; what is packed in a way we do not know, or is
no JSON of FHIR (415). https://hl7.org/fhir/R4/http.html#mime-type
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request

from fhirgw.fhir import incoming, patch
from fhirgw.fhir.issue import FhirError, Issue, Resource

JSON = ("application/fhir+json", "application/json", "text/json")
CSV = "text/csv"
"""Read by what is in it: what saves a spreadsheet often says another charset than it writes."""
GZIP = 16 + zlib.MAX_WBITS
PIECE = 256 * 1024
"""Bytes unpacked at a time, each counted before the next."""


class NotTaken(FhirError):
    """A 415, which says what is taken instead."""

    def __init__(self, told: str, **headers: str) -> None:
        super().__init__(Issue("not-supported", told), status=415)
        self.headers = headers


async def resource(request: Request, longest: int) -> tuple[bytes, Resource]:
    """The body and the resource in it. Raises FhirError: 400, 413, 415."""
    _of_type(request, JSON, "Send JSON: Content-Type: application/fhir+json")
    body = await _whole(request, longest)
    return body, incoming.read(body)


async def operations(request: Request, longest: int) -> tuple[bytes, Any]:
    """The body and the operations of the JSON Patch in it. Raises FhirError: 400, 413, 415."""
    _of_type(request, (patch.MEDIA,), f"A patch is sent as {patch.MEDIA}", **{"accept-patch": patch.MEDIA})
    body = await _whole(request, longest)
    return body, incoming.parse(body)


async def pieces(request: Request, longest: int, taken: tuple[str, ...], told: str) -> AsyncIterator[bytes]:
    """The same, as it arrives, unpacked: for who begins with it before all of it is there."""
    _of_type(request, taken, told)
    size = 0
    async for piece in _pieces(request, longest):
        size += len(piece)
        if size > longest:
            raise _too_long(request, longest)
        yield piece


async def body(request: Request, longest: int, taken: tuple[str, ...], told: str) -> bytes:
    """A body of one of the types `taken`, else `told` is what to send. Raises FhirError: 400, 413, 415."""
    _of_type(request, taken, told)
    return await _whole(request, longest)


def _of_type(request: Request, taken: tuple[str, ...], told: str, **headers: str) -> None:
    kind, *parameters = (each.strip().lower() for each in request.headers.get("content-type", "").split(";"))
    given = dict(each.partition("=")[::2] for each in parameters)
    version = given.get("fhirversion", "4.0").strip('"')
    charset = "utf-8" if kind == CSV else given.get("charset", "utf-8").strip('"')
    if kind not in taken or charset != "utf-8" or version not in ("4.0", "4.0.1"):
        raise NotTaken(told, **headers)


async def _whole(request: Request, longest: int) -> bytes:
    announced = request.headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and (len(announced) > 12 or int(announced) > longest):
        raise _too_long(request, longest)
    body = bytearray()
    async for piece in _pieces(request, longest):
        body += piece
        if len(body) > longest:
            raise _too_long(request, longest)
    return bytes(body)


def _pieces(request: Request, longest: int) -> AsyncIterator[bytes]:
    packing = request.headers.get("content-encoding", "identity").strip().lower()
    if packing == "identity":
        return request.stream()
    if packing in ("gzip", "x-gzip"):
        return _unpacked(request)
    raise NotTaken("A body is sent as it is, or packed by gzip", **{"accept-encoding": "gzip, identity"})


async def _unpacked(request: Request) -> AsyncIterator[bytes]:
    """What gzip packed, a piece at a time, so that no small body unpacks to a large one before anybody counts."""
    packed = zlib.decompressobj(GZIP)
    try:
        async for chunk in request.stream():
            left = chunk
            while left and not packed.eof:
                yield packed.decompress(left, PIECE)
                left = packed.unconsumed_tail
    except zlib.error:
        raise FhirError(Issue("structure", "The body is not what gzip packs")) from None
    if not packed.eof:
        raise FhirError(Issue("structure", "The body ends before what gzip packed does"))


def _too_long(request: Request, longest: int) -> FhirError:
    told = f"At most {size(longest)} are taken at once, counted as they are unpacked: send it in parts"
    if request.headers.get("content-type", "").startswith(CSV):
        told += ", for instance a week of the spreadsheet at a time, each with the row of headings"
    return FhirError(Issue("too-long", told))


def size(count: int) -> str:
    """So many bytes, in words that people know."""
    for unit, name in ((10**6, "MB"), (10**3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"
