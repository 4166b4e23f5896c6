"""`fhirgw homecare ledger`: the ledger of a week. What it shows of people is audited like everything else."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from fhirgw.access.audit_event import ID
from fhirgw.access.permit import directory, operations
from fhirgw.cli.audited import audited, patients
from fhirgw.cli.console import Console
from fhirgw.cli.data import Json
from fhirgw.cli.running import CommandError, opened, run, settings
from fhirgw.fhir.csv_rows import written
from fhirgw.fhir.issue import FhirError
from fhirgw.shipped import path
from fhirgw.store.database import declared, direct
from fhirgw.store.reconciliation import Asked, Reckoning
from fhirgw.visits.ledger import COLUMNS, Row, totals
from fhirgw.visits.rules import rules
from fhirgw.visits.spelling import spelt
from fhirgw.visits.week import Week

SHOWN = ("commissioned", "planned", "delivered", "claimed")


def ledger(
    week: Annotated[str, typer.Option(help="The week, as ISO 8601 numbers it: 2026-W40.")],
    provider: Annotated[str | None, typer.Option(help="Only of this care provider, by its ODS code.")] = None,
    person: Annotated[str | None, typer.Option(help="Only of this person, by the id of their Patient.")] = None,
    to: Annotated[Path | None, typer.Option("--csv", help="Write the rows to this file, for a finance system.")] = None,
    json: Json = False,
) -> None:
    """Reckon a week: by person, care provider and package line; the totals, and the rows with --csv or --json."""
    console, given = Console(json), settings()
    asked = Asked(_week(week), provider, _person(person))
    permit = operations(given.controller)
    reckoning = Reckoning(permit, directory(given.controller), rules(path("mappings")), datetime.now(UTC))

    async def work() -> list[Row]:
        rows: list[Row] = []
        async with opened(given) as (_, engine), direct(engine) as connection:
            async with declared(connection, permit, isolation="REPEATABLE READ"):
                async for some in reckoning.pages(connection, asked):
                    rows += some
            seen = patients(dict.fromkeys(each.person for each in rows if each.person))
            await audited(connection, given.controller, "homecare-ledger", seen=seen)
        return rows

    rows = run(work())
    found = totals(rows)
    if to is not None:
        to.write_bytes(written([COLUMNS, *(each.cells() for each in rows)]))
        console.line(f"{len(rows):,} rows of {asked.week} are in {to}.")
    lines = [[each, found[f"{each}_visits"], found[f"{each}_minutes"]] for each in SHOWN]
    console.table(f"{asked.week}: {found['people']:,} people", ["", "visits", "minutes"], lines)
    console.document(spelt({"week": str(asked.week), "totals": found, "rows": [each.told() for each in rows]}))


def _week(text: str) -> Week:
    try:
        return Week.parse(text)
    except FhirError as error:
        raise CommandError(f"--week: {error.issues[0].diagnostics}.", 2) from None


def _person(text: str | None) -> str | None:
    """An id is all we take: everybody on the machine sees arguments. Raises CommandError."""
    if text is not None and not ID.fullmatch(text):
        raise CommandError("--person is the id of a Patient, as in its address: never a name or an NHS number.", 2)
    return text
