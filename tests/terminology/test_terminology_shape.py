"""Whether a code can be of its system: check digits made by arithmetic of their own, grammars by published examples."""

import json
import tarfile
from pathlib import Path
from string import ascii_lowercase, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.terminology import shaped
from fhirgw.terminology.shape import DMD, LANGUAGES, LOINC, MEDIA_TYPES, UCUM

SNOMED = "http://snomed.info/sct"
CYCLES = ((0, 1, 5, 8, 9, 4, 2, 7), (3, 6))
"""Verhoeff's permutation, as he wrote it."""


def dihedral(a: int, b: int) -> int:
    """The product in the group of a pentagon's turns (0 to 4) and flips (5 to 9)."""
    turned = (a + b) % 5 if a < 5 else (a - b) % 5
    return turned + 5 * ((a < 5) != (b < 5))


def permuted(digit: int, times: int) -> int:
    cycle = next(each for each in CYCLES if digit in each)
    return cycle[(cycle.index(digit) + times) % len(cycle)]


def verhoeff(body: str) -> str:
    """The check digit of a number: the one that brings the product to 0."""
    product = 0
    for place, digit in enumerate(reversed(body), 1):
        product = dihedral(product, permuted(int(digit), place))
    return str(next(check for check in range(10) if dihedral(product, check) == 0))


def doubled(body: str) -> str:
    """LOINC's way, in its own words: the odd digits from the right as a number, doubled, then put before the others."""
    odd, even = body[::-1][::2], body[::-1][1::2]
    total = sum(map(int, even + str(int(odd) * 2))) if body else 0
    return str(-total % 10)


ITEMS = st.from_regex(r"[1-9][0-9]{2,13}", fullmatch=True)


@given(ITEMS, st.sampled_from(["00", "10"]), st.sampled_from([SNOMED, DMD]))
def test_a_concept_has_one_check_digit(item: str, partition: str, system: str) -> None:
    right = verhoeff(item + partition)
    assert {check for check in digits if shaped(system, item + partition + check)} == {right}


@given(ITEMS, st.sampled_from(["01", "02", "03", "11", "12", "20", "99"]))
def test_descriptions_and_relationships_are_no_codes(item: str, partition: str) -> None:
    assert shaped(SNOMED, item + partition + verhoeff(item + partition)) is False


@given(ITEMS, st.data())
def test_two_neighbours_swapped_are_noticed(item: str, data: st.DataObject) -> None:
    code = item + "00" + verhoeff(item + "00")
    at = data.draw(st.integers(1, len(item) - 2))
    swapped = code[:at] + code[at + 1] + code[at] + code[at + 2 :]
    assert shaped(SNOMED, code) is True
    assert shaped(SNOMED, swapped) is (swapped == code)


@pytest.mark.parametrize("code", ["73211009", "138875005", "1127581000000103", "900000000000207008", "100005"])
def test_published_concepts_are_codes(code: str) -> None:
    assert shaped(SNOMED, code) is True


@pytest.mark.parametrize(
    "code", ["73211008", "37211009", "7321100", "0073211009", "73211009 ", "１２３", "1000000000000000009", "", "D0"]
)
def test_what_is_no_identifier_is_no_code(code: str) -> None:
    assert shaped(SNOMED, code) is False


def test_an_expression_is_as_good_as_its_identifiers() -> None:
    good = "283396008 |Incised wound| : 363698007 |Finding site| = 56459004 |Foot structure|"
    assert shaped(SNOMED, good) is True
    assert shaped(SNOMED, good.replace("56459004", "56459005")) is False
    assert shaped(SNOMED, "283396008 or something like it") is False


@given(st.from_regex(r"[1-9][0-9]{0,6}", fullmatch=True))
def test_a_loinc_code_has_one_check_digit(body: str) -> None:
    right = doubled(body)
    assert {check for check in digits if shaped(LOINC, f"{body}-{check}")} == {right}


@pytest.mark.parametrize("code", ["8867-4", "85354-9", "29463-7", "8480-6", "LA6576-8", "LP31755-9"])
def test_published_loinc_codes_are_codes(code: str) -> None:
    assert shaped(LOINC, code) is True
    assert shaped(LOINC, code.replace("-", "")) is False


@pytest.mark.parametrize(
    "unit", ["m", "kg", "mm[Hg]", "kg/m2", "10*3/uL", "{score}", "mg/(24.h)", "/min", "mL/min/{1.73_m2}", "%"]
)
def test_published_units_are_units(unit: str) -> None:
    assert shaped(UCUM, unit) is True


