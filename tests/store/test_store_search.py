"""A search finds what a naive reading of R4 finds, in its order, however it is cut into pages."""

from collections.abc import AsyncIterator, Hashable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.criterion import Ids
from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.parameters import parameters
from fhirgw.fhir.query import Query
from fhirgw.store.alike import Alike, alike, found
from fhirgw.store.database import Readers
from fhirgw.store.include import Found
from fhirgw.store.matching import Way
from fhirgw.store.search import Page, search, walked
from tests.conftest import NewDatabase
from tests.put import connected, copy, put_all, reading
from tests.store.search_world import CODES, DATES, FAMILIES, GIVEN, LOCAL, NHS, World, world

EVERYTHING = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
Pairs = list[tuple[str, str]]


@pytest.fixture(scope="module")
def known() -> World:
    return World(world(seed=1))


@pytest.fixture(scope="module")
async def searched(new_database: NewDatabase) -> AsyncIterator[Readers]:
    """The world, in a database."""
    async with new_database() as url, reading(url) as pool:
        await put_all(url, world(seed=1))
        yield pool


async def page(pool: Readers, resource_type: str, pairs: Pairs, permit: Permit = EVERYTHING) -> Page:
    async with pool.acquire() as connection:
        return await search(connection, permit, Query.parse(resource_type, pairs))


async def pages(pool: Readers, resource_type: str, pairs: Pairs) -> AsyncIterator[Page]:
    """Every page, by its next link."""
    following: str | None = ""
    while following is not None:
        one = await page(pool, resource_type, [*pairs, ("_cursor", following)] if following else pairs)
        yield one
        following = one.next


def ids(found: list[Found]) -> list[str]:
    return [each.id for each in found]


