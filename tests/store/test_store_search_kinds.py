"""Numbers, composites, dates that repeat, modifiers, chains of several levels, `_has` and every order: a search finds
what a naive reading of R4 finds, however it is cut into pages."""

import re
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.parameters import supported
from fhirgw.fhir.query import SEARCHED, SORTABLE, Query
from fhirgw.store.database import Readers
from fhirgw.store.search import search
from tests.conftest import NewDatabase
from tests.put import put, put_all, reading
from tests.store.kinds_world import CITIES, CODES, DATES, NUMBERS, TEXTS, UCUM, URLS, World, world
from tests.store.test_store_search import EVERYTHING, Pairs, ids, page, pages

OBSERVER = Permit("Z99", "direct-care", (Scope.parse("system/Observation.rs"),))


@pytest.fixture(scope="module")
def known() -> World:
    return World(world(seed=3))


@pytest.fixture(scope="module")
async def searched(new_database: NewDatabase) -> AsyncIterator[Readers]:
    async with new_database() as url, reading(url) as pool:
        await put_all(url, world(seed=3))
        yield pool


def joined(*parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map("".join)


def several(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, min_size=1, max_size=2).map(",".join)


prefixes = st.sampled_from(("", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"))
units = st.sampled_from(("", "", f"|{UCUM}|mg", "|other|kg", "||mg", "||grams", f"|{UCUM}|"))
quantities = joined(prefixes, st.sampled_from(NUMBERS), units)
codes = st.sampled_from((*CODES, "s|bp", "s|kg", "|bp", "s|", "none"))
texts = st.sampled_from((*TEXTS, "blo", "BLOOD PRESS", "we", "pressure"))
booleans = st.sampled_from(("true", "false"))
dates = joined(prefixes, st.sampled_from(DATES))
dollar = st.just("$")


def asked(names: str, values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, str]]:
    return st.tuples(st.sampled_from(names.split()), values)


OBSERVATION = st.one_of(
    asked("value-quantity component-value-quantity combo-value-quantity", several(quantities)),
    asked(
        "code-value-quantity component-code-value-quantity combo-code-value-quantity",
        several(joined(codes, dollar, quantities)),
    ),
    asked(
        "code-value-concept component-code-value-concept combo-code-value-concept",
        several(joined(codes, dollar, codes)),
    ),
    asked("code-value-string", joined(codes, dollar, texts)),
    asked("code component-code combo-code code:not combo-code:not", several(codes)),
    asked("code:text combo-code:text", several(texts)),
    asked("subject:missing performer:missing value-quantity:missing combo-value-quantity:missing", booleans),
    asked("code:missing component-code:missing component-value-quantity:missing", booleans),
    asked("subject:Patient.general-practitioner:Organization.name", st.sampled_from(("Practice 3", "practice", "x"))),
    asked("subject:Patient.general-practitioner:Organization.partof.partof.name", st.just("Practice 0")),
    asked("subject:Patient._has:Encounter:patient:length", quantities),
)
PATIENT = st.one_of(
    asked("family given address-city", several(st.sampled_from(("a", "Elm", "oak", "b", "leeds", *CITIES)))),
    asked("family:missing given:missing address-city:missing identifier:missing birthdate:missing", booleans),
    asked("general-practitioner:missing", booleans),
    asked("identifier:of-type", several(st.sampled_from(("t|m|0", "t|n|1", "t|m|2", "u|m|0")))),
    asked("identifier:text", several(texts)),
    asked("_has:Observation:patient:code _has:Observation:subject:combo-code", several(codes)),
    asked("_has:Observation:patient:value-quantity", quantities),
    asked("_has:Observation:patient:performer.partof.name", st.sampled_from(("Practice 0", "Practice 1"))),
)
ENCOUNTER = st.one_of(
    asked("location-period", several(dates)),
    asked(
        "length", several(joined(prefixes, st.sampled_from(("30", "45", "60", "50")), st.sampled_from(("", "||min"))))
    ),
    asked("location-period:missing length:missing", booleans),
    asked("patient._has:Observation:patient:code", codes),
)
ORGANIZATION = st.one_of(
    asked("_has:Observation:performer:code _has:Observation:performer:combo-code", codes),
    asked("_has:Patient:general-practitioner:_has:Observation:patient:code", codes),
    asked("_has:Organization:partof:_has:Patient:general-practitioner:family", st.sampled_from(("ash", "oak"))),
)
QUESTIONNAIRE = st.one_of(
    asked("url:below", st.sampled_from(("https://x.uk/Q", "https://x.uk/Q/", "https://x.uk", "https://x.uk/Q/one"))),
    asked("url:above", st.sampled_from(("https://x.uk/Q/one/two/three", "https://x.uk/Q/one", "https://x.uk/Quiz/1"))),
)
SORTS = {
    "Observation": (
        *("value-quantity", "combo-value-quantity", "_lastUpdated", "_id"),
        *("code", "combo-code", "subject", "patient", "performer"),
    ),
    "Patient": (
        *("family", "given", "address-city", "birthdate", "_lastUpdated", "_id", "identifier", "general-practitioner"),
    ),
    "Encounter": ("location-period", "length", "_lastUpdated", "patient"),
    "Organization": ("name", "_id", "partof"),
    "Questionnaire": ("_id", "url"),
}
BY_TYPE = {
    "Observation": OBSERVATION,
    "Patient": PATIENT,
    "Encounter": ENCOUNTER,
    "Organization": ORGANIZATION,
    "Questionnaire": QUESTIONNAIRE,
}


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, Pairs]:
    kind = draw(st.sampled_from((*BY_TYPE, "Observation", "Patient")))
    pairs = draw(st.lists(BY_TYPE[kind], min_size=1, max_size=2))
    keys = st.sampled_from(SORTS[kind]).flatmap(lambda key: st.sampled_from((key, f"-{key}")))
    sort = draw(st.lists(keys, max_size=2, unique_by=lambda key: key.removeprefix("-")))
    return kind, [*pairs, ("_sort", ",".join(sort))] if sort else pairs


@settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(request=requests(), count=st.integers(1, 25))
async def test_every_search_finds_what_a_naive_one_finds(
    request: tuple[str, Pairs], count: int, searched: Readers, known: World
) -> None:
    kind, pairs = request
    expected = known.find(kind, pairs)
    whole = await page(searched, kind, [*pairs, ("_count", "1000")])
    assert ids(whole.matches) == expected
    assert whole.total == len(expected)
    cut = [one async for one in pages(searched, kind, [*pairs, ("_count", str(count))])]
    assert [id for one in cut for id in ids(one.matches)] == expected


@pytest.mark.parametrize("kind", BY_TYPE)
def test_the_oracle_tells_requests_apart(kind: str, known: World) -> None:
    """The property would hold of two searches that find nothing: each kind of request finds something, and not all."""
    every = len([key for key in known.resources if key[0] == kind])
    telling = {
        "Observation": [("combo-code-value-quantity", "bp$lt100"), ("code:text", "blo"), ("code-value-string", "bp$w")],
        "Patient": [("_has:Observation:patient:code", "bp"), ("identifier:of-type", "t|m|0")],
        "Encounter": [("location-period", "sa2025-03-30"), ("patient._has:Observation:patient:code", "kg")],
        "Organization": [("_has:Organization:partof:_has:Patient:general-practitioner:family", "oak")],
        "Questionnaire": [("url:below", URLS[1]), ("url:above", URLS[2])],
    }
    for pair in telling[kind]:
        assert 0 < len(known.find(kind, [pair])) < every, pair


PEOPLE = (
    {
        "telecom": [{"system": "email", "value": "a@x"}, {"system": "phone", "value": "3"}],
        "active": True,
        "address": [{"use": "work"}],
    },
    {"telecom": [{"system": "phone", "value": "2"}, {"system": "phone", "value": "9"}], "deceasedBoolean": True},
    {
        "telecom": [{"system": "email", "value": "b@x"}],
        "deceasedDateTime": "2020",
        "active": False,
        "address": [{"use": "temp"}, {"use": "home"}],
    },
    {"telecom": [{"value": "0"}], "deceasedBoolean": False, "gender": "other", "active": True},
)
"""Each with an id by its place: a, b, c, d."""


@pytest.fixture(scope="module")
async def few(new_database: NewDatabase) -> AsyncIterator[Readers]:
    async with new_database() as url, reading(url) as pool:
        await put(url, *({"resourceType": "Patient", "id": id, **one} for id, one in zip("abcd", PEOPLE, strict=True)))
        yield pool


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("phone", "bacd"),
        ("-phone", "bacd"),
        ("email", "acbd"),
        ("telecom", "dbac"),
        ("deceased", "adbc"),
        ("-deceased", "bcad"),
        ("active", "cadb"),
        ("-active,-_id", "dacb"),
        ("gender", "dabc"),
        ("address-use", "cabd"),
        ("-address-use", "acbd"),
    ],
)
async def test_what_is_sorted_by_is_what_the_parameter_looks_at(sort: str, expected: str, few: Readers) -> None:
    found = [one async for one in pages(few, "Patient", [("_sort", sort), ("_count", "1")])]
    assert "".join(each.id for one in found for each in one.matches) == expected


