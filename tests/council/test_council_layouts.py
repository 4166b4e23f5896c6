"""The two layouts: the same facts in spellings that have nothing in common, as text any database or file can hold."""

import re
from collections.abc import Callable
from datetime import date, datetime
from io import BytesIO
from typing import Any

import asyncpg
import pytest

from fhirgw.council.codes import LISTS, UNLISTED
from fhirgw.council.council import Council
from fhirgw.council.generate import generate
from fhirgw.council.layout import Layout
from fhirgw.council.layouts import LAYOUTS

Read = dict[str, list[dict[str, str | None]]]


@pytest.fixture(scope="session")
def read(council: Council) -> dict[str, Read]:
    """Every layout's rows as dicts, by table."""
    return {
        name: {t.name: [dict(zip(t.columns, row, strict=True)) for row in t.rows] for t in layout.tables(council)}
        for name, layout in LAYOUTS.items()
    }


@pytest.mark.parametrize("name", LAYOUTS)
def test_rows_are_clean_text_with_a_key_each(read: dict[str, Read], name: str) -> None:
    for table in LAYOUTS[name].declared:
        rows = read[name][table.name]
        keys = [row[table.key.name] for row in rows]
        assert rows and len(set(keys)) == len(keys) and None not in keys
        for row in rows:
            for value in row.values():
                assert value is None or (value == value.strip() != "" and value.isprintable())


def test_harbour_can_be_written_in_windows_1252(read: dict[str, Read]) -> None:
    text = "".join(value or "" for rows in read["harbour"].values() for row in rows for value in row.values())
    text.encode("windows-1252")
    assert not text.isascii(), "some names should prove the encoding"


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_column_is_blank_throughout(read: dict[str, Read], name: str) -> None:
    """What is never filled is never tested."""
    empty = {
        (table, column)
        for table, rows in read[name].items()
        for column in rows[0]
        if all(row[column] is None for row in rows)
    }
    assert not empty


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_code_of_a_list_is_spelt_once_and_most_are_used(read: dict[str, Read], name: str) -> None:
    for codes in LISTS.values():
        spelt = [getattr(code, name) for code in codes]
        assert len(set(spelt)) == len(spelt)
    used, listed = 0, 0
    for table in LAYOUTS[name].declared:
        for column in table.columns:
            if column.style == "code":
                written = {row[column.name] for row in read[name][table.name]}
                spelt = {getattr(code, name) for code in LISTS[column.about]}
                used, listed = used + len(spelt & written), listed + len(spelt)
    assert used > 0.6 * listed


def iso(text: str) -> str:
    """Harbour's day/month/year the other way round."""
    return re.sub(r"^(\d\d)/(\d\d)/(\d{4})", r"\3-\2-\1", text)


def neutral(system: str, style: str, about: str) -> Callable[[str], Any]:
    """Read a cell back into what it means, with nothing of the code that wrote it."""
    if style in {"code", "codes"}:
        words = {getattr(code, system): code.fact for code in LISTS[about]} | {
            "ZZ9": UNLISTED,
            "Legacy value 99": UNLISTED,
        }
        separator = {"meadow": " ", "harbour": ", "}[system] if style == "codes" else None
        return lambda text: [words[word] for word in text.split(separator)] if separator else words[text]
    plain: dict[str, Callable[[str], Any]] = {
        "date": lambda text: date.fromisoformat(iso(text)),
        "moment": lambda text: datetime.fromisoformat(iso(text)),
        "flag": {"Y": True, "Yes": True, "N": False, "No": False}.__getitem__,
        "key": lambda text: int(re.sub(r"\D", "", text)),
    }
    return plain.get(style, str)


