"""Commands about break-glass: who saw a record in an emergency, why, and whether they should have."""

from __future__ import annotations

from datetime import UTC
from typing import Annotated, NamedTuple

import typer

from fhirgw.access.permit import operations
from fhirgw.cli.audited import audited, patients
from fhirgw.cli.commands import PLAIN
from fhirgw.cli.console import Console
from fhirgw.cli.data import Json
from fhirgw.cli.running import CommandError, opened, run, settings
from fhirgw.fhir.nhs import ODS_ORGANISATION
from fhirgw.store import break_glass
from fhirgw.store.break_glass import FINDINGS, Grant
from fhirgw.store.called import called
from fhirgw.store.database import declared, direct

app = typer.Typer(**PLAIN, help="Who saw a record in an emergency, and whether they should have.", no_args_is_help=True)


class Queue(NamedTuple):
    """Grants, and what the organisations and practitioners in them are called."""

    grants: list[Grant]
    names: dict[str, str]


@app.command("list")
def list_grants(
    reviewed: Annotated[bool, typer.Option("--all", help="Those that have been reviewed too.")] = False,
    json: Json = False,
) -> None:
    """List who has broken the glass and why, the oldest first: those that wait for a review."""
    console, given = Console(json), settings()
    overseer = operations(given.controller)

    async def work() -> Queue:
        async with opened(given) as (_, engine), direct(engine) as connection:
            async with declared(connection, overseer):
                found = await break_glass.queue(connection, reviewed=reviewed)
                parties = {party for each in found for party in _parties(each)}
                names = await called(connection, overseer, sorted(parties))
            await audited(
                connection, given.controller, "break-glass-list", seen=patients(each.person for each in found)
            )
            return Queue(found, names)

    found, names = run(work())
    for each in found:
        _say(console, each, names)
    if not found:
        console.line("Nobody has broken the glass." if reviewed else "Nothing waits for a review.")
    elif waiting := next((each for each in found if not each.finding), None):
        console.line()
        console.line(f"To review one: fhirgw break-glass review {waiting.id} --finding {'|'.join(FINDINGS)} --by NAME")
    console.document([each._asdict() for each in found])


@app.command()
def review(
    grant: Annotated[str, typer.Argument(help="The grant, as `fhirgw break-glass list` shows it.")],
    finding: Annotated[str, typer.Option(help=f"{' or '.join(FINDINGS)}.")],
    by: Annotated[str, typer.Option(help="Who reviewed it.")],
    json: Json = False,
) -> None:
    """Write down whether a grant was appropriate; one that was not ends at once."""
    console, given = Console(json), settings()
    if finding not in FINDINGS or not by.strip():
        raise CommandError(f"--finding is {' or '.join(FINDINGS)}, and --by says who found so.", 2)

    async def work() -> Grant:
        async with opened(given) as (_, engine), direct(engine) as connection, connection.transaction():
            found = await break_glass.review(connection, grant, finding, by.strip())
            await audited(connection, given.controller, "break-glass-review", seen=patients([found.person]))
            return found

    found = run(work())
    console.line(f"Found {found.finding} by {found.reviewer}.")
    console.document(found._asdict())


def _parties(grant: Grant) -> tuple[str, str]:
    return f"Practitioner/{grant.practitioner}", f"{ODS_ORGANISATION}|{grant.organisation}"


def _say(console: Console, grant: Grant, names: dict[str, str]) -> None:
    """One grant in a few lines: a table of all that is in one would be wider than anybody's terminal."""
    practitioner, organisation = _parties(grant)
    who = names.get(practitioner, practitioner)
    at = names.get(organisation, grant.organisation)
    console.line()
    console.line(
        f"{grant.granted.astimezone(UTC):%Y-%m-%d %H:%M} UTC  {who}, {at} (with the application {grant.registration})"
    )
    console.line(f"  person  Patient/{grant.person}")
    console.line(f"  why     {grant.reason}")
    console.line(f"  until   {grant.expires.astimezone(UTC):%H:%M} UTC")
    console.line(f"  review  {f'{grant.finding}, by {grant.reviewer}' if grant.finding else 'waits'}")
    console.line(f"  grant   {grant.id}")
