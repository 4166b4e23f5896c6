"""The FHIR interactions that read: read, vread, search and what the server can do, thin over the store.

https://hl7.org/fhir/R4/http.html

Long, because each route stands beside its handler.
"""

from __future__ import annotations

import re
from hashlib import sha256

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.access.permit import Permit
from fhirgw.api import asked, bundle, history, openapi, operations, terminology, transaction, write
from fhirgw.api.answer import ID, answer, interactions, versioned
from fhirgw.api.asked import Pairs
from fhirgw.api.audit import entry
from fhirgw.api.break_glass import notes
from fhirgw.api.context import base, context, permitted
from fhirgw.api.everything import everything_of
from fhirgw.api.parameters import posted
from fhirgw.api.served import served
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.capability import capability
from fhirgw.fhir.issue import FhirError, Issue, outcome
from fhirgw.fhir.parameters import HELD
from fhirgw.fhir.query import Query
from fhirgw.fhir.shorten import Shape, shape
from fhirgw.store import plan, resources, search
from fhirgw.store.basis import LISTS
from fhirgw.store.include import Found
from fhirgw.store.resources import Stored

AHEAD = "fhirgw.ahead"
"""Where in a request's scope the resource or the page is that was read with the permit."""

QUERY = "fhirgw.query"
"""The same of what was asked, where that has been read."""

VERSION = re.compile(r"[1-9][0-9]{0,8}")
FRIENDLY = Issue(
    "informational",
    "This is the base of a FHIR R4 server: GET metadata says what it can do, GET Patient?_count=10 finds ten people",
    severity="information",
)


async def root(request: Request) -> Response:
    """GET [base]?parameters: a search of several types, or of all; without parameters it says where to begin."""
    pairs = asked.pairs(request)
    if any(name != "_format" for name, _ in pairs):
        return await _searched(request, pairs, "")
    return answer(encode(outcome([FRIENDLY])))


async def metadata(request: Request) -> Response:
    """GET [base]/metadata; R4 lets `mode=normative` be the whole CapabilityStatement."""
    mode = request.query_params.get("mode", "full")
    if mode not in MODES:
        raise FhirError(Issue("invalid", f"mode is one of {', '.join(MODES)}"))
    if mode == "terminology":
        return answer(terminology.capabilities(request))
    here = context(request)
    known = here.statements
    address = base(request)
    if address not in known:
        if len(known) >= STATEMENTS:
            known.clear()
        known[address] = encode(capability(here.version, address, here.started, served(request.app.routes)))
    body = known[address]
    tag = f'W/"{sha256(body).hexdigest()[:16]}"'
    if tag in (each.strip() for each in request.headers.get("if-none-match", "").split(",")):
        return Response(status_code=304, headers={"etag": tag})
    return answer(body, headers={"etag": tag})


async def read_ahead(request: Request) -> Permit | None:
    """Reads under the permit of the caller's request before, asking in the same statement whether it still holds.

    A statement less, of three with the audit's, and company is larger in both: 0.45 commits a read of 16 connections,
    and not 0.65; about an eighth of a read's CPU.
    """
    resource_type, id = request.path_params["type"], request.path_params["id"]
    here = context(request)
    made = await here.assumed(request)
    if (
        made is None
        or resource_type not in HELD
        or not ID.fullmatch(id)
        or not made.permit.covering("r", resource_type)
    ):
        return None
    found = request.scope[AHEAD] = await here.read_standing(made, resource_type, id)
    return made.permit if found else None


async def read(request: Request) -> Response:
    """GET [base]/[type]/[id]"""
    resource_type, id = asked.instance(request)
    part = shape(asked.pairs(request), resource_type) if request.scope["query_string"] else None
    found = request.scope.get(AHEAD) or await context(request).read(permitted(request), resource_type, id)
    entry(request).saw(resource_type, id, found.person)
    if resource_type in LISTS:
        entry(request).saw_lists([(resource_type, id, found.body)])
    return _shown(request, found, part, resource_type not in LISTS)


async def vread(request: Request) -> Response:
    """GET [base]/[type]/[id]/_history/[vid]"""
    resource_type, id = asked.instance(request)
    part = shape(asked.pairs(request), resource_type) if request.scope["query_string"] else None
    version = request.path_params["vid"]
    if not VERSION.fullmatch(version):
        raise resources.absent(resource_type)
    here = context(request)
    permit = permitted(request)
    async with here.glance(permit) as connection:
        found = await resources.vread(connection, permit, resource_type, id, int(version))
    entry(request).saw(resource_type, id, found.person)
    if resource_type in LISTS:
        entry(request).saw_lists([(resource_type, id, found.body)])
    return _shown(request, found, part, resource_type not in LISTS)


def _shown(request: Request, found: Stored, part: Shape | None, fixed: bool) -> Response:
    """The version, or the part of it that is asked for. Raises FhirError for a count of one resource."""
    if part is not None and part.summary == "count":
        raise FhirError(Issue("invalid", "_summary=count is for searches and histories"))
    body = found.body if part is None else part.of(found.body)
    return versioned(request, body, found.version, found.updated, fixed)


async def search_type(request: Request) -> Response:
    """GET [base]/[type]?parameters"""
    return await _searched(request, asked.pairs(request), asked.type_of(request))


