"""Invariants that nobody wrote by hand, through fhirpathpy: those of rare types, and of profiles.

Slow (a fraction of a millisecond each), so a rule is not asked where none of the elements it speaks of is there, once
it has been seen to hold of nothing. https://hl7.org/fhir/R4/fhirpath.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import re2  # type: ignore[import-untyped]

from fhirgw.fhir.elements import children
from fhirgw.validation.narrative import is_narrative
from fhirgw.validation.scope import Scope

_NAME = re.compile(r"`?([A-Za-z_]\w*)`?")
_GROUP = re.compile(r"\$(\d+)")
LARGEST_REGEX = 8 << 20
"""Bytes that one regular expression may take."""
_STRING = re.compile(r"'(?:\\.|[^'\\])*'")
_AROUND = re.compile(r"%(resource|rootResource|context)|children\(|descendants\(|\$this|resolve\(|memberOf\(")
"""What lets a rule see more than the elements it names."""

_OPTIONS = {
    "traceFn": lambda *_: None,
    "userInvocationTable": {
        "hasValue": {"fn": lambda held: [len(held) == 1 and is_value(held[0])], "arity": {0: []}},
        "htmlChecks": {"fn": lambda held: [all(map(is_narrative, held))], "arity": {0: []}},
        "matches": {"fn": lambda held, regex: _matches(held, regex), "arity": {1: ["String"]}, "nullable_input": True},
        "replaceMatches": {
            "fn": lambda held, regex, by: _replaced(held, regex, by),
            "arity": {2: ["String", "String"]},
        },
    },
}
"""What FHIR adds to FHIRPath and the library has not; and what it does by expressions that may never come to an end."""

Evaluate = Callable[[Any, Scope], list[Any]]


class NotJudged(Exception):
    """The rule could not be worked out: what it is about is misshapen, or it asks what the library does not know."""


@cache
def rule(expression: str, context: str) -> Callable[[Any, Scope], bool]:
    """Whether the expression holds of a value at the context. Parsed when first asked. Raises NotJudged."""
    evaluate: Evaluate | None = None

    def holds(value: Any, scope: Scope) -> bool:
        nonlocal evaluate
        try:
            if evaluate is None:
                evaluate = parsed(expression, context)
            answer = evaluate(value, scope)
        except RecursionError:
            raise
        except Exception as error:  # the library raises plain Exception for whatever it does not know
            raise NotJudged(type(error).__name__) from None
        return answer != [False]

    named = frozenset(spoken_of(expression, context))
    if not named or _AROUND.search(expression):
        return holds
    bare: bool | None = None

    def quickly(value: Any, scope: Scope) -> bool:
        nonlocal bare
        if value.__class__ is dict and named.isdisjoint(value):
            if bare is None:
                bare = holds({"resourceType": context} if "resourceType" in value else {}, scope)
            return bare
        return holds(value, scope)

    return quickly


def is_value(node: Any) -> bool:
    """Whether a node is a primitive with a value, and not only with extensions."""
    return not isinstance(getattr(node, "data", node), dict | list | None)


def _matches(held: list[Any], regex: Any) -> Any:
    return [] if not held or not isinstance(regex, str) else _regex(regex).search(_one_text(held)) is not None


def _replaced(held: list[Any], regex: Any, by: Any) -> Any:
    if not isinstance(regex, str) or not isinstance(by, str):
        return []
    return _regex(regex).sub(_GROUP.sub(r"\\\1", by), _one_text(held))


def _one_text(held: list[Any]) -> str:
    if len(held) != 1 or not isinstance(held[0], str):
        raise TypeError("of one text")
    return held[0]


@cache
def _regex(pattern: str) -> Any:
    """The expression, to be worked out in time linear in the text: packages and their texts are anybody's.

    Raises re2.error for what cannot be (look-around, back references): the rule is then not judged, and told so.
    https://github.com/google/re2/wiki/Syntax
    """
    options = re2.Options()
    options.log_errors, options.dot_nl, options.max_mem = False, True, LARGEST_REGEX
    return re2.compile(pattern, options)


def parsed(expression: str, context: str) -> Evaluate:
    """The expression as the library evaluates it."""
    from fhirpathpy import compile as compiled  # here: its grammar takes a twelfth of a second to import
    from fhirpathpy.engine.nodes import ResourceNode
    from fhirpathpy.models import models

    node: Callable[[Any, str], Any] = ResourceNode.create_node
    evaluate = compiled(expression, models["r4"], _OPTIONS)

    def answer(value: Any, scope: Scope) -> list[Any]:
        around = {"resource": scope.resource, "rootResource": scope.resource}
        whole = value.__class__ is dict and "resourceType" in value  # only so does it know Appointment.status
        return evaluate(value if whole else node(value, context), around)

    return answer


def spoken_of(expression: str, context: str) -> set[str]:
    """The JSON names in a context that an expression may mean."""
    words = set(_NAME.findall(_STRING.sub("", expression)))
    found = set()
    for name, element in children(context).items():
        stem = name[: -len(element.type)] if element.choices else name
        if words & {name, stem}:
            found |= {name, f"_{name}"}
    return found
