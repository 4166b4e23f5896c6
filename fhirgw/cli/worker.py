"""Working on exports and imports, watching over visits and telling subscribers, until somebody says stop: any number of
these, wherever the same folder is seen.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

import typer

from fhirgw.api.keys import Keyring
from fhirgw.api.subscribing import permits, signer
from fhirgw.cli.console import Console
from fhirgw.cli.running import CommandError, listen, opened, run, settings
from fhirgw.jobs.cluster import COMMAND, address
from fhirgw.jobs.engine import IMPORTS, PROCRASTINATE, Queue
from fhirgw.jobs.hook import made_reach
from fhirgw.jobs.import_work import Importer
from fhirgw.jobs.notify import Notifier
from fhirgw.jobs.work import Worker
from fhirgw.jobs.workers import made_importer, made_watch, made_worker
from fhirgw.log import configure_log
from fhirgw.settings import Settings
from fhirgw.store.audit import Auditor
from fhirgw.store.database import Engine


def worker(
    until_idle: Annotated[bool, typer.Option("--until-idle", help="Stop when no export or import is running.")] = False,
) -> None:
    """Work on exports and imports, watch over visits, and send notifications, until stopped: then it is another's."""
    console, given = Console(), settings()
    if given.executor != PROCRASTINATE:
        told = f"FHIRGW_EXECUTOR names a Dask cluster, whose own workers do it: {COMMAND}"
        raise CommandError(told.format(address(given.executor)), 2)
    configure_log(given)

    async def work() -> None:
        async with opened(given) as (url, engine):
            made, importer = made_worker(given, engine), made_importer(given, engine)
            exports, imports = Queue(url, made), Queue(url, importer, IMPORTS)
            async with exports.opened(), imports.opened(), Auditor(url) as auditor:
                told = f"Working on exports and imports in {given.export_store or given.export_folder} as {made.name}"
                console.note(f"{told}; stop with Ctrl-C")
                if until_idle:
                    await _until_idle(exports, made)
                    await _until_idle(imports, importer)
                else:
                    async with made_watch(engine).watching():
                        await _until_stopped(exports, imports, _notifier(given, engine, auditor))

    run(work())


def _notifier(given: Settings, engine: Engine, auditor: Auditor) -> Notifier:
    """Who tells subscribers, signed as by whoever serves: by the same keys."""
    keys = Keyring(given.key_folder)
    return Notifier(engine, auditor, permits(given.controllers), signer(keys), made_reach(given))


async def _until_stopped(exports: Queue, imports: Queue, notifier: Notifier) -> None:
    stopped = asyncio.Event()
    listen(lambda number: stopped.set())
    async with exports.working(), imports.working(), notifier.working():
        await stopped.wait()


async def _until_idle(queue: Queue, made: Worker | Importer) -> None:
    """Asks the ledger itself, so that it need not wait to be asked."""
    while ids := await made.running():
        await queue.sweep()
        for id in ids:
            await made.help(id, partial(queue.ask, id))
        await asyncio.sleep(0.2)
