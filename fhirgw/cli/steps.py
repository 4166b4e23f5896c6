"""The steps that commands are made of, each with its progress; `demo` takes them all, one after another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from fhirgw.access.audit_event import Access, Seen
from fhirgw.access.permit import Permit
from fhirgw.cli.console import Console
from fhirgw.cli.running import CommandError, interruptible, opened
from fhirgw.council.council import Council
from fhirgw.council.generate import generate
from fhirgw.council.layout import Layout
from fhirgw.council.layouts import LAYOUTS
from fhirgw.jobs.export_folder import Exported, export
from fhirgw.jobs.segments import policy
from fhirgw.jobs.summary import SyncSummary
from fhirgw.jobs.sync import sync
from fhirgw.mapping.load import Definitions, Judge, SystemDefinition, load
from fhirgw.private import private_folder
from fhirgw.settings import Settings
from fhirgw.shipped import path
from fhirgw.store.audit import record_now
from fhirgw.store.database import Engine, direct
from fhirgw.store.export import Selection
from fhirgw.systems.csv import CsvSystem
from fhirgw.systems.database import DatabaseSystem
from fhirgw.systems.made_up import to_csv, to_database
from fhirgw.systems.system import System, nearest

DATABASE = "database"
"""What `--from` and `--to` call the gateway's own database, where a system has a schema of its own."""
CSV = "csv:"
SCHEMES = ("postgresql://", "postgres://")


def definitions(judge: Judge | None = None) -> Definitions:
    """Every system under mappings/. Raises MappingFaults."""
    return load(path("mappings"), judge)


def defined(name: str) -> SystemDefinition:
    """One of them. Raises CommandError for a name that is none of theirs."""
    systems = definitions().systems
    if name not in systems:
        raise CommandError(f"There is no system {name!r} under mappings/: {nearest(name, systems)}.", 2)
    return systems[name]


def reader(definition: SystemDefinition, source: str, url: str) -> System:
    """The system of record at `source`; `url` is the gateway's own database."""
    name, form = definition.name, definition.declared
    if source.startswith(CSV):
        return CsvSystem(name, Path(source.removeprefix(CSV)), form.csv.delimiter, form.csv.encoding)
    if source == DATABASE or source.startswith(SCHEMES):
        return DatabaseSystem(name, url if source == DATABASE else source, form.schema_)
    raise CommandError(f"{source!r} is nowhere: say csv:FOLDER, {DATABASE}, or postgresql://account@host/name.", 2)


@asynccontextmanager
async def target(given: Settings, to: str) -> AsyncIterator[str]:
    """The url of the database that `to` names."""
    if to == DATABASE:
        async with opened(given, migrated=False) as (url, _):
            yield url
    elif to.startswith(SCHEMES):
        yield to
    else:
        raise CommandError(f"{to!r} is nowhere: say csv:FOLDER, {DATABASE}, or postgresql://account@host/name.", 2)


def layout(name: str) -> Layout:
    """The way one of the made-up systems keeps its records."""
    if name not in LAYOUTS:
        raise CommandError(f"There is no layout {name!r}: {nearest(name, LAYOUTS)}.", 2)
    return LAYOUTS[name]


def made_up(console: Console, people: int, seed: int) -> Council:
    """A council that nobody lives in."""
    with console.stage("make up the council", "records") as stage, interruptible():
        council = generate(people, seed)
        stage.update(sum(map(len, council.records.values())))
    return council


async def founded(console: Console, council: Council, kept: Layout, url: str) -> dict[str, int]:
    """The council as a schema of the database; rows by table."""
    with console.stage(f"write {kept.name} to the database") as stage:
        return await to_database(url, kept, council, stage.part)


def extracted(console: Console, council: Council, kept: Layout, folder: Path) -> dict[str, int]:
    """The council as CSV extracts, in the form its system writes; rows by table."""
    form = defined(kept.name).declared.csv
    with console.stage(f"write {kept.name} as CSV") as stage, interruptible():
        return to_csv(folder, kept, council, stage.part, form.delimiter, form.encoding)


async def synced(
    console: Console, engine: Engine, definition: SystemDefinition, system: System, errors: Path, force: bool
) -> SyncSummary:
    """A full extract taken in; refused rows are told in the file `errors`."""
    private_folder(errors.parent)
    with console.stage(f"sync {definition.name}") as stage:
        async with system:
            held = await system.tables()
            counts = [await system.count(table) for table in definition.tables() if table in held]
            stage.update(0, sum(count or 0 for count in counts))
            done = await sync(
                engine,
                definition,
                system,
                force=force,
                progress=lambda table, done, total: stage.part(table, done),
                errors=errors,
            )
    return done


async def exported(console: Console, engine: Engine, permit: Permit, selection: Selection, folder: Path) -> Exported:
    """What the permit shows of the selection, as NDJSON in the folder; the audit has it before anything is copied."""
    async with direct(engine) as connection, connection.transaction():
        await record_now(connection, copied(permit, selection))
    with console.stage("export", "resources") as stage:

        def tell(rows: int, size: int, expected: int) -> None:
            stage.update(rows, max(rows, expected))

        request = f"fhirgw export --to {folder}"
        done = await export(engine, permit, selection, folder, request=request, policy=policy(), progress=tell)
        written = sum(done.counts.values())
        stage.update(written, written)
    return done


def copied(permit: Permit, selection: Selection) -> Access:
    """An export by whoever runs the gateway: of everybody, or of the people it names."""
    named = [Seen("Patient", each, each) for each in selection.patients or ()]
    return Access(
        "operation",
        "fhirgw export",
        datetime.now(UTC),
        str(uuid4()),
        operation="export",
        everybody=not named,
        types=selection.types,
        seen=named,
        permit=permit,
    )


def errors_file(given: Settings, system: str) -> Path:
    """Where the refused rows of a system are told."""
    return given.data / "errors" / f"{system}.ndjson"


def show_sync(console: Console, done: SyncSummary, errors: Path) -> None:
    """What became of the rows, table by table, and why some were refused."""
    names = ("read", "created", "updated", "unchanged", "deleted")
    rows = [
        [table, *(getattr(counts, name) for name in names), sum(counts.refused.values())]
        for table, counts in done.tables.items()
    ]
    totals = [sum(column) for column in zip(*(row[1:] for row in rows), strict=True)]
    console.table(f"{done.system}: rows and resources", ["table", *names, "refused"], [*rows, ["all", *totals]])
    reasons = [[table, why, count] for table, counts in done.tables.items() for why, count in counts.refused.items()]
    console.table("Refused rows, by reason", ["table", "reason", "rows"], reasons)
    for warning in done.warnings:
        console.line(f"Note: {warning}")
    if reasons:
        console.line(f"Each refused row, with its rule and remedy: {errors}")


def show_export(console: Console, done: Exported, folder: Path) -> None:
    """The files by type."""
    rows = [[each[name] for name in ("type", "count", "bytes", "url")] for each in done.manifest["output"]]
    console.table(f"Exported to {folder}", ["type", "resources", "bytes", "file"], rows)
    if not rows:
        console.line("Nothing matched: the manifest lists no file.")
