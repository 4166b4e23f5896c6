"""Who moves the work: Procrastinate, which needs nothing but the PostgreSQL that is there; or a Dask cluster.

Whichever it is tells workers that a part of a job is ready, and that is all: which part, who has it, how often it was
begun and what it came to are the ledger's (fhirgw.store.ledger), so what is told may be lost, or told twice.

Dask is in fhirgw.jobs.cluster; here is Procrastinate, https://procrastinate.readthedocs.io. A worker that takes what is
queued recruits the next, as long as parts wait: one notification for each worker that joins, none for each part. The
job of a worker that was killed stays `doing` for ever, so every process sweeps: what the ledger says waits is queued
again, and what nobody does any more is removed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Protocol

import structlog
from procrastinate import App, PsycopgConnector
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Status

from fhirgw.meanwhile import meanwhile
from fhirgw.store.database import away, plain
from fhirgw.store.queue import OPTIONS

EXPORTS = "exports"
IMPORTS = "imports"
PROCRASTINATE = "procrastinate"
HELP = "help"
SWEPT = 5.0
"""Seconds between two sweeps of a process."""

STALLED = 60.0
"""Seconds without a heartbeat after which Procrastinate's own note of a worker's job is removed."""

log = structlog.get_logger("fhirgw.jobs")


class Executor(Protocol):
    """What has workers do `Worker.help` for a job."""

    def opened(self) -> AbstractAsyncContextManager[Executor]:
        """Connects; sweeps again and again until the block ends."""

    async def ask(self, id: str) -> None:
        """Has somebody help with the job, soon; twice is once."""

    async def sweep(self) -> None:
        """Has what waits worked on, whoever was to do it."""

    def working(self) -> AbstractAsyncContextManager[None]:
        """Works in this process while the block runs."""


class Help(Protocol):
    """Who does the work: fhirgw.jobs.work.Worker, fhirgw.jobs.import_work.Importer."""

    name: str

    async def help(self, id: str, more: Callable[[], Awaitable[None]]) -> bool: ...
    async def sweep(self) -> list[str]: ...
    async def waiting(self, id: str, most: int) -> list[tuple[int, int]]: ...


def executor(told: str, url: str, worker: Help, name: str = EXPORTS) -> Executor:
    """The one that the setting FHIRGW_EXECUTOR names, for one kind of work."""
    if told == PROCRASTINATE:
        return Queue(url, worker, name)
    from fhirgw.jobs.cluster import Cluster, address  # here, because it is Dask's only

    return Cluster(address(told), worker, name)


@asynccontextmanager
async def swept(sweep: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Sweeps again and again while the block runs."""

    async def again() -> None:
        while True:
            await asyncio.sleep(SWEPT)
            try:
                await sweep()
            except Exception as error:
                log.error("jobs not swept", error=type(error).__name__, away=away(error))

    async with meanwhile(again(), "jobs swept"):
        yield


class Queue:
    """The Procrastinate executor; it is open while its block runs. `name`: each kind of work has a queue of its own."""

    def __init__(self, url: str, worker: Help, name: str = EXPORTS) -> None:
        self._worker, self._name = worker, name
        connector = PsycopgConnector(conninfo=plain(url), min_size=1, max_size=4, kwargs={"options": OPTIONS})
        self._app = App(connector=connector)
        self._app.task(name=HELP, queue=name)(self._help)
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL)  # what goes wrong is in the ledger, and our log

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Queue]:
        """Connects; sweeps again and again until the block ends."""
        async with self._app.open_async(), swept(self.sweep):
            yield self

    async def ask(self, id: str) -> None:
        """Has somebody help with the job, soon; twice is once."""
        with suppress(AlreadyEnqueued):
            await self._app.configure_task(HELP, queue=self._name, queueing_lock=id).defer_async(job=id)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Works in this process while the block runs, on one part at a time; the part it is at goes back at the end."""
        async with meanwhile(self.work(), "exports worked on"):
            yield

    async def work(self) -> None:
        """Works until it is cancelled; when the database has been away, again."""
        while True:
            try:
                await self._app.run_worker_async(
                    queues=[self._name],
                    name=self._worker.name,
                    concurrency=1,
                    delete_jobs="always",
                    install_signal_handlers=False,
                    shutdown_graceful_timeout=0,
                    fetch_job_polling_interval=SWEPT,  # it is notified; this is for what went amiss
                )
            except Exception as error:
                log.error("worker interrupted", error=type(error).__name__, away=away(error))
            await asyncio.sleep(1)

    async def _help(self, job: str) -> None:
        async def more() -> None:
            await self.ask(job)

        if await self._worker.help(job, more):
            await self.ask(job)

    async def sweep(self) -> None:
        """Has what waits worked on, whoever was to do it; forgets what workers that have gone were doing."""
        for id in await self._worker.sweep():
            await self.ask(id)
        jobs = self._app.job_manager
        for each in await jobs.get_stalled_jobs(queue=self._name, seconds_since_heartbeat=STALLED):
            await jobs.finish_job(each, Status.FAILED, delete_job=True)
