"""Mapping rows to FHIR, beside the same work written by hand."""

from __future__ import annotations

from fhirgw.council.generate import generate
from fhirgw.council.layouts import LAYOUTS
from fhirgw.mapping.load import load
from fhirgw.mapping.mapping import Mapping, Row, sorted_children
from fhirgw.mapping.refusal import RefusedRow
from fhirgw.shipped import path
from tests.bench.by_hand import patient
from tests.bench.figures import ROUNDS, Figure, seconds

PEOPLE = 1500


def run() -> list[Figure]:
    """Person rows a second by the engine and by hand, and their ratio; then all rows of the council."""
    definition = load(path("mappings")).systems["meadow"]
    tables = rows()
    people, person = _sound(tables["person"], definition.mappings["person"]), definition.mappings["person"]
    codes = {
        column: {cell: _value(person, column, cell) for cell in definition.codes[name].codes}
        for column, name in _CODED.items()
    }
    for row in people:
        assert patient(row, codes) == person.to_fhir(row)
    engine = Figure("mapping person rows to FHIR", "rows/s", "target 50,000")
    hand = Figure("the same by hand", "rows/s")
    ratio = Figure("mapping against hand-written", "ratio", "target 0.6")
    for _ in range(ROUNDS):
        one = seconds(lambda: [person.to_fhir(row) for row in people])
        other = seconds(lambda: [patient(row, codes) for row in people])
        engine.values.append(len(people) / one)
        hand.values.append(len(people) / other)
        ratio.values.append(other / one)
    return [engine, hand, ratio, _all(definition.mappings.values(), tables)]


def _all(mappings: object, tables: dict[str, list[Row]]) -> Figure:
    every = Figure("mapping all rows of a council to FHIR", "resources/s")
    work = [
        (mapping, [row for row in _sound(tables[mapping.table], mapping) if mapping.applies(row)])
        for mapping in mappings  # type: ignore[attr-defined]
    ]
    count = sum(len(found) for _, found in work)
    for _ in range(ROUNDS):
        spent = seconds(lambda: [[mapping.to_fhir(row) for row in found] for mapping, found in work])
        every.values.append(count / spent)
    return every


def rows() -> dict[str, list[Row]]:
    """The council's rows by table, child rows under their parents, as a sync reads them."""
    layout = LAYOUTS["meadow"]
    council = generate(PEOPLE)
    tables = {
        each.name: [dict(zip(each.columns, cells, strict=True)) for cells in each.rows]
        for each in layout.tables(council)
    }
    for mapping in load(path("mappings")).systems["meadow"].mappings.values():
        for children in mapping.children:
            families: dict[str, list[Row]] = {}
            for child in sorted_children(tables[children.table], children.order):
                families.setdefault(child[children.parent], []).append(child)
            for row in tables[mapping.table]:
                row[children.table] = families.get(row[mapping.key], [])
    return tables


def _sound(found: list[Row], mapping: Mapping) -> list[Row]:
    kept = []
    for row in found:
        try:
            if mapping.applies(row):
                mapping.to_fhir(row)
                kept.append(row)
        except RefusedRow:
            continue
    return kept


_CODED = {
    **{
        name: name for name in ("restricted", "birth_sex", "ethnicity", "contact_preference", "religion", "client_type")
    },
    **{name: name for name in ("gender", "marital_status", "language", "phone_kind", "address_kind")},
    "nhs_number_status": "nhs_status",
}


def _value(person: Mapping, column: str, cell: str) -> object:
    fields = [*person.fields, *(each for children in person.children for each in children.fields)]
    wanted = {"phone_kind": ("kind", "telecom"), "address_kind": ("kind", "address")}.get(column)
    for each in fields:
        if wanted is None and each.column == column:
            return each.leaf.write(cell, None, None)
    table = {"phone_kind": "person_phone", "address_kind": "person_address"}[column]
    children = next(each for each in person.children if each.table == table)
    return next(each for each in children.fields if each.column == "kind").leaf.write(cell, None, None)
