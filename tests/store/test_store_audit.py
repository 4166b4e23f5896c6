"""The audit in PostgreSQL: durable before anybody is answered, one chain for all, and no change goes unseen."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, UUID

import asyncpg
import orjson
import pytest

from fhirgw.access.audit_event import Access, Seen
from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.store.audit import COMPANY, Auditor, Unrecorded, drawn_uuid, record_now, row
from fhirgw.store.audit_chain import START, Point, verify
from fhirgw.store.database import connect
from fhirgw.store.looked import Looked, listed, looked
from fhirgw.store.migrate import migrate
from fhirgw.store.server import running
from tests.conftest import temporary

ANNE, BERT = "0f8fad5b-d9cb-469f-a165-70867728950e", "1f8fad5b-d9cb-469f-a165-70867728950e"
BEGAN = datetime(2026, 3, 3, tzinfo=UTC)
CARE = Permit("Z9C01", "direct-care", (Scope.parse("system/*.rs"),), registration="demo-ics")


def access(number: int, person: str | None = ANNE, **changed: object) -> Access:
    """The access of that number: a minute after the one before."""
    seen = [Seen("Goal", f"g{number}", person)] if person else []
    moment = BEGAN + timedelta(minutes=number)
    made = Access("read", "/fhir/{type}/{id}", moment, f"r{number}", type="Goal", seen=seen, permit=CARE)
    return replace(made, **changed)  # type: ignore[arg-type]


def request(body: str) -> str:
    return str(orjson.loads(body)["entity"][0]["what"]["identifier"]["value"])


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(database)
    yield made
    await made.close()


async def recorded(connection: asyncpg.Connection) -> list[str]:
    """The request ids in the order of the chain."""
    return [request(each.body) for each in reversed(await listed(connection, count=100_000))]


def test_ids_are_uuids_and_those_of_rows_say_when() -> None:
    drawn = [drawn_uuid() for _ in range(2000)]
    made = [UUID(orjson.loads(row(access(1)).body)["id"]) for _ in range(2000)]
    assert {(each.version, each.variant) for each in map(UUID, drawn)} == {(4, RFC_4122)}
    assert {(each.version, each.variant) for each in made} == {(7, RFC_4122)}
    assert {each.int >> 80 for each in made} == {int(access(1).moment.timestamp() * 1000)}
    assert len({*map(UUID, drawn), *made}) == 4000 and [*map(str, map(UUID, drawn))] == drawn


async def test_what_was_recorded_is_there(database: str, connection: asyncpg.Connection) -> None:
    async with Auditor(database) as auditor:
        await auditor.record(access(1))
        assert await recorded(connection) == ["r1"]
        await auditor.record(access(2))
        assert await recorded(connection) == ["r1", "r2"]


async def test_those_who_come_together_share_commits(database: str, connection: asyncpg.Connection) -> None:
    async with Auditor(database) as auditor:
        await auditor.record(access(0))
        await asyncio.gather(*(auditor.record(access(number)) for number in range(1, 65)))
    commits = await connection.fetchval("SELECT count(DISTINCT xmin::text) FROM fhirgw.audit WHERE sequence > 1")
    assert commits <= 3
    assert await recorded(connection) == [f"r{number}" for number in range(65)]
    assert (await verify(connection)).sound


async def test_nobody_is_told_before_the_disk_has_it_and_others_write_meanwhile(
    database: str, connection: asyncpg.Connection
) -> None:
    """The disk is a lock here, that is ours: the chain goes on, in a second commit when that is worth while."""
    wrote = await connection.fetchval("SELECT pg_get_functiondef('fhirgw.audit_write'::regproc)")
    assert wrote.count("COMMIT;") == 1
    await connection.execute(wrote.replace("COMMIT;", "COMMIT; PERFORM pg_catalog.pg_advisory_xact_lock(1);"))
    await connection.execute("SELECT pg_advisory_lock(1)")

    async def there(count: int) -> None:
        async with asyncio.timeout(60):
            while len(await recorded(connection)) < count:  # noqa: ASYNC110 (PostgreSQL tells nobody)
                await asyncio.sleep(0.01)

    async with Auditor(database) as auditor:
        tasks = [asyncio.create_task(auditor.record(access(0)))]
        await there(1)
        tasks += [asyncio.create_task(auditor.record(access(number))) for number in range(1, COMPANY + 1)]
        await there(COMPANY + 1)
        tasks += [asyncio.create_task(auditor.record(access(number))) for number in range(50, 60)]
        await record_now(connection, access(100))  # a command needs the head of the chain too
        assert not any(each.done() for each in tasks)
        assert len(await recorded(connection)) == COMPANY + 2
        await connection.execute("SELECT pg_advisory_unlock(1)")
        await asyncio.gather(*tasks)
    assert len(await recorded(connection)) == COMPANY + 12
    assert (await verify(connection)).sound


async def test_it_commits_durably_whatever_the_server_is_set_to(database: str, connection: asyncpg.Connection) -> None:
    await connection.execute("SET synchronous_commit = off")
    async with connection.transaction():
        await record_now(connection, access(1))
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
    assert await connection.fetchval("SHOW synchronous_commit") == "off"


async def test_leaving_writes_what_still_waits(database: str, connection: asyncpg.Connection) -> None:
    async with Auditor(database) as auditor:
        waiting = [asyncio.create_task(auditor.record(access(number))) for number in range(100)]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert len(await recorded(connection)) == 100
    with pytest.raises(Unrecorded):
        await auditor.record(access(100))


async def test_what_ends_it_leaves_nobody_waiting(database: str) -> None:
    """Also who was taken from the queue already, while others were waited for."""
    told: list[BaseException | None] = []
    with pytest.raises(asyncio.CancelledError):  # on leaving
        async with Auditor(database) as auditor:
            waiting = asyncio.create_task(auditor.record(access(0)))
            for _ in ("handed over", "taken"):
                await asyncio.sleep(0)
            assert auditor._task is not None and auditor._queue.empty() and not auditor._writing
            auditor._task.cancel()
            told += await asyncio.wait_for(asyncio.gather(waiting, return_exceptions=True), 10)
    assert [type(each) for each in told] == [Unrecorded]


async def test_a_full_queue_waits_and_loses_nothing(database: str, connection: asyncpg.Connection) -> None:
    async with Auditor(database, longest=3) as auditor:
        await asyncio.gather(*(auditor.record(access(number)) for number in range(50)))
    assert sorted(await recorded(connection)) == sorted(f"r{number}" for number in range(50))


async def test_one_who_stops_waiting_stops_nobody_else(database: str, connection: asyncpg.Connection) -> None:
    async with Auditor(database, longest=20) as auditor:
        tasks = [asyncio.create_task(auditor.record(access(number))) for number in range(60)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert [each for each in ended[1::2] if each is not None] == []
    assert {f"r{number}" for number in range(1, 60, 2)} <= set(await recorded(connection))
    assert (await verify(connection)).sound


@pytest.mark.parametrize("registration", ["a\0b", "a\ud800b"])
async def test_one_that_cannot_be_written_fails_alone(
    database: str, connection: asyncpg.Connection, registration: str
) -> None:
    bad = access(1, permit=replace(CARE, registration=registration))
    async with Auditor(database) as auditor:
        both = [auditor.record(each) for each in (access(0), bad, access(2))]
        ended = await asyncio.gather(*both, return_exceptions=True)
    assert [type(each) for each in ended] == [type(None), Unrecorded, type(None)]
    assert ended[1].status == 503  # type: ignore[union-attr]
    assert await recorded(connection) == ["r0", "r2"]


async def test_a_writer_that_hangs_fails_all_who_wait_in_time(
    database: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fhirgw.store.audit.SECONDS", 0.3)
    async with Auditor(database) as auditor:
        async with connection.transaction():
            await record_now(connection, access(0))
            async with asyncio.timeout(5):
                waiting = [auditor.record(access(number)) for number in range(1, 30)]
                ended = await asyncio.gather(*waiting, return_exceptions=True)
            assert {type(each) for each in ended} == {Unrecorded}
        await auditor.record(access(30))
    assert await recorded(connection) == ["r0", "r30"]


async def test_while_the_database_is_away_nobody_is_told_it_was_recorded() -> None:
    """And when it is back, it goes on where it was."""
    with temporary() as folder:
        with running(folder) as url:
            engine = connect(url)
            await migrate(engine)
            await engine.dispose()
            auditor = await Auditor(url).__aenter__()
            await auditor.record(access(0))
        ended = await asyncio.gather(*(auditor.record(access(n)) for n in range(1, 20)), return_exceptions=True)
        assert {type(each) for each in ended} == {Unrecorded}
        with running(folder):
            await auditor.record(access(20))
            await auditor.__aexit__(None, None, None)
            connection = await asyncpg.connect(url)
            assert await recorded(connection) == ["r0", "r20"]
            assert (await verify(connection)).sound
            await connection.close()


async def test_a_command_records_in_its_own_transaction(database: str, connection: asyncpg.Connection) -> None:
    with contextlib.suppress(KeyError):
        async with connection.transaction():
            await record_now(connection, access(1))
            raise KeyError
    assert await recorded(connection) == []
    await record_now(connection, access(2))
    assert await recorded(connection) == ["r2"]
    assert (await verify(connection)).sound


async def test_many_writers_make_one_chain(database: str, connection: asyncpg.Connection) -> None:
    async def writes(first: int) -> None:
        async with Auditor(database) as auditor:
            await asyncio.gather(*(auditor.record(access(first + number)) for number in range(100)))

    await asyncio.gather(*(writes(first) for first in (0, 100, 200)))
    found = await verify(connection)
    assert (found.sound, found.rows, found.head.sequence) == (True, 300, 300)


COLUMNS = "recorded, persons, registration, organisation, purpose, outcome, body"
COPY_TO = "INSERT INTO fhirgw.audit SELECT {} FROM fhirgw.audit"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE fhirgw.audit SET outcome = '0'",
        "DELETE FROM fhirgw.audit",
        "TRUNCATE fhirgw.audit",
        "TRUNCATE fhirgw.audit, fhirgw.audit_head",
        "UPDATE fhirgw.audit_head SET digest = digest",
        "UPDATE fhirgw.audit_head SET sequence = sequence - 1",
        "DELETE FROM fhirgw.audit_head",
        "INSERT INTO fhirgw.audit_head VALUES (true, 1, '')",
        "TRUNCATE fhirgw.audit_head",
        COPY_TO.format("sequence + 1, {}, digest"),
        COPY_TO.format("sequence + 5, {}, sha256(digest || convert_to(body, 'UTF8') || int8send(sequence + 5))"),
        COPY_TO.format("sequence + 5, {}, sha256(digest || convert_to(body, 'UTF8') || int8send(sequence + 1))"),
    ],
)
async def test_it_is_only_ever_added_to(connection: asyncpg.Connection, statement: str) -> None:
    await record_now(connection, access(1))
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only ever added to"):
        await connection.execute(statement.format(COLUMNS))
    await record_now(connection, access(2))
    assert await recorded(connection) == ["r1", "r2"]


async def test_a_row_that_the_chain_wants_next_is_added_and_followed(connection: asyncpg.Connection) -> None:
    await record_now(connection, access(1))
    next_one = "sequence + 1, {}, sha256(digest || convert_to(body, 'UTF8') || int8send(sequence + 1))"
    await connection.execute(COPY_TO.format(next_one.format(COLUMNS)))
    await record_now(connection, access(2))
    assert await recorded(connection) == ["r1", "r1", "r2"]
    assert (await verify(connection)).sound


async def test_a_body_that_is_no_audit_event_is_found(connection: asyncpg.Connection) -> None:
    blank = ", ".join(["array['']"] * 5)
    for body in ("{}", "x", '{"agent":1}'):
        await connection.fetchval(f"SELECT fhirgw.audit_append(array[now()], {blank}, array[$1])", body)
    found = await verify(connection)
    assert (found.broken, found.why) == (1, "its body is no AuditEvent of the gateway's")


DIGEST = "its digest does not fit its body and the row before it"
FACET = "what it is searched by is not what its body says"
CUT = "it and what came after it were cut off"
BEFORE = "it was put in before the first, where no chain holds it"
COPY = (
    "INSERT INTO fhirgw.audit SELECT 11, recorded, persons, registration, organisation, purpose, outcome, body, digest"
    " FROM fhirgw.audit WHERE sequence = 10"
)
CHANGES = [
    ("SELECT 1", None, ""),
    ("UPDATE fhirgw.audit SET body = replace(body, 'g4', 'g5') WHERE sequence = 4", 4, DIGEST),
    ("UPDATE fhirgw.audit SET digest = sha256('x') WHERE sequence = 4", 4, DIGEST),
    ("UPDATE fhirgw.audit SET sequence = sequence + 5 WHERE sequence > 6", 7, "it is missing"),
    ("UPDATE fhirgw.audit a SET body = b.body FROM fhirgw.audit b WHERE a.sequence + b.sequence = 9", 1, DIGEST),
    ("DELETE FROM fhirgw.audit WHERE sequence = 4", 4, "it is missing"),
    ("DELETE FROM fhirgw.audit WHERE sequence = 1", 1, "it is missing"),
    ("DELETE FROM fhirgw.audit WHERE sequence > 7", 8, CUT),
    ("DELETE FROM fhirgw.audit", 1, CUT),
    ("UPDATE fhirgw.audit_head SET digest = sha256('x')", 10, "it is not what was noted as the newest"),
    ("DELETE FROM fhirgw.audit_head", 1, "the note of the newest row is gone"),
    ("UPDATE fhirgw.audit SET persons = '{}' WHERE sequence = 4", 4, FACET),
    ("UPDATE fhirgw.audit SET recorded = now() WHERE sequence = 4", 4, FACET),
    ("UPDATE fhirgw.audit SET purpose = 'operations' WHERE sequence = 4", 4, FACET),
    ("UPDATE fhirgw.audit SET registration = '' WHERE sequence = 4", 4, FACET),
    ("UPDATE fhirgw.audit SET organisation = '' WHERE sequence = 4", 4, FACET),
    ("UPDATE fhirgw.audit SET outcome = '4' WHERE sequence = 4", 4, FACET),
    (COPY, 11, DIGEST),
    (COPY.replace("11", "0"), 0, BEFORE),
    (COPY.replace("11", "-7"), -7, BEFORE),
]
"""What somebody with all rights did to a chain of ten, where that is seen, and what is said of it."""


async def forged(connection: asyncpg.Connection, statement: str) -> None:
    """Runs a statement as one who owns the tables, with the triggers switched off."""
    for way in ("DISABLE", "ENABLE"):
        for table in ("audit", "audit_head"):
            await connection.execute(f"ALTER TABLE fhirgw.{table} {way} TRIGGER USER")
        if way == "DISABLE":
            await connection.execute(statement)


async def ten(connection: asyncpg.Connection) -> None:
    for number in range(1, 11):
        await record_now(connection, access(number))


@pytest.mark.parametrize(("statement", "broken", "why"), CHANGES)
async def test_what_was_changed_is_found(
    connection: asyncpg.Connection, statement: str, broken: int | None, why: str
) -> None:
    await ten(connection)
    await forged(connection, statement)
    found = await verify(connection)
    assert (found.broken, found.why) == (broken, why)
    assert found.sound is (broken is None)


async def test_a_tail_cut_off_with_its_note_is_found_by_a_point_noted_elsewhere(
    connection: asyncpg.Connection,
) -> None:
    await ten(connection)
    noted = (await verify(connection)).head
    await forged(connection, "DELETE FROM fhirgw.audit WHERE sequence > 7")
    await forged(
        connection,
        "UPDATE fhirgw.audit_head SET (sequence, digest) = (SELECT sequence, digest FROM fhirgw.audit"
        " WHERE sequence = 7)",
    )
    assert (await verify(connection)).sound  # nothing in the database says otherwise
    found = await verify(connection, [noted])
    assert (found.broken, found.why) == (8, "it and what came after it were cut off")
    for number in range(8, 11):
        await record_now(connection, access(number))
    found = await verify(connection, [noted])
    assert (found.broken, found.why) == (10, "it is not what was noted: the chain was written anew, or cut off")
    assert (await verify(connection, [(await verify(connection)).head])).sound


async def test_what_was_verified_before_need_not_be_read_again(connection: asyncpg.Connection) -> None:
    await ten(connection)
    noted = (await verify(connection)).head
    assert (await verify(connection, start=noted)).rows == 0
    for number in range(11, 14):
        await record_now(connection, access(number))
    found = await verify(connection, start=noted)
    assert (found.sound, found.rows, found.head.sequence) == (True, 3, 13)
    await forged(connection, "UPDATE fhirgw.audit SET outcome = '4' WHERE sequence IN (4, 12)")
    assert (await verify(connection)).broken == 4
    found = await verify(connection, start=noted)
    assert (found.broken, found.rows) == (12, 1)
    await forged(connection, "UPDATE fhirgw.audit SET digest = sha256('x') WHERE sequence = 10")
    found = await verify(connection, start=noted)
    assert (found.broken, found.why) == (10, "it is not what was noted: the chain was written anew, or cut off")


async def test_verifying_goes_on_past_a_batch_and_beside_writers(
    database: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fhirgw.store.audit_chain.BATCH", 7)
    async with Auditor(database) as auditor:
        writing = asyncio.gather(*(auditor.record(access(number)) for number in range(500)))
        while not writing.done():
            assert (await verify(connection)).sound
        await writing
    assert (await verify(connection)).rows == 500


async def test_an_empty_audit_is_sound(connection: asyncpg.Connection) -> None:
    found = await verify(connection)
    assert (found.sound, found.rows, found.head) == (True, 0, Point(0, START))
    assert Point.parse(str(found.head)) == found.head


@pytest.mark.parametrize("text", ["", "1", "1:", "1:zz", f"-1:{'0' * 64}", "1:00", f"x:{'0' * 64}"])
def test_a_point_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Point.parse(text)


async def test_a_person_is_told_of_theirs_and_of_bulk_copies(connection: asyncpg.Connection) -> None:
    for each in (access(1), access(2, BERT), access(3, None), access(4, None, everybody=True), access(5)):
        await record_now(connection, each)
    assert [request(each.body) for each in await looked(connection, ANNE)] == ["r5", "r4", "r1"]
    assert [request(each.body) for each in await looked(connection, BERT)] == ["r4", "r2"]


async def test_purposes_that_are_hidden_leave_no_gap_in_a_page(connection: asyncpg.Connection) -> None:
    secret = Permit("Z9C01", "safeguarding", (Scope.parse("user/*.rs"),), practitioner="pr1", case="f1")
    for number in range(6):
        await record_now(connection, access(number, permit=secret if number % 2 else CARE))
    hidden = await looked(connection, ANNE, count=3, hidden=("safeguarding",))
    assert [request(each.body) for each in hidden] == ["r4", "r2", "r0"]
    assert len(await looked(connection, ANNE)) == 6


async def test_pages_meet_without_gap_or_overlap_even_at_one_moment(connection: asyncpg.Connection) -> None:
    for number in range(25):
        await record_now(connection, access(number, moment=BEGAN + timedelta(minutes=number // 10)))
    found: list[str] = []
    last: Looked | None = None
    while page := await looked(connection, ANNE, after=last, count=4):
        found += [request(each.body) for each in page]
        last = page[-1]
        await record_now(connection, access(1000 + len(found)))  # new ones come before those that were seen
    assert sorted(found) == sorted(f"r{number}" for number in range(25))


async def test_operators_narrow_the_list(connection: asyncpg.Connection) -> None:
    other = replace(CARE, registration="demo-bulk")
    for each in (access(1), access(2, BERT), access(3, permit=other), access(4, None)):
        await record_now(connection, each)

    async def found(**narrowed: object) -> list[str]:
        return [request(each.body) for each in await listed(connection, **narrowed)]  # type: ignore[arg-type]

    assert await found() == ["r4", "r3", "r2", "r1"]
    assert await found(person=ANNE) == ["r3", "r1"]
    assert await found(registration="demo-bulk") == ["r3"]
    assert await found(person=ANNE, registration="demo-ics") == ["r1"]
    assert await found(since=BEGAN + timedelta(minutes=3)) == ["r4", "r3"]
    assert await found(before=3) == ["r2", "r1"]
    assert await found(count=1) == ["r4"]


async def test_a_row_that_is_no_event_of_ours_is_found(connection: asyncpg.Connection) -> None:
    """Well chained, and yet nothing the gateway wrote."""
    others = ", ".join(f"ARRAY['{each}']" for each in ("", "a", "b", "c", "0", "{}"))
    await connection.execute(f"SELECT fhirgw.audit_append(ARRAY[now()], {others})")
    assert not (await verify(connection)).sound
