"""Which slice of an element a value belongs to, by its discriminators.

https://hl7.org/fhir/R4/profiling.html#discriminator
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fhirgw.fhir.differential import DEFINITIONS
from fhirgw.fhir.elements import Element, kind
from fhirgw.fhir.issue import Issue
from fhirgw.fhir.profile import profile
from fhirgw.terminology import membership
from fhirgw.validation.pattern import matches
from fhirgw.validation.scope import Found, Scope
from fhirgw.validation.snapshot import Node

Predicate = Callable[[Any, Scope], bool]
_EXTENSION = re.compile(r"""extension\(['"]([^'"]+)['"]\)""")
_STEP = re.compile(r"""extension\(['"][^'"]+['"]\)|[^.]+""")


@dataclass(frozen=True, slots=True)
class Slice:
    """A slice as compiled: whether a value belongs, how many must, and what each must be."""

    matches: Callable[[str, Any, Scope], bool]
    counted: Callable[[int], Issue | None] | None
    value: Callable[[str, Any, Scope], Found | None] | None


def matcher(
    context: str, name: str, slice_name: str, element: Node, node: Node, elements: tuple[Element, ...]
) -> Callable[[str, Any, Scope], bool] | None:
    """Whether a value, under its JSON name, belongs to a slice; None where that cannot be told here."""
    if name in ("extension", "modifierExtension"):
        url = extension_url(node)
        return None if url is None else lambda _, value, scope: value.__class__ is dict and value.get("url") == url
    if name.endswith("[x]"):
        names = of_type(name, slice_name, node, elements)
        return lambda held, value, scope: held in names
    tests = []
    for how, path in element.facts.get("discriminators", ()):
        test = discriminated(how, path, node)
        if test is None:
            return None
        tests.append(test)
    if not tests:
        return None
    return lambda _, value, scope: all(test(value, scope) for test in tests)


def extension_url(node: Node) -> str | None:
    """The url of the extension that a slice is."""
    for text in node.facts.get("types", ()):
        code, _, named = text.partition("(")
        if code == "Extension" and named:
            url = str(named).rstrip(")").partition(",")[0]
            return url if "://" in url else DEFINITIONS + url
    fixed = node.children.get("url", Node()).facts.get("fixed")
    return str(fixed) if fixed is not None else None


def of_type(name: str, slice_name: str, node: Node, elements: tuple[Element, ...]) -> frozenset[str]:
    """The JSON names of the types a slice of a choice is about: those it states, else the one it is named after."""
    codes = {text.partition("(")[0] for text in node.facts.get("types", ())}
    found = frozenset(each.name for each in elements if each.type in codes)
    return found or frozenset({slice_name})


def discriminated(how: str, path: str, node: Node) -> Predicate | None:
    """The test of one discriminator."""
    steps = [step for step in _STEP.findall(path) if step != "$this"]
    leads = bool(steps) and steps[-1] == "resolve()"
    if leads:
        steps = steps[:-1]
    inner = walked(node, steps)
    if inner is None:
        return None
    if how == "exists":
        wanted = inner.facts.get("max") != "0"
        return lambda value, scope: any(True for _ in values(value, steps)) is wanted
    if how == "type":
        return of_kind(inner, steps, leads)
    if how == "profile":
        return of_kind(inner, steps, leads)
    test = expected(inner)
    if test is None or leads:
        return None
    return lambda value, scope: any(test(each) for each in values(value, steps))


def walked(node: Node, steps: list[str]) -> Node | None:
    """The node that steps lead to from a slice."""
    for step in steps:
        if match := _EXTENSION.fullmatch(step):
            slices = node.children.get("extension", Node()).slices.values()
            found = next((each for each in slices if extension_url(each) == match.group(1)), None)
        else:
            name = step.partition(".ofType")[0]
            found = node.children.get(name) or node.children.get(f"{name}[x]")
        if found is None:
            return None
        node = found
    return node


def values(value: Any, steps: list[str]) -> Iterator[Any]:
    """The values that steps lead to from a value."""
    if isinstance(value, list):
        for each in value:
            yield from values(each, steps)
    elif not steps:
        if value is not None:
            yield value
    elif isinstance(value, dict):
        if match := _EXTENSION.fullmatch(steps[0]):
            for each in value.get("extension", ()) if isinstance(value.get("extension"), list) else ():
                if isinstance(each, dict) and each.get("url") == match.group(1):
                    yield from values(each, steps[1:])
            return
        name = steps[0]
        for key, each in value.items():
            if key == name or (key.startswith(name) and kind_named(key[len(name) :])):
                yield from values(each, steps[1:])


def kind_named(text: str) -> bool:
    """Whether the rest of a JSON name is a type: the Quantity of valueQuantity."""
    return text[:1].isupper() and (kind(text) is not None or kind(text[0].lower() + text[1:]) is not None)


def expected(node: Node) -> Callable[[Any], bool] | None:
    """Whether a value is what a node fixes: itself, its required codes, or what stands under it."""
    facts = node.facts
    if "fixed" in facts:
        return lambda value: bool(value == facts["fixed"])
    if "pattern" in facts:
        return lambda value: matches(value, facts["pattern"])
    under = [(name, test) for name, child in node.children.items() if (test := expected_among(child))]
    strength, _, value_set = facts.get("binding", "").partition(" ")
    if not under and strength == "required":
        return lambda value: is_member(value, value_set)
    if not under:
        return None
    return lambda value: (
        isinstance(value, dict)
        and all(any(test(each) for each in values(value, [name.removesuffix("[x]")])) for name, test in under)
    )


def expected_among(child: Node) -> Callable[[Any], bool] | None:
    """Whether a value is what an element fixes, or one of its slices that must be there does."""
    own = expected(child)
    if own is not None:
        return own
    tests = [test for each in child.slices.values() if each.facts.get("min") and (test := expected(each))]
    return (lambda value: any(test(value) for test in tests)) if tests else None


def is_member(value: Any, value_set: str) -> bool:
    if isinstance(value, str):
        return membership(value_set, None, value) is True
    codings = value.get("coding", [value]) if isinstance(value, dict) else []
    return isinstance(codings, list) and any(
        isinstance(each, dict)
        and isinstance(each.get("code"), str)
        and membership(value_set, each.get("system") if isinstance(each.get("system"), str) else "", each["code"])
        is True
        for each in codings
    )


def of_kind(node: Node, steps: list[str], leads: bool) -> Predicate | None:
    """By the type of a value, of a resource, or of what a reference leads to."""
    wanted = set()
    for text in node.facts.get("types", ()):
        code, _, named = text.partition("(")
        for each in named.rstrip(")").split(",") if named else [code]:
            known = profile(each) if "://" in each else profile(DEFINITIONS + each)
            wanted.add(known.type if known else each)
    if not wanted:
        return None

    def check(value: Any, scope: Scope) -> bool:
        return any(type_of(each, scope, leads) in wanted for each in values(value, steps))

    return check


def type_of(value: Any, scope: Scope, leads: bool) -> str | None:
    if not isinstance(value, dict):
        return None
    if not leads:
        found = value.get("resourceType")
        return found if isinstance(found, str) else None
    written = value.get("reference")
    if isinstance(written, str):
        target = scope.resolved(written)
        if target is not None:
            return str(target.get("resourceType"))
        above = written.partition("/_history/")[0].rpartition("/")[0]
        return above.rpartition("/")[2] or None
    found = value.get("type")
    return found if isinstance(found, str) else None
