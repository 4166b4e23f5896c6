"""What is served as an OpenAPI 3.1 description, made of the routes and the search parameters: it claims no more.

FHIR's own description is the CapabilityStatement; this is for tools that read OpenAPI. https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from fhirgw.api import visit_openapi
from fhirgw.api.answer import FORM, answer, interactions
from fhirgw.api.context import base, context
from fhirgw.api.served import BASE, TEMPLATES, addresses
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.capability import APART
from fhirgw.fhir.parameters import HELD, supported

PATH_PARAMETER = re.compile(r"{(\w+)}")
FHIR = "application/fhir+json"
OPEN = ("/metadata", "/.well-known/smart-configuration", "/oauth/token")
"""Addresses that answer without an access token."""

TYPES = tuple(each for each in HELD if each not in APART)
SHOWN = ("_format", "_pretty", "_summary", "_elements")
PLACES: dict[str, dict[str, Any]] = {
    "type": {"type": "string", "enum": list(TYPES)},
    "id": {"type": "string", "pattern": r"^[A-Za-z0-9\-.]{1,64}$"},
    "vid": {"type": "string", "pattern": r"^[1-9][0-9]{0,8}$"},
}
QUERY: dict[str, dict[str, Any]] = {
    "_format": {"type": "string", "enum": ["json", FHIR]},
    "_pretty": {"type": "boolean"},
    "_summary": {"type": "string", "enum": ["true", "text", "data", "count", "false"]},
    "_elements": {"type": "string"},
    "_count": {"type": "integer", "minimum": 1, "maximum": 1000},
    "_since": {"type": "string", "format": "date-time"},
    "_at": {"type": "string"},
    "_sort": {"type": "string"},
    "_total": {"type": "string", "enum": ["none", "estimate", "accurate"]},
    "_include": {"type": "string"},
    "_revinclude": {"type": "string"},
}
PARAMETERS = {
    "read": SHOWN,
    "vread": SHOWN,
    "history-instance": (*SHOWN, "_since", "_at", "_count"),
    "history-type": (*SHOWN, "_since", "_at", "_count"),
    "history-system": (*SHOWN, "_since", "_at", "_count"),
    "search-type": (*SHOWN, "_count", "_sort", "_total", "_include", "_revinclude"),
}
STATUSES = {"POST": ("200", "201"), "PUT": ("200", "201"), "PATCH": ("200",), "DELETE": ("200", "204")}
UNSENT = ("evaluate-measure", "everything", "explain", "meta", "summary", "who-looked")
"""Operations that a POST may ask for without a body."""
SENT = {"PATCH": "application/json-patch+json"}


async def openapi(request: Request) -> Response:
    """GET [base]/openapi.json"""
    made = description(request.app.routes, context(request).version, base(request))
    return answer(encode(made), headers={"content-type": "application/json"})


def routes() -> list[Route]:
    """The description."""
    return [interactions("/fhir/openapi.json", GET=openapi)]


def description(known: Sequence[BaseRoute], version: str, address: str) -> dict[str, Any]:
    """The OpenAPI description of the routes, as served at a FHIR address."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path in addresses(known):
        for each in _spelt(method, path):
            paths.setdefault(each or "/", {})[method.lower()] = _operation(method, each, path)
    paths |= visit_openapi.paths(address.removesuffix(BASE))
    return {
        "openapi": "3.1.0",
        "info": {"title": "fhirgw", "version": version, "summary": "Adult social care records as FHIR R4"},
        "servers": [{"url": address}],
        "security": [{"token": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Resource": _schema(None),
                **{each: _schema(each) for each in ("Bundle", "OperationOutcome")},
                **visit_openapi.schemas(),
            },
        },
    }


def _spelt(method: str, path: str) -> Iterator[str]:
    """A search is spelt out for each type, whose parameters are its own; anything else stands for every type."""
    if _code(method, path) == "search-type" and path.startswith("/{type}") and method == "GET":
        yield from (path.replace("{type}", each) for each in TYPES)
    else:
        yield path


def _code(method: str, path: str) -> str:
    first = path.split("/")[1] if "/" in path else ""
    template = path.replace(f"/{first}", "/{type}", 1) if first[:1].isupper() else path
    last = path.rpartition("/")[2]
    return TEMPLATES.get((method, template), last.removeprefix("$") if last.startswith("$") else "")


def _operation(method: str, path: str, template: str) -> dict[str, Any]:
    code = _code(method, path)
    statuses = STATUSES.get(method, ("200",))
    told = {status: _answer("Bundle" if code.startswith(("search", "history")) else "Resource") for status in statuses}
    made: dict[str, Any] = {
        "operationId": f"{method.lower()}{re.sub(r'[^A-Za-z0-9]+', '_', path) or '_'}",
        "summary": code or template,
        "parameters": [*_places(path), *_query(code, path)],
        "responses": {**told, "default": _answer("OperationOutcome")},
    }
    if method in ("POST", "PUT", "PATCH"):
        kind = FORM if path.endswith("_search") or path.startswith("/oauth") else SENT.get(method, FHIR)
        made["requestBody"] = {"required": code not in UNSENT, "content": {kind: {"schema": _sent(kind)}}}
    return made | ({"security": []} if path in OPEN else {})


def _places(path: str) -> Iterator[dict[str, Any]]:
    for name in PATH_PARAMETER.findall(path):
        yield {"name": name, "in": "path", "required": True, "schema": PLACES.get(name, {"type": "string"})}


def _query(code: str, path: str) -> Iterator[dict[str, Any]]:
    for name in PARAMETERS.get(code, ()):
        yield {"name": name, "in": "query", "schema": QUERY[name]}
    kind = path.strip("/")
    if code == "search-type" and kind in TYPES:
        for each in supported(kind).values():
            yield {"name": each.name, "in": "query", "description": each.kind, "schema": {"type": "string"}}


def _sent(kind: str) -> dict[str, Any]:
    if kind == SENT["PATCH"]:
        return {"type": "array", "items": {"type": "object"}}
    return {"type": "object"} if kind == FORM else {"$ref": "#/components/schemas/Resource"}


def _answer(schema: str) -> dict[str, Any]:
    return {"description": schema, "content": {FHIR: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}}


def _schema(resource_type: str | None) -> dict[str, Any]:
    kind: dict[str, Any] = {"type": "string"} | ({"const": resource_type} if resource_type else {})
    return {"type": "object", "required": ["resourceType"], "properties": {"resourceType": kind}}
