"""The references in a resource: where they stand, which lead to something held here, and how they are replaced.

https://hl7.org/fhir/R4/references.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.parameters import HELD

LOCAL = re.compile(r"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?")
DEFAULT = (None, 80, 443)
"""Ports that an address need not name: a proxy may take one for the other."""
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


def referred(resource: Any) -> list[str]:
    """Each `Reference.reference` as `references` finds them, without their paths, which cost as much again."""
    found: list[str] = []
    waiting = [resource]
    while waiting:
        each = waiting.pop()
        if each.__class__ is list:
            waiting += [one for one in each if one.__class__ is dict]
        elif each.__class__ is dict:
            for name, value in each.items():
                if value.__class__ is dict or value.__class__ is list:
                    waiting.append(value)
                elif name == "reference" and value.__class__ is str:
                    found.append(value)
    return found


def local(found: Iterable[str]) -> list[tuple[str, str]]:
    """Those of the references that name something held here, as (type, id)."""
    matches = map(LOCAL.fullmatch, found)
    return [(each[1], each[2]) for each in matches if each and each[1] in HELD]


def localised(resource: Resource, bases: Sequence[str]) -> Resource:
    """The resource with references to what is below one of the bases as the local ones they are: `Patient/1`.

    Raises FhirError (422) for one below a base that is no `Type/id`, nor a version of one: what it leads to would be in
    nobody's record. https://hl7.org/fhir/R4/references.html#literal
    """
    ours: dict[str, str] = {}
    for text in referred(resource):
        if "//" in text or text[:1] in ("/", "."):
            below = next((found for base in bases if (found := _below(base, text)) is not None), None)
            if below is None:
                continue
            if not LOCAL.fullmatch(below):
                told = "This is an address of the gateway's own that is no resource: refer to one as Type/id"
                path = next(path for path, found in references(resource) if found == text)
                raise FhirError(Issue("value", told, f"{resource.get('resourceType')}.{path}"), status=422)
            ours[text] = below
    return replaced(resource, {}, lambda text: ours.get(text, text)) if ours else resource


def _below(base: str, text: str) -> str | None:
    """What an address is below a base; None where it is somewhere else, or no address."""
    own, given = _own(base), _parts(text, f"{base}/")
    if own is None or given is None or own[0] != given[0] or not given[1].startswith(f"{own[1]}/"):
        return None
    return given[1][len(own[1]) + 1 :]


def _parts(address: str, base: str = "") -> tuple[tuple[str | None, int | None], str] | None:
    """Host and port, and the path with all that follows, so that addresses of one place compare equal."""
    try:
        parts = urlsplit(urljoin(base, address))
        port = parts.port
    except ValueError:
        return None
    if parts.scheme.lower() not in ("http", "https"):
        return None
    further = "".join(sign + each for sign, each in (("?", parts.query), ("#", parts.fragment)) if each)
    path = re.sub("/{2,}", "/", unquote(parts.path))
    return (parts.hostname, None if port in DEFAULT else port), path + further


_own = lru_cache(maxsize=64)(_parts)
"""Of a base: there are few."""


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
