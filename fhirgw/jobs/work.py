"""What a worker does: one part after another of a job, as the ledger gives them out, until none waits; then its end.

Any number of workers do the same for one job, wherever they are, if they see the same database and the same place for
its files (fhirgw.jobs.place).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import structlog

from fhirgw.fhir.issue import FhirError
from fhirgw.jobs.conclusion import conclude
from fhirgw.jobs.files import Unwritable
from fhirgw.jobs.parts import Lost, run_part
from fhirgw.jobs.place import Folder, Folders, Place, Places, Unkept
from fhirgw.jobs.projects import Projects
from fhirgw.store import export_job, ledger
from fhirgw.store.database import Engine, away, direct
from fhirgw.store.export_job import Job
from fhirgw.store.ledger import LEASE, Part

TURN = 20.0
"""Seconds a worker stays with one job: then another that waits has its turn."""

NOWHERE = Path(os.devnull)
"""Has no keys of projects below it."""

ROOM = "The gateway cannot write the export: its operators have to make room"
GONE = "The database went away during it, each time: ask for the export again"
FAULT = "The export failed; the gateway's log says where"
log = structlog.get_logger("fhirgw.jobs")


class Worker:
    """Works on exports whose files are in `places`, or below that folder; `name` says where, for the ledger.

    `projects`: the keys of those who get pseudonyms.
    """

    def __init__(
        self, engine: Engine, places: Path | Places, lease: timedelta = LEASE, projects: Projects | None = None
    ) -> None:
        self.places = Folders(places) if isinstance(places, Path) else places
        self.engine, self.lease = engine, lease
        self.projects = projects or Projects(places / ".projects" if isinstance(places, Path) else NOWHERE)
        self.name = f"{socket.gethostname()}:{os.getpid()}"

    def place(self, job: Job) -> Place:
        """Where the files of a job are: a folder of its own, or where those of all are."""
        return Folder(Path(job.place)) if job.place else self.places.of(job.id)

    async def help(self, id: str, more: Callable[[], Awaitable[None]]) -> bool:
        """Does parts of a job until none waits, or its turn is over; `more` is called when others could help.

        True: there is more to do. Raises what the database raises when it has gone.
        """
        until, asked = time.monotonic() + TURN, False
        while True:
            async with direct(self.engine) as connection:
                part = await ledger.claim(connection, id, self.name, self.lease)
                job = await export_job.find(connection, id)
            if part is None or job is None:
                break
            if not asked and job.parts - job.done - job.running > 0:
                asked = True
                await more()
            await self.attempt(job, part)
            if time.monotonic() > until:
                return True
        await self.conclude(id)
        return False

    async def conclude(self, id: str) -> None:
        """Ends the job, if all of it is done. What keeps it from that is told, and tried again at the next sweep."""
        async with direct(self.engine) as connection:
            job = await export_job.find(connection, id)
            if job is None:
                return
            try:
                await conclude(connection, id, self.place(job), self.projects)
            except FhirError as error:
                log.error("export not ended", job=id, error=str(error))

    async def running(self) -> list[str]:
        """The jobs that run."""
        async with direct(self.engine) as connection:
            return await export_job.in_state(connection, "running")

    async def sweep(self) -> list[str]:
        """Takes parts from workers that have gone, and ends jobs that are done; the jobs of which parts wait."""
        await self.places.tidy()
        async with direct(self.engine) as connection:
            found = await ledger.sweep(connection)
        for id in [id for id, _, ended in found if ended]:
            await self.conclude(id)
        return [id for id, waiting, ended in found if waiting and not ended]

    async def attempt(self, job: Job, part: Part) -> None:
        """Does a part, or says in the ledger why not."""
        try:
            await run_part(self.engine, self.place(job), job, part, self.lease, self.projects.of(job))
        except Lost:
            log.warning("part given to another", job=job.id, part=part.number, attempt=part.attempts)
        except asyncio.CancelledError:
            with suppress(Exception):
                await asyncio.shield(self._release(part))
            raise
        except Unwritable as error:
            # The message names a folder of ours; that is for our log.
            await self._failed(part, error, str(error), ROOM, again=False)
        except Unkept as error:  # the store may take it the next time
            await self._failed(part, error, error.cause, str(error), again=True)
        except FhirError as error:
            await self._failed(part, error, str(error), str(error), again=False)
        except Exception as error:
            await self._failed(part, error, type(error).__name__, GONE if away(error) else FAULT, again=True)

    async def _release(self, part: Part) -> None:
        async with direct(self.engine) as connection:
            await ledger.release(connection, part)

    async def _failed(self, part: Part, error: Exception, told: str, reason: str, again: bool) -> None:
        log.error("part failed", job=part.job, part=part.number, attempt=part.attempts, error=told, away=away(error))
        async with direct(self.engine) as connection:
            await ledger.fail(connection, part, reason, again)
