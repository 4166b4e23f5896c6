"""Homecare visits, pushed by the care providers who make them.

    POST /homecare/visits

One visit or a list as JSON, lines of JSON, a FHIR Bundle, or a spreadsheet as CSV (fhirgw.api.visit_rows): they come to
the same rows. Each row has a receipt (fhirgw.visits.receipt), in the order of the rows; good rows are kept when others
are refused. What the answer says is stored is durable. Sent again, under the same X-Request-ID or another, it has its
effect once; a file that names itself is taken in once. Visits that come one by one share commits.

A care provider's application sends its own visits. A council's own application that is registered with the role
`homecare` (a monitoring system that many care providers share) sends those of any: each row names its `provider`, by
ODS code, and is as if that care provider had sent it.

Lines of JSON without an X-Request-ID are taken in while they arrive, PIECE by PIECE: what was taken in before a
connection broke is kept, and the rest is sent again, or all of it.

Long, because what a push promises (receipts, once only, kept while it comes) is one walk through these functions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.audit_event import Access, Seen
from fhirgw.access.permit import COUNCIL, Permit
from fhirgw.access.purpose import Purpose
from fhirgw.api import received
from fhirgw.api.answer import interactions
from fhirgw.api.audit import access, entry
from fhirgw.api.authenticate import ROLES
from fhirgw.api.context import permitted
from fhirgw.api.visit_company import TRIES, Company, Single
from fhirgw.api.visit_rows import (
    BUNDLE,
    CSV,
    JSON,
    LINES,
    TAKEN,
    TOLD,
    Batch,
    NumberedRow,
    Rows,
    lines,
    media,
    numbered,
    readable,
)
from fhirgw.api.writers import Writers, request_id, written
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.nhs import is_ods_code
from fhirgw.store import audit, submissions
from fhirgw.store import visits as store
from fhirgw.store.database import Connection
from fhirgw.store.replay import About, Answer
from fhirgw.store.submissions import Coming
from fhirgw.visits.batch import at_once, met, told_apart
from fhirgw.visits.certify import Cases
from fhirgw.visits.quality import Standard
from fhirgw.visits.reading import Fault, Refused, Sent
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
HOMECARE = "homecare"
"""The role of a council's application that sends visits of many care providers."""
UNNAMED = Fault(
    "provider",
    "required",
    "a row says which care provider made the visit",
    "Fill in its ODS code, as provider",
)
STRANGE = Fault(
    "provider",
    "unknown",
    "no organisation here has this ODS code",
    "Correct the code, or have the council add the care provider",
)
WRITTEN = ("Appointment", "Encounter")
"""What every visit is; whoever sends one creates and updates them."""
PLAIN = {"content-type": "application/json"}
WAYS = {"lines": LINES, "csv": CSV, "bundle": BUNDLE, "json": JSON}
"""What a submission is said to have come as, by the types of its body."""


def makes_visits(permit: Permit) -> bool:
    """Whether it is a care provider who asks, for direct care and for nobody alone."""
    return CARE_PROVIDER in permit.parties and permit.purpose == Purpose.DIRECT_CARE and permit.patient is None


class Sender(NamedTuple):
    """Who sends visits: a care provider its own, or (`many`) a council's system those of the providers it names."""

    own: store.Provider
    many: bool = False

    def providers(self, rows: Sequence[NumberedRow]) -> dict[str, list[int]]:
        """By the ODS code of a care provider, the places of its rows; those that name none under an empty one."""
        if not self.many:
            return {self.own.code: list(range(len(rows)))}
        found: dict[str, list[int]] = {}
        for at, (_, row) in enumerate(rows):
            code = row.get("provider") if isinstance(row, dict) else None
            found.setdefault(code if isinstance(code, str) and is_ods_code(code) else "", []).append(at)
        return dict(sorted(found.items()))  # in one order, so that nobody waits for another who waits


class Part(NamedTuple):
    """The rows of one care provider: their places in the batch, and what each says."""

    provider: str
    places: Sequence[int]
    judged: Sequence[Sent | Refused]


def _unnamed(read: Sent | Refused) -> Refused:
    """A row that does not say which care provider it is of."""
    return read if isinstance(read, Refused) and not read.visit else Refused(read.visit, (UNNAMED,))


def _strange(read: Sent | Refused) -> Refused:
    """A row of a care provider that nobody knows here."""
    return read if isinstance(read, Refused) else Refused(read.visit, (STRANGE,))


