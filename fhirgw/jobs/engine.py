"""Who moves the work: Procrastinate, which needs nothing but the PostgreSQL that is there.

https://procrastinate.readthedocs.io. What is queued says "help with this export" and no more: which parts there are and
who does them is the ledger's. A worker that takes it recruits the next, as long as parts wait: one notification for
each worker that joins, none for each part. The job of a worker that was killed stays `doing` for ever, so every process
sweeps: what the ledger says waits is queued again, and what nobody does any more is removed.
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

from fhirgw.store.database import away, plain
from fhirgw.store.queue import OPTIONS

QUEUE = "exports"
HELP = "help"
SWEPT = 5.0
"""Seconds between two sweeps of a process."""

STALLED = 60.0
"""Seconds without a heartbeat after which Procrastinate's own note of a worker's job is removed."""

log = structlog.get_logger("fhirgw.jobs")


class Executor(Protocol):
    """What has workers do `Worker.help` for a job."""

    async def ask(self, id: str) -> None:
        """Has somebody help with the job, soon; twice is once."""

    def working(self) -> AbstractAsyncContextManager[None]:
        """Works in this process while the block runs."""


class Help(Protocol):
    """Who does the work: fhirgw.jobs.work.Worker, fhirgw.jobs.import_work.Importer."""

    name: str

    async def help(self, id: str, more: Callable[[], Awaitable[None]]) -> bool: ...
    async def sweep(self) -> list[str]: ...


class Queue:
    """The Procrastinate executor; it is open while its block runs. `name`: each kind of work has a queue of its own."""

    def __init__(self, url: str, worker: Help, name: str = QUEUE) -> None:
        self._worker, self._name = worker, name
        connector = PsycopgConnector(conninfo=plain(url), min_size=1, max_size=4, kwargs={"options": OPTIONS})
        self._app = App(connector=connector)
        self._app.task(name=HELP, queue=name)(self._help)
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL)  # what goes wrong is in the ledger, and our log

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Queue]:
        """Connects; sweeps again and again until the block ends."""
        async with self._app.open_async():
            sweeper = asyncio.create_task(self._sweep(), name="exports swept")
            try:
                yield self
            finally:
                sweeper.cancel()
                await asyncio.gather(sweeper, return_exceptions=True)

    async def ask(self, id: str) -> None:
        """Has somebody help with the job, soon; twice is once."""
        with suppress(AlreadyEnqueued):
            await self._app.configure_task(HELP, queue=self._name, queueing_lock=id).defer_async(job=id)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Works in this process while the block runs, on one part at a time; the part it is at goes back at the end."""
        task = asyncio.create_task(self.work(), name="exports worked on")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

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
                    fetch_job_polling_interval=1.0,
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

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEPT)
            try:
                await self.sweep()
            except Exception as error:
                log.error("exports not swept", error=type(error).__name__, away=away(error))
