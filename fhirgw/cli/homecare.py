"""Commands about homecare: the ledger of a week; certify a care provider's file or system, list the sample visits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from fhirgw import shipped
from fhirgw.access.permit import operations
from fhirgw.cli.audited import audited
from fhirgw.cli.commands import PLAIN
from fhirgw.cli.console import Console
from fhirgw.cli.data import Json
from fhirgw.cli.homecare_ledger import ledger
from fhirgw.cli.running import CommandError, opened, run, settings
from fhirgw.fhir import incoming
from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.nhs import is_ods_code
from fhirgw.mapping.refusal import Refusal
from fhirgw.store import visits_sent
from fhirgw.store.database import declared, direct
from fhirgw.systems.system import nearest
from fhirgw.visits import bundle, sheet
from fhirgw.visits.certify import Cases, Verdict, cases, verdicts
from fhirgw.visits.layout import layouts, own
from fhirgw.visits.moment import instant, moment
from fhirgw.visits.quality import standard
from fhirgw.visits.reading import Fault, Reader, Refused
from fhirgw.visits.rehearsal import Rehearsed, rehearsed
from fhirgw.visits.rules import rules

app = typer.Typer(
    help="Homecare visits: a week's ledger; certify a care provider's file or system.", no_args_is_help=True, **PLAIN
)
ENDINGS = (".csv", ".json", ".ndjson")
SOMEBODY = "-"
"""The care provider of a file of whom nobody says whose it is."""
SHOWN = 50
"""Receipts shown to people; --json has all."""
FAILED = 9


@app.callback()
def homecare() -> None:
    """Makes of the app a group, whose help is its own."""


app.command()(ledger)


@app.command("cases")
def list_cases(json: Json = False) -> None:
    """List the sample visits that a care provider's system is to send to a sandbox."""
    console, known = Console(json), cases(shipped.path("mappings"))
    for each in known.cases:
        console.line(f"{each.case}: {each.title}. {each.send}")
    console.document([each.model_dump(mode="json", exclude_defaults=True) for each in known.cases])


@app.command()
def certify(
    file: Annotated[
        Path | None, typer.Option(help="A file to judge as it is: CSV, JSON (a Bundle too) or NDJSON.")
    ] = None,
    layout: Annotated[str | None, typer.Option(help="The layout of a CSV file: a folder under mappings/.")] = None,
    provider: Annotated[
        str | None, typer.Option(help="The care provider's ODS code: which samples it has sent.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Since when, as 2026-11-22T09:00; or else the last 7 days.")] = None,
    json: Json = False,
) -> None:
    """Judge a care provider's file before it is sent, or the sample visits that its system has sent."""
    console = Console(json)
    if file is not None:
        passes = _told_file(console, _file(file, layout, provider or SOMEBODY))
    elif provider is None or not is_ods_code(provider):
        raise CommandError("Say --file FILE to judge a file, or --provider with an ODS code for what it has sent.", 2)
    else:
        passes = _told_cases(console, run(_sent(provider, _since(since))))
    if not passes:
        raise CommandError("This does not pass yet: what is wrong is told above, each with its remedy.", FAILED)


def _file(file: Path, layout: str | None, provider: str) -> Rehearsed:
    """The file judged. Raises CommandError for one that cannot be read at all."""
    folder = shipped.path("mappings")
    reader, now = Reader(rules(folder)), datetime.now(UTC)
    known = layouts(folder, reader.shapes)
    if layout is not None and layout not in known:
        raise CommandError(f"There is no layout {layout!r} under mappings/: {nearest(layout, known)}.", 2)
    if file.suffix.lower() not in ENDINGS:
        raise CommandError(f"{file}: what it is is told by how its name ends: {', '.join(ENDINGS)}.", 2)
    try:
        body = file.read_bytes()
        if file.suffix.lower() == ".csv":
            read = sheet.read(body, known[layout] if layout else own(known, provider))
            return rehearsed(read.rows, provider, reader, standard(folder), now, read.called)
        return rehearsed(_rows(body, file.suffix.lower(), provider), provider, reader, standard(folder), now)
    except OSError as error:
        raise CommandError(f"{file}: it cannot be read ({type(error).__name__}).", 3) from None
    except FhirError as error:
        raise CommandError(f"{file}: {error}", 3) from None


def _rows(body: bytes, ending: str, provider: str) -> list[tuple[int, Any]]:
    if ending == ".ndjson":
        return [(at, _line(each)) for at, each in enumerate(body.split(b"\n"), 1) if each.strip()]
    found = incoming.parse(body)
    if isinstance(found, dict) and "resourceType" in found:
        return list(bundle.rows(found, provider))
    return list(enumerate(found if isinstance(found, list) else [found], 1))


def _line(line: bytes) -> Any:
    try:
        return incoming.parse(line)
    except FhirError as error:
        return Refused(
            None,
            (Fault("", "structure", str(error), "A visit is one JSON object: correct this one; others are taken"),),
        )


def _told_file(console: Console, found: Rehearsed) -> bool:
    console.line(f"{found.rows:,} rows: {found.rows - found.refused:,} would be taken, {found.refused:,} refused.")
    lines = [
        [each.row, each.visit or "", each.status, fault.column, fault.rule, fault.remedy]
        for each in found.receipts
        for fault in each.faults
    ]
    console.table("To be mended", ["row", "visit", "status", "column", "what is wrong", "what to do"], lines[:SHOWN])
    if len(lines) > SHOWN:
        console.line(f"… and {len(lines) - SHOWN:,} more: --json has them all")
    console.table("Refused, by reason", ["reason", "rows"], found.reasons)
    console.table("Visits without a field that they need", ["field", "visits"], found.incomplete)
    if found.unused:
        console.line()
        console.line(f"Never filled in: {', '.join(found.unused)}")
    console.document(found.as_json())
    return found.passes


def _since(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC) - timedelta(days=7)
    try:
        return instant(moment(text))
    except Refusal as refusal:
        raise CommandError(f"--since: {refusal.rule}.", 2) from None


async def _sent(provider: str, since: datetime) -> list[Verdict]:
    """What became of each sample, audited."""
    given = settings()
    folder = shipped.path("mappings")
    known: Cases = cases(folder)
    async with opened(given) as (_, engine), direct(engine) as connection:
        async with declared(connection, operations(given.controller)):
            arrived = await visits_sent.arrived(connection, provider, known.starts, since)
            reasons, repeated = await visits_sent.sent_since(connection, provider, since)
        await audited(connection, given.controller, "homecare-certify")
    return verdicts(known, arrived, reasons, repeated, rules(folder), datetime.now(UTC))


def _told_cases(console: Console, found: list[Verdict]) -> bool:
    right = sum(each.state == "right" for each in found)
    console.line(f"{right} of {len(found)} samples arrived right.")
    rows = [
        [each.case.case, each.state, each.visit or "", wrong.what, wrong.remedy]
        for each in found
        for wrong in each.wrong
    ]
    console.table("To be mended", ["sample", "state", "visit", "what is wrong", "what to do"], rows)
    console.document({"passes": right == len(found), "cases": [each.as_json() for each in found]})
    return right == len(found)
