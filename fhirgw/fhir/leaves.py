"""What the value of one element is found by, by the kind of parameter and the type of the element.

https://hl7.org/fhir/R4/search.html says for each kind which types it looks in, and what it compares. Each table here
works out a value once for all the parameters that look at it: codes, names and references come back in every row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from fhirgw.fhir import tokens
from fhirgw.fhir.dates import Span, outer, period, span
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.parameters import Parameter, Source
from fhirgw.fhir.strings import normalise
from fhirgw.fhir.table import Table

PRIMARY = ("patient", "subject")
"""The parameters that say whose record a resource belongs to."""

Names = tuple[str, ...]
Tokens = tuple[int, ...]
Strings = tuple[tuple[str, str], ...]


@cache
def codings(names: Names) -> Table:
    """(system, code) -> tokens."""
    return Table(lambda pair: tuple(each for name in names for each in tokens.coding(name, *pair)))


@cache
def codes(names: Names) -> Table:
    """A bare code, whose system the element implies -> tokens."""
    return Table(lambda value: tuple(tokens.code(name, value) for name in names))


@cache
def uris(names: Names) -> Table:
    """A uri, compared exactly -> tokens."""
    return Table(lambda value: tuple(tokens.uri(name, value) for name in names))


@cache
def canonicals(names: Names) -> Table:
    """A canonical -> tokens with its version and without."""
    return Table(
        lambda value: tuple(
            tokens.uri(name, each) for name in names for each in dict.fromkeys((value, value.partition("|")[0]))
        )
    )


@cache
def texts(names: Names) -> Table:
    """A text -> its strings, and the tokens of how it is spelt."""

    def work_out(text: str) -> tuple[Strings, Tokens]:
        strings = tuple((name, normalise(text, name)) for name in names)
        return strings, tuple(tokens.exact(name, text) for name in names)

    return Table(work_out)


def contact(names: Names, value: str | None) -> Tokens:
    """The tokens of a telephone number or e-mail address. Not remembered: nobody shares one."""
    return tuple(tokens.contact(name, value) for name in names) if value else ()


def references(looking: Sequence[tuple[Parameter, Source]]) -> Table:
    """(reference, type, identifier's system and value) -> tokens, and the id of the Patient whose record it makes it.

    For all parameters of one element: those for any type, and those for the type it turns out to name.
    """
    return _references(
        tuple(parameter.name for parameter, source in looking if source.only_type is None),
        tuple(
            (kind, tuple(parameter.name for parameter, source in looking if source.only_type in (None, kind)))
            for kind in dict.fromkeys(source.only_type for _, source in looking)
            if kind is not None
        ),
        any(parameter.name in PRIMARY for parameter, _ in looking),
    )


@cache
def _references(always: Names, kinds: tuple[tuple[str, Names], ...], primary: bool) -> Table:
    by_kind = dict(kinds)

    def work_out(reference: tuple[str | None, ...]) -> tuple[Tokens, str | None]:
        written, kind, system, value = reference
        target, named = _target(written) if written else (None, kind)
        found = tokens.referring(by_kind.get(named or "", always), target, system, value)
        theirs = target if primary and target and target.startswith("Patient/") else None
        return found, theirs[8:] if theirs else None

    return Table(work_out)


def _target(reference: str) -> tuple[str, str]:
    """What a reference names, without a version, and the resource type; two blanks within the same resource."""
    if reference[0] == "#":
        return "", ""
    target = reference.partition("/_history/")[0]
    kind, _, rest = target.partition("/")
    if kind.endswith(":"):
        kind = target.rpartition("/")[0].rpartition("/")[2]
    return target, kind if rest else ""


def timing(value: dict[str, Any]) -> Span | None:
    """The outer limits of a Timing: of its events and of the bounds of its repetition."""
    spans = [span(each) for each in value.get("event", ()) if each is not None]
    bounds = period(value.get("repeat", {}).get("boundsPeriod", {}))
    return outer([*spans, bounds] if bounds else spans)


DATES: dict[str, Callable[[Any], Span | None]] = {"Period": period, "Timing": timing}
"""How a date's span is read, where the element is more than a date."""


def wrong_date(error: FhirError, path: str) -> FhirError:
    """The refusal of a date, with its place."""
    return FhirError(Issue("value", error.issues[0].diagnostics, path))
