"""What is in a value set, judged by the published expansions, and by hand for what R4 and UK Core say."""

import json
import runpy
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.terminology import membership, shaped
from fhirgw.terminology.code_system import code_system
from fhirgw.terminology.definitions import carried, carry, definition
from fhirgw.terminology.extent import Extent, Part, both, either, without
from fhirgw.terminology.value_set import composed, value_set_of
from tests.terminology.conftest import REPOSITORY

R4 = "http://hl7.org/fhir/ValueSet/"
UK = "https://fhir.hl7.org.uk/ValueSet/UKCore-"
V3 = "http://terminology.hl7.org/CodeSystem/v3-"
V2 = "http://terminology.hl7.org/CodeSystem/v2-"
SNOMED = "http://snomed.info/sct"


def core(data: Path, kind: str) -> Iterator[dict[str, Any]]:
    with tarfile.open(data / "r4" / "hl7.fhir.r4.core-4.0.1.tgz") as archive:
        for member in archive:
            if member.name.startswith(f"package/{kind}-") and (file := archive.extractfile(member)):
                yield json.load(file)


@pytest.mark.parametrize(
    ("value_set", "system", "code", "answer"),
    [
        (f"{R4}administrative-gender", "http://hl7.org/fhir/administrative-gender", "male", True),
        (f"{R4}administrative-gender|4.0.1", "http://hl7.org/fhir/administrative-gender", "male", True),
        (f"{R4}administrative-gender", None, "male", True),
        (f"{R4}administrative-gender", None, "Male", False),
        (f"{R4}administrative-gender", f"{V3}AdministrativeGender", "M", False),
        (f"{R4}administrative-gender", "https://example.org", "male", False),
        (f"{R4}episode-of-care-status", None, "onhold", True),
        (f"{R4}episode-of-care-status", None, "on-hold", False),
        (f"{R4}task-status", None, "on-hold", True),
        (f"{R4}all-languages", "urn:ietf:bcp:47", "cy", True),
        (f"{R4}all-languages", None, "cy-GB", True),
        (f"{R4}all-languages", None, "welsh", False),
        (f"{R4}mimetypes", None, "application/pdf", True),
        (f"{R4}mimetypes", None, "pdf", False),
        (f"{R4}units-of-time", "http://unitsofmeasure.org", "wk", True),
        (f"{R4}units-of-time", "http://unitsofmeasure.org", "week", False),
        (f"{UK}BirthSex", f"{V3}AdministrativeGender", "UN", True),
        (f"{UK}BirthSex", f"{V3}NullFlavor", "UNK", True),
        (f"{UK}BirthSex", f"{V3}NullFlavor", "NI", False),
        (f"{UK}BirthSex", "http://hl7.org/fhir/administrative-gender", "male", False),
        (f"{UK}PersonRelationshipType", f"{V3}RoleCode", "MTH", True),
        (f"{UK}PersonRelationshipType", f"{V3}RoleCode", "_PersonalRelationshipRoleType", False),
        (f"{UK}PersonRelationshipType", f"{V2}0131", "N", True),
        (f"{UK}PersonRelationshipType", f"{V2}0131", "O", False),
        (
            f"{UK}PersonRelationshipType",
            "https://fhir.hl7.org.uk/CodeSystem/UKCore-AdditionalPersonRelationshipRole",
            "Carer",
            True,
        ),
        (f"{UK}ConditionCode", SNOMED, "73211009", None),
        (f"{UK}ConditionCode", SNOMED, "73211008", False),
        (f"{UK}ConditionCode", "http://hl7.org/fhir/sid/icd-10", "E11", False),
        (f"{UK}ConditionCode", None, "73211009", None),
        (
            "https://fhirgw.uk/fhir/ValueSet/client-type",
            "https://fhirgw.uk/fhir/CodeSystem/client-type",
            "service-user",
            True,
        ),
        ("https://fhirgw.uk/fhir/ValueSet/client-type", "https://fhirgw.uk/fhir/CodeSystem/client-type", "pet", False),
        ("http://terminology.hl7.org/ValueSet/v3-NullFlavor", f"{V3}NullFlavor", "PINF", True),
        ("https://example.org/ValueSet/nobody-has-it", SNOMED, "73211009", None),
    ],
)
def test_what_is_in_it(value_set: str, system: str | None, code: str, answer: bool | None) -> None:
    assert membership(value_set, system, code) is answer


def test_it_agrees_with_every_published_expansion(data: Path) -> None:
    compared = 0
    for path in sorted((data / "ukcore-stu2" / "valuesets").glob("*.json")):
        published = json.loads(path.read_text())
        if "contains" not in published.get("expansion", {}):
            continue
        value_set = value_set_of(published["url"])
        assert value_set is not None, published["url"]
        listed = {(each["system"], each["code"]) for each in published["expansion"]["contains"]}
        ours = {(system, code) for system, part in value_set.extent.parts.items() for code in part.codes}
        if value_set.extent.undecided:
            assert ours <= listed
            assert {value_set.has(*each) for each in listed} <= {True, None}
        else:
            assert ours == listed, published["url"]
            compared += 1
    assert compared > 35


