"""The laws of a mapping, over every mapping there is: what goes in comes out, and what is others' stays."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fhirgw.mapping.load import load
from fhirgw.mapping.mapping import Mapping, Row
from fhirgw.mapping.refusal import RefusedRow
from tests.mapping.rows import owned, rows

MAPPINGS = [
    mapping
    for system in load(Path(__file__).parents[2] / "mappings").systems.values()
    for mapping in system.mappings.values()
]
FULL = {(mapping.system, mapping.name): rows(mapping, blanks=False) for mapping in MAPPINGS}
ROWS = {(mapping.system, mapping.name): rows(mapping) for mapping in MAPPINGS}
every_mapping = pytest.mark.parametrize("mapping", MAPPINGS, ids=lambda mapping: f"{mapping.system}/{mapping.name}")
law = settings(max_examples=7, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@every_mapping
@law
@given(data=st.data())
def test_a_row_survives(mapping: Mapping, data: st.DataObject) -> None:
    row = _row(mapping, data)
    assert _arranged(mapping, owned(mapping, mapping.to_row(mapping.to_fhir(row)))) == _arranged(
        mapping, owned(mapping, row)
    )


@every_mapping
@law
@given(data=st.data())
def test_the_compiled_function_is_the_plain_one(mapping: Mapping, data: st.DataObject) -> None:
    row = _row(mapping, data)
    assert mapping.compiled is not None
    assert mapping.compiled(row) == mapping.write(row)


@every_mapping
@law
@given(data=st.data())
def test_reading_back_and_writing_changes_nothing(mapping: Mapping, data: st.DataObject) -> None:
    row = _row(mapping, data)
    resource = mapping.to_fhir(row)
    assert mapping.to_fhir(mapping.to_row(resource, onto=row), onto=resource) == resource


@every_mapping
@law
@given(data=st.data())
def test_what_was_written_last_is_read_back(mapping: Mapping, data: st.DataObject) -> None:
    before, after = _row(mapping, data), _row(mapping, data)
    resource = mapping.to_fhir(after, onto=mapping.to_fhir(before))
    assert _arranged(mapping, owned(mapping, mapping.to_row(resource))) == _arranged(mapping, owned(mapping, after))


@every_mapping
@law
@given(data=st.data())
def test_a_blank_leaves_no_trace(mapping: Mapping, data: st.DataObject) -> None:
    full, sparse = _full(mapping, data), _row(mapping, data)
    assume(sparse[mapping.key] is not None)
    blanked = {
        **full,
        **dict.fromkeys(_optional(mapping)),
        **{each.table: [] for each in mapping.children},
    }
    try:
        fresh = mapping.to_fhir(blanked)
    except RefusedRow:
        return  # a check needs the column
    assert mapping.to_fhir(blanked, onto=mapping.to_fhir(full)) == fresh


@every_mapping
@law
@given(data=st.data())
def test_what_others_wrote_is_kept(mapping: Mapping, data: st.DataObject) -> None:
    before, after = _row(mapping, data), _row(mapping, data)
    resource = _with_others(mapping.to_fhir(before))
    again = mapping.to_fhir(after, onto=resource)
    for name, theirs in OTHERS.items():
        assert theirs in again[name]
    assert {"system": "urn:other", "code": "kept"} in again["meta"]["tag"]
    assert again["language"] == "en-GB"


def _row(mapping: Mapping, data: st.DataObject) -> Row:
    return data.draw(ROWS[mapping.system, mapping.name])


def _full(mapping: Mapping, data: st.DataObject) -> Row:
    """A row without blanks."""
    return data.draw(FULL[mapping.system, mapping.name])


OTHERS: dict[str, Any] = {
    "extension": {"url": "urn:other", "valueString": "theirs"},
    "contained": {"resourceType": "Basic", "id": "theirs"},
}


def _with_others(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource after somebody else added to it."""
    made = copy.deepcopy(resource)
    for name, theirs in OTHERS.items():
        made[name] = [theirs, *made.get(name, ())]
    made.setdefault("meta", {})["tag"] = [{"system": "urn:other", "code": "kept"}]
    made["language"] = "en-GB"
    return made


def _optional(mapping: Mapping) -> set[str]:
    needed = {mapping.key, *mapping.required, *mapping.when}
    return {column for column in mapping.columns if column not in needed}


def _arranged(mapping: Mapping, row: Row) -> Row:
    """Child rows by their keys: a table has no order."""
    for children in (each for each in mapping.children if each.both):
        row[children.table] = sorted(row[children.table], key=lambda child: str(child[children.key]))
    return row
