"""Lines in the order of their ids, some of which give way to others: found by halving, most never looked at.

Every body begins with its type and id, or is parsed: `{"resourceType":"Patient","id":"p1",…`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import orjson

HEAD = re.compile(rb'\{"resourceType":"[A-Za-z]{1,64}","id":"([A-Za-z0-9.\-]{1,64})"')


class Patch:
    """NDJSON without the `stale` ids, and with the `fresh` lines (no line break), both in order, each in its place.

    Handed the file in blocks of whole lines. `dropped`: how many lines were left out.
    """

    def __init__(self, stale: Sequence[str], fresh: Sequence[bytes]) -> None:
        self._stale = [each.encode() for each in stale]
        self._fresh = {_id(line, 0, len(line)): line + b"\n" for line in fresh}
        if not set(self._fresh) <= set(self._stale):
            raise ValueError("a line of something that is not stale")
        self._at = self.dropped = 0

    def add(self, block: bytes) -> Iterator[bytes | memoryview]:
        """What becomes of more of the file."""
        done, view = 0, memoryview(block)
        last = _id(block, block.rfind(b"\n", 0, -1) + 1, len(block))
        while self._at < len(self._stale) and (id := self._stale[self._at]) <= last:
            start = _place(block, id, done)
            yield view[done:start]
            yield self._fresh.get(id, b"")
            done, self._at = start, self._at + 1
            end = block.find(b"\n", start) + 1
            if end and _id(block, start, end) == id:
                done, self.dropped = end, self.dropped + 1
        yield view[done:]

    def end(self) -> bytes:
        """What comes after the last line."""
        return b"".join(self._fresh.get(id, b"") for id in self._stale[self._at :])


def _place(block: bytes, id: bytes, low: int) -> int:
    """Where the first line begins, from `low` on, whose id is not before this one."""
    high = len(block)
    while low < high:
        start = max(low, block.rfind(b"\n", low, (low + high) // 2) + 1)
        end = block.find(b"\n", start) + 1
        if _id(block, start, end) < id:
            low = end
        else:
            high = start
    return low


def _id(block: bytes, start: int, end: int) -> bytes:
    """The id of the line there."""
    if found := HEAD.match(block, start, end):
        return found[1]
    return str(orjson.loads(block[start:end])["id"]).encode()
