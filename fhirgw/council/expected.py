"""What a faultless gateway must make of a made-up council: an oracle, worked out from what was planted alone."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from fhirgw.council.council import Council
from fhirgw.council.declare import Column, Table
from fhirgw.council.facts import Person
from fhirgw.council.faults import LEGAL
from fhirgw.council.layout import Layout
from fhirgw.council.render import rows


@dataclass(frozen=True, slots=True, order=True)
class Refusal:
    """A row that must be refused: its table, its key as the system writes it, and the rule it breaks.

    `unknown-person` is the rule of rows that are faultless themselves, but name a person who is refused.
    """

    table: str
    key: str
    rule: str


@dataclass(frozen=True, slots=True)
class Expected:
    """Rows by table; the rows to be refused; the keys of people by the NHS number they share.

    Child tables have rows, and no refusals of their own: their rows go with their parents'.
    """

    rows: dict[str, int]
    refused: frozenset[Refusal]
    shared: dict[str, tuple[str, ...]]


def expected(council: Council, layout: Layout) -> Expected:
    """What must come of the council, kept in this layout."""
    own = {(fault.kind, fault.number): fault.rule for fault in council.faults if fault.rule not in LEGAL}
    person = layout.convention.key["person"]
    refused = {person.format(number) for kind, number in own if kind == "person"}
    counts, refusals = {}, set()
    for table in layout.declared:
        faulty = {layout.convention.key[k].format(n): rule for (k, n), rule in own.items() if k == table.kind}
        counts[table.name] = 0
        for key, *people in rows(council, table, _named(table), layout.convention):
            counts[table.name] += 1
            rule = faulty.get(str(key)) if not table.each else None
            if not rule and refused.intersection(people):
                rule = "unknown-person"
            if rule and not table.parent:
                refusals.add(Refusal(table.name, str(key), rule))
    return Expected(counts, frozenset(refusals), _shared(council, person))


def _named(table: Table) -> tuple[Column, ...]:
    """The table's key, and its columns that name a person."""
    people = (column for column in table.references if column.about == "person")
    return (table.key, *people)


def _shared(council: Council, person: str) -> dict[str, tuple[str, ...]]:
    holders: dict[str, list[str]] = defaultdict(list)
    for fault in council.faults:
        if fault.rule == "shared-number":
            number = council.find(Person, fault.number).nhs_number
            holders[str(number)].append(person.format(fault.number))
    return {number: tuple(sorted(keys)) for number, keys in holders.items()}
