"""Alerts of homecare visits: the open ones, and one that somebody takes in hand.

    GET /homecare/alerts
    POST /homecare/alerts/{id}/$acknowledge     {"note": "…"}, or nothing

Both are short for what FHIR says of Tasks, with ids, codes and times; the Tasks themselves are searched and read below
the FHIR base. Changes as they happen: fhirgw.api.alert_stream.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access import writing
from fhirgw.access.permit import Permit
from fhirgw.api import received
from fhirgw.api.alert_stream import STREAM, stream
from fhirgw.api.answer import ID, PRIVATE, interactions
from fhirgw.api.audit import entry
from fhirgw.api.context import context, permitted
from fhirgw.api.visit_status import parameters
from fhirgw.api.writers import written
from fhirgw.fhir import incoming
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store import alerts
from fhirgw.store.database import Connection
from fhirgw.store.replay import Answer
from fhirgw.store.resources import absent
from fhirgw.visits.alert_task import shown

ALERTS = "/homecare/alerts"
ACKNOWLEDGE = f"{ALERTS}/{{id}}/$acknowledge"
LONGEST_BODY, LONGEST_NOTE = 16 * 1024, 500
JSON = ("application/json", "text/json", "application/fhir+json")
KEPT = ("id", "version", "open", "status")
"""What is told of an acknowledgement that is sent again: what became of it, for the rest may be hidden by then."""
PLAIN = {"content-type": "application/json", **PRIVATE}


async def listed(request: Request) -> Response:
    """GET /homecare/alerts: the open ones that the caller may see, the newest first."""
    permit = permitted(request)
    alerts.check(permit)
    parameters(request)
    async with context(request).look(permit) as connection:
        found = await alerts.standing(connection, permit)
    entry(request).saw_all(("Task", each.id, each.patient) for each in found)
    return Response(orjson.dumps({"alerts": [shown(each.task) for each in found]}), headers=PLAIN)


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
