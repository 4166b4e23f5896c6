"""Golden pairs: a row and the resource it is, written down and read by people."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fhirgw.mapping.load import load

FOLDER = Path(__file__).parents[2] / "mappings"
SYSTEMS = load(FOLDER).systems
PAIRS = [
    pytest.param(system.mappings[name], pair, id=f"{system.name}/{name}: {pair['about']}")
    for system in SYSTEMS.values()
    for name in system.mappings
    for pair in json.loads((FOLDER / system.name / f"{name}.golden.json").read_text(), parse_float=Decimal)
]


@pytest.mark.parametrize(("mapping", "pair"), PAIRS)
def test_the_row_becomes_the_resource(mapping: Any, pair: Any) -> None:
    assert mapping.to_fhir(pair["row"]) == pair["resource"]


@pytest.mark.parametrize(("mapping", "pair"), PAIRS)
def test_the_resource_becomes_the_row(mapping: Any, pair: Any) -> None:
    back = mapping.to_row(pair["resource"])
    assert back == {name: pair["row"].get(name, [] if isinstance(back[name], list) else None) for name in back}
