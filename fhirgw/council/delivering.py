"""Delivering support: the lines of a package of care, as services begin, change at reviews, and end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import Any

from fhirgw.council import county, packages
from fhirgw.council.case import Case
from fhirgw.council.days import DAY
from fhirgw.council.facts import Line, Location, Plan
from fhirgw.council.odds import between, pick
from fhirgw.council.packages import SERVICES, Service

LINE_END = {"died": "died", "moved": "moved", "care-home": "care-home"}
"""Why a line ended, by why the plan did; else it ended as planned."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The day a phase of support ends, and why."""

    day: date
    why: str


def lines(case: Case, plan: Plan, service: Service, changes: list[date], stop: Stop | None) -> Location | None:
    """The service's lines: one, or for visits at home a new one after every review that changed the package.

    Says where the service is, if it has a place.
    """
    provider, place = _provided(case, service)
    starts = [case.day(plan.start, 0, 10), *(changes if service.visits else ())]
    starts = sorted({min(start, plan.end or county.TODAY) for start in starts})
    visits = packages.VISITS.deal(case.rng)
    for turn, start in enumerate(starts):
        following = starts[turn + 1] if turn + 1 < len(starts) else None
        end = following - DAY if following else plan.end
        case.council.add(
            Line(
                plan=plan.number,
                person=case.key,
                type=service.type,
                component=service.component,
                provider=provider,
                location=place.number if place else None,
                delivery=service.delivery.deal(case.rng),
                funding=service.funding.deal(case.rng),
                status="ended" if end else "suspended" if case.chance(0.02) else "active",
                start=start,
                end=end,
                end_reason=None
                if end is None
                else "changed"
                if following
                else LINE_END.get(stop.why if stop else "", "planned"),
                **_amount(case, service, visits),
            )
        )
        visits = max(1, min(4, visits + (1 if case.chance(0.7) else -1)))
    return place


def coming(case: Case, plan: Plan) -> None:
    """A day service agreed, and to begin in the weeks to come."""
    lines(case, plan, SERVICES["day"], [], None)
    line = case.council.of(Line)[-1]
    line.status, line.start = "planned", county.TODAY + between(case.rng, 3, 25) * DAY


def _provided(case: Case, service: Service) -> tuple[int | None, Location | None]:
    """Who provides the service, and where if it has a place."""
    if service.place is None:
        return (case.world.organisation(service.provider) if service.provider else None), None
    place = pick(case.rng, case.world.directory.locations[service.place])
    at_provider = service.place in packages.CARE_HOMES or service.provider == "council"
    provider = place.organisation if at_provider else case.world.organisation(str(service.provider))
    return provider, place


def _amount(case: Case, service: Service, visits: int) -> dict[str, Any]:
    """Days, times, minutes, carers and hours a week, as far as the service has them."""
    rng = case.rng
    if service.visits:
        minutes, carers, times = packages.MINUTES.deal(rng), packages.CARERS.deal(rng), packages.ROUNDS[visits]
        return _timed(packages.DAYS, times, minutes, carers)
    if service.sessions:
        days, begins, minutes = service.sessions
        return _timed(packages.DAYS[: days.deal(rng)], (begins,), minutes, 1)
    hours = Decimal(between(rng, *service.hours)).quantize(Decimal("1.00")) if service.hours else None
    return {"days": None, "times": None, "minutes": None, "carers": None, "hours": hours}


def _timed(days: tuple[str, ...], times: tuple[time, ...], minutes: int, carers: int) -> dict[str, Any]:
    hours = (Decimal(len(days) * len(times) * minutes * carers) / 60).quantize(Decimal("1.00"))
    return {"days": days, "times": times, "minutes": minutes, "carers": carers, "hours": hours}