@pytest.mark.parametrize("kind", SEARCHED)
async def test_every_parameter_that_has_an_order_is_sorted_by(kind: str, few: Readers) -> None:
    for name in [each.name for each in supported(kind).values() if each.kind in SORTABLE]:
        for sort in (name, f"-{name}"):
            found = await page(few, kind, [("_sort", sort)])
            assert len(found.matches) == (4 if kind == "Patient" else 0), sort


ROLE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
KIN = {"ann": "MTH", "bob": "NFTH", "cat": "CHILD", "dan": "PRN", "eve": "FRND", "fay": None}
"""Who somebody's related person is to them: R4 has MTH and FTH under PRN, NFTH under FTH, and PRN under FAMMEMB."""


@pytest.fixture(scope="module")
async def kin(new_database: NewDatabase) -> AsyncIterator[Readers]:
    async with new_database() as url, reading(url) as pool:
        made = {"resourceType": "RelatedPerson", "patient": {"reference": "Patient/p"}}
        told = {
            id: {"relationship": [{"coding": [{"system": ROLE, "code": code}]}]} if code else {"gender": "female"}
            for id, code in KIN.items()
        }
        await put(url, *({**made, "id": id, **one} for id, one in told.items()))
        await put(url, {**made, "id": "gus", "relationship": [{"coding": [{"system": "other", "code": "MTH"}]}]})
        await put(url, {"resourceType": "Patient", "id": "p"})
        yield pool


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("relationship:below", f"{ROLE}|PRN", "ann bob dan"),
        ("relationship:below", f"{ROLE}|FAMMEMB", "ann bob cat dan"),
        ("relationship:below", f"{ROLE}|MTH,{ROLE}|FRND", "ann eve"),
        ("relationship:above", f"{ROLE}|MTH", "ann dan"),
        ("relationship:above", f"{ROLE}|NMTH", "ann dan"),
        ("relationship:in", "http://hl7.org/fhir/ValueSet/relatedperson-relationshiptype", "ann bob cat dan eve"),
        ("relationship:not-in", "http://hl7.org/fhir/ValueSet/relatedperson-relationshiptype", "fay gus"),
        ("gender:in", "http://hl7.org/fhir/ValueSet/administrative-gender", "fay"),
        ("gender:in", "ValueSet/administrative-gender", "fay"),
        ("gender:not-in", "http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1", "ann bob cat dan eve gus"),
        ("gender:below", "female", "fay"),
    ],
)
async def test_codes_by_value_set_and_hierarchy(name: str, value: str, expected: str, kin: Readers) -> None:
    assert ids((await page(kin, "RelatedPerson", [(name, value)])).matches) == expected.split()
    cut = [one async for one in pages(kin, "RelatedPerson", [(name, value), ("_count", "2")])]
    assert [each.id for one in cut for each in one.matches] == expected.split()
    through = await page(kin, "Patient", [(f"_has:RelatedPerson:patient:{name}", value)])
    assert ids(through.matches) == ["p"]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("relationship:in", "http://example.org/ValueSet/none", "This ValueSet is not carried here"),
        ("relationship:in", "ValueSet/none", "This ValueSet is not carried here"),
        ("gender:in", "http://hl7.org/fhir/ValueSet/administrative-gender|3.0", "carried here in version 4.0.1"),
        ("relationship:below", "http://snomed.info/sct|303071001", "hierarchy of this code system is not carried"),
        ("relationship:below", f"{ROLE}|NONE", "the code system has no such code"),
        ("relationship:below", "PRN", "it is written system|code"),
    ],
)
async def test_codes_that_nobody_here_knows_are_refused(name: str, value: str, told: str, kin: Readers) -> None:
    with pytest.raises(FhirError, match=re.escape(told)) as refused:
        await page(kin, "RelatedPerson", [(name, value)])
    assert refused.value.status == 400


