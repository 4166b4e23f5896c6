"""A read under the permit of the request before: it holds as long as nothing has changed that it rests on.

Each case ends something between two requests. What it ends is asked of the answer alone; that the statement which
reads also asks whether the permit holds is the positive control, counted.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from fhirgw.api import authenticate, context
from fhirgw.store.registration import ODS_CODE
from tests.api.smart_world import BASE, World, world
from tests.put import connected, put

ORGANISATION = {
    "resourceType": "Organization",
    "id": "o1",
    "identifier": [{"system": ODS_CODE, "value": "Z9C01"}],
    "active": True,
}


@pytest.fixture
async def here(database: str, tmp_path: Path) -> AsyncIterator[World]:
    await put(database, ORGANISATION)
    async with world(database, tmp_path / "keys") as made:
        await made.register()
        yield made


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often it was asked in full who a caller is."""
    times = 0
    known = authenticate.callers

    async def counted(*given: Any) -> Any:
        nonlocal times
        times += 1
        return await known(*given)

    monkeypatch.setattr(authenticate, "callers", counted)
    return lambda: times


async def read(here: World, token: str, id: str = "o1", **headers: str) -> tuple[int, str]:
    """The status, and how many requests are left."""
    answered = await here.http.get(f"{BASE}/Organization/{id}", headers={"authorization": f"Bearer {token}"} | headers)
    assert answered.status_code != 200 or answered.json() | {"meta": None} == ORGANISATION | {"meta": None}
    return answered.status_code, answered.headers.get("ratelimit", "").partition(";t=")[0]


async def search(here: World, token: str, code: str = "Z9C01") -> tuple[int, list[str]]:
    """The status, and the ids of what is found."""
    return await searched(here, token, f"identifier={ODS_CODE}|{code}")


async def walk(here: World, token: str, active: str = "true") -> tuple[int, list[str]]:
    """The same, of a page in the order of ids."""
    return await searched(here, token, f"active={active}&_total=none")


async def searched(here: World, token: str, asks: str) -> tuple[int, list[str]]:
    address = f"{BASE}/Organization?{asks}".replace("/fhir/Org", "/found/Org")
    answered = await here.http.get(address, headers={"authorization": f"Bearer {token}"})
    entries = answered.json().get("entry", [])
    return answered.status_code, [each["resource"]["id"] for each in entries if "fullUrl" in each]


async def execute(here: World, statement: str) -> None:
    connection = await connected(here.url)
    await connection.execute(statement)
    await connection.close()


async def test_who_has_not_changed_is_asked_about_in_the_statement_that_reads(
    here: World, asked: Callable[[], int]
) -> None:
    good = await here.token()
    before = asked()
    assert [(await read(here, good))[0] for _ in range(4)] == [200] * 4
    assert asked() == before + 1


async def test_a_search_that_finds_nothing_tells_that_the_permit_holds(here: World, asked: Callable[[], int]) -> None:
    good = await here.token()
    before = asked()
    told = [await search(here, good, code) for code in ("Z9C01", "Z9C01", "RRE", "RRE")]
    assert told == [(200, ["o1"]), (200, ["o1"]), (200, []), (200, [])]
    assert asked() == before + 1


async def test_a_page_is_read_in_the_statement_that_asks_whether_the_permit_holds(
    here: World, asked: Callable[[], int]
) -> None:
    """One that is empty says nothing of it: then it is asked."""
    good = await here.token()
    before = asked()
    assert [await walk(here, good) for _ in range(4)] == [(200, ["o1"])] * 4
    assert asked() == before + 1
    assert await walk(here, good, "false") == (200, [])
    assert asked() == before + 2


async def test_searches_of_the_same_moment_are_each_told_what_they_found(here: World) -> None:
    good = await here.token()
    await search(here, good)
    codes = ["Z9C01", "RRE"] * 8
    told = await asyncio.gather(*(search(here, good, code) for code in codes))
    assert told == [(200, ["o1"] if code == "Z9C01" else []) for code in codes]


