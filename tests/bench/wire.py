"""Requests over HTTP/1.1 as cheaply as Python sends them, so that the server is what is measured.

One core is shared with the server, so a client library (200-400 µs a request) would measure itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

END = b"\r\n\r\n"
LENGTH = b"content-length: "


@dataclass
class Load:
    """What came of some requests: how many in how many seconds, each one's seconds, and answers not of 200 or 201."""

    count: int = 0
    seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    failed: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.count / self.seconds


def get(path: str, token: str = "") -> bytes:
    """A GET as it goes over the wire."""
    authorization = f"authorization: Bearer {token}\r\n" if token else ""
    return f"GET {path} HTTP/1.1\r\nhost: bench\r\n{authorization}\r\n".encode()


def post(path: str, body: bytes, token: str, kind: str = "application/fhir+json") -> bytes:
    """A POST as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\ncontent-type: {kind}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


async def load(port: int, requests: Sequence[bytes], *, connections: int, seconds: float = 0.0) -> Load:
    """The requests, shared among connections that each send one at a time: once, or over again for some seconds."""
    done = Load()
    until = time.perf_counter() + seconds
    begun = time.perf_counter()
    shares = [requests[at::connections] for at in range(connections)]
    await asyncio.gather(*(_one(port, share, done, until if seconds else 0.0) for share in shares if share))
    done.seconds = time.perf_counter() - begun
    return done


async def _one(port: int, requests: Sequence[bytes], done: Load, until: float) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        while True:
            for each in requests:
                sent = time.perf_counter()
                writer.write(each)
                head = await reader.readuntil(END)
                at = head.find(LENGTH)
                if at >= 0:
                    await reader.readexactly(int(head[at + len(LENGTH) : head.find(b"\r", at)]))
                done.waits.append(time.perf_counter() - sent)
                done.count += 1
                status = int(head[9:12])
                if status not in (200, 201):
                    done.failed[status] = done.failed.get(status, 0) + 1
                if until and time.perf_counter() > until:
                    return
            if not until:
                return
    finally:
        writer.close()
