"""When a person was in hospital, as far as those who came in vain and the council's discharge notices say so.

A stay begins with the first visit whose outcome is `hospital`. It ends with the next visit that was made, or with the
day of a discharge that a notice (a Task, fhirgw mappings `discharge_notice`) names: visits are expected again from the
day after, since nobody knows the hour. Until somebody comes, the package is to be started again: that is derived, not
written down, so that nothing has to be closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Literal, NamedTuple

from fhirgw.fhir.dates import LONDON
from fhirgw.visits.line import Span
from fhirgw.visits.week import Week, midnight

Restart = Literal["awaited", "due", "done"]
BACK = timedelta(weeks=26)
"""How long before a week a stay may have begun that is still heard of in it."""


class Stay(NamedTuple):
    """`span`: while no visit is expected. `discharged`: the day a notice names. `returned`: the next visit made."""

    span: Span
    discharged: date | None
    returned: datetime | None

    def restart(self, now: datetime) -> Restart:
        """Whether the package has to be started again: not yet, now, or it has been."""
        if self.returned is not None:
            return "done"
        return "due" if self.discharged and self.discharged <= now.astimezone(LONDON).date() else "awaited"


def stays(vain: Iterable[tuple[datetime, datetime | None]], discharges: Sequence[date]) -> list[Stay]:
    """The stays of one person: of visits in vain (when, and when the next was made after it), and days of discharge."""
    found: list[Stay] = []
    for moment, returned in sorted(vain, key=lambda each: each[0]):
        if found and found[-1].span.covers(moment):
            continue
        day = moment.astimezone(LONDON).date()
        discharged = min((each for each in discharges if each >= day), default=None)
        ends = [returned] if returned else []
        ends += [midnight(discharged + timedelta(days=1))] if discharged else []
        found.append(Stay(Span(moment, min(ends, default=None)), discharged, returned))
    return found


def within(known: Iterable[Stay], week: Week) -> list[Stay]:
    """Those that concern a week: some of it is in them, or what they left is still to be started again."""
    return [
        each
        for each in known
        if each.span.starts < week.ends and (each.returned is None or (each.span.ends or week.ends) > week.starts)
    ]
