"""Commands about subscriptions: who is told what, how far they have been, and trying again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from fhirgw.access.audit_event import Seen
from fhirgw.cli.audited import audited
from fhirgw.cli.commands import PLAIN
from fhirgw.cli.console import Console
from fhirgw.cli.data import Json
from fhirgw.cli.running import CommandError, opened, run, settings
from fhirgw.store import subscription
from fhirgw.store.database import direct
from fhirgw.store.subscription import Subscription

app = typer.Typer(**PLAIN, help="Who is told what happens, and how far they have been.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(help="The Subscription, as `fhirgw subscription ls` shows it.")]


@app.command("ls")
def list_all(json: Json = False) -> None:
    """List all subscriptions, with how many events wait to be taken, and since when delivery fails."""
    console, found = Console(json), run(_looked(None))
    rows = [
        [
            *(each.id, each.registration, each.topic.rpartition("/")[2], each.status),
            *(each.events, each.events - each.sent, _since(each.failing)),
        ]
        for each in found
    ]
    names = ["id", "application", "topic", "status", "events", "waiting", "failing since"]
    console.table("Subscriptions", names, rows)
    console.document([_document(each) for each in found])


@app.command()
def show(id: Id, json: Json = False) -> None:
    """Show one subscription; never the headers it is told with, which are secrets."""
    console, found = Console(json), run(_looked(id))
    told = _document(found[0])
    for name, value in told.items():
        console.line(f"{name:12} {'' if value is None else value}")
    console.document(told)


@app.command()
def retry(id: Id, json: Json = False) -> None:
    """Have a subscription tried at once; one in error, or off, shakes hands first."""
    console, given = Console(json), settings()

    async def work() -> None:
        async with opened(given) as (_, engine), direct(engine) as connection, connection.transaction():
            if not await subscription.again(connection, id):
                raise _unknown()
            await audited(connection, given.controller, "subscription-retry", seen=[Seen("Subscription", id, None)])

    run(work())
    console.line(f"It is tried within seconds by whoever serves or works: see `fhirgw subscription show {id}`.")
    console.document({"id": id})


async def _looked(id: str | None) -> list[Subscription]:
    """All of them, or that one. Raises CommandError where there is none."""
    given = settings()
    async with opened(given) as (_, engine), direct(engine) as connection, connection.transaction():
        one = await subscription.find(connection, id) if id else None
        found = await subscription.of(connection, None) if id is None else [one] if one else []
        if id and not found:
            raise _unknown()
        seen = [Seen("Subscription", each.id, None) for each in found]
        await audited(connection, given.controller, "subscription-list", seen=seen)
        return found


def _unknown() -> CommandError:
    return CommandError("There is no such Subscription: `fhirgw subscription ls` lists them.", 3)


def _since(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if moment else ""


def _document(found: Subscription) -> dict[str, Any]:
    told = ("id", "registration", "topic", "filters", "endpoint", "content", "status", "events", "sent", "attempts")
    moments = ("failing", "due", "ends")
    return (
        {name: getattr(found, name) for name in told}
        | {name: _since(getattr(found, name)) for name in moments}
        | {"reason": found.reason}
    )
