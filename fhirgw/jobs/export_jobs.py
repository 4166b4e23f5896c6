"""Exports for callers: kicked off, asked about, cancelled, fetched.

What each is and was is in the store: who works on it is a matter of the workers (fhirgw.jobs.work), this process being
one of them if it is to. `async with ExportJobs(...)` owns its connections to the queue, and what it works on.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import structlog

from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.jobs.engine import Queue
from fhirgw.jobs.entitled import entitled
from fhirgw.jobs.export import covered
from fhirgw.jobs.files import PACKED
from fhirgw.jobs.projects import Projects
from fhirgw.jobs.segments import policy, tidy
from fhirgw.jobs.withdrawal import withdraw
from fhirgw.jobs.work import Worker
from fhirgw.store import cohort, export_job, withdrawal, write
from fhirgw.store.database import Connection, Engine, away, declared, direct
from fhirgw.store.export import PART, PROVENANCE, Selection
from fhirgw.store.export_job import Job
from fhirgw.store.ledger import LEASE

AT_ONCE = 2
"""Exports of one application that run: it waits for one of them before it has another."""

KEPT = timedelta(hours=24)
"""How long the files of a finished export are there."""

ID = re.compile("[0-9a-f]{32}")
"""A job's name, as `kick_off` makes it."""

LOOKED = 10.0
"""Seconds between two looks at what finished exports may no longer hold."""

MEDIA = {".ndjson": "application/fhir+ndjson", ".csv": "text/csv; charset=utf-8; header=present"} | {
    ".parquet": "application/vnd.apache.parquet"
}
"""What files are, by how their names end. https://www.rfc-editor.org/rfc/rfc4180#section-3"""

COPIED = (Purpose.DIRECT_CARE, Purpose.PLANNING, Purpose.RESEARCH, Purpose.PERSON, Purpose.OPERATIONS)
"""Purposes that records are copied for in bulk: never an emergency, never one person's safeguarding."""

log = structlog.get_logger("fhirgw.jobs")


