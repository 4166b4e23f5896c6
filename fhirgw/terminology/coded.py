"""What an operation asks about: codes, however they are given; and the faults of asking.

`code` with `system`, a `coding`, or a `codeableConcept` of several. https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

from dataclasses import dataclass

from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.terminology.definitions import wanted
from fhirgw.terminology.inputs import Inputs
from fhirgw.terminology.value_set import ValueSet, compiled, value_set_of

MOST_INCLUDES = 50
"""Of a value set that a caller sends along."""


@dataclass(frozen=True, slots=True)
class Coded:
    """One code of a system; `version` of the system and `display` where the caller says them."""

    system: str
    code: str
    version: str | None = None
    display: str | None = None

    @classmethod
    def of(cls, coding: Resource, system: str | None = None) -> Coded:
        """Of a Coding; `system` counts where it names none. Raises FhirError(required)."""
        found = coding.get("system") or system
        if found is None:
            raise FhirError(Issue("required", "A coding needs its system: which code it is depends on it"))
        return cls(found, coding["code"], coding.get("version"), coding.get("display"))


def asked(inputs: Inputs, *, system: str | None = None, named: str = "system", suffix: str = "") -> list[Coded]:
    """The codes asked about, in their order. `system` is known already where it is not asked for by `named`.

    `suffix` tells one of two apart (`codeA`, `codingA`). Raises FhirError where there are none, or two ways at once.
    """
    code, coding, concept = (f"{name}{suffix}" for name in ("code", "coding", "codeableConcept"))
    ways = [name for name in (code, coding, concept) if name in inputs]
    if len(ways) != 1:
        told = "one of them, not several" if ways else "something to ask about"
        raise FhirError(Issue("required", f"{inputs.operation} wants {told}: {code} with its system, or {coding}"))
    if ways[0] == code:
        found = system or inputs.required(named)
        version = next((inputs.text(name) for name in ("systemVersion", "version") if name in inputs), None)
        return [Coded(found, inputs.required(code), version, inputs.text("display"))]
    given = inputs.coding(ways[0]) or {}
    return [Coded.of(each, system) for each in (given["coding"] if ways[0] == concept else [given])]


def asked_set(inputs: Inputs, url: str | None) -> tuple[Resource, ValueSet]:
    """The value set that is meant, and what it comes to: of `url`, of the parameter url, or sent along.

    Raises NotHeld; FhirError for one sent along that would cost too much.
    """
    sent = inputs.resource("valueSet")
    if (sent is None) == (url is None and "url" not in inputs):
        raise FhirError(Issue("required", f"{inputs.operation} wants either url or valueSet: which value set is meant"))
    if sent is not None:
        _check_cost(sent)
        return sent, compiled(sent)
    definition = wanted("ValueSet", url or inputs.required("url"), inputs.text("valueSetVersion"))
    found = value_set_of(definition["url"])
    return definition, found or compiled(definition)


def _check_cost(sent: Resource) -> None:
    """Regular expressions and endless includes of a caller's could keep everybody waiting."""
    compose = sent.get("compose", {})
    includes = [*compose.get("include", ()), *compose.get("exclude", ())]
    if any(each.get("op") == "regex" for part in includes for each in part.get("filter", ())):
        raise FhirError(Issue("not-supported", "Filters by regular expression are not taken from callers"))
    if sum(1 + len(each.get("valueSet", ())) for each in includes) > MOST_INCLUDES:
        raise FhirError(Issue("too-costly", f"A value set that is sent along has at most {MOST_INCLUDES} includes"))


def part(name: str, kind: str, value: object) -> Resource:
    """One parameter of an answer: `part("result", "Boolean", True)`."""
    return {"name": name, f"value{kind}": value}


def parameters(parts: list[Resource]) -> Resource:
    """The answer."""
    return {"resourceType": "Parameters", "parameter": parts}
