"""A care provider's file judged before it is sent: which rows would be refused and why, which fields it never has.

Nobody's record is looked at, so that whose a visit is, and whether it came before, is not told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from fhirgw.visits.batch import at_once, met, told_apart
from fhirgw.visits.merge import fold, parts
from fhirgw.visits.quality import Standard, missing
from fhirgw.visits.reading import Reader, Refused, Sent, untimed
from fhirgw.visits.receipt import Receipt, refusal

UNSAID = ("carer", "task")
"""Parts that are other ways to say what lists do."""


class Rehearsed(NamedTuple):
    """`receipts` of rows with something to mend; `reasons` and `incomplete` fields by how often; `unused` fields."""

    rows: int
    refused: int
    receipts: tuple[Receipt, ...]
    reasons: tuple[tuple[str, int], ...]
    incomplete: tuple[tuple[str, int], ...]
    unused: tuple[str, ...]

    @property
    def passes(self) -> bool:
        """Whether every row would be taken, and there is one."""
        return self.rows > 0 and self.refused == 0

    def as_json(self) -> dict[str, Any]:
        """The report as it is told."""
        return {
            "passes": self.passes,
            "rows": self.rows,
            "refused": self.refused,
            "reasons": dict(self.reasons),
            "incomplete": dict(self.incomplete),
            "unused": list(self.unused),
            "receipts": [each.as_json() for each in self.receipts],
        }


def rehearsed(
    rows: Sequence[tuple[int, Any]],
    provider: str,
    reader: Reader,
    standard: Standard,
    now: datetime,
    called: Callable[[Refused], Refused] = lambda refused: refused,
) -> Rehearsed:
    """The rows of a file, as (number, JSON or Refused), judged as if they were sent by a care provider now."""
    judged = told_apart([each if isinstance(each, Refused) else reader.read(each, provider, now) for _, each in rows])
    twice = at_once(judged)
    receipts: list[Receipt] = []
    for at, ((number, _), each) in enumerate(zip(rows, judged, strict=True)):
        if isinstance(each, Refused):
            receipts.append(refusal(number, called(each)))
        elif at in twice:
            told = called(Refused(each.visit, (met(twice[at]),)))
            receipts.append(Receipt(number, each.visit, "stored", None, told.faults))
    sound = [each for each in judged if isinstance(each, Sent)]
    refused = [each for each in receipts if each.status == "refused"]
    reasons = Counter(fault.reason for each in refused for fault in each.faults)
    lacking = Counter(
        fault.column for each in _visits(sound, now) for fault in missing(each, standard, reader.rules, now)
    )
    return Rehearsed(
        len(rows), len(refused), tuple(receipts), _often(reasons), _often(lacking), tuple(_unused(sound, reader))
    )


def _visits(sound: Sequence[Sent], now: datetime) -> list[dict[str, Any]]:
    """What the rows come to, visit by visit."""
    said: dict[str, list[Any]] = {}
    for each in sound:
        said.setdefault(each.visit, []).append((each if each.timed else untimed(each, now)).said)
    return [parts(fold(each)) for each in said.values()]


def _unused(sound: Sequence[Sent], reader: Reader) -> list[str]:
    """The fields of a visit that no row has."""
    used: set[str] = set()
    for each in sound:
        for name, value in each.said.parts.items():
            plural = {"carer": "carers", "task": "tasks"}.get(name, name)
            for entry in value if isinstance(value, list) else [value or {}]:
                used |= {f"{plural}.{field}" for field in entry}
    every = [f"{name}.{field}" for name, shape in reader.shapes.items() if name not in UNSAID for field in shape.fields]
    return [each for each in every if each not in used]


def _often(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda each: (-each[1], each[0])))
