"""Which lines were taken in before, by their digests."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable

RUN = 1 << 17
"""Digests that are sorted at a time."""


class Said:
    """Digests of lines that said what is held: eight bytes each, in sorted runs, because there may be many millions."""

    def __init__(self) -> None:
        self._new: set[int] = set()
        self._runs: list[array[int]] = []

    def add(self, digests: Iterable[bytes]) -> None:
        """Notes them."""
        self._new.update(int.from_bytes(each[:8], "big") for each in digests)
        if len(self._new) >= RUN:
            self._runs.append(array("Q", sorted(self._new)))
            self._new.clear()

    def __contains__(self, digest: bytes) -> bool:
        wanted = int.from_bytes(digest[:8], "big")
        return wanted in self._new or any(_holds(run, wanted) for run in self._runs)


def _holds(run: array[int], wanted: int) -> bool:
    at = bisect_left(run, wanted)
    return at < len(run) and run[at] == wanted
