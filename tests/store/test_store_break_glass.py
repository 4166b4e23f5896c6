"""A grant is for one person, one practitioner, one reason and half an hour; and somebody is told before it is given."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fhirgw.access.permit import Permit
from fhirgw.access.scope import scopes
from fhirgw.fhir.issue import FhirError
from fhirgw.store.break_glass import AT_ONCE, Grant, grant, held_by, queue, reason, review
from fhirgw.store.database import Connection, direct

WHY = "found on the floor, cannot speak, need her medicines"


def permit(practitioner: str = "w1") -> Permit:
    return Permit("RAB", "direct-care", scopes("user/*.rs"), practitioner=practitioner, registration="trust-app")


@pytest.fixture
async def connection(engine: AsyncEngine) -> AsyncIterator[Connection]:
    async with direct(engine) as connection:
        yield connection


async def given(connection: Connection, person: str = "p1", practitioner: str = "w1") -> Grant:
    return await grant(connection, permit(practitioner), person, WHY, lambda made: None)


async def test_a_grant_is_for_half_an_hour_and_waits_for_a_review(connection: Connection) -> None:
    told: list[Grant] = []
    before = datetime.now(UTC)
    made = await grant(connection, permit(), "p1", WHY, told.append)
    assert made[1:6] == ("p1", "w1", "RAB", "trust-app", WHY)
    assert made.expires - made.granted == timedelta(minutes=30)
    assert abs(made.granted - before) < timedelta(minutes=1)
    assert told == [made]
    assert await queue(connection) == [made]
    assert await connection.fetchval("SELECT alerted FROM fhirgw.break_glass") == made.granted
    assert await held_by(connection, "p1", "w1") == made.id


async def test_a_grant_is_nobody_elses(connection: Connection) -> None:
    await given(connection)
    assert await held_by(connection, "p2", "w1") is None
    assert await held_by(connection, "p1", "w2") is None
    assert await held_by(connection, "p1", None) is None


async def test_what_nobody_can_be_told_of_is_not_granted(connection: Connection) -> None:
    def fails(made: Grant) -> None:
        raise OSError("no log")

    with pytest.raises(OSError, match="no log"):
        await grant(connection, permit(), "p1", WHY, fails)
    assert await queue(connection) == []


async def test_a_list_of_people_is_no_emergency(connection: Connection) -> None:
    for number in range(AT_ONCE):
        await given(connection, f"p{number}")
    with pytest.raises(FhirError, match="grants are in force already") as refused:
        await given(connection, "p9")
    assert refused.value.status == 429
    assert (await given(connection, "p9", "w2")).person == "p9"
    await connection.execute("UPDATE fhirgw.break_glass SET expires = now() - interval '1 second'")
    assert (await given(connection, "p9")).person == "p9"


async def test_asking_all_at_once_gets_no_more(engine: AsyncEngine) -> None:
    async def one(number: int) -> bool:
        async with direct(engine) as connection:
            try:
                await given(connection, f"p{number}")
            except FhirError:
                return False
            return True

    assert sum(await asyncio.gather(*(one(number) for number in range(AT_ONCE * 2)))) == AT_ONCE


async def test_a_review_writes_down_a_finding_once(connection: Connection) -> None:
    made = await given(connection)
    found = await review(connection, made.id, "appropriate", "A. Guardian")
    assert (found.finding, found.reviewer, found.expires) == ("appropriate", "A. Guardian", made.expires)
    assert await queue(connection) == []
    assert await queue(connection, reviewed=True) == [found]
    with pytest.raises(FhirError, match="reviewed already") as refused:
        await review(connection, made.id, "inappropriate", "B. Guardian")
    assert refused.value.status == 409
    with pytest.raises(FhirError, match="There is no such grant"):
        await review(connection, "nothing", "appropriate", "A. Guardian")


async def test_an_inappropriate_grant_ends_at_once(connection: Connection) -> None:
    made = await given(connection)
    await review(connection, made.id, "inappropriate", "A. Guardian")
    assert await held_by(connection, "p1", "w1") is None


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("expires", "granted + interval '31 minutes'", "break_glass_minutes"),
        ("reason", "'short'", "break_glass_reason"),
        ("finding", "'fine'", "break_glass_finding"),
        ("finding", "'appropriate'", "break_glass_review"),
    ],
)
async def test_the_database_keeps_the_rules_too(connection: Connection, column: str, value: str, rule: str) -> None:
    await given(connection)
    with pytest.raises(asyncpg.CheckViolationError, match=rule):
        await connection.execute(f"UPDATE fhirgw.break_glass SET {column} = {value}")


@pytest.mark.parametrize(
    "text", [None, 7, "", "too short", " a  b  c ", "aaaaaaaaaaaa", "x" * 2001, "a reason\x00with NUL"]
)
def test_a_reason_says_something(text: object) -> None:
    assert reason("  fell at home,\n no answer  ") == "fell at home, no answer"
    with pytest.raises(FhirError, match="Break-glass needs a reason") as refused:
        reason(text)
    assert refused.value.status == 400