async def search_ahead(request: Request) -> Permit | None:
    """The same as `read_ahead`, for a search that shares a statement with its like."""
    made = await context(request).assumed(request)
    if made is None:
        return None
    try:
        query = request.scope[QUERY] = _query(request, asked.pairs(request), asked.type_of(request))
        page = await context(request).page_standing(made, query)
    except FhirError:  # nobody is told before it is known who asks
        return None
    request.scope[AHEAD] = page
    return made.permit if page else None


async def search_form(request: Request) -> Response:
    """POST [base]/[type]/_search: the parameters of the address and of the form together"""
    return await _searched(request, await asked.search_pairs(request), asked.type_of(request))


async def search_system(request: Request) -> Response:
    """POST [base]/_search: the same, of several types or of all"""
    return await _searched(request, await asked.search_pairs(request), "")


class _Name(Convertor[str]):
    """A type or an id in an address: never an operation or a control, so that what is asked most can come first.

    Nor AuditEvent, which nobody writes: it has an audit of its own (fhirgw.api.audit_events). Nor Subscription: each is
    its subscriber's alone (fhirgw.api.subscriptions).
    """

    regex = (
        r"(?!(?:metadata|openapi\.json|AuditEvent|Subscription|OperationDefinition|CodeSystem|ValueSet|ConceptMap"
        r"|StructureDefinition|Measure)(?:/|$)|oauth/|\.well-known/)[^/$_][^/]*"
    )

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("name", _Name())


def routes() -> list[Route]:
    """Every interaction, the commonest first."""
    return [
        interactions(
            "/fhir/{type:name}/{id:name}",
            ahead=read_ahead,
            GET=read,
            PUT=write.update,
            PATCH=write.patch,
            DELETE=write.delete,
        ),
        interactions(
            "/fhir/{type:name}",
            ahead=search_ahead,
            GET=search_type,
            POST=write.create,
            PUT=write.conditional_update,
            PATCH=write.conditional_patch,
            DELETE=write.conditional_delete,
        ),
        interactions("/fhir/{type:name}/_search", POST=search_form),
        interactions("/fhir/_search", POST=search_system),
        interactions("/fhir/{type:name}/{id:name}/_history/{vid}", GET=vread),
        interactions("/fhir/{type:name}/{id:name}/_history", GET=history.of_instance),
        interactions("/fhir/{type:name}/_history", GET=history.of_type),
        interactions("/fhir/_history", GET=history.of_system),
        interactions("/fhir/Patient/{id:name}/$everything", GET=everything_of, POST=posted(everything_of)),
        interactions("/fhir/metadata", GET=metadata),
        interactions("/fhir", GET=root, POST=transaction.bundle),
        *(*operations.routes(), *openapi.routes()),
    ]


MODES = ("full", "normative", "terminology")
"""What GET [base]/metadata is asked for. https://hl7.org/fhir/R4/http.html#capabilities"""

STATEMENTS = 16
"""CapabilityStatements kept: one for each address that callers use."""


async def _searched(request: Request, pairs: Pairs, resource_type: str) -> Response:
    """The searchset of a type; of the whole system for ""."""
    address = base(request)
    query = request.scope.get(QUERY) or _query(request, pairs, resource_type)
    part = _part(query)
    here = context(request)
    permit = permitted(request)
    page = request.scope.get(AHEAD) or await here.page(permit, query)
    if page is None:
        async with here.searching(permit, query) as connection:
            if query.explain:
                return answer(encode(await plan.explained(connection, permit, query)))
            page = await search.search(connection, permit, query)
    found = [*page.matches, *page.included]
    entry(request).saw_all((each.type, each.id, each.person) for each in found)
    entry(request).saw_lists((each.type, each.id, each.body) for each in found)
    honoured = [pair for pair in query.applied if pair[0] != "_cursor"]
    place = f"{address}/{resource_type}" if resource_type else address
    links = asked.links(place, honoured, query.cursor, page.next)
    told = (*query.warnings, *page.notes, *notes(permit))
    if query.summary == "count":
        return answer(bundle.counted(page.total, links, told))
    matches = page.matches if part.whole else [_cut(part, each) for each in page.matches]
    along = page.included if part.whole or part.elements else [_cut(part, each) for each in page.included]
    entries = [(*each[:3], "match") for each in matches] + [(*each[:3], "include") for each in along]
    return answer(bundle.searchset(address, entries, page.total, links, told))


def _query(request: Request, pairs: Pairs, resource_type: str) -> Query:
    return Query.parse(resource_type, pairs, asked.lenient(request), base(request))


def _part(query: Query) -> Shape:
    """How much of each resource. Raises FhirError(invalid) for what R4 does not let be combined."""
    if query.elements and query.summary not in (None, "false", "count"):
        raise FhirError(Issue("invalid", "_summary and _elements exclude each other: ask for one of them"))
    if query.summary == "text" and (query.include or query.revinclude):
        raise FhirError(Issue("invalid", "_summary=text cannot be combined with _include or _revinclude"))
    return Shape(query.summary, query.elements)


def _cut(part: Shape, found: Found) -> Found:
    return found._replace(body=part.of(found.body))
