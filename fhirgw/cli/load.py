"""`fhirgw load`: NDJSON files into the store, in this process; broken off, the same command goes on where it was."""

from __future__ import annotations

import gc
import os
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import orjson
import typer

from fhirgw.access.audit_event import Access
from fhirgw.access.permit import Permit, operations
from fhirgw.cli.console import Console
from fhirgw.cli.data import Json
from fhirgw.cli.running import CommandError, opened, run, settings
from fhirgw.jobs import import_end
from fhirgw.jobs.import_end import Came
from fhirgw.jobs.line import helpers, judges
from fhirgw.jobs.sync import undisturbed
from fhirgw.jobs.taking import Said, take
from fhirgw.private import private_folder, private_text
from fhirgw.store import identity, import_job, runs
from fhirgw.store.audit import record_now
from fhirgw.store.database import Connection, Engine, direct
from fhirgw.store.identity import Claim
from fhirgw.store.import_job import Job

SUFFIXES = (".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz")
"""Names of files in a folder that are loaded."""
BETWEEN = 100_000
"""Lines between two collections of garbage."""


def load_files(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER...", help="NDJSON, packed by gzip or not.")],
    origin: Annotated[
        str, typer.Option("--from", help="Who brings them: only the same name changes them later.")
    ] = "files",
    base: Annotated[
        list[str] | None, typer.Option(help="A FHIR base whose addresses in references mean what is loaded here.")
    ] = None,
    errors: Annotated[Path | None, typer.Option(help="Where to tell which lines were refused, and why.")] = None,
    processes: Annotated[int | None, typer.Option(min=0, help="Processes that judge lines; 0 for none.")] = None,
    json: Json = False,
) -> None:
    """Take in resources from NDJSON files: what is new, what changed. Run it again and it writes nothing."""
    console, given = Console(json), settings()
    if not origin.isprintable() or not 0 < len(origin) <= 100:
        raise CommandError("--from names who brings them, in 1 to 100 printable characters.", 2)
    files = _files(paths)
    size = sum(each.stat().st_size for each in files)
    judging = processes if processes is not None else helpers(size)
    told_in = errors or given.data / "errors" / "load.ndjson"
    permit = operations(given.controller)

    async def work() -> tuple[list[Came], list[Claim]]:
        name = f"load:{origin}"
        async with opened(given) as (_, engine), direct(engine) as connection, runs.alone(connection, name):
            job = await _begun(connection, permit, name, files, base or [])
            await _taken(console, engine, job, given.longest_body, judging)
            return await _ended(connection, job, told_in), await identity.claims(connection)

    came, claims = run(work())
    _show(console, came, told_in)
    for each in claims:
        console.line(f"Note: {len(each.patients)} Patients hold one NHS number: {', '.join(each.patients)}")
    if any(each.failure for each in came):
        raise CommandError(f"Not every file could be read to its end: {told_in} says which.", 3)


def _files(paths: list[Path]) -> list[Path]:
    """The files, each folder's in the order of their names. Raises CommandError."""
    found: list[Path] = []
    for path in paths:
        within = [each for each in sorted(path.glob("*")) if each.name.endswith(SUFFIXES)] if path.is_dir() else [path]
        if not within or not all(each.is_file() for each in within):
            raise CommandError(f"{path}: no NDJSON is here. Name a file, or a folder of *{', *'.join(SUFFIXES)}.", 3)
        found += [each.absolute() for each in within]
    return list(dict.fromkeys(found))


async def _begun(connection: Connection, permit: Permit, origin: str, files: list[Path], bases: list[str]) -> Job:
    """The import of these files as they are, gone on with if it was broken off; the audit has it before it begins."""
    stamps = [[str(each), each.stat().st_size, each.stat().st_mtime_ns] for each in files]
    request = orjson.dumps([*stamps, bases]).decode()
    async with connection.transaction():
        id = await import_job.unfinished(connection, origin, request)
        if id is not None:
            await import_job.reopen(connection, id)
        else:
            id = uuid4().hex
            inputs = [(str(each), "") for each in files]
            await import_job.accept(connection, id, permit, origin, request, inputs, bases=bases, local=True)
        told: dict[str, Any] = {"operation": "import", "everybody": True, "permit": permit}
        await record_now(connection, Access("operation", "fhirgw load", datetime.now(UTC), str(uuid4()), **told))
    job = await import_job.find(connection, id)
    assert job is not None
    return job


async def _taken(console: Console, engine: Engine, job: Job, longest: int, processes: int) -> None:
    """All inputs, one after another; where two say different things of one resource, the first counts."""
    worker, said = f"{socket.gethostname()}:{os.getpid()}", Said()

    def progress(lines: int) -> None:
        before = stage.done
        stage.update(stage.done + lines)
        if before // BETWEEN != stage.done // BETWEEN:
            gc.collect()  # which is not to happen while batches are judged: they hold no cycles

    with console.stage("load", "lines") as stage, judges(processes) as judging, undisturbed():
        while True:
            async with direct(engine) as connection:
                held = await import_job.claim(connection, job.id, worker)
            if held is None:
                return
            path = Path(held.source)
            stage.detail = path.name
            await take(engine, job, held, path, judging, longest, progress=progress, said=said)


async def _ended(connection: Connection, job: Job, told_in: Path) -> list[Came]:
    """What came of it, told in the file of errors; then the import is forgotten, and what it brought stays."""
    came = await import_end.came(connection, job)
    private_folder(told_in.parent)
    with private_text(told_in) as file:
        for each in came:
            async for line in import_end.errors(connection, job, each):
                file.write(line + "\n")
    await import_end.settled(connection, came)
    await import_job.forget(connection, job.id)
    return came


def _show(console: Console, came: list[Came], told_in: Path) -> None:
    names = import_job.COUNTS
    rows = [[each.name, *(each.counts[name] for name in names), len(each.nowhere)] for each in came]
    totals = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    console.table("Loaded", ["file", *names, "references to nowhere"], [*rows, ["all", *totals]])
    for each in came:
        if each.failure:
            console.line(f"{each.name}: {each.failure}")
    if totals[-1] or totals[-2]:
        console.line(f"Each line that was refused or refers to what is not here, with its rule and remedy: {told_in}")
    console.document({"files": [each.as_json() for each in came], "errors": str(told_in)})