class ExportJobs:
    """The exports below `folder`, a folder each; `working`: this process does its share of the work."""

    kept = KEPT

    def __init__(
        self,
        engine: Engine,
        folder: Path,
        *,
        working: bool = True,
        lease: timedelta = LEASE,
        part: int = PART,
        gzip: bool = False,
        projects: Projects | None = None,
    ) -> None:
        self._engine, self._folder, self._working = engine, folder, working
        self._form: dict[str, Any] = {"part": part, "gzip": gzip}
        self._worker = Worker(engine, folder, lease, projects)
        self._queue = Queue(engine.url.render_as_string(hide_password=False), self._worker)
        self._owned = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._tidy()
        await self._owned.enter_async_context(self._queue.opened())
        if self._working:
            await self._owned.enter_async_context(self._queue.working())
        self._keeper = asyncio.create_task(self._keep(), name="exports kept")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        await self._owned.aclose()

    async def kick_off(self, permit: Permit, asked: Selection, request: str) -> str:
        """Writes an export down and names it. Raises FhirError: throttled, or forbidden for a type it asks for."""
        if permit.purpose not in COPIED:
            told = f"Nothing is exported for the purpose {permit.purpose}: ask for one person's record"
            raise FhirError(Issue("forbidden", told))
        covered(permit, (*asked.types, *((PROVENANCE,) if asked.associated else ())), named=True)
        self._worker.projects.begin(permit, asked)
        id = uuid4().hex
        async with direct(self._engine) as connection:
            await _check_people(connection, permit, asked)
            if await export_job.under_way(connection, permit) >= AT_ONCE:
                raise FhirError(Issue("throttled", f"{AT_ONCE} exports are running here: ask again when one has ended"))
            form = replace(asked, **self._form, job=id)
            await export_job.accept(connection, id, permit, form, request, policy=policy())
        await self._queue.ask(id)
        return id

    async def status(self, permit: Permit, id: str) -> Job:
        """The job as it is; running the first time anyone asks. Raises FhirError(not-found)."""
        async with direct(self._engine) as connection:
            job = await self._find(connection, permit, id)
            if not job.polled:
                await export_job.poll(connection, id)
        return job

    async def cancel(self, permit: Permit, id: str) -> None:
        """Ends the job and removes its files. Raises FhirError(not-found)."""
        async with direct(self._engine) as connection:
            await self._find(connection, permit, id)
            if not await export_job.end(connection, id, "cancelled"):
                await export_job.forget(connection, id)
        await self._remove(id)

    async def file(self, permit: Permit, id: str, name: str) -> File:
        """A finished file. Raises FhirError(not-found)."""
        async with direct(self._engine) as connection:
            job = await self._find(connection, permit, id)
        listed = {each["url"]: each for each in _files(job)} if job.state == "done" else {}
        if name not in listed:
            raise absent()
        told = listed[name]
        path = self._worker.place(job) / told["key"]
        types = job.effective if job.asked.organized else (told["type"],)
        packed, media = path.suffix == PACKED, MEDIA[Path(name).suffix]
        return File(path, told["type"], told["bytes"], told["sha256"], packed, media, types)

    async def _find(self, connection: Connection, permit: Permit, id: str) -> Job:
        """The job, for the organisation that asked for it and while it may read what is in it."""
        job = await export_job.find(connection, id) if ID.fullmatch(id) else None
        if job is None or job.state == "cancelled":
            raise absent()
        types = job.types
        if job.state == "done":  # a file of deletions tells of all types
            made = (each["type"] for each in job.result["output"])
            several = job.result.get("deleted") or job.asked.organized
            types = job.effective if several else tuple(made)
        if not entitled(permit, job.permit, types):
            raise absent()
        return job

    async def _keep(self) -> None:
        """Takes out of finished exports what may no longer be in them, again and again."""
        while True:
            await asyncio.sleep(LOOKED)
            try:
                await self.look()
            except Exception as error:
                log.error("exports not looked at", error=type(error).__name__, away=away(error))

    async def look(self) -> None:
        """Takes out of finished exports what their permits no longer show, and away those of stopped applications.

        What has been cancelled is removed again: a worker notices within a second.
        """
        async with direct(self._engine) as connection:
            await export_job.revoke(connection)
            for id in await export_job.in_state(connection, "cancelled"):
                await self._remove(id)  # what a worker wrote before it noticed
            await withdrawal.forget(connection, KEPT * 2)
            await tidy(connection, self._folder)
            for id in await export_job.in_state(connection, "done"):
                job = await export_job.find(connection, id)
                if job is None or job.state != "done" or not (folder := self._worker.place(job)).is_dir():
                    continue
                try:
                    await withdraw(connection, job, job.result, folder, self._worker.projects)
                except FhirError as error:
                    log.error("export not looked at", job=id, error=str(error))

    async def _tidy(self) -> None:
        """Forgets old exports."""
        async with direct(self._engine) as connection:
            for id in await export_job.expired(connection, KEPT):
                await self._remove(id)
                await export_job.forget(connection, id)

    async def _remove(self, id: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder / id, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class File:
    """A finished file of a `media` type: `bytes` and `sha256` of what is in it, which may be `packed` as gzip; `types`
    are all that it is of.
    """

    path: Path
    type: str
    bytes: int
    sha256: str
    packed: bool
    media: str
    types: tuple[str, ...] = ()


async def _check_people(connection: Connection, permit: Permit, asked: Selection) -> None:
    """Raises FhirError: not-found for a Group that is hidden or not there; invalid unless the permit shows all the
    patients who are named, and they are in the Group: it says no more of one who is hidden.
    """
    patients = asked.patients or ()
    if not patients and asked.group is None:
        return
    async with declared(connection, permit):
        found = set(await write.seen(connection, permit, "Patient", patients)) if patients else set()
        if asked.group is not None:
            group = await cohort.find(connection, permit, asked.group, patients)
            found = found & await cohort.people(connection, permit, group, patients) if patients else found
    if set(patients) - found:
        raise FhirError(Issue("invalid", "patient: not all of these are patients whom this export may be of"))


def absent() -> FhirError:
    """The answer for an export that does not exist, and for one that is somebody else's."""
    return FhirError(Issue("not-found", "There is no such export"))


def _files(job: Job) -> list[dict[str, Any]]:
    return [each for name in ("output", "deleted", "error") for each in job.result.get(name, ())]
