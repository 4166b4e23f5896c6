"""Homecare visits, pushed by the care providers who make them: one, a list, or lines of JSON.

    POST /homecare/visits

Each row has a receipt, in the order of the rows; good rows are kept when others are refused. What the answer says is
stored is durable. Sent again, under the same X-Request-ID or another, it has its effect once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.api import received
from fhirgw.api.answer import interactions
from fhirgw.api.context import permitted
from fhirgw.api.writers import Writers, written
from fhirgw.fhir import incoming
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store import visits as store
from fhirgw.store.database import Connection
from fhirgw.store.replay import Answer
from fhirgw.visits.batch import told_apart
from fhirgw.visits.reading import Reader, Refused, Sent
from fhirgw.visits.receipt import Receipt, refusal, summed

PUSH = "/homecare/visits"
ROWS = 10_000
"""Of one batch."""
JSON = ("application/json", "text/json")
TAKEN = "Send visits as JSON: Content-Type: application/json"
CARE_PROVIDER = "https://fhirgw.uk/fhir/CodeSystem/consent-sharing|care-provider"
"""The party that every application of a care provider is."""
WRITTEN = ("Appointment", "Encounter")
"""What every visit is; whoever sends one creates and updates them."""


@dataclass(frozen=True, slots=True)
class Visits:
    """Made by the composition root. `writers` are for visits alone, so that nothing else takes their connections."""

    writers: Writers
    reader: Reader
    controller: str


def visits(request: Request) -> Visits:
    """The visits of the app that got the request."""
    return cast(Visits, request.app.state.visits)


async def push(request: Request) -> Response:
    """POST /homecare/visits: a visit, or a list of at most ROWS. 422 where one visit is sent alone and refused."""
    permit, here = permitted(request), visits(request)
    check(permit)
    body = await received.body(request, here.writers.longest, JSON, TAKEN)
    found = incoming.parse(body)
    rows = found if isinstance(found, list) else [found]
    if len(rows) > ROWS:
        raise FhirError(Issue("too-long", f"A batch has at most {ROWS:,} visits: send it in parts"))

    async def work(connection: Connection, permit: Permit, now: datetime) -> Answer:
        provider = store.Provider.of(permit, here.controller)
        read = told_apart([here.reader.read(row, provider.code, now) for row in rows])
        receipts, about = await _taken(connection, provider, read, now)
        alone = not isinstance(found, list) and receipts[0].status == "refused"
        told = orjson.dumps(summed(receipts)).decode()
        return Answer(422 if alone else 200, {"content-type": "application/json"}, told, about=about)

    return await written(request, PUSH, "batch" if isinstance(found, list) else "update", body, work, here.writers)


def check(permit: Permit) -> None:
    """Raises FhirError(forbidden) for whoever sends no visits: the token alone decides it."""
    for kind in WRITTEN:
        permit.require("c", kind)
        permit.require("u", kind)
    if CARE_PROVIDER not in permit.parties or permit.purpose != Purpose.DIRECT_CARE or permit.patient is not None:
        told = "Visits are sent by the care providers who make them, for direct care"
        raise FhirError(Issue("forbidden", told))


async def _taken(
    connection: Connection, provider: store.Provider, read: Sequence[Sent | Refused], now: datetime
) -> tuple[list[Receipt], tuple[tuple[str, str, str | None], ...]]:
    """The receipts of rows, in their order, and the Encounters they are, for the audit."""
    sound = [(at, each) for at, each in enumerate(read) if isinstance(each, Sent)]
    results = await store.take(connection, provider, [each for _, each in sound], now)
    receipts = [refusal(at, each) if isinstance(each, Refused) else None for at, each in enumerate(read, 1)]
    for (at, each), result in zip(sound, results, strict=True):
        faults = (result.fault,) if result.fault else ()
        receipts[at] = Receipt(at + 1, each.visit, result.status, result.id, faults)
    about = {(("Encounter", each.id, each.patient)): None for each in results if each.id}
    return cast("list[Receipt]", receipts), tuple(cast("Any", about))


def routes() -> list[Route]:
    """Where care providers send what they did."""
    return [interactions(PUSH, POST=push)]
