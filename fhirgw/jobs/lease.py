"""Working on parts of jobs under leases: claimed, renewed while it is alive, given back, or failed with a reason.

The one home of it, for exports (fhirgw.jobs.work) and imports (fhirgw.jobs.import_work); what counts is in the ledger
(fhirgw.store.lease).
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Generic, NamedTuple, TypeVar

import structlog

from fhirgw.jobs.alive import named
from fhirgw.meanwhile import meanwhile
from fhirgw.store.database import Connection, Engine, away, direct
from fhirgw.store.lease import Holding, Leases

PULSE = 1.0
"""Seconds between two renewals; a cancellation is noticed as soon."""

TURN = 20.0
"""Seconds a worker stays with one job: then another that waits has its turn."""

log = structlog.get_logger("fhirgw.jobs")
Job = TypeVar("Job")
Part = TypeVar("Part", bound=Holding)


class Lost(Exception):
    """The part is somebody else's by now, or nobody wants it any more."""


class Blame(NamedTuple):
    """Why a part could not be done: `told` in our log, `reason` to whoever asked; `again`: it may go better then."""

    told: str
    reason: str
    again: bool


@asynccontextmanager
async def renewed(keep: Callable[[], Awaitable[bool]], lease: timedelta) -> AsyncIterator[None]:
    """Renews the lease by `keep` while the block runs, and ends the block with Lost when that says no.

    A worker that cannot reach the ledger works on: if its lease runs out meanwhile, its finish is refused.
    """
    working = asyncio.current_task()
    lost = False

    async def renewing() -> None:
        nonlocal lost
        while True:
            await asyncio.sleep(min(PULSE, lease.total_seconds() / 3))
            try:
                held = await keep()
            except Exception:
                held = True  # nobody has said otherwise
            if not held and working is not None:
                lost = True
                working.cancel()
                return

    async with meanwhile(renewing(), "lease"):
        try:
            yield
        except asyncio.CancelledError:
            if lost and working is not None and working.uncancel() == 0:
                raise Lost from None
            raise


async def abreast(
    lanes: int, claim: Callable[[], Awaitable[tuple[Job, Part] | None]], do: Callable[[Job, Part], Awaitable[None]]
) -> None:
    """Does parts as they are claimed, so many at once, until there is nothing more to claim: while one waits for the
    disk, the database or the ledger, another does what takes a processor.

    A part that was begun before may be what took its worker with it: nothing is begun beside it, or parts that are
    sound would run out of attempts together with it.

    Raises what `claim` or `do` raises; the others are cancelled then, as they are when this is.
    """
    doing: set[asyncio.Future[None]] = set()
    try:
        while True:
            again = False
            while len(doing) < lanes and not again and (claimed := await claim()) is not None:
                doing.add(asyncio.ensure_future(do(*claimed)))
                again = claimed[1].attempts > 1
            if not doing:
                return
            when = asyncio.ALL_COMPLETED if again else asyncio.FIRST_COMPLETED
            done, doing = await asyncio.wait(doing, return_when=when)
            await asyncio.gather(*done)
    finally:
        for each in doing:
            each.cancel()
        await asyncio.gather(*doing, return_exceptions=True)


