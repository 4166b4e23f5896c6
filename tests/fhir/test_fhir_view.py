"""ViewDefinitions: what SQL on FHIR says of them, and the views of ours against another FHIRPath."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import fhirpathpy
import pytest
from fhirpathpy.models import models

from fhirgw.fhir.view import Several, view
from fhirgw.fhir.view_path import ViewError
from fhirgw.fhir.views import for_export, views

R4 = models["r4"]
MAPPINGS = Path(__file__).parents[2] / "mappings"
ASH = {
    "resourceType": "Patient",
    "id": "a",
    "active": True,
    "deceasedBoolean": False,
    "birthDate": "1950-03",
    "managingOrganization": {"reference": "https://council.example/fhir/Organization/o1"},
    "name": [
        {"use": "official", "family": "Ash", "given": ["Ann", "Bo"]},
        {"use": "nickname", "given": ["Annie"]},
    ],
    "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "2"}],
    "contact": [
        {"name": {"given": ["Cy"]}, "telecom": [{"system": "phone", "value": "3"}]},
        {"telecom": [{"system": "phone", "value": "4"}, {"system": "email", "value": "5"}]},
    ],
    "link": [{"other": {"reference": "Patient/a"}}],
}
BARE = {"resourceType": "Patient", "id": "b", "active": False}
NEITHER = {"resourceType": "Patient", "id": "c"}
ALL = (ASH, BARE, NEITHER)


def columns(*paths: str) -> dict[str, Any]:
    return {"column": [{"name": f"c{at}", "path": path} for at, path in enumerate(paths)]}


def rows(definition: dict[str, Any], *resources: dict[str, Any]) -> list[tuple[Any, ...]]:
    made = view({"resource": "Patient", **definition})
    return [row for each in resources or ALL for row in made.rows(each)]


PATHS: dict[str, list[Any]] = {
    "id": ["a", "b", "c"],
    "active": [True, False, None],
    "Patient.active": [True, False, None],
    "name.family.first()": ["Ash", None, None],
    "name[1].given": ["Annie", None, None],
    "name[%one].given": ["Annie", None, None],
    "name.where(use = 'official').family": ["Ash", None, None],
    "name.where(use = %use).family": ["Ash", None, None],
    "name.given.join(', ')": ["Ann, Bo, Annie", "", ""],
    "name.given.join()": ["AnnBoAnnie", "", ""],
    "name.exists()": [True, False, False],
    "name.exists(use = 'old')": [False, False, False],
    "name.where(use = 'old').empty()": [True, True, True],
    "active.not()": [False, True, None],
    "deceased.ofType(boolean)": [False, None, None],
    "deceased.exists()": [True, False, False],
    "getResourceKey()": ["a", "b", "c"],
    "managingOrganization.getReferenceKey()": ["o1", None, None],
    "managingOrganization.getReferenceKey(Organization)": ["o1", None, None],
    "managingOrganization.getReferenceKey(Practitioner)": [None, None, None],
    "getResourceKey() = link.other.getReferenceKey(Patient)": [True, None, None],
    "active = true and deceased.ofType(boolean) = false": [True, False, None],
    "active = true or deceased.ofType(boolean) = true": [True, None, None],
    "active != true": [False, True, None],
    "1 + 2 * 3 - -1": [8, 8, 8],
    "(1 + 2) * 3": [9, 9, 9],
    "3 / 2": [Decimal("1.5")] * 3,
    "1 / 0": [None, None, None],
    "'it\\'s' + '!'": ["it's!"] * 3,
    "2 >= 2.0": [True, True, True],
    "birthDate < @1950-04-01": [True, None, None],
    "birthDate > @1950-02-28": [True, None, None],
    "birthDate < @1950-03-15": [None, None, None],  # it may be before, and may not
    "name.given.first() = name.given": [False, None, None],
}


@pytest.mark.parametrize("path", PATHS)
def test_a_path(path: str) -> None:
    given = {"constant": [{"name": "one", "valueInteger": 1}, {"name": "use", "valueCode": "official"}]}
    assert [value for (value,) in rows({"select": [columns(path)], **given})] == PATHS[path]


def test_each_of_a_list_is_a_row() -> None:
    names = {"column": [{"name": "family", "path": "family"}, {"name": "given", "path": "given", "collection": True}]}
    found = [("a", "Ash", ["Ann", "Bo"]), ("a", None, ["Annie"])]
    assert rows({"select": [columns("id"), {"forEach": "name", **names}]}) == found
    assert rows({"select": [columns("id"), {"forEachOrNull": "name", **names}]}) == [
        *found,
        ("b", None, []),
        ("c", None, []),
    ]


def test_selects_within_selects() -> None:
    given = {"select": [{"forEach": "name.given", **columns("$this")}]}
    definition = {"select": [columns("id"), {"forEach": "contact", **columns("telecom.value.first()"), **given}]}
    assert rows({"select": [columns("id")]}) == [("a",), ("b",), ("c",)]
    definition["select"][0]["column"][0]["name"] = "id"
    given["select"][0]["column"][0]["name"] = "given"
    assert rows(definition) == [("a", "3", "Cy")]


def test_all_of_several_selects() -> None:
    each = [{"forEach": "telecom", **columns("value")}, {"forEach": "contact.telecom", **columns("value")}]
    found = rows({"select": [{"column": [{"name": "id", "path": "id"}], "unionAll": each}]})
    assert found == [("a", "1"), ("a", "2"), ("a", "3"), ("a", "4"), ("a", "5")]
    none = {"forEach": "telecom.where(false)", **columns("value")}
    assert rows({"select": [{"unionAll": [none, {"unionAll": each}]}]}) == [(str(n),) for n in range(1, 6)]


def test_only_what_meets_all_conditions() -> None:
    one, other = {"path": "active.exists()"}, {"path": "where(active = true).empty()"}
    assert rows({"select": [columns("id")], "where": [one]}) == [("a",), ("b",)]
    assert rows({"select": [columns("id")], "where": [one, other]}) == [("b",)]


def test_several_values_do_not_fit_where_one_does() -> None:
    with pytest.raises(Several, match="the column c0 would hold several values"):
        rows({"select": [columns("name.given")]})


REFUSED: dict[str, dict[str, Any]] = {
    "resource: name a type of R4": {"resource": "Patiant", "select": [columns("id")]},
    "select: say what to select": {},
    "select[0]: it selects nothing": {"select": [{"forEach": "name"}]},
    "select[0].forEach: @@: it cannot be read from '@@' on": {"select": [{"forEach": "@@", **columns("id")}]},
    "select[0].forEach: a path is text": {"select": [{"forEach": 1, **columns("id")}]},
    "select[0].repeat: not supported here": {"select": [{"repeat": ["item"], **columns("id")}]},
    "nmae: Patient has no element nmae": {"select": [columns("nmae")]},
    "name.family.use: string has no element use": {"select": [columns("name.family.use")]},
    "HumanName does not fit in a column": {"select": [columns("name")]},
    "say ofType() before .code": {"resource": "Observation", "select": [columns("value.code")]},
    "ofType(Patient): it is one of": {"select": [columns("deceased.ofType(Patient)")]},
    "ofType(Thing): R4 has no such type": {"select": [columns("deceased.ofType(Thing)")]},
    "there is no lowBoundary() here": {"select": [columns("birthDate.lowBoundary()")]},
    "there is no constant %use": {"select": [columns("name.where(use = %use).family")]},
    "constant: each has a name and one value": {"constant": [{"name": "x"}], "select": [columns("id")]},
    "name.where(: it breaks off": {"select": [columns("name.where(")]},
    "it cannot be read from 'id' on": {"select": [columns("id id")]},
    "c0: a column of this name is there already": {"select": [columns("id"), columns("id")]},
    "select[0].unionAll: all of it has the same columns": {
        "select": [{"unionAll": [columns("id"), columns("id", "id")]}]
    },
    "where[0].path: it says neither yes nor no": {"select": [columns("id")], "where": [{"path": "name.family"}]},
    "select[0].column[0].name: letters": {"select": [{"column": [{"name": "a-b", "path": "id"}]}]},
}


@pytest.mark.parametrize("told", REFUSED)
def test_what_is_wrong_with_a_view_is_told_with_its_place(told: str) -> None:
    with pytest.raises(ViewError) as raised:
        view({"resource": "Patient", **REFUSED[told]})
    assert told in str(raised.value)


@pytest.mark.parametrize("paths", [("active",), ("getResourceKey()", "name.family")])
def test_of_what_cannot_be_exported(paths: tuple[str, ...]) -> None:
    assert for_export(view({"resource": "Patient", "select": [columns("getResourceKey()", "name.family.first()")]}))
    with pytest.raises(ViewError, match=r"a view begins with|c1: may hold several values"):
        for_export(view({"resource": "Patient", "select": [columns(*paths)]}))


def golden() -> list[dict[str, Any]]:
    files = sorted(MAPPINGS.glob("*/*.golden.json"))
    return [pair["resource"] for file in files for pair in json.loads(file.read_text()) if pair["resource"]]


RESOURCES = golden()
OURS = ("getResourceKey", "getReferenceKey")
"""What no FHIRPath but SQL on FHIR's has: here the oracle is asked for what is referred to."""


