"""The invariants of an element: by hand where somebody wrote it, else by FHIRPath.

https://hl7.org/fhir/R4/conformance-rules.html#constraints
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from fhirgw.fhir.elements import ancestry
from fhirgw.fhir.facts import table
from fhirgw.fhir.issue import Issue
from fhirgw.validation.by_hand import FREE, RULES, TOGETHER, Rule
from fhirgw.validation.fhirpath import NotJudged, rule
from fhirgw.validation.scope import Check, Found, Scope

STUMBLES = (TypeError, AttributeError, KeyError, ValueError, IndexError, ArithmeticError)
"""What a rule by hand meets in a value of the wrong kind, which the structure's own issue has told of."""

GRAVITY = {"error": "error", "warning": "warning", "information": "information"}
GOOD = ("dom-6",)
"""Rules of good practice, which R4 marks as such: hardly any resource that a machine made keeps to them."""


@cache
def of_context(context: str) -> tuple[Check, ...]:
    """The invariants of a type with those of what it specialises, or of a backbone within one."""
    paths = (context,) if "." in context else reversed(ancestry(context))
    listed = table("rules")["invariants"]
    return checks([each for path in paths for each in listed.get(path, ())], context)


@cache
def of_path(path: str) -> tuple[Check, ...]:
    """The invariants that stand on an element whose type is defined elsewhere: those of Organization.telecom."""
    return checks(table("rules")["invariants"].get(path, ()), path)


def checks(invariants: Sequence[Sequence[str]], context: str) -> tuple[Check, ...]:
    """A check for each [key, severity, expression]."""
    judged = [each for each in invariants if each[0] not in TOGETHER]
    return tuple(_check(key, "information" if key in GOOD else grave, text, context) for key, grave, text in judged)


def _check(key: str, severity: str, expression: str, context: str) -> Check:
    by_hand = RULES.get(f"{context} {key}") or (RULES.get(key) if _is_r4s(key, expression) else None)
    if by_hand is None:
        return _by_fhirpath(key, GRAVITY[severity], expression, context)
    holds, remedy = by_hand
    broken: Found = [("", Issue("invariant", f"{key}: {remedy}", None, GRAVITY[severity]))]
    free = FREE.get(f"{context} {key}") or FREE.get(key)
    if free is not None:
        return _where(free, holds, broken)

    def check(value: Any, scope: Scope) -> Found | None:
        try:
            return None if holds(value, scope) else broken
        except STUMBLES:
            return None

    return check


def _where(name: str, holds: Rule, broken: Found) -> Check:
    beside = f"_{name}"

    def check(value: Any, scope: Scope) -> Found | None:
        if name not in value and beside not in value:
            return None
        try:
            return None if holds(value, scope) else broken
        except STUMBLES:
            return None

    return check


def _by_fhirpath(key: str, severity: str, expression: str, context: str) -> Check:
    holds = rule(expression, context)
    broken: Found = [("", Issue("invariant", f"{key}: make this true: {expression}", None, severity))]
    unknown: Found = [("", Issue("processing", f"{key} could not be judged: {expression}", None, "warning"))]

    def check(value: Any, scope: Scope) -> Found | None:
        try:
            return None if holds(value, scope) else broken
        except NotJudged:
            return unknown

    return check


@cache
def _expressions() -> frozenset[tuple[str, str]]:
    return frozenset((key, text) for listed in table("rules")["invariants"].values() for key, _, text in listed)


def _is_r4s(key: str, expression: str) -> bool:
    """Whether this is R4's own rule of that key, and not a profile's that calls itself the same."""
    return (key, expression) in _expressions()
