"""What the store makes of visits: the same, in whatever order and however often they are sent."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhirgw.store.visits import Lost, Provider, take
from fhirgw.visits.batch import told_apart
from fhirgw.visits.merge import NOBODY_CAME, facts
from fhirgw.visits.reading import Reader, Refused, Sent
from fhirgw.visits.rules import rules
from tests.conftest import NewDatabase
from tests.put import connected
from tests.visits.visiting import A, blocked, county, state, until, visit

NOW = datetime(2026, 4, 1, tzinfo=UTC)
READER = Reader(rules(Path(__file__).parents[2] / "mappings"))
KESTREL = Provider("K01", ("Organization/kestrel",), "Z99")


async def sent(connection: asyncpg.Connection, *rows: Any, now: datetime = NOW, alone: bool = False) -> list[str]:
    """The statuses of a batch of rows that are all sound."""
    read = told_apart([READER.read(each, "K01", now) for each in rows])
    assert all(isinstance(each, Sent) for each in read), read
    return [each.status for each in await take(connection, KESTREL, read, READER.rules, now, alone=alone)]  # type: ignore[arg-type]


PARTS: list[dict[str, Any]] = [
    {},
    {"carers": []},
    {"tasks": None},
    {"person": {"nhsNumber": "9990000050"}},
    {"outcome": {"code": "hospital"}, "carers": None},
    {"notes": [{"text": "Ate well"}]},
    {"amended": {"by": "M1", "reason": "Forgot to check out"}, "claimed": {"start": "2026-03-30T07:30", "minutes": 45}},
    {"claimed": None, "line": {"order": "L1"}},
    {"observations": [{"name": "Temperature", "value": Decimal("36.50"), "unit": "Cel"}], "planned": None},
    {"planned": {"start": "2026-03-30T23:50", "end": "2026-03-31T00:20", "carers": 2}, "amended": None},
]


def _said(id: int, version: int, minute: int, parts: int) -> dict[str, Any]:
    """A row; what is said at one version and moment is one thing, or it would be refused."""
    return {
        **visit(f"V{id}", version=version, changed=f"2026-03-30T09:{minute:02}:{parts:02}Z"),
        **PARTS[parts],
    }


ROWS = st.builds(_said, st.integers(0, 2), st.integers(0, 2), st.integers(0, 3), st.integers(0, len(PARTS) - 1))
MISSED = st.builds(
    lambda id, minute: {
        "visit": f"V{id}",
        "changed": f"2026-03-30T09:{minute:02}:20Z",
        "outcome": {"code": "missed-by-provider"},
    },
    *(st.integers(0, 2), st.integers(0, 3)),
)
SINGLES = st.builds(
    lambda id, carer, minute: {
        "visit": f"V{id}",
        "changed": f"2026-03-30T09:{minute:02}:30Z",
        **(
            {"carer": {"carer": f"C{carer}", "start": f"2026-03-30T07:{minute:02}"}}
            if minute % 2
            else {"task": {"task": f"T{carer}", "outcome": "refused", "reason": "Asleep"}}
        ),
    },
    *(st.integers(0, 2), st.integers(1, 3), st.integers(0, 3)),
)


@settings(max_examples=30)
@given(rows=st.lists(ROWS | SINGLES | MISSED, min_size=1, max_size=8), data=st.data())
async def test_twice_shuffled_or_cut_is_the_same(
    connection: asyncpg.Connection, rows: list[Any], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    found = []
    for batches in (
        [rows],
        [shuffled, rows],
        [rows[:cut], shuffled[cut:], rows[:cut], rows[cut:]],
        [[each] for each in shuffled],
    ):
        transaction = connection.transaction()
        await transaction.start()
        try:
            for batch in batches:
                await sent(connection, *batch)
            found.append(await state(connection))
            assert set(await sent(connection, *rows)) == {"unchanged"}
            assert await state(connection) == found[-1]
        finally:
            await transaction.rollback()
    assert all(each == found[0] for each in found[1:])


async def test_batches_at_the_same_time_come_to_what_they_would_one_by_one(new_database: NewDatabase) -> None:
    """Each joins anew what another wrote while it was reading; nobody's rows are lost, nobody waits for ever."""
    rows = [visit(f"V{n % 20}", version=n // 20, changed="2026-03-30T09:00:00Z") for n in range(160)]
    shares = [rows[at::8] + rows[at + 1 :: 8] for at in range(8)]
    async with new_database() as url:
        await county(url)
        connections = [await connected(url) for _ in shares]
        try:
            lost = 0

            async def one(connection: asyncpg.Connection, share: list[Any]) -> list[str]:
                nonlocal lost
                for attempt in range(5):
                    try:
                        async with connection.transaction():
                            return await sent(connection, *share, alone=attempt > 0)
                    except Lost:
                        lost += 1
                raise AssertionError("nobody may wait for ever")

            statuses = await asyncio.gather(*map(one, connections, shares))
            together = await state(connections[0])
            assert sum(each.count("unchanged") for each in statuses) == sum(map(len, shares)) - len(rows)
            await connections[0].execute("DELETE FROM fhirgw.visit")
            async with connections[0].transaction():
                await sent(connections[0], *rows)
            assert await state(connections[0]) == together
            assert lost, "else nobody was in anybody's way"
        finally:
            for each in connections:
                await each.close()


async def test_batches_that_amend_the_same_visits_wait_for_one_another_in_one_order(new_database: NewDatabase) -> None:
    """However the rows stand there, and however a plan would come upon them: nobody waits for who waits for them."""
    rows = [visit(f"V{n}", changed="2026-03-30T09:00:00Z") for n in range(40)]
    async with new_database() as url:
        await county(url)
        one, other, third = [await connected(url) for _ in range(3)]
        try:
            for each in rows:
                await sent(one, each)
            first = await one.fetchval("SELECT visit FROM fhirgw.visit ORDER BY key LIMIT 1")
            for each in ("indexscan", "bitmapscan", "nestloop", "mergejoin"):  # leaves the order in which they arrived
                await other.execute(f"SET enable_{each} = off")
            async with other.transaction():
                async with third.transaction():
                    await third.execute("SELECT FROM fhirgw.visit WHERE visit = $1 FOR UPDATE", first)
                    amending = asyncio.create_task(sent(other, *[each | {"version": 2} for each in rows]))
                    await until(one, lambda: blocked(one, other))
                    free = await one.fetch("SELECT visit FROM fhirgw.visit FOR UPDATE SKIP LOCKED")
                assert await amending == ["stored"] * len(rows)
            assert len(free) == len(rows) - 1, "whoever waits for the first has none of the others"
        finally:
            for each in (one, other, third):
                await each.close()


async def test_a_visit_is_its_persons_when_the_package_comes(connection: asyncpg.Connection) -> None:
    """What is kept unallocated is allocated when it is sent again; what is in a record is closed with the package."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("UPDATE fhirgw.relationship SET ends = now() - interval '1 day' WHERE person = $1", A)
        (first,) = await take(connection, KESTREL, [_read(visit())], READER.rules, NOW)
        assert (first.status, first.patient, first.fault and first.fault.reason) == ("stored", None, "unallocated")
        await connection.execute("UPDATE fhirgw.relationship SET ends = 'infinity' WHERE person = $1", A)
        (again,) = await take(connection, KESTREL, [_read(visit())], READER.rules, NOW)
        assert (again.status, again.patient) == ("unchanged", A)
        await connection.execute("UPDATE fhirgw.relationship SET ends = now() - interval '1 day' WHERE person = $1", A)
        (late,) = await take(connection, KESTREL, [_read(visit(version=9))], READER.rules, NOW)
        assert (late.status, late.fault and late.fault.reason) == ("refused", "closed")
    finally:
        await transaction.rollback()


async def test_what_was_said_is_kept_as_it_was(connection: asyncpg.Connection) -> None:
    """An amendment by hand leaves the original, and what it does not speak of."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        amended = {"by": "M1", "reason": "Tag was broken"}
        corrected = [{"carer": "C1", "start": "2026-03-30T07:30", "end": "2026-03-30T08:05", "method": "manual"}]
        hand = {"visit": "V1", "version": 2, "changed": "2026-03-31T09:00", "carers": corrected, "amended": amended}
        await sent(connection, visit())
        await sent(connection, hand)
        rows = await connection.fetch("SELECT parts FROM fhirgw.visit_said ORDER BY source_version")
        told = [orjson.loads(each["parts"]) for each in rows]
        assert told[0] == dict(_read(visit()).said.parts)
        assert told[1] == dict(_read(hand).said.parts)
        now = orjson.loads(await connection.fetchval("SELECT parts FROM fhirgw.visit"))
        assert now == {**told[0], **told[1]}
    finally:
        await transaction.rollback()


async def test_what_has_no_time_of_its_own_holds_from_when_it_arrived(connection: asyncpg.Connection) -> None:
    def row(text: str) -> dict[str, Any]:
        return {"visit": "V1", "person": {"id": A}, "notes": [{"text": text}]}

    transaction = connection.transaction()
    await transaction.start()
    try:
        later = NOW + timedelta(hours=1)
        assert await sent(connection, row("first")) == ["stored"]
        assert await sent(connection, row("first"), now=later) == ["unchanged"]
        assert await sent(connection, row("second"), now=later) == ["stored"]
        assert await sent(connection, row("first"), now=later + timedelta(hours=1)) == ["stored"]
        assert "first" in await connection.fetchval("SELECT parts FROM fhirgw.visit")
    finally:
        await transaction.rollback()


def _note(text: str, version: int = 3) -> dict[str, Any]:
    return {"visit": "V1", "version": version, "changed": "2026-03-30T12:00:00Z", "notes": [{"text": text}]}


ONE, OTHER = _note("Ate well"), _note("Ate nothing")
BESIDE = {name: ONE[name] for name in ("visit", "version", "changed")} | {"tasks": None}
"""Of the same version and moment, and of another part."""


@pytest.mark.parametrize("before", [[], [visit()], [visit(), visit(version=2)], [visit(), _note("newest", 9)]])
@pytest.mark.parametrize("rows", [(ONE, OTHER), (OTHER, ONE)])
async def test_two_that_contradict_each_other_and_neither_is_newer_are_refused(
    connection: asyncpg.Connection, before: list[Any], rows: tuple[Any, Any]
) -> None:
    """In one batch both, of two batches the one that came second, which is told where; a newer one mends it."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        for each in before:
            await sent(connection, each)
        was = await state(connection)
        read = told_apart([_read(each) for each in rows])
        assert [each.faults[0][:2] for each in read if isinstance(each, Refused)] == [("notes", "ambiguous")] * 2
        assert await state(connection) == was
        assert await sent(connection, rows[0]) in (["stored"], ["superseded"])
        rest = [_read(each) for each in (BESIDE, *rows[::-1])]
        beside, second, again = await take(connection, KESTREL, rest, READER.rules, NOW)
        assert (second.status, second.fault and second.fault[:2]) == ("refused", ("notes", "ambiguous"))
        assert (beside.status in ("stored", "superseded"), again.status) == (True, "unchanged")
        assert rows[1]["notes"][0]["text"] not in str(await state(connection))
        assert await sent(connection, {**rows[1], "version": 10}) == ["stored"]
        assert rows[1]["notes"][0]["text"] in await connection.fetchval("SELECT parts FROM fhirgw.visit")
    finally:
        await transaction.rollback()


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (0, 2, 1)])
async def test_who_came_and_nobody_came_is_the_one_that_was_said_last(
    connection: asyncpg.Connection, order: tuple[int, ...]
) -> None:
    """Never both; what is overruled is kept, and holds again when what overruled it is withdrawn."""
    missed: dict[str, Any] = {"visit": "V1", "version": 2, "changed": "2026-03-30T13:00:00Z"}
    rows = [visit(), {**missed, "outcome": {"code": "missed-by-provider"}}, {**missed, "version": 3, "outcome": None}]
    transaction = connection.transaction()
    await transaction.start()
    try:
        for at in order[: order.index(2)] if order[-1] == 2 else (0, 1):
            await sent(connection, rows[at])
        shown = "SELECT began IS NULL, outcome, parts FROM fhirgw.visit"
        nobody, outcome, parts = await connection.fetchrow(shown)
        assert (nobody, outcome) == (True, "missed-by-provider")
        assert "carers" not in facts(orjson.loads(parts))
        assert "C1" in parts, "what is overruled is kept"
        for at in order:
            await sent(connection, rows[at])
        nobody, outcome, parts = await connection.fetchrow(shown)
        assert (nobody, outcome) == (False, None)
        assert facts(orjson.loads(parts))["carers"][0]["carer"] == "C1"
        assert await sent(connection, rows[1] | {"version": 7}) == ["stored"]
        assert await sent(connection, visit(version=8)) == ["stored"]
        nobody, outcome, parts = await connection.fetchrow(shown)
        assert (nobody, outcome, "outcome" in facts(orjson.loads(parts))) == (False, None, False)
        assert await sent(connection, rows[1] | {"version": 6}) == ["superseded"]
    finally:
        await transaction.rollback()


async def test_a_number_in_another_spelling_is_no_news(connection: asyncpg.Connection) -> None:
    def row(value: str) -> dict[str, Any]:
        return {**visit(), "observations": [{"name": "Temperature", "value": Decimal(value), "unit": "Cel"}]}

    transaction = connection.transaction()
    await transaction.start()
    try:
        assert await sent(connection, row("36.50")) == ["stored"]
        assert await sent(connection, row("36.5"), row("36.50")) == ["unchanged", "unchanged"]
        assert "36.50" in await connection.fetchval("SELECT parts FROM fhirgw.visit"), "as it was said first"
        (other,) = await take(connection, KESTREL, [_read(row("36.6"))], READER.rules, NOW)
        assert (other.status, other.fault and other.fault.column) == ("refused", "observations")
    finally:
        await transaction.rollback()


def test_the_outcomes_by_which_nobody_came_are_those_of_the_rules() -> None:
    assert {code for code, each in READER.rules.outcomes.items() if each.made is False} == NOBODY_CAME


def _read(row: Any) -> Sent:
    found = READER.read(row, "K01", NOW)
    assert isinstance(found, Sent)
    return found