async def test_what_is_malformed_is_told_to_who_has_a_token_and_to_nobody_else(here: World) -> None:
    good = await here.token()
    await search(here, good)
    address = f"{BASE}/Organization?nonsense=1".replace("/fhir/Org", "/found/Org")
    answered = await here.http.get(address, headers={"authorization": f"Bearer {good}"})
    assert answered.status_code == 400
    await execute(here, "UPDATE fhirgw.issued_token SET revoked = now()")
    answered = await here.http.get(address, headers={"authorization": f"Bearer {good}"})
    assert answered.status_code == 401


async def test_every_read_is_audited_with_its_permit(here: World) -> None:
    good = await here.token()
    for _ in range(3):
        await read(here, good)
    connection = await connected(here.url)
    query = "SELECT registration, organisation, outcome FROM fhirgw.audit WHERE purpose = 'direct-care'"
    rows = await connection.fetch(query)
    await connection.close()
    assert list(map(tuple, rows)) == [("app", "Z9C01", rows[0]["outcome"])] * 3


async def last_audited(here: World) -> tuple[Any, ...]:
    """The application, its organisation and the status in the newest row of the audit."""
    connection = await connected(here.url)
    query = "SELECT registration, organisation, outcome FROM fhirgw.audit ORDER BY sequence DESC LIMIT 1"
    row = await connection.fetchrow(query)
    await connection.close()
    assert row is not None
    return tuple(row)


