"""Answers packed by gzip, for who says that they take it (`Accept-Encoding`): a searchset becomes a tenth.

Around the app and not in it: who does not ask pays a look at their headers, about a microsecond. What is stored is
what is packed, byte for byte. Left as they are: short answers, files (fhirgw.api.served_file packs those itself), and
whatever has a strong entity tag, which would be another one's. No stranger can have words of theirs packed beside
somebody's data, and guess from the length: callers send their token themselves, no browser does it for a page (BREACH).
https://www.rfc-editor.org/rfc/rfc9110#name-content-encoding
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from isal import isal_zlib
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SHORTEST = 1024
"""Bytes below which packing saves no packet."""
LONG = 1 << 19
"""Bytes from which on packing is done beside the loop: some two milliseconds."""
LEVEL = 1
"""Of isal's four: the second halves the speed for a twentieth of the size."""
KINDS = ("application/fhir+json", "application/json", "text/html")
REFUSING = re.compile(r"gzip\s*;\s*q=0(\.0*)?\s*$")


def takes_gzip(accepted: str) -> bool:
    """Whether an Accept-Encoding names gzip, and not as what is not wanted."""
    return any(
        each.startswith("gzip") and not REFUSING.match(each) for each in map(str.strip, accepted.lower().split(","))
    )


class Packed:
    """The app, its answers packed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            for name, value in scope["headers"]:
                if name == b"accept-encoding" and b"gzip" in value.lower() and takes_gzip(value.decode("latin-1")):
                    send = _Packer(send)
                    break
        await self.app(scope, receive, send)


class _Packer:
    """Sends one answer on. Its head waits for the first of its body, which says how long it is."""

    def __init__(self, send: Send) -> None:
        self.send = send
        self.head: Message | None = None
        self.stream: Any = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _fits(message):
            self.head = message
        elif message["type"] != "http.response.body" or (self.head is None and self.stream is None):
            await self.send(message)
        else:
            await self._body(message)

    async def _body(self, message: Message) -> None:
        body, more = message.get("body", b""), message.get("more_body", False)
        if self.head is not None:
            head, self.head = self.head, None
            if not more and len(body) < SHORTEST:
                await self.send(head)
                await self.send(message)
                return
            if not more:
                body = await asyncio.to_thread(_whole, body) if len(body) >= LONG else _whole(body)
            else:
                self.stream = isal_zlib.compressobj(level=LEVEL, wbits=31)
            await self.send(_told(head, None if more else len(body)))
        if self.stream is not None:
            body = self.stream.compress(body) + (b"" if more else self.stream.flush())
        await self.send({"type": "http.response.body", "body": body, "more_body": more})


def _whole(body: bytes) -> bytes:
    packed: bytes = isal_zlib.compress(body, level=LEVEL, wbits=31)
    return packed


def _fits(head: Message) -> bool:
    headers = MutableHeaders(raw=head["headers"])
    kind = headers.get("content-type", "").partition(";")[0]
    whole = head["status"] not in (204, 206, 304) and "content-encoding" not in headers
    return whole and kind in KINDS and not headers.get("etag", "").startswith('"')


def _told(head: Message, length: int | None) -> Message:
    headers = MutableHeaders(raw=list(head["headers"]))
    headers["content-encoding"] = "gzip"
    headers.add_vary_header("Accept-Encoding")
    if length is None:
        del headers["content-length"]
    else:
        headers["content-length"] = str(length)
    return {**head, "headers": headers.raw}