@pytest.mark.parametrize("name", views())
def test_our_views_as_another_fhirpath_has_them(name: str) -> None:
    made = views()[name]
    definition = json.loads((MAPPINGS.parent / "profiles" / "views" / f"{name}.json").read_text())
    conditions = [fhirpathpy.compile(each["path"], R4) for each in definition.get("where", ())]
    oracle = [_asked(path) for path in made.paths]
    held = [each for each in RESOURCES if each["resourceType"] == made.resource]
    expected = [
        tuple(ask(each) for ask in oracle)
        for each in held
        if all(condition(each, {}) == [True] for condition in conditions)
    ]
    assert [row for each in held for row in made.rows(each)] == expected
    assert expected or name == "visits"  # which no mapping makes


def _asked(path: str) -> Any:
    """What the oracle finds by a path, as a column has it."""
    if path == "getResourceKey()":
        return lambda resource: resource["id"]
    before, _, kind = path.removesuffix(".first()").removesuffix(")").partition(".getReferenceKey(")
    asked = fhirpathpy.compile(f"{before}.reference" if "getReferenceKey" in path else path, R4)

    def ask(resource: dict[str, Any]) -> Any:
        found = asked(resource, {})
        if "getReferenceKey" in path:
            named = [each.split("/") for each in found]
            found = [id for of, id in named if kind in ("", of)]
        # Of nothing SQL on FHIR's join() makes an empty text, where the oracle makes nothing.
        return found[0] if found else "" if ".join(" in path else None

    return ask
