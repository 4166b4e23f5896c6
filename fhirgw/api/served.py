"""What is served, read from the routes: the CapabilityStatement and the OpenAPI description are made of it.

https://hl7.org/fhir/R4/http.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from starlette.routing import BaseRoute

from fhirgw.api.answer import Interactions
from fhirgw.fhir.capability import Served

BASE = "/fhir"
CONVERTOR = re.compile(r":\w+}")
TYPE = "{type}"

TEMPLATES: dict[tuple[str, str], str] = {
    ("GET", "/{type}/{id}"): "read",
    ("PUT", "/{type}/{id}"): "update",
    ("PATCH", "/{type}/{id}"): "patch",
    ("DELETE", "/{type}/{id}"): "delete",
    ("GET", "/{type}/{id}/_history/{vid}"): "vread",
    ("GET", "/{type}/{id}/_history"): "history-instance",
    ("GET", "/{type}/_history"): "history-type",
    ("GET", "/_history"): "history-system",
    ("GET", "/{type}"): "search-type",
    ("POST", "/{type}/_search"): "search-type",
    ("POST", "/{type}"): "create",
    ("PUT", "/{type}"): "conditional-update",
    ("PATCH", "/{type}"): "conditional-patch",
    ("DELETE", "/{type}"): "conditional-delete",
    ("POST", ""): "transaction",
    ("GET", ""): "search-system",
    ("GET", "/metadata"): "capabilities",
}
"""FHIR's name of what a method on a template does; `{type}` may be one type by name."""


def served(routes: Sequence[BaseRoute]) -> Served:
    """What the routes serve: interactions by type (`*`: all held), and operations by type (`` : none)."""
    interactions: set[tuple[str, str]] = set()
    operations: set[tuple[str, str]] = set()
    for method, path in addresses(routes):
        kind, template = _typed(path)
        if code := TEMPLATES.get((method, template)):
            interactions.add((kind, code))
        elif (last := path.rpartition("/")[2]).startswith("$"):
            operations.add((kind, last[1:]))
    return Served(tuple(sorted(interactions)), tuple(sorted(operations)))


def addresses(routes: Sequence[BaseRoute]) -> Iterator[tuple[str, str]]:
    """Every method and template below the FHIR base, without the base: `GET`, `/{type}/{id}`. HEAD goes with GET."""
    for route in routes:
        if isinstance(route, Interactions) and route.path.startswith(BASE):
            path = CONVERTOR.sub("}", route.path).removeprefix(BASE)
            yield from ((method, path) for method in route.handlers if method != "HEAD")


def _typed(path: str) -> tuple[str, str]:
    """The type a template is about (`*`, a type, or nothing), and the template for any type."""
    first = path.split("/")[1] if "/" in path else ""
    if first == TYPE:
        return "*", path
    if first[:1].isupper():
        return first, path.replace(f"/{first}", f"/{TYPE}", 1)
    return "", path
