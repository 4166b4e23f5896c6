"""Homecare visits, pushed by the care providers who make them.

    POST /homecare/visits

One visit or a list as JSON, lines of JSON, a FHIR Bundle, or a spreadsheet as CSV (fhirgw.api.visit_rows): they come to
the same rows. Each row has a receipt (fhirgw.visits.receipt), in the order of the rows; good rows are kept when others
are refused. What the answer says is stored is durable. Sent again, under the same X-Request-ID or another, it has its
effect once; a file that names itself is taken in once. Visits that come one by one share commits.

Lines of JSON without an X-Request-ID are taken in while they arrive, PIECE by PIECE: what was taken in before a
connection broke is kept, and the rest is sent again, or all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.audit_event import Seen
from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.api import received
from fhirgw.api.answer import interactions
from fhirgw.api.audit import access, entry
from fhirgw.api.context import permitted
from fhirgw.api.visit_company import TRIES, Company, Single
from fhirgw.api.visit_rows import BUNDLE, CSV, JSON, LINES, TAKEN, TOLD, Batch, Rows, lines, media, numbered
from fhirgw.api.writers import Writers, request_id, written
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store import audit, submissions
from fhirgw.store import visits as store
from fhirgw.store.database import Connection
from fhirgw.store.replay import About, Answer
from fhirgw.store.submissions import Coming
from fhirgw.visits.batch import TWICE, at_once, told_apart
from fhirgw.visits.certify import Cases
from fhirgw.visits.quality import Standard
from fhirgw.visits.reading import Refused, Sent
from fhirgw.visits.receipt import Receipt, refusal, summed

PUSH = "/homecare/visits"
PIECE = 500
"""Lines taken in at a time: each is a commit."""
LARGE = 256 * 1024
"""Bytes from which a body is read in a thread: ten thousand visits take half a second."""
STREAMED = 100_000
"""Lines of one request: their receipts are told together."""
CARE_PROVIDER = "https://fhirgw.uk/fhir/CodeSystem/consent-sharing|care-provider"
"""The party that every application of a care provider is."""
WRITTEN = ("Appointment", "Encounter")
"""What every visit is; whoever sends one creates and updates them."""
PLAIN = {"content-type": "application/json"}
WAYS = {"lines": LINES, "csv": CSV, "bundle": BUNDLE, "json": JSON}
"""What a submission is said to have come as, by the types of its body."""


def makes_visits(permit: Permit) -> bool:
    """Whether it is a care provider who asks, for direct care and for nobody alone."""
    return CARE_PROVIDER in permit.parties and permit.purpose == Purpose.DIRECT_CARE and permit.patient is None


@dataclass(frozen=True, slots=True)
class Visits:
    """Made by the composition root. `writers` are for visits alone, so that nothing else takes their connections."""

    writers: Writers
    rows: Rows
    controller: str
    company: Company
    standard: Standard
    cases: Cases

    def provider(self, permit: Permit) -> store.Provider:
        """Who sends visits by this permit. Raises FhirError(forbidden): the token alone decides it."""
        for kind in WRITTEN:
            permit.require("c", kind)
            permit.require("u", kind)
        if not makes_visits(permit):
            told = "Visits are sent by the care providers who make them, for direct care"
            raise FhirError(Issue("forbidden", told))
        return store.Provider(permit.organisation, permit.parties, self.controller)

    def judged(self, batch: Batch, provider: store.Provider) -> list[Sent | Refused]:
        """What each row says, before any connection is asked for."""
        now, reader = self.writers.now(), self.rows.reader
        return told_apart(
            [row if isinstance(row, Refused) else reader.read(row, provider.code, now) for _, row in batch.rows]
        )

    def read(self, request: Request, body: bytes, provider: store.Provider) -> tuple[Batch, list[Sent | Refused]]:
        """A body's batch, and what its rows say."""
        batch = self.rows.of(request, body, provider.code)
        return batch, self.judged(batch, provider)

    async def take(
        self,
        connection: Connection,
        provider: store.Provider,
        batch: Batch,
        judged: Sequence[Sent | Refused],
        now: datetime,
        *,
        alone: bool,
    ) -> tuple[list[Receipt], tuple[About, ...]]:
        """The receipts of the rows, in their order, and the Encounters they are, for the audit."""
        sound = [each for each in judged if isinstance(each, Sent)]
        results = iter(await store.take(connection, provider, sound, now, alone=alone))
        receipts: list[Receipt] = []
        about: dict[About, None] = {}
        twice = at_once(judged)
        for at, ((number, _), each) in enumerate(zip(batch.rows, judged, strict=True)):
            if isinstance(each, Refused):
                receipts.append(refusal(number, batch.called(each)))
                continue
            result = next(results)
            faults = (*([result.fault] if result.fault else ()), *([TWICE] if at in twice else ()))
            receipts.append(Receipt(number, each.visit, result.status, result.id, faults))
            if result.id:
                about["Encounter", result.id, result.patient] = None
        return receipts, tuple(about)


