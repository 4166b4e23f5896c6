"""An export to a folder at once, by this process alone: parts of the ledger as any export's, published all together.

The parts are written below the folder's `.unfinished`; when all are done, what an earlier export left is replaced, the
manifest last. Whatever breaks it off, the folder is as it was: to go on where one was, `fhirgw export run`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from fhirgw.access.permit import Permit
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.jobs.conclusion import conclude
from fhirgw.jobs.files import publication
from fhirgw.jobs.lease import Lost, abreast
from fhirgw.jobs.parts import run_part
from fhirgw.jobs.place import Folder
from fhirgw.jobs.work import LANES
from fhirgw.meanwhile import meanwhile
from fhirgw.store import export_job, ledger
from fhirgw.store.database import Engine, direct
from fhirgw.store.export import Selection
from fhirgw.store.export_job import Job
from fhirgw.store.ledger import Part

Progress = Callable[[int, int, int], None]
"""Told rows, bytes, and about how many rows there will be (0: nobody knows, or nobody is to be told)."""

PULSE = 0.25
"""Seconds between two reports of progress."""

LISTS = ("output", "deleted")


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote, as its Bulk Data manifest has it, with names for addresses."""

    manifest: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """Resources by type."""
        counted: Counter[str] = Counter()
        for each in self.manifest["output"]:
            counted[each["type"]] += each["count"]
        return dict(counted)


async def export(
    engine: Engine,
    permit: Permit,
    selection: Selection,
    folder: Path,
    *,
    request: str,
    policy: str = "",
    progress: Progress = lambda rows, size, expected: None,
) -> Exported:
    """Writes `Type.ndjson` for each type there is something of (and `Type-2.ndjson`, where it is much), what is
    deleted, and manifest.json, into the folder.

    Raises FhirError: a type the permit does not cover, a folder that cannot be written. Whatever it raises, and when it
    is cancelled, the folder is as it was.
    """
    with publication(folder) as made:
        id = uuid4().hex
        place = made.drafts.absolute() / id
        async with direct(engine) as connection:
            await export_job.abandon(connection, f"{made.drafts.absolute()}/")
            given = replace(selection, job=id)
            await export_job.accept(connection, id, permit, given, request, policy=policy, place=str(place), local=True)
        try:
            async with meanwhile(_told(engine, id, progress), "progress told"):
                done = await _done(engine, id, Folder(place))
            progress(done.rows, done.bytes, done.expected)
            listed = [each for name in LISTS for each in done.result[name]]
            for each in listed:
                (place / each["key"]).replace(made.drafts / each["url"])
            manifest = _manifest(done.result)
            await asyncio.sleep(0)  # the last moment to be cancelled: what is published, is published whole
            made.publish([each["url"] for each in listed], manifest)
        finally:
            with suppress(Exception):  # the database may have gone away: the next export here forgets it
                await asyncio.shield(_forgotten(engine, id))
    return Exported(manifest)


async def _done(engine: Engine, id: str, place: Folder) -> Job:
    """The job when all its parts are done. Raises what kept one from it."""
    worker = f"{socket.gethostname()}:{os.getpid()}"

    async def claim() -> tuple[Job, Part] | None:
        async with direct(engine) as connection:
            part = await ledger.claim(connection, id, worker)
            job = await export_job.find(connection, id) if part else None
            return (job, part) if job and part else None

    async def do(job: Job, part: Part) -> None:
        with suppress(Lost):  # it stood still for so long that it was given up: it waits again, if not too often
            await run_part(engine, place, job, part)

    await abreast(LANES, claim, do)
    async with direct(engine) as connection:
        await conclude(connection, id, place)
        job = await export_job.find(connection, id)
    assert job is not None
    if job.state != "done":
        told = (job.result or {}).get("issue", [{"diagnostics": "It was stopped"}])
        raise FhirError(*(Issue("exception", each["diagnostics"]) for each in told))
    return job


async def _told(engine: Engine, id: str, progress: Progress) -> None:
    while True:
        await asyncio.sleep(PULSE)
        async with direct(engine) as connection:
            job = await export_job.find(connection, id)
        if job is not None:
            progress(job.rows, job.bytes, job.expected)


async def _forgotten(engine: Engine, id: str) -> None:
    async with direct(engine) as connection:
        await export_job.forget(connection, id)


def _manifest(result: dict[str, Any]) -> dict[str, Any]:
    """The job's, for a folder that nobody needs a token for."""
    listed = {name: [{k: v for k, v in each.items() if k != "key"} for each in result[name]] for name in LISTS}
    if not listed["deleted"]:
        del listed["deleted"]
    first = {"transactionTime": result["transactionTime"], "request": result["request"], "requiresAccessToken": False}
    return {**first, **listed, "error": []}
