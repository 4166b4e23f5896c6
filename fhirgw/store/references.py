"""What a body refers to by a search parameter: local references, as type and id."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from fhirgw.fhir.parameters import Source

LOCAL = re.compile(r"([A-Z][A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(?:/_history/.*)?", re.ASCII)


def references(body: Any, source: Source, target: str | None) -> Iterator[tuple[str, str]]:
    """What stands at the source's path, of the target type (None: of any the parameter is for)."""
    for value in _at(body, [element.name for element in source.path]):
        spelt = value.get("reference") if isinstance(value, dict) else value
        local = LOCAL.fullmatch(spelt) if isinstance(spelt, str) else None
        if local and local[1] in (source.only_type or local[1], "Resource") and target in (None, local[1]):
            yield local[1], local[2]


def canonicals(body: Any, source: Source) -> Iterator[tuple[str, str]]:
    """The canonicals at the source's path: each as its url, and its version or ""."""
    for value in _at(body, [element.name for element in source.path]):
        if isinstance(value, str):
            url, _, version = value.partition("|")
            yield url, version


def _at(value: Any, names: Sequence[str]) -> Iterator[Any]:
    """The values at a path of property names, through every list on the way."""
    if isinstance(value, list):
        for each in value:
            yield from _at(each, names)
    elif not names:
        yield value
    elif isinstance(value, dict) and names[0] in value:
        yield from _at(value[names[0]], names[1:])