class Work(ABC, Generic[Job, Part]):
    """Does jobs of one kind, part after part, as the ledger gives them out. `name` says in the ledger who it is.

    Any number do the same for one job, wherever they are, if they see the same database and the same folder.
    """

    lanes = 1
    """Parts that it does at once."""

    def __init__(self, engine: Engine, leases: Leases, lease: timedelta) -> None:
        self.engine, self.leases, self.lease = engine, leases, lease
        self.name = named()

    @abstractmethod
    async def claim(self, connection: Connection, id: str) -> tuple[Job, Part] | None:
        """The next part of a job, begun; None where none waits."""

    @abstractmethod
    async def do(self, job: Job, part: Part) -> None:
        """Does a part, and says so in the ledger. Raises Lost, or what kept it from being done."""

    @abstractmethod
    def blame(self, error: Exception) -> Blame:
        """What is to be told of what kept a part from being done."""

    @abstractmethod
    async def conclude(self, id: str) -> None:
        """Ends the job, if all of it is done. What keeps it from that is told, and tried again at the next sweep."""

    async def help(self, id: str, more: Callable[[], Awaitable[None]]) -> bool:
        """Does parts of a job until none waits, or its turn is over; `more` is called when others could help.

        True: there is more to do. Raises what the database raises when it has gone.
        """
        until, asked, over = time.monotonic() + TURN, False, False

        async def claim() -> tuple[Job, Part] | None:
            nonlocal asked, over
            over = over or time.monotonic() > until
            claimed = None if over else await self._claimed(id)
            if claimed is not None and not asked:
                asked = await self._others(id, claimed[1], more)
            return claimed

        await abreast(self.lanes, claim, self.attempt)
        if not over:
            await self.conclude(id)
        return over

    async def attempt(self, job: Job, part: Part) -> None:
        """Does a part, or says in the ledger why not. When it is cancelled, the part goes back."""
        id, number, token = part.held
        try:
            async with self._returned(part):
                await self.do(job, part)
        except Lost:
            log.warning("part given to another", job=id, part=number, token=token)
        except Exception as error:
            told, reason, again = self.blame(error)
            log.error("part failed", job=id, part=number, token=token, error=told, away=away(error))
            async with direct(self.engine) as connection:
                await self.leases.fail(connection, part, reason, again)

    async def running(self) -> list[str]:
        """The jobs that run; what workers that have gone were at, waits."""
        async with direct(self.engine) as connection:
            return [id for id, *_ in await self.swept(connection)]

    async def sweep(self) -> list[str]:
        """Takes parts from workers that have gone, and ends jobs that are done; the jobs of which parts wait."""
        async with direct(self.engine) as connection:
            found = await self.swept(connection)
        for id in [id for id, _, ended in found if ended]:
            await self.conclude(id)
        return [id for id, waiting, ended in found if waiting and not ended]

    async def swept(self, connection: Connection) -> list[tuple[str, bool, bool]]:
        """The jobs that run, whether parts of each wait, whether it ended, once workers that have gone hold none."""
        return await self.leases.sweep(connection)

    async def waiting(self, id: str, most: int) -> list[tuple[int, int]]:
        """Parts of a job that wait, as their number and token, the next ones first."""
        async with direct(self.engine) as connection:
            return await self.leases.waiting(connection, id, most)

    async def _others(self, id: str, part: Part, more: Callable[[], Awaitable[None]]) -> bool:
        """Whether others could help, who are asked then."""
        async with self._returned(part, Exception):
            if not await self.waiting(id, 1):
                return False
            await more()
            return True

    async def _claimed(self, id: str) -> tuple[Job, Part] | None:
        """The next part. Who is stopped meanwhile gives back what the ledger may have given out already."""
        claiming = asyncio.create_task(self._claim(id), name=f"claim of {id}")
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            with suppress(Exception):
                if (claimed := await claiming) is not None:
                    await self._release(claimed[1])
            raise

    async def _claim(self, id: str) -> tuple[Job, Part] | None:
        async with direct(self.engine) as connection:
            return await self.claim(connection, id)

    @asynccontextmanager
    async def _returned(self, part: Part, *besides: type[Exception]) -> AsyncIterator[None]:
        """Gives the part back when the block is cancelled, or ends with such an error."""
        try:
            yield
        except BaseException as error:
            if not isinstance(error, (asyncio.CancelledError, *besides)):
                raise
            with suppress(Exception):
                await asyncio.shield(self._release(part))
            raise

    async def _release(self, part: Part) -> None:
        async with direct(self.engine) as connection:
            await self.leases.release(connection, part)
