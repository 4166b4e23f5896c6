"""AuditEvents as resources: read and search, for auditors as they were written, for a person their own part of each.

They are in no table of resources, so nobody writes them and nothing includes them. Reading the audit is audited.
https://hl7.org/fhir/R4/auditevent.html
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.audit_event import EVERYBODY
from fhirgw.access.audit_facets import persons
from fhirgw.access.audit_query import OWN, AuditQuery, Condition, by_id, constrained
from fhirgw.access.permit import Permit
from fhirgw.access.who_looked import told
from fhirgw.api import asked, bundle
from fhirgw.api.answer import answer, interactions
from fhirgw.api.audit import entry
from fhirgw.api.auditor import auditing, themselves
from fhirgw.api.context import base, context, permitted
from fhirgw.api.who_looked import organisations, showing
from fhirgw.fhir.capability import AUDITED
from fhirgw.fhir.issue import Resource
from fhirgw.fhir.shorten import Shape, shape
from fhirgw.store.audit_search import Found, about, found
from fhirgw.store.resources import absent

Alternatives = Sequence[Sequence[Condition]]


async def read(request: Request) -> Response:
    """GET [base]/AuditEvent/[id]"""
    permit = permitted(request)
    part = shape(asked.pairs(request), "AuditEvent")
    person, allowed = _allowed(request, permit, "r")
    async with context(request).searcher(permit) as connection:
        page = await found(connection, by_id(request.path_params["id"]), allowed, count=1)
    if not page.bodies:
        raise absent("AuditEvent")
    ((_, body),) = await _served(request, permit, page, person)
    return answer((body if part is None else part.of(body)).encode())


async def search_type(request: Request) -> Response:
    """GET [base]/AuditEvent?parameters"""
    return await _searched(request, asked.pairs(request))


async def search_form(request: Request) -> Response:
    """POST [base]/AuditEvent/_search: the parameters of the address and of the form together"""
    return await _searched(request, await asked.search_pairs(request))


def routes() -> list[Route]:
    """Those of types in general do not take this one: see the convertor `name` of fhirgw.api.fhir."""
    return [
        interactions("/fhir/AuditEvent/{id:name}", GET=read),
        interactions("/fhir/AuditEvent", GET=search_type),
        interactions("/fhir/AuditEvent/_search", POST=search_form),
    ]


async def _searched(request: Request, given: list[tuple[str, str]]) -> Response:
    permit, address = permitted(request), base(request)
    person, allowed = _allowed(request, permit, "s")
    names = AUDITED if person is None else OWN
    wanted = AuditQuery.parse(given, names=names, lenient=asked.lenient(request), base=address)
    wanted = wanted if person is None else wanted.of(person)
    query = wanted.query
    part = Shape(query.summary, query.elements)
    async with context(request).searcher(permit) as connection:
        page = await found(
            connection,
            wanted.conditions,
            allowed,
            count=query.count,
            cursor=query.cursor,
            total=query.total in ("accurate", "estimate"),
        )
    honoured = [pair for pair in query.applied if pair[0] != "_cursor"]
    links = asked.links(f"{address}/AuditEvent", honoured, query.cursor, page.next)
    if query.summary == "count":
        return answer(bundle.counted(page.total, links))
    served = await _served(request, permit, page, person)
    entries = [("AuditEvent", id, body if part.whole else part.of(body), "match") for id, body in served]
    return answer(bundle.searchset(address, entries, page.total, links, wanted.warnings))


def _allowed(request: Request, permit: Permit, verb: str) -> tuple[str | None, Alternatives]:
    """The person whose own are asked for, if it is they who ask; and what the caller may read, by any of their scopes.

    Raises FhirError(forbidden).
    """
    person = themselves(permit)
    scopes = permit.require(verb, "AuditEvent") if person else auditing(request, permit, verb)
    limits = [each for each in map(constrained, scopes) if each is not None]
    return person, [(*about(person), *each) if person else each for each in limits]


async def _served(request: Request, permit: Permit, page: Found, person: str | None) -> list[tuple[str, str]]:
    """Each by its id: as it was written, or for a person as `$who-looked` tells it; and notes that they were read."""
    events: list[Resource] = [orjson.loads(each) for each in page.bodies]
    for each in events:
        told_of = [person] if person else dict.fromkeys(persons(each))
        whose: list[str | None] = [whom for whom in told_of if whom != EVERYBODY]
        entry(request).saw_all(("AuditEvent", each["id"], whom) for whom in whose or [None])
    ids = [str(each["id"]) for each in events]
    if person is None:
        return list(zip(ids, page.bodies, strict=True))
    here, directory = context(request), request.app.state.directory
    async with here.searcher(permit) as connection:
        shown = await showing(connection, permit, events, person)
    async with here.searcher(directory) as connection:
        names = await organisations(connection, directory, events)
    return [(each["id"], orjson.dumps(told(each, person, names, shown)).decode()) for each in events]
