"""What the store makes of visits: the same, in whatever order and however often they are sent."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhirgw.store.visits import Provider, take
from fhirgw.visits.batch import told_apart
from fhirgw.visits.reading import Reader, Sent
from fhirgw.visits.rules import rules
from tests.conftest import NewDatabase
from tests.put import connected
from tests.visits.visiting import county, state, visit

NOW = datetime(2026, 4, 1, tzinfo=UTC)
READER = Reader(rules(Path(__file__).parents[2] / "mappings"))
KESTREL = Provider("K01", ("Organization/kestrel",), "Z99")


@pytest.fixture(scope="module")
async def connection(new_database: NewDatabase) -> AsyncIterator[asyncpg.Connection]:
    async with new_database() as url:
        await county(url)
        connection = await connected(url)
        try:
            yield connection
        finally:
            await connection.close()


async def sent(connection: asyncpg.Connection, *rows: Any, now: datetime = NOW) -> list[str]:
    """The statuses of a batch of rows that are all sound."""
    read = told_apart([READER.read(each, "K01", now) for each in rows])
    assert all(isinstance(each, Sent) for each in read), read
    return [each.status for each in await take(connection, KESTREL, read, now)]  # type: ignore[arg-type]


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
