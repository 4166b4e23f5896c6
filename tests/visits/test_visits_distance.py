"""How far a carer's telephone was from where the person lives: kept as metres, and what it does to its strength."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fhirgw.visits import sheet
from fhirgw.visits.distance import metres
from fhirgw.visits.layout import Layout
from fhirgw.visits.merge import NOTHING, join, parts
from fhirgw.visits.outcome import came
from fhirgw.visits.reading import Reader, Refused, Sent
from fhirgw.visits.rules import rules
from tests.visits.visiting import visit

RULES = rules(Path(__file__).parents[2] / "mappings")
READER = Reader(RULES)
NOW = datetime(2026, 4, 1, tzinfo=UTC)
LONDON = {"latitude": Decimal("51.5072"), "longitude": Decimal("-0.1276")}
CARER = {"carer": "C1", "start": "2026-03-30T07:31:10", "end": "2026-03-30T08:00:41", "method": "app-gps"}


def north(metres: int) -> dict[str, Decimal]:
    """A place so many metres to the north: a degree of latitude is 111,195 of them."""
    return LONDON | {"latitude": LONDON["latitude"] + Decimal(metres) / 111_195}


def read(**more: Any) -> Sent | Refused:
    return READER.read(visit(**more), "K01", NOW)


@pytest.mark.parametrize(
    ("one", "other", "far"),
    [
        ((51.5072, -0.1276), (48.8566, 2.3522), 343_556),
        ((0, 179.9), (0, -179.9), 22_239),
        ((90, 0), (-90, 0), 20_015_115),
    ],
)
def test_metres_are_those_of_the_globe(one: tuple[float, float], other: tuple[float, float], far: int) -> None:
    """Published great-circle distances, to a tenth of a percent."""
    made = metres(*({"latitude": each[0], "longitude": each[1]} for each in (one, other)))
    assert made == pytest.approx(far, rel=1e-3)


@pytest.mark.parametrize(("far", "strength"), [(0, 2), (195, 2), (205, 1), (5000, 1)])
def test_a_place_becomes_metres_and_is_forgotten(far: int, strength: int) -> None:
    sent = read(home=LONDON, carers=[CARER | north(far)])
    assert isinstance(sent, Sent)
    (carer,) = sent.said.parts["carers"]
    assert carer == {**CARER, "start": carer["start"], "end": carer["end"], "distance": pytest.approx(far, abs=1)}
    assert "home" not in sent.said.parts
    found = came(parts(join(NOTHING, sent.said)), RULES, NOW)
    assert (found.strength, found.distance) == (strength, carer["distance"])
    assert ("location-mismatch" in found.exceptions) == (far > 200)


def test_metres_that_are_sent_hold() -> None:
    sent = read(home=LONDON, carers=[CARER | north(5000) | {"distance": 7}])
    assert isinstance(sent, Sent)
    assert sent.said.parts["carers"][0]["distance"] == 7


@pytest.mark.parametrize(
    ("more", "column"),
    [
        ({"carers": [CARER | LONDON]}, "carers[0].latitude"),
        ({"home": LONDON, "carers": [CARER | {"latitude": 51}]}, "carers[0].latitude"),
        ({"home": {"latitude": 51}}, "home.longitude"),
        ({"home": LONDON | {"latitude": 91}}, "home.latitude"),
    ],
)
def test_half_a_place_is_refused(more: dict[str, Any], column: str) -> None:
    refused = read(**more)
    assert isinstance(refused, Refused)
    assert [each.column for each in refused.faults] == [column]


def test_home_alone_is_no_visit() -> None:
    refused = READER.read({"visit": "V1", "home": LONDON}, "K01", NOW)
    assert isinstance(refused, Refused)
    assert isinstance(READER.read({"visit": "V1", "home": LONDON, "line": {"order": "P1"}}, "K01", NOW), Sent)


def test_a_spreadsheet_has_columns_for_both() -> None:
    columns = {
        "home.latitude": "HLat",
        "home.longitude": "HLon",
        "carers[0].latitude": "Lat",
        "carers[0].longitude": "Lon",
    }
    fields = {path: {"column": name, "kind": "decimal"} for path, name in columns.items()}
    fields |= {"visit": {"column": "Call"}, "carers[0].carer": {"column": "Staff"}}
    layout = Layout.model_validate({"layout": "x", "title": "x", "fields": fields})
    body = b"Call,Staff,HLat,HLon,Lat,Lon\nV1,C1,51.5072,-0.1276,51.5162,-0.1276\n"
    ((_, row),) = sheet.read(body, layout).rows
    sent = READER.read(row, "K01", NOW)
    assert isinstance(sent, Sent)
    assert sent.said.parts["carers"] == [{"carer": "C1", "distance": pytest.approx(1001, abs=1)}]
