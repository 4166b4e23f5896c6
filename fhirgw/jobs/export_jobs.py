"""Exports for callers: kicked off, asked about, cancelled, fetched.

What each is and was is in the store: who works on it is a matter of the workers (fhirgw.jobs.work), this process being
one of them if it is to. `async with ExportJobs(...)` owns its connections to the queue, and what it works on.

Long, because kicking off, looking, withdrawing, expiring and removing share one folder and one ledger.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import structlog

from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.jobs import apart
from fhirgw.jobs.engine import PROCRASTINATE, executor
from fhirgw.jobs.entitled import entitled
from fhirgw.jobs.export import covered
from fhirgw.jobs.files import PACKED
from fhirgw.jobs.lines import CORRUPT
from fhirgw.jobs.place import ABSENT, MEDIA, File, Folders, Places, Unkept
from fhirgw.jobs.projects import Projects
from fhirgw.jobs.segments import policy, tidy
from fhirgw.jobs.withdrawal import withdraw
from fhirgw.jobs.work import Worker
from fhirgw.meanwhile import meanwhile
from fhirgw.store import cohort, export_job, withdrawal, write
from fhirgw.store.database import Connection, Engine, away, declared, direct
from fhirgw.store.export import PART, PROVENANCE, Selection
from fhirgw.store.export_job import Job
from fhirgw.store.lease import LEASE

AT_ONCE = 2
"""Exports of one application that run: it waits for one of them before it has another."""

KEPT = timedelta(hours=24)
"""How long the files of a finished export are there."""

ID = re.compile("[0-9a-f]{32}")
"""A job's name, as `kick_off` makes it."""

LATELY = timedelta(hours=1)
"""For how long what has been cancelled is removed again; and once more when it expires."""

TIDIED = 5.0
"""Seconds that beginning waits for old exports to be removed."""

LOOKED = 10.0
"""Seconds between two looks at what finished exports may no longer hold."""

SEEN = timedelta(seconds=60)
"""How long after such a look files are given out without another."""

COPIED = (Purpose.DIRECT_CARE, Purpose.PLANNING, Purpose.RESEARCH, Purpose.PERSON, Purpose.OPERATIONS)
"""Purposes that records are copied for in bulk: never an emergency, never one person's safeguarding."""

SPOILT = (FhirError, OSError, ValueError, EOFError, CORRUPT)
"""Errors of looking through an export: its place is away, or a file in it is not what was written."""

log = structlog.get_logger("fhirgw.jobs")


