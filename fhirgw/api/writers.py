"""One write as a request: claimed by its X-Request-ID, done, answered and audited in one transaction.

What is told to be done is done: effect, answer and audit are durable together, or none of them is. A refusal has no
effect, and is audited like any other answer.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from typing import cast

from starlette.requests import Request
from starlette.responses import Response

from fhirgw.access.permit import Permit
from fhirgw.api.answer import answer
from fhirgw.api.asked import preferences
from fhirgw.api.audit import access, entry
from fhirgw.api.context import WAIT, permitted
from fhirgw.api.headers import REQUEST_ID, UUID
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError, Issue, outcome
from fhirgw.store import audit, replay, submissions, write
from fhirgw.store.database import Connection, Readers
from fhirgw.store.replay import Answer
from fhirgw.store.writing import Written

SWEEP = 60.0
"""Seconds between two looks for answers that need not be kept any more."""
TOLD = {
    "created": "The resource was created",
    "updated": "The resource was updated",
    "unchanged": "The resource says that already: there is no new version",
    "deleted": "The resource was deleted; its history is still there",
}

STATUS = {"created": 201, "deleted": 204}
"""HTTP's status of a change; the others are 200."""
RETURNS = {each.lower(): each for each in ("minimal", "representation", "OperationOutcome")}
MOST_WARNINGS = 8
"""Warnings that are headers of one answer; who prefers an OperationOutcome gets all."""
Work = Callable[[Connection, Permit, datetime], Awaitable[Answer]]


@dataclass(slots=True)
class Writers:
    """The connections of requests that write. `skew`: how far the database's clock is ahead, whose stamps we use.

    `longest`: bytes of a body; `entries`: of a Bundle.
    """

    pool: Readers
    longest: int
    entries: int
    skew: timedelta = timedelta()
    swept: float = field(default_factory=time.monotonic)

    def now(self) -> datetime:
        """The moment, as versions are stamped with it: to the millisecond."""
        moment = datetime.now(UTC) + self.skew
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A transaction that is kept where its block ends well. Raises FhirError for what the store refuses."""
        async with self.connection() as connection, connection.transaction():
            await self._sweep(connection)
            yield connection

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection whose statements are kept one by one. Raises FhirError for what the store refuses."""
        async with self.pool.acquire(timeout=WAIT) as connection:
            try:
                yield connection
            except write.COLLISIONS:
                raise write.conflict() from None
            except write.REFUSED:
                told = "A text, a number or a date in it is more than can be stored: shorten it"
                raise FhirError(Issue("too-long", told), status=422) from None

    async def _sweep(self, connection: Connection) -> None:
        if time.monotonic() - self.swept > SWEEP:
            self.swept = time.monotonic()
            await replay.sweep(connection)
            await submissions.sweep(connection)


def writers(request: Request) -> Writers:
    """The writers of the app that got the request."""
    return cast(Writers, request.app.state.writers)


async def written(
    request: Request, template: str, interaction: str, body: bytes, work: Work, here: Writers | None = None
) -> Response:
    """The answer of a write, once all of it is durable; the one it got before, if it was sent again.

    `template` and `interaction` are what the audit calls it; `here` is who writes, where it is not the app's own.
    """
    permit, here = permitted(request), here or writers(request)
    entry(request).interaction = interaction
    id = request_id(request)
    digest = _digest(request, body) if id else b""
    async with here.transaction() as connection:
        found = await replay.claimed(connection, permit, id, digest) if id else None
        if found is None:
            found = await work(connection, permit, here.now())
            if id:
                await replay.store(connection, permit, id, digest, found)
        entry(request).saw_all(found.about)
        await audit.append(connection, [audit.row(access(request, template, found.status, entry(request)))])
    entry(request).durable = True
    return sent(found)


def sent(found: Answer) -> Response:
    """The response of an answer."""
    if not found.body:
        return Response(status_code=found.status, headers=found.headers)
    return answer(found.body.encode(), found.status, found.headers)


def told_of(done: Written, base: str, wish: str) -> Answer:
    """How a change is answered; `wish` is what Prefer says of the return.

    R4 has a place for warnings in an OperationOutcome alone, which is for who prefers it. To others, whose body is the
    resource or nothing, they are headers of HTTP's: Warning, with 299 for what lasts
    (https://www.rfc-editor.org/rfc/rfc7234#section-5.5; RFC 9111 has no other in its place).
    """
    status = STATUS.get(done.kind, 200)
    headers = {"etag": f'W/"{done.version}"'}
    if done.updated is not None:
        headers["last-modified"] = format_datetime(done.updated.astimezone(UTC), usegmt=True)
    if done.kind != "deleted":
        headers["location"] = location(done, base)
    if done.doubts:
        headers["warning"] = ", ".join(f'299 - "{e.expression}: {e.diagnostics}"' for e in done.doubts[:MOST_WARNINGS])
    if wish == "OperationOutcome":
        return Answer(200 if status == 204 else status, headers, encode(said(done)).decode())
    if wish == "minimal" or done.body is None:
        return Answer(status, headers)
    return Answer(status, headers, done.body, source=f"{done.type}/{done.id}/{done.version}")


def said(done: Written) -> dict[str, object]:
    """The OperationOutcome of a change that was made."""
    return outcome([Issue("informational", TOLD[done.kind], severity="information"), *done.doubts])


def location(done: Written, base: str) -> str:
    """Where the version is."""
    return f"{base}/{done.type}/{done.id}/_history/{done.version}"


def preferred(request: Request) -> str | None:
    """What Prefer says of the return: minimal, representation or OperationOutcome; None where it says nothing."""
    return RETURNS.get(preferences(request).get("return", "").lower())


def request_id(request: Request) -> str | None:
    """The caller's own id of the request. Raises FhirError(invalid) for one that could be somebody else's too."""
    id = request.headers.get(REQUEST_ID)
    if id is not None and not UUID.fullmatch(id):
        raise FhirError(Issue("invalid", "X-Request-ID is no UUID: a write is known by it, for 24 hours"))
    return id and id.lower()


def _digest(request: Request, body: bytes) -> bytes:
    """What makes two requests the same: method, address, body, and the headers that change what happens."""
    deciding = [request.headers.get(each, "") for each in ("if-match", "if-none-match", "if-none-exist", "prefer")]
    line = "\n".join([request.method, request.url.path, request.url.query, *deciding])
    return sha256(line.encode() + b"\n" + body).digest()
