"""`fhirgw homecare ledger`: the totals, the rows as a finance system takes them, and who is told to have looked."""

import csv
from pathlib import Path

import pytest

from fhirgw.visits.ledger import COLUMNS
from tests.cli.conftest import Command
from tests.put import put
from tests.visits.reckoned import line
from tests.visits.visiting import A, county

WEEK = "2026-W05"


@pytest.fixture
async def places(database: str) -> str:
    await county(database)
    await put(database, line(f"{A[:3]}00000-1111-5000-8000-000000000000", A, "kestrel", "+44", carers=2))
    return database


def test_the_ledger_is_written(places: str, command: Command, tmp_path: Path) -> None:
    told = tmp_path / "week.csv"
    arguments = ("homecare", "ledger", "--week", WEEK, "--csv", str(told))
    ended = command(*arguments, FHIRGW_DATABASE_URL=places, FHIRGW_CONTROLLER="Z99")
    assert ended.code == 0, ended.err
    assert "1 rows of 2026-W05" in ended.out
    with told.open(encoding="utf-8", newline="") as file:
        header, row = csv.reader(file)
    assert tuple(header) == COLUMNS
    cells = dict(zip(header, row, strict=True))
    assert (cells["provider"], cells["person"], cells["order"]) == ("K01", A, "'+44")
    assert (cells["commissioned_visits"], cells["commissioned_carer_minutes"]) == ("14", "840")
    listed = command("audit", "list", "--person", A, "--json", FHIRGW_DATABASE_URL=places, FHIRGW_CONTROLLER="Z99")
    assert "homecare-ledger" in listed.out


def test_what_is_asked_wrongly_is_told(places: str, command: Command) -> None:
    for wrong in (("--week", "last"), ("--week", WEEK, "--person", "9990000018")):
        ended = command("homecare", "ledger", *wrong, FHIRGW_DATABASE_URL=places)
        assert ended.code == 2
        assert "9990000018" not in ended.err
