"""Alerts of homecare visits: the open ones, and one that somebody takes in hand.

    GET /homecare/alerts?kind=&status=&provider=&person=
    POST /homecare/alerts/{id}/$acknowledge     {"note": "…"}, or nothing

Both are short for what FHIR says of Tasks, with ids, codes and times; the Tasks themselves are searched and read below
the FHIR base. Changes as they happen: fhirgw.api.alert_stream.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access import writing
from fhirgw.access.permit import Permit
from fhirgw.api import asked, received
from fhirgw.api.alert_stream import STREAM, screened, stream
from fhirgw.api.answer import ID, PRIVATE, interactions
from fhirgw.api.audit import entry
from fhirgw.api.context import context, permitted
from fhirgw.api.homecare_asked import malformed, parameters, person, provider
from fhirgw.api.writers import written
from fhirgw.fhir import incoming
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store import alerts
from fhirgw.store.alerts import Alert, Cursor, Wanted
from fhirgw.store.database import Connection
from fhirgw.store.replay import Answer
from fhirgw.store.resources import absent
from fhirgw.visits.alert_task import OPEN, shown

ALERTS = "/homecare/alerts"
ACKNOWLEDGE = f"{ALERTS}/{{id}}/$acknowledge"
LONGEST_BODY, LONGEST_NOTE = 16 * 1024, 500
JSON = ("application/json", "text/json", "application/fhir+json")
PARAMETERS = ("kind", "status", "provider", "person", "_count", "_cursor")
PAGE = 1000
"""Alerts of a page, if nobody says; and at most."""
STAMPED = "%Y%m%dT%H%M%S.%f"
KEPT = ("id", "version", "open", "status")
"""What is told of an acknowledgement that is sent again: what became of it, for the rest may be hidden by then."""
PLAIN = {"content-type": "application/json", **PRIVATE}


async def listed(request: Request) -> Response:
    """GET /homecare/alerts: the open ones that the caller may see, the last changed first, page by page."""
    permit = permitted(request)
    alerts.check(permit)
    given = parameters(request, *PARAMETERS)
    count = asked.count(given.get("_count", str(PAGE)), PAGE)
    kinds = request.app.state.visits.rows.reader.rules.alerts
    after = _cursor(given["_cursor"]) if "_cursor" in given else None
    async with context(request).look(permit) as connection:
        found = await alerts.standing(connection, permit, _wanted(given, kinds), after, count + 1)
    page = found[:count]
    entry(request).saw_all(("Task", each.id, each.patient) for each in page)
    told: dict[str, Any] = {"alerts": [screened(each) for each in page]}
    if len(found) > count:
        kept = {name: value for name, value in given.items() if name != "_cursor"}
        told["next"] = f"{ALERTS}?{urlencode(kept | {'_cursor': _place(page[-1])})}"
    return Response(orjson.dumps(told), headers=PLAIN)


def _wanted(given: Mapping[str, str], kinds: Collection[str]) -> Wanted:
    """What is asked for. Raises FhirError: a word that is of no list would find nothing, as if nothing were wrong."""
    if given.get("kind", "") not in ("", *kinds):
        raise FhirError(Issue("invalid", f"kind is one of: {', '.join(kinds)}", "kind"))
    if given.get("status", OPEN[0]) not in OPEN:
        raise FhirError(Issue("invalid", f"status is one of: {', '.join(OPEN)}; others are found as Tasks", "status"))
    return Wanted(given.get("kind"), given.get("status"), provider(given), person(given))


def _place(each: Alert) -> str:
    return f"{each.updated.astimezone(UTC):{STAMPED}}_{each.id}"


def _cursor(text: str) -> Cursor:
    updated, _, id = text.partition("_")
    try:
        found = datetime.strptime(updated, STAMPED).replace(tzinfo=UTC)
    except ValueError:
        raise malformed() from None
    if not ID.fullmatch(id):
        raise malformed()
    return found, id


async def acknowledge(request: Request) -> Response:
    """POST /homecare/alerts/[id]/$acknowledge: whoever asks has it in hand, and it climbs no further."""
    permit = permitted(request)
    writing.check_type(permit, "u", "Task")
    alerts.check(permit)
    id: str = request.path_params["id"]
    if not ID.fullmatch(id):
        raise absent("alert")
    body = await _body(request)
    said = _note(incoming.parse(body)) if body else None

    async def work(connection: Connection, permit: Permit, now: datetime) -> Answer:
        task, patient = await alerts.acknowledge(connection, permit, id, said, now)
        told = shown(task)
        headers = {**PLAIN, "etag": f'W/"{task["meta"]["versionId"]}"'}
        kept = {name: told[name] for name in KEPT}
        return Answer(200, headers, _json(told), kept=_json(kept), about=(("Task", id, patient),))

    return await written(request, ACKNOWLEDGE, "operation", body, work)


def _json(told: Mapping[str, Any]) -> str:
    return orjson.dumps(told).decode()


async def _body(request: Request) -> bytes:
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return b""
    return await received.body(request, LONGEST_BODY, JSON, "Send a note as application/json, or nothing")


def _note(given: Any) -> str | None:
    """What somebody says of it. Raises FhirError(invalid)."""
    if isinstance(given, Mapping) and given.keys() <= {"note"}:
        note = given.get("note")
        if note is None or (
            isinstance(note, str) and note.strip() and len(note) <= LONGEST_NOTE and note.isprintable()
        ):
            return note
    told = f'Send {{"note": "…"}}, a line of at most {LONGEST_NOTE} characters, or nothing'
    raise FhirError(Issue("invalid", told))


def routes() -> list[Route]:
    """Where the duty desk looks."""
    return [
        interactions(ALERTS, GET=listed),
        interactions(STREAM, head=False, GET=stream),
        interactions(ACKNOWLEDGE, POST=acknowledge),
    ]
