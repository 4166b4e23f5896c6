"""Imports for callers: kicked off, asked about, cancelled, and what was wrong told.

Who works on each is a matter of the workers (fhirgw.jobs.import_work), this process being one of them if it is to.
`async with ImportJobs(...)` owns its connections to the queue, and what it works on.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from uuid import uuid4

import structlog

from fhirgw.access import writing
from fhirgw.access.permit import Permit
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.jobs.engine import IMPORTS, PROCRASTINATE, executor
from fhirgw.jobs.entitled import SAME
from fhirgw.jobs.export_jobs import ID, KEPT, LOOKED
from fhirgw.jobs.files import DATA
from fhirgw.jobs.import_work import Importer
from fhirgw.jobs.place import MEDIA, File
from fhirgw.meanwhile import meanwhile
from fhirgw.store import import_job
from fhirgw.store.database import Connection, away, direct
from fhirgw.store.import_job import COUNTS, Job

AT_ONCE = 2
"""Imports of one application that run: it waits for one of them before it has another."""

log = structlog.get_logger("fhirgw.jobs")

Source = tuple[str, str]
"""What is to be imported: resources of one type, and the address they are at."""


@dataclass(frozen=True, slots=True)
class Status:
    """An import as it is: `inputs` of it, of which `ended` are at their end, and lines by COUNTS.

    `believed`: seconds until others take what is worked on, unless there is a sign of life; None where nobody is at it.
    """

    job: Job
    inputs: int
    ended: int
    running: int
    counts: dict[str, int]
    believed: int | None


class ImportJobs:
    """The imports that an importer works on; `working`: this process does its share of the work, if Procrastinate moves
    it; `moved`: who does, as FHIRGW_EXECUTOR says.
    """

    kept = KEPT

    def __init__(self, importer: Importer, *, working: bool = True, moved: str = PROCRASTINATE) -> None:
        self._importer, self._working = importer, working
        self._engine = importer.engine
        self._queue = executor(moved, self._engine.url.render_as_string(hide_password=False), importer, IMPORTS)
        self._owned = AsyncExitStack()
        self.lease = importer.lease

    async def __aenter__(self) -> Self:
        await self._tidy()
        await self._owned.enter_async_context(self._queue.opened())
        if self._working:
            await self._owned.enter_async_context(self._queue.working())
        await self._owned.enter_async_context(meanwhile(self._keep(), "imports kept"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._owned.aclose()

    async def kick_off(self, permit: Permit, sources: Sequence[Source], bases: Sequence[str], request: str) -> str:
        """Writes an import down and names it. Raises FhirError: forbidden, throttled, what is wrong with a source."""
        _check(permit, sources)
        for _, url in sources:
            self._importer.sources.check(url)
        id = uuid4().hex
        async with direct(self._engine) as connection, connection.transaction():
            if await import_job.under_way(connection, permit) >= AT_ONCE:
                raise FhirError(Issue("throttled", f"{AT_ONCE} imports are running here: ask again when one has ended"))
            inputs = [(url, kind) for kind, url in sources]
            await import_job.accept(connection, id, permit, writing.origin(permit), request, inputs, bases=bases)
        await self._queue.ask(id)
        return id

    async def status(self, permit: Permit, id: str) -> Status:
        """The import as it is; running the first time anyone asks. Raises FhirError(not-found)."""
        async with direct(self._engine) as connection:
            job = await self._find(connection, permit, id)
            rows = await import_job.inputs(connection, id)
            if not job.polled:
                await import_job.poll(connection, id)
        ended = sum(each["state"] in ("done", "failed") for each in rows)
        running = sum(each["state"] == "running" for each in rows)
        counts = {name: sum(each[name] for each in rows) for name in COUNTS}
        believed = max((each["believed"] for each in rows if each["state"] == "running"), default=None)
        return Status(job, len(rows), ended, running, counts, believed)

    async def cancel(self, permit: Permit, id: str) -> None:
        """Ends the import: what was taken in stays, nothing more comes. Raises FhirError(not-found)."""
        async with direct(self._engine) as connection:
            await self._find(connection, permit, id)
            if not await import_job.finish(connection, id, "cancelled"):
                await import_job.forget(connection, id)
        await self._remove(id)

    async def file(self, permit: Permit, id: str, name: str) -> File:
        """A file of what was wrong. Raises FhirError(not-found)."""
        async with direct(self._engine) as connection:
            job = await self._find(connection, permit, id)
        listed = {each["url"]: each for each in (job.result or {}).get("error", ())}
        if name not in listed:
            raise absent()
        told = listed[name]
        path = self._importer.folder / id / name
        return File(path, "OperationOutcome", told["bytes"], told["sha256"], False, MEDIA[DATA])

    async def _find(self, connection: Connection, permit: Permit, id: str) -> Job:
        """The job, for the application that asked for it."""
        job = await import_job.find(connection, id) if ID.fullmatch(id) else None
        if job is None or job.state == "cancelled" or job.local:
            raise absent()
        if any(getattr(job.permit, each) != getattr(permit, each) for each in SAME):
            raise absent()
        return job

    async def _keep(self) -> None:
        """Forgets old imports, again and again: what they fetched is about people."""
        while True:
            await asyncio.sleep(LOOKED)
            try:
                await self._tidy()
            except Exception as error:
                log.error("imports not looked at", error=type(error).__name__, away=away(error))

    async def _tidy(self) -> None:
        """Forgets old imports."""
        async with direct(self._engine) as connection:
            for id in await import_job.expired(connection, KEPT):
                await self._remove(id)
                await import_job.forget(connection, id)

    async def _remove(self, id: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._importer.folder / id, ignore_errors=True)


def absent() -> FhirError:
    """The answer for an import that does not exist, and for one that is somebody else's."""
    return FhirError(Issue("not-found", "There is no such import"))


def _check(permit: Permit, sources: Sequence[Source]) -> None:
    """Raises FhirError(forbidden) for who may not import, or not resources of these types."""
    writing.check_imports(permit)
    for kind in dict.fromkeys(kind for kind, _ in sources):
        for verb in "cu":
            writing.check_type(permit, verb, kind)
            if not any(scope.context == "system" for scope in permit.covering(verb, kind)):
                raise FhirError(Issue("forbidden", f"An import needs a system scope that writes {kind}"))
