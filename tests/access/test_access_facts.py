"""When something ends, as people say it: the last day on which it holds, where it ends with one."""

from datetime import UTC, datetime

import pytest

from fhirgw.access.facts import last
from fhirgw.access.relationship import ties


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        (datetime(2026, 2, 1, tzinfo=UTC), "31 January 2026"),
        (datetime(2026, 4, 16, 23, tzinfo=UTC), "16 April 2026"),
        (datetime(2026, 4, 17, tzinfo=UTC), "17 April 2026, 01:00"),
        (datetime(2026, 4, 17, 11, 30, tzinfo=UTC), "17 April 2026, 12:30"),
    ],
)
def test_the_last_day_is_told(ends: datetime, told: str) -> None:
    assert last(ends) == told


@pytest.mark.parametrize(
    ("end", "told"),
    [("2026-03-19", "16 April 2026"), ("2026-01-01", "29 January 2026"), ("2026-10-20", "17 November 2026")],
)
def test_a_grace_ends_with_a_day_though_the_clocks_change_in_it(end: str, told: str) -> None:
    package = {
        "resourceType": "EpisodeOfCare",
        "id": "e1",
        "status": "finished",
        "patient": {"reference": "Patient/p1"},
        "managingOrganization": {"reference": "Organization/o1"},
        "period": {"start": "2026-01-01", "end": end},
    }
    (ends,) = [each.ends for each in ties(package) if each.kind == "late-visits"]
    assert ends is not None
    assert last(ends) == told
