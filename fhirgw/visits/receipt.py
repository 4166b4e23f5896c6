"""What a care provider is told of each row it sent, in the order of the rows: what became of it, and what to mend.

    {"stored": 1, "unchanged": 0, "superseded": 0, "refused": 1, "unallocated": 0, "receipts": [
      {"row": 1, "visit": "V1", "status": "stored", "id": "3fa9…"},
      {"row": 2, "visit": "V2", "status": "refused", "issues": [
        {"column": "planned.end", "reason": "order", "rule": "it ends before it starts", "remedy": "Correct …"}
      ]}]}

`row` is the first 1: of a list its place, of a spreadsheet its row. `id` is that of the Appointment and Encounter that
the visit is, where it is in somebody's record; where it is not yet, `issues` say why. No value is told again but the id
that the care provider gave the visit, by which it finds the row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from fhirgw.visits.batch import Status
from fhirgw.visits.reading import Fault, Refused


class Receipt(NamedTuple):
    """What became of a row: `id` where it is in somebody's record, `faults` what to mend."""

    row: int
    visit: str | None
    status: Status
    id: str | None = None
    faults: tuple[Fault, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The receipt as it is sent, without what there is not."""
        told: dict[str, Any] = {"row": self.row}
        if self.visit is not None:
            told["visit"] = self.visit
        told["status"] = self.status
        if self.id is not None:
            told["id"] = self.id
        if self.faults:
            told["issues"] = [each._asdict() for each in self.faults]
        return told


def refusal(row: int, refused: Refused) -> Receipt:
    """The receipt of a row that is not taken."""
    return Receipt(row, refused.visit, "refused", None, refused.faults)


def counted(receipts: Sequence[Receipt]) -> dict[str, int]:
    """How many came to what; `unallocated` are among those that are kept."""
    counts = Counter(each.status for each in receipts)
    told: dict[str, int] = {name: counts[name] for name in ("stored", "unchanged", "superseded", "refused")}
    return told | {"unallocated": sum(each.status != "refused" and each.id is None for each in receipts)}


def summed(receipts: Sequence[Receipt], submission: str | None = None) -> dict[str, Any]:
    """The whole answer: how many came to what, as what submission it is found again, then each."""
    told: dict[str, Any] = dict(counted(receipts))
    if submission is not None:
        told["submission"] = submission
    return told | {"receipts": [each.as_json() for each in receipts]}
