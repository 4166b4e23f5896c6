"""The JSON shape of a property: once or several times, a value or an object, one of a choice, known or not.

https://hl7.org/fhir/R4/json.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from fhirgw.fhir.elements import Element, children
from fhirgw.fhir.issue import Issue
from fhirgw.fhir.table import Table
from fhirgw.validation.scope import Check, Found, Scope, below

Rule = Callable[[Any, dict[str, Any], Scope], Found | None]
"""Judges one property: its value, the object that has it, the scope."""

One = Callable[[Any], Issue | None]
"""Judges one value of a primitive."""

OBJECT = Issue("structure", "An object stands here: write {...}")
NOTHING = Issue("structure", "An object is not empty: fill it, or leave it out")
LIST = Issue("structure", "This element repeats: write a list [...], also for one")
ONE = Issue("structure", "This element comes once: write no list")
NO_VALUES = Issue("structure", "A list is not empty: fill it, or leave it out")
NULL = Issue("structure", "null stands only in a list, for a value that has extensions beside it: leave it out")
UNPAIRED = Issue("structure", "The list of extensions beside a list has one place for each value: fill up with null")
ONLY_ID = Issue("invariant", "ele-1: an element has a value or extensions, not only an id: add one")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def stem(element: Element) -> str:
    return element.name[: -len(element.type)] if element.choices else element.name


@cache
def _spellings(context: str) -> dict[str, str]:
    """The elements of a context by what is left of their names without case, underscores and plural."""
    return {_bare(name): name for name in children(context)}


def _bare(name: str) -> str:
    return name.replace("_", "").casefold().removesuffix("s")


def unknown(context: str, name: str) -> Rule:
    """What is found of a property that R4 does not have there. Only a name that could be one is repeated."""
    could_be = _NAME.fullmatch(name) is not None
    near = _spellings(context).get(_bare(name)) if could_be else None
    remedy = f"did you mean {near}?" if near and near != name else "leave it out, or use an extension"
    found: Found = [(f".{name}" if could_be else "", Issue("structure", f"{context} has no such element: {remedy}"))]
    return lambda value, holder, scope: found


def alone(element: Element, rule: Rule) -> Rule:
    """The rule of one of a choice: it comes without the others."""
    others = frozenset(each for name in element.choices if name != element.name for each in (name, f"_{name}"))
    place = f".{stem(element)}"
    two: Found = [(place, Issue("structure", f"{stem(element)}[x] is of one type: keep one of them"))]

    def check(value: Any, holder: dict[str, Any], scope: Scope) -> Found | None:
        found = rule(value, holder, scope)
        if not others.isdisjoint(holder) and element.name == next(name for name in holder if name in element.choices):
            return (found or []) + two
        return found

    return check


def together(checks: tuple[Check, ...]) -> Check:
    """One check of several; those after the first see only objects."""
    first, *others = checks
    if not others:
        return first

    def check(value: Any, scope: Scope) -> Found | None:
        found = first(value, scope)
        if value.__class__ is dict:
            for each in others:
                more = each(value, scope)
                if more:
                    found = more if not found else found + more
        return found

    return check


def one_primitive(place: str, one: One, known: Table | None) -> Rule:
    def wrong(value: Any, issue: Issue) -> Found:
        return [(place, ONE if value.__class__ is list else NULL if value is None else issue)]

    def check(value: Any, holder: dict[str, Any], scope: Scope) -> Found | None:
        issue = one(value)
        return None if issue is None else wrong(value, issue)

    if known is None:
        return check

    def quick(value: Any, holder: dict[str, Any], scope: Scope) -> Found | None:
        if value.__class__ is str:
            issue = known[value]
            return None if issue is None else [(place, issue)]
        return check(value, holder, scope)

    return quick


def ruled(rule: Rule, place: str, invariants: tuple[Check, ...]) -> Rule:
    """A primitive on which invariants stand: the div of a narrative."""

    def check(value: Any, holder: dict[str, Any], scope: Scope) -> Found | None:
        if found := rule(value, holder, scope):
            return found
        return [(place, more[0][1]) for each in invariants if (more := each(value, scope))]

    return check


def many_primitives(name: str, place: str, one: One) -> Rule:
    def check(value: Any, holder: dict[str, Any], scope: Scope) -> Found | None:
        if value.__class__ is not list:
            return [(place, LIST)]
        if not value:
            return [(place, NO_VALUES)]
        found: Found | None = None
        for at, each in enumerate(value):
            issue = one(each)
            if issue is not None:
                if each is None:
                    if _has_beside(holder.get(f"_{name}"), at):
                        continue
                    issue = NULL
                found = found or []
                found.append((f"{place}[{at}]", issue))
        return found

    return check


def _has_beside(others: Any, at: int) -> bool:
    return isinstance(others, list) and len(others) > at and isinstance(others[at], dict)


def one_object(place: str, one: Check) -> Rule:
    def check(value: Any, holder: dict[str, Any], scope: Scope) -> Found | None:
        found = one(value, scope)
        if not found:
            return None
        return [(place, ONE)] if value.__class__ is list else below(place, found)

    return check


def many_objects(place: str, one: Check, most: int | None) -> Rule:
    def check(value: Any, holder: dict[str, Any], scope: Scope) -> Found | None:
        if value.__class__ is not list:
            return [(place, LIST)]
        if not value:
            return [(place, NO_VALUES)]
        found: Found | None = None
        for at, each in enumerate(value):
            more = one(each, scope)
            if more:
                found = found or []
                found += below(f"{place}[{at}]", more if each is not None else [("", NULL)])
        if most is not None and len(value) > most:
            found = found or []
            found.append((place, Issue("structure", f"At most {most} of these: leave out the others")))
        return found

    return check