def test_every_code_that_r4_lists_has_the_shape_of_its_system(data: Path) -> None:
    judged = 0
    for value_set in core(data, "ValueSet"):
        for include in value_set.get("compose", {}).get("include", ()):
            for each in include.get("concept", ()):
                answer = shaped(include["system"], each["code"])
                assert answer is not False, (value_set["url"], include["system"], each["code"])
                judged += answer is True
    assert judged > 10_000


def test_every_value_set_that_r4_binds_what_is_held_to_is_carried(data: Path) -> None:
    published = {each["url"] for each in core(data, "ValueSet")}
    for structure in core(data, "StructureDefinition"):
        if structure["type"] not in ("Patient", "Task", "Appointment", "Encounter", "Consent", "Flag", "Observation"):
            continue
        for element in structure["snapshot"]["element"]:
            binding = element.get("binding", {})
            url = binding.get("valueSet", "").partition("|")[0]
            if binding.get("strength") in ("required", "extensible") and url in published:
                assert definition("ValueSet", url), url


def test_the_table_is_what_the_script_derives(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "profiles")
    runpy.run_path(str(REPOSITORY / "profiles" / "derive_terminology.py"))["main"](data, tmp_path)
    kept = REPOSITORY / "fhirgw" / "fhir" / "facts" / "terminology.json"
    derived = (tmp_path / "terminology.json").read_bytes()
    assert derived == kept.read_bytes()
    assert len(derived) < 1_000_000


def test_codes_under_a_code() -> None:
    roles = code_system(f"{V3}RoleCode")
    assert roles is not None
    assert {"MTH", "FTH", "NMTH"} < roles.descendants("PRN")
    assert {"PRN", "FAMMEMB", "_PersonalRelationshipRoleType"} <= roles.ancestors("MTH")
    assert roles.subsumes("PRN", "MTH") == "subsumes"
    assert roles.subsumes("MTH", "PRN") == "subsumed-by"
    assert roles.subsumes("MTH", "FTH") == "not-subsumed"
    assert roles.subsumes("MTH", "MTH") == "equivalent"


def system(name: str, *codes: Any, **others: Any) -> dict[str, Any]:
    concepts = [each if isinstance(each, dict) else {"code": each} for each in codes]
    known = {"resourceType": "CodeSystem", "id": name, "url": f"urn:test:{name}", "status": "draft"}
    return known | {"content": "complete", "concept": concepts} | others


def value_set(name: str, *include: dict[str, Any], exclude: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    known = {"resourceType": "ValueSet", "id": name, "url": f"urn:test:set:{name}", "status": "draft"}
    return known | {"compose": {"include": list(include), "exclude": list(exclude)}}


ANIMALS = system(
    "animals",
    {
        "code": "mammal",
        "concept": [{"code": "dog"}, {"code": "cat", "property": [{"code": "legs", "valueInteger": 4}]}],
    },
    {"code": "bird", "display": "A bird", "concept": [{"code": "hen"}]},
    {
        "code": "pet",
        "property": [{"code": "child", "valueCode": "cat"}, {"code": "notSelectable", "valueBoolean": True}],
    },
)
SHOUTED = system("shouted", "Yes", "No", caseSensitive=False)
PARTIAL = system("partial", "known", content="fragment")


@pytest.fixture(scope="module", autouse=True)
def carried_too() -> None:
    carry([ANIMALS, SHOUTED, PARTIAL])
    carry([value_set("itself", {"valueSet": ["urn:test:set:itself"]}, {"system": "urn:test:animals"})])
    carry([value_set("dogs", {"system": "urn:test:animals", "concept": [{"code": "dog"}]})])


def codes(*filters: tuple[str, str, str]) -> set[str] | None:
    include = {
        "system": "urn:test:animals",
        "filter": [dict(zip(("property", "op", "value"), each, strict=True)) for each in filters],
    }
    part = composed(value_set("filtered", include)).part("urn:test:animals")
    return None if part.rest is None else set(part.codes)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([("concept", "is-a", "mammal")], {"mammal", "dog", "cat"}),
        ([("concept", "descendent-of", "mammal")], {"dog", "cat"}),
        ([("concept", "is-a", "pet")], {"pet", "cat"}),
        ([("concept", "is-not-a", "mammal")], {"bird", "hen", "pet"}),
        ([("concept", "generalizes", "cat")], {"cat", "mammal", "pet"}),
        ([("concept", "is-a", "mammal"), ("concept", "is-a", "pet")], {"cat"}),
        ([("parent", "=", "mammal")], {"dog", "cat"}),
        ([("legs", "=", "4")], {"cat"}),
        ([("legs", "exists", "true")], {"cat"}),
        ([("code", "in", "dog, hen,horse")], {"dog", "hen"}),
        ([("code", "not-in", "dog,cat,mammal,pet")], {"bird", "hen"}),
        ([("code", "regex", "[a-d].*")], {"dog", "cat", "bird"}),
        ([("display", "=", "A bird")], {"bird"}),
        ([("concept", "is-a", "horse")], None),
        ([("wings", "=", "2")], None),
        ([("constraint", "=", "<< 123")], None),
    ],
)
def test_filters(filters: list[tuple[str, str, str]], expected: set[str] | None) -> None:
    assert codes(*filters) == expected


