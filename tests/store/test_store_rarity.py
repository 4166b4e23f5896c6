"""What finds few the statistics tell, once a code and for a while; what they do not say is never taken for few."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.query import Query
from fhirgw.store import rarity
from fhirgw.store.database import Connection
from fhirgw.store.matching import Way
from fhirgw.store.rarity import WORTH, Rarity, _demanded, walkable
from tests.conftest import NewDatabase
from tests.put import connected, put_all, reading
from tests.store.search_world import world

RARE, COMMON = Query.parse("Observation", [("code", "none")]), Query.parse("Observation", [("status", "final")])
BOTH = Query.parse("Observation", [("code", "none"), ("status", "final")])


@pytest.fixture(scope="module")
async def connection(new_database: NewDatabase) -> AsyncIterator[Connection]:
    async with new_database() as url, reading(url) as pool:
        await put_all(url, world(seed=1))
        writer = await connected(url)
        await writer.execute("ANALYZE fhirgw.resource")
        await writer.close()
        async with pool.acquire() as connection:
            yield connection


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Rarity:
    monkeypatch.setattr(rarity, "RARE", 5)
    return Rarity()


async def test_a_rare_code_finds_few_and_a_common_one_does_not(connection: Connection, known: Rarity) -> None:
    assert known.known(RARE) is known.known(COMMON) is None
    await known.ask(connection, RARE)
    await known.ask(connection, COMMON)
    assert (known.known(RARE), known.known(COMMON)) == (True, False)
    assert known.known(BOTH) is True  # of two that must both be there, the rarer says


async def test_an_estimate_is_kept_for_a_while(
    connection: Connection, known: Rarity, monkeypatch: pytest.MonkeyPatch
) -> None:
    await known.ask(connection, RARE)
    now = rarity.time.monotonic()
    monkeypatch.setattr(rarity.time, "monotonic", lambda: now + rarity.SECONDS - 1)
    assert known.known(RARE) is True
    monkeypatch.setattr(rarity.time, "monotonic", lambda: now + rarity.SECONDS + 1)
    assert known.known(RARE) is None


async def test_no_more_than_so_many_are_kept(
    connection: Connection, known: Rarity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rarity, "MOST", 1)
    await known.ask(connection, RARE)
    await known.ask(connection, COMMON)
    assert (known.known(RARE), known.known(COMMON)) == (None, False)


@pytest.mark.parametrize(
    "pairs",
    [
        [],
        [("code:not", "none")],
        [("code", "none,z")],
        [("code", "none"), ("date", "2026")],
        [("code", "none"), ("code:missing", "false")],
    ],
)
def test_what_asks_anything_else_is_planned_for_its_own_values(pairs: list[tuple[str, str]], known: Rarity) -> None:
    assert known.known(Query.parse("Observation", pairs)) is False


async def test_a_page_of_what_many_have_is_read_along_the_ids(
    connection: Connection, known: Rarity, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passing over the others costs the more, the rarer the code and the longer the page."""
    assert known.way(COMMON) is None  # nothing is known of it yet
    await known.ask(connection, RARE)
    await known.ask(connection, COMMON)
    assert known.way(replace(RARE, count=1)) is Way.ORDER
    size, (rows, _) = known._sizes["Observation"], known._known[next(_demanded(COMMON))]
    longest = int(WORTH * rows * rows / size)
    assert longest > 5
    assert known.way(replace(COMMON, count=longest - 2)) is Way.ALONG
    assert known.way(replace(COMMON, count=longest + 2)) is None  # too many to be put in order
    monkeypatch.setattr(rarity, "RARE", rows)
    assert known.way(replace(COMMON, count=longest + 2)) is Way.ORDER


BROAD = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),), controls=True)
NARROWED = {
    "the person's own": Permit("Z99", "person", (Scope.parse("patient/*.rs"),), patient="p1"),
    "a care provider's": replace(BROAD, controls=False),
    "a worker's": replace(BROAD, practitioner="w1"),
    "a part of the type": replace(BROAD, scopes=(Scope.parse("system/Task.rs?status=requested"),)),
}
PAGE = [("_total", "none"), ("status", "requested")]


@pytest.mark.parametrize("sort", ["_id", "-_id", ""])
def test_what_is_walkable(sort: str) -> None:
    assert walkable(BROAD, Query.parse("ServiceRequest", [*PAGE, *([("_sort", sort)] if sort else [])]))


@pytest.mark.parametrize(
    "pairs",
    [
        PAGE[1:],  # a total has to be counted
        [*PAGE, ("_sort", "-_lastUpdated")],
        [*PAGE, ("_sort", "_lastUpdated,_id")],
        [*PAGE, ("intent", "order")],  # how many have both nobody knows
        [*PAGE, ("_include", "ServiceRequest:subject")],
        [*PAGE, ("_cursor", "x")],
        PAGE[:1],
    ],
)
def test_what_is_not_walkable(pairs: list[tuple[str, str]]) -> None:
    assert not walkable(BROAD, Query.parse("ServiceRequest", pairs))


@pytest.mark.parametrize("whose", NARROWED)
def test_who_may_be_shown_few_does_not_walk(whose: str) -> None:
    query = Query.parse("ServiceRequest", PAGE)
    assert walkable(BROAD, query)
    assert not walkable(NARROWED[whose], replace(query, type="Task") if "part" in whose else query)


def test_where_visit_after_visit_would_be_rendered_nobody_walks() -> None:
    """Those with a code are found by an index of their own."""
    assert walkable(BROAD, Query.parse("Observation", [("_total", "none"), ("code", "none")]))
    assert not walkable(BROAD, Query.parse("Task", [("_total", "none"), ("status", "completed")]))
    assert walkable(BROAD, Query.parse("Task", [("_total", "none"), ("status", "draft")]))
