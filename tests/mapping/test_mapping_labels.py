"""The labels that keep a record from some: on all that tells of what they keep, in both systems, and nowhere else."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from fhirgw.council.council import Council
from fhirgw.council.generate import generate
from fhirgw.council.layouts import LAYOUTS
from fhirgw.mapping.load import load
from fhirgw.mapping.mapping import Mapping, Row

SYSTEMS = load(Path(__file__).parents[2] / "mappings").systems
RECORD_CLASS = "https://fhirgw.uk/fhir/CodeSystem/record-class"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
Tables = dict[str, list[Row]]


@pytest.fixture(scope="module")
def council() -> Council:
    """Large enough that somebody's record is sealed."""
    return generate(2_500, seed=5, faults=False)


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_tells_of_safeguarding_and_what_others_said_is_labelled_and_nothing_else(
    council: Council, name: str
) -> None:
    found: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for mapping, key, label in _labelled(council, name):
        found[label].add((mapping, key))
    people = {mapping for label in found for mapping, _ in found[label] if label.startswith(CONFIDENTIALITY)}
    assert people == {"person"}
    assert {label.partition("|")[2]: whose for label, whose in found.items()} == _meant(council)
    assert set(found) == {
        *(f"{RECORD_CLASS}|{each}" for each in ("entry", "safeguarding", "third-party")),
        *(f"{CONFIDENTIALITY}|{each}" for each in "NRV"),
    }


def _meant(council: Council) -> dict[str, set[tuple[str, int]]]:
    """By the facts: which record is labelled how, as (mapping, number)."""
    because = {
        (mapping, each.number)
        for mapping, kind in (("contact", "contact"), ("review", "review"))
        for each in council.records[kind]
        if each.reason == "safeguarding"
    }
    alerts = council.records["alert"]
    concerns = {("safeguarding_concern", each.number) for each in alerts if each.category == "safeguarding"}
    warnings = {("staff_warning", each.number) for each in alerts if each.category != "safeguarding"}
    ticked = {("answers", each.number) for each in council.records["assessment"] if each.third_party}
    people = {
        code: {("person", each.number) for each in council.records["person"] if each.restricted == fact}
        for code, fact in (("N", "none"), ("R", "whereabouts"), ("V", "sealed"))
    }
    notes = {("access_note", each.number) for each in council.records["access_note"]}
    meant = {"entry": notes, "safeguarding": because | concerns, "third-party": warnings | ticked, **people}
    assert because and concerns and warnings and ticked and notes and all(people.values())
    return meant


def _labelled(council: Council, name: str) -> Any:
    """Every label of every resource: its mapping, the number of the record, the label as system|code."""
    tables: Tables = {
        table.name: [dict(zip(table.columns, row, strict=True)) for row in table.rows]
        for table in LAYOUTS[name].tables(council)
    }
    for mapping in SYSTEMS[name].mappings.values():
        for row in _rows(mapping, tables):
            for each in mapping.to_fhir(row).get("meta", {}).get("security", ()):
                number = int("".join(filter(str.isdigit, row[mapping.key])))
                yield mapping.name, number, f"{each['system']}|{each['code']}"


def _rows(mapping: Mapping, tables: Tables) -> list[Row]:
    """The mapping's rows, with those of its child tables."""
    whole: dict[str, Row] = {
        row[mapping.key]: {**row, **{each.table: [] for each in mapping.children}}
        for row in tables[mapping.table]
        if mapping.applies(row)
    }
    for each in mapping.children:
        for child in tables[each.table]:
            if child[each.parent] in whole:
                whole[child[each.parent]][each.table].append(child)
    return list(whole.values())