def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every statement that reads or searches takes too long; who asks is still told."""

    async def stopped(*_: Any, **__: Any) -> Any:
        raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")

    monkeypatch.setattr(context.resources, "read_each", stopped)
    monkeypatch.setattr(context, "found", stopped)
    monkeypatch.setattr(context.search, "walked", stopped)


@pytest.mark.parametrize("asks", [read, search, walk])
async def test_who_asked_what_fails_is_in_the_audit(here: World, monkeypatch: pytest.MonkeyPatch, asks: Any) -> None:
    good = await here.token()
    assert (await asks(here, good))[0] == 200
    permitted = await last_audited(here)
    slow(monkeypatch)
    assert (await asks(here, good))[0] == 400
    assert permitted[:2] == (await last_audited(here))[:2] == ("app", "Z9C01")


@pytest.mark.parametrize("asks", [read, search, walk])
async def test_who_is_let_nowhere_is_not_told_what_fails(
    here: World, monkeypatch: pytest.MonkeyPatch, asks: Any
) -> None:
    good = await here.token()
    assert (await asks(here, good))[0] == 200
    slow(monkeypatch)
    await execute(here, "UPDATE fhirgw.issued_token SET revoked = now()")
    assert (await asks(here, good))[0] == 401


async def test_who_asked_is_in_the_audit_where_nobody_could_be_asked_about(
    here: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = await here.token()

    async def away(*_: Any) -> Any:
        raise asyncpg.ConnectionDoesNotExistError("gone")

    monkeypatch.setattr(authenticate, "callers", away)
    assert (await read(here, good))[0] == 503
    assert (await last_audited(here))[0] == "app"


ENDS = {
    "deactivated": (401, "UPDATE fhirgw.registration SET active = false WHERE id = 'app'"),
    "gone": (401, "DELETE FROM fhirgw.registration WHERE id = 'app'"),
    "revoked": (401, "UPDATE fhirgw.issued_token SET revoked = now() WHERE registration = 'app'"),
    "expired": (401, "UPDATE fhirgw.issued_token SET expires = now() WHERE registration = 'app'"),
    "never issued": (401, "DELETE FROM fhirgw.issued_token WHERE registration = 'app'"),
    "narrowed": (403, "UPDATE fhirgw.registration SET scopes = 'system/Patient.r' WHERE id = 'app'"),
    "for another purpose": (403, "UPDATE fhirgw.registration SET purposes = '{planning}' WHERE id = 'app'"),
    "for a person": (401, "UPDATE fhirgw.registration SET patient = 'p1' WHERE id = 'app'"),
}


@pytest.mark.parametrize("name", ENDS)
async def test_what_has_ended_has_ended_at_the_next_read(here: World, name: str) -> None:
    status, statement = ENDS[name]
    good = await here.token()
    assert [(await read(here, good))[0] for _ in range(2)] == [200, 200]
    assert [await search(here, good) for _ in range(2)] == [(200, ["o1"])] * 2
    assert [await walk(here, good) for _ in range(2)] == [(200, ["o1"])] * 2
    await execute(here, statement)
    assert [await walk(here, good) for _ in range(2)] == [(status, [])] * 2
    assert [await search(here, good) for _ in range(2)] == [(status, [])] * 2
    assert [(await read(here, good))[0] for _ in range(2)] == [status] * 2


async def test_who_asks_after_the_end_is_refused_whoever_is_answered_meanwhile(here: World) -> None:
    good = await here.token()
    await read(here, good)
    before = [asyncio.create_task(asks(here, good)) for asks in (read, search, walk) for _ in range(16)]
    await asyncio.sleep(0)
    await execute(here, "UPDATE fhirgw.issued_token SET revoked = now()")
    after = await asyncio.gather(*(asks(here, good) for asks in (read, search, walk) for _ in range(16)))
    assert {status for status, _ in after} == {401}
    assert {status for status, _ in await asyncio.gather(*before)} <= {200, 401}


async def test_who_goes_away_takes_nobody_elses_answer_along(here: World) -> None:
    good = await here.token()
    await read(here, good)
    tasks = [asyncio.create_task(search(here, good, code)) for code in ("Z9C01", "RRE") * 8]
    for _ in range(20):
        await asyncio.sleep(0)
    for each in tasks[:8]:
        each.cancel()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert told[8:] == [(200, ["o1"]), (200, [])] * 4


CHANGES = {
    "the registration": "UPDATE fhirgw.registration SET clearance = 4 WHERE id = 'app'",
    "to the same": "UPDATE fhirgw.registration SET clearance = clearance WHERE id = 'app'",
    "whom records name it by": "UPDATE fhirgw.resource SET tokens = '{}' WHERE type = 'Organization' AND id = 'o1'",
    "the agreement": "UPDATE fhirgw.registration SET agreement = 'A', agreement_until = now() WHERE id = 'app'",
}


@pytest.mark.parametrize("name", CHANGES)
async def test_what_has_changed_is_asked_anew_and_once(here: World, asked: Callable[[], int], name: str) -> None:
    good = await here.token()
    await read(here, good)
    before = asked()
    await execute(here, CHANGES[name])
    assert [(await read(here, good))[0] for _ in range(3)] == [200] * 3
    assert asked() == before + 1


async def test_an_agreement_that_runs_out_by_itself_is_noticed(here: World, asked: Callable[[], int]) -> None:
    """No row changes when it does: here it has run out, for the row that says so is put back as it was."""
    await here.register(agreement="A", agreement_until=None)
    good = await here.token()
    await read(here, good)
    made = next(each for each in here.smart.gatekeeper._made.values() if each.known.standing)
    assert made.known.standing is not None
    object.__setattr__(made, "known", made.known._replace(standing=made.known.standing._replace(asker_agreed=False)))
    before = asked()
    assert (await read(here, good))[0] == 200
    assert asked() == before + 1


async def test_a_case_that_is_named_is_asked_about(here: World) -> None:
    good = await here.token()
    assert [(await read(here, good))[0] for _ in range(2)] == [200, 200]
    named = {"x-safeguarding-case": "c1"}
    assert (await read(here, good, **named))[0] == 403
    assert (await read(here, good, **{"x-break-glass": "g1"}))[0] == 403


async def test_a_read_is_counted_once_whatever_it_finds(here: World) -> None:
    await here.register(rate=5)
    good = await here.token()
    told = [await read(here, good, id) for id in ("o1", "o1", "o2", "o 3", "o1", "o1")]
    statuses, left = zip(*told, strict=True)
    assert statuses == (200, 200, 404, 404, 200, 429)
    assert [each.rpartition("=")[2] for each in left] == ["4", "3", "2", "1", "0", "0"]


async def test_what_is_no_token_any_more_is_refused_before_anything_is_read(here: World) -> None:
    good = await here.token()
    await read(here, good)
    assert (await read(here, good + "x"))[0] == 401
    assert (await read(here, good))[0] == 200
