"""The FHIR interactions: read, vread, history, search and operations, thin over the store.

https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import re
from dataclasses import replace
from difflib import get_close_matches
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlencode

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.api import bundle
from fhirgw.api.answer import FORM, ID, answer, interactions, versioned
from fhirgw.api.audit import entry
from fhirgw.api.break_glass import notes
from fhirgw.api.context import base, context, permitted
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.capability import capability
from fhirgw.fhir.dates import span
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.parameters import HELD
from fhirgw.fhir.query import MOST_PAIRS, Query
from fhirgw.store import everything, resources, search
from fhirgw.store.matching import few

VERSION = re.compile(r"[1-9][0-9]{0,8}")
LONGEST_FORM = 64 * 1024
"""Bytes of a search sent by POST."""
CLOSE = 0.75
"""How alike two names are for the one to be meant by the other: Medication is not Location."""
Pairs = list[tuple[str, str]]


async def metadata(request: Request) -> Response:
    """GET [base]/metadata"""
    here = context(request)
    return answer(_capability(here.version, base(request), here.started))


async def read(request: Request) -> Response:
    """GET [base]/[type]/[id]"""
    resource_type, id = _instance(request)
    here = context(request)
    permit = permitted(request)
    async with here.reader(permit) as connection:
        found = await resources.read(connection, permit, resource_type, id)
    entry(request).saw(resource_type, id, found.person)
    return versioned(request, found.body, found.version, found.updated)


async def vread(request: Request) -> Response:
    """GET [base]/[type]/[id]/_history/[vid]"""
    resource_type, id = _instance(request)
    version = request.path_params["vid"]
    if not VERSION.fullmatch(version):
        raise resources.absent(resource_type)
    here = context(request)
    permit = permitted(request)
    async with here.reader(permit) as connection:
        found = await resources.vread(connection, permit, resource_type, id, int(version))
    entry(request).saw(resource_type, id, found.person)
    return versioned(request, found.body, found.version, found.updated)


async def history(request: Request) -> Response:
    """GET [base]/[type]/[id]/_history"""
    resource_type, id = _instance(request)
    here = context(request)
    permit = permitted(request)
    async with here.reader(permit) as connection:
        versions = await resources.past(connection, permit, resource_type, id)
    if not versions:
        raise resources.absent(resource_type)
    entry(request).saw(resource_type, id, versions[0].person)
    return answer(bundle.history(base(request), resource_type, id, versions))


async def search_type(request: Request) -> Response:
    """GET [base]/[type]?parameters"""
    return await _searched(request, _pairs(request.scope["query_string"].decode("latin-1")))


async def search_form(request: Request) -> Response:
    """POST [base]/[type]/_search: the parameters of the address and of the form together"""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise FhirError(Issue("not-supported", f"A search by POST is sent as {FORM}"), status=415)
    form = _pairs((await _body(request)).decode("utf-8", "replace"))
    entry(request).asked(name for name, _ in form)
    return await _searched(request, _pairs(request.scope["query_string"].decode("latin-1")) + form)


async def everything_of(request: Request) -> Response:
    """GET [base]/Patient/[id]/$everything"""
    _, id = _instance(request, "Patient")
    pairs = _pairs(request.scope["query_string"].decode("latin-1"))
    asked = _everything(id, pairs)
    here = context(request)
    permit = permitted(request)
    async with here.searcher(permit) as connection:
        page, cursor = await everything.everything(connection, permit, asked)
    entry(request).saw_all((each.type, each.id, each.person) for each in page)
    address = f"{base(request)}/Patient/{id}/$everything"
    links = _links(address, [pair for pair in pairs if pair[0] != "_cursor"], asked.cursor, cursor)
    return answer(bundle.searchset(base(request), [(*each[:3], "match") for each in page], None, links))


class _Name(Convertor[str]):
    """A type or an id in an address: never an operation or a control, so that what is asked most can come first."""

    regex = r"(?!metadata(?:/|$)|oauth/|\.well-known/)[^/$_][^/]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("name", _Name())


def routes() -> list[Route]:
    """Every interaction, the commonest first."""
    return [
        interactions("/fhir/{type:name}/{id:name}", GET=read),
        interactions("/fhir/{type:name}", GET=search_type),
        interactions("/fhir/{type:name}/_search", POST=search_form),
        interactions("/fhir/{type:name}/{id:name}/_history/{vid}", GET=vread),
        interactions("/fhir/{type:name}/{id:name}/_history", GET=history),
        interactions("/fhir/Patient/{id:name}/$everything", GET=everything_of),
        interactions("/fhir/metadata", open=True, GET=metadata),
    ]


@lru_cache(maxsize=16)
def _capability(version: str, address: str, date: str) -> bytes:
    return encode(capability(version, address, date))


async def _searched(request: Request, pairs: Pairs) -> Response:
    resource_type = _type(request)
    address = base(request)
    query = Query.parse(resource_type, pairs, _lenient(request), address)
    here = context(request)
    permit = permitted(request)
    async with (here.reader if few(query) else here.searcher)(permit) as connection:
        page = await search.search(connection, permit, query)
    found = [*page.matches, *page.included]
    entry(request).saw_all((each.type, each.id, each.person) for each in found)
    honoured = [pair for pair in query.applied if pair[0] != "_cursor"]
    links = _links(f"{address}/{resource_type}", honoured, query.cursor, page.next)
    if query.summary == "count":
        return answer(bundle.counted(page.total, links))
    entries = [(*each[:3], "match") for each in page.matches] + [(*each[:3], "include") for each in page.included]
    told = (*query.warnings, *page.notes, *notes(permit))
    return answer(bundle.searchset(address, entries, page.total, links, told))


def _links(address: str, pairs: Pairs, here: str | None, following: str | None) -> list[tuple[str, str]]:
    """The links of a page: itself as it was understood, the first, and the next if there is one."""
    first = f"{address}?{urlencode(pairs)}" if pairs else address
    more = f"{first}{'&' if pairs else '?'}_cursor="
    known = [("self", more + quote(here) if here else first), ("first", first)]
    return [*known, ("next", more + quote(following))] if following else known


def _type(request: Request) -> str:
    """The type of the address. Raises FhirError(not-found) for one not held here."""
    resource_type: str = request.path_params["type"]
    if resource_type in HELD:
        return resource_type
    near = get_close_matches(resource_type, HELD, 1, CLOSE)
    hint = f"did you mean {near[0]}?" if near else "the CapabilityStatement lists them"
    raise FhirError(Issue("not-supported", f"Resources of this type are not held here: {hint}"), status=404)


def _instance(request: Request, resource_type: str | None = None) -> tuple[str, str]:
    """The type and id of the address; what cannot be an id is the id of nothing."""
    resource_type = resource_type or _type(request)
    id: str = request.path_params["id"]
    if not ID.fullmatch(id):
        raise resources.absent(resource_type)
    return resource_type, id


def _pairs(text: str) -> Pairs:
    """The decoded pairs of a query string or form. Raises FhirError(invalid) for a NUL, which no text may hold."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="replace", max_num_fields=MOST_PAIRS)
    except ValueError:
        raise FhirError(Issue("too-costly", f"More than {MOST_PAIRS} parameters: ask in parts")) from None
    if any("\0" in part for pair in pairs for part in pair):
        raise FhirError(Issue("invalid", "A parameter holds a NUL character: leave it out"))
    return pairs


