"""The demonstration: a made-up council through the gateway, from its case-management database to a FHIR server."""

from __future__ import annotations

import shlex
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from fhirgw.access.permit import operations
from fhirgw.cli import steps
from fhirgw.cli.console import Console
from fhirgw.cli.data import Json, People, Seed
from fhirgw.cli.demo_apps import DESK, ICS, PROVIDER, PROVIDER_SCOPE, applications, somebody
from fhirgw.cli.demo_visits import Carers
from fhirgw.cli.running import opened, run, settings
from fhirgw.cli.serving import Port, address, bound
from fhirgw.council.layouts import LAYOUTS
from fhirgw.fhir.nhs import NHS_NUMBER
from fhirgw.jobs.export_folder import Exported
from fhirgw.jobs.summary import SyncSummary
from fhirgw.settings import Settings
from fhirgw.store.database import Engine
from fhirgw.store.export import Selection
from fhirgw.store.migrate import migrate
from fhirgw.systems.system import ExtractError

SYSTEM = "meadow"
"""The system of record that is taken in; the other is there as CSV, to be tried."""


def demo(
    people: People = 2000,
    seed: Seed = 1,
    port: Port = 8080,
    data: Annotated[
        Path | None, typer.Option(help="The folder for everything it makes; else that of the settings.")
    ] = None,
    visits: Annotated[
        bool, typer.Option(help="Have a care provider send its visits while it serves; one of them is missed.")
    ] = True,
    once: Annotated[bool, typer.Option("--once", help="Stop when all is made; do not serve.")] = False,
    json: Json = False,
) -> None:
    """Make up a council, take it in, export it, and serve it."""
    console, given = Console(json), settings(data)

    async def work() -> None:
        async with AsyncExitStack() as stack:
            listening = None if once else stack.enter_context(bound("127.0.0.1", port))
            with console.stage("start the database"):
                url, engine = await stack.enter_async_context(opened(given, migrated=False))
            await _make(console, given, url, engine, people, seed)
            if listening is not None:
                from fhirgw.cli.server import served  # here, because only who serves needs all of HTTP

                lines = await _addresses(engine, given, address(listening))
                if visits:
                    carers = Carers(engine, given)
                    if await carers.send():
                        lines.append(("the duty desk", f"{address(listening)}/homecare/desk"))
                        lines.append(("sending visits", f"{address(listening)}/homecare/upload"))
                    await stack.enter_async_context(carers.going())
                await served(given, listening, lambda: _print(console, lines, given))

    run(work())


async def _make(console: Console, given: Settings, url: str, engine: Engine, people: int, seed: int) -> None:
    """Everything up to serving; what an earlier run has made already is not made again."""
    with console.stage("migrate"):
        await migrate(engine)
    definition = steps.defined(SYSTEM)
    reader = steps.reader(definition, steps.DATABASE, url)
    rows = await _remembered(given, url, people, seed)
    anew = rows is None
    if rows is None:
        rows = await _council(console, given, url, people, seed)
    told_in = steps.errors_file(given, SYSTEM)
    # A smaller council than the last one is meant, and no broken extract.
    taken = await steps.synced(console, engine, definition, reader, told_in, force=anew)
    with console.stage("register applications", "applications") as stage:
        stage.update(len(await applications(engine, given, definition.declared.controller)))
    folder = given.data / "export"
    written = await steps.exported(console, engine, operations(given.controller), Selection(), folder)
    steps.show_sync(console, taken, told_in)
    steps.show_export(console, written, folder)
    console.document(_summary(console, people, seed, rows, taken, written))


async def _council(console: Console, given: Settings, url: str, people: int, seed: int) -> dict[str, int]:
    """Makes up the council, in the database and as the CSV extracts of both systems; its rows by table."""
    _memory(given).unlink(missing_ok=True)
    council = steps.made_up(console, people, seed)
    rows = await steps.founded(console, council, LAYOUTS[SYSTEM], url)
    for name, layout in LAYOUTS.items():
        steps.extracted(console, council, layout, given.data / "extracts" / name)
    _memory(given).write_bytes(orjson.dumps({"people": people, "seed": seed, "rows": rows}))
    return rows


async def _remembered(given: Settings, url: str, people: int, seed: int) -> dict[str, int] | None:
    """The rows of the council made by an earlier run, if it was the same one and is still there."""
    if not _memory(given).exists():
        return None
    last = orjson.loads(_memory(given).read_bytes())
    if (last["people"], last["seed"]) != (people, seed):
        return None
    try:
        async with steps.reader(steps.defined(SYSTEM), steps.DATABASE, url) as reader:
            there = await reader.tables()
    except ExtractError:
        return None
    rows: dict[str, int] = last["rows"]
    return rows if rows.keys() <= there.keys() else None


def _memory(given: Settings) -> Path:
    return given.data / "council.json"


def _summary(
    console: Console, people: int, seed: int, rows: dict[str, int], taken: SyncSummary, written: Exported
) -> dict[str, Any]:
    refused = {table: dict(counts.refused) for table, counts in taken.tables.items() if counts.refused}
    return {
        "people": people,
        "seed": seed,
        "rows": rows,
        "resources": taken.resources,
        "refused": refused,
        "exported": written.counts,
        "written": taken.written,
        "warnings": taken.warnings,
        "stages": [stage.as_json() for stage in console.stages],
    }


async def _addresses(engine: Engine, given: Settings, root: str) -> list[tuple[str, str]]:
    """What to open first, and what to ask with a token."""
    found = await somebody(engine, given)
    base = f"{root}/fhir"
    lines = [("start here", f"{root}/"), ("what it can do", f"{base}/metadata")]
    if found:
        lines += [
            ("a person, by NHS number", f"{base}/Patient?identifier={NHS_NUMBER}|{found.nhs_number}"),
            ("everything about them", f"{base}/Patient/{found.patient}/$everything"),
        ]
    return [*lines, ("the export", str(given.data / "export" / "manifest.json"))]


def _token(given: Settings, name: str, scope: str) -> str:
    """The command that prints a token, to be pasted: with this program as it was called, and this folder."""
    folder = f"FHIRGW_DATA={shlex.quote(str(given.data))} " if given.data != Settings().data else ""  # type: ignore[call-arg]
    return f'{folder}{shlex.quote(sys.argv[0])} token --app {name} --scope "{scope}"'


def _print(console: Console, lines: list[tuple[str, str]], given: Settings) -> None:
    console.line()
    for what, where in lines:
        console.line(f"{what:<24} {where}")
    token = _token(given, ICS, "system/*.rs")
    console.line(
        f"\nAddresses below /fhir want an access token, but for metadata; this prints one for five minutes:\n{token}"
    )
    if any(where.endswith("/homecare/desk") for _, where in lines):
        console.line("\nThe duty desk signs in by its key file; within a minute it shows a visit that nobody began:")
        console.line(f"{given.data.absolute() / 'keys' / DESK}.json")
        console.line("\nSending visits wants the token of who has them made (mappings/homecare/README.md):")
        console.line(_token(given, PROVIDER, PROVIDER_SCOPE))
    console.line("\nServing until you stop it with Ctrl-C. Nobody in these records is real.")