def facts(layout: Layout, read: Read) -> dict[tuple[str, int], dict[str, Any]]:
    """Every record of the layout's own tables: fact to meaning, by kind and number."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for table in layout.declared:
        if table.each:
            continue
        cells = [(c.name, c.fact, neutral(layout.name, c.style, c.about)) for c in table.columns]
        for row in read[table.name]:
            record = {fact: None if row[name] is None else meaning(str(row[name])) for name, fact, meaning in cells}
            found[table.kind, record["number"]] = record
    return found


def test_the_layouts_hold_the_same_facts(council: Council, read: dict[str, Read]) -> None:
    meadow, harbour = (facts(LAYOUTS[name], read[name]) for name in ("meadow", "harbour"))
    assert meadow.keys() == harbour.keys()
    assert len(meadow) == sum(map(len, council.records.values()))
    for key, record in meadow.items():
        shared = record.keys() & harbour[key].keys()
        assert {fact: record[fact] for fact in shared} == {fact: harbour[key][fact] for fact in shared}


REPEATED = {
    "person_phone": ("PERSON", ("PHONE_HOME", "PHONE_MOBILE")),
    "person_address": ("PERSON", ("ADDR_1", "PREV_ADDR_1")),
    "accommodation": ("PERSON", ("ACCOM_STATUS", "PREV_ACCOM_STATUS")),
    "employment": ("PERSON", ("WORK_STATUS", "PREV_WORK_STATUS")),
    "eligibility_decision": ("ASSESSMENT", ("ELIGIBILITY",)),
    "plan_team_member": ("CARE_PLAN", ("LEAD_STAFF_NO", "OT_STAFF_NO", "SUPPORT_STAFF_NO")),
    "technology_device": ("TELECARE", ("SERIAL_NO",)),
    "consent_record": ("CONSENT", ("RECORD_1", "RECORD_2", "RECORD_3")),
    "consent_exception": ("CONSENT", ("EXCEPT_1", "EXCEPT_2")),
    "delegate_record": ("DELEGATE", ("RECORD_1", "RECORD_2", "RECORD_3")),
}
"""Rows of their own in meadow, columns in harbour."""


@pytest.mark.parametrize("table", REPEATED)
def test_rows_of_one_are_columns_of_the_other(read: dict[str, Read], table: str) -> None:
    wide, columns = REPEATED[table]
    filled = sum(row[column] is not None for row in read["harbour"][wide] for column in columns)
    assert len(read["meadow"][table]) == filled > 0


@pytest.mark.parametrize(
    ("table", "key", "question", "wide", "least"),
    [
        ("assessment_answer", "assessment_id", "question", "ASSESSMENT", 5_000),
        ("about_me_answer", "about_me_id", "heading", "ABOUT_ME", 500),
    ],
)
def test_answers_are_the_same_in_rows_and_in_columns(
    read: dict[str, Read], table: str, key: str, question: str, wide: str, least: int
) -> None:
    said = {code.meadow: code.harbour for code in LISTS["answer"]} if wide == "ASSESSMENT" else {}
    declared = next(each for each in LAYOUTS["harbour"].declared if each.name == wide)
    columns = {c.fact.removeprefix("answers."): c.name for c in declared.columns if "answers." in c.fact}
    narrow = {
        (int(str(row[key])), columns[str(row[question])], said.get(str(row["answer"]), row["answer"]))
        for row in read["meadow"][table]
    }
    broad = {
        (int(str(row[declared.key.name])[4:]), column, row[column])
        for row in read["harbour"][wide]
        for column in columns.values()
        if row[column]
    }
    assert narrow == broad
    assert len(narrow) > least


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_table_comes_after_those_it_refers_to(name: str) -> None:
    seen: set[str] = set()
    for table in LAYOUTS[name].declared:
        seen.add(table.key.about)
        assert {column.about for column in table.references} <= seen


@pytest.mark.parametrize("name", LAYOUTS)
async def test_postgresql_takes_the_tables_the_rows_and_the_constraints(database: str, name: str) -> None:
    layout, council = LAYOUTS[name], generate(100)
    connection = await asyncpg.connect(database)
    try:
        for statement in layout.ddl():
            await connection.execute(statement)
        for table in layout.tables(council):
            lines = "".join("\t".join(r"\N" if v is None else v for v in row) + "\n" for row in table.rows)
            await connection.copy_to_table(table.name, schema_name=name, source=BytesIO(lines.encode()), format="text")
        for statement in layout.constraints():
            await connection.execute(statement)
        for table in layout.tables(council):
            columns = ", ".join(f'"{column}"::text' for column in table.columns)
            kept = await connection.fetch(f'SELECT {columns} FROM "{name}"."{table.name}"')
            assert sorted(map(repr, map(tuple, kept))) == sorted(map(repr, table.rows)), table.name
    finally:
        await connection.close()
