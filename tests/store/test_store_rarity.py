"""What finds few the statistics tell, once a code and for a while; what they do not say is never taken for few."""

from collections.abc import AsyncIterator

import pytest

from fhirgw.fhir.query import Query
from fhirgw.store import rarity
from fhirgw.store.database import Connection
from fhirgw.store.rarity import Rarity
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
