"""Invariants written by hand say what their FHIRPath says, as fhirpathpy works it out, of every object tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fhirgw.fhir.elements import ancestry, children
from fhirgw.fhir.facts import table
from fhirgw.validation import by_hand
from fhirgw.validation.fhirpath import parsed
from fhirgw.validation.invariant import checks
from fhirgw.validation.scope import Scope
from tests.validation.right import spoilt
from tests.validation.test_validation_defects import DEFECTS, RIGHT

UNKNOWN_TO_THE_LIBRARY = {
    "ctm-1": "resolve()",
    "txt-1": "htmlChecks()",
    "que-7": "`is Boolean` of a FHIR boolean",
    "rng-2": "Quantities of one unit are compared by value; the library converts them",
    "dom-3": "as(canonical) over descendants: the library does not know their types",
    "dom-6": "of what is contained its container is told",
}
MISSHAPEN = ("structure", "value")


def objects(value: Any, context: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Each object below a value with its context."""
    if isinstance(value, list):
        for each in value:
            yield from objects(each, context)
    elif isinstance(value, dict):
        kind = value.get("resourceType", context) if context == "Resource" else context
        yield value, kind
        for name, held in value.items():
            element = children(kind).get(name)
            if element is not None and not element.is_primitive:
                yield from objects(held, element.inner)


def stated(context: str) -> Iterator[tuple[str, str]]:
    """The key and FHIRPath of the invariants of a context that are also written by hand."""
    for path in (context,) if "." in context else ancestry(context):
        for key, _, expression in table("rules")["invariants"].get(path, ()):
            if key in by_hand.RULES or f"{context} {key}" in by_hand.RULES:
                yield key, expression


def worlds() -> Iterator[tuple[str, dict[str, Any]]]:
    yield from RIGHT.items()
    for name, (resource, changes, code, _) in DEFECTS.items():
        if code not in MISSHAPEN:
            yield name, spoilt(resource, changes)


def answers() -> Iterator[tuple[str, str, bool, bool]]:
    """Key, expression, what we say and what FHIRPath says, of each object once."""
    seen: set[tuple[str, str]] = set()
    for _, resource in worlds():
        scope = Scope(resource)
        for value, context in objects(resource, "Resource"):
            for key, expression in stated(context):
                known = (key, repr(value))
                if known in seen or key in UNKNOWN_TO_THE_LIBRARY:
                    continue
                seen.add(known)
                (check,) = checks([(key, "error", expression)], context)
                yield key, expression, not check(value, scope), evaluated(expression, context, value, scope)


EVALUATE: dict[tuple[str, str], Any] = {}


def evaluated(expression: str, context: str, value: Any, scope: Scope) -> bool:
    known = (expression, context)
    if known not in EVALUATE:
        EVALUATE[known] = parsed(expression, context)
    return bool(EVALUATE[known](value, scope) != [False])


def test_by_hand_and_by_fhirpath_agree() -> None:
    told = list(answers())
    assert {(key, expression) for key, expression, ours, theirs in told if ours != theirs} == set()
    broken = {key for key, _, ours, _ in told if not ours}
    assert len({key for key, *_ in told}) > 45 and len(broken) > 35


@pytest.mark.parametrize("key", UNKNOWN_TO_THE_LIBRARY)
def test_what_cannot_be_compared_is_written_by_hand(key: str) -> None:
    assert key in by_hand.RULES
