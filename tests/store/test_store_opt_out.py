"""A list of opt-outs is whole or refused, counts for some days, and takes the place of the one before in one step."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fhirgw.fhir.issue import FhirError
from fhirgw.store.database import Connection, direct
from fhirgw.store.opt_out import Loaded, check_fresh, fresh, load, numbers, size

ONE, TWO, THREE = "9000000009", "9434765919", "9990000018"
NOW = datetime.now(UTC)


@pytest.fixture
async def connection(engine: AsyncEngine) -> AsyncIterator[Connection]:
    async with direct(engine) as connection:
        yield connection


async def listed(connection: Connection) -> list[str]:
    return [row["nhs_number"] for row in await connection.fetch("SELECT * FROM fhirgw.opt_out ORDER BY 1")]


async def test_a_list_takes_the_place_of_the_one_before(connection: Connection) -> None:
    assert await load(connection, [ONE, TWO, ONE], NOW - timedelta(days=2)) == Loaded(2, 2, 0)
    assert await load(connection, [TWO, THREE], NOW - timedelta(days=1)) == Loaded(2, 1, 1)
    assert await listed(connection) == [TWO, THREE]
    assert await load(connection, [TWO, THREE], NOW - timedelta(days=1)) == Loaded(2, 0, 0)
    assert await size(connection) == 2


async def test_who_is_new_on_it_is_looked_for_in_what_was_exported(connection: Connection) -> None:
    insert = "INSERT INTO fhirgw.identifier (system, value, patient, origin, sure) VALUES ($1, $2, $3, 'test', 'yes')"
    for number, patient in ((ONE, "p1"), (ONE, "p1-again"), (TWO, "p2"), (THREE, "p3")):
        await connection.execute(insert, "https://fhir.nhs.uk/Id/nhs-number", number, patient)
    await load(connection, [TWO], NOW - timedelta(days=2))
    await connection.execute("DELETE FROM fhirgw.narrowed")
    await load(connection, [ONE, TWO], NOW)
    rows = await connection.fetch("SELECT person FROM fhirgw.narrowed ORDER BY 1")
    assert [row["person"] for row in rows] == ["p1", "p1-again"]


@pytest.mark.parametrize("bad", [["9000000000"], ["name"], ["9000000009 Canarybird"], ["9000000009;1"], ["0000000000"]])
def test_what_is_no_list_is_refused_by_line_and_never_quoted(bad: list[str]) -> None:
    with pytest.raises(FhirError, match=r"^Line 3 is no NHS number") as refused:
        list(numbers([ONE, "", *bad]))
    assert not any(text in str(refused.value) for text in bad)


def test_a_list_may_be_spaced_and_end_lines_with_commas() -> None:
    assert list(numbers(["\ufeff900 000 0009\r\n", "\n", "943-476-5919,\n"])) == [ONE, TWO]


async def test_an_empty_list_or_an_older_one_changes_nothing(connection: Connection) -> None:
    await load(connection, [ONE], NOW)
    with pytest.raises(FhirError, match="The list is empty"):
        await load(connection, [], NOW)
    with pytest.raises(FhirError, match="A newer list is in force") as refused:
        await load(connection, [TWO], NOW - timedelta(days=1))
    assert refused.value.issues[0].code == "business-rule"
    assert await listed(connection) == [ONE]
    with pytest.raises(FhirError, match="Line 2"):
        await load(connection, numbers([TWO, "nonsense"]), NOW)
    assert (await listed(connection), await size(connection)) == ([ONE], 1)


async def test_a_list_counts_for_some_days(connection: Connection) -> None:
    assert not await fresh(connection, 7)
    await load(connection, [ONE], NOW - timedelta(days=6, hours=23))
    assert await fresh(connection, 7)
    assert not await fresh(connection, 6.9)
    await check_fresh(connection, 7)
    with pytest.raises(FhirError, match="counts for 6 days") as refused:
        await check_fresh(connection, 6)
    assert (refused.value.status, refused.value.issues[0].code) == (503, "transient")
