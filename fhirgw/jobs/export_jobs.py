"""Exports that run while their callers wait: kicked off, asked about, cancelled, fetched.

Each runs as a task of whoever serves, who owns them all: `async with ExportJobs(...)`. What each is and was is in
the store, so a process that dies takes none of them with it: its jobs are found, and said to have failed.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import structlog

from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.fhir.issue import FhirError, Issue, Resource, outcome
from fhirgw.jobs.entitled import entitled
from fhirgw.jobs.export import Exported, covered, export
from fhirgw.jobs.files import Unwritable
from fhirgw.jobs.withdrawal import withdraw
from fhirgw.private import private_folder
from fhirgw.store import export_job, withdrawal
from fhirgw.store.database import Connection, Engine, away, direct
from fhirgw.store.export import Selection
from fhirgw.store.export_job import Job

AT_ONCE = 2
"""Exports one process runs: more of them would be slower than one after another."""

KEPT = timedelta(hours=24)
"""How long the files of a finished export are there."""

PULSE = 1.0
"""Seconds between two notes of how far an export is; a cancellation by another process is seen as soon."""

ID = re.compile("[0-9a-f]{32}")
"""A job's name, as `kick_off` makes it."""

LOOKED = 10.0
"""Seconds between two looks at what finished exports may no longer hold."""

COPIED = (Purpose.DIRECT_CARE, Purpose.PLANNING, Purpose.RESEARCH, Purpose.PERSON, Purpose.OPERATIONS)
"""Purposes that records are copied for in bulk: never an emergency, never one person's safeguarding."""

INTERRUPTED = "The gateway was stopped while it was exporting: ask for the export again"
log = structlog.get_logger("fhirgw.jobs")


