"""`Patient/$everything`: a person's whole record in one answer, sent as it is read.

A record that is longer than a page is streamed: no more than a page of it is in memory, and each page is in the audit
before it leaves. With `_count` it comes in pages, as a search does.
https://hl7.org/fhir/R4/patient-operation-everything.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import cast

import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from fhirgw.api import asked, bundle
from fhirgw.api.answer import FHIR_JSON, answer
from fhirgw.api.asked import Pairs
from fhirgw.api.audit import Entry, access, entry
from fhirgw.api.context import base, context, permitted
from fhirgw.fhir.dates import span
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.parameters import HELD
from fhirgw.fhir.shorten import Shape, shape
from fhirgw.store.audit import Auditor
from fhirgw.store.everything import BATCH, Asked, everything
from fhirgw.store.include import Found

ROUTE = "/fhir/Patient/{id}/$everything"
log = structlog.get_logger("fhirgw.api")


async def everything_of(request: Request) -> Response:
    """GET [base]/Patient/[id]/$everything"""
    _, id = asked.instance(request, "Patient")
    pairs = asked.pairs(request)
    wanted, paged, part = _read(id, pairs), any(name in ("_count", "_cursor") for name, _ in pairs), shape(pairs)
    page, cursor = await _page(request, wanted)
    entry(request).saw_all((each.type, each.id, each.person) for each in page)
    if cursor and not paged:
        return StreamingResponse(_streamed(request, wanted, part, page, cursor), headers=_headers())
    honoured = [pair for pair in pairs if pair[0] != "_cursor"]
    links = asked.links(f"{base(request)}/Patient/{id}/$everything", honoured, wanted.cursor, cursor)
    return answer(bundle.searchset(base(request), _entries(page, part), None, links))


async def _page(request: Request, wanted: Asked) -> tuple[list[Found], str | None]:
    permit = permitted(request)
    async with context(request).reader(permit) as connection:  # one person's: one plan for all
        return await everything(connection, permit, wanted)


async def _streamed(
    request: Request, wanted: Asked, part: Shape, page: Sequence[Found], cursor: str | None
) -> AsyncIterator[bytes]:
    """The Bundle, page by page. What goes wrong on the way cuts it short: it can no longer become an error."""
    address = f"{base(request)}/Patient/{wanted.patient}/$everything"
    yield bundle.opened(asked.links(address, asked.pairs(request), None, None)[:1])
    yield bundle.entries(base(request), _entries(page, part))
    try:
        while cursor:
            page, cursor = await _page(request, replace(wanted, cursor=cursor))
            await _recorded(request, page)
            for each in page:
                yield b"," + bundle.entries(base(request), _entries([each], part))
    except Exception as error:
        log.error("an answer cut short", route=ROUTE, error=type(error).__name__)
        raise ConnectionAbortedError("the answer was cut short") from None
    yield b"," + bundle.closed()


async def _recorded(request: Request, page: Sequence[Found]) -> None:
    """Each further page is an access of its own in the audit, of the same request."""
    first = entry(request)
    found = Entry(request=first.request, permit=first.permit, behalf=first.behalf)
    found.saw_all((each.type, each.id, each.person) for each in page)
    await cast(Auditor, request.app.state.auditor).record(access(request, ROUTE, 200, found))


def _entries(page: Sequence[Found], part: Shape) -> list[tuple[str, str, str, str]]:
    return [(each.type, each.id, part.of(each.body), "match") for each in page]


def _headers() -> dict[str, str]:
    return {"content-type": FHIR_JSON, "cache-control": "private, no-cache"}


def _read(id: str, pairs: Pairs) -> Asked:
    """The parameters. Raises FhirError(invalid) naming the one that is wrong."""
    found = Asked(id)
    for name, value in pairs:
        match name:
            case "_type" if set(value.split(",")) <= set(HELD):
                found = replace(found, types=(*found.types, *value.split(",")))
            case "_since":
                found = replace(found, since=span(value.replace(" ", "+"))[0])
            case "start":
                found = replace(found, start=span(value.replace(" ", "+"))[0])
            case "end":
                found = replace(found, end=span(value.replace(" ", "+"))[1])
            case "_count":
                found = replace(found, count=asked.count(value, BATCH))
            case "_cursor":
                found = replace(found, cursor=value)
            case "_format" | "_summary" | "_elements":
                pass
            case "_type":
                raise FhirError(Issue("invalid", "_type is malformed: it takes types held here, with commas"))
            case _:
                raise FhirError(Issue("not-supported", "$everything takes _type, _since, start, end and _count"))
    return found
