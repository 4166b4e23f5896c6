"""What is wrong with a visit right now, and since when: from what is known of it, by tolerances that are data.

Each kind of alert (mappings/homecare/rules.yaml) has a span: the moment from which it is so, and the one from which it
is so no more, if there is one. Spans follow from the facts alone, so an alert is known when its moment comes, without
anybody sending anything; and a fact that arrives late moves the span, or does away with it.

`due` is for who writes a visit: before that moment nothing can be wrong with it, whatever the tolerances are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from fhirgw.visits.moment import instant
from fhirgw.visits.outcome import MISSED
from fhirgw.visits.rules import Alert, Rules, Tolerances

RECENT = timedelta(hours=24)
"""What lay further back when it was first told is the ledger's business: nobody can be sent to it any more."""
MADE = ("delivered", "partially-delivered")
"""What may be declared of a visit that one of two carers made."""

Parts = Mapping[str, Any]


class Span(NamedTuple):
    """From when to just before when something is wrong; `until` None: for as long as nothing else is said."""

    since: datetime
    until: datetime | None = None

    def holds(self, now: datetime) -> bool:
        """Whether it is wrong now."""
        return self.since <= now and (self.until is None or now < self.until)


class _Visit(NamedTuple):
    """The facts that decide: planned times, what was declared, and each carer's stay, the first to come first."""

    start: datetime | None
    finish: datetime | None
    carers: int
    said: str | None
    stays: Sequence[tuple[datetime, datetime | None]]


def spans(parts: Parts, rules: Rules) -> dict[str, Span]:
    """By kind of alert, when it is so. A span that ends before it begins is none."""
    visit, planned = _visit(parts), parts.get("planned") or {}
    tolerance = rules.tolerance(planned.get("type"))
    found: dict[str, Span] = {}
    for name, alert in rules.alerts.items():
        if not alert.concerns(planned):
            continue
        span = CAUSES[alert.cause](visit, alert, tolerance)
        if span is not None and (span.until is None or span.since < span.until):
            found[name] = span
    return found


def upcoming(found: Mapping[str, Span], now: datetime) -> datetime | None:
    """The next moment at which something becomes wrong, or right again; None where none is known of."""
    moments = [each for span in found.values() for each in span if each is not None and each > now]
    return min(moments, default=None)


def due(parts: Parts, told: datetime) -> datetime | None:
    """A moment before which nothing can be wrong with a visit that was told of then; None where nothing ever will.

    Of no tolerance, so that others than those of the day it was written hold when the moment comes.
    """
    planned, carers = parts.get("planned"), parts.get("carers") or ()
    moments = [instant(each["start"]) for each in (*((planned,) if planned else ()), *carers) if "start" in each]
    if not moments:
        return None
    first = min(moments)
    if max(first, instant(planned["end"]) if planned else first) < told - RECENT or _settled(_visit(parts)):
        return None
    return first


def _settled(visit: _Visit) -> bool:
    """Whether it is over, by what is known, and went as it was to."""
    if visit.said not in (None, MISSED, *MADE):
        return True
    if not visit.stays:
        return visit.said in MADE
    over = visit.said is not None or all(end is not None for _, end in visit.stays)
    return over and (visit.carers < 2 or _together(visit))


def _visit(parts: Parts) -> _Visit:
    planned, carers = parts.get("planned"), parts.get("carers") or ()
    start, finish = (instant(planned["start"]), instant(planned["end"])) if planned else (None, None)
    stays = [
        (instant(each["start"]), instant(each["end"]) if "end" in each else None) for each in carers if "start" in each
    ]
    if len(stays) > 1:
        stays.sort(key=lambda stay: stay[0])
    needed = planned.get("carers", 1) if planned else 1
    return _Visit(start, finish, needed, (parts.get("outcome") or {}).get("code"), stays)


def _not_started(visit: _Visit, alert: Alert, tolerance: Tolerances) -> Span | None:
    """No carer has come. A care provider who says so itself is believed from the planned start on."""
    if visit.start is None or visit.said not in (None, MISSED):
        return None
    came = visit.stays[0][0] if visit.stays else None
    given = timedelta() if visit.said == MISSED and came is None else _minutes(alert, tolerance)
    return Span(visit.start + given, came)


def _alone(visit: _Visit, alert: Alert, tolerance: Tolerances) -> Span | None:
    """One carer at a visit for two: the other is late by the tolerance, or did not come before the first had gone."""
    if visit.carers < 2 or not visit.stays or visit.said not in (None, *MADE):
        return None
    came, gone = visit.stays[0]
    late = came + _minutes(alert, tolerance)
    if _together(visit):
        return Span(late, visit.stays[1][0])
    return Span(late if gone is None else min(late, gone))


def _together(visit: _Visit) -> bool:
    """Whether a second carer came before the first had gone."""
    gone = visit.stays[0][1]
    return len(visit.stays) > 1 and (gone is None or visit.stays[1][0] < gone)


def _no_checkout(visit: _Visit, alert: Alert, tolerance: Tolerances) -> Span | None:
    """A carer who came is not known to have left. Who came late is given as long as was planned."""
    if visit.finish is None or not visit.stays or visit.said is not None:
        return None
    planned = visit.finish - visit.start if visit.start else timedelta()
    ends = [end for _, end in visit.stays if end is not None]
    since = max(visit.finish, visit.stays[0][0] + planned) + _minutes(alert, tolerance)
    return Span(since, max(ends) if len(ends) == len(visit.stays) else None)


def _minutes(alert: Alert, tolerance: Tolerances) -> timedelta:
    given: int = getattr(tolerance, alert.after)
    return timedelta(minutes=given if alert.minutes is None else min(given, alert.minutes))


CAUSES: Mapping[str, Callable[[_Visit, Alert, Tolerances], Span | None]] = {
    "not-started": _not_started,
    "alone": _alone,
    "no-checkout": _no_checkout,
}
