"""What a worker of Dask's does: it helps with a job, as a worker of Procrastinate's would.

    dask worker tls://scheduler:8786 --nthreads 1 --resources fhirgw=1 --preload fhirgw.jobs.cluster_work

Its settings are the environment's, the database's address among them; a task brings nothing but the name of a job. All
that is asynchronous runs on a loop of its own, in a thread, so that the worker's own loop, by which the scheduler knows
that it lives, never waits for us. With `--preload` it connects when the worker starts, sweeps from then on, and gives
back what it is at when the worker is told to stop; without, it does so from its first task on, and what it was at comes
back when its lease has run out. https://docs.dask.org/en/stable/how-to/customize-initialization.html
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import structlog
from distributed import Worker as DaskWorker
from distributed import get_worker

from fhirgw.jobs.cluster import Cluster
from fhirgw.jobs.engine import EXPORTS, IMPORTS, Help
from fhirgw.jobs.workers import made_importer, made_worker
from fhirgw.log import configure_log
from fhirgw.settings import Settings
from fhirgw.store.database import connect
from fhirgw.store.migrate import check
from fhirgw.store.server import database

log = structlog.get_logger("fhirgw.jobs")
Helpers = dict[str, tuple[Help, Cluster]]

_home: Home | None = None
_one = threading.Lock()


def help(kind: str, job: str) -> None:
    """The task: does parts of the job, of a kind of work, until none waits or others are to have their turn.

    What goes wrong is in the ledger or in our log, and nothing of it goes to the scheduler: what is not done waits, and
    a sweep has it told again.
    """
    worker = get_worker()
    try:
        _at_home(worker).help(kind, job)
    except CancelledError:
        log.warning("stopped", kind=kind, job=job)
    except Exception as error:
        log.error("help interrupted", kind=kind, job=job, error=type(error).__name__)


async def dask_setup(worker: DaskWorker) -> None:
    """Connects, before the scheduler knows of the worker. Raises what keeps it from that."""
    await asyncio.to_thread(_at_home, worker)


async def dask_teardown(worker: DaskWorker) -> None:
    """Gives back what is being worked on."""
    if _home is not None:
        await asyncio.to_thread(_home.end)


def _at_home(worker: DaskWorker) -> Home:
    global _home
    with _one:
        if _home is None:
            _home = Home(Settings(), worker.scheduler.address, worker.security)  # type: ignore[call-arg]
        return _home


class Home:
    """A loop in a thread of its own, and on it those who help, for as long as the process lives. Raises what keeps
    them from their settings or their database.
    """

    def __init__(self, given: Settings, at: str, security: Any) -> None:
        configure_log(given)
        self._given, self._at, self._security = given, at, security
        self._helping: set[asyncio.Task[None]] = set()
        self._begun: Future[Helpers] = Future()
        self._thread = threading.Thread(target=self._live, name="fhirgw", daemon=True)
        self._thread.start()
        self._helpers = self._begun.result()

    def help(self, kind: str, job: str) -> None:
        """Waits until the job has been helped with. Raises CancelledError when that was stopped."""
        asyncio.run_coroutine_threadsafe(self._help(kind, job), self._loop).result()

    def end(self) -> None:
        """Stops those who help, and gives back what they were at."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _live(self) -> None:
        try:
            asyncio.run(self._until_stopped())
        except BaseException as error:
            if self._begun.done():
                raise
            self._begun.set_exception(error)

    async def _until_stopped(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        async with _helpers(self._given, self._at, self._security) as found:
            self._begun.set_result(found)
            await self._stopped.wait()
            for each in self._helping:
                each.cancel()
            await asyncio.gather(*self._helping, return_exceptions=True)

    async def _help(self, kind: str, job: str) -> None:
        """As a worker of Procrastinate's; see fhirgw.jobs.engine."""
        if self._stopped.is_set():  # what began now, nobody would stop
            raise asyncio.CancelledError
        worker, cluster = self._helpers[kind]

        async def more() -> None:
            await cluster.ask(job)

        helping = asyncio.create_task(_helped(worker, job, more), name=f"help with {job}")
        self._helping.add(helping)
        helping.add_done_callback(self._helping.discard)
        await helping


async def _helped(worker: Help, job: str, more: Callable[[], Awaitable[None]]) -> None:
    if await worker.help(job, more):
        await more()


@asynccontextmanager
async def _helpers(given: Settings, at: str, security: Any) -> AsyncIterator[Helpers]:
    """Who helps with each kind of work, and who tells the scheduler of more."""
    async with database(given.database_url, given.postgres) as url, AsyncExitStack() as owned:
        engine = connect(url, size=given.connections)
        owned.push_async_callback(engine.dispose)
        await check(engine)
        made: Helpers = {}
        for kind, worker in ((EXPORTS, made_worker(given, engine)), (IMPORTS, made_importer(given, engine))):
            cluster = Cluster(at, worker, kind, security)
            made[kind] = worker, await owned.enter_async_context(cluster.opened())
        yield made
