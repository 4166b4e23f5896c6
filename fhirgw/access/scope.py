"""SMART scopes: what an application may do with which type, in whose name.

Both spellings are read, `system/Patient.read` (v1) and `system/Patient.rs` (v2), and kept as v2. A scope may be
constrained by search parameters (`system/Observation.rs?category=http://…|laboratory&status=final`): all must hold.
https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote

from fhirgw.fhir.criterion import Tokens, criterion
from fhirgw.fhir.elements import is_resource
from fhirgw.fhir.escapes import alternatives
from fhirgw.fhir.issue import FhirError, Issue

VERBS = "cruds"
"""create, read, update, delete, search: v2 writes them in this order, and only so."""

VERSION_1 = {"read": "rs", "write": "cud", "*": VERBS}

SHAPE = re.compile(
    r"(?P<context>patient|user|system)/(?P<type>\*|[A-Z][A-Za-z]{1,63})\."
    r"(?:(?P<v1>read|write|\*)|(?P<v2>(?=[cruds])c?r?u?d?s?))"
    r"(?:\?(?P<constraint>[^\s\"\\?]+))?"
)
LONGEST = 1000
MOST_CONSTRAINTS = 8
MOST_SCOPES = 100
MOST_TOLD = 12
"""Scopes that one message names."""
PLAIN = "/:|,.-_~!*'()@;$"
"""What a constraint's value is spelt with as it is; `+` is not among them, because some read it as a space."""

Constraint = tuple[tuple[str, str], ...]


BY_NAME = ("AuditEvent",)
"""Types that are registered by name or not at all: whoever's token names them is an auditor."""


@dataclass(frozen=True, slots=True)
class Scope:
    """`context` is patient, user or system; `type` a resource type or `*`; `verbs` letters of VERBS, in order.

    `constraint` holds search parameters and their values, as a search spells them: pairs that must all hold.
    """

    context: str
    type: str
    verbs: str
    constraint: Constraint = ()

    def covers(self, verb: str, resource_type: str) -> bool:
        """Whether the scope allows the verb on the type (if the resource fits the constraint)."""
        return verb in self.verbs and self.type in ("*", resource_type)

    def within(self, other: Scope) -> bool:
        """Whether whatever this scope allows, the other allows too."""
        return (
            self.context == other.context
            and (other.type == self.type or (other.type == "*" and self.type not in BY_NAME))
            and set(self.verbs) <= set(other.verbs)
            and all(_implied(pair, self.constraint) for pair in other.constraint)
        )

    def intersection(self, other: Scope) -> Scope | None:
        """What both allow; None if that is nothing."""
        verbs = "".join(verb for verb in self.verbs if verb in other.verbs)
        types = {self.type, other.type} - {"*"} or {"*"}
        if self.type != other.type and types & set(BY_NAME):
            return None
        if self.context != other.context or not verbs or len(types) > 1:
            return None
        constraint = (*self.constraint, *(pair for pair in other.constraint if not _implied(pair, self.constraint)))
        return Scope(self.context, types.pop(), verbs, constraint)

    def criteria(self) -> tuple[Tokens, ...]:
        """The constraint as search criteria."""
        return tuple(_criterion(self.type, name, value) for name, value in self.constraint)

    def __str__(self) -> str:
        pairs = "&".join(f"{name}={quote(value, safe=PLAIN)}" for name, value in self.constraint)
        return f"{self.context}/{self.type}.{self.verbs}{'?' if pairs else ''}{pairs}"

    @property
    def bare(self) -> str:
        """It without the values it is constrained to, which may be anybody's number: for what is told of it."""
        return f"{self.context}/{self.type}.{self.verbs}{'?...' if self.constraint else ''}"

    @classmethod
    def parse(cls, text: str) -> Scope:
        """The scope a token spells. Raises FhirError(forbidden): what we cannot read permits nothing."""
        found = SHAPE.fullmatch(text) if len(text) <= LONGEST else None
        if not found or not (found["type"] == "*" or is_resource(found["type"])):
            raise _refusal("A scope is not one this gateway knows: use context/Type.verbs, as in system/Patient.rs")
        constraint = tuple(dict.fromkeys(_pairs(found["type"], found["constraint"] or "")))
        return cls(found["context"], found["type"], found["v2"] or VERSION_1[found["v1"]], constraint)


