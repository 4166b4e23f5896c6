"""What changed: GET [base]/_history, [base]/[type]/_history, [base]/[type]/[id]/_history.

https://hl7.org/fhir/R4/http.html#history
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response

from fhirgw.access.permit import Permit
from fhirgw.api import asked, bundle
from fhirgw.api.answer import answer
from fhirgw.api.asked import Pairs
from fhirgw.api.audit import entry
from fhirgw.api.context import base, context, permitted
from fhirgw.fhir import shorten
from fhirgw.fhir.dates import span
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store import history
from fhirgw.store.database import Connection
from fhirgw.store.resources import absent

PARAMETERS = ("_since", "_at", "_count", "_summary", "_elements")


async def of_instance(request: Request) -> Response:
    """GET [base]/[type]/[id]/_history"""
    resource_type, id = asked.instance(request)
    return await _told(request, history.Asked(resource_type, id), f"/{resource_type}/{id}/_history")


async def of_type(request: Request) -> Response:
    """GET [base]/[type]/_history"""
    resource_type = asked.type_of(request)
    return await _told(request, history.Asked(resource_type), f"/{resource_type}/_history")


async def of_system(request: Request) -> Response:
    """GET [base]/_history"""
    return await _told(request, history.Asked(), "/_history")


async def _told(request: Request, of: history.Asked, path: str) -> Response:
    pairs = asked.pairs(request)
    of, here, permit, shape = _read(of, pairs), context(request), permitted(request), shorten.shape(pairs, of.type)
    address, honoured = base(request) + path, [pair for pair in pairs if pair[0] != "_cursor"]
    async with (here.reader if of.id else here.searcher)(permit) as connection:
        if shape.summary == "count" or not of.count:
            total = await history.counted(connection, permit, of)
            if not total and of.id:
                await _known(history.Asked(of.type, of.id, count=1), connection, permit)
            return answer(bundle.changed(total, asked.links(address, honoured, None, None)))
        page = await history.changes(connection, permit, of)
        if not page.versions and of.id:
            await _known(history.Asked(of.type, of.id, count=1), connection, permit)
    entry(request).saw_all((each.type, each.id, each.person) for each in page.versions)
    entry(request).saw_lists((each.type, each.id, each.body) for each in page.versions)
    links = asked.links(address, honoured, of.cursor, page.next)
    shown = page.versions if shape.whole else [each._replace(body=shape.of(each.body)) for each in page.versions]
    return answer(bundle.history(base(request), shown, page.total, links))


async def _known(anything: history.Asked, connection: Connection, permit: Permit) -> None:
    """Nothing in the time asked for is an empty history; nothing at all is no such resource. Raises FhirError."""
    if not (await history.changes(connection, permit, anything)).versions:
        raise absent(str(anything.type))


def _read(of: history.Asked, pairs: Pairs) -> history.Asked:
    """The parameters. Raises FhirError(invalid) naming the one that is wrong."""
    for name, value in pairs:
        match name:
            case "_since":
                of = replace(of, since=_instant(value))
            case "_at":
                of = replace(of, at=span(value.replace(" ", "+")))
            case "_count":
                of = replace(of, count=0 if value == "0" else asked.count(value, history.MOST))
            case "_cursor":
                of = replace(of, cursor=value)
            case "_format" | "_summary" | "_elements":
                pass
            case _:
                raise FhirError(Issue("not-supported", f"A history takes {', '.join(PARAMETERS)}"))
    return of


def _instant(value: str) -> datetime:
    return span(value.replace(" ", "+"))[0]