class ExportJobs:
    """The exports below `folder`, a folder each."""

    kept = KEPT

    def __init__(self, engine: Engine, folder: Path) -> None:
        self._engine, self._folder = engine, folder
        self._running: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        await self._tidy()
        self._keeper = asyncio.create_task(self._keep(), name="exports kept")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in (self._keeper, *self._running.values()):
            task.cancel()
        await asyncio.gather(self._keeper, *self._running.values(), return_exceptions=True)

    async def kick_off(self, permit: Permit, selection: Selection, request: str) -> str:
        """Starts an export and names it. Raises FhirError: throttled, or forbidden for a type that was asked for."""
        if permit.purpose not in COPIED:
            told = f"Nothing is exported for the purpose {permit.purpose}: ask for one person's record"
            raise FhirError(Issue("forbidden", told))
        covered(permit, selection.types, named=True)
        if len(self._running) >= AT_ONCE:
            raise FhirError(Issue("throttled", f"{AT_ONCE} exports are running here: ask again when one has ended"))
        await self._tidy()
        with suppress(OSError):  # which the export itself tells
            private_folder(self._folder)
        id = uuid4().hex
        accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._run(id, permit, selection, request, accepted), name=f"export {id}")
        self._running[id] = task
        task.add_done_callback(lambda _: self._running.pop(id))
        await asyncio.wait({task, accepted}, return_when=asyncio.FIRST_COMPLETED)
        if not accepted.done():
            task.result()  # raises what kept it from being accepted
        return id

    async def status(self, permit: Permit, id: str) -> Job:
        """The job as it is; running the first time anyone asks. Raises FhirError(not-found)."""
        async with direct(self._engine) as connection:
            job = await self._find(connection, permit, id)
            if job.state == "running" and await export_job.abandoned(connection, id):
                await self._interrupted(connection, id)
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
        if task := self._running.get(id):
            task.cancel()
            await asyncio.wait({task})
        await self._remove(id)

    async def file(self, permit: Permit, id: str, name: str) -> tuple[Path, str]:
        """A finished file and its SHA-256. Raises FhirError(not-found)."""
        async with direct(self._engine) as connection:
            job = await self._find(connection, permit, id)
        listed = {each["url"]: each["sha256"] for each in job.result["output"]} if job.state == "done" else {}
        if name not in listed:
            raise absent()
        return self._folder / id / name, listed[name]

    async def _find(self, connection: Connection, permit: Permit, id: str) -> Job:
        """The job, for the organisation that asked for it and while it may read what is in it."""
        job = await export_job.find(connection, id) if ID.fullmatch(id) else None
        if job is None or job.state == "cancelled":
            raise absent()
        types = [each["type"] for each in job.result["output"]] if job.state == "done" else job.types
        if not entitled(permit, job.permit, types):
            raise absent()
        return job

    async def _run(
        self, id: str, permit: Permit, selection: Selection, request: str, accepted: asyncio.Future[None]
    ) -> None:
        async with export_job.claimed(self._engine, id) as connection:
            await export_job.accept(connection, id, permit, selection.types, request)
            accepted.set_result(None)
            try:
                await self._watched(connection, id, permit, selection, request)
            except Exception as error:
                # The lock goes with the connection: whoever asks next finds the job abandoned, and says so.
                log.error("export not ended", job=id, error=type(error).__name__, away=away(error))

    async def _watched(
        self, connection: Connection, id: str, permit: Permit, selection: Selection, request: str
    ) -> None:
        """Exports, noting how far it is, until it ends or somebody has cancelled it."""
        so_far = [0, 0, 0]

        def note(rows: int, size: int, expected: int) -> None:
            so_far[:] = rows, size, expected

        place = self._folder / id
        exporting = asyncio.create_task(export(self._engine, permit, selection, place, request=request, progress=note))
        try:
            while not exporting.done():
                await asyncio.wait({exporting}, timeout=PULSE)
                if not await export_job.report(connection, id, *so_far):
                    return
            state, result = _ended(exporting)
            if state == "done" and (job := await export_job.find(connection, id)):
                result = await withdraw(connection, job, result, place)
            await export_job.end(connection, id, state, result)
        except asyncio.CancelledError:
            with suppress(Exception):  # whoever asks next finds the job abandoned
                await export_job.end(connection, id, "failed", _failed("transient", INTERRUPTED))
            raise
        finally:
            exporting.cancel()
            await asyncio.gather(exporting, return_exceptions=True)

    async def _keep(self) -> None:
        """Takes out of finished exports what may no longer be in them, again and again."""
        while True:
            await asyncio.sleep(LOOKED)
            try:
                await self.look()
            except Exception as error:
                log.error("exports not looked at", error=type(error).__name__, away=away(error))

    async def look(self) -> None:
        """Takes out of finished exports what their permits no longer show, and away those of stopped applications."""
        async with direct(self._engine) as connection:
            for id in await export_job.revoked(connection):
                await export_job.end(connection, id, "cancelled")
                await export_job.forget(connection, id)
                await self._remove(id)
            await withdrawal.forget(connection, KEPT * 2)
            finished = await export_job.finished(connection)
        for id in finished:
            async with export_job.claimed(self._engine, id) as connection:
                job = await export_job.find(connection, id)
                if job is not None and job.state == "done" and (self._folder / id).is_dir():
                    await withdraw(connection, job, job.result, self._folder / id)

    async def _tidy(self) -> None:
        """Says of jobs whose process died that they failed, and forgets old ones."""
        async with direct(self._engine) as connection:
            for id in await export_job.unfinished(connection):
                if await export_job.abandoned(connection, id):
                    await self._interrupted(connection, id)
            for id in await export_job.expired(connection, KEPT):
                await self._remove(id)
                await export_job.forget(connection, id)

    async def _interrupted(self, connection: Connection, id: str) -> None:
        # It may have ended between the look at its state and the look at its lock: then its files stay.
        if await export_job.end(connection, id, "failed", _failed("transient", INTERRUPTED)):
            await self._remove(id)

    async def _remove(self, id: str) -> None:
        await asyncio.to_thread(shutil.rmtree, self._folder / id, ignore_errors=True)


def absent() -> FhirError:
    """The answer for an export that does not exist, and for one that is somebody else's."""
    return FhirError(Issue("not-found", "There is no such export"))


def _ended(exporting: asyncio.Task[Exported]) -> tuple[str, dict[str, Any]]:
    """The state an export ended in, with its manifest or the outcome that says why not."""
    try:
        return "done", exporting.result().manifest()
    except Unwritable as error:
        # The message names a folder of ours; that is for our log.
        log.error("export failed", error=str(error))
        return "failed", _failed("exception", "The gateway cannot write the export: its operators have to make room")
    except FhirError as error:
        return "failed", error.outcome()
    except Exception as error:
        log.error("export failed", error=type(error).__name__, away=away(error))
        if away(error):
            return "failed", _failed("transient", "The database went away during it: ask for the export again")
        return "failed", _failed("exception", "The export failed; the gateway's log says where")


def _failed(code: str, diagnostics: str) -> Resource:
    return outcome([Issue(code, diagnostics)])