@dataclass(frozen=True, slots=True)
class Visits:
    """Made by the composition root. `writers` are for visits alone, so that nothing else takes their connections."""

    writers: Writers
    rows: Rows
    controller: str
    company: Company
    standard: Standard
    cases: Cases

    def provider(self, permit: Permit, roles: Collection[str]) -> Sender:
        """Who sends visits by this permit. Raises FhirError(forbidden): the token alone decides it."""
        for kind in WRITTEN:
            permit.require("c", kind)
            permit.require("u", kind)
        if COUNCIL in permit.parties and permit.organisation == self.controller and HOMECARE in roles:
            return Sender(store.Provider(permit.organisation, permit.parties, self.controller), many=True)
        if not makes_visits(permit):
            told = "Visits are sent by the care providers who make them, for direct care"
            raise FhirError(Issue("forbidden", told))
        return Sender(store.Provider(permit.organisation, permit.parties, self.controller))

    def judged(self, batch: Batch, sender: Sender) -> list[Part]:
        """What the rows of each care provider say, before any connection is asked for."""
        now, reader = self.writers.now(), self.rows.reader
        parts: list[Part] = []
        for code, places in sender.providers(batch.rows).items():
            rows = [batch.rows[at][1] for at in places]
            read = [row if isinstance(row, Refused) else reader.read(row, code, now) for row in rows]
            parts.append(Part(code, places, told_apart(read) if code else [_unnamed(each) for each in read]))
        return parts

    def read(self, request: Request, body: bytes, sender: Sender) -> tuple[Batch, list[Part]]:
        """A body's batch, and what its rows say."""
        batch = self.rows.of(request, body, sender.own.code)
        if sender.many and media(request) in BUNDLE:
            told = "A Bundle is of one care provider, and sent by it: send visits of many as JSON, lines of it, or CSV"
            raise FhirError(Issue("not-supported", told))
        return batch, self.judged(batch, sender)

    async def take(
        self,
        connection: Connection,
        sender: Sender,
        batch: Batch,
        parts: Sequence[Part],
        now: datetime,
        *,
        alone: bool,
    ) -> tuple[list[Receipt], tuple[About, ...]]:
        """The receipts of the rows, in their order, and the Encounters they are, for the audit."""
        named = [part.provider for part in parts]
        known = await store.known(connection, named, self.controller) if sender.many else {sender.own.code: sender.own}
        judged = [
            (at, each if provider else _strange(each), provider)
            for part in parts
            for provider in [known.get(part.provider)]
            for at, each in zip(part.places, part.judged, strict=True)
        ]
        sound = [(provider, each) for _, each, provider in judged if provider and isinstance(each, Sent)]
        results = iter(await store.take_all(connection, sound, self.rows.reader.rules, now, alone=alone))
        twice = {part.places[at]: other for part in parts for at, other in at_once(part.judged).items()}
        receipts: dict[int, Receipt] = {}
        about: dict[About, None] = {}
        for at, each, _ in judged:
            number = batch.rows[at][0]
            if isinstance(each, Refused):
                receipts[at] = refusal(number, batch.called(each))
                continue
            result = next(results)
            faults = (*result.faults, *([met(twice[at])] if at in twice and not result.meets else ()))
            told = batch.called(Refused(each.visit, faults)).faults if faults else ()
            receipts[at] = Receipt(number, each.visit, result.status, result.id, told)
            if result.id:
                about["Encounter", result.id, result.patient] = None
        return [receipts[at] for at in range(len(batch.rows))], tuple(about)


async def push(request: Request) -> Response:
    """POST /homecare/visits: 422 where one visit is sent alone and refused, else 200 with a receipt for each row."""
    here: Visits = request.app.state.visits
    sender = here.provider(permitted(request), request.scope.get(ROLES, ()))
    readable(request)
    if media(request) in LINES and request_id(request) is None:
        return await _streamed(request, here, sender)
    body = await received.body(request, here.writers.longest, TAKEN, TOLD)
    if len(body) > LARGE:  # others are served meanwhile
        batch, judged = await asyncio.to_thread(here.read, request, body, sender)
    else:
        batch, judged = here.read(request, body, sender)
    if batch.alone and batch.file is None and not sender.many and request_id(request) is None:
        return await _single(request, here, sender.own, judged[0].judged[0])
    alone = False

    async def work(connection: Connection, permit: Permit, now: datetime) -> Answer:
        receipts, about = await here.take(connection, sender, batch, judged, now, alone=alone)
        if batch.file is not None and any(each.status != "refused" for each in receipts):
            await store.take_file(connection, sender.own, batch.file, now)
        coming = submissions.single(sender.own.code, now) if batch.alone else _coming(request, batch.file)
        await submissions.note(connection, sender.own.code, coming, receipts, now)
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

    def audited(result: store.Result) -> Access:
        seen = [Seen("Encounter", result.id, result.patient)] if result.id else []
        return replace(access(request, PUSH, _status(result.status), noted), seen=seen)

    result = await here.company(Single(provider, read, audited))
    noted.durable = True
    return _told([Receipt(1, read.visit, result.status, result.id, result.faults)], _status(result.status))


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


async def _streamed(request: Request, here: Visits, sender: Sender) -> Response:
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
                receipts += await _piece(request, here, sender, piece, len(receipts) + 1)
                piece = []
    except ClientDisconnect:  # nobody is there to be told
        return Response(status_code=400)
    if piece:
        receipts += await _piece(request, here, sender, piece, len(receipts) + 1)
    return _told(receipts, submission=entry(request).request)


async def _piece(request: Request, here: Visits, sender: Sender, piece: Sequence[bytes], first: int) -> list[Receipt]:
    batch = Batch(list(numbered(piece, first)))
    judged = here.judged(batch, sender)
    for attempt in range(TRIES):
        try:
            async with here.writers.transaction() as connection:
                now = here.writers.now()
                receipts, about = await here.take(connection, sender, batch, judged, now, alone=attempt > 0)
                await submissions.note(connection, sender.own.code, _coming(request, None), receipts, now)
                told = replace(access(request, PUSH, 200, entry(request)), seen=[Seen(*each) for each in about])
                await audit.append(connection, [audit.row(told)])
        except store.Lost:
            continue
        return receipts
    raise store.Lost


def routes() -> list[Route]:
    """Where care providers send what they did."""
    return [interactions(PUSH, POST=push)]
