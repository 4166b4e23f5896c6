"""A made-up council: its records by kind, the people of each sort, and what was planted in it.

`Council.add` numbers a record; everything else reads `Council.records`, kind by kind, in the order they were added.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from fhirgw.council import facts

KINDS: dict[type[Any], str] = {
    facts.Organisation: "organisation",
    facts.Team: "team",
    facts.Location: "location",
    facts.Worker: "worker",
    facts.Role: "role",
    facts.Person: "person",
    facts.Register: "register",
    facts.Relationship: "relationship",
    facts.Contact: "contact",
    facts.Assessment: "assessment",
    facts.SupportReason: "support_reason",
    facts.Plan: "plan",
    facts.Goal: "goal",
    facts.Line: "line",
    facts.Reablement: "reablement",
    facts.Review: "review",
    facts.Alert: "alert",
    facts.Allergy: "allergy",
    facts.AccessNote: "access_note",
    facts.AboutMe: "about_me",
    facts.Equipment: "equipment",
    facts.Technology: "technology",
    facts.Consent: "consent",
    facts.Delegate: "delegate",
}


class Numbered(Protocol):
    """Any record: a dataclass of `fhirgw.council.facts` with a number of its own."""

    number: int


R = TypeVar("R", bound=Numbered)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fact that was made wrong: of which record, which fact, and which rule it breaks."""

    kind: str
    number: int
    fact: str
    rule: str


@dataclass(slots=True)
class Council:
    """Everything the council knows; `faults` says what of it is wrong on purpose."""

    adults: int
    seed: int
    records: dict[str, list[Any]] = field(default_factory=lambda: {kind: [] for kind in KINDS.values()})
    faults: list[Fault] = field(default_factory=list)

    def add(self, record: R) -> R:
        """Keep the record, under the next number of its kind."""
        shelf = self.records[KINDS[type(record)]]
        shelf.append(record)
        record.number = len(shelf)
        return record

    def of(self, kind: type[R]) -> list[R]:
        """Every record of that kind."""
        records: list[R] = self.records[KINDS[kind]]
        return records

    def find(self, kind: type[R], number: int) -> R:
        """The record of that kind and number."""
        return self.of(kind)[number - 1]
