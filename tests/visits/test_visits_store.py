"""What the store makes of visits: the same, in whatever order and however often they are sent."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from fhirgw.store.visits import Lost, Provider, take
from fhirgw.visits.batch import told_apart
from fhirgw.visits.reading import Reader, Sent
from fhirgw.visits.rules import rules
from tests.conftest import NewDatabase
from tests.put import connected
from tests.visits.visiting import A, county, state, visit

NOW = datetime(2026, 4, 1, tzinfo=UTC)
READER = Reader(rules(Path(__file__).parents[2] / "mappings"))
KESTREL = Provider("K01", ("Organization/kestrel",), "Z99")


async def sent(connection: asyncpg.Connection, *rows: Any, now: datetime = NOW, alone: bool = False) -> list[str]:
    """The statuses of a batch of rows that are all sound."""
    read = told_apart([READER.read(each, "K01", now) for each in rows])
    assert all(isinstance(each, Sent) for each in read), read
    return [each.status for each in await take(connection, KESTREL, read, now, alone=alone)]  # type: ignore[arg-type]


ROWS = st.builds(
    lambda id, version, minute, parts: {
        **visit(f"V{id}", version=version, changed=f"2026-03-30T09:{minute:02}:00Z"),
        **parts,
    },
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 3),
    st.sampled_from(
        [
            {},
            {"carers": [], "carer": None},
            {"tasks": None},
            {"person": {"nhsNumber": "9990000050"}},
            {"outcome": {"code": "hospital"}, "carers": None},
            {"notes": [{"text": "Ate well"}]},
        ]
    ).map(lambda parts: {name: value for name, value in parts.items() if name != "carer"}),
)
SINGLES = st.builds(
    lambda id, carer, minute: {
        "visit": f"V{id}",
        "changed": f"2026-03-30T09:{minute:02}:30Z",
        "carer": {"carer": f"C{carer}", "start": f"2026-03-30T07:{minute:02}"},
    },
    *(st.integers(0, 2), st.integers(1, 3), st.integers(0, 3)),
)


@settings(max_examples=30)
@given(rows=st.lists(ROWS | SINGLES, min_size=1, max_size=8), data=st.data())
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


async def test_a_visit_is_its_persons_when_the_package_comes(connection: asyncpg.Connection) -> None:
    """What is kept unallocated is allocated when it is sent again; what is in a record is closed with the package."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute("UPDATE fhirgw.relationship SET ends = now() - interval '1 day' WHERE person = $1", A)
        (first,) = await take(connection, KESTREL, [_read(visit())], NOW)
        assert (first.status, first.patient, first.fault and first.fault.reason) == ("stored", None, "unallocated")
        await connection.execute("UPDATE fhirgw.relationship SET ends = 'infinity' WHERE person = $1", A)
        (again,) = await take(connection, KESTREL, [_read(visit())], NOW)
        assert (again.status, again.patient) == ("unchanged", A)
        await connection.execute("UPDATE fhirgw.relationship SET ends = now() - interval '1 day' WHERE person = $1", A)
        (late,) = await take(connection, KESTREL, [_read(visit(version=9))], NOW)
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


def _read(row: Any) -> Sent:
    found = READER.read(row, "K01", NOW)
    assert isinstance(found, Sent)
    return found