async def _body(request: Request) -> bytes:
    """The body, refused while it is still arriving when it grows too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST_FORM:
            raise FhirError(Issue("too-long", f"A search by POST has at most {LONGEST_FORM} bytes"))
    return bytes(body)


def _lenient(request: Request) -> bool:
    """`Prefer: handling=lenient`: leave out what cannot be honoured, and say so."""
    wishes = (each.strip() for each in request.headers.get("prefer", "").lower().split(","))
    return "handling=lenient" in wishes


def _everything(id: str, pairs: Pairs) -> everything.Asked:
    """The parameters of `$everything`. Raises FhirError(invalid) naming the one that is wrong."""
    asked = everything.Asked(id)
    for name, value in pairs:
        match name:
            case "_type" if set(value.split(",")) <= set(HELD):
                asked = replace(asked, types=(*asked.types, *value.split(",")))
            case "_since":
                asked = replace(asked, since=span(value.replace(" ", "+"))[0])
            case "_count" if value.isascii() and value.isdigit() and int(value[:10]) > 0:
                asked = replace(asked, count=min(int(value[:10]), everything.BATCH))
            case "_cursor":
                asked = replace(asked, cursor=value)
            case "_format":
                pass  # answered before
            case "_type" | "_count":
                raise FhirError(
                    Issue("invalid", f"{name} is malformed: _type takes types held here, _count a number above 0")
                )
            case _:
                raise FhirError(Issue("not-supported", "$everything takes _type, _since and _count"))
    return asked
