"""The ledger of a week: by person, care provider and line of a package, what was commissioned, planned, done, claimed.

| figure | of |
|---|---|
| `commissioned_*` | what the line commissions in the week (fhirgw.visits.commission), less what was suspended |
| `planned_*` | visits with a planned start in the week, whatever came of them, cancelled ones too |
| `delivered_*` | visits that were made: a carer came, and nothing else is said, or they are said to be delivered |
| `claimed_*` | what the care provider claims; `minutes` as they claim them |
| `*_minutes` | of a visit, from the first arrival to the last departure; whole ones, as fhirgw.visits.outcome counts |
| `*_carer_minutes` | the same of each carer: twice as many where two come |
| `variance_*` | delivered less commissioned; `claim_variance_minutes`: claimed less delivered |
| `missed_visits` | said so, or begun by nobody when their tolerance was over; not while the person was in hospital |
| `no_reply_visits`, `refused_visits`, `cancelled_visits` | as they are said |
| `no_reply_minutes`, `refused_minutes` | how long a carer was there all the same |
| `cancelled_notice_*`, `cancelled_short_notice_*`, `cancelled_by_provider_*` | of the cancelled; planned minutes |
| `away_visits` | in hospital, respite, deceased; and those planned during a stay in hospital of which nothing is said |
| `pending_visits` | planned, begun by nobody, and not late enough to be missed |
| `unended_visits` | made, and not everybody has checked out: their minutes are not known, and not counted |
| `suspended_*` | what the line would have commissioned while it was on hold or the person was in hospital |
| `timed_visits`, `punctual_visits` | made visits with a plan; those begun within their type's tolerance |
| `punctuality` | `punctual_visits / timed_visits` |
| `double_visits`, `single_handed_visits` | made visits for two carers or more; those at which one was alone |
| `carers` | how many different carers came |
| `attendances`, `team_attendances` | comings of carers; those of the `team` (rules.yaml: 3) who came most |
| `continuity` | `team_attendances / attendances` |

A visit is the line's that it names (`line.order`: the council's number of it, or its id). One that names none is the
line's of the same person and care provider that expects a visit nearest to its time of day. One that names a line that
is not there, or not in that week, is uncommissioned, and so is every visit of somebody without a line: it stands in a
row without a line (a row for each number that they name), until there is one. Visits of nobody we know are a care
provider's `unallocated`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal, NamedTuple

from fhirgw.fhir.dates import LONDON
from fhirgw.visits.stay import Restart

Kind = Literal["commissioned", "uncommissioned", "unallocated"]

COMMISSIONED = ("visits", "minutes", "carer_minutes")
ADDED = (
    *("no_reply_minutes", "refused_minutes", "cancelled_notice_visits", "cancelled_notice_minutes"),
    *("cancelled_short_notice_visits", "cancelled_short_notice_minutes"),
    *("cancelled_by_provider_visits", "cancelled_by_provider_minutes"),
)
"""The figures that came later, and stand at the end of the CSV."""
FIGURES = (
    *("commissioned_visits", "planned_visits", "delivered_visits", "claimed_visits"),
    *("commissioned_minutes", "planned_minutes", "delivered_minutes", "claimed_minutes"),
    *("commissioned_carer_minutes", "planned_carer_minutes", "delivered_carer_minutes"),
    *("missed_visits", "no_reply_visits", "refused_visits", "cancelled_visits", "away_visits", "pending_visits"),
    *("unended_visits", "suspended_visits", "suspended_minutes", "timed_visits", "punctual_visits"),
    *("double_visits", "single_handed_visits", "carers", "attendances", "team_attendances"),
    *ADDED,
)
"""What is counted. All but `carers`, who may come to several people, may be added up."""
DERIVED = ("variance_visits", "variance_minutes", "claim_variance_minutes", "punctuality", "continuity")
COUNTED = tuple(each for each in FIGURES if not each.startswith(("commissioned", "suspended")))
"""Those that are of visits, and not of lines."""
COLUMNS = (
    *("week", "kind", "provider", "person", "line", "order", "component", "status"),
    *(*(each for each in FIGURES if each not in ADDED), *DERIVED, "hospital_from", "hospital_to", "restart"),
    *ADDED,
)
"""The columns of the CSV, in their order: new ones are added at the end, and none changes its name."""


class Hospital(NamedTuple):
    """When the person was in hospital, and whether the package is to be started again."""

    starts: datetime
    ends: datetime | None
    discharged: date | None
    restart: Restart

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "from": self.starts.astimezone(LONDON).isoformat(),
            **({"to": self.ends.astimezone(LONDON).isoformat()} if self.ends else {}),
            **({"discharged": self.discharged.isoformat()} if self.discharged else {}),
            "restart": self.restart,
        }


@dataclass(frozen=True, slots=True)
class Row:
    """`person`: a Patient's id, None of unallocated visits; `provider`: an ODS code, or as the line calls it.

    `line`: the id of the ServiceRequest, none of uncommissioned visits; `order` the council's number of it, or what
    those visits call it. `figures`: by name, those of FIGURES that are not 0.
    """

    week: str
    kind: Kind
    provider: str
    person: str | None = None
    line: str | None = None
    order: str | None = None
    component: str | None = None
    status: str | None = None
    figures: dict[str, int] = field(default_factory=dict)
    hospital: Hospital | None = None

    def told(self) -> dict[str, Any]:
        """The row as JSON."""
        whose = {"week": self.week, "kind": self.kind, "provider": self.provider, "person": self.person}
        which = {"line": self.line, "order": self.order, "component": self.component, "status": self.status}
        stay = {"hospital": self.hospital.told()} if self.hospital else {}
        return {name: value for name, value in (whose | which).items() if value} | counted(self.figures) | stay

    def cells(self) -> list[Any]:
        """The row by COLUMNS."""
        told = self.told()
        stay = told.get("hospital", {})
        more = {"hospital_from": stay.get("from"), "hospital_to": stay.get("to"), "restart": stay.get("restart")}
        return [_cell((told | more).get(each)) for each in COLUMNS]


def counted(figures: dict[str, int]) -> dict[str, int | float | None]:
    """All figures by name, and those that follow from them; a share of nothing is None."""
    made = {name: figures.get(name, 0) for name in FIGURES}
    return {
        **made,
        "variance_visits": made["delivered_visits"] - made["commissioned_visits"],
        "variance_minutes": made["delivered_minutes"] - made["commissioned_minutes"],
        "claim_variance_minutes": made["claimed_minutes"] - made["delivered_minutes"],
        "punctuality": share(made["punctual_visits"], made["timed_visits"]),
        "continuity": share(made["team_attendances"], made["attendances"]),
    }


def share(part: int, whole: int) -> float | None:
    """A share to three places."""
    return round(part / whole, 3) if whole else None


def summed(rows: Iterable[Row]) -> dict[str, int]:
    """The figures of many rows together, but for `carers`: nobody knows of how many rows one is."""
    total = dict.fromkeys((each for each in FIGURES if each != "carers"), 0)
    for row in rows:
        for name, value in row.figures.items():
            if name != "carers":
                total[name] += value
    return total


def totals(rows: Sequence[Row]) -> dict[str, Any]:
    """The totals of an answer: what is counted, and of how many people."""
    told = counted(summed(rows))
    del told["carers"]
    return {"rows": len(rows), "people": len({each.person for each in rows if each.person}), **told}


def _cell(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else value