def scopes(text: str) -> tuple[Scope, ...]:
    """The scopes of a token or a request, one space between two. Raises FhirError(forbidden) if one is none."""
    spelt = text.split(" ") if text else []
    if len(spelt) > MOST_SCOPES:
        raise _refusal(f"More than {MOST_SCOPES} scopes: ask for types by a wildcard, or in parts")
    return tuple(dict.fromkeys(_parsed(each, at, len(spelt)) for at, each in enumerate(spelt, 1)))


def _parsed(text: str, at: int, many: int) -> Scope:
    """One of several scopes. Raises FhirError(forbidden) that says which: what it is may not be repeated."""
    try:
        return Scope.parse(text)
    except FhirError as error:
        raise _refusal(f"Scope {at} of {many}: {error}" if many > 1 else str(error)) from None


def told(found: Iterable[Scope]) -> str:
    """Scopes as an error tells them: the first MOST_TOLD."""
    names = list(dict.fromkeys(each.bare for each in found))
    more = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
    return ", ".join(names[:MOST_TOLD]) + more if names else "none"


def granted(asked: Iterable[Scope], registered: Iterable[Scope]) -> tuple[Scope, ...]:
    """What is both asked for and registered: never wider than either. Empty if that is nothing.

    Raises FhirError(forbidden) where that takes more scopes to say than anybody needs.
    """
    registered = tuple(registered)
    both: dict[Scope, None] = {}
    for one in asked:
        whole = any(one.within(other) for other in registered)
        parts = (one,) if whole else (each for other in registered if (each := one.intersection(other)))
        both |= dict.fromkeys(parts)
    if len(both) > 2 * MOST_SCOPES:
        raise _refusal("So many scopes come to too many: ask for types by a wildcard, or in parts")
    return tuple(_widest(list(both)))


def _widest(found: list[Scope]) -> Iterator[Scope]:
    """The scopes without those that are within another; of two that say the same, the first."""
    for at, each in enumerate(found):
        wider = (i for i, other in enumerate(found) if i != at and each.within(other))
        if not any(i < at or not found[i].within(each) for i in wider):
            yield each


def _pairs(resource_type: str, constraint: str) -> Iterator[tuple[str, str]]:
    spelt = constraint.split("&") if constraint else []
    if len(spelt) > MOST_CONSTRAINTS:
        raise _refusal(f"A scope has at most {MOST_CONSTRAINTS} constraints")
    for each in spelt:
        name, _, value = each.partition("=")
        try:
            pair = unquote(name, errors="strict"), unquote(value, errors="strict")
        except UnicodeDecodeError:
            raise _refusal("A scope's constraint is not UTF-8") from None
        _criterion(resource_type, *pair)
        yield pair


def _criterion(resource_type: str, name: str, value: str) -> Tokens:
    """One constraint. Codes alone: what is compared exactly cannot be widened by how it is compared."""
    if resource_type == "*":
        raise _refusal("A scope that is constrained names its type, as in system/Observation.rs?status=final")
    if ":" in name or "." in name:
        raise _refusal("A scope's constraint is a search parameter by its name: no modifier, no chain")
    try:
        found = criterion(resource_type, name, value)
    except FhirError as error:
        raise _refusal(f"A scope's constraint cannot be used: {error}") from None
    if not isinstance(found, Tokens) or found.parameter.kind != "token":
        raise _refusal(f"A scope's constraint is a search parameter that looks for a code; {name} is none")
    return found


def _implied(pair: tuple[str, str], constraint: Constraint) -> bool:
    """Whether a constraint asks for that already: the same parameter, with the same values or fewer."""
    name, value = pair
    allowed = set(alternatives(value))
    return any(other == name and set(alternatives(given)) <= allowed for other, given in constraint)


def _refusal(diagnostics: str) -> FhirError:
    return FhirError(Issue("forbidden", diagnostics))
