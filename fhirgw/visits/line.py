"""A line of a package of care, as far as it commissions visits: read from the ServiceRequest that our mappings make.

What it commissions is its Timing: days of the week, times of day, minutes a visit; or so many visits a day or week; or
a block of hours a week, without visits that anybody could count. https://hl7.org/fhir/R4/datatypes.html#Timing
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from decimal import Decimal
from typing import Any, NamedTuple

from fhirgw.access.relationship import Bounds, bounds
from fhirgw.fhir.issue import Resource

CARERS = "https://fhirgw.uk/fhir/StructureDefinition/ext-carers-required"
COMPONENTS = "https://fhirgw.uk/fhir/CodeSystem/service-component"
STATUSES = ("active", "on-hold", "completed")
"""Of lines that commission, or did; what is a draft, revoked or wrong never has."""
HELD = "on-hold"
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES = {"min": Decimal(1), "h": Decimal(60)}
PER_DAY = {"d": Decimal(1), "wk": Decimal(7)}
"""Days of a unit of time that visits are counted by."""
HOURS = "h/wk"
MOST_MINUTES, MOST_VISITS, MOST_HOURS = 1500, 96, 1680
"""Of a visit, a day, a week: a day of 25 hours, a visit each quarter of an hour, ten carers round the clock."""


class Span(NamedTuple):
    """From a moment to just before another; None: nobody knows yet."""

    starts: datetime
    ends: datetime | None

    def covers(self, moment: datetime) -> bool:
        """Whether the moment is in it."""
        return self.starts <= moment and (self.ends is None or moment < self.ends)


@dataclass(frozen=True, slots=True)
class Line:
    """`provider`: what its performer is called (`Organization/…`, or `system|value`). `names`: what visits call it by.

    `days` are of the week, 0 is Monday; `times` of day, by the clock; `minutes` of one visit and `carers` at it.
    `rate`: visits a day, where it has no times. `hours` a week, where it says no more. `held`: when it was suspended.
    """

    id: str
    patient: str
    provider: str
    names: tuple[str, ...]
    component: str
    status: str
    bounds: Bounds
    days: frozenset[int]
    times: tuple[time, ...]
    minutes: int
    carers: int
    rate: Decimal | None
    hours: Decimal | None
    held: tuple[Span, ...] = ()


def line(resource: Resource, patient: str) -> Line:
    """The line that a ServiceRequest is. What it says in another way than ours commissions nothing."""
    repeat = resource.get("occurrenceTiming", {}).get("repeat") or {}
    days = frozenset(WEEKDAYS.index(each) for each in repeat.get("dayOfWeek", ()) if each in WEEKDAYS)
    numbers = [each["value"] for each in resource.get("identifier", ()) if "value" in each]
    return Line(
        id=resource["id"],
        patient=patient,
        provider=next(_performers(resource), ""),
        names=(*numbers, resource["id"]),
        component=next(_components(resource), ""),
        status=resource.get("status", ""),
        bounds=bounds(repeat.get("boundsPeriod")),
        days=days or frozenset(range(7)),
        times=tuple(time(int(each[:2]), int(each[3:5])) for each in repeat.get("timeOfDay", ())),
        minutes=int(_minutes(repeat) or 0),
        carers=next(_carers(resource), 1),
        rate=_rate(repeat, bool(days)),
        hours=_hours(resource.get("quantityQuantity") or {}),
    )


def suspended(versions: Iterable[tuple[datetime, bool]]) -> tuple[Span, ...]:
    """When a line was suspended, by its versions (when each came, whether it says so), the oldest first.

    One that came suspended has been so for ever: nobody told us otherwise.
    """
    spans: list[Span] = []
    since: datetime | None = None
    for at, (came, is_held) in enumerate(versions):
        if is_held and since is None:
            since = came if at else datetime.min.replace(tzinfo=came.tzinfo)
        elif not is_held and since is not None:
            spans.append(Span(since, came))
            since = None
    return (*spans, *([Span(since, None)] if since is not None else []))


def _performers(resource: Resource) -> Iterator[str]:
    for each in resource.get("performer", ()):
        kind, _, id = each.get("reference", "").partition("/")
        if kind == "Organization" and id:
            yield f"{kind}/{id.partition('/')[0]}"
        elif "identifier" in each:
            yield f"{each['identifier'].get('system', '')}|{each['identifier'].get('value', '')}"


def _components(resource: Resource) -> Iterator[str]:
    for each in resource.get("code", {}).get("coding", ()):
        if each.get("system") == COMPONENTS and "code" in each:
            yield each["code"]


def _carers(resource: Resource) -> Iterator[int]:
    for each in resource.get("extension", ()):
        if each.get("url") == CARERS and "valuePositiveInt" in each:
            yield int(each["valuePositiveInt"])


def _minutes(repeat: Mapping[str, Any]) -> Decimal | None:
    unit = MINUTES.get(repeat.get("durationUnit", ""), Decimal(0))
    return _possible(Decimal(repeat.get("duration", 0)) * unit, MOST_MINUTES)


def _possible(value: Decimal, most: int) -> Decimal | None:
    """The value, unless it is more than there can be: that is a mistake, and commissions nothing."""
    return value if 0 <= value <= most else None


def _rate(repeat: Mapping[str, Any], on_days: bool) -> Decimal | None:
    """Visits a day of one that gives no times: `frequency` in each `period`; on its days one, if it says no more."""
    if repeat.get("frequency") is None:
        return Decimal(1) if on_days and repeat.get("duration") else None
    unit = PER_DAY.get(repeat.get("periodUnit", ""))
    period = Decimal(repeat.get("period") or 0)
    return _possible(Decimal(repeat["frequency"]) / (period * unit), MOST_VISITS) if unit and period > 0 else None


def _hours(quantity: Mapping[str, Any]) -> Decimal | None:
    return (
        _possible(Decimal(quantity["value"]), MOST_HOURS)
        if quantity.get("code") == HOURS and "value" in quantity
        else None
    )
