"""Every page shows what matched as of the first, though others create, change and delete between them: each match once,
as it was. But for what its caller may not see any more. Written by what requests write with (fhirgw.store.write)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from itertools import count as counting
from typing import Any, NamedTuple

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.canonical import decode
from fhirgw.fhir.issue import FhirError, Resource
from fhirgw.fhir.query import Query
from fhirgw.store import cursor
from fhirgw.store import write as writes
from fhirgw.store.database import Readers, declared, readers
from fhirgw.store.incoming import made_of
from fhirgw.store.search import Page, search
from tests.conftest import NewDatabase
from tests.put import connected, put

EVERYTHING = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
Pairs = list[tuple[str, str]]
FAMILIES, CODES = ("Ash", "Elm", "Oak", "Yew"), ("a", "b", "c")
MOMENTS = counting()


class Change(NamedTuple):
    """What a writer does to the resource of a number: `kind` 0 changes it (or makes it anew), 1 deletes it."""

    kind: int
    patient: bool
    number: int
    pick: int


def person(n: int, pick: int) -> Resource:
    named = {} if pick % 5 == 0 else {"name": [{"family": FAMILIES[pick % 4], "given": [FAMILIES[pick // 4 % 4]]}]}
    born = {} if pick % 3 == 0 else {"birthDate": f"19{50 + pick % 7}-0{1 + pick % 9}"}
    return {"resourceType": "Patient", "id": f"p{n:02}", **named, **born}


def observation(n: int, pick: int) -> Resource:
    value = {} if pick % 4 == 0 else {"valueQuantity": {"value": pick % 6, "code": "kg"}}
    code = {"coding": [{"code": CODES[pick % 3], "display": f"Code {CODES[pick % 3]}"}]}
    about = {"subject": {"reference": f"Patient/p{pick % 20:02}"}}
    return {"resourceType": "Observation", "id": f"o{n:02}", "code": code, **about, **value}


class Writer:
    """Somebody who writes, in transactions of their own."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection

    async def do(self, changes: Sequence[Change]) -> None:
        async with self.connection.transaction():
            for each in changes:
                await self._do(each)

    async def _do(self, change: Change) -> None:
        kind, id = ("Patient", f"p{change.number:02}") if change.patient else ("Observation", f"o{change.number:02}")
        made = person(change.number, change.pick) if change.patient else observation(change.number, change.pick)
        version = "SELECT version FROM fhirgw.resource WHERE type = $1 AND id = $2"
        held = await self.connection.fetchval(version, kind, id)
        moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=next(MOMENTS) * 7 % 1000)
        if change.kind == 1 and held is not None:
            await writes.remove(self.connection, "test", kind, {id: held}, moment)
        elif change.kind == 0:
            last = "SELECT coalesce(max(version), 0) FROM fhirgw.history WHERE type = $1 AND id = $2"
            after = held or await self.connection.fetchval(last, kind, id)
            written = made_of(made, "update" if held else "create", after + 1, moment, "test", "Z99")
            await writes.write(self.connection, "test", [written])


class Store(NamedTuple):
    pool: Readers
    writer: Writer
    slow: Writer


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    async with readers(url, replan=True) as pool:
        connections = [await connected(url) for _ in range(2)]
        for each in connections:
            await each.execute("SET search_path = fhirgw")
        try:
            yield Store(pool, *map(Writer, connections))
        finally:
            for each in connections:
                await each.close()


@pytest.fixture(scope="module")
async def store(new_database: NewDatabase) -> AsyncIterator[Store]:
    async with new_database() as url, opened(url) as made:
        await made.writer.do([Change(0, True, n, n * 7) for n in range(20)])
        await made.writer.do([Change(0, False, n, n * 5) for n in range(40)])
        yield made


async def page(pool: Readers, kind: str, pairs: Pairs, permit: Permit = EVERYTHING) -> Page:
    async with pool.acquire() as connection, declared(connection, permit, isolation="REPEATABLE READ"):
        return await search(connection, permit, Query.parse(kind, pairs))


async def first_and_all(pool: Readers, kind: str, pairs: Pairs, count: int) -> tuple[Page, list[Any]]:
    """The first page, and in the same transaction everything that matches."""
    async with pool.acquire() as connection, declared(connection, EVERYTHING, isolation="REPEATABLE READ"):
        begun = await search(connection, EVERYTHING, Query.parse(kind, [*pairs, ("_count", str(count))]))
        every = await search(connection, EVERYTHING, Query.parse(kind, [*pairs, ("_count", "1000")]))
        return begun, every.matches


