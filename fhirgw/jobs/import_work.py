"""What a worker does for imports: one input after another, as the ledger gives them out, when none is left, the end.

Any number of workers do the same for one import, each at an input of its own. See fhirgw.jobs.work, for exports.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from fhirgw.fhir.issue import FhirError
from fhirgw.jobs import import_end
from fhirgw.jobs.export import instant
from fhirgw.jobs.files import DATA, Unwritable, draft
from fhirgw.jobs.import_end import Came
from fhirgw.jobs.lease import Blame, Work, renewed
from fhirgw.jobs.line import helpers, judges
from fhirgw.jobs.lines import PARQUET
from fhirgw.jobs.sources import Sources
from fhirgw.jobs.taking import named, take
from fhirgw.private import private_folder
from fhirgw.store import import_job
from fhirgw.store.database import Connection, Engine, away, direct
from fhirgw.store.import_job import Input, Job
from fhirgw.store.lease import LEASE

REMEDY = "give this worker the FHIRGW_IMPORT_FOLDER and FHIRGW_IMPORT_ORIGINS of whoever serves"
ROOM = "The gateway cannot keep what it fetches: its operators have to make room"
GONE = "The database went away while it was taken in, each time: import it again"
FAULT = "Taking it in failed; the gateway's log says where"
log = structlog.get_logger("fhirgw.jobs")


class Importer(Work[Job, Input]):
    """Works on imports from `sources`; what it fetches, and what is told of errors, is below `folder`."""

    def __init__(self, engine: Engine, folder: Path, sources: Sources, longest: int, lease: timedelta = LEASE) -> None:
        super().__init__(engine, import_job.LEASES, lease)
        self.folder, self.sources, self.longest = folder, sources, longest
        self._left: dict[str, list[str]] = {}

    async def claim(self, connection: Connection, id: str) -> tuple[Job, Input] | None:
        """The next input of a job, begun; None where none waits."""
        unseen = await self._unseen(connection, id)
        held = await import_job.claim(connection, id, self.name, self.lease, unseen=unseen)
        job = await import_job.find(connection, id) if held else None
        return (job, held) if held and job else None

    async def running(self) -> list[str]:
        """As for all work, but for jobs of which only others can do what there is to do."""
        async with direct(self.engine) as connection:
            ids = [id for id, *_ in await self.swept(connection)]
            return [id for id in ids if not await import_job.left(connection, id, await self._unseen(connection, id))]

    async def _unseen(self, connection: Connection, id: str) -> list[str]:
        """The sources of a job that this worker's settings do not let it read: another's will, and if none do, the
        status says so.
        """
        if id not in self._left:
            sources = [each["source"] for each in await import_job.inputs(connection, id)]
            self._left = {id: [each for each in sources if not self.sources.named(each)]}
            if self._left[id]:
                log.warning("inputs left to others", job=id, inputs=len(self._left[id]), remedy=REMEDY)
        return self._left[id]

    async def do(self, job: Job, part: Input) -> None:
        """Takes in an input. The lines of a large one are judged by other processes."""
        kept = self.folder / job.id / f"{part.number}.input{PARQUET if named(part).endswith(PARQUET) else ''}"

        async def keep() -> bool:
            async with direct(self.engine) as connection:
                return await import_job.renew(connection, part, lease=self.lease)

        async with _gone(kept), renewed(keep, self.lease):
            path = await self.sources.text(part.source, kept)
            with judges(helpers(_size(path))) as judging:
                await take(self.engine, job, part, path, judging, self.longest, self.lease)

    def blame(self, error: Exception) -> Blame:
        """What is to be told of what kept an input from being taken in."""
        match error:
            case Unwritable():  # the message names a folder of ours; that is for our log
                return Blame(str(error), ROOM, again=False)
            case FhirError():
                return Blame(error.issues[0].code, str(error), again=False)
        return Blame(type(error).__name__, GONE if away(error) else FAULT, again=True)

    async def swept(self, connection: Connection) -> list[tuple[str, bool, bool]]:
        """As for all work; and imports of stopped applications are cancelled."""
        return await import_job.sweep(connection)

    async def conclude(self, id: str) -> None:
        """Ends the job, if all its inputs have: what came of each, and what is told of errors, in files."""
        async with direct(self.engine) as connection:
            job = await import_job.find(connection, id)
            if job is None or job.state != "running" or not await import_job.ended(connection, id):
                return
            came = await import_end.came(connection, job)
            try:
                error = [each for of in came if (each := await self._told(connection, job, of))]
            except Unwritable as failed:
                log.error("import not ended", job=id, error=str(failed))
                return
            result = {
                "transactionTime": instant(job.created),
                "output": [each.as_json() for each in came],
                "error": error,
            }
            await import_end.settled(connection, came)
            await import_job.finish(connection, id, "done", result)

    async def _told(self, connection: Connection, job: Job, of: Came) -> dict[str, Any] | None:
        """The file that tells what was wrong with an input; None where nothing was. Raises Unwritable."""
        name, folder = f"errors-{of.number}{DATA}", self.folder / job.id
        part = folder / f".{name}.{uuid4().hex}"
        try:
            await asyncio.to_thread(private_folder, folder)
            with draft(part) as drafted:
                async for line in import_end.errors(connection, job, of):
                    drafted.write(line.encode() + b"\n")
                written = await asyncio.to_thread(drafted.finish)
            if not written.lines:
                return None
            part.replace(folder / name)
        except OSError as error:
            raise Unwritable(folder, error) from error
        finally:
            with suppress(OSError):
                part.unlink()  # what could not be finished would only take more of the room that is wanting
        listed = {"input": of.source, "url": name, "count": written.lines}
        return {**listed, "bytes": written.bytes, "sha256": written.sha256}


@asynccontextmanager
async def _gone(kept: Path) -> AsyncIterator[None]:
    """Removes what was fetched of an input, once it is taken in, or there is nothing to be had of it."""
    try:
        yield
    except FhirError:
        _remove(kept)
        raise
    _remove(kept)


def _remove(kept: Path) -> None:
    with suppress(OSError):
        kept.unlink()


def _size(path: Path) -> int:
    """How large a file is; nothing for one that is not there, which is told where it is read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
