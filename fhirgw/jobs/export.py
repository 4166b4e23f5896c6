"""What every export has in common: which types it may be of, how moments are spelt, and a file while COPY writes it.

https://hl7.org/fhir/uv/bulkdata/export.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from fhirgw.access.permit import Permit
from fhirgw.jobs.files import Draft
from fhirgw.store.copied import Line

SAVED_AFTER = 32 << 20
"""Bytes after which the disk is asked to keep what it has, while more is being written."""


def covered(permit: Permit, types: tuple[str, ...], named: bool) -> list[str]:
    """The types the permit lets its holder read. Raises FhirError(forbidden) if one that was `named` is not."""
    for resource_type in types if named else ():
        permit.require("r", resource_type)
    return sorted({each for each in types if permit.covering("r", each)})


def instant(moment: datetime) -> str:
    """A FHIR instant, in UTC. Milliseconds are cut off: `_since` asks for what came strictly later."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Filling:
    """A draft while COPY writes to it: it is saved to disk as it grows, so that little is left for the end.

    It tells what was refused, by the disk or otherwise, when COPY has ended: asyncpg never comes back from a sink that
    raises at its end.
    """

    def __init__(self, draft: Draft, told: Callable[[int, int], None]) -> None:
        self.draft, self._told = draft, told
        self._saved = 0
        self._saving: asyncio.Task[None] | None = None
        self._refused: Exception | None = None

    async def sink(self, lines: list[Line]) -> None:
        """What COPY writes to; nothing more, once any of it was refused."""
        if self._refused is None:
            try:
                await self._write(*self._made(lines))
            except Exception as error:
                self._refused = error

    def _made(self, lines: list[Line]) -> tuple[bytes, int]:
        """What is written for some lines, and how many resources or rows that is."""
        return b"\n".join([*lines, b""]), len(lines)

    def put(self, data: bytes, count: int) -> None:
        """Writes what is in the file's form already; from any thread, if from one at a time. Raises Unwritable."""
        if data or count:
            self.draft.write(data, count)
            self._told(count, len(data))

    async def _write(self, data: bytes, count: int) -> None:
        draft = self.draft
        self.put(data, count)
        if draft.bytes - self._saved > SAVED_AFTER and (self._saving is None or self._saving.done()):
            await self.settled()
            self._saved = draft.bytes
            self._saving = asyncio.create_task(asyncio.to_thread(draft.save))

    async def settled(self) -> None:
        """Waits for the disk. Raises Unwritable, or what else was refused."""
        if self._saving is not None:
            await self._saving
        if self._refused is not None:
            raise self._refused
