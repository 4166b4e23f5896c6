"""Commands about who may see what: explain a decision, review break-glass, load the list of opt-outs.

What they show of people is audited like everything else.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from fhirgw.access.audit_event import Access, Seen
from fhirgw.access.permit import Permit, operations
from fhirgw.access.purpose import GRANTED
from fhirgw.api.answer import ID
from fhirgw.api.asker import Question, asked_by
from fhirgw.cli.console import Console
from fhirgw.cli.data import Json
from fhirgw.cli.running import CommandError, opened, run, settings
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.nhs import is_nhs_number, is_ods_code, unspaced
from fhirgw.fhir.parameters import HELD
from fhirgw.store import break_glass, opt_out
from fhirgw.store.audit import record_now
from fhirgw.store.break_glass import FINDINGS, Grant
from fhirgw.store.database import Connection, declared, direct
from fhirgw.store.explain import Explained
from fhirgw.store.explain import explain as explained
from fhirgw.store.identity import holders
from fhirgw.store.opt_out import Loaded
from fhirgw.store.registration import SECTORS, find

app = typer.Typer(help="Who saw a record in an emergency, and whether they should have.", no_args_is_help=True)

SHRUNK = 0.5
"""A list of opt-outs this much shorter than the one before is more likely cut off than right."""


def explain(
    who: Annotated[str, typer.Option(help="An application's name, or an organisation's ODS code.")],
    person: Annotated[str, typer.Option(help="The id of the person's Patient; - to read it, or an NHS number.")],
    purpose: Annotated[str | None, typer.Option(help=f"One of {', '.join(GRANTED)}.")] = None,
    types: Annotated[list[str], typer.Option("--type", help="Only this type; may be repeated.")] = [],  # noqa: B006
    practitioner: Annotated[str | None, typer.Option(help="The id of who of the organisation asks.")] = None,
    sector: Annotated[str, typer.Option(help=f"What consents call it: {', '.join(SECTORS)}.")] = SECTORS[0],
    json: Json = False,
) -> None:
    """Tell what somebody may see of a person, by which rule, and what would change it."""
    console, given, whose = Console(json), settings(), _whose(person)
    if unknown := set(types) - set(HELD):
        raise CommandError(f"No resources of the type {sorted(unknown)[0]!r} are held here.", 2)
    overseer = operations(given.controller)

    async def work() -> tuple[Permit | None, list[Explained], str]:
        async with opened(given) as (_, engine), direct(engine) as connection:
            async with declared(connection, overseer):
                id = await _patient(connection, whose)
                found = await _answer(connection, overseer, id)
            await record_now(connection, _access(overseer, "explain", [id]))
            return found

    async def _answer(connection: Connection, overseer: Permit, id: str) -> tuple[Permit | None, list[Explained], str]:
        registered = await find(connection, who) is not None
        if not registered and not is_ods_code(who):
            raise CommandError("--who is neither a registered application (`fhirgw app list`) nor an ODS code.", 2)
        named = {"application": who} if registered else {"organisation": who}
        question = Question(id, **named, practitioner=practitioner, purpose=purpose, sector=sector)
        try:
            asker = await asked_by(connection, overseer, question)
        except FhirError as refusal:
            return None, [], str(refusal)
        return asker, await explained(connection, overseer, asker, id, types, given.opt_out_days), ""

    asker, found, refused = run(work())
    if asker is None:
        console.line(refused)
    for each in found:
        _tell(console, each)
    if asker is not None and not found:
        console.line("The record of this person is empty, or there is no such person.")
    console.document({"refused": refused} if asker is None else {"purpose": asker.purpose, "types": _document(found)})


@app.command("list")
def list_grants(
    reviewed: Annotated[bool, typer.Option("--all", help="Those that have been reviewed too.")] = False,
    json: Json = False,
) -> None:
    """List who has broken the glass and why, the oldest first: those that wait for a review."""
    console, given = Console(json), settings()

    async def work() -> list[Grant]:
        async with opened(given) as (_, engine), direct(engine) as connection:
            found = await break_glass.queue(connection, reviewed=reviewed)
            whose = [each.person for each in found]
            await record_now(connection, _access(operations(given.controller), "break-glass-list", whose))
            return found

    found = run(work())
    console.table(
        "Break-glass",
        ["grant", "when (UTC)", "organisation", "practitioner", "person", "why", "finding"],
        [_line(each) for each in found],
    )
    if not found:
        console.line("Nothing waits for a review.")
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
        async with opened(given) as (_, engine), direct(engine) as connection:
            async with connection.transaction():
                found = await break_glass.review(connection, grant, finding, by.strip())
                who = operations(given.controller)
                await record_now(connection, _access(who, "break-glass-review", [found.person]))
            return found

    found = run(work())
    console.line(f"Found {found.finding} by {found.reviewer}.")
    console.document(found._asdict())


def opt_outs(
    file: Annotated[Path, typer.Argument(help="The list: one NHS number a line.")],
    produced: Annotated[datetime | None, typer.Option(help="When it was made, in UTC; else when the file was.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Though it is much shorter than the one before.")] = False,
    json: Json = False,
) -> None:
    """Load the list of national data opt-outs, whole, in place of the one before."""
    console, given = Console(json), settings()
    listed, moment = _list(file, produced)

    async def work() -> Loaded:
        async with opened(given) as (_, engine), direct(engine) as connection:
            before = await opt_out.size(connection)
            if 0 < len(listed) < before * SHRUNK and not force:
                raise CommandError(
                    f"The list has {len(listed):,}, the one before {before:,}: look, then say --force.", 5
                )
            return await opt_out.load(connection, listed, moment)

    done = run(work())
    console.line(f"{done.rows:,} have opted out: {done.added:,} more than before, {done.removed:,} no longer.")
    console.document(done._asdict() | {"produced": moment})


def _list(file: Path, produced: datetime | None) -> tuple[set[str], datetime]:
    """The numbers, and when the list was made. Raises CommandError, FhirError."""
    try:
        moment = produced.replace(tzinfo=UTC) if produced else datetime.fromtimestamp(file.stat().st_mtime, UTC)
        with file.open(encoding="utf-8-sig") as lines:
            listed = set(opt_out.numbers(lines))
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"The list cannot be read ({type(error).__name__}).", 3) from None
    if moment > datetime.now(UTC):
        raise CommandError("The list says that it is made in the future: correct --produced.", 3)
    return listed, moment


def _whose(text: str) -> str:
    """An id, or what is read from standard input: everybody on the machine sees arguments. Raises CommandError."""
    given = sys.stdin.readline().strip() if text == "-" else text
    if text != "-" and is_nhs_number(unspaced(text)):
        raise CommandError("Everybody on this machine sees arguments: say --person - and type the NHS number.", 2)
    if not is_nhs_number(unspaced(given)) and not ID.fullmatch(given):
        raise CommandError("--person is the id of a Patient, as in its address, or - to type it or an NHS number.", 2)
    return given


async def _patient(connection: Connection, whose: str) -> str:
    """The Patient's id. Raises FhirError for an NHS number that nobody has, or more than one."""
    number = unspaced(whose)
    if not is_nhs_number(number):
        return whose
    found = (await holders(connection, [number])).get(number, [])
    if len(found) != 1:
        raise FhirError(Issue("not-found", f"{len(found) or 'No'} Patients have this NHS number: give the id of one"))
    return found[0]


