"""Which codes a search means by `:in`, `:not-in`, `:above` and `:below`: those of a value set, or of a hierarchy.

Worked out by what is carried here, to the tokens of the codes: such a search is one for codes that are named. What
cannot be listed here (SNOMED CT's hierarchy) is refused, never guessed. A system that a value set takes whole is one
token, whether its codes are carried or not. https://hl7.org/fhir/R4/search.html#token
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache

from fhirgw.fhir import tokens
from fhirgw.fhir.criterion import Chain, Codes, Criterion, Has, Tokens
from fhirgw.fhir.escapes import at_bar, unescape
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.parameters import Parameter
from fhirgw.terminology.code_system import code_system
from fhirgw.terminology.definitions import REMEDY, NotHeld, by_id, rests_on_these, wanted
from fhirgw.terminology.value_set import value_set_of

MOST = 5000
"""Codes that one search may mean."""
MOST_KEPT = 256
"""Value sets and codes whose tokens are remembered, for each parameter."""

Coded = tuple[str, str | None]
"""A system and a code of it; None is any of its codes."""


def meant(asked: Codes) -> Tokens:
    """The tokens of the codes. Raises FhirError (400): what is not carried here, and what cannot be."""
    found: dict[int, None] = {}
    for value in asked.values:
        found |= dict.fromkeys(_tokens(asked.parameter, asked.modifier, value))
    if len(found) > MOST:
        told = f"{asked.parameter.name}:{asked.modifier} means more than {MOST} codes: ask for fewer"
        raise FhirError(Issue("too-costly", told))
    return Tokens(asked.parameter, tuple(found), asked.modifier == "not-in")


def check(criteria: Iterable[Criterion]) -> None:
    """Raises FhirError (400) where a criterion means codes that are not known here: for what is searched later."""
    for each in criteria:
        if isinstance(each, Chain):
            check((each.criterion, *each.others))
        elif isinstance(each, Has):
            check((each.criterion,))
        elif isinstance(each, Codes):
            meant(each)


@lru_cache(maxsize=MOST_KEPT)
def _tokens(parameter: Parameter, modifier: str, value: str) -> tuple[int, ...]:
    name = f"{parameter.name}:{modifier}"
    try:
        found = _members(unescape(value)) if modifier in ("in", "not-in") else _related(parameter, modifier, value)
        return tuple(_token(parameter, *each) for each in found)
    except FhirError as error:
        told = (Issue(each.code, f"{name}: {each.diagnostics}") for each in error.issues)
        raise FhirError(*told, status=400) from None


rests_on_these(_tokens.cache_clear)


def _token(parameter: Parameter, system: str, code: str | None) -> int:
    """As the parameter's elements are indexed: those of type code say no system."""
    if code is None:
        if system in parameter.systems:
            raise NotHeld(f"It takes a whole code system that is not carried here; {REMEDY}", "not-supported")
        return tokens.system_only(parameter.name, system)
    return tokens.code(parameter.name, code) if system in parameter.systems else _full(parameter.name, system, code)


def _full(name: str, system: str, code: str) -> int:
    return tokens.token(f"{name}|{system}|{code}")


def _members(value_set: str) -> Iterator[Coded]:
    """The codes of a value set, by its canonical url or as `ValueSet/[id]`."""
    kind, slash, id = value_set.partition("/")
    held = by_id("ValueSet", id) if kind == "ValueSet" and slash else wanted("ValueSet", value_set)
    found = value_set_of(held["url"]) if held else None
    if found is None:
        raise NotHeld(f"This ValueSet is not carried here; {REMEDY}. GET [base]/ValueSet lists those that are")
    unknown = NotHeld(f"The value set draws on codes that are not carried here and cannot be listed; {REMEDY}")
    if found.extent.elsewhere is not False:
        raise unknown
    for system, part in found.extent.parts.items():
        if part.rest is None or None in part.others.values() or (part.rest and part.others):
            raise unknown
        if part.rest:
            yield system, None
        else:
            yield from ((system, code) for code in part.codes)


def _related(parameter: Parameter, modifier: str, value: str) -> Iterator[Coded]:
    """The code and those above or below it. Its system is said, or the elements of the parameter imply it."""
    system, bar, code = at_bar(value)
    if not bar:
        if len(parameter.systems) != 1:
            raise FhirError(Issue("invalid", "it is written system|code"))
        (system,), code = parameter.systems, system
    if not system or not code:
        raise FhirError(Issue("invalid", "it is written system|code"))
    held = code_system(system)
    if held is None or not held.complete:
        raise NotHeld(f"The hierarchy of this code system is not carried here; {REMEDY}", "not-supported")
    concept = held.find(code)
    if concept is None:
        raise FhirError(Issue("not-found", "the code system has no such code: CodeSystem?url=… shows those it has"))
    more = held.ancestors(concept.code) if modifier == "above" else held.descendants(concept.code)
    yield from ((system, each) for each in (concept.code, *sorted(more)))
