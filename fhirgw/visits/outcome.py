"""What came of a visit: what its care provider says, or what follows from its planned and actual times by tolerances.

Missed (nobody came), no reply (somebody came and was not let in), cancelled and late are four things: for who is at
risk, and for what is paid. What is derived is not stored: another tolerance is another answer, from the same facts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from fhirgw.visits.moment import instant
from fhirgw.visits.rules import Rules, Tolerances

SCHEDULED, IN_PROGRESS = "scheduled", "in-progress"
MISSED, WRONG = "missed-by-provider", "entered-in-error"
DERIVED = (
    ("partially-delivered", ("missed-tasks", "single-handed-of-double")),
    ("delivered-short", ("short-visit",)),
    ("delivered-late", ("late-start",)),
    ("delivered-early", ("early-start",)),
    ("delivered-long", ("overrun",)),
)
"""What a visit that was made came to, the weightiest first, by what was out of the ordinary."""

Parts = Mapping[str, Any]


class Came(NamedTuple):
    """`code`: of mappings/homecare/rules.yaml, or one that is derived. `exceptions`: what was out of the ordinary.

    `minutes`: from the first arrival to the last departure; `late`: minutes after the planned start, below 0 before it.
    `strength`: of the weakest verification of a carer, 0 (nothing) to 3; None where nobody came. `distance`: metres
    from the person's home to the carer who was farthest, where that is known.
    """

    code: str
    exceptions: tuple[str, ...] = ()
    minutes: int | None = None
    late: int | None = None
    strength: int | None = None
    distance: int | None = None


class _Times(NamedTuple):
    start: datetime | None
    end: datetime | None


def came(parts: Parts, rules: Rules, now: datetime) -> Came:
    """What came of a visit, as of now."""
    said = (parts.get("outcome") or {}).get("code")
    planned, carers = _planned(parts), [each for each in parts.get("carers", ()) if each.get("start")]
    tolerance = rules.tolerance((parts.get("planned") or {}).get("type"))
    if not carers:
        return Came(said or _without(planned, tolerance, now))
    actual = _actual(carers)
    found = tuple(_exceptions(parts, carers, planned, actual, tolerance, now))
    strength = min(_strength(each, rules, tolerance) for each in carers)
    distance = max((each["distance"] for each in carers if "distance" in each), default=None)
    minutes, late = _minutes(actual.start, actual.end), _minutes(planned.start, actual.start)
    return Came(_made(said, actual, found), found, minutes, late, strength, distance)


def derived(parts: Parts, rules: Rules) -> str | None:
    """What a visit came to that is over: its code and what was out of the ordinary, apart by blanks; None of others.

    Of these alone it does not depend on what time it is; it does on the tolerances of the day it is asked for.
    """
    carers = [each for each in parts.get("carers") or () if "start" in each]
    said = (parts.get("outcome") or {}).get("code")
    if not carers or not all("end" in each for each in carers) or said == WRONG:
        return None
    actual = _actual(carers)
    assert actual.end
    tolerance = rules.tolerance((parts.get("planned") or {}).get("type"))
    found = tuple(_exceptions(parts, carers, _planned(parts), actual, tolerance, actual.end))
    return " ".join((_made(said, actual, found), *found))


def _strength(carer: Parts, rules: Rules, tolerance: Tolerances) -> int:
    """How sure it is that a carer was there: a telephone that says it was elsewhere is worth less."""
    strength = rules.verification.get(carer.get("method", "none"), 0)
    return min(strength, rules.away) if carer.get("distance", 0) > tolerance.radius else strength


def _made(said: str | None, actual: _Times, exceptions: Sequence[str]) -> str:
    """Of a visit that a carer has begun: as it is declared, or by what was out of the ordinary."""
    if said and said != "delivered":
        return said
    if actual.end is None and "no-checkout" not in exceptions:
        return IN_PROGRESS
    return next((code for code, by in DERIVED if set(by) & set(exceptions)), "delivered")


def _without(planned: _Times, tolerance: Tolerances, now: datetime) -> str:
    """Of a visit that no carer has begun."""
    late = planned.start and now - planned.start > timedelta(minutes=tolerance.missed)
    return MISSED if late else SCHEDULED


def _planned(parts: Parts) -> _Times:
    planned = parts.get("planned") or {}
    return _Times(*(instant(planned[name]) if name in planned else None for name in ("start", "end")))


def _actual(carers: Sequence[Parts]) -> _Times:
    """From the first arrival to the last departure; no end while somebody is there."""
    ends = [instant(each["end"]) for each in carers if "end" in each]
    return _Times(min(instant(each["start"]) for each in carers), max(ends) if len(ends) == len(carers) else None)


def _minutes(start: datetime | None, end: datetime | None) -> int | None:
    """Whole minutes, as people count them: 59 seconds late is not late."""
    return None if start is None or end is None else int((end - start) / timedelta(minutes=1))


def _exceptions(
    parts: Parts, carers: Sequence[Parts], planned: _Times, actual: _Times, tolerance: Tolerances, now: datetime
) -> Iterator[str]:
    late = _minutes(planned.start, actual.start)
    if late is not None and late > tolerance.late:
        yield "late-start"
    if late is not None and late < -tolerance.early:
        yield "early-start"
    yield from _length(_minutes(planned.start, planned.end), _minutes(actual.start, actual.end), tolerance)
    if actual.end is None and planned.end and now - planned.end > timedelta(minutes=tolerance.checkout):
        yield "no-checkout"
    if (parts.get("planned") or {}).get("carers", 1) > 1 and _alone(carers, tolerance, now):
        yield "single-handed-of-double"
    if any(each.get("distance", 0) > tolerance.radius for each in carers):
        yield "location-mismatch"
    if any(each.get("outcome") in ("not-completed", "partially-completed") for each in parts.get("tasks", ())):
        yield "missed-tasks"


def _length(planned: int | None, actual: int | None, tolerance: Tolerances) -> Iterator[str]:
    if not planned or actual is None:
        return
    short, long = tolerance.short, tolerance.long
    if actual <= planned * short.share and planned - actual >= short.minutes:
        yield "short-visit"
    if actual >= planned * long.share and actual - planned >= long.minutes:
        yield "overrun"


def _alone(carers: Sequence[Parts], tolerance: Tolerances, now: datetime) -> bool:
    """Whether a visit for two was made by one: the other did not come, came too late, or after the first had gone."""
    apart = timedelta(minutes=tolerance.apart)
    arrived = sorted(((instant(each["start"]), each.get("end")) for each in carers), key=lambda each: each[0])
    first, gone = arrived[0]
    if len(arrived) < 2:
        return bool(gone) or now - first > apart
    second = arrived[1][0]
    return second - first > apart or (gone is not None and second >= instant(gone))
