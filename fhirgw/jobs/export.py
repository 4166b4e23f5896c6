"""Export: everything a permit shows, or some of it, as NDJSON files by type with a manifest.

https://hl7.org/fhir/uv/bulkdata/export.html
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fhirgw.access.permit import Permit
from fhirgw.jobs.files import Draft, Written, publication
from fhirgw.store.database import Engine
from fhirgw.store.export import Selection, Snapshot, snapshot

Progress = Callable[[int, int, int], None]
"""Told rows, bytes, and about how many rows there will be (0: nobody knows, or nobody is to be told)."""

PULSE = 0.1
"""Seconds between two reports of progress."""

SAVED_AFTER = 32 << 20
"""Bytes after which the disk is asked to keep what it has, while more is being written."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote: `time` is what to ask `since` the next time, `files` by type."""

    time: datetime
    request: str
    files: dict[str, Written]

    def manifest(self, address: Callable[[str], str] = str, token: bool = False) -> dict[str, Any]:
        """The Bulk Data manifest; `address` makes a file's name into its url."""
        return {
            "transactionTime": instant(self.time),
            "request": self.request,
            "requiresAccessToken": token,
            "output": [
                {
                    "type": resource_type,
                    "url": address(file.name),
                    "count": file.lines,
                    "bytes": file.bytes,
                    "sha256": file.sha256,
                }
                for resource_type, file in self.files.items()
            ],
            "error": [],
        }


async def export(
    engine: Engine,
    permit: Permit,
    selection: Selection,
    folder: Path,
    *,
    request: str,
    progress: Progress = lambda rows, size, expected: None,
    lock: str = "",
) -> Exported:
    """Writes `<type>.ndjson` for each type there is something of, and manifest.json, into the folder.

    Raises FhirError: a type the permit does not cover, a folder that cannot be written. Whatever it raises, and when it
    is cancelled, the folder is as it was.
    """
    with publication(folder) as made:
        async with snapshot(engine, permit, lock) as taken:
            types = covered(permit, selection.types or tuple(await taken.types()), bool(selection.types))
            files = await _copied(taken, permit, selection, types, made.drafts, progress)
        exported = Exported(taken.time, request, files)
        await asyncio.to_thread(made.publish, [file.name for file in files.values()], exported.manifest())
    return exported


def covered(permit: Permit, types: tuple[str, ...], named: bool) -> list[str]:
    """The types the permit lets its holder read. Raises FhirError(forbidden) if one that was `named` is not."""
    for resource_type in types if named else ():
        permit.require("r", resource_type)
    return sorted({each for each in types if permit.covering("r", each)})


def instant(moment: datetime) -> str:
    """A FHIR instant, in UTC. Milliseconds are cut off: `_since` asks for what came strictly later."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _copied(
    taken: Snapshot, permit: Permit, selection: Selection, types: list[str], folder: Path, progress: Progress
) -> dict[str, Written]:
    """The files by type; while one is made durable, the next is already being written."""
    meter = _Meter(progress, await taken.estimate(permit, types))
    saving: dict[str, asyncio.Task[Written]] = {}
    with ExitStack() as drafts:
        try:
            for resource_type in types:
                filling = Filling(drafts.enter_context(Draft(folder / f"{resource_type}.ndjson")), meter.add)
                try:
                    await taken.copy(permit, resource_type, selection, filling.sink)
                finally:
                    await filling.settled()
                if filling.draft.bytes:
                    saving[resource_type] = asyncio.create_task(asyncio.to_thread(filling.draft.finish))
            return {resource_type: await task for resource_type, task in saving.items()}
        finally:
            await asyncio.gather(*saving.values(), return_exceptions=True)


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

    async def sink(self, lines: list[bytes]) -> None:
        """What COPY writes to; nothing more, once any of it was refused."""
        if self._refused is None:
            try:
                await self._write(*self._made(lines))
            except Exception as error:
                self._refused = error

    def _made(self, lines: list[bytes]) -> tuple[bytes, int]:
        """What is written for some lines, and how many resources or rows that is."""
        return b"\n".join([*lines, b""]), len(lines)

    async def _write(self, data: bytes, count: int) -> None:
        if not data and not count:
            return
        draft = self.draft
        draft.write(data, count)
        self._told(count, len(data))
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


class _Meter:
    """Adds up what the drafts have, and tells it now and then."""

    def __init__(self, progress: Progress, expected: int) -> None:
        self._progress, self._expected = progress, expected
        self._lines = self._bytes = 0
        self._next = 0.0

    def add(self, lines: int, size: int) -> None:
        """So much more is written."""
        self._lines += lines
        self._bytes += size
        if (now := time.monotonic()) >= self._next:
            self._next = now + PULSE
            self._progress(self._lines, self._bytes, self._expected)
