"""Alerts as they change, for a screen: server-sent events, under the permit that the caller has at that moment.

    GET /homecare/alerts/stream

First all that is open, then each change; `id` is where the stream stands, and `Last-Event-ID` goes on from there:
then `standing` has the ids of all that is open and may be seen, so that the rest is taken off a screen that was away.
Whoever asks is asked for their token again every REAUTHORISED seconds, and each look is a query with the predicate in
it; an alert that somebody may not see any more is taken off their screen. Nothing is sent that the audit does not
have. https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from fhirgw.access.permit import Permit
from fhirgw.api.audit import Entry, access
from fhirgw.api.authenticate import Refusal
from fhirgw.api.context import WAIT, context, permitted
from fhirgw.api.homecare_asked import parameters
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store import alerts
from fhirgw.store.alerts import Alert, Place
from fhirgw.store.audit import Auditor
from fhirgw.store.database import Connection, Readers, away, declared
from fhirgw.visits.alert_task import shown, stamp

STREAM = "/homecare/alerts/stream"
LOOKED, REAUTHORISED, HEARTBEAT = 2.0, 30.0, 15.0
"""Seconds between two looks, two questions for the token, and two signs of life."""
STREAMS, OF_ONE = 100, 20
"""Streams of a process, and of one application."""
RESUMED = timedelta(hours=12)
"""How far back a stream goes on from where it was: beyond that it begins anew."""
ID = re.compile(r"(\d{1,12})-(\d{1,20}:\d{1,20}:[\d,]{0,2000})")
HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
}


@dataclass(slots=True)
class Streams:
    """Those of one process. `pool` is theirs alone; `ending`: the process is asked to stop, so they do."""

    pool: Readers
    looked: float = LOOKED
    reauthorised: float = REAUTHORISED
    ending: bool = False
    open: Counter[str] = field(default_factory=Counter)

    def room(self, registration: str) -> bool:
        """Whether there may be one more."""
        return self.open.total() < STREAMS and self.open[registration] < OF_ONE


async def stream(request: Request) -> Response:
    """GET /homecare/alerts/stream: 503 where there are too many of them."""
    here, permit = cast(Streams, request.app.state.alerts), permitted(request)
    alerts.check(permit)
    parameters(request)
    if not here.room(permit.registration):
        told = "There are too many streams of alerts: close one, or ask again in a minute"
        raise Refusal(Issue("transient", told), {"retry-after": "60"})
    since = _since(request)
    if since is not None:  # before the answer's head is gone
        async with _reading(here, permit) as connection:
            await anext(alerts.changed(connection, permit, since), None)
    return StreamingResponse(_events(request, here, permit, since), headers=HEADERS)


async def _events(request: Request, here: Streams, permit: Permit, since: Place | None) -> AsyncIterator[bytes]:
    """The stream, while its caller may have it. Whatever fails, the caller connects again."""
    if not here.room(permit.registration):
        return
    here.open[permit.registration] += 1
    try:
        yield b"retry: 3000\n\n"
        async for event in _following(request, here, permit, since):
            yield event
    except FhirError as error:
        await _audited(request, permit, (), error.status)
        yield _event("end", {"status": error.status})
    except Exception as error:
        if not away(error):
            raise
        yield _event("end", {"status": 503})
    finally:
        here.open[permit.registration] -= 1


async def _following(request: Request, here: Streams, permit: Permit, since: Place | None) -> AsyncIterator[bytes]:
    told: set[str] = set()
    resumed = since is not None
    asked = alive = time.monotonic()
    while not here.ending:
        if time.monotonic() - asked >= here.reauthorised:
            permit, asked = await context(request).gate(request), time.monotonic()
        async with _reading(here, permit) as connection:
            found, since = await _look(connection, permit, since, told)
            if resumed:
                found.append(await _standing(connection, permit, told))
                resumed = False
        if found:
            await _audited(request, permit, [each for each in found if isinstance(each, Alert)])
            last = next((each for each in reversed(found) if isinstance(each, Alert)), None)
            for each in found:
                yield each if isinstance(each, bytes) else _told(each, since if each is last else None)
            alive = time.monotonic()
        elif time.monotonic() - alive >= HEARTBEAT:
            yield b": alive\n\n"
            alive = time.monotonic()
        await asyncio.sleep(here.looked)


async def _look(
    connection: Connection, permit: Permit, since: Place | None, told: set[str]
) -> tuple[list[Alert | bytes], Place]:
    """What is to be told now, and up to where that is; `told` are the alerts that are on the caller's screen."""
    here = await alerts.place(connection)
    found: list[Alert | bytes] = []
    if since is None:
        found.append(_event("reset", {}))
        changes = [each async for each in alerts.everything(connection, permit)]
    else:
        changes = [each async for each in alerts.changed(connection, permit, since)]
    hidden = told - await alerts.shown(connection, permit, sorted(told)) if told else set()
    found += [_event("gone", {"id": each}) for each in sorted(hidden)]
    found += reversed(changes)
    told.difference_update(hidden)
    told.update(each.id for each in changes)
    return found, here


async def _standing(connection: Connection, permit: Permit, told: set[str]) -> bytes:
    """The alerts that the caller may see now: what else was left on their screen is taken off."""
    told.clear()
    told.update([each.id async for each in alerts.everything(connection, permit)])
    return _event("standing", {"ids": sorted(told)})


def _told(each: Alert, since: Place | None) -> bytes:
    """`since`: up to where all has been told with this one; who is cut off before that hears all of it again."""
    return _event("alert", screened(each), f"{int(since.moment.timestamp())}-{since.snapshot}" if since else "")


def screened(each: Alert) -> dict[str, Any]:
    """What a screen shows of an alert: as its Task says, and of the visit when it was to be, and its sender's id."""
    told = {
        "visitId": each.visit,
        "plannedStart": stamp(each.start) if each.start else None,
        "plannedEnd": stamp(each.finish) if each.finish else None,
    }
    return shown(each.task) | {name: value for name, value in told.items() if value}


def _event(name: str, data: Any, id: str = "") -> bytes:
    """One event: JSON has no line breaks, so it is one line."""
    named = f"id: {id}\n" if id else ""
    return f"{named}event: {name}\ndata: ".encode() + orjson.dumps(data) + b"\n\n"


async def _audited(request: Request, permit: Permit, found: Sequence[Alert], status: int = 200) -> None:
    noted = Entry(permit=permit)
    noted.saw_all(("Task", each.id, each.patient) for each in found)
    await cast(Auditor, request.app.state.auditor).record(access(request, STREAM, status, noted))


def _since(request: Request) -> Place | None:
    """Where the caller's last stream was; None to begin anew. Raises FhirError(invalid)."""
    given = request.headers.get("last-event-id")
    if not given:
        return None
    parts = ID.fullmatch(given)
    if parts is None:
        raise FhirError(Issue("invalid", "Last-Event-ID is none of ours: connect without it"))
    moment = datetime.fromtimestamp(int(parts[1]), UTC) if int(parts[1]) < 2**32 else datetime.now(UTC)
    return Place(parts[2], moment) if datetime.now(UTC) - moment < RESUMED else None


@asynccontextmanager
async def _reading(here: Streams, permit: Permit) -> AsyncIterator[Connection]:
    """A transaction of one snapshot, on a connection of the streams' own."""
    async with (
        here.pool.acquire(timeout=WAIT) as connection,
        declared(connection, permit, isolation="REPEATABLE READ"),
    ):
        yield connection
