"""What a Bundle's entries are answered with, and those of them that read.

An entry that reads, or asks an operation that does, is a request within the request: the handler of its address answers
it, under the same permit, and in a transaction over its connection. https://hl7.org/fhir/R4/bundle.html#transaction-response
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, fields
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Message, Receive

from fhirgw.access.permit import Permit
from fhirgw.api.answer import FHIR_JSON, Handler, Interactions, check_format
from fhirgw.api.context import WITHIN, Context, context
from fhirgw.api.headers import FOUND
from fhirgw.api.writers import STATUS, location, said
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.entries import Entry
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.store import resources
from fhirgw.store.database import Connection
from fhirgw.store.resources import Stored
from fhirgw.store.writing import Written

PLAIN = "%&=+?/:;,|!$'()*@~-._[]<>"
"""What stands in a query as it is."""
Told = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Within(Context):
    """The context of a request that is part of a transaction: it reads what that has written."""

    connection: Connection = None

    async def read(self, permit: Permit, resource_type: str, id: str) -> Stored:
        return await resources.read(self.connection, permit, resource_type, id)

    def glance(self, permit: Permit) -> AbstractAsyncContextManager[Connection]:
        return nullcontext(self.connection)

    def reader(self, permit: Permit) -> AbstractAsyncContextManager[Connection]:
        return nullcontext(self.connection)

    def searcher(self, permit: Permit) -> AbstractAsyncContextManager[Connection]:
        return nullcontext(self.connection)

    def look(self, permit: Permit) -> AbstractAsyncContextManager[Connection]:
        return nullcontext(self.connection)


def answered(kind: str, entries: Sequence[Told]) -> str:
    """The Bundle of answers."""
    made = {"resourceType": "Bundle", "type": kind} | ({"entry": entries} if entries else {})
    return orjson.dumps(made, option=orjson.OPT_UTC_Z).decode()


def responded(done: Written | None, base: str, wish: str) -> Told:
    """The entry of a change that was made; None: of one whose condition found nothing to delete."""
    if done is None:
        return {"response": {"status": _status(204)}}
    response: Told = {"status": _status(STATUS.get(done.kind, 200))}
    if done.kind != "deleted":
        response["location"] = location(done, base)
    response["etag"] = f'W/"{done.version}"'
    if done.updated is not None:
        response["lastModified"] = done.updated
    if wish == "OperationOutcome" or done.doubts:
        response["outcome"] = said(done)
    shown = wish == "representation" and done.body is not None
    return ({"resource": orjson.Fragment(done.body or "")} if shown else {}) | {"response": response}


def failed(error: FhirError) -> Told:
    """The entry of what was refused."""
    outcome = orjson.Fragment(encode(error.outcome()))
    return {"response": {"status": _status(error.status), "outcome": outcome}}


async def read(request: Request, asked: Entry, connection: Connection | None = None) -> Told:
    """The entry of what was read, over the connection if there is one. Raises FhirError."""
    within = _request(request, asked, connection)
    handler = _handler(within)
    check_format(within)
    response = await handler(within)
    body = getattr(response, "body", None)
    if body is None:
        told = "This answer is sent as it is read, for which a Bundle has no room: ask for it by itself, or by _count"
        raise FhirError(Issue("too-costly", told))
    if body and response.headers.get("content-type") != FHIR_JSON:
        raise FhirError(Issue("not-supported", "This answer is no resource: ask for it by itself"))
    return _shown(asked, response, bytes(body))


def _request(request: Request, asked: Entry, connection: Connection | None) -> Request:
    here = context(request)
    posts = asked.method == "POST"
    headers = [(name, value) for name, value in request.scope["headers"] if name == b"host"]
    if asked.none_match:
        headers.append((b"if-none-match", asked.none_match.encode("latin-1", "replace")))
    if posts:
        headers.append((b"content-type", FHIR_JSON.encode()))
    scope = {
        **request.scope,
        "method": "POST" if posts else "GET",
        "path": "/".join(filter(None, ("/fhir", *asked.path))),
        "query_string": quote(asked.query, safe=PLAIN).encode(),
        "headers": headers,
        FOUND: None,
    }
    if connection is not None:
        known = {each.name: getattr(here, each.name) for each in fields(Context) if each.init}
        scope[WITHIN] = _Within(**known, connection=connection)
    return Request(scope, _sent(asked.given) if posts else request.receive)


def _sent(given: Resource) -> Receive:
    """What a request's body is received by, for the resource of an entry."""

    async def receive() -> Message:
        return {"type": "http.request", "body": encode(given), "more_body": False}

    return receive


def _handler(request: Request) -> Handler:
    """Who answers at this address. Raises FhirError(not-found)."""
    method = request.method
    for route in request.app.routes:
        if isinstance(route, Interactions) and method in route.handlers:
            match, found = route.matches(request.scope)
            if match is not Match.NONE:
                request.scope.update(found)
                return route.handlers[method]
    raise FhirError(Issue("not-found", "There is nothing to read at this address"))


def _shown(asked: Entry, response: Response, body: bytes) -> Told:
    told: Told = {"status": _status(response.status_code)}
    if etag := response.headers.get("etag"):
        told["etag"] = etag
    shown = body and asked.method != "HEAD"
    return ({"resource": orjson.Fragment(body)} if shown else {}) | {"response": told}


def _status(code: int) -> str:
    return f"{code} {HTTPStatus(code).phrase}"
