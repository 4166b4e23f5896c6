"""The tables of the standard: derived from the published definitions, and true of the published examples."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from fhirgw.fhir.canonical import decode
from fhirgw.fhir.elements import Binding, Element, children, codes, element, is_primitive, is_resource, kind, step
from fhirgw.fhir.facts import table
from tests.fhir.conftest import REPOSITORY

VALUE_SET = "http://hl7.org/fhir/ValueSet/"


def test_the_tables_are_what_the_script_derives(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(REPOSITORY / "profiles" / "derive.py"))["main"](data, tmp_path)
    derived = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_bytes() for path in (REPOSITORY / "fhirgw" / "fhir" / "facts").glob("*.json")}
    assert derived == {name: kept[name] for name in derived}  # others have a script and a test of their own
    assert sum(map(len, derived.values())) < 700_000
    assert "elements" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "Task.status",
            Element("status", "code", "code", 1, 1, binding=Binding("required", f"{VALUE_SET}task-status")),
        ),
        ("Task.restriction", Element("restriction", "BackboneElement", "Task.restriction", 0, 1)),
        ("Task.restriction.period.start", Element("start", "dateTime", "dateTime", 0, 1)),
        ("Task.for", Element("for", "Reference", "Reference", 0, 1, targets=("Resource",))),
        ("Questionnaire.item.item.item", Element("item", "BackboneElement", "Questionnaire.item", 0, None)),
        (
            "Patient.deceasedDateTime",
            Element("deceasedDateTime", "dateTime", "dateTime", 0, 1, ("deceasedBoolean", "deceasedDateTime")),
        ),
        ("Patient.name.extension", Element("extension", "Extension", "Extension", 0, None)),
        ("Patient._birthDate", Element("_birthDate", "Element", "Element", 0, 1)),
        ("Patient._birthDate.extension.url", Element("url", "uri", "uri", 1, 1)),
        ("Patient.name._given", Element("_given", "Element", "Element", 0, None)),
        ("Patient.id", Element("id", "id", "id", 0, 1)),
        ("Patient.contained", Element("contained", "Resource", "Resource", 0, None)),
        ("Task.meta.profile", Element("profile", "canonical", "canonical", 0, None, targets=("StructureDefinition",))),
        ("Dosage.doseAndRate.doseQuantity.value", Element("value", "decimal", "decimal", 0, 1)),
    ],
)
def test_an_element_by_its_path(path: str, expected: Element) -> None:
    assert element(path) == expected


@pytest.mark.parametrize(
    "path", ["Task.nope", "Task.value", "Task.deceased[x]", "Nope.status", "Task._for", "Task.status.nope", "Task"]
)
def test_what_is_no_element(path: str) -> None:
    assert element(path) is None


def test_every_property_of_every_example_is_an_element(data: Path) -> None:
    known = 0
    for path in sorted((data / "r4-examples").glob("*.json")):
        resource = decode(path.read_bytes())
        known += walked(resource["resourceType"], resource, path.name)
    assert known > 10_000


def walked(context: str, value: dict[str, Any], place: str) -> int:
    """How many properties lie below, each of which must be known, and a list where it says it is one."""
    count = 0
    for name, inner in value.items():
        if name == "resourceType":
            continue
        found = step(context, name)
        assert found is not None, f"{place}: {context}.{name}"
        assert isinstance(inner, list) == found.is_list, f"{place}: {context}.{name}"
        for each in inner if isinstance(inner, list) else [inner]:
            assert each is None or isinstance(each, dict) != found.is_primitive, f"{place}: {context}.{name}"
            if isinstance(each, dict):
                below = each["resourceType"] if found.type == "Resource" else found.inner
                count += walked(below, each, f"{place}: {context}.{name}")
        count += 1
    return count


def test_every_element_leads_somewhere() -> None:
    contexts, seen = list(table("elements")), set[str]()
    while contexts:
        context = contexts.pop()
        if context not in seen:
            seen.add(context)
            below = children(context).values()
            assert all(kind(each.inner.partition(".")[0]) for each in below), context
            contexts += [each.inner for each in below]
    assert len(seen) > 600


def test_codes_of_the_required_value_sets() -> None:
    assert codes(f"{VALUE_SET}administrative-gender|4.0.1") == {
        "http://hl7.org/fhir/administrative-gender": {"male", "female", "other", "unknown"}
    }
    episode = codes("episode-of-care-status")
    assert episode is not None and "onhold" in episode["http://hl7.org/fhir/episode-of-care-status"]
    task = codes("task-status")
    assert task is not None and {"on-hold", "completed"} < task["http://hl7.org/fhir/task-status"]
    assert codes("languages") is None


def test_kinds_of_types() -> None:
    assert is_resource("Task") and not is_resource("Period") and not is_resource("Nope")
    assert is_primitive("code") and is_primitive("xhtml") and not is_primitive("CodeableConcept")
