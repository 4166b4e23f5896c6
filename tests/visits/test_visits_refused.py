"""What is wrong with rows, as a table: each is told by column, rule and remedy, and never by its value.

Each row of the table is a sound visit with one thing changed, so the sound visit is the positive control of them all.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fhirgw.fhir.issue import FhirError
from fhirgw.visits import sheet
from fhirgw.visits.batch import UNTOLD, at_once, met, told_apart
from fhirgw.visits.layout import LayoutFaults, layouts
from fhirgw.visits.reading import Reader, Refused, Sent
from fhirgw.visits.rules import rules
from tests.visits.visiting import MRS_A, visit

MAPPINGS = Path(__file__).parents[2] / "mappings"
READER = Reader(rules(MAPPINGS))
LAYOUTS = layouts(MAPPINGS, READER.shapes)
NOW = datetime(2026, 4, 1, 12, tzinfo=UTC)
CANARY = "Canarybird"

CARER = {"carer": "C1", "start": "2026-03-30T07:31", "end": "2026-03-30T08:00"}
TASK = {"task": "T1", "outcome": "refused", "reason": "Asleep"}
FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "an NHS number that fails its check": ({"person": {"nhsNumber": "9990000019"}}, "person.nhsNumber", "nhs-number"),
    "an NHS number with a letter": ({"person": {"nhsNumber": "999000001O"}}, "person.nhsNumber", "nhs-number"),
    "an end before its start": (
        {"planned": {"start": "2026-03-30T07:30", "end": "2026-03-30T07:29"}},
        "planned.end",
        "order",
    ),
    "25 hours": ({"planned": {"start": "2026-03-30T07:30", "end": "2026-03-31T08:30"}}, "planned.end", "length"),
    "a carer's 25 hours": ({"carers": [{**CARER, "end": "2026-03-31T08:31"}]}, "carers[0].end", "length"),
    "a future arrival": ({"carers": [{"carer": "C1", "start": "2026-04-01T13:06"}]}, "carers[0].start", "future"),
    "a future claim": ({"claimed": {"start": "2026-04-02T07:30", "minutes": 30}}, "claimed.start", "future"),
    "a clock that is ahead": ({"changed": "2026-04-01T13:06"}, "changed", "future"),
    "an hour that was not": (
        {"planned": {"start": "2026-03-29T01:30", "end": "2026-03-29T02:30"}},
        "planned.start",
        "local-time",
    ),
    "an hour that was twice": (
        {"planned": {"start": "2025-10-26T01:30", "end": "2025-10-26T02:30"}},
        "planned.start",
        "local-time",
    ),
    "a day that is not": ({"changed": "2026-02-30T07:30"}, "changed", "datetime"),
    "a date of a spreadsheet": ({"changed": "03/04/25 07:30"}, "changed", "datetime"),
    "a number for a time": ({"changed": 20260330}, "changed", "datetime"),
    "a leaving without an arrival": (
        {"carers": [{"carer": "C1", "end": "2026-03-30T08:00"}]},
        "carers[0].start",
        "required",
    ),
    "a carer twice": ({"carers": [CARER, CARER]}, "carers", "duplicate"),
    "a carer and carers": ({"carer": CARER}, "carer", "structure"),
    "nobody came, and somebody did": ({"outcome": {"code": "missed-by-provider"}}, "outcome.code", "contradiction"),
    "an outcome of no list": ({"outcome": {"code": "fine"}}, "outcome.code", "code"),
    "a method of no list": ({"carers": [{**CARER, "method": "fax"}]}, "carers[0].method", "code"),
    "what was not done, without a reason": (
        {"tasks": [{"task": "T1", "outcome": "refused"}]},
        "tasks[0].reason",
        "required",
    ),
    "a medicine's code that fails its check": (
        {"medication": [{"medicine": "Paracetamol", "outcome": "given", "dmd": "22298007"}]},
        "medication[0].dmd",
        "number",
    ),
    "a carer rostered twice": (
        {"planned": {"start": "2026-03-30T07:30", "end": "2026-03-30T08:00", "rostered": ["C1", "C1"]}},
        "planned.rostered",
        "id",
    ),
    "a name on the roster": (
        {"planned": {"start": "2026-03-30T07:30", "end": "2026-03-30T08:00", "rostered": [f"{CANARY} Joan"]}},
        "planned.rostered",
        "id",
    ),
    "another's visit": ({"provider": "H01"}, "provider", "provider"),
    "no id": ({"visit": None}, "visit", "id"),
    "a name for an id": ({"visit": f"{CANARY} Joan"}, "visit", "id"),
    "a version below 0": ({"version": -1}, "version", "number"),
    "a version that is a text": ({"version": "1"}, "version", "number"),
    "true for a number": ({"planned": {**CARER, "carers": True}}, "planned.carers", "number"),
    "a field nobody knows": ({"weather": CANARY}, "", "unknown"),
    "a misspelt field": ({"task": None, "planed": {}}, "planned", "unknown"),
    "a list for an object": ({"planned": []}, "planned", "structure"),
    "an object for a list": ({"carers": {}}, "carers", "structure"),
    "a text for an entry": ({"tasks": [CANARY]}, "tasks[0]", "structure"),
    "an empty object": ({"planned": {}}, "planned.start", "required"),
    "a note too long": ({"notes": [{"text": CANARY * 1000}]}, "notes[0].text", "text"),
    "a control character": ({"notes": [{"text": f"{CANARY}\x07"}]}, "notes[0].text", "text"),
    "too many": ({"tasks": [{"task": f"T{n}", "outcome": "completed"} for n in range(101)]}, "tasks", "structure"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_wrong_is_told(case: str) -> None:
    changes, column, reason = FAULTS[case]
    found = READER.read(
        visit(**{"id": "V1", **{k: v for k, v in changes.items() if k != "visit"}}) | changes, "K01", NOW
    )
    assert isinstance(found, Refused)
    assert (column, reason) in {(each.column, each.reason) for each in found.faults}
    for each in found.faults:
        assert each.rule and each.remedy
        assert CANARY not in repr(each)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"planned": {"start": "2026-03-30T22:00", "end": "2026-03-31T07:00"}},
        {"planned": {"start": "2025-10-26T00:00", "end": "2025-10-27T00:00"}},
        {"planned": {"start": "2025-10-26T01:30:00+01:00", "end": "2025-10-26T01:30:00Z"}},
        {"planned": {"start": "2026-03-29T00:30", "end": "2026-03-29T02:00"}},
        {"planned": {"start": "2026-03-30T06:30:00.1234567Z", "end": "2026-03-30T07:00:00.000000000Z"}},
        {"provider": "K01"},
        {"outcome": None},
        {"tasks": [TASK]},
    ],
)
def test_what_is_sound_is_taken(changes: dict[str, Any]) -> None:
    assert isinstance(READER.read(visit(**changes), "K01", NOW), Sent)


@pytest.mark.parametrize("row", [None, [], "V1", 7, {}, {"visit": "V1"}])
def test_what_is_no_visit(row: Any) -> None:
    assert isinstance(READER.read(row, "K01", NOW), Refused)


def test_rows_that_contradict_one_another_are_both_refused() -> None:
    def said(*rows: dict[str, Any]) -> list[Any]:
        without = [{name: each[name] for name in each if name not in ("version", "changed")} for each in rows]
        return [type(each) for each in told_apart([READER.read(each, "K01", NOW) for each in without])]

    other = visit(outcome={"code": "no-reply"})
    assert said(visit(), other, visit("V2")) == [Refused, Refused, Sent]
    assert said(visit(), visit(), visit("V2")) == [Sent, Sent, Sent]
    apart = told_apart([READER.read(each, "K01", NOW) for each in (visit(), visit(version=2))])
    assert all(isinstance(each, Sent) for each in apart)
    assert UNTOLD.remedy


def test_a_carer_in_two_places_is_told() -> None:
    def places(*rows: dict[str, Any]) -> dict[int, str]:
        return at_once([READER.read(each, "K01", NOW) for each in rows])

    following = {**CARER, "start": "2026-03-30T08:00", "end": "2026-03-30T08:30"}
    first = visit(carers=[CARER])
    assert places(first, visit("V2", carers=[{**following, "start": "2026-03-30T07:59"}])) == {0: "V2", 1: "V1"}
    assert places(first, visit("V2", carers=[following])) == {}
    assert places(first, visit("V2", carers=[{**CARER, "carer": "C2"}])) == {}
    assert places(first, visit(version=2, carers=[CARER])) == {}


HEADER = "Call;NHS;Day;From;To;Staff no.;In;Out;Login;Result;Remarks"
SOUND = "V1;9990000018;30/03/2026;07:30;08:00;C1;07:31;08:01;Tag;ok;"
CELLS: dict[str, tuple[str, str, str]] = {
    "a time of no clock": ("V1;9990000018;30/03/2026;half 7;08:00;;;;;;", "From", "time"),
    "25 o'clock": ("V1;9990000018;30/03/2026;25:00;08:00;;;;;;", "From", "time"),
    "an American date": ("V1;9990000018;03/30/2026;07:30;08:00;;;;;;", "Day", "date"),
    "a date in words": ("V1;9990000018;30 March;07:30;08:00;;;;;;", "Day", "date"),
    "a day of no calendar": ("V1;9990000018;31/11/2025;07:30;08:00;;;;;;", "Day", "date"),
    "an end before its start": ("V1;9990000018;30/03/2026;17:00;16:30;;;;;;", "Day, To", "order"),
    "an hour that came twice": ("V1;9990000018;26/10/2025;01:30;02:30;;;;;;", "Day, From", "local-time"),
    "a word the layout does not know": ("V1;9990000018;30/03/2026;07:30;08:00;;;;;perhaps;", "Result", "code"),
    "a number that fails": ("V1;9990000019;30/03/2026;07:30;08:00;;;;;;", "NHS", "nhs-number"),
    "a carer without a number": ("V1;9990000018;30/03/2026;07:30;08:00;;07:31;08:01;;;", "Staff no.", "required"),
    "a cell too many": (f"{SOUND};", "", "structure"),
    "a cell too few": ("V1;9990000018", "", "structure"),
    "no time": ("V1;9990000018;30/03/2026;;08:00;;;;;;", "From", "required"),
    "totals": ("Total;;;;;;;;;;", "Call", "structure"),
    "half past one in the afternoon twice": ("V1;9990000018;30/03/2026;13:30 pm;14:00;;;;;;", "From", "time"),
}


def _sheet(*lines: str) -> list[Any]:
    found = sheet.read("\n".join((HEADER, *lines)).encode(), LAYOUTS["kestrel"])
    read = [(n, each if isinstance(each, Refused) else READER.read(each, "K01", NOW)) for n, each in found.rows]
    return [(number, found.called(each) if isinstance(each, Refused) else each) for number, each in read]


@pytest.mark.parametrize("case", CELLS)
def test_a_cell_is_told_by_its_own_column(case: str) -> None:
    line, column, reason = CELLS[case]
    (_, sound), (number, refused) = _sheet(SOUND, line)
    assert isinstance(sound, Sent)
    assert isinstance(refused, Refused)
    assert number == 3
    assert (column, reason) in {(each.column, each.reason) for each in refused.faults}


def test_a_year_with_two_digits_is_a_matter_of_the_layout() -> None:
    ((_, found),) = _sheet(SOUND.replace("30/03/2026", "30/03/26"))
    ((_, whole),) = _sheet(SOUND)
    assert found == whole
    line = b"Visit,NHS number,Date,Planned start,Planned end\nV1,9990000018,03/04/25,07:30,08:00\n"
    ((_, refused),) = sheet.read(line, LAYOUTS["homecare"]).rows
    assert isinstance(refused, Refused)
    assert [each.column for each in refused.faults] == ["Date"], "told once, for all times of the day"
    assert "four digits" in refused.faults[0].rule


def test_an_hour_that_came_twice_is_told_by_its_offset() -> None:
    line = "V1;9990000018;26/10/2025;01:30+01:00;02:00;;;;;;"
    ((_, found),) = _sheet(line)
    assert isinstance(found, Sent)
    assert found.said.parts["planned"] == {"start": "2025-10-26T01:30:00+01:00", "end": "2025-10-26T02:00:00+00:00"}


def test_a_visit_by_night_ends_the_next_day_and_a_slip_of_the_pen_does_not() -> None:
    ((_, night),) = _sheet("V1;9990000018;30/03/2026;20:00;12:00;;;;;;")
    assert isinstance(night, Sent)
    assert night.said.parts["planned"]["end"] == "2026-03-31T12:00:00+01:00"
    ((_, slip),) = _sheet("V1;9990000018;30/03/2026;20:00;12:01;;;;;;")
    assert isinstance(slip, Refused)


@pytest.mark.parametrize(
    ("cells", "came"),
    [
        ("30/03/2026;23:50;00:20;C1;00:02;00:25", "2026-03-31T00:02:00+01:00 2026-03-31T00:25:00+01:00"),
        ("31/03/2026;00:05;00:35;C1;23:58;00:30", "2026-03-30T23:58:00+01:00 2026-03-31T00:30:00+01:00"),
        ("31/03/2026;00:05;00:35;C1;23:40;23:59", "2026-03-30T23:40:00+01:00 2026-03-30T23:59:00+01:00"),
        ("29/03/2026;00:30;02:15;C1;23:58;02:10", "2026-03-28T23:58:00+00:00 2026-03-29T02:10:00+01:00"),
        ("28/03/2026;23:45;00:15;C1;00:10;02:05", "2026-03-29T00:10:00+00:00 2026-03-29T02:05:00+01:00"),
        ("30/03/2026;20:00;20:30;C1;07:30;08:00", "2026-03-30T07:30:00+01:00 2026-03-30T08:00:00+01:00"),
        ("30/03/2026;7:30 PM;8pm;C1;7.31 p.m.;08:01PM", "2026-03-30T19:31:00+01:00 2026-03-30T20:01:00+01:00"),
        ("30-Mar-2026;12:15 am;12:45 am;C1;12:20 am;12:44am", "2026-03-30T00:20:00+01:00 2026-03-30T00:44:00+01:00"),
    ],
)
def test_a_carer_comes_on_the_day_that_is_nearest_to_the_plan(cells: str, came: str) -> None:
    """About midnight the row's date is the plan's; a slip of the pen stays one."""
    ((_, found),) = _sheet(f"V1;9990000018;{cells};Tag;ok;")
    assert isinstance(found, Sent)
    (carer,) = found.said.parts["carers"]
    assert f"{carer['start']} {carer['end']}" == came


def test_a_line_of_totals_is_told_from_a_visit() -> None:
    """Where all that a visit has is filled in, its id may well be Total."""
    *_, (_, totals) = _sheet(SOUND, ";;;;;;;Total;;;")
    assert isinstance(totals, Refused) and "totals" in totals.faults[0].rule
    ((_, called),) = _sheet(SOUND.replace("V1", "Total"))
    assert isinstance(called, Sent)


def test_a_row_that_ends_early_is_blank_there_unless_the_file_was_cut_off() -> None:
    rest = "V2;9990000018;30/03/2026;12:00;12:30"
    (_, short), (_, sound) = _sheet(rest, SOUND)
    assert isinstance(short, Sent)
    assert short.said.parts.keys() == {"person", "planned"}
    assert isinstance(sound, Sent)
    _, (_, cut) = _sheet(SOUND, rest)
    assert isinstance(cut, Refused)
    _, (_, ended) = _sheet(SOUND, rest + "\n")
    assert isinstance(ended, Sent)


def test_what_is_no_id_is_not_told_again() -> None:
    ((_, named),) = _sheet("Mrs Smith;9990000018;30 March;07:30;08:00;;;;;;")
    assert isinstance(named, Refused)
    assert named.visit is None
    ((_, other),) = _sheet("V9;9990000018;30 March;07:30;08:00;;;;;;")
    assert isinstance(other, Refused)
    assert other.visit == "V9"


def test_what_is_told_of_a_list_names_its_first_columns() -> None:
    found = sheet.read(f"{HEADER}\n{SOUND}".encode(), LAYOUTS["kestrel"])
    (fault,) = found.called(Refused("V1", (met("V2"),))).faults
    assert (fault.column, fault.rule) == ("Staff no.", "a carer is at two visits at once, at this one and at V2")


@pytest.mark.parametrize("above", ["", ";;;Planned;;\n", "Kestrel;rota\n", "Kestrel's rota, all of it\nWeek 14;;;\n\n"])
def test_a_title_or_merged_headings_may_stand_above_the_header(above: str) -> None:
    """Rows are counted as the spreadsheet counts them, from its first."""
    found = sheet.read(f"{above}{HEADER}\n{SOUND}".encode(), LAYOUTS["kestrel"])
    ((number, row),) = found.rows
    assert number == 2 + above.count("\n")
    assert row == sheet.read(f"{HEADER}\n{SOUND}".encode(), LAYOUTS["kestrel"]).rows[0][1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Call;;Planned;\n;NHS;Day;From\nV1;1;2;3", "merged"),
        ("Call;NHS;Day;Planned;;In\n;;;From;To;\n", "lacks: From. The names of the columns are merged"),
        ("PK\x03\x04 and what a workbook is", "workbook"),
        ("Call;NHS;Day\n", "lacks: From"),
        ("Call;NHS;Day;From;Call\n", "Two columns are called Call"),
        ("", "empty"),
        (f'{HEADER}\nV1;"cut', "Row 2: .* cut off"),
        (f"{HEADER}\nV1\0", "not text"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole(text: str, told: str) -> None:
    with pytest.raises(FhirError, match=told):
        sheet.read(text.encode(), LAYOUTS["kestrel"])


def test_a_layout_is_judged_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "visits.yaml").write_text(
        "layout: old\ntitle: A\nfields:\n  visit: {column: A}\n  planned.begin: {column: B}\n"
        "  planned.end: {minutes: C, after: x}\n"
    )
    with pytest.raises(LayoutFaults) as raised:
        layouts(tmp_path, READER.shapes)
    assert len(raised.value.faults) == 3
    assert all("new/visits.yaml" in each for each in raised.value.faults)


NO_TIME = {"carer": "C1", "start": "2026-03-30T07:31", "end": "2026-03-30T07:31"}


@pytest.mark.parametrize(
    ("parts", "columns"),
    [
        ({"carers": [NO_TIME]}, ["carers[0].end"]),
        ({"carer": NO_TIME, "carers": [NO_TIME]}, ["carer", "carer.end", "carers[0].end"]),
        ({"planned": {"start": "2026-03-30T07:30", "end": "2026-03-30T07:30"}}, ["planned.end"]),
        ({"carers": [NO_TIME], "outcome": {"code": "delivered"}}, ["carers[0].end"]),
        ({"carers": [NO_TIME], "outcome": {"code": "no-reply"}}, []),
        ({"carers": [NO_TIME], "outcome": {"code": "refused-by-person"}}, []),
    ],
)
def test_a_visit_that_takes_no_time_is_one_where_the_door_stayed_shut(
    parts: dict[str, Any], columns: list[str]
) -> None:
    read = READER.read(visit(**parts), "K01", NOW)
    assert ([each.column for each in read.faults] if isinstance(read, Refused) else []) == columns


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        ({"visit": "V1", "planed": {}}, ["planned"]),
        (visit(line={"oder": "1"}), ["line.order"]),
        (visit(planned={"strat": "2026-03-30T07:30", "end": "2026-03-30T08:00"}), ["planned.start"]),
        (visit(colour=1, hue=2), [""]),
        (visit(line={}), ["line.order", "line"]),
    ],
)
def test_a_name_that_no_field_has_is_told_once(row: dict[str, Any], columns: list[str]) -> None:
    read = READER.read(row, "K01", NOW)
    assert isinstance(read, Refused)
    assert [each.column for each in read.faults] == columns


def test_names_may_be_spelt_with_underscores() -> None:
    """As they come: what is said is the same, so sent again in the other spelling it is no news."""
    row = visit(planned={"start": "2026-03-30T07:30", "end": "2026-03-30T08:00", "timeCritical": True})
    other = visit(planned={"start": "2026-03-30T07:30", "end": "2026-03-30T08:00", "time_critical": True})
    other["person"] = {"nhs_number": row["person"]["nhsNumber"]}
    assert READER.read(other, "K01", NOW) == READER.read(row, "K01", NOW)
    both = visit(person={"nhs_number": MRS_A, "nhsNumber": MRS_A})
    read = READER.read(both, "K01", NOW)
    assert isinstance(read, Refused) and read.faults[0].reason == "unknown", "which of the two, nobody knows"