def test_what_does_not_mind_case() -> None:
    whole = {"system": "urn:test:shouted"}
    carry([value_set("answers", whole)])
    assert membership("urn:test:set:answers", "urn:test:shouted", "YES") is True
    assert membership("urn:test:set:answers", "urn:test:shouted", "maybe") is False


def test_of_a_fragment_only_what_is_there_is_known() -> None:
    carry([value_set("parts", {"system": "urn:test:partial"})])
    assert membership("urn:test:set:parts", "urn:test:partial", "known") is True
    assert membership("urn:test:set:parts", "urn:test:partial", "another") is None


def test_a_value_set_within_itself_ends() -> None:
    assert membership("urn:test:set:itself", "urn:test:animals", "dog") is True
    assert membership("urn:test:set:itself", "urn:test:animals", "horse") is None


def test_imports_are_all_together() -> None:
    carry([value_set("tame", {"system": "urn:test:animals", "valueSet": ["urn:test:set:dogs"]})])
    assert membership("urn:test:set:tame", "urn:test:animals", "dog") is True
    assert membership("urn:test:set:tame", "urn:test:animals", "cat") is False
    carry([value_set("strange", {"system": "urn:test:animals", "valueSet": ["urn:test:set:nobody-has-it"]})])
    assert membership("urn:test:set:strange", "urn:test:animals", "dog") is None
    assert membership("urn:test:set:strange", "urn:test:animals", "horse") is False


def test_all_of_a_system_may_be_left_out() -> None:
    carry([value_set("none", {"system": SNOMED}, exclude=({"system": SNOMED},))])
    assert membership("urn:test:set:none", SNOMED, "73211009") is False
    carry([value_set("nearly", {"system": SNOMED}, exclude=({"system": SNOMED, "concept": [{"code": "73211009"}]},))])
    assert membership("urn:test:set:nearly", SNOMED, "73211009") is False
    assert membership("urn:test:set:nearly", SNOMED, "138875005") is None


PARTS = st.builds(
    Part,
    st.dictionaries(st.sampled_from("abc"), st.none()),
    st.dictionaries(st.sampled_from("def"), st.sampled_from([False, None])),
    st.sampled_from([False, None]),
)
EXTENTS = st.builds(Extent, st.dictionaries(st.sampled_from("XY"), PARTS), st.sampled_from([False, None]))


@given(EXTENTS, EXTENTS, st.sampled_from([either, both, without]), st.sampled_from("XYZ"), st.sampled_from("abcdefg"))
def test_joining_answers_code_by_code(a: Extent, b: Extent, rule: Any, where: str, code: str) -> None:
    assert a.joined(rule, b).part(where).has(code) is rule(a.part(where).has(code), b.part(where).has(code))


def test_not_knowing_is_never_a_no() -> None:
    assert [either(None, each) for each in (True, False, None)] == [True, None, None]
    assert [both(None, each) for each in (True, False, None)] == [None, False, None]
    assert [without(each, None) for each in (True, False, None)] == [None, False, None]
    assert [without(None, each) for each in (True, False, None)] == [False, None, None]


def test_ids_and_urls_are_of_one_definition_each() -> None:
    for kind in ("CodeSystem", "ValueSet", "StructureDefinition"):
        ids = [each["id"] for each in carried(kind).values()]
        assert len(ids) == len(set(ids)), kind
        assert len(ids) > 25


def test_what_is_carried_besides_replaces_nothing_and_has_an_id() -> None:
    carry([system("x", "other") | {"url": "http://hl7.org/fhir/administrative-gender"}])
    assert membership(f"{R4}administrative-gender", None, "male") is True
    assert membership(f"{R4}administrative-gender", None, "other") is True
    known = [{"resourceType": "CodeSystem", "url": f"urn:test:same{n}", "id": "post"} for n in (1, 2)]
    carry([*known, {"resourceType": "CodeSystem", "url": "urn:test:none"}, {"resourceType": "Patient", "url": "urn:x"}])
    ids = [each["id"] for each in carried("CodeSystem").values()]
    assert len(ids) == len(set(ids))
    assert carried("CodeSystem")["https://fhirgw.uk/fhir/CodeSystem/post"]["id"] == "post"