async def push(request: Request) -> Response:
    """POST /homecare/visits: 422 where one visit is sent alone and refused, else 200 with a receipt for each row."""
    here: Visits = request.app.state.visits
    provider = here.provider(permitted(request))
    if media(request) in LINES and request_id(request) is None:
        return await _streamed(request, here, provider)
    body = await received.body(request, here.writers.longest, TAKEN, TOLD)
    if len(body) > LARGE:  # others are served meanwhile
        batch, judged = await asyncio.to_thread(here.read, request, body, provider)
    else:
        batch, judged = here.read(request, body, provider)
    if batch.alone and batch.file is None and request_id(request) is None:
        return await _single(request, here, provider, judged[0])
    alone = False

    async def work(connection: Connection, permit: Permit, now: datetime) -> Answer:
        receipts, about = await here.take(connection, provider, batch, judged, now, alone=alone)
        if batch.file is not None and any(each.status != "refused" for each in receipts):
            await store.take_file(connection, provider, batch.file, now)
        coming = submissions.single(provider.code, now) if batch.alone else _coming(request, batch.file)
        await submissions.note(connection, provider.code, coming, receipts, now)
        status = _status(receipts[0].status) if batch.alone else 200
        told = summed(receipts, None if batch.alone else str(coming.id))
        return Answer(status, dict(PLAIN), orjson.dumps(told).decode(), about=about)

    for _ in range(TRIES):
        try:
            return await written(request, PUSH, "update" if batch.alone else "batch", body, work, here.writers)
        except store.Lost:
            alone = True
    raise store.Lost


async def _single(request: Request, here: Visits, provider: store.Provider, read: Sent | Refused) -> Response:
    """One visit, together with those of others that wait at the same moment."""
    noted = entry(request)
    noted.interaction = "update"
    if isinstance(read, Refused):
        return await _refused(request, here, provider, refusal(1, read))

    def audited(result: store.Result) -> audit.Row:
        seen = [Seen("Encounter", result.id, result.patient)] if result.id else []
        return audit.row(replace(access(request, PUSH, _status(result.status), noted), seen=seen))

    result = await here.company(Single(provider, read, audited))
    noted.durable = True
    faults = (result.fault,) if result.fault else ()
    return _told([Receipt(1, read.visit, result.status, result.id, faults)], _status(result.status))


async def _refused(request: Request, here: Visits, provider: store.Provider, receipt: Receipt) -> Response:
    """The answer to a visit that came alone and is not taken: noted, so that it is found again."""
    async with here.writers.transaction() as connection:
        now = here.writers.now()
        await submissions.note(connection, provider.code, submissions.single(provider.code, now), [receipt], now)
        await audit.append(connection, [audit.row(access(request, PUSH, 422, entry(request)))])
    entry(request).durable = True
    return _told([receipt], 422)


def _coming(request: Request, file: str | None) -> Coming:
    """A submission is known by the id that its request has, in the audit too."""
    kind = media(request)
    return Coming(UUID(entry(request).request), next(way for way, media in WAYS.items() if kind in media), file)


def _status(status: str) -> int:
    """HTTP's status of a visit that was sent alone."""
    return 422 if status == "refused" else 200


def _told(receipts: Sequence[Receipt], status: int = 200, submission: str | None = None) -> Response:
    told = orjson.dumps(summed(receipts, submission))
    return Response(told, status, PLAIN | {"cache-control": "private, no-cache"})


async def _streamed(request: Request, here: Visits, provider: store.Provider) -> Response:
    """Lines as they arrive: each piece is done, audited and durable before the next is read."""
    receipts: list[Receipt] = []
    piece: list[bytes] = []
    entry(request).interaction = "batch"
    try:
        async for line in lines(received.pieces(request, here.writers.longest * 10, LINES, TOLD)):
            piece.append(line)
            if len(receipts) + len(piece) > STREAMED:
                raise FhirError(Issue("too-long", f"At most {STREAMED:,} visits at once: send the rest by itself"))
            if len(piece) == PIECE:
                receipts += await _piece(request, here, provider, piece, len(receipts) + 1)
                piece = []
    except ClientDisconnect:  # nobody is there to be told
        return Response(status_code=400)
    if piece:
        receipts += await _piece(request, here, provider, piece, len(receipts) + 1)
    return _told(receipts, submission=entry(request).request)


async def _piece(
    request: Request, here: Visits, provider: store.Provider, piece: Sequence[bytes], first: int
) -> list[Receipt]:
    batch = Batch(list(numbered(piece, first)))
    judged = here.judged(batch, provider)
    for attempt in range(TRIES):
        try:
            async with here.writers.transaction() as connection:
                now = here.writers.now()
                receipts, about = await here.take(connection, provider, batch, judged, now, alone=attempt > 0)
                await submissions.note(connection, provider.code, _coming(request, None), receipts, now)
                told = replace(access(request, PUSH, 200, entry(request)), seen=[Seen(*each) for each in about])
                await audit.append(connection, [audit.row(told)])
        except store.Lost:
            continue
        return receipts
    raise store.Lost


def routes() -> list[Route]:
    """Where care providers send what they did."""
    return [interactions(PUSH, POST=push)]