REQUESTS: list[tuple[str, Pairs]] = [
    ("Patient", []),
    ("Patient", [("_sort", "-_lastUpdated")]),
    ("Patient", [("_sort", "family,-birthdate")]),
    ("Patient", [("_sort", "-given")]),
    ("Patient", [("_sort", "birthdate"), ("family:missing", "false")]),
    ("Patient", [("family", "a,e,y")]),
    ("Patient", [("name:contains", "a"), ("_sort", "-family")]),
    ("Patient", [("birthdate", "gt1952"), ("_sort", "-birthdate")]),
    ("Patient", [("_has:Observation:patient:code", "a")]),
    ("Patient", [("_has:Observation:subject:value-quantity", "gt1"), ("_sort", "family")]),
    ("Observation", [("code:not", "a")]),
    ("Observation", [("code", "b"), ("_sort", "value-quantity")]),
    ("Observation", [("_sort", "-code,subject")]),
    ("Observation", [("value-quantity", "ge2||kg"), ("_sort", "-value-quantity,_lastUpdated")]),
    ("Observation", [("value-quantity:missing", "true")]),
    ("Observation", [("code-value-quantity", "b$lt5")]),
    ("Observation", [("code:text", "code b")]),
    ("Observation", [("subject:Patient.family", "a,o")]),
    ("Observation", [("subject:Patient._has:Observation:patient:code", "c"), ("_sort", "-_lastUpdated")]),
    ("", [("_type", "Patient,Observation"), ("_sort", "_lastUpdated")]),
]
changes = st.lists(
    st.builds(Change, st.sampled_from((0, 0, 0, 1)), st.booleans(), st.integers(0, 39), st.integers(0, 300)), max_size=6
).map(lambda found: list({(each.patient, each.number): each for each in found}.values()))


@pytest.mark.parametrize("asked", REQUESTS, ids=str)
@settings(max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(before=changes, rounds=st.lists(changes, min_size=1, max_size=4), size=st.integers(3, 9))
async def test_pages_are_of_one_moment(
    asked: tuple[str, Pairs], before: list[Change], rounds: list[list[Change]], size: int, store: Store
) -> None:
    """`before` is written and not committed when the first page is read; each of `rounds` between two pages."""
    kind, pairs = deepcopy(asked)
    slow = store.slow.connection.transaction()
    await slow.start()
    touched = {(each.patient, each.number) for each in before}
    for each in before:
        await store.slow._do(each)
    begun, every = await first_and_all(store.pool, kind, pairs, size)
    await slow.commit()
    found, following, at = list(begun.matches), begun.next, 0
    while following is not None:
        again = rounds[at % len(rounds)]
        await store.writer.do([each for each in again if at or (each.patient, each.number) not in touched])
        one = await page(store.pool, kind, [*pairs, ("_count", str(size)), ("_cursor", following)])
        assert one.total == begun.total == len(every)
        found, following, at = found + one.matches, one.next, at + 1
    assert [each[:3] for each in found] == [each[:3] for each in every]


async def test_what_is_written_meanwhile_would_be_seen_without_a_snapshot(store: Store) -> None:
    """The control: the writes do change the answers."""
    before = await page(store.pool, "Patient", [("_sort", "family"), ("_count", "1000")])
    await store.writer.do([Change(0, True, n, n * 11 + 3) for n in range(20)])
    after = await page(store.pool, "Patient", [("_sort", "family"), ("_count", "1000")])
    assert [each.id for each in before.matches] != [each.id for each in after.matches]


async def test_what_is_hidden_meanwhile_is_on_no_later_page(database: str) -> None:
    """Sealed after the first page, as a new version with a label: neither the new one nor the old one is shown."""
    people: list[Resource] = [{"resourceType": "Patient", "id": f"p{n}", "birthDate": "1950"} for n in range(8)]
    await put(database, *people)
    async with opened(database) as store:
        first = await page(store.pool, "Patient", [("_count", "3")])
        assert first.next
        sealed = deepcopy(people[5])
        label = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}
        sealed["meta"] = {"security": [label]}
        moment = datetime(2026, 2, 1, tzinfo=UTC)
        async with store.writer.connection.transaction():
            await writes.write(store.writer.connection, "test", [made_of(sealed, "update", 2, moment, "test", "Z99")])
            gone = made_of({**people[6], "birthDate": "1960"}, "update", 2, moment, "test", "Z99")
            await writes.write(store.writer.connection, "test", [gone])
        rest = await page(store.pool, "Patient", [("_count", "10"), ("_cursor", first.next)])
        assert [each.id for each in rest.matches] == ["p3", "p4", "p6", "p7"]
        assert decode(rest.matches[2].body)["birthDate"] == "1950"
        assert rest.total == 8


async def test_rows_from_before_a_restore_are_on_every_page(database: str) -> None:
    """A dump keeps the numbers of another server's transactions: ahead of this one's, and long ended."""
    await put(database, *({"resourceType": "Patient", "id": f"p{n}"} for n in range(8)))
    async with opened(database) as store:
        await store.writer.connection.execute("UPDATE fhirgw.resource SET transaction = '99999999'::xid8")
        first = await page(store.pool, "Patient", [("_count", "3")])
        rest = await page(store.pool, "Patient", [("_count", "10"), ("_cursor", first.next or "")])
        assert [each.id for each in rest.matches] == [f"p{n}" for n in range(3, 8)]


async def test_a_cursor_is_sealed_and_goes_stale(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = [("_sort", "family"), ("_count", "3")]
    following = (await page(store.pool, "Patient", asked)).next
    assert following is not None
    assert (await page(store.pool, "Patient", [*asked, ("_cursor", following)])).matches
    opened = cursor.base64.urlsafe_b64decode(following + "==")
    assert not any(name.lower().encode() in opened for name in FAMILIES)
    assert following != (await page(store.pool, "Patient", asked)).next  # nothing can be told from two alike
    monkeypatch.setattr(cursor, "LIFETIME", -1)
    with pytest.raises(FhirError, match="older than a day"):
        await page(store.pool, "Patient", [*asked, ("_cursor", following)])
