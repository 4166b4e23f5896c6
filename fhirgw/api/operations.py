"""The operations that read, and the definitions of those that are our own.

https://hl7.org/fhir/R4/operations.html
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.api import asked, bundle, match, meta, summary, validate
from fhirgw.api.answer import answer, interactions
from fhirgw.api.context import base
from fhirgw.fhir import definitions
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store.resources import absent


async def definition(request: Request) -> Response:
    """GET [base]/OperationDefinition/[id]"""
    found = definitions.OPERATIONS.get(request.path_params["id"])
    if found is None:
        raise absent("OperationDefinition")
    return answer(encode(found))


async def all_definitions(request: Request) -> Response:
    """GET [base]/OperationDefinition?url=: those of our own operations"""
    pairs = [pair for pair in asked.pairs(request) if pair[0] not in ("_format", "_total", "_count")]
    if any(name != "url" for name, _ in pairs):
        raise FhirError(Issue("not-supported", "OperationDefinitions are searched by url"))
    found = [each for each in definitions.OPERATIONS.values() if all(each["url"] == value for _, value in pairs)]
    entries = [("OperationDefinition", each["id"], encode(each).decode(), "match") for each in found]
    address = f"{base(request)}/OperationDefinition"
    return answer(bundle.searchset(base(request), entries, len(entries), asked.links(address, pairs, None, None)[:1]))


def routes() -> list[Route]:
    """To be put before those of types and instances."""
    return [
        *(*match.routes(), *meta.routes(), *summary.routes(), *validate.routes()),
        interactions("/fhir/OperationDefinition/{id:name}", GET=definition),
        interactions("/fhir/OperationDefinition", GET=all_definitions),
    ]
