"""Refusals of callers nobody knows: each is recorded before it is answered, in a bounded number of rows."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import orjson
import pytest

from fhirgw.access.audit_event import MOST_TRIED, event, together
from fhirgw.access.audit_facets import facets
from fhirgw.access.permit import Asking
from fhirgw.store import audit_strangers
from fhirgw.store.audit import Auditor, Unrecorded
from fhirgw.store.audit_chain import verify
from fhirgw.store.looked import listed
from tests.judged import check
from tests.store.test_store_audit import ANNE, BERT, access

STRANGER = access(1, None, permit=None, status=401)


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(database)
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_strangers, "BURST", 3.0)
    monkeypatch.setattr(audit_strangers, "EVERY", 0.2)


async def times(connection: asyncpg.Connection) -> list[int]:
    """For how many requests each row stands, the oldest first."""
    events = [orjson.loads(each.body) for each in reversed(await listed(connection, count=1000))]
    found = [each["entity"][0].get("detail", [{"valueString": "1"}]) for each in events]
    return [int(each[0]["valueString"]) for each in found]


async def test_a_few_have_a_row_each_and_many_share_one(database: str, connection: asyncpg.Connection) -> None:
    async with Auditor(database) as auditor:
        async with asyncio.timeout(5):
            await asyncio.gather(*(auditor.record(STRANGER) for _ in range(50)))
    assert await times(connection) == [1, 1, 1, 47]
    assert (await verify(connection)).sound


async def test_nobody_is_answered_before_the_row_is_there(database: str, connection: asyncpg.Connection) -> None:
    async with Auditor(database) as auditor:
        for recorded in range(1, 9):
            await auditor.record(STRANGER)
            assert sum(await times(connection)) == recorded


async def test_those_who_are_known_wait_for_no_stranger(database: str, connection: asyncpg.Connection) -> None:
    known = [access(2), access(3, None, permit=None, status=401, registration="app"), replace(STRANGER, status=404)]
    async with Auditor(database) as auditor:
        flood = asyncio.gather(*(auditor.record(STRANGER) for _ in range(20)))
        await asyncio.sleep(0)
        for each in known:
            await auditor.record(each)
        assert not flood.done()
        await flood
    assert await times(connection) == [1] * 6 + [17]


async def test_one_who_stops_waiting_is_recorded(database: str, connection: asyncpg.Connection) -> None:
    async with Auditor(database) as auditor:
        waiting = [asyncio.create_task(auditor.record(STRANGER)) for _ in range(10)]
        await asyncio.sleep(0.05)
        for each in waiting[3:]:
            each.cancel()
    assert sum(await times(connection)) == 10


async def test_kinds_of_refusal_are_kept_apart(database: str, connection: asyncpg.Connection) -> None:
    both = [STRANGER, replace(STRANGER, status=429)]
    async with Auditor(database) as auditor:
        await asyncio.gather(*(auditor.record(both[number % 2]) for number in range(13)))
    assert await times(connection) == [1, 1, 1, 5, 5]


async def test_one_who_asks_too_often_has_rows_of_their_own(database: str, connection: asyncpg.Connection) -> None:
    """However often: what its token is worth costs no row each, and nobody else is mixed up with it."""
    throttled = replace(STRANGER, status=429, asking=Asking("app", "Z99", "direct-care"))
    async with Auditor(database) as auditor:
        await asyncio.gather(*(auditor.record([STRANGER, throttled][number % 2]) for number in range(13)))
    assert sorted(await times(connection)) == [1, 1, 1, 5, 5]
    own = [facets(orjson.loads(each.body)) for each in await listed(connection, registration="app", count=100)]
    assert {(each.organisation, each.purpose) for each in own} == {("Z99", "direct-care")}
    assert len(own) == 2


async def test_without_an_audit_nobody_is_told_it_was_recorded(database: str, connection: asyncpg.Connection) -> None:
    await connection.execute("ALTER FUNCTION fhirgw.audit_append RENAME TO gone")
    async with Auditor(database) as auditor:
        ended = await asyncio.gather(*(auditor.record(STRANGER) for _ in range(10)), return_exceptions=True)
        assert {type(each) for each in ended} == {Unrecorded}


def test_a_shared_row_says_how_many_and_whom_they_asked_for() -> None:
    asked = [f"Patient/{ANNE}", f"Patient/{BERT}", f"Patient/{ANNE}", "Patient/Canarybird"]
    made = event(together([replace(STRANGER, type="Patient", asked=each) for each in asked]), "e1")
    assert facets(made).persons == (ANNE, BERT)
    assert made["entity"][0]["detail"] == [{"type": "times", "valueString": "4"}]
    assert "Canarybird" not in str(made)
    assert check(made) == []


def test_a_shared_row_is_bounded() -> None:
    many = [replace(STRANGER, type="Patient", asked=f"Patient/{n:08}-d9cb-469f-a165-70867728950e") for n in range(9999)]
    assert len(facets(event(together(many), "e1")).persons) == MOST_TRIED + 1
    mixed = event(together([STRANGER, replace(STRANGER, interaction="create", route="/fhir/{type}")]), "e1")
    assert [each["code"] for each in mixed["subtype"]] == ["operation", "refused"]
    assert together([STRANGER]) is STRANGER
