"""What a package line commissions in a week: part weeks, days, the odd Sundays, hours, and suspension."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from fhirgw.fhir.issue import FhirError
from fhirgw.visits.commission import Commissioned, commissioned, expected, runs
from fhirgw.visits.line import Span, line, suspended
from fhirgw.visits.stay import Stay, stays, within
from fhirgw.visits.week import Week

WEEK = Week.parse("2026-W05")
DAILY = {"timeOfDay": ["08:30:00", "18:00:00"], "duration": 30, "durationUnit": "min"}


def made(repeat: dict[str, Any], carers: int = 1, **more: Any) -> Any:
    extension = {"url": "https://fhirgw.uk/fhir/StructureDefinition/ext-carers-required", "valuePositiveInt": carers}
    timing = {"occurrenceTiming": {"repeat": repeat}}
    return line({"id": "L", "status": "active", "extension": [extension], **timing, **more}, "P")


CASES: dict[str, tuple[dict[str, Any], int, Commissioned]] = {
    "every day": (DAILY, 1, Commissioned(14, 420, 420)),
    "by two": (DAILY, 2, Commissioned(14, 420, 840)),
    "on two days": ({**DAILY, "dayOfWeek": ["mon", "fri"]}, 1, Commissioned(4, 120, 120)),
    "from Thursday": ({**DAILY, "boundsPeriod": {"start": "2026-01-29"}}, 1, Commissioned(8, 240, 240)),
    "until Tuesday, and that day": ({**DAILY, "boundsPeriod": {"end": "2026-01-27"}}, 1, Commissioned(4, 120, 120)),
    "until an hour": ({**DAILY, "boundsPeriod": {"end": "2026-01-27T12:00:00Z"}}, 1, Commissioned(3, 90, 90)),
    "over": ({**DAILY, "boundsPeriod": {"end": "2026-01-25"}}, 1, Commissioned()),
    "to come": ({**DAILY, "boundsPeriod": {"start": "2026-02-02"}}, 1, Commissioned()),
    "hours": ({"timeOfDay": ["10:00:00"], "duration": 2, "durationUnit": "h"}, 1, Commissioned(7, 840, 840)),
    "days without times": (
        {"dayOfWeek": ["mon", "sun"], "duration": 45, "durationUnit": "min"},
        1,
        Commissioned(2, 90, 90),
    ),
    "three a day": (
        {"frequency": 3, "period": 1, "periodUnit": "d", "duration": 30, "durationUnit": "min"},
        1,
        Commissioned(21, 630, 630),
    ),
    "three a week, of which four days are in it": (
        {
            "frequency": 3,
            "period": 1,
            "periodUnit": "wk",
            "duration": 60,
            "durationUnit": "min",
            "boundsPeriod": {"start": "2026-01-29"},
        },
        2,
        Commissioned(2, 120, 240),
    ),
    "more than there can be": (
        {"frequency": 10**9, "period": 1, "periodUnit": "s", "duration": 10**40, "durationUnit": "h"},
        1,
        Commissioned(),
    ),
    "longer than a day is": ({**DAILY, "duration": 10**40}, 1, Commissioned(14)),
    "a second that leaps": ({**DAILY, "timeOfDay": ["23:59:60"]}, 1, Commissioned(7, 210, 210)),
    "nothing that anybody could count": ({"boundsPeriod": {"start": "2025-01-01"}}, 1, Commissioned()),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_line_commissions(case: str) -> None:
    repeat, carers, wanted = CASES[case]
    assert commissioned(made(repeat, carers), WEEK) == wanted


def test_hours_a_week_are_shared_out_by_the_days() -> None:
    hours = {"quantityQuantity": {"value": Decimal("10.5"), "code": "h/wk"}}
    assert commissioned(made({}, 2, **hours), WEEK) == Commissioned(0, 630, 630)
    part = made({"boundsPeriod": {"start": "2026-01-29"}}, **hours)
    assert commissioned(part, WEEK) == Commissioned(0, 360, 360)
    away = [Span(datetime(2026, 1, 31, tzinfo=UTC), None)]
    assert commissioned(part, WEEK, away) == Commissioned(0, 180, 180, 0, 180)


@pytest.mark.parametrize(
    ("week", "hours", "starts"),
    [
        ("2026-W13", 167, ["2026-03-29T01:30:00+00:00", "2026-03-29T07:30:00+00:00"]),
        ("2026-W43", 169, ["2026-10-25T00:30:00+00:00", "2026-10-25T08:30:00+00:00"]),
    ],
)
def test_the_odd_sundays(week: str, hours: int, starts: list[str]) -> None:
    """Half past one is not there in spring, and there twice in autumn: it is expected once on either."""
    found = Week.parse(week)
    assert found.ends - found.starts == timedelta(hours=hours)
    visits = expected(made({**DAILY, "timeOfDay": ["01:30:00", "08:30:00"], "dayOfWeek": ["sun"]}), found)
    assert [each.start and each.start.isoformat() for each in visits] == starts


def test_weeks_are_as_iso_numbers_them() -> None:
    assert Week.parse("2026-W53").monday == date(2026, 12, 28)
    assert str(Week(date(2026, 12, 28))) == "2026-W53"
    assert Week.of(datetime(2026, 3, 29, 22, 59, tzinfo=UTC)) == Week.parse("2026-W13")
    assert Week.of(datetime(2026, 3, 29, 23, 0, tzinfo=UTC)) == Week.parse("2026-W14"), "it is midnight in London"
    for wrong in ("2025-W53", "2026-W00", "2026-40", "26-W40", "2026-W40 "):
        with pytest.raises(FhirError):
            Week.parse(wrong)


def test_what_is_suspended_is_counted_apart() -> None:
    away = [Span(datetime(2026, 1, 27, 8, 30, tzinfo=UTC), datetime(2026, 1, 29, 18, 0, tzinfo=UTC))]
    daily = made(DAILY, 2)
    assert commissioned(daily, WEEK, away) == Commissioned(9, 270, 540, 5, 150)
    assert [each.suspended for each in expected(daily, WEEK, away)].count(True) == 5
    assert runs(daily, WEEK)


def test_when_a_line_was_on_hold() -> None:
    days = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 5)]
    held = suspended(zip(days, (False, True, True, False), strict=True))
    assert held == (Span(days[1], days[3]),)
    assert suspended([(days[0], False), (days[1], True)]) == (Span(days[1], None),)
    (ever,) = suspended([(days[0], True), (days[1], False)])
    assert ever.covers(datetime(2020, 1, 1, tzinfo=UTC)), "it came so, and nobody knows since when"
    assert not ever.covers(days[1])


def test_stays_in_hospital() -> None:
    noon = [datetime(2026, 1, day, 12, tzinfo=UTC) for day in range(1, 31)]
    two = stays([(noon[4], noon[9]), (noon[5], noon[9]), (noon[19], None)], [date(2026, 1, 8), date(2026, 1, 25)])
    assert two == [
        Stay(Span(noon[4], datetime(2026, 1, 9, tzinfo=UTC)), date(2026, 1, 8), noon[9]),
        Stay(Span(noon[19], datetime(2026, 1, 26, tzinfo=UTC)), date(2026, 1, 25), None),
    ]
    assert [each.restart(noon[20]) for each in two] == ["done", "awaited"]
    assert two[1].restart(noon[25]) == "due"
    assert within(two, WEEK) == [two[1]], "what one left is to be started again"
    assert stays([(noon[4], None), (noon[5], None)], []) == [Stay(Span(noon[4], None), None, None)]
    again = stays([(noon[4], None), (noon[8], None)], [date(2026, 1, 6)])
    assert [each.span.starts for each in again] == [noon[4], noon[8]], "back in hospital after a discharge"