@pytest.mark.parametrize("unit", ["mm[Hg", "kg//m", "mg/(24.h", "per minute", "µg", "kg/", "()", "m)"])
def test_broken_units_are_none(unit: str) -> None:
    assert shaped(UCUM, unit) is False


def test_the_units_that_r4_lists_are_units(data: Path) -> None:
    with tarfile.open(data / "r4" / "hl7.fhir.r4.core-4.0.1.tgz") as archive:
        published = archive.extractfile("package/ValueSet-ucum-common.json")
        assert published is not None
        (listed,) = json.load(published)["compose"]["include"]
    units = [each["code"] for each in listed["concept"]]
    assert len(units) > 1000
    assert [each for each in units if shaped(UCUM, each) is not True] == []
    for spoilt in ("{}.", ".{}", "{})", "{}(m)", "{}//s", "{}.kilos", "q{}"):
        assert [each for each in units if shaped(UCUM, spoilt.format(each)) is not False] == [], spoilt


@pytest.mark.parametrize(
    "unit",
    [
        *("kilos", "week", "hours", "mmHg", "Kg", "KG", "sec", "lbs", "bpm", "beats/min", "celsius", "degC", "stone"),
        *("m(s)", "2m", "m^2", "m{a}{b}", "{a}m", "//m", "m..s", "(m", "m)2", "mm[hg]", "[lb]", "k%", "mwk", "m2.5."),
    ],
)
def test_what_is_no_atom_of_ucum_is_no_unit(unit: str) -> None:
    assert shaped(UCUM, unit) is False


@pytest.mark.parametrize(
    "unit",
    [
        *("wk", "h", "kg", "[lb_av]", "[stone_av]", "Cel", "[degF]", "{beats}/min", "mmol/mol", "m[H2O]", "10*-3"),
        *(
            "(mg/kg)/d",
            "B[10.nV]",
            "mg{dry}/g",
            "ug/(kg.h)",
            "1/d",
            "m2.5",
            "[iU]/mL",
            "[IU]/L",
            "dam2",
            "m2.s-1",
            "100",
        ),
    ],
)
def test_atoms_with_and_without_prefixes(unit: str) -> None:
    assert shaped(UCUM, unit) is True


@pytest.mark.parametrize("tag", ["en", "en-GB", "cy", "pa-Guru", "zh-Hant-TW", "bfi", "sgn-GB", "x-local"])
def test_registered_languages_are_languages(tag: str) -> None:
    assert shaped(LANGUAGES, tag) is True


@pytest.mark.parametrize("tag", ["xx", "english", "en_GB", "en-", "e", "en-GB-", "gb-EN-oops-toolongsubtag"])
def test_others_are_not(tag: str) -> None:
    assert shaped(LANGUAGES, tag) is False


def test_media_types() -> None:
    for good in ("text/plain", "application/fhir+json; charset=utf-8", 'text/html; title="a b"'):
        assert shaped(MEDIA_TYPES, good) is True
    for formats in ("xml", "json", "ttl"):
        assert shaped(MEDIA_TYPES, formats) is True
    for bad in ("yaml", "text", "text/", "text/plain;", "text plain/x"):
        assert shaped(MEDIA_TYPES, bad) is False


def test_identifiers_of_the_nhs() -> None:
    assert shaped("https://fhir.nhs.uk/Id/nhs-number", "9434765919") is True
    assert shaped("https://fhir.nhs.uk/Id/nhs-number", "9434765918") is False
    assert shaped("https://fhir.nhs.uk/Id/ods-organization-code", "RR8") is True
    assert shaped("https://fhir.nhs.uk/Id/ods-organization-code", "rr8") is False


def test_of_a_system_nobody_knows_only_what_no_code_is_can_be_said() -> None:
    for system in (None, "https://example.org/codes"):
        assert shaped(system, "anything at all") is None
        for code in ("", " x", "x ", "a  b", "a\tb", "a\nb"):
            assert shaped(system, code) is False


@given(
    st.text(alphabet=ascii_lowercase + digits + "-/.[]{}()|:= 一", max_size=40), st.sampled_from([SNOMED, UCUM, LOINC])
)
def test_anything_gets_an_answer(code: str, system: str) -> None:
    assert shaped(system, code) in (True, False)
