"""Commands about the audit: verify, list, who-looked. What they show of people is audited like everything else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import orjson
import typer

from fhirgw.access.audit_event import ID, OPERATION, REGISTRATION, Seen
from fhirgw.access.audit_facets import Facets, facets
from fhirgw.access.permit import Permit, operations
from fhirgw.access.purpose import Purpose
from fhirgw.access.scope import Scope
from fhirgw.access.who_looked import about, account, groups
from fhirgw.api.who_looked import ROWS, organisations, showing
from fhirgw.cli.audited import audited
from fhirgw.cli.commands import PLAIN
from fhirgw.cli.console import Console
from fhirgw.cli.data import Json
from fhirgw.cli.running import CommandError, opened, run, settings
from fhirgw.fhir.issue import Resource
from fhirgw.store.audit_chain import Point, Verdict, verify
from fhirgw.store.called import called
from fhirgw.store.database import declared, direct
from fhirgw.store.looked import TIPPING_OFF, listed, looked

app = typer.Typer(
    **PLAIN, help="What was looked at, by whom: whether it is sound, and what it says.", no_args_is_help=True
)
Count = Annotated[int, typer.Option(min=1, max=100_000, help="How many at most, the newest first.")]


@app.command("verify")
def verify_all(
    noted: Annotated[list[str], typer.Option(help="A point that this command printed earlier; may be repeated.")] = [],  # noqa: B006
    start: Annotated[
        str | None, typer.Option("--from", help="A point up to which it was verified before: read what came after.")
    ] = None,
    json: Json = False,
) -> None:
    """Read the whole audit, and say whether anything in it was changed, taken out, put in or cut off.

    Note the point it prints where nobody who runs the gateway can change it, and give it with --noted next time:
    whoever owns the database could write the whole chain anew.
    """
    console, points = Console(json), [_point(each) for each in noted]
    begin = _point(start) if start else None

    async def work() -> Verdict:
        async with opened(settings()) as (_, engine), direct(engine) as connection:
            return await verify(connection, points, begin)

    found = run(work())
    told = {"sound": found.sound, "rows": found.rows, "head": str(found.head)}
    console.document(told if found.sound else told | {"broken": found.broken, "why": found.why})
    if not found.sound:
        raise CommandError(f"The audit is not sound. Number {found.broken}: {found.why}.", 8)
    console.line(f"The audit is sound: {found.rows:,} accesses. Note the newest elsewhere: {found.head}")


@app.command("list")
def list_some(
    person: Annotated[str | None, typer.Option(help="Only accesses to the record of this Patient's id.")] = None,
    application: Annotated[str | None, typer.Option("--app", help="Only by this application.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Only after this moment, in UTC.")] = None,
    count: Count = 50,
    json: Json = False,
) -> None:
    """List accesses, permitted and refused, the newest first."""
    console, given, whose = Console(json), settings(), person and _person(person)
    permit = operations(given.controller)

    async def work() -> tuple[list[Resource], dict[str, str]]:
        async with opened(given) as (_, engine), direct(engine) as connection:
            after = since and since.replace(tzinfo=UTC)
            rows = await listed(connection, person=whose, registration=application, since=after, count=count)
            events = [orjson.loads(each.body) for each in rows]
            parties = {_staff(each) for each in events} - {""}
            async with declared(connection, permit):
                names = await called(connection, permit, sorted(parties))
            seen = [Seen("AuditEvent", each["id"], whose) for each in events]
            asked = f"Patient/{whose}" if whose else None
            await audited(connection, given.controller, "audit-list", seen=seen, asked=asked)
            return events, names

    events, names = run(work())
    console.table(
        "Accesses",
        ["when (UTC)", "organisation", "application", "who", "purpose", "what", "of", "outcome"],
        [_line(each, facets(each), names) for each in events],
    )
    console.document(events)


@app.command("who-looked")
def who_looked(
    person: Annotated[str, typer.Argument(help="The id of the person's Patient.")],
    everything: Annotated[
        bool, typer.Option("--all", help="What is kept from the person too. Not to be handed to them.")
    ] = False,
    own: Annotated[bool, typer.Option("--own", help="What they looked at themselves, too.")] = False,
    each: Annotated[bool, typer.Option("--each", help="Every look by itself, not a day's together.")] = False,
    count: Count = 50,
    json: Json = False,
) -> None:
    """Tell who has looked at a person's record, in plain English: what the person may be told, to be handed to them."""
    console, given, whose = Console(json), settings(), _person(person)
    permit = operations(given.controller)
    themselves = Permit(given.controller, Purpose.PERSON, (Scope.parse("patient/*.rs"),), patient=whose)

    async def work() -> list[str]:
        async with opened(given) as (_, engine), direct(engine) as connection:
            hidden = () if everything else TIPPING_OFF
            rows = await looked(connection, whose, count=count if each else ROWS, hidden=hidden, own=own)
            events = [orjson.loads(row.body) for row in rows]
            told_of = [[event] for event in events] if each else groups(events, whose, count)
            events = [event for group in told_of for event in group]
            async with declared(connection, permit):
                names = await organisations(connection, permit, events)
            async with declared(connection, themselves):
                shown = None if everything else await showing(connection, themselves, events, whose)
            await audited(
                connection,
                given.controller,
                "who-looked",
                seen=[Seen("AuditEvent", event["id"], whose) for event in events],
                asked=f"Patient/{whose}",
            )
            return [account([about(event, whose, shown) for event in group], whose, names) for group in told_of]

    told = run(work())
    for line in told:
        console.line(line)
    if not told:
        console.line("Nobody has looked at this record.")
    console.document(told)


def _line(event: Resource, found: Facets, names: dict[str, str]) -> list[object]:
    kinds = [each["code"] for each in event["subtype"]]
    what = kinds[-1] if event["subtype"][-1]["system"] == OPERATION else kinds[0]
    of = "everybody" if "*" in found.persons else f"{len(found.persons)} people" if len(found.persons) > 1 else ""
    outcome = event.get("outcomeDesc", "permitted")
    moment = f"{found.recorded.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    whose = of or next(iter(found.persons), "") or _application(event)
    staff = _staff(event)
    who = names.get(staff, staff)
    return [moment, found.organisation, found.registration, who, found.purpose, what, whose, outcome]


def _staff(event: Resource) -> str:
    """The Practitioner who asked, if one did."""
    references = (each["who"].get("reference", "") for each in event["agent"])
    return next((each for each in references if each.startswith("Practitioner/")), "")


def _application(event: Resource) -> str:
    """The application that was registered or changed, or got a token."""
    whats = [each["what"]["identifier"] for each in event["entity"] if "identifier" in each.get("what", {})]
    return next((str(each["value"]) for each in whats if each["system"] == REGISTRATION), "")


def _person(text: str) -> str:
    """An id is all we take: everybody on the machine sees arguments. Raises CommandError."""
    if not ID.fullmatch(text):
        raise CommandError("PERSON is the id of a Patient, as in its address: never a name or an NHS number.", 2)
    return text


def _point(text: str) -> Point:
    try:
        return Point.parse(text)
    except ValueError:
        raise CommandError("--noted is a point that `fhirgw audit verify` printed: NUMBER:DIGEST.", 2) from None
