"""Working on exports until somebody says stop: any number of these, on any machines that see the same folder."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Annotated

import typer

from fhirgw.cli.console import Console
from fhirgw.cli.running import listen, opened, run, settings
from fhirgw.jobs.engine import Queue
from fhirgw.jobs.projects import Projects
from fhirgw.jobs.work import Worker
from fhirgw.log import configure_log
from fhirgw.settings import Settings
from fhirgw.store.database import Engine


def worker(
    until_idle: Annotated[bool, typer.Option("--until-idle", help="Stop when no export is running.")] = False,
) -> None:
    """Work on exports, one part at a time, until stopped; the part it is at goes to another."""
    console, given = Console(), settings()
    configure_log(given)

    async def work() -> None:
        async with opened(given) as (url, engine):
            made = made_worker(given, engine)
            async with Queue(url, made).opened() as queue:
                console.note(f"Working on exports in {given.export_folder} as {made.name}; stop with Ctrl-C")
                await (_until_idle(queue, made) if until_idle else _until_stopped(queue))

    run(work())


def made_worker(given: Settings, engine: Engine) -> Worker:
    """A worker of these settings."""
    projects = Projects(given.project_folder)
    return Worker(engine, given.export_folder.absolute(), timedelta(seconds=given.lease_seconds), projects)


async def _until_stopped(queue: Queue) -> None:
    stopped = asyncio.Event()
    listen(lambda number: stopped.set())
    async with queue.working():
        await stopped.wait()


async def _until_idle(queue: Queue, made: Worker) -> None:
    """Asks the ledger itself, so that it need not wait to be asked."""
    while ids := await made.running():
        await queue.sweep()
        for id in ids:
            await made.help(id, partial(queue.ask, id))
        await asyncio.sleep(0.2)
