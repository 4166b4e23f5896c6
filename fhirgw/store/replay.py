"""Answers to writes, kept for a day by the id that the caller gave the request: sent again, it has its effect once.

An answer is stored in the transaction that holds its effect, so there is never one without the other. A caller's ids
are its own: two applications may use the same, and so may two people who come by one.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

from fhirgw.access.permit import Permit
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store import resources
from fhirgw.store.database import Connection

KEPT = "24 hours"
RETRY_AFTER = "1"

# A request that commits between the two halves of this is found out when the answer is stored: its key is taken.
CLAIM = f"""
SELECT pg_try_advisory_xact_lock(hashtextextended($1 || ' ' || $2, 0)) AS free, r.digest, r.status, r.headers, r.body
FROM (VALUES (1)) AS one (row) LEFT JOIN fhirgw.replay r
    ON r.registration = $1 AND r.request = $2 AND r.stored > statement_timestamp() - interval '{KEPT}'
"""
STORE = f"""
INSERT INTO fhirgw.replay (registration, request, digest, status, headers, body) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (registration, request) DO UPDATE
    SET digest = excluded.digest, status = excluded.status, headers = excluded.headers, body = excluded.body,
        stored = excluded.stored
    WHERE replay.stored <= statement_timestamp() - interval '{KEPT}'
"""
SWEEP = f"""
DELETE FROM fhirgw.replay WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM fhirgw.replay WHERE stored <= statement_timestamp() - interval '{KEPT}'
    LIMIT 5000 FOR UPDATE SKIP LOCKED))
"""


SOURCE, ABOUT = "source", "about"
"""Among the kept headers: the version that the body was, and what the answer tells of."""
About = tuple[str, str, str | None]


class Answer(NamedTuple):
    """What goes back: a status, headers, and a body (empty: there is none).

    `source` is `Type/id/version` where the body is that of a version: it is read again, under the permit of who asks
    again. `kept` is what to keep of any other body that holds more than what became of the request. `about` are the
    resources it tells of, as (type, id, person): for the audit, each time that it is given.
    """

    status: int
    headers: dict[str, str]
    body: str = ""
    source: str = ""
    kept: str | None = None
    about: tuple[About, ...] = ()


class InFlight(FhirError):
    """The same request is still being worked on: a 409 that says when to ask again."""

    headers = {"retry-after": RETRY_AFTER}  # noqa: RUF012 - as answers have them

    def __init__(self) -> None:
        told = "A request with this X-Request-ID is still being worked on: send it again in a moment"
        super().__init__(Issue("conflict", told))


async def claimed(connection: Connection, permit: Permit, request: str, digest: bytes) -> Answer | None:
    """The answer that the request got before; None, and it is this transaction's, where there is none.

    Raises InFlight, and FhirError (422) where the id was used for something else.
    """
    row = await connection.fetchrow(CLAIM, _owner(permit), request)
    if not row["free"]:
        raise InFlight
    if row["digest"] is None:
        return None
    if bytes(row["digest"]) != digest:
        told = "This X-Request-ID was sent with another request: give each request an id of its own"
        raise FhirError(Issue("duplicate", told), status=422)
    headers: dict[str, Any] = orjson.loads(row["headers"])
    source, about = headers.pop(SOURCE, ""), headers.pop(ABOUT, ())
    body = await _read(connection, permit, source) if source else row["body"]
    return Answer(row["status"], headers, body or "", about=tuple((kind, id, person) for kind, id, person in about))


async def _read(connection: Connection, permit: Permit, source: str) -> str:
    kind, id, version = source.split("/")
    if not permit.covering("r", kind):
        return ""
    return (await resources.vread(connection, permit, kind, id, int(version))).body


async def store(connection: Connection, permit: Permit, request: str, digest: bytes, answer: Answer) -> None:
    """Keeps the answer, in the transaction of its effect. Raises InFlight where another was quicker."""
    apart = ({SOURCE: answer.source} if answer.source else {}) | ({ABOUT: answer.about} if answer.about else {})
    headers = orjson.dumps(answer.headers | apart).decode()
    body = None if answer.source else answer.body if answer.kept is None else answer.kept
    values = (_owner(permit), request, digest, answer.status, headers, body or None)
    if await connection.execute(STORE, *values) != "INSERT 0 1":
        raise InFlight


async def sweep(connection: Connection) -> None:
    """Forgets what is older than a day."""
    await connection.execute(SWEEP)


def _owner(permit: Permit) -> str:
    """Whose an X-Request-ID is: the application's, or of the people who come by it each one's own."""
    people = (permit.patient, permit.practitioner, permit.delegate)
    named = (permit.organisation, permit.registration, *(each or "" for each in people if any(people)))
    return "|".join(quote(each, safe="/:") for each in named)
