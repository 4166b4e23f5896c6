"""The references in a resource: where they stand, which lead to something held here, and how they are replaced.

https://hl7.org/fhir/R4/references.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from fhirgw.fhir.issue import Resource
from fhirgw.fhir.parameters import HELD

LOCAL = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")
LINK = re.compile(r"""(\s(?:href|src)\s*=\s*["'])(urn:(?:uuid|oid):[^"']+)(["'])""")
"""A link in a narrative to what is in the same Bundle."""


def references(resource: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Each `Reference.reference`, with the path of its Reference from the resource down."""
    if isinstance(resource, list):
        for at, each in enumerate(resource):
            if isinstance(each, dict):
                yield from references(each, f"{path}[{at}]")
    elif isinstance(resource, dict):
        for name, value in resource.items():
            if isinstance(value, dict | list):
                yield from references(value, f"{path}.{name}" if path else name)
            elif name == "reference" and isinstance(value, str):
                yield path, value


def local(found: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those that name something held here, as (type, id)."""
    named = (LOCAL.fullmatch(text) for _, text in found)
    return [(each[1], each[2]) for each in named if each and each[1] in HELD]


def replaced(resource: Resource, addresses: Mapping[str, str], reference: Callable[[str], str]) -> Resource:
    """The resource with its references as `reference` has them, and other addresses as `addresses` has those.

    A Bundle's own names may stand in any element that holds an address, and in links of the narrative.
    https://hl7.org/fhir/R4/http.html#trules
    """
    made: Resource = _replaced(resource, "", addresses, reference)
    return made


def _replaced(value: Any, name: str, addresses: Mapping[str, str], reference: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(each, key, addresses, reference) for key, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, name, addresses, reference) for each in value]
    if not isinstance(value, str):
        return value
    if name == "reference":
        return reference(value)
    if value.startswith("urn:"):
        return addresses.get(value, value)
    if name == "div" and "urn:" in value:
        return LINK.sub(lambda found: found[1] + addresses.get(found[2], found[2]) + found[3], value)
    return value
