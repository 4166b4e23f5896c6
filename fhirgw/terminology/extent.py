"""What is in a value set, as far as it can be known: yes, no, or unknown for each code of each system.

Systems that nobody holds here (SNOMED CT) leave their codes unknown; unions, intersections and differences carry that
through, so that `False` is only ever said of what cannot be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

Answer = bool | None
Rule = Callable[[Answer, Answer], Answer]


def either(a: Answer, b: Answer) -> Answer:
    """Of a union."""
    return True if a or b else (None if a is None or b is None else False)


def both(a: Answer, b: Answer) -> Answer:
    """Of an intersection."""
    return False if a is False or b is False else (None if a is None or b is None else True)


def without(a: Answer, b: Answer) -> Answer:
    """Of a difference."""
    return both(a, None if b is None else not b)


@dataclass(frozen=True, slots=True)
class Part:
    """Of one code system: `codes` are in, with the display the value set gives each; `others` are told one by one.

    `rest` is the answer for every code named in neither.
    """

    codes: Mapping[str, str | None] = field(default_factory=dict)
    others: Mapping[str, Answer] = field(default_factory=dict)
    rest: Answer = False

    def has(self, code: str) -> Answer:
        return True if code in self.codes else self.others.get(code, self.rest)

    def joined(self, rule: Rule, other: Part) -> Part:
        """The part of two value sets, by a rule; a display of either stays."""
        named = dict.fromkeys((*self.codes, *self.others, *other.codes, *other.others))
        answers = {code: rule(self.has(code), other.has(code)) for code in named}
        rest = rule(self.rest, other.rest)
        return Part(
            {code: self.codes.get(code) or other.codes.get(code) for code, answer in answers.items() if answer},
            {code: answer for code, answer in answers.items() if not answer and answer is not rest},
            rest,
        )


@dataclass(frozen=True, slots=True)
class Extent:
    """Of every system: a part for each one named, and `elsewhere` the answer for all others."""

    parts: Mapping[str, Part] = field(default_factory=dict)
    elsewhere: Answer = False

    def part(self, system: str) -> Part:
        found = self.parts.get(system)
        return Part(rest=self.elsewhere) if found is None else found

    def joined(self, rule: Rule, other: Extent) -> Extent:
        systems = dict.fromkeys((*self.parts, *other.parts))
        parts = {system: self.part(system).joined(rule, other.part(system)) for system in systems}
        return Extent(parts, rule(self.elsewhere, other.elsewhere))

    @property
    def undecided(self) -> tuple[str, ...]:
        """The systems whose codes in it cannot be listed."""
        return tuple(
            system
            for system, part in self.parts.items()
            if part.rest is not False or any(answer is None for answer in part.others.values())
        )


EMPTY = Extent()
UNKNOWN = Extent(elsewhere=None)


def union(extents: Iterable[Extent]) -> Extent:
    found = EMPTY
    for each in extents:
        found = found.joined(either, each)
    return found
