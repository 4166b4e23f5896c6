"""Commands that move data: migrate, generate, sync."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fhirgw.cli import steps
from fhirgw.cli.console import Console
from fhirgw.cli.running import interruptible, opened, run, settings
from fhirgw.jobs.summary import SyncSummary
from fhirgw.store import migrate as migrations

Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document, and nothing else.")]
People = Annotated[int, typer.Option(min=1, help="Adults the made-up council supports at any one time.")]
Seed = Annotated[int, typer.Option(help="Another seed, another council; the same seed, the same.")]


def migrate(json: Json = False) -> None:
    """Bring the database's tables to the version this code needs."""
    console = Console(json)

    async def work() -> str:
        async with opened(settings(), migrated=False) as (_, engine):
            return await migrations.migrate(engine)

    reached = run(work())
    console.line(f"The tables are at version {reached}.")
    console.document({"version": reached})


def generate(
    people: People = 2000,
    seed: Seed = 1,
    layout: Annotated[str, typer.Option(help="How the system of record keeps them: meadow or harbour.")] = "meadow",
    to: Annotated[str, typer.Option(help="csv:FOLDER, database, or postgresql://…")] = steps.DATABASE,
    json: Json = False,
) -> None:
    """Make up a council's system of record, as CSV extracts or as a database; the same seed makes the same."""
    console, kept = Console(json), steps.layout(layout)

    async def work() -> dict[str, int]:
        if to.startswith(steps.CSV):
            with interruptible():  # between the two as well
                council = steps.made_up(console, people, seed)
                return steps.extracted(console, council, kept, Path(to.removeprefix(steps.CSV)))
        async with steps.target(settings(), to) as url:
            return await steps.founded(console, steps.made_up(console, people, seed), kept, url)

    rows = run(work())
    console.table(f"{layout}, as made up", ["table", "rows"], [*rows.items(), ("all", sum(rows.values()))])
    console.document({"layout": layout, "people": people, "seed": seed, "rows": rows})


def sync(
    system: Annotated[str, typer.Argument(help="A system of record: the name of a folder under mappings/.")],
    source: Annotated[
        str, typer.Option("--from", help="csv:FOLDER, database, or postgresql://…", show_default=True)
    ] = steps.DATABASE,
    force: Annotated[bool, typer.Option("--force", help="Take an extract less than half of the last one.")] = False,
    errors: Annotated[Path | None, typer.Option(help="Where to tell which rows were refused, and why.")] = None,
    json: Json = False,
) -> None:
    """Take in a full extract of a system of record: what is new, what changed, what is gone."""
    console, given = Console(json), settings()
    told_in = errors or steps.errors_file(given, system)

    async def work() -> SyncSummary:
        definition = steps.defined(system)
        async with opened(given) as (url, engine):
            reading = steps.reader(definition, source, url)
            return await steps.synced(console, engine, definition, reading, told_in, force)

    done = run(work())
    steps.show_sync(console, done, told_in)
    console.document(done.as_json())
