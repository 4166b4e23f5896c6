"""Ids within one resource: no two of its elements have the same, nor do two resources that it contains.

What is contained counts by itself. https://hl7.org/fhir/R4/element.html#id, references.html#contained
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fhirgw.fhir.issue import Issue, Resource
from fhirgw.validation.scope import Found

TWICE = Issue("value", "Another element of this resource has the same id: give each an id of its own, or none")
CONTAINED_TWICE = Issue("value", "Another contained resource has the same id: references to it could mean either")


def twice(resource: Resource) -> Found:
    """What is found of ids that were there before, each at its own place."""
    held = resource.get("contained")
    contained = [each for each in held if isinstance(each, dict)] if isinstance(held, list) else []
    found = _again([(f".contained[{at}].id", each.get("id")) for at, each in enumerate(contained)], CONTAINED_TWICE)
    for at, each in enumerate(contained):
        found += _again(_ids(each, f".contained[{at}]"), TWICE)
    return found + _again(_ids(resource, ""), TWICE)


def _again(ids: Iterator[tuple[str, Any]] | list[tuple[str, Any]], issue: Issue) -> Found:
    seen: set[str] = set()
    found: Found = []
    for place, id in ids:
        if isinstance(id, str):
            if id in seen:
                found.append((place, issue))
            seen.add(id)
    return found


def _ids(value: dict[str, Any], place: str) -> Iterator[tuple[str, Any]]:
    """The ids of the elements below, with their places; not of resources that stand in them."""
    for name, held in value.items():
        for at, each in enumerate(held if isinstance(held, list) else [held]):
            if isinstance(each, dict) and "resourceType" not in each:
                inner = f"{place}.{name.removeprefix('_')}" + (f"[{at}]" if isinstance(held, list) else "")
                yield f"{inner}.id", each.get("id")
                yield from _ids(each, inner)
