"""Files taken in by this process, whichever command has them: broken off, the same again goes on where it was."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TextIO
from uuid import uuid4

import orjson
import typer

from fhirgw.access.audit_event import Access
from fhirgw.access.permit import Permit, operations
from fhirgw.cli.console import Console
from fhirgw.cli.running import CommandError
from fhirgw.jobs import import_end
from fhirgw.jobs.alive import named
from fhirgw.jobs.digests import Said
from fhirgw.jobs.import_end import Came
from fhirgw.jobs.line import helpers
from fhirgw.jobs.sync import undisturbed
from fhirgw.jobs.taking import take
from fhirgw.private import private_folder, private_text
from fhirgw.settings import Settings
from fhirgw.store import import_job, runs
from fhirgw.store.audit import record_now
from fhirgw.store.database import Connection, Engine, direct
from fhirgw.store.import_job import Job

BETWEEN = 100_000
"""Lines between two collections of garbage."""

Controller = Annotated[
    str | None,
    typer.Option(help="ODS code of whose records they are: one of FHIRGW_OTHER_CONTROLLERS; else our own."),
]
End = Callable[[Connection, Sequence[Came], TextIO], Awaitable[None]]
"""What else is done in the transaction that ends it; it may tell more in the file of errors."""


@dataclass(frozen=True, slots=True)
class Loading:
    """What is taken in: `files`, each of a type or of any (empty), that `origin` brings, with `bases` that are local
    ones. They are the `controller`'s records. What is wrong is told in `errors`; `processes` judge lines (None: as many
    as it is worth).
    """

    origin: str
    files: Sequence[tuple[Path, str]]
    bases: Sequence[str]
    errors: Path
    controller: str
    processes: int | None = None

    @property
    def judging(self) -> int:
        """How many processes judge lines."""
        if self.processes is not None:
            return self.processes
        return helpers(sum(path.stat().st_size for path, _ in self.files))


def whose(given: Settings, controller: str | None) -> str:
    """The organisation whose records are taken in. Raises CommandError for one that controls none here."""
    if controller is not None and controller not in given.controllers:
        told = f"{controller[:40]!r} controls no record here: FHIRGW_OTHER_CONTROLLERS names who does"
        raise CommandError(f"--controller: {told}, besides {given.controller}.", 2)
    return controller or given.controller


def brought(given: Settings, name: str, controller: str) -> str:
    """By what origin is known what `name` brings of a controller's: another's is not changed by the same name."""
    return f"load:{name}" if controller == given.controller else f"load:{name}@{controller}"


async def _nothing(connection: Connection, came: Sequence[Came], told_in: TextIO) -> None:
    """There is no more to do."""


async def load(
    console: Console,
    engine: Engine,
    given: Settings,
    loading: Loading,
    judging: Executor,
    end: End = _nothing,
    *,
    what: str = "load",
) -> list[Came]:
    """What came of each file, whose lines `judging` judges. Raises AlreadyRunning."""
    name, permit = brought(given, loading.origin, loading.controller), operations(given.controller)
    async with direct(engine) as connection, runs.alone(connection, name):
        job = await _begun(connection, permit, name, loading, f"fhirgw {what}")
        await _taken(console, engine, job, given.longest_body, judging)
        return await _ended(connection, job, loading.errors, end)


async def _begun(connection: Connection, permit: Permit, origin: str, loading: Loading, route: str) -> Job:
    """The import of these files as they are, gone on with if it was broken off; the audit has it before it begins."""
    stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path, _ in loading.files]
    request = orjson.dumps([*stamps, loading.bases, loading.controller]).decode()
    async with connection.transaction():
        id = await import_job.unfinished(connection, origin, request)
        if id is not None:
            await import_job.reopen(connection, id)
        else:
            id = uuid4().hex
            inputs = [(str(path), kind) for path, kind in loading.files]
            theirs = operations(loading.controller)
            await import_job.accept(connection, id, theirs, origin, request, inputs, bases=loading.bases, local=True)
        told: dict[str, Any] = {"operation": "import", "everybody": True, "permit": permit}
        await record_now(connection, Access("operation", route, datetime.now(UTC), str(uuid4()), **told))
    job = await import_job.find(connection, id)
    assert job is not None
    return job


async def _taken(console: Console, engine: Engine, job: Job, longest: int, judging: Executor) -> None:
    """All inputs, one after another; where two say different things of one resource, the first counts."""
    worker, said = named(), Said()

    def progress(lines: int) -> None:
        before = stage.done
        stage.update(stage.done + lines)
        if before // BETWEEN != stage.done // BETWEEN:
            gc.collect()  # which is not to happen while batches are judged: they hold no cycles

    with console.stage("load", "lines") as stage, undisturbed():
        while True:
            async with direct(engine) as connection:
                held = await import_job.claim(connection, job.id, worker)
            if held is None:
                return
            path = Path(held.source)
            stage.detail = path.name
            await take(engine, job, held, path, judging, longest, progress=progress, said=said)


async def _ended(connection: Connection, job: Job, told_in: Path, end: End) -> list[Came]:
    """What came of it, told in the file of errors; then the import is forgotten, and what it brought stays."""
    came = await import_end.came(connection, job)
    private_folder(told_in.parent)
    with private_text(told_in) as file:
        for each in came:
            async for line in import_end.errors(connection, job, each):
                file.write(line + "\n")
        await import_end.settled(connection, came)
        async with connection.transaction():
            await import_job.forget(connection, job.id)
            await end(connection, came, file)
            file.flush()
    return came


def show(console: Console, came: Sequence[Came], told_in: Path) -> None:
    """What came of each file; nothing where there were none, as in a night when nothing changed."""
    names = import_job.COUNTS
    rows = [[each.name, *(each.counts[name] for name in names), len(each.nowhere)] for each in came]
    totals = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    all_of_them = [["all", *totals]] if rows else []
    console.table("Loaded", ["file", *names, "references to nowhere"], [*rows, *all_of_them])
    for each in came:
        if each.failure:
            console.line(f"{each.name}: {each.failure}")
    if rows and (totals[-1] or totals[-2]):
        console.line(f"Each line that was refused or refers to what is not here, with its rule and remedy: {told_in}")