async def test_a_search_of_several_types(searched: Readers, known: World) -> None:
    asked = [("_type", "Patient,Organization,Encounter"), ("_sort", "-_lastUpdated"), ("_count", "7")]
    found: list[tuple[str, str]] = []
    following: str | None = ""
    while following is not None:
        async with searched.acquire() as connection:
            more = [("_cursor", following)] if following else []
            one = await search(connection, EVERYTHING, Query.parse("", [*asked, *more]))
        assert one.total == 61
        found += [each[:2] for each in one.matches]
        following = one.next
    expected = sorted(key for key in known.resources if key[0] in asked[0][1].split(","))
    assert sorted(found) == expected
    times = [known.updated[key] for key in found]
    assert times == sorted(times, reverse=True)


async def test_a_search_of_everything_is_of_what_the_scopes_cover(searched: Readers, known: World) -> None:
    async with searched.acquire() as connection:
        whole = await search(connection, EVERYTHING, Query.parse("", [("_id", "p1,o1,e1"), ("_count", "1000")]))
        found = sorted(each[:2] for each in whole.matches)
        assert found == [("Encounter", "e1"), ("Observation", "o1"), ("Patient", "p1")]
        narrow = await search(connection, OBSERVER, Query.parse("", [("_id", "p1,o1,e1"), ("_count", "1000")]))
        assert [each[:2] for each in narrow.matches] == [("Observation", "o1")]
        with pytest.raises(FhirError, match="No scope") as refused:
            await search(connection, OBSERVER, Query.parse("", [("_type", "Patient,Observation"), ("_id", "p1")]))
    assert refused.value.status == 403


