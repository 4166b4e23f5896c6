"""What the value of one element adds to an index, by the kind of parameter and the type of the element.

https://hl7.org/fhir/R4/search.html says for each kind which types it looks in, and what it compares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fhirgw.fhir import tokens
from fhirgw.fhir.dates import Span, outer, period, span
from fhirgw.fhir.elements import Element
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.parameters import SLOTS, Parameter, Source
from fhirgw.fhir.strings import normalise

NOBODY: dict[str, str] = {}
"""Stands where a reference has no identifier."""

NAME_PARTS = ("text", "family", "given", "prefix", "suffix")
ADDRESS_PARTS = ("text", "line", "city", "district", "state", "postalCode", "country")
PRIMARY = ("patient", "subject")
"""The parameters that say whose record a resource belongs to."""


@dataclass(slots=True)
class Index:
    """What the store keeps beside a body.

    `tokens` without repeats; `strings` as (parameter, normalised value); `dates` by slot 1..4; `patient` an
    id, None for what is nobody's record.
    """

    tokens: list[int] = field(default_factory=list)
    strings: list[tuple[str, str]] = field(default_factory=list)
    dates: list[Span | None] = field(default_factory=lambda: [None] * SLOTS)
    patient: str | None = None


Handler = Callable[[Any, Index], None]


def token(name: str, element: Element) -> Handler:
    """A code, coding, identifier, contact or boolean, each as https://hl7.org/fhir/R4/search.html#token says."""
    coding, code = tokens.coding, tokens.code

    def concept(value: Any, found: Index) -> None:
        for each in value.get("coding", ()):
            found.tokens += coding(name, each.get("system"), each.get("code"))

    def one_coding(value: Any, found: Index) -> None:
        found.tokens += coding(name, value.get("system"), value.get("code"))

    def identifier(value: Any, found: Index) -> None:
        found.tokens += tokens.identifier(name, value.get("system"), value.get("value"))

    def contact(value: Any, found: Index) -> None:
        if number := value.get("value"):
            found.tokens.append(tokens.contact(name, number))

    def boolean(value: Any, found: Index) -> None:
        found.tokens.append(code(name, "true" if value else "false"))

    def bare(value: Any, found: Index) -> None:
        found.tokens.append(code(name, value))

    by_type = {
        "CodeableConcept": concept,
        "Coding": one_coding,
        "Identifier": identifier,
        "ContactPoint": contact,
        "boolean": boolean,
    }
    return by_type.get(element.type, bare)


def string(name: str, element: Element) -> Handler:
    """A text, or every part of a name or address."""
    exact = tokens.exact
    parts = {"HumanName": NAME_PARTS, "Address": ADDRESS_PARTS}.get(element.type)

    def plain(value: Any, found: Index) -> None:
        found.strings.append((name, normalise(value, name)))
        found.tokens.append(exact(name, value))

    def every_part(value: Any, found: Index) -> None:
        for part in parts or ():
            inner = value.get(part)
            for text in (inner,) if isinstance(inner, str) else inner or ():
                if text is not None:
                    found.strings.append((name, normalise(text, name)))
                    found.tokens.append(exact(name, text))

    return every_part if parts else plain


def uri(name: str, element: Element) -> Handler:
    """A uri, compared exactly."""

    def handle(value: Any, found: Index) -> None:
        found.tokens.append(tokens.uri(name, value))

    return handle


def canonical(name: str, element: Element) -> Handler:
    """A canonical is found with its version and without."""

    def handle(value: Any, found: Index) -> None:
        found.tokens.append(tokens.uri(name, value))
        if "|" in value:
            found.tokens.append(tokens.uri(name, value.partition("|")[0]))

    return handle


def reference(looking: Sequence[tuple[Parameter, Source]]) -> Handler:
    """All reference parameters of one element: those for any type, and those for the type it turns out to name."""
    always = tuple(parameter.name for parameter, source in looking if source.only_type is None)
    kinds = {source.only_type for _, source in looking} - {None}
    by_kind = {
        kind: tuple(parameter.name for parameter, source in looking if source.only_type in (None, kind))
        for kind in kinds
    }
    primary = any(parameter.name in PRIMARY for parameter, _ in looking)

    def handle(value: Any, found: Index) -> None:
        target = value.get("reference")
        if target:
            kind, _, rest = target.partition("/")
            if not rest or "/" in rest or target[0] == "#":
                target, kind = _target(target)
            names = by_kind.get(kind, always)
            if target and primary and kind == "Patient" and found.patient is None and target.startswith("Patient/"):
                found.patient = target[8:]
        else:
            names = by_kind.get(value.get("type"), always)
        logical = value.get("identifier") or NOBODY
        found.tokens += tokens.referring(names, target, logical.get("system"), logical.get("value"))

    return handle


def _target(reference: str) -> tuple[str, str]:
    """What a reference names, without a version, and the resource type; two blanks within the same resource."""
    if reference[0] == "#":
        return "", ""
    target = reference.partition("/_history/")[0]
    kind, _, rest = target.partition("/")
    if kind.endswith(":"):
        kind = target.rpartition("/")[0].rpartition("/")[2]
    return target, kind if rest else ""


def date(parameter: Parameter, kind: str, path: str) -> Handler:
    """The span of a date, Period or Timing, in the parameter's slot; `path` is for the issue with a wrong one."""
    slot = (parameter.slot or 1) - 1
    read = {"Period": period, "Timing": _timing}.get(kind, span)

    def handle(value: Any, found: Index) -> None:
        try:
            found.dates[slot] = read(value)
        except FhirError as error:
            raise FhirError(Issue("value", error.issues[0].diagnostics, path)) from None

    return handle


def _timing(value: dict[str, Any]) -> Span | None:
    """The outer limits of a Timing: of its events and of the bounds of its repetition."""
    spans = [span(each) for each in value.get("event", ()) if each is not None]
    bounds = period(value.get("repeat", {}).get("boundsPeriod", {}))
    return outer([*spans, bounds] if bounds else spans)
