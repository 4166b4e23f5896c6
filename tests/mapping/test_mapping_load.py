"""What is refused when mappings are loaded: every fault at once, each with its file and line."""

from __future__ import annotations

from pathlib import Path

import pytest

from fhirgw.mapping.load import MappingFaults, load

SYSTEM = """\
system: toy
title: A system of record for tests
controller: Z9C01
namespace: https://fhirgw.uk/Id/toy
schema: toy
"""
CODES = """\
gender: {concept: administrative-gender, codes: {M: male, F: female}}
blurred: {concept: administrative-gender, codes: {M: male, B: male}, lost: {M: nothing, B: that it was a boy}}
"""
CONCEPT = """\
concept: administrative-gender
title: Administrative gender
system: http://hl7.org/fhir/administrative-gender
source: R4 (A)
codes: {male: Male, female: Female}
"""
PERSON = """\
table: person
key: person_id
resource: Patient
fields:
  - {column: person_id, path: "identifier.where(system = 'https://fhirgw.uk/Id/toy/person').value"}
  - {column: surname, path: "name.where(use = 'official').family"}
"""
FLAG = """\
table: alert
key: alert_id
resource: Flag
person: person_id
constants:
  - {path: status, value: active}
fields:
  - {column: alert_id, path: "identifier.where(system = 'https://fhirgw.uk/Id/toy/flag').value"}
  - {column: person_id, path: subject, reference: person}
  - {column: words, path: code.text}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mappings"
    for name, text in {
        "toy/system.yaml": SYSTEM,
        "toy/codes.yaml": CODES,
        "toy/person.yaml": PERSON,
        "toy/flag.yaml": FLAG,
        "concepts/administrative-gender.yaml": CONCEPT,
    }.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    return made


def faults(folder: Path) -> list[str]:
    with pytest.raises(MappingFaults) as caught:
        load(folder)
    return [str(fault) for fault in caught.value.faults]


def test_sound_declarations_load(folder: Path) -> None:
    system = load(folder).systems["toy"]
    assert list(system.mappings) == ["person", "flag"]
    assert system.mappings["flag"].required == ("alert_id", "person_id", "words")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("{column: x, path: nickname}", "Patient has no element nickname"),
        ("{column: x, path: birthDate}", "birthDate is a date: the codec text cannot fill it"),
        ("{column: x, path: birthDate, codec: date, format: '%d %B'}", "format %d %B: only %Y %m %d %H %M %S"),
        ("{column: x, path: birthDate, codec: dates}", "there is no codec dates"),
        ("{column: surname, path: gender, codes: gender}", "surname is written back twice"),
        ("{column: x, path: \"name.where(use = 'official').family\"}", "is written twice"),
        ("{column: x, path: \"name.where(use = 'official').given\", codec: words, codes: gender}", "say one of codec"),
        ("{column: x, path: gender, codes: sex}", "codes.yaml has no sex"),
        ("{column: x, path: gender, codes: blurred}", "blurred is not one-to-one"),
        ("{column: x, path: managingOrganization, reference: flag}", "cannot refer to a Flag"),
        ("{column: x, path: managingOrganization, reference: team}", "there is no mapping team.yaml"),
        ("{column: x, path: active, value: true}", "a value says nothing to the column"),
        ("{column: x, path: birthDate, codec: date, only: [A]}", "only says for which cells a value stands"),
        ("{column: x, path: \"name.where(use = 'official'\"}", "a bracket is not closed"),
        ("{column: x, path: \"name.where(usage = 'official').text\"}", "HumanName has no element usage"),
        ("{column: x, path: 'address[1].city'}", "select it with where(...)"),
        ("{column: x, path: gender, codes: gender, colour: red}", "colour: Extra inputs are not permitted"),
    ],
)
def test_each_fault_is_told_with_its_line(folder: Path, line: str, expected: str) -> None:
    (folder / "toy/person.yaml").write_text(f"{PERSON}  - {line}\n")
    found = [fault for fault in faults(folder) if expected in fault]
    assert found, faults(folder)
    assert any(fault.startswith("mappings/toy/person.yaml:7: ") for fault in found) or "twice" in expected


def test_all_faults_are_told_at_once(folder: Path) -> None:
    (folder / "toy/person.yaml").write_text(PERSON.replace("family", "familie"))
    (folder / "toy/flag.yaml").write_text(
        FLAG.replace("code.text", "code.words").replace("path: status", "path: state")
    )
    assert faults(folder) == [
        "mappings/toy/flag.yaml:6: Flag has no element state",
        "mappings/toy/flag.yaml:10: CodeableConcept has no element words",
        "mappings/toy/person.yaml:6: HumanName has no element familie",
    ]


def test_content_a_selector_makes_and_does_not_ask_for(folder: Path) -> None:
    line = "name.where(use = 'usual' and text := 'Known as').family"
    (folder / "toy/person.yaml").write_text(PERSON + f'  - {{column: known, path: "{line}"}}\n')
    person = load(folder).systems["toy"].mappings["person"]
    row = {"person_id": "1", "surname": None, "known": "Jo"}
    assert person.to_fhir(row)["name"] == [{"use": "usual", "text": "Known as", "family": "Jo"}]
    theirs = person.to_fhir(row) | {"name": [{"use": "usual", "family": "Jo"}]}
    assert person.to_row(theirs)["known"] == "Jo"
    assert "name" not in person.to_fhir({**row, "known": None}, onto=theirs)


LABEL = "{column: sex, path: meta.security, value: {system: 'urn:class', code: hidden}, only: [F], direction: in}"


def test_a_value_may_stand_for_some_codes_only(folder: Path) -> None:
    text = f"{PERSON}  - {{column: sex, path: gender, codes: gender}}\n  - {LABEL}\n"
    (folder / "toy/person.yaml").write_text(text)
    person = load(folder).systems["toy"].mappings["person"]
    woman = {"person_id": "1", "surname": None, "sex": "F"}
    hidden, theirs = {"system": "urn:class", "code": "hidden"}, {"system": "urn:other", "code": "R"}
    assert person.to_fhir(woman)["meta"] == {"security": [hidden]}
    both = person.to_fhir(woman) | {"meta": {"security": [theirs, hidden]}}
    assert person.to_fhir(woman, onto=both)["meta"] == {"security": [theirs, hidden]}
    assert person.to_fhir({**woman, "sex": "M"}, onto=both)["meta"] == {"security": [theirs]}
    assert all("meta" not in person.to_fhir({**woman, "sex": sex}) for sex in ("M", None))
    assert person.to_row(both)["sex"] == "F"


def test_a_value_for_a_code_that_does_not_exist_is_refused(folder: Path) -> None:
    """It would never stand, and a record go without its label."""
    text = f"{PERSON}  - {{column: sex, path: gender, codes: gender}}\n  - {LABEL.replace('[F]', '[W]')}\n"
    (folder / "toy/person.yaml").write_text(text)
    assert [fault.partition(": ")[2] for fault in faults(folder)] == [
        "only names W, which the code list gender does not have"
    ]


def test_a_mandatory_element_must_be_filled(folder: Path) -> None:
    (folder / "toy/flag.yaml").write_text(FLAG.replace("path: code.text", "path: language"))
    assert faults(folder) == ["mappings/toy/flag.yaml:7: Flag.code is mandatory: map it, or make it a constant"]


def test_a_code_that_loses_something_must_say_so(folder: Path) -> None:
    (folder / "toy/codes.yaml").write_text(CODES.replace(", B: that it was a boy", ""))
    assert faults(folder) == [
        "mappings/toy/codes.yaml:2: B shares its target with another code: name under lost what the standard cannot say"
    ]


def test_a_code_of_no_list_is_refused(folder: Path) -> None:
    (folder / "toy/codes.yaml").write_text(CODES.replace("F: female", "F: feminine"))
    assert faults(folder) == ["mappings/toy/codes.yaml:1: feminine is no code of the concept administrative-gender"]


def test_a_key_that_stands_twice_is_refused(folder: Path) -> None:
    (folder / "toy/person.yaml").write_text(PERSON.replace("resource:", "key: person_id\nresource:"))
    assert "mappings/toy/person.yaml:3: key stands here for the second time" in faults(folder)


def test_what_is_no_yaml_is_told_with_its_line(folder: Path) -> None:
    (folder / "toy/person.yaml").write_text("table: person\n  key: [\n")
    assert faults(folder)[0].startswith("mappings/toy/person.yaml:2: not readable as YAML")


def test_a_folder_without_systems_is_told(tmp_path: Path) -> None:
    (tmp_path / "mappings").mkdir()
    assert faults(tmp_path / "mappings") == ["mappings/system.yaml:1: no folder here holds a system.yaml"]


def test_a_changed_declaration_changes_its_fingerprint(folder: Path) -> None:
    before = load(folder).systems["toy"].mappings
    (folder / "toy/flag.yaml").write_text(FLAG.replace("active", "inactive"))
    after = load(folder).systems["toy"].mappings
    assert before["flag"].fingerprint != after["flag"].fingerprint
    assert before["person"].fingerprint == after["person"].fingerprint