def _tell(console: Console, found: Explained) -> None:
    seen = "all" if found.seen == found.held else "none" if not found.seen else f"{found.seen:,}"
    console.line(f"{found.type}: sees {seen} of {found.held:,}" if found.held else f"{found.type}: there are none")
    for reason in found.reasons:
        console.line(
            f"  {'+' if reason.allows else '-'} {reason.text}" + (f" [{reason.rests_on}]" if reason.rests_on else "")
        )
    if found.remedies:
        console.line(f"  It would be visible if: {'; or '.join(found.remedies)}.")


def _document(found: Sequence[Explained]) -> list[dict[str, Any]]:
    return [
        {
            "type": each.type,
            "held": each.held,
            "seen": each.seen,
            "reasons": [reason._asdict() for reason in each.reasons],
            "would_change": each.remedies,
        }
        for each in found
    ]


def _line(grant: Grant) -> list[str]:
    moment = f"{grant.granted.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    who = [grant.organisation, grant.practitioner, grant.person]
    return [grant.id, moment, *who, grant.reason, grant.finding or "waits for a review"]


def _access(permit: Permit, operation: str, persons: Sequence[str]) -> Access:
    return Access(
        "operation",
        "fhirgw",
        datetime.now(UTC),
        str(uuid.uuid4()),
        operation=operation,
        permit=permit,
        seen=[Seen("Patient", each, each) for each in persons],
    )