def several(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """One value or alternatives."""
    return st.lists(values, min_size=1, max_size=3).map(",".join)


def named(names: str | tuple[str, ...], values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[str, str]]:
    return st.tuples(st.sampled_from((names,) if isinstance(names, str) else names), several(values))


prefixes = st.sampled_from(("", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"))
dates = st.tuples(prefixes, st.sampled_from(DATES)).map("".join)
births = st.tuples(prefixes, st.sampled_from(("1950", "1950-03", "1950-03-01", "1962", "1962-07-14"))).map("".join)
updates = st.tuples(prefixes, st.sampled_from(("2026", "2026-01-01", "2026-01-02T00:00:00Z", "2026-01-05"))).map(
    "".join
)
codes = st.sampled_from(("a", "b", "z", f"{CODES[0]}|a", f"{CODES[1]}|b", f"{CODES[0]}|", "|a"))
numbers = st.sampled_from(
    ("1", "2", "9000000001", f"{NHS}|9000000001", f"{NHS}|9000000002", f"{LOCAL}|3", f"{NHS}|", "|7", "|1")
)
people = st.sampled_from(("p1", "Patient/p2", "Patient/p44", "p3", "nobody"))
families = st.sampled_from((*FAMILIES, "smi", "ZOE", "zoe-m", "brien", "cruz", "de la"))
givens = st.sampled_from((*GIVEN, "zoe", "an", "ann"))
id_values = st.sampled_from(("p1", "p2", "ob5", "e9", "nobody"))

PATIENT = st.one_of(
    named("identifier", numbers),
    named(("gender", "gender:not"), st.sampled_from(("male", "female", "other"))),
    named(("family", "family:exact", "family:contains", "name", "name:contains"), families),
    named(("given", "given:exact"), givens),
    named("birthdate", births),
    named("organization", st.sampled_from(("o1", "Organization/o2"))),
    named("organization:Organization.name", st.sampled_from(("home", "Home care 1", "nothing"))),
    named("_id", id_values),
    named("_lastUpdated", updates),
)
OBSERVATION = st.one_of(
    named(("code", "code:not"), codes),
    named("status", st.sampled_from(("final", "amended"))),
    named(("subject", "patient"), people),
    named("performer", st.sampled_from(("Organization/o0", "Organization/o3"))),
    named("date", dates),
    named("subject:Patient.family", families),
    named("subject:Patient.identifier", numbers),
    named("subject:Patient.birthdate", births),
    named("subject:Patient._id", people.filter(lambda each: "/" not in each)),
    named("_lastUpdated", updates),
)
ENCOUNTER = st.one_of(named("date", dates), named("status:not", st.just("planned")), named("patient", people))
SORTS = {"Patient": "birthdate", "Observation": "date", "Encounter": "date"}


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, Pairs]:
    kind, criterion = draw(
        st.sampled_from((("Patient", PATIENT), ("Observation", OBSERVATION), ("Encounter", ENCOUNTER)))
    )
    pairs = draw(st.lists(criterion, max_size=3))
    keys = st.sampled_from((SORTS[kind], "_lastUpdated", "_id")).flatmap(lambda key: st.sampled_from((key, f"-{key}")))
    sort = draw(st.lists(keys, max_size=2, unique_by=lambda key: key.removeprefix("-")))
    return kind, [*pairs, ("_sort", ",".join(sort))] if sort else pairs


@settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(request=requests(), count=st.integers(1, 30))
async def test_every_search_finds_what_a_naive_one_finds(
    request: tuple[str, Pairs], count: int, searched: Readers, known: World
) -> None:
    kind, pairs = request
    expected = known.find(kind, pairs)
    whole = await page(searched, kind, [*pairs, ("_count", "1000")])
    assert ids(whole.matches) == expected
    assert whole.total == len(expected)
    assert whole.next is None
    cut = [one async for one in pages(searched, kind, [*pairs, ("_count", str(count))])]
    assert [id for one in cut for id in ids(one.matches)] == expected
    assert {one.total for one in cut} == {len(expected)}
    assert (await page(searched, kind, [*pairs, ("_summary", "count")])).total == len(expected)


FEW = st.one_of(
    st.tuples(st.just("Patient"), st.just("identifier"), numbers),
    st.tuples(st.just("Patient"), st.just("_id"), several(id_values)),
    st.tuples(st.just("Observation"), st.sampled_from(("subject", "patient")), people),
    st.tuples(st.just("Encounter"), st.just("patient"), people),
)
CODED = {"Observation": named(("code", "code:not", "status"), codes)}


@st.composite
def alikes(draw: st.DrawFn) -> list[tuple[str, Pairs]]:
    """Searches that find few, many of one shape."""
    sort = draw(st.sampled_from(((), ("date",), ("-date",), ("-date", "_id"), ("_lastUpdated",))))
    found = []
    for kind, name, value in draw(st.lists(FEW, min_size=1, max_size=12)):
        more = draw(st.lists(CODED[kind], max_size=1)) if kind in CODED else []
        sorts = [("_sort", ",".join(sort))] if sort and name == "patient" else []
        found.append((kind, [(name, value), *more, *sorts]))
    return found


@settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests=alikes(), count=st.integers(1, 30))
async def test_searches_that_share_a_statement_find_what_each_finds_alone(
    requests: list[tuple[str, Pairs]], count: int, searched: Readers, known: World
) -> None:
    together: dict[Hashable, list[tuple[Alike, list[str]]]] = {}
    for kind, pairs in requests:
        each = alike(EVERYTHING, Query.parse(kind, [*pairs, ("_count", str(count))]))
        assert each is not None
        together.setdefault(each.key, []).append((each, known.find(kind, pairs)))
    async with searched.acquire() as connection:
        for group in together.values():
            pages = await found(connection, [each for each, _ in group])
            assert [ids(page) for page in pages] == [expected[: count + 1] for _, expected in group]


@pytest.mark.parametrize("odd", ['"', "\\", "{}", "NULL", "", '","', "p1", "{p1,p2}", "\u2028", "%", "'"])
async def test_a_value_is_itself_however_it_looks(odd: str, searched: Readers) -> None:
    """Values of many searches go in as PostgreSQL spells arrays."""
    asked = [alike(EVERYTHING, Query("Patient", (Ids(parameters("Patient")["_id"], (odd, "p3")),))) for _ in range(2)]
    async with searched.acquire() as connection:
        pages = await found(connection, [each for each in asked if each])
    assert [ids(page) for page in pages] == [["p1", "p3"] if odd == "p1" else ["p3"]] * 2


@pytest.mark.parametrize(
    ("kind", "pairs"),
    [
        ("Observation", [("code", "a")]),  # may find many
        ("Encounter", [("patient", "p1"), ("date", "2026")]),  # an instant is not spelt
        ("Observation", [("patient", "p1"), ("_revinclude", "Provenance:target")]),
        ("Observation", [("patient", "p1"), ("_include:iterate", "Patient:organization")]),
        ("Observation", [("subject:Patient.identifier", "1")]),
        ("Patient", [("identifier", "1"), ("_count", "0")]),
    ],
)
def test_other_searches_are_answered_by_themselves(kind: str, pairs: Pairs) -> None:
    assert alike(EVERYTHING, Query.parse(kind, pairs)) is None


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("sort", ["_id", "-_id"])
@pytest.mark.parametrize("pair", [("code", "a"), ("status", "final"), ("code", "nothing")])
@pytest.mark.parametrize("count", [1, 7, 1000])
async def test_a_page_is_the_same_whichever_way_it_is_read(
    way: Way, sort: str, pair: tuple[str, str], count: int, searched: Readers, known: World
) -> None:
    pairs = [pair, ("_sort", sort)]
    expected = known.find("Observation", pairs)
    query = Query.parse("Observation", [*pairs, ("_total", "none"), ("_count", str(count))])
    async with searched.acquire() as connection:
        found = await walked(connection, EVERYTHING, query, way)
        assert found is not None
        assert ids(found.matches) == expected[:count]
        assert bool(found.next) is (len(expected) > count)
        if found.next:
            following = await search(connection, EVERYTHING, replace(query, cursor=found.next))
            assert ids(following.matches) == expected[count : 2 * count]


def test_the_oracle_tells_requests_apart(known: World) -> None:
    """The property would hold of two searches that find nothing: most of these find something, and not everything."""
    assert len(known.find("Patient", [])) == 40
    assert 0 < len(known.find("Patient", [("family", "smi"), ("gender:not", "male")])) < 40
    assert 0 < len(known.find("Observation", [("date", "ge2025-03-30")])) < 120
    assert 0 < len(known.find("Observation", [("subject:Patient.family", "zoe")])) < 120


@pytest.mark.parametrize("total", ["accurate", "estimate", None])
async def test_the_total_is_of_all_pages(searched: Readers, total: str | None) -> None:
    asked = [("_count", "7"), *([("_total", total)] if total else [])]
    assert {one.total async for one in pages(searched, "Patient", asked)} == {40}


async def test_no_total_where_none_is_asked_for(searched: Readers) -> None:
    assert (await page(searched, "Patient", [("_count", "7"), ("_total", "none")])).total is None


async def test_beyond_the_bound_a_total_has_to_be_asked_for(searched: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhirgw.store.search.COUNTED", 39)
    assert (await page(searched, "Patient", [("_count", "7")])).total is None
    assert (await page(searched, "Patient", [("_count", "7"), ("_total", "accurate")])).total == 40
    monkeypatch.setattr("fhirgw.store.search.COUNTED", 40)
    assert (await page(searched, "Patient", [("_count", "7")])).total == 40


async def test_include_brings_what_the_page_refers_to_once(searched: Readers, known: World) -> None:
    asked = [("_count", "30"), ("_include", "Observation:subject"), ("_include", "Observation:performer")]
    found = await page(searched, "Observation", asked)
    named = [known.resources["Observation", id] for id in ids(found.matches)]
    wanted = {each["subject"]["reference"] for each in named if "subject" in each}
    wanted |= {one["reference"] for each in named for one in each["performer"]}
    there = {f"{kind}/{id}" for kind, id in known.resources}
    assert sorted(f"{each.type}/{each.id}" for each in found.included) == sorted(wanted & there)
    assert wanted - there  # a reference to nothing brings nothing
    only = await page(searched, "Observation", [*asked[:1], ("_include", "Observation:performer:Organization")])
    assert {each.type for each in only.included} == {"Organization"}


async def test_revinclude_brings_what_refers_to_the_page(searched: Readers, known: World) -> None:
    asked = [("_id", "p1,p2"), ("_revinclude", "Observation:subject"), ("_revinclude", "Encounter:patient")]
    found = await page(searched, "Patient", asked)
    wanted = {
        key
        for key, each in known.resources.items()
        if each.get("subject", {}).get("reference") in ("Patient/p1", "Patient/p2")
    }
    assert {(each.type, each.id) for each in found.included} == wanted
    assert {kind for kind, _ in wanted} == {"Observation", "Encounter"}


async def test_more_that_refer_here_than_are_sent_are_said_to_exist(
    searched: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [("_revinclude", "Observation:subject")]
    assert not (await page(searched, "Patient", asked)).notes
    monkeypatch.setattr("fhirgw.store.include.MOST", 3)
    async with searched.acquire() as connection:
        fresh = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"), Scope.parse("system/Patient.rs")))
        cut = await search(connection, fresh, Query.parse("Patient", asked))
    assert len(cut.included) == 3
    assert "search Observation for the rest" in cut.notes[0].diagnostics


async def test_pages_hold_every_match_once_while_others_write(new_database: NewDatabase) -> None:
    """What was there at the start is on one page and no other, though rows arrive before and after every page."""
    async with new_database() as url, reading(url) as pool:
        writer = await connected(url)
        before = [({"resourceType": "Patient", "id": f"m{n:03}"}, datetime(2026, 1, 1, tzinfo=UTC)) for n in range(100)]
        await copy(writer, before)
        for sort in ("_id", "-_id", "_lastUpdated", "-_lastUpdated"):
            seen: list[str] = []
            async for one in pages(pool, "Patient", [("_count", "9"), ("_sort", sort)]):
                seen += ids(one.matches)
                suffix = f"{len(seen)}-{sort.strip('-_')}-{sort.startswith('-')}"
                late = [{"resourceType": "Patient", "id": f"{each}{suffix}"} for each in ("a", "m050", "z")]
                await copy(writer, [(each, datetime(2026, 1, 1, 0, 0, len(seen) % 60, tzinfo=UTC)) for each in late])
            assert len(seen) == len(set(seen))
            assert {each["id"] for each, _ in before} <= set(seen)
        await writer.close()


@pytest.mark.parametrize("change", ["tamper", "other criteria", "other type", "other order", "nonsense", "empty"])
async def test_a_cursor_belongs_to_its_search(searched: Readers, change: str) -> None:
    asked = [("gender:not", "male"), ("_count", "5")]
    cursor = (await page(searched, "Patient", asked)).next
    assert cursor is not None
    assert (await page(searched, "Patient", [*asked, ("_cursor", cursor)])).matches  # the control
    assert (await page(searched, "Patient", [*asked[:1], ("_count", "6"), ("_cursor", cursor)])).matches
    kind, pairs = "Patient", [*asked, ("_cursor", cursor)]
    if change == "tamper":
        pairs[-1] = ("_cursor", cursor[:-4] + ("AAAA" if cursor[-4:] != "AAAA" else "BBBB"))
    elif change == "other criteria":
        pairs[0] = ("gender:not", "female")
    elif change == "other type":
        kind, pairs = "Encounter", pairs[1:]
    elif change == "other order":
        pairs.append(("_sort", "birthdate"))
    else:
        pairs[-1] = ("_cursor", {"nonsense": "%%%é", "empty": "AAAA"}[change])
    with pytest.raises(FhirError, match="_cursor is not one of this search") as refused:
        await page(searched, kind, pairs)
    assert refused.value.status == 400


async def test_a_patient_scope_finds_that_patient_alone(searched: Readers, known: World) -> None:
    permit = Permit("Z99", "person", (Scope.parse("patient/*.rs"),), patient="p1")
    everybody = await page(searched, "Observation", [])
    mine = await page(searched, "Observation", [], permit)
    assert ids(mine.matches) == known.find("Observation", [("patient", "p1")])
    assert mine.total == len(mine.matches) < (everybody.total or 0)
    assert ids((await page(searched, "Patient", [], permit)).matches) == ["p1"]
    assert (await page(searched, "Patient", [("_id", "p2")], permit)).total == 0


async def test_chains_and_includes_pass_through_what_may_be_seen_alone(searched: Readers) -> None:
    asked = [("subject:Patient.family:contains", "smith"), ("_include", "Observation:subject")]
    seeing = await page(searched, "Observation", asked)
    assert seeing.matches
    assert seeing.included
    blind = Permit("Z99", "direct-care", (Scope.parse("system/Observation.rs"),))
    assert (await page(searched, "Observation", asked, blind)).matches == []
    alone = await page(searched, "Observation", asked[1:], blind)
    assert alone.matches
    assert alone.included == []


async def test_a_type_outside_every_scope_is_refused(searched: Readers) -> None:
    permit = Permit("Z99", "direct-care", (Scope.parse("system/Observation.rs"),))
    assert (await page(searched, "Observation", [], permit)).matches
    with pytest.raises(FhirError, match="No scope of this token allows search on Patient") as refused:
        await page(searched, "Patient", [], permit)
    assert refused.value.status == 403


async def test_a_cursor_is_its_callers(searched: Readers) -> None:
    """It carries the total of what they may see."""
    first = await page(searched, "Patient", [("_count", "2")])
    assert first.next
    assert (await page(searched, "Patient", [("_count", "2"), ("_cursor", first.next)])).matches
    other = Permit("Z99", "direct-care", EVERYTHING.scopes, registration="other")
    with pytest.raises(FhirError, match="_cursor"):
        await page(searched, "Patient", [("_count", "2"), ("_cursor", first.next)], other)