async def test_what_comes_along_brings_more_when_it_is_iterated(searched: Readers, known: World) -> None:
    person = "_include", "Observation:subject"
    practice, above = "Patient:general-practitioner", "Organization:partof"
    asked = [("_count", "40"), person, ("_include:iterate", practice), ("_include:iterate", above)]
    found = await page(searched, "Observation", asked)
    expected: set[str] = set()
    matched = [known.resources["Observation", each] for each in ids(found.matches)]
    waiting = [each["subject"]["reference"] for each in matched if "subject" in each]
    while waiting:
        name = waiting.pop()
        kind, id = name.split("/")
        if name not in expected and (each := known.resources.get((kind, id))):
            expected.add(name)
            waiting += [one["reference"] for one in each.get("generalPractitioner", [])]
            waiting += [each["partOf"]["reference"]] if "partOf" in each else []
    assert {f"{each.type}/{each.id}" for each in found.included} == expected
    assert {each.type for each in found.included} == {"Patient", "Organization"}
    assert not found.notes
    once = await page(searched, "Observation", asked[:2])
    assert {each.type for each in once.included} == {"Patient"}


async def test_iterating_the_other_way_round(searched: Readers, known: World) -> None:
    asked = [("_id", "g0"), ("_revinclude:iterate", "Organization:partof")]
    found = await page(searched, "Organization", [*asked, ("_revinclude:iterate", "Patient:general-practitioner")])
    below = {"g2", "g3"}  # g4 and g5 are under g1
    named = {f"Organization/{one}" for one in (*below, "g0")}
    theirs = {
        each["id"]
        for each in known.resources.values()
        if named & {one["reference"] for one in each.get("generalPractitioner", [])}
    }
    assert {each.id for each in found.included} == below | theirs


async def test_what_is_cut_is_said(searched: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhirgw.store.include.MOST_ALONG", 5)
    asked = [("_include", "*"), ("_include:iterate", "Patient:general-practitioner")]
    found = await page(searched, "Observation", asked)
    assert len(found.included) == 5
    assert "More comes along" in found.notes[0].diagnostics


async def test_a_step_of_a_chain_is_bounded(searched: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    for pair in (("subject:Patient.birthdate", "gt1900"), ("subject:Patient._has:Observation:patient:code", "bp")):
        monkeypatch.setattr("fhirgw.store.chain.MOST", 10_000)
        assert (await page(searched, "Observation", [pair])).matches
        monkeypatch.setattr("fhirgw.store.chain.MOST", 3)
        with pytest.raises(FhirError, match="passes through more than 3 resources") as refused:
            await page(searched, "Observation", [pair])
        assert refused.value.issues[0].code == "too-costly"
