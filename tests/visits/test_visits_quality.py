"""The score of how well visits are sent: each measure by hand, and the formula against its own arithmetic."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from fhirgw.fhir.dates import LONDON
from fhirgw.fhir.issue import FhirError
from fhirgw.visits.quality import MEASURES, Quality, Sent, Standard, became, corrected, missing, quality, standard
from fhirgw.visits.rules import rules
from fhirgw.visits.week import Week

MAPPINGS = Path(__file__).parents[2] / "mappings"
RULES, GIVEN = rules(MAPPINGS), standard(MAPPINGS)
NOW = datetime(2026, 4, 20, tzinfo=UTC)
END = datetime(2026, 3, 30, 8, 0, tzinfo=UTC)
CARER = {"carer": "C1", "start": "2026-03-30T08:30:00+01:00", "end": "2026-03-30T09:00:00+01:00", "method": "nfc-tag"}
WHOLE: dict[str, Any] = {
    "planned": {"start": "2026-03-30T08:30:00+01:00", "end": "2026-03-30T09:00:00+01:00"},
    "line": {"order": "L1"},
    "carers": [CARER],
}


def sent(told: datetime | None = END, allocated: bool = True, events: Any = None, **parts: Any) -> Sent:
    made = {name: value for name, value in {**WHOLE, **parts}.items() if value is not None}
    return Sent(made, events or [made], told, allocated)


def counted(*visits: Sent, rows: int = 0, refused: int = 0) -> Quality:
    return quality(visits, rows, Counter({"id": refused} if refused else {}), refused, GIVEN, RULES, NOW)


def measure(found: Quality, name: str) -> tuple[int, int]:
    return next((each.found, each.of) for each in found.measures if each.name == name)


def without(*names: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in CARER.items() if name not in names}]


CASES: dict[str, tuple[str, Sent, Sent]] = {
    "told a minute too late": (
        "late",
        sent(END + timedelta(minutes=1441)),
        sent(END + timedelta(minutes=1440)),
    ),
    "no time of leaving": ("incomplete", sent(carers=without("end")), sent()),
    "one of two without a method": ("incomplete", sent(carers=[CARER, *without("method")]), sent(carers=[CARER] * 2)),
    "no line of the package": ("incomplete", sent(line=None), sent()),
    "cancelled and not why": (
        "incomplete",
        sent(carers=None, outcome={"code": "cancelled-by-provider"}),
        sent(carers=None, outcome={"code": "cancelled-by-provider", "reason": "Carer ill"}),
    ),
    "over, and nothing told": ("incomplete", sent(None, carers=None), sent()),
    "typed in": (
        "manual",
        sent(carers=[CARER, {**CARER, "method": "manual"}]),
        sent(carers=[{**CARER, "method": "app-gps"}]),
    ),
    "in nobody's record": ("unallocated", sent(allocated=False), sent()),
    "amended by hand": ("corrected", sent(amended={"by": "X", "reason": "Wrong"}), sent()),
    "another time later": (
        "corrected",
        sent(events=[{"carers": [CARER]}, {"carer": {**CARER, "end": "2026-03-30T09:10:00+01:00"}}]),
        sent(events=[{"carers": without("end")}, {"carer": CARER}]),
    ),
    "withdrawn": (
        "corrected",
        sent(events=[{"claimed": {"minutes": 30}}, {"claimed": None}]),
        sent(events=[{"planned": WHOLE["planned"]}, {"claimed": None}]),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_measure_counts_what_it_says(case: str) -> None:
    name, bad, good = CASES[case]
    assert measure(counted(bad), name)[0] == 1
    assert measure(counted(good), name)[0] == 0
    assert counted(good).score == 100
    assert (counted(bad).score or 0) < 100


def test_the_score_is_the_formula() -> None:
    bad = sent(END + timedelta(days=2), False, line=None)
    found = counted(bad, sent(), sent(), sent(), rows=10, refused=5)
    weights = yaml.safe_load((MAPPINGS / "homecare/quality.yaml").read_text())["measures"]
    lost = 0.25 * (weights["late"]["weight"] + weights["incomplete"]["weight"] + weights["unallocated"]["weight"])
    lost += 0.5 * weights["refused"]["weight"]
    assert found.score == round(100 * (1 - lost / sum(each["weight"] for each in weights.values())))
    assert [each.points for each in found.measures] == sorted((each.points for each in found.measures), reverse=True)
    assert (found.fields, found.reasons, found.delay) == ((("line.order", 1),), (("id", 5),), 0)


def test_all_wrong_is_nothing_and_nothing_sent_is_no_score() -> None:
    worst = sent(END + timedelta(days=2), False, carers=[{**CARER, "method": "manual"}], line=None, amended={})
    assert counted(worst, rows=1, refused=1).score == 0
    assert counted().score is None
    assert counted(rows=1, refused=1).score == 85


def test_the_care_that_was_given_does_not_count() -> None:
    late = {**CARER, "start": "2026-03-30T11:30:00+01:00", "end": "2026-03-30T11:40:00+01:00"}
    missed = sent(carers=None, outcome={"code": "missed-by-provider", "reason": "Nobody was free"})
    assert counted(sent(END + timedelta(hours=3), carers=[late]), missed).score == 100


def test_a_visit_that_is_not_over_lacks_nothing() -> None:
    planned = sent(None, carers=None).parts
    assert became(planned, RULES, NOW) == "silent"
    for now in (END - timedelta(hours=1), END + timedelta(minutes=60)):
        assert (became(planned, RULES, now), missing(planned, GIVEN, RULES, now)) == (None, [])


def test_what_is_said_in_parts_is_no_correction() -> None:
    roster, done, bill = {"planned": WHOLE["planned"]}, {"carers": [CARER]}, {"claimed": {"minutes": 30}}
    second = {"carer": {**CARER, "carer": "C2"}}
    assert not corrected(sent(events=[roster, done, second, bill, done]))
    assert corrected(
        sent(
            events=[
                roster,
                done,
                {"planned": {**WHOLE["planned"], "carers": 2}},
                roster | {"line": None},
                {"line": {"order": "X"}},
                {"line": {"order": "Y"}},
            ]
        )
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda given: given["measures"].pop("late"),
        lambda given: given["complete"].pop("silent"),
        lambda given: given["measures"]["late"].update(weight=0),
        lambda given: given.update(more=1),
    ],
)
def test_a_standard_that_is_none_is_said(change: Any) -> None:
    given = yaml.safe_load((MAPPINGS / "homecare/quality.yaml").read_text())
    assert set(Standard.model_validate(given).measures) == set(MEASURES)
    change(given)
    with pytest.raises(ValueError):
        Standard.model_validate(given)


@pytest.mark.parametrize(
    ("text", "name", "hours"),
    [
        ("2026-W13", "2026-W13", 167),
        ("2026-03-29", "2026-W13", 167),
        ("2026-10-19", "2026-W43", 169),
        ("2026-01-01", "2026-W01", 168),
        (None, "2026-W16", 168),
    ],
)
def test_a_week_is_from_monday_to_sunday_in_london(text: str | None, name: str, hours: int) -> None:
    """The weeks in which the clocks change are an hour shorter, or longer."""
    found = Week.parse(text) if text else Week.over(NOW)
    assert str(found) == name
    assert (found.ends - found.starts) / timedelta(hours=1) == hours
    starts, ends = (each.astimezone(LONDON) for each in (found.starts, found.ends))
    assert (starts.weekday(), starts.hour, ends.hour) == (0, 0, 0)


@pytest.mark.parametrize("text", ["2026-W54", "13", "2026-02-30", "30/03/2026", "2026-W1", "２026-W13"])
def test_what_is_no_week_is_said(text: str) -> None:
    with pytest.raises(FhirError, match="2026-W40"):
        Week.parse(text) if text else Week.over(NOW)
