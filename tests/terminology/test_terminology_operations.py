"""Laws of the operations, over everything that is carried."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw import shipped
from fhirgw.fhir.issue import FhirError
from fhirgw.mapping.concept_map import definitions
from fhirgw.mapping.load import load
from fhirgw.terminology.definitions import KINDS, carried, carry
from fhirgw.terminology.expand import expand
from fhirgw.terminology.inputs import Inputs, from_pairs, from_parameters
from fhirgw.terminology.operations import EXPANSION, OPERATIONS, TRANSLATION, VALIDATE_IN_SET, Operation
from fhirgw.terminology.translate import translate
from fhirgw.terminology.validate_code import in_set
from fhirgw.terminology.value_set import value_set_of
from fhirgw.validation import validate

NOW = "2026-03-01T09:00:00+00:00"


@pytest.fixture(scope="module", autouse=True)
def mapped() -> None:
    known = load(shipped.path("mappings"))
    carry(definitions([(name, each.codes.values()) for name, each in known.systems.items()], known.concepts.values()))


def asked(operation: Operation, **given: Any) -> Inputs:
    return from_pairs(operation.name, operation.takes, [(name, str(value)) for name, value in given.items()])


@cache
def listable() -> list[str]:
    return [
        url
        for url in carried("ValueSet")
        if (found := value_set_of(url)) and not found.extent.undecided and found.extent.elsewhere is False
    ]


def expanded(url: str, **given: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = expand(asked(EXPANSION, url=url, **given), NOW)["expansion"].get("contains", [])
    return found


def test_every_member_of_every_expansion_validates() -> None:
    members = 0
    for url in listable():
        for each in expanded(url):
            verdict = in_set(asked(VALIDATE_IN_SET, url=url, system=each["system"], code=each["code"]))
            assert verdict.result is True, (url, each)
            members += 1
    assert members > 5_000


@given(st.data())
def test_pages_make_the_whole(data: st.DataObject) -> None:
    url = data.draw(st.sampled_from(listable()))
    count = data.draw(st.integers(1, 40))
    whole = expanded(url)
    pages = [expanded(url, count=count, offset=at) for at in range(0, len(whole), count)][:60]
    assert [each for page in pages for each in page] == whole[: 60 * count]
    assert all(len(page) <= count for page in pages)


@given(st.data())
def test_a_filter_keeps_what_it_is_found_in(data: st.DataObject) -> None:
    url = data.draw(st.sampled_from(listable()))
    whole = expanded(url)
    word = data.draw(st.text("abcdeginorstu", min_size=1, max_size=3))
    kept = [each for each in whole if word in each["code"].casefold() or word in each.get("display", "").casefold()]
    assert expanded(url, filter=word) == kept


def test_everything_carried_is_fhir() -> None:
    for kind in KINDS:
        for url, definition in carried(kind).items():
            assert [each for each in validate(definition) if each.severity in ("error", "fatal")] == [], url
    assert [each.severity for each in validate({"resourceType": "CodeSystem", "concept": []})].count("error") > 1


def told(answer: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for each in answer["parameter"]:
        if each["name"] == "match":
            parts = {part["name"]: part for part in each["part"]}
            coding = parts["concept"]["valueCoding"]
            yield coding["system"], coding["code"], parts["equivalence"]["valueCode"]


def test_translating_back_comes_to_where_one_was() -> None:
    turned = {"wider": "narrower", "equivalent": "equivalent", "relatedto": "relatedto"}
    pairs = 0
    for url, definition in carried("ConceptMap").items():
        for group in definition["group"]:
            for element in group["element"]:
                there = list(told(translate(asked(TRANSLATION, url=url, system=group["source"], code=element["code"]))))
                assert there, (url, element)
                for system, code, equivalence in there:
                    back = asked(TRANSLATION, url=url, system=system, code=code, reverse="true")
                    assert (group["source"], element["code"], turned[equivalence]) in set(told(translate(back)))
                    pairs += 1
    assert pairs > 800


def test_every_source_of_a_wider_target_is_told_why_or_shares_it() -> None:
    for definition in carried("ConceptMap").values():
        for group in definition["group"]:
            targets = [target["code"] for element in group["element"] for target in element["target"]]
            for element in group["element"]:
                for target in element["target"]:
                    if target["equivalence"] == "wider":
                        assert "comment" in target or targets.count(target["code"]) > 1


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=2),
    st.sampled_from(
        ["http://snomed.info/sct", "http://hl7.org/fhir/administrative-gender", "male", "2026-02-30", "\0"]
    ),
    st.dictionaries(
        st.sampled_from(["system", "code", "coding", "display", "version"]), st.text(max_size=5), max_size=3
    ),
    st.just({"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}),
    st.just({"system": "http://loinc.org", "code": "8867-4"}),
)
KEYS = st.sampled_from(
    [
        "valueUri",
        "valueCode",
        "valueString",
        "valueCoding",
        "valueCodeableConcept",
        "valueBoolean",
        "valueInteger",
        "valueDateTime",
        "resource",
        "part",
    ]
)
NAMES = st.sampled_from(sorted({name for each in OPERATIONS for name in each.takes} | {"else"}))
PARTS = st.one_of(
    VALUES, st.builds(lambda name, found: {"name": name} | found, NAMES, st.dictionaries(KEYS, VALUES, max_size=2))
)


@given(st.sampled_from(OPERATIONS), st.lists(PARTS, max_size=4))
def test_whatever_is_posted_is_read_or_refused(operation: Operation, parts: list[Any]) -> None:
    body = {"resourceType": "Parameters", "parameter": parts}
    try:
        inputs = from_parameters(operation.name, operation.takes, body)
    except FhirError as refusal:
        assert refusal.status == 400
    else:
        assert all(name in operation.takes for part in parts for name in [part["name"]] if name in inputs)


@given(st.sampled_from(OPERATIONS), st.lists(st.tuples(NAMES, st.text(max_size=12)), max_size=4))
def test_whatever_stands_in_an_address_is_read_or_refused(operation: Operation, pairs: list[tuple[str, str]]) -> None:
    try:
        from_pairs(operation.name, operation.takes, pairs)
    except FhirError as refusal:
        assert refusal.status == 400
        assert not any(value in str(refusal) for _, value in pairs if len(value) > 8)