class ExportJobs:
    """The exports in `places`, or below that folder; `working`: this process does its share of the work, if
    Procrastinate moves it; `moved`: who does, as FHIRGW_EXECUTOR says.
    """

    kept = KEPT

    def __init__(
        self,
        engine: Engine,
        places: Path | Places,
        *,
        working: bool = True,
        lease: timedelta = LEASE,
        part: int = PART,
        gzip: bool = False,
        projects: Projects | None = None,
        moved: str = PROCRASTINATE,
    ) -> None:
        self._engine, self._working = engine, working
        self._form: dict[str, Any] = {"part": part, "gzip": gzip}
        self._worker = Worker(engine, places, lease, projects)
        self._queue = executor(moved, engine.url.render_as_string(hide_password=False), self._worker)
        self._owned = AsyncExitStack()
        self.lease = lease

    async def __aenter__(self) -> Self:
        with suppress(TimeoutError):  # whoever serves does not wait for an object store that is away
            async with asyncio.timeout(TIDIED):
                await self._tidy()
        await self._owned.enter_async_context(self._queue.opened())
        if self._working:
            await self._owned.enter_async_context(self._queue.working())
        await self._owned.enter_async_context(meanwhile(self._keep(), "exports kept"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._owned.aclose()

    async def kick_off(self, permit: Permit, asked: Selection, request: str) -> str:
        """Writes an export down and names it. Raises FhirError: throttled, or forbidden for a type it asks for."""
        permit = permit.exporting(asked.project)
        if permit.purpose not in COPIED:
            told = f"Nothing is exported for the purpose {permit.purpose}: ask for one person's record"
            raise FhirError(Issue("forbidden", told))
        covered(permit, (*asked.types, *((PROVENANCE,) if asked.associated else ())), named=True)
        self._worker.projects.begin(permit, asked)
        id = uuid4().hex
        async with direct(self._engine) as connection:
            await check_people(connection, permit, asked)
            await apart.check(connection, permit, asked)
            form = replace(asked, **self._form, job=id)
            async with connection.transaction():
                if await export_job.under_way(connection, permit) >= AT_ONCE:
                    told = f"{AT_ONCE} exports are running here: ask again when one has ended"
                    raise FhirError(Issue("throttled", told))
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
            await export_job.cancel(connection, id)
        await self._remove(id)

    async def file(self, permit: Permit, id: str, name: str) -> File:
        """A finished file. Raises FhirError: not-found, and what `_looked` raises."""
        async with direct(self._engine) as connection:
            job = await self._looked(connection, permit, id)
        listed = {each["url"]: each for each in _files(job)} if job.state == "done" else {}
        if name not in listed:
            raise absent()
        told = listed[name]
        path = self._worker.place(job).file(told["key"])
        types = job.effective if job.asked.organized else (told["type"],)
        packed, media = told["key"].endswith(PACKED), MEDIA[Path(name).suffix]
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
        project = job.asked.project
        if (permit.pseudonymous and project is None) or not entitled(permit.exporting(project), job.permit, types):
            raise absent()
        return job

    async def _looked(self, connection: Connection, permit: Permit, id: str) -> Job:
        """The job, for whoever takes a file of it: one that nobody has looked through for a minute is looked through
        first, as when the gateway was down meanwhile. Raises FhirError: not-found; transient where that cannot be done,
        for nobody knows then who is still to be in it.
        """
        job = await self._find(connection, permit, id)
        if job.state != "done" or not await export_job.unseen(connection, job, SEEN):
            return job
        try:
            await withdraw(connection, job, job.result, self._worker.place(job), self._worker.projects)
        except SPOILT as error:
            log.error("export not looked at", job=id, error=_told(error))
            told = "Whoever may not be in this export any more cannot be taken out of it now: ask again"
            raise FhirError(Issue("transient", told)) from None
        return await self._find(connection, permit, id)

    async def _keep(self) -> None:
        """Takes out of finished exports what may no longer be in them, and forgets old ones, again and again."""
        while True:
            await asyncio.sleep(LOOKED)
            try:
                await self.look()
            except Exception as error:
                log.error("exports not looked at", error=type(error).__name__, away=away(error))

    async def look(self) -> None:
        """Takes out of finished exports what their permits no longer show, and away those of stopped applications, and
        those that have expired.

        What has been cancelled is removed again: a worker notices within a second.
        """
        await self._tidy()
        async with direct(self._engine) as connection:
            await export_job.revoke(connection)
            for id in await export_job.cancelled(connection, LATELY):
                await self._remove(id)  # what a worker wrote before it noticed
            await withdrawal.forget(connection, KEPT * 2)
            if isinstance(self._worker.places, Folders):
                await tidy(connection, self._worker.places.root)
            for id in await export_job.in_state(connection, "done"):
                job = await export_job.find(connection, id)
                if job is None or job.state != "done" or not (place := self._worker.place(job)).there():
                    continue
                try:
                    await withdraw(connection, job, job.result, place, self._worker.projects)
                except SPOILT as error:  # and the others are looked at all the same
                    log.error("export not looked at", job=id, error=_told(error))

    async def _tidy(self) -> None:
        """Forgets old exports."""
        async with direct(self._engine) as connection:
            for id in await export_job.expired(connection, KEPT):
                if await self._remove(id):
                    await export_job.forget(connection, id)

    async def _remove(self, id: str) -> bool:
        """Removes a job's files. False, and it is to be tried again: an object store does not let them be removed."""
        try:
            await self._worker.places.of(id).clear()
        except Unkept as error:
            log.error("export not removed", job=id, cause=error.cause)
            return False
        return True


async def check_people(connection: Connection, permit: Permit, asked: Selection) -> None:
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
    return FhirError(Issue("not-found", ABSENT))


def _told(error: Exception) -> str:
    """What is logged of an error: of one that quotes what it could not read, the name alone."""
    return str(error) if isinstance(error, (FhirError, OSError)) else type(error).__name__


def _files(job: Job) -> list[dict[str, Any]]:
    return [each for name in ("output", "deleted", "error") for each in job.result.get(name, ())]
