"""`$meta`: profiles, security labels and tags of a resource; or all that are in use on a type or anywhere.

Tags and labels are changed with the resource that bears them: there is no `$meta-add` and no `$meta-delete`.
https://hl7.org/fhir/R4/resource-operation-meta.html
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.api import asked
from fhirgw.api.answer import answer, interactions
from fhirgw.api.audit import entry
from fhirgw.api.context import context, permitted
from fhirgw.api.parameters import addressed, posted
from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.issue import Resource
from fhirgw.store import resources
from fhirgw.store.meta import used


async def of_instance(request: Request) -> Response:
    """GET [base]/[type]/[id]/$meta"""
    resource_type, id = asked.instance(request)
    addressed(request, ())
    permit = permitted(request)
    async with context(request).reader(permit) as connection:
        found = await resources.read(connection, permit, resource_type, id)
    entry(request).saw(resource_type, id, found.person)
    return _told(decode(found.body).get("meta", {}))


async def of_type(request: Request) -> Response:
    """GET [base]/[type]/$meta"""
    return await _used(request, asked.type_of(request))


async def of_system(request: Request) -> Response:
    """GET [base]/$meta"""
    return await _used(request, None)


def routes() -> list[Route]:
    """To be put before those of types and instances."""
    return [
        interactions("/fhir/$meta", GET=of_system, POST=posted(of_system)),
        interactions("/fhir/{type:name}/$meta", GET=of_type, POST=posted(of_type)),
        interactions("/fhir/{type:name}/{id:name}/$meta", GET=of_instance, POST=posted(of_instance)),
    ]


async def _used(request: Request, resource_type: str | None) -> Response:
    addressed(request, ())
    permit = permitted(request)
    async with context(request).searcher(permit) as connection:
        return _told(await used(connection, permit, resource_type))


def _told(meta: Resource) -> Response:
    given = {"parameter": [{"name": "return", "valueMeta": meta}]} if meta else {}
    return answer(encode({"resourceType": "Parameters", **given}))
