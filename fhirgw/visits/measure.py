"""A week's ledger as a MeasureReport: ratios of its figures, with what each is a ratio of.

Which they are is data, `profiles/Measure-homecare-week.json`: a group for each, whose populations name a figure of the
ledger (fhirgw.visits.ledger). https://hl7.org/fhir/R4/measurereport.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from fhirgw.fhir.dates import LONDON
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.visits.ledger import Row, share, summed
from fhirgw.visits.week import DAYS, Week

ID = "homecare-week"
WHOLE = "A week is measured whole: periodStart is its Monday, and periodEnd the Sunday that ends it, as YYYY-MM-DD"


def period(start: str | None, end: str | None) -> Week:
    """The week that a period is. Raises FhirError(invalid) for what is no Monday and the Sunday after it."""
    try:
        first, last = date.fromisoformat(start or ""), date.fromisoformat(end or "")
    except ValueError:
        raise FhirError(Issue("invalid", WHOLE, "periodStart")) from None
    if first.weekday() != 0 or last - first != timedelta(days=DAYS - 1) or first.year < 2000:
        raise FhirError(Issue("invalid", WHOLE, "periodEnd"))
    return Week(first)


def report(measure: Resource, week: Week, rows: Sequence[Row], now: datetime, about: Mapping[str, Any]) -> Resource:
    """The MeasureReport of the rows. `about`: its `subject` or `reporter`, if it is of one.

    A report of one person names the lines that it was made of.
    """
    figures = summed(rows)
    single = "subject" in about
    lines = [{"reference": f"ServiceRequest/{each.line}"} for each in rows if each.line] if single else []
    return {
        "resourceType": "MeasureReport",
        "status": "complete",
        "type": "individual" if single else "summary",
        "measure": f"{measure['url']}|{measure['version']}",
        **about,
        "date": now.astimezone(LONDON).isoformat(timespec="seconds"),
        "period": {"start": week.monday.isoformat(), "end": week.days[-1].isoformat()},
        "group": list(_groups(measure, figures)),
        **({"evaluatedResource": lines} if lines else {}),
    }


def _groups(measure: Resource, figures: Mapping[str, int]) -> Iterator[Resource]:
    for each in measure["group"]:
        named = {one["code"]["coding"][0]["code"]: one["criteria"]["expression"] for one in each["population"]}
        populations = [
            {"code": one["code"], "count": figures[one["criteria"]["expression"]]} for one in each["population"]
        ]
        score = share(figures[named["numerator"]], figures[named["denominator"]])
        scored = {"measureScore": {"value": Decimal(f"{score:.3f}")}} if score is not None else {}
        yield {"code": each["code"], "population": populations, **scored}
