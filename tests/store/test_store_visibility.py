"""The one condition: over every combination of scopes it shows what a plain reading of them shows, and search, read,
vread, history, `$everything` and export agree about it."""

from collections.abc import AsyncIterator
from itertools import product

import pytest
from sqlalchemy import select

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.issue import FhirError, Resource
from fhirgw.fhir.query import Query
from fhirgw.store import resources, visibility
from fhirgw.store.database import Readers, statement
from fhirgw.store.schema import resource
from fhirgw.store.search import search
from fhirgw.store.visibility import visible
from tests.conftest import NewDatabase
from tests.put import put_all, reading
from tests.store.search_world import world

TYPES = ("Patient", "Observation", "Organization", "Encounter")
SCOPES = (
    *("system/*.rs", "system/Patient.rs", "system/Observation.r", "system/Observation.s", "system/Task.rs"),
    *("patient/*.rs", "patient/Observation.rs", "patient/Patient.r", "user/*.rs", "system/*.cud"),
)
PAIRS = sorted({tuple(sorted({one, other})) for one, other in product(SCOPES, SCOPES)})
MADE = [each for each, _ in world(seed=3)]


def some(kind: str) -> list[Resource]:
    """Of a type, a few that are p1's and a few that are not: what is asked of each goes by nothing else."""
    every = [each for each in MADE if each["resourceType"] == kind]
    mine = [each for each in every if shown(("patient/*.r",), "r", each)]
    return [*mine[:4], *[each for each in every if each not in mine][:6]]


@pytest.fixture(scope="module")
async def stored(new_database: NewDatabase) -> AsyncIterator[Readers]:
    async with new_database() as url, reading(url) as pool:
        await put_all(url, world(seed=3))
        yield pool


def permit(scopes: tuple[str, ...]) -> Permit:
    parsed = tuple(Scope.parse(each) for each in scopes)
    in_person = any(each.context == "user" for each in parsed)
    return Permit("Z99", "direct-care", parsed, patient="p1", practitioner="w1" if in_person else None)


def shown(scopes: tuple[str, ...], verb: str, each: Resource) -> bool:
    """The oracle: one scope at a time, on the JSON alone. Who is there in person has no case of theirs here."""
    whose = each["id"] if each["resourceType"] == "Patient" else each.get("subject", {}).get("reference", "")[8:]
    if any(scope.startswith("user/") for scope in scopes) and each["resourceType"] != "Organization":
        return False
    for scope in scopes:
        context, _, rest = scope.partition("/")
        kind, _, verbs = rest.partition(".")
        mine = context in ("system", "user") or (context == "patient" and whose == "p1")
        if mine and kind in ("*", each["resourceType"]) and verb in verbs:
            return True
    return False


def keys(verb: str, scopes: tuple[str, ...], kinds: tuple[str, ...] = TYPES) -> list[tuple[str, str]]:
    found = [(each["resourceType"], each["id"]) for each in MADE if shown(scopes, verb, each)]
    return sorted(key for key in found if key[0] in kinds)


READ = {kind: some(kind) for kind in TYPES}


def test_of_each_type_that_persons_have_some_are_theirs_and_some_are_not() -> None:
    told = {kind: {shown(("patient/*.r",), "r", each) for each in READ[kind]} for kind in TYPES}
    assert told == {kind: {False} if kind == "Organization" else {True, False} for kind in TYPES}


@pytest.mark.parametrize("scopes", PAIRS, ids=" ".join)
@pytest.mark.parametrize("verb", ["r", "s"])
async def test_it_shows_what_the_scopes_say(stored: Readers, scopes: tuple[str, ...], verb: str) -> None:
    asked = permit(scopes)
    every = statement(select(resource.c.type, resource.c.id).where(visible(asked, verb)))
    async with stored.acquire() as connection:
        rows = await connection.fetch(every.sql, *every.arguments(visibility.values(asked)))
        assert sorted(map(tuple, rows)) == keys(verb, scopes)
        for kind in TYPES:
            one = select(resource.c.type, resource.c.id).where(resource.c.type == kind, visible(asked, verb, kind))
            of_kind = statement(one)
            rows = await connection.fetch(of_kind.sql, *of_kind.arguments(visibility.values(asked)))
            assert sorted(map(tuple, rows)) == keys(verb, scopes, (kind,))


@pytest.mark.parametrize("scopes", PAIRS, ids=" ".join)
async def test_search_and_read_agree_with_it(stored: Readers, scopes: tuple[str, ...]) -> None:
    asked = permit(scopes)
    async with stored.acquire() as connection:
        for kind in TYPES:
            if asked.covering("s", kind):
                page = await search(connection, asked, Query.parse(kind, [("_count", "1000")]))
                assert [found[:2] for found in page.matches] == keys("s", scopes, (kind,))
                assert page.total == len(page.matches)
            if asked.covering("r", kind):
                allowed = [each["id"] for each in READ[kind] if await _readable(connection, asked, each)]
                assert allowed == [each["id"] for each in READ[kind] if shown(scopes, "r", each)]


async def _readable(connection: object, asked: Permit, each: Resource) -> bool:
    kind, id = each["resourceType"], each["id"]
    answers = []
    for interaction in (
        lambda: resources.read(connection, asked, kind, id),  # type: ignore[arg-type]
        lambda: resources.vread(connection, asked, kind, id, 1),  # type: ignore[arg-type]
    ):
        try:
            await interaction()
            answers.append(True)
        except FhirError as error:
            assert error.status == 404
            answers.append(False)
    answers.append(bool(await resources.past(connection, asked, kind, id)))  # type: ignore[arg-type]
    assert len(set(answers)) == 1
    return answers[0]


async def test_a_permit_without_scopes_sees_nothing(stored: Readers) -> None:
    made = statement(select(resource.c.id).where(visible(permit(()))))
    async with stored.acquire() as connection:
        assert await connection.fetch(made.sql, *made.arguments(visibility.values(permit(())))) == []
        everything = statement(select(resource.c.id).where(visible(permit(("system/*.rs",)))))
        assert len(
            await connection.fetch(everything.sql, *everything.arguments(visibility.values(permit(("system/*.rs",)))))
        ) == len(MADE)
