"""Refusals of callers without a permit, recorded in a bounded number of rows: anybody can ask without a token, and
with one that was taken back, or too often.

The first few thousand have a row each. After that one row a quarter of a second stands for all that came in it, and
says how many they were and whose records they asked for; each waits for its row, so nobody is refused unrecorded, and
whoever floods the gateway is answered so often. Those whose token says who they are have rows of their own. Written
out: at most 350,000 rows a day in each process, some 240 MB, and as many for each application that floods it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Hashable

from fhirgw.access.audit_event import Access, together

BURST = 3000.0
"""Rows that strangers may have at once."""
EVERY = 0.25
"""Seconds between rows after that; as many give one row more back."""
STATUSES = (401, 429)
"""How callers are refused before anything is asked for them."""

Record = Callable[[Access], Awaitable[None]]


class Strangers:
    """`await strangers.record(access)` comes back when the access is recorded durably, maybe with others."""

    def __init__(self, record: Record, clock: Callable[[], float] = time.monotonic) -> None:
        self._record, self._clock = record, clock
        self._left, self._asked = BURST, clock()
        self._waiting: dict[Hashable, list[Access]] = {}
        self._shared: asyncio.Task[None] | None = None

    @staticmethod
    def is_one(access: Access) -> bool:
        """Whether this is the refusal of somebody who was let nowhere."""
        return access.permit is None and not access.registration and access.status in STATUSES

    async def record(self, access: Access) -> None:
        """Raises what recording raises."""
        if self._shared is None and self._takes():
            await self._record(access)
            return
        self._waiting.setdefault((access.status, access.asking), []).append(access)
        if self._shared is None:
            self._shared = asyncio.create_task(self._write(), name="audit of strangers")
        await asyncio.shield(self._shared)  # one who stops waiting is recorded all the same

    async def ended(self) -> None:
        """Comes back when nobody waits any more."""
        if self._shared is not None:
            with contextlib.suppress(Exception):  # those who wait for it are told
                await asyncio.shield(self._shared)

    def _takes(self) -> bool:
        now = self._clock()
        self._left, self._asked = min(BURST, self._left + (now - self._asked) / EVERY), now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    async def _write(self) -> None:
        await asyncio.sleep(EVERY)
        waiting, self._waiting, self._shared = self._waiting, {}, None
        self._takes()
        await asyncio.gather(*(self._record(together(each)) for each in waiting.values()))
