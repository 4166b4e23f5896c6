"""Faults on purpose: a small share of the council's facts made wrong, as they are in real extracts, and written down.

They are planted in the facts and not in the rows, so that the same facts are wrong in every layout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

from fhirgw.council.codes import UNLISTED
from fhirgw.council.council import Council, Fault
from fhirgw.council.nhs_numbers import spoiled
from fhirgw.council.odds import between, pick

NO_SUCH_HOUR = tuple(map(datetime.fromisoformat, ("2024-03-31 01:30", "2025-03-30 01:15", "2026-03-29 01:45")))
"""Wall-clock times that Europe/London skipped when summer time began."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A fault to plant: the rule it breaks, in which fact of which kind, and in what share of that kind's records."""

    rule: str
    kind: str
    fact: str
    share: float
    after: str = ""
    """Of an 'order' fault, the fact that must not be later than `fact`."""
    together: int = 1
    """How many records each fault is about."""


PLOTS = (
    Plot("nhs-number", "person", "nhs_number", 0.005),
    Plot("shared-number", "person", "nhs_number", 0.002, together=2),
    Plot("no-postcode", "person", "addresses", 0.012),
    Plot("unknown-code", "relationship", "relation", 0.010),
    Plot("unknown-code", "contact", "reason", 0.010),
    Plot("unknown-code", "assessment", "kind", 0.010),
    Plot("unknown-code", "support_reason", "reason", 0.010),
    Plot("unknown-code", "line", "component", 0.014),
    Plot("unknown-code", "review", "reason", 0.010),
    Plot("unknown-code", "alert", "code", 0.017),
    Plot("unknown-code", "equipment", "kind", 0.017),
    Plot("unknown-code", "consent", "scope", 0.010),
    Plot("unknown-code", "delegate", "kind", 0.010),
    Plot("order", "relationship", "until", 0.010, after="since"),
    Plot("order", "support_reason", "until", 0.014, after="since"),
    Plot("order", "line", "end", 0.017, after="start"),
    Plot("order", "reablement", "end", 0.017, after="start"),
    Plot("order", "alert", "end", 0.017, after="start"),
    Plot("order", "equipment", "delivered", 0.017, after="requested"),
    Plot("order", "consent", "until", 0.010, after="given"),
    Plot("order", "delegate", "until", 0.010, after="since"),
    Plot("local-time", "contact", "received", 0.010),
    Plot("local-time", "assessment", "started", 0.010),
    Plot("local-time", "review", "held", 0.010),
    Plot("unknown-code", "allergy", "substance", 0.010),
    Plot("order", "access_note", "until", 0.010, after="since"),
)
"""Shares are assumptions of ours: between one and two in a hundred rows are wrong in all (not counting child tables').

Rules are named as the mapping engine names its reasons for refusing a row.
"""

LEGAL = frozenset({"shared-number", "no-postcode"})
"""Faults for which no row may be refused: a blank is lawful, and of two who claim one number neither is turned away."""


def plant(council: Council, rng: Random) -> None:
    """Make the facts wrong that the plots say, at least one of each, and write each down.

    No record is spoilt twice, and none of a person who will be refused: each refused row has one reason.
    """
    spoilt: set[tuple[str, int]] = set()
    for plot in PLOTS:
        refused = {fault.number for fault in council.faults if fault.rule == "nhs-number"}
        free = [r for r in council.records[plot.kind] if (plot.kind, r.number) not in spoilt and _fit(plot, r, refused)]
        count = max(1, round(plot.share * len(council.records[plot.kind])))
        chosen = rng.sample(free, min(count * plot.together, len(free) // plot.together * plot.together))
        for turn in range(0, len(chosen), plot.together):
            group = chosen[turn : turn + plot.together]
            _PLANTERS[plot.rule](plot, group, rng)
            for record in group:
                spoilt.add((plot.kind, record.number))
                council.faults.append(Fault(plot.kind, record.number, plot.fact, plot.rule))


def _fit(plot: Plot, record: Any, refused: set[int]) -> bool:
    """Whether the fault fits there: the fact is not blank (an end may be), and nobody refused owns the record."""
    if {getattr(record, "person", None), getattr(record, "carer", None)} & refused:
        return False
    return plot.rule == "order" or getattr(record, plot.fact) is not None


def _number(plot: Plot, people: list[Any], rng: Random) -> None:
    people[0].nhs_number = spoiled(people[0].nhs_number)


def _shared(plot: Plot, people: list[Any], rng: Random) -> None:
    people[1].nhs_number = people[0].nhs_number


def _postcode(plot: Plot, people: list[Any], rng: Random) -> None:
    homes = people[0].addresses
    homes["home"] = replace(homes["home"], postcode=None)


def _code(plot: Plot, records: list[Any], rng: Random) -> None:
    setattr(records[0], plot.fact, UNLISTED)


def _order(plot: Plot, records: list[Any], rng: Random) -> None:
    setattr(records[0], plot.fact, getattr(records[0], plot.after) - timedelta(days=between(rng, 1, 90)))


def _hour(plot: Plot, records: list[Any], rng: Random) -> None:
    setattr(records[0], plot.fact, pick(rng, NO_SUCH_HOUR))


_PLANTERS: dict[str, Callable[[Plot, list[Any], Random], None]] = {
    "nhs-number": _number,
    "shared-number": _shared,
    "no-postcode": _postcode,
    "unknown-code": _code,
    "order": _order,
    "local-time": _hour,
}
