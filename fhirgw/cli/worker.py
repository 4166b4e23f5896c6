"""Working on exports and imports until somebody says stop: any number of these, wherever the same folder is seen."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from typing import Annotated

import typer

from fhirgw.cli.console import Console
from fhirgw.cli.running import listen, opened, run, settings
from fhirgw.jobs.engine import Queue
from fhirgw.jobs.import_jobs import QUEUE
from fhirgw.jobs.import_work import Importer
from fhirgw.jobs.place import places
from fhirgw.jobs.projects import Projects
from fhirgw.jobs.sources import Sources
from fhirgw.jobs.work import Worker
from fhirgw.log import configure_log
from fhirgw.settings import Settings
from fhirgw.store.database import Engine


def worker(
    until_idle: Annotated[bool, typer.Option("--until-idle", help="Stop when no export or import is running.")] = False,
) -> None:
    """Work on exports and imports, one part at a time, until stopped; the part it is at goes to another."""
    console, given = Console(), settings()
    configure_log(given)

    async def work() -> None:
        async with opened(given) as (url, engine):
            made, importer = made_worker(given, engine), made_importer(given, engine)
            exports, imports = Queue(url, made), Queue(url, importer, QUEUE)
            async with exports.opened(), imports.opened():
                told = f"Working on exports and imports in {given.export_store or given.export_folder} as {made.name}"
                console.note(f"{told}; stop with Ctrl-C")
                if until_idle:
                    await _until_idle(exports, made)
                    await _until_idle(imports, importer)
                else:
                    await _until_stopped(exports, imports)

    run(work())


def made_worker(given: Settings, engine: Engine) -> Worker:
    """A worker of these settings."""
    projects = Projects(given.project_folder)
    kept = places(given.export_folder.absolute(), given.export_store, given.signed_for)
    return Worker(engine, kept, timedelta(seconds=given.lease_seconds), projects)


def made_importer(given: Settings, engine: Engine) -> Importer:
    """Who works on imports, of these settings."""
    sources = Sources.of(given.import_folder, given.import_origins, given.import_gigabytes)
    lease = timedelta(seconds=given.lease_seconds)
    return Importer(engine, given.import_spool.absolute(), sources, given.longest_body, lease)


async def _until_stopped(exports: Queue, imports: Queue) -> None:
    stopped = asyncio.Event()
    listen(lambda number: stopped.set())
    async with exports.working(), imports.working():
        await stopped.wait()


async def _until_idle(queue: Queue, made: Worker | Importer) -> None:
    """Asks the ledger itself, so that it need not wait to be asked."""
    while ids := await made.running():
        await queue.sweep()
        for id in ids:
            await made.help(id, partial(queue.ask, id))
        await asyncio.sleep(0.2)
