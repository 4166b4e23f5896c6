"""What a worker does: one part after another of a job, as the ledger gives them out, until none waits; then its end.

Any number of workers do the same for one job, wherever they are, if they see the same database and the same place for
its files (fhirgw.jobs.place).
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import structlog

from fhirgw.fhir.issue import FhirError
from fhirgw.jobs.conclusion import conclude
from fhirgw.jobs.files import Unwritable
from fhirgw.jobs.lease import Blame, Work
from fhirgw.jobs.parts import run_part
from fhirgw.jobs.place import Folder, Folders, Place, Places, Unkept
from fhirgw.jobs.projects import Projects
from fhirgw.store import export_job, ledger
from fhirgw.store.database import Connection, Engine, away, direct
from fhirgw.store.export_job import Job
from fhirgw.store.lease import LEASE
from fhirgw.store.ledger import Part

NOWHERE = Path(os.devnull)
"""Has no keys of projects below it."""

LANES = 3
"""Parts that a process does at once: one is read, one is being saved to disk, one is claimed or said to be done."""

ROOM = "The gateway cannot write the export: its operators have to make room"
GONE = "The database went away during it, each time: ask for the export again"
FAULT = "The export failed; the gateway's log says where"
log = structlog.get_logger("fhirgw.jobs")


class Worker(Work[Job, Part]):
    """Works on exports whose files are in `places`, or below that folder; `name` says where, for the ledger.

    `projects`: the keys of those who get pseudonyms.
    """

    lanes = LANES

    def __init__(
        self, engine: Engine, places: Path | Places, lease: timedelta = LEASE, projects: Projects | None = None
    ) -> None:
        super().__init__(engine, ledger.LEASES, lease)
        self.places = Folders(places) if isinstance(places, Path) else places
        self.projects = projects or Projects(places / ".projects" if isinstance(places, Path) else NOWHERE)

    def place(self, job: Job) -> Place:
        """Where the files of a job are: a folder of its own, or where those of all are."""
        return Folder(Path(job.place)) if job.place else self.places.of(job.id)

    async def claim(self, connection: Connection, id: str) -> tuple[Job, Part] | None:
        """The next part of a job, begun; None where none waits."""
        part = await ledger.claim(connection, id, self.name, self.lease)
        job = await export_job.find(connection, id) if part else None
        return (job, part) if part and job else None

    async def do(self, job: Job, part: Part) -> None:
        """Does a part."""
        await run_part(self.engine, self.place(job), job, part, self.lease, self.projects.of(job))

    def blame(self, error: Exception) -> Blame:
        """What is to be told of what kept a part from being done."""
        match error:
            case Unwritable():  # the message names a folder of ours; that is for our log
                return Blame(str(error), ROOM, again=False)
            case Unkept():  # the store may take it the next time
                return Blame(error.cause, str(error), again=True)
            case FhirError():
                return Blame(str(error), str(error), again=False)
        return Blame(type(error).__name__, GONE if away(error) else FAULT, again=True)

    async def sweep(self) -> list[str]:
        """As for all work; and tries again to remove what could not be removed."""
        await self.places.tidy()
        return await super().sweep()

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
