"""Code lists as data: a system's own codes, the standard's, and what is lost between them.

A Concept is a standard list (its code system, codes and displays). A CodeMap leads a system's codes to it. Where two
codes lead to one, the map must *keep* the system's own code beside the standard one (as a second coding), or be read
one way only; each such code is named in `lost`, with what the standard cannot say.
https://hl7.org/fhir/R4/conceptmap.html
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fhirgw.fhir.issue import Resource
from fhirgw.mapping.refusal import Refusal


@dataclass(frozen=True, slots=True)
class Concept:
    """A standard list: the coding of each code, and its translations (`also`), by the name a code has here.

    A value set may draw on several code systems. Translations are written beside the standard's coding and never read
    back.
    """

    name: str
    standard: Mapping[str, Resource]
    also: Mapping[str, tuple[Resource, ...]] = field(default_factory=dict)

    def named(self, code: Any) -> str | None:
        """The name here of a code that stands without its system."""
        return next((name for name, coding in self.standard.items() if coding["code"] == code), None)

    @property
    def systems(self) -> frozenset[str]:
        """The code systems the list draws on."""
        return frozenset(coding["system"] for coding in self.standard.values())


@dataclass(frozen=True, slots=True)
class CodeMap:
    """A system's codes -> a concept's. `own` is the URL of the system's own list, where its codes are kept."""

    name: str
    concept: Concept
    codes: Mapping[str, str]
    own: str
    keep: bool = False
    lost: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def merged(self) -> set[str]:
        """The codes that share their target with another."""
        shared = {target for target, times in Counter(self.codes.values()).items() if times > 1}
        return {source for source, target in self.codes.items() if target in shared}

    def target(self, source: str) -> str:
        """The standard's code for the system's; Refusal where the map has none."""
        try:
            return self.codes[source]
        except KeyError:
            raise self._unknown() from None

    def source(self, target: Any) -> str:
        """The system's first code for the standard's; Refusal where it has none."""
        for code, meaning in self.codes.items():
            if meaning == target:
                return code
        raise Refusal(
            "unknown-code",
            f"the code list {self.name} has no code for this",
            "Add it to codes.yaml of the system",
        )

    def codings(self, source: str) -> list[Resource]:
        """The codings a system's code is written as: its own first where it is kept, then the standard's."""
        target = self.target(source)
        codings = [self.concept.standard[target], *self.concept.also.get(target, ())]
        if not self.keep:
            return codings
        label = self.labels.get(source)
        own = {"system": self.own, "code": source} | ({"display": label} if label else {})
        return [own, *codings]

    def read(self, codings: list[Any]) -> str | None:
        """The system's code that the codings stand for; None where they hold neither list.

        The kept code is believed only while it agrees with the standard one: whoever changed that meant it.
        """
        own: str | None = _code(codings, self.own)
        target = self._target(codings)
        if own is not None and own in self.codes and target in (None, self.codes[own]):
            return own
        return None if target is None else self.source(target)

    def mentions(self, codings: Any) -> bool:
        """Whether any of the codings is of either list: how the element is found again among others."""
        systems = self.concept.systems
        return any(
            isinstance(c, dict) and (c.get("system") in systems or c.get("system") == self.own) for c in codings or ()
        )

    def _target(self, codings: list[Any]) -> str | None:
        """The standard's code among the codings; Refusal where there is one that the list does not have."""
        found = [c for c in codings if isinstance(c, dict) and c.get("system") in self.concept.systems]
        for name, coding in self.concept.standard.items():
            if any(c["system"] == coding["system"] and c.get("code") == coding["code"] for c in found):
                return name
        if found:
            raise self._unknown()
        return None

    def _unknown(self) -> Refusal:
        known = ", ".join(sorted(self.codes))
        rule = (
            f"the code list {self.name} knows: {known}"
            if len(known) < 160
            else f"the code list {self.name} has no such code"
        )
        return Refusal("unknown-code", rule, "Correct the code, or add it to codes.yaml of the system")


def _code(codings: list[Any], system: str) -> Any:
    return next((c.get("code") for c in codings if isinstance(c, dict) and c.get("system") == system), None)
