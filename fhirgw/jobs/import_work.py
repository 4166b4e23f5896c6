"""What a worker does for imports: one input after another, as the ledger gives them out, when none is left, the end.

Any number of workers do the same for one import, each at an input of its own. See fhirgw.jobs.work, for exports.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
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
from fhirgw.jobs.line import helpers, judges
from fhirgw.jobs.lines import Unreadable
from fhirgw.jobs.parts import PULSE, Lost
from fhirgw.jobs.sources import Sources
from fhirgw.jobs.taking import take
from fhirgw.jobs.work import TURN
from fhirgw.private import private_folder
from fhirgw.store import import_job
from fhirgw.store.database import Connection, Engine, away, direct
from fhirgw.store.import_job import Input, Job
from fhirgw.store.ledger import LEASE

ROOM = "The gateway cannot keep what it fetches: its operators have to make room"
GONE = "The database went away while it was taken in, each time: import it again"
FAULT = "Taking it in failed; the gateway's log says where"
log = structlog.get_logger("fhirgw.jobs")


class Importer:
    """Works on imports from `sources`; what it fetches, and what is told of errors, is below `folder`."""

    def __init__(self, engine: Engine, folder: Path, sources: Sources, longest: int, lease: timedelta = LEASE) -> None:
        self.engine, self.folder, self.sources, self.lease = engine, folder, sources, lease
        self.longest = longest
        self.name = f"{socket.gethostname()}:{os.getpid()}"

    async def help(self, id: str, more: Callable[[], Awaitable[None]]) -> bool:
        """Takes in inputs of a job until none waits, or its turn is over; `more` is called when others could help.

        True: there is more to do.
        """
        until, asked = time.monotonic() + TURN, False
        while True:
            async with direct(self.engine) as connection:
                held = await import_job.claim(connection, id, self.name, self.lease)
                job = await import_job.find(connection, id)
            if held is None or job is None:
                break
            if not asked:
                asked = True
                await more()
            await self.attempt(job, held)
            if time.monotonic() > until:
                return True
        await self.conclude(id)
        return False

    async def running(self) -> list[str]:
        """The jobs that run."""
        async with direct(self.engine) as connection:
            return [id for id, *_ in await import_job.sweep(connection)]

    async def sweep(self) -> list[str]:
        """Takes inputs from workers that have gone, and ends jobs that are done; the jobs of which inputs wait."""
        async with direct(self.engine) as connection:
            found = await import_job.sweep(connection)
        for id in [id for id, _, ended in found if ended]:
            await self.conclude(id)
        return [id for id, waiting, ended in found if waiting and not ended]

    async def attempt(self, job: Job, held: Input) -> None:
        """Takes in an input, or says in the ledger why not. The lines of a large one are judged by other processes."""
        kept = self.folder / job.id / f"{held.number}.input"
        try:
            async with self._renewed(held):
                path = await self.sources.text(held.source, kept)
                with judges(helpers(_size(path))) as judging:
                    await take(self.engine, job, held, path, judging, self.longest, self.lease)
            with suppress(OSError):
                kept.unlink()
        except Lost:
            log.warning("input given to another", job=job.id, input=held.number)
        except asyncio.CancelledError:
            with suppress(Exception):
                await asyncio.shield(self._release(held))
            raise
        except Unwritable as error:
            log.error("input not kept", job=job.id, input=held.number, error=str(error))
            await self._unreadable(held, Unreadable(ROOM))
        except FhirError as error:
            await self._unreadable(held, error)
        except Exception as error:
            log.error("input failed", job=job.id, input=held.number, error=type(error).__name__, away=away(error))
            async with direct(self.engine) as connection:
                await import_job.again(connection, held, GONE if away(error) else FAULT)

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
                part.unlink()
                return None
            part.replace(folder / name)
        except OSError as error:
            raise Unwritable(folder, error) from error
        listed = {"input": of.source, "url": name, "count": written.lines}
        return {**listed, "bytes": written.bytes, "sha256": written.sha256}

    async def _unreadable(self, held: Input, error: FhirError) -> None:
        """There is nothing to be had of an input, and it is told why."""
        async with direct(self.engine) as connection:
            await import_job.end(connection, held, str(error))

    async def _release(self, held: Input) -> None:
        async with direct(self.engine) as connection:
            await import_job.release(connection, held)

    @asynccontextmanager
    async def _renewed(self, held: Input) -> AsyncIterator[None]:
        """Renews the lease while the block runs, and ends the block with Lost when it cannot be renewed."""
        working = asyncio.current_task()
        lost = False

        async def renewing() -> None:
            nonlocal lost
            while True:
                await asyncio.sleep(min(PULSE, self.lease.total_seconds() / 3))
                try:
                    async with direct(self.engine) as connection:
                        kept = await import_job.renew(connection, held, self.lease)
                except Exception:
                    kept = True  # nobody has said otherwise
                if not kept and working is not None:
                    lost = True
                    working.cancel()
                    return

        renewal = asyncio.create_task(renewing(), name=f"lease of {held.job}/{held.number}")
        try:
            yield
        except asyncio.CancelledError:
            if lost and working is not None and working.uncancel() == 0:
                raise Lost from None
            raise
        finally:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)


def _size(path: Path) -> int:
    """How large a file is; nothing for one that is not there, which is told where it is read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
