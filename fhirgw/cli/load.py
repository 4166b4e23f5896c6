"""`fhirgw load`: NDJSON and Parquet into the store, in this process; broken off, the same command goes on."""

from __future__ import annotations

from concurrent.futures import Executor
from pathlib import Path
from typing import Annotated

import typer

from fhirgw.cli import loading
from fhirgw.cli.console import Console
from fhirgw.cli.data import Json
from fhirgw.cli.loading import Controller, Loading
from fhirgw.cli.running import CommandError, opened, run, settings
from fhirgw.jobs.import_end import Came
from fhirgw.jobs.line import judges
from fhirgw.store import identity
from fhirgw.store.database import direct
from fhirgw.store.identity import Claim

SUFFIXES = (".ndjson", ".ndjson.gz", ".jsonl", ".jsonl.gz", ".parquet")
"""Names of files in a folder that are loaded."""


def load_files(
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILE|FOLDER...", help="NDJSON, packed by gzip or not; Parquet.")
    ],
    origin: Annotated[
        str, typer.Option("--from", help="Who brings them: only the same name changes them later.")
    ] = "files",
    base: Annotated[
        list[str] | None, typer.Option(help="A FHIR base whose addresses in references mean what is loaded here.")
    ] = None,
    errors: Annotated[Path | None, typer.Option(help="Where to tell which lines were refused, and why.")] = None,
    controller: Controller = None,
    processes: Annotated[int | None, typer.Option(min=0, help="Processes that judge lines; 0 for none.")] = None,
    json: Json = False,
) -> None:
    """Take in resources from NDJSON or Parquet: what is new, what changed. Run it again and it writes nothing."""
    console, given = Console(json), settings()
    if not origin.isprintable() or not 0 < len(origin) <= 100:
        raise CommandError("--from names who brings them, in 1 to 100 printable characters.", 2)
    files = [(each, "") for each in _files(paths)]
    told_in = errors or given.data / "errors" / "load.ndjson"
    asked = Loading(origin, files, base or [], told_in, loading.whose(given, controller), processes)

    async def work(judging: Executor) -> tuple[list[Came], list[Claim]]:
        async with opened(given) as (_, engine):
            came = await loading.load(console, engine, given, asked, judging)
            async with direct(engine) as connection:
                return came, await identity.claims(connection)

    with judges(asked.judging, forked=True) as judging:
        came, claims = run(work(judging))
    loading.show(console, came, told_in)
    console.document({"files": [each.as_json() for each in came], "errors": str(told_in)})
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
