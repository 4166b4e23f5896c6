"""Every way to read shows the same: search, count, include, chain, read, vread, history, `$everything` and export, in
worlds and for callers made up by chance, as the oracle says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from typing import Any, NamedTuple

import asyncpg
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhirgw.access.permit import Permit
from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.leaves import is_patient
from fhirgw.fhir.parameters import parameters
from fhirgw.fhir.query import Query
from fhirgw.store import resources
from fhirgw.store.alike import alike, found
from fhirgw.store.copied import Line
from fhirgw.store.database import Engine, connect, direct
from fhirgw.store.everything import Asked, everything
from fhirgw.store.export import Selection, Stretch, copy_part, snapshot
from fhirgw.store.matching import Way
from fhirgw.store.search import Page, search, walked
from tests.access_policy.oracle import REFERENCE_DATA, SHOWN, Judge, Key, Resource, World, named, whose
from tests.access_policy.people import NOW
from tests.access_policy.stored import emptied, looking, permit, pour
from tests.access_policy.worlds import PERSONS, asker, relabelled, small
from tests.conftest import NewDatabase
from tests.put import connected, stamped, supersede

SEEDS = st.integers(0, 2**32)
"""Worlds are made from a number: thought of by Hypothesis value by value, most of them would be empty."""
PROPERTY = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))


class Store(NamedTuple):
    """One database, filled anew for each example."""

    url: str
    writer: asyncpg.Connection
    reader: asyncpg.Connection
    engine: Engine

    async def fill(self, world: World) -> None:
        await emptied(self.writer)
        await pour(self.writer, world)


@pytest.fixture(scope="module")
async def store(new_database: NewDatabase) -> AsyncIterator[Store]:
    async with new_database() as url, looking(url) as reader:
        writer, engine = await connected(url), connect(url)
        yield Store(url, writer, reader, engine)
        await writer.close()
        await engine.dispose()


class Told(NamedTuple):
    """Who asks, and what the oracle lets them search and read."""

    world: World
    asked: Permit
    judge: Judge
    found: dict[Key, Resource]
    readable: dict[Key, Resource]

    @classmethod
    def of(cls, world: World, rng: Random) -> Told:
        caller, now = asker(rng)
        judge = Judge(world, caller, now)
        return cls(world, permit(caller, now), judge, judge.seen("s"), judge.seen("r"))

    def whole(self) -> set[Key]:
        """The Patients of whom nothing is withheld."""
        patients = [key for key in self.found if key[0] == "Patient"]
        return {key for key in patients if self.found[key] is self.world.resources[key]}


@PROPERTY
@given(SEEDS)
async def test_search_count_include_and_chain(store: Store, seed: int) -> None:
    world = small(rng := Random(seed))
    await store.fill(world)
    for _ in range(3):
        told = Told.of(world, rng)
        for kind in sorted({kind for kind, _ in world.resources}):
            if told.asked.covering("s", kind):
                await searched(store.reader, told, kind)
        await brought_along(store.reader, told)
        await chained(store.reader, told)


async def searched(connection: asyncpg.Connection, told: Told, kind: str) -> None:
    expected = {key: each for key, each in told.found.items() if key[0] == kind}
    page = await search(connection, told.asked, Query.parse(kind, [("_count", "1000")]))
    assert {each[:2]: orjson.loads(each.body) for each in page.matches} == {
        key: stamped(each) for key, each in expected.items()
    }
    for way in Way:
        walking = await walked(connection, told.asked, Query.parse(kind, [("_total", "none"), ("_count", "1000")]), way)
        assert walking and walking.matches == page.matches
    await by_person(connection, told, kind, expected)
    counted = await search(connection, told.asked, Query.parse(kind, [("_summary", "count")]))
    assert page.total == counted.total == len(expected)
    if kind == "Patient":
        for pair in (("address-postalcode", "SS1 1AA"), ("phone", "01702 000000"), ("organization", "council")):
            found = await search(connection, told.asked, Query.parse(kind, [pair]))
            assert {each[:2] for each in found.matches} == told.whole(), pair
            assert found.total == len(told.whole())


async def by_person(connection: asyncpg.Connection, told: Told, kind: str, expected: dict[Key, Resource]) -> None:
    """Everybody's, each person's by a search of their own, all in one statement."""
    known = parameters(kind).get("patient")
    name = "_id" if kind == "Patient" else "patient"
    if name == "patient" and (known is None or not is_patient(known)):
        return
    every = [alike(told.asked, Query.parse(kind, [(name, person)])) for person in PERSONS]
    pages = await found(connection, [each for each in every if each])
    assert len(pages) == len(PERSONS)
    for person, page in zip(PERSONS, pages, strict=True):
        assert {each[:2]: orjson.loads(each.body) for each in page} == {
            key: stamped(each) for key, each in expected.items() if whose(each) == person
        }


async def brought_along(connection: asyncpg.Connection, told: Told) -> None:
    for kind, include in (("Observation", "subject"), ("Task", "owner"), ("Patient", "general-practitioner")):
        if told.asked.covering("s", kind):
            page = await search(connection, told.asked, Query.parse(kind, [("_include", f"{kind}:{include}")]))
            assert keys(page) == {
                key
                for each in told.found.values()
                if each["resourceType"] == kind
                for key in references(each, kind, include)
                if key in told.readable
            }
    for target, kind, name in (
        ("Patient", "Observation", "subject"),
        ("Patient", "EpisodeOfCare", "patient"),
        ("Organization", "Patient", "organization"),
        ("Organization", "EpisodeOfCare", "organization"),
    ):
        if told.asked.covering("s", target):
            page = await search(connection, told.asked, Query.parse(target, [("_revinclude", f"{kind}:{name}")]))
            assert keys(page) == {
                key
                for key, each in told.readable.items()
                if key[0] == kind and references(each, kind, name) & told.found.keys()
            }


ELEMENTS = {"general-practitioner": "generalPractitioner", "patient": "patient", "owner": "owner"}
ELEMENTS |= {"subject": "subject", "organization": "managingOrganization"}


def references(each: Resource, kind: str, name: str) -> set[Key]:
    value: Any = each.get(ELEMENTS[name], [])
    spelt = [named(one) for one in (value if isinstance(value, list) else [value])]
    return {(one.partition("/")[0], one.partition("/")[2]) for one in spelt if one}


def keys(page: Page) -> set[Key]:
    return {each[:2] for each in page.included}


async def chained(connection: asyncpg.Connection, told: Told) -> None:
    if not (told.asked.covering("s", "Observation") and told.asked.covering("s", "Patient")):
        return
    for inner, through in (("gender:not=other", None), ("address-city=Southend", told.whole()), ("_id=ann,bob", None)):
        name, _, value = inner.partition("=")
        patients = {key for key in told.found if key[0] == "Patient"} if through is None else through
        page = await search(
            connection, told.asked, Query.parse("Observation", [(f"subject:Patient.{name}", value), ("_count", "1000")])
        )
        expected = {
            key for key, each in told.found.items() if key[0] == "Observation" and ("Patient", whose(each)) in patients
        }
        assert {each[:2] for each in page.matches} == expected, inner
        assert page.total == len(expected)


@PROPERTY
@given(SEEDS)
async def test_read_history_everything_and_export(store: Store, seed: int) -> None:
    world = small(rng := Random(seed))
    await store.fill(world)
    for _ in range(3):
        told = Told.of(world, rng)
        for key in world.resources:
            if rng.random() < 0.3 and told.asked.covering("r", key[0]):
                await instance(store.reader, told, key)
        for person in PERSONS:
            if told.asked.covering("r", "Patient"):
                await whole_record(store.reader, told, person)
        await exported(store.engine, told)


async def instance(connection: asyncpg.Connection, told: Told, key: Key) -> None:
    bodies = [body async for body in versions(connection, told.asked, key, 1)]
    past = await resources.past(connection, told.asked, *key)
    expected = stamped(told.readable[key]) if key in told.readable else None
    assert bodies == [expected, expected]
    assert [orjson.loads(each.body) for each in past] == [expected] * (expected is not None)


async def versions(connection: asyncpg.Connection, asked: Permit, key: Key, version: int) -> AsyncIterator[Any]:
    """What read and vread answer: None for what is not there, of which every word is the same."""
    for answer in (resources.read(connection, asked, *key), resources.vread(connection, asked, *key, version)):
        try:
            yield orjson.loads((await answer).body)
        except FhirError as error:
            assert (error.status, str(error)) == (404, str(resources.absent(key[0])))
            yield None


async def whole_record(connection: asyncpg.Connection, told: Told, person: str) -> None:
    try:
        found, _ = await everything(connection, told.asked, Asked(person, count=1000))
    except FhirError as error:
        assert error.status == 404
        assert ("Patient", person) not in told.readable
        return
    expected = {key for key, each in told.readable.items() if whose(each) == person}
    said = {key for key in expected for key in mentioned(told.readable[key]) if key[0] in REFERENCE_DATA}
    assert {each[:2] for each in found} == expected | (said & told.readable.keys())


def mentioned(each: Any) -> set[Key]:
    """Every reference in a resource."""
    if isinstance(each, list):
        return {key for one in each for key in mentioned(one)}
    if not isinstance(each, dict):
        return set()
    here = {tuple(each["reference"].split("/"))} if isinstance(each.get("reference"), str) else set()
    return here.union(*(mentioned(one) for one in each.values()))  # type: ignore[return-value]


async def exported(engine: Engine, told: Told) -> None:
    async with snapshot(engine, told.asked) as copied, direct(engine) as connection:
        text = await copied.text()
        for kind in sorted({kind for kind, _ in told.world.resources}):
            if told.asked.covering("r", kind):
                lines: list[bytes] = []

                async def sink(more: list[Line], into: list[bytes] = lines) -> None:
                    into.extend(map(bytes, more))

                await copy_part(connection, told.asked, Stretch(kind), Selection(), text, sink)
                expected = {key: stamped(each) for key, each in told.readable.items() if key[0] == kind}
                assert {(kind, each["id"]): each for each in map(orjson.loads, lines)} == expected
                assert len(lines) == len(expected)


@PROPERTY
@given(SEEDS)
async def test_what_is_withheld_now_is_withheld_of_every_version(store: Store, seed: int) -> None:
    """A version is shown if it and the current one are: an address that is hidden today was lived at before."""
    world = small(rng := Random(seed))
    await store.fill(world)
    kept = [key for key in world.resources if key[0] in ("Patient", "Observation", "Flag")]
    changed = rng.sample(kept, 4)
    older = {key: world.resources[key] for key in changed}
    for key in changed:
        newer = relabelled(rng, older[key])
        world.resources[key] = newer
        await supersede(store.url, older[key], newer, 2, NOW)
    await controllers(store.writer, world)
    world.records.clear()
    for key, each in list(world.resources.items()):
        world.add(world.controllers[key], each)
    for _ in range(8):
        told = Told.of(world, rng)
        for key in changed:
            if told.asked.covering("r", key[0]):
                await each_version(store.reader, told, key, older[key])


async def each_version(connection: asyncpg.Connection, told: Told, key: Key, older: Resource) -> None:
    past = {each.version: orjson.loads(each.body) for each in await resources.past(connection, told.asked, *key)}
    expected: dict[int, Resource] = {}
    if key in told.readable:
        expected[2] = stamped(told.readable[key], 2, NOW)
        now_withheld = told.readable[key] is not told.world.resources[key]
        was_withheld = told.judge.served(older) is not older
        if told.judge.why(older) == SHOWN and (was_withheld or not now_withheld):
            expected[1] = stamped(told.judge.served(older))
    assert past == expected
    for version in (1, 2):
        try:
            found = orjson.loads((await resources.vread(connection, told.asked, *key, version)).body)
        except FhirError as error:
            assert error.status == 404
            found = None
        assert found == expected.get(version)


async def controllers(writer: asyncpg.Connection, world: World) -> None:
    """As `pour` sets them, for what was written since."""
    for table in ("resource", "history"):
        await writer.executemany(
            f"UPDATE fhirgw.{table} SET controller = $1 WHERE type = $2 AND id = $3",
            [(code, *key) for key, code in world.controllers.items()],
        )
