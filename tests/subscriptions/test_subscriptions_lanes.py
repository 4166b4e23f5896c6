"""Whatever an endpoint does, and whoever dies meanwhile: nothing is lost, nothing is out of order, nobody waits for
somebody else's.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from fhirgw.jobs.notify import LANES, OF_APPLICATION, pause
from fhirgw.store.notices import CHANGED, STIRRED
from tests.jobs.working import until
from tests.put import connected
from tests.subscriptions.receiving import Notification, Receiver, receiving, taken
from tests.subscriptions.subscribing import World, subscription
from tests.subscriptions.telling import notifying, process

LATE = "UPDATE fhirgw.subscription SET lease = clock_timestamp() - interval '1 s' WHERE lease IS NOT NULL"


@pytest.fixture
def other() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


@pytest.mark.parametrize("status", [400, 404, 500, 503])
async def test_what_is_not_taken_is_told_again_under_its_number(world: World, status: int) -> None:
    id = await world.subscribed(world.council)
    world.receiver.answer = lambda _: (status, {})
    seen = world.observe()
    await world.turn(2)  # the second finds that it has to wait
    assert [each.numbers for each in world.told()] == [[1]]
    assert world.at(world.council, id)["error"] == f"The endpoint answered {status}"
    world.receiver.answer = taken
    await world.overdue()
    await world.turn()
    assert [(each.numbers, each.foci) for each in world.told()] == [([1], [f"Observation/{seen}"])] * 2
    assert "error" not in world.at(world.council, id)


async def test_redirects_are_not_followed(world: World, other: Receiver) -> None:
    id = await world.subscribed(world.council)
    world.receiver.answer = lambda _: (307, {"location": f"{other.url}/elsewhere"})
    world.observe()
    await world.turn()
    assert "redirects are not followed" in world.at(world.council, id)["error"]
    assert (len(world.told()), other.got) == (1, [])


async def test_an_endpoint_that_is_gone_is_in_error_at_once(world: World) -> None:
    id = await world.subscribed(world.council)
    world.receiver.answer = lambda _: (410, {})
    world.observe()
    await world.turn()
    assert world.at(world.council, id)["status"] == "error"
    await world.overdue()
    await world.turn()
    assert len(world.told()) == 1


async def test_after_three_days_it_is_in_error_and_goes_on_when_asked(world: World) -> None:
    id = await world.subscribed(world.council)
    world.receiver.answer = lambda _: (503, {})
    first = world.observe()
    await world.turn()
    aged = "UPDATE fhirgw.subscription SET failing = failing - interval '{}' WHERE id = $1"
    await world.sql(aged.format("71 hours"), id)
    await world.overdue()
    await world.turn()
    assert world.at(world.council, id)["status"] == "active"
    await world.sql(aged.format("61 minutes"), id)
    await world.overdue()
    await world.turn()
    assert world.at(world.council, id)["status"] == "error"
    second = world.observe()  # nobody is told, and it is not forgotten
    await world.turn()
    world.receiver.answer, world.receiver.got = taken, []
    again = {**world.at(world.council, id), "status": "requested"}
    assert world.council.put(f"/fhir/Subscription/{id}", json=again).status_code == 200
    await world.turn(3)
    assert world.receiver.got[0].kind == "handshake"
    assert [name for each in world.told() for name in each.foci] == [f"Observation/{first}", f"Observation/{second}"]
    assert [number for each in world.told() for number in each.numbers] == [1, 2]


def test_attempts_grow_apart_up_to_an_hour() -> None:
    longest = [max(pause(at).total_seconds() for _ in range(50)) for at in range(40)]
    assert longest[0] <= 2 and 1800 <= longest[-1] <= 3600
    assert all(pause(at).total_seconds() >= min(3600, 2 * 2**at) / 2 for at in range(40))
    assert len({pause(8) for _ in range(10)}) > 1


async def test_a_handshake_that_is_not_answered_leaves_it_requested(world: World) -> None:
    world.receiver.answer = lambda _: (500, {})
    id = world.asked(world.council, subscription(f"{world.receiver.url}/hook"))
    await world.turn()
    assert world.at(world.council, id)["status"] == "requested"
    before = world.observe()
    world.receiver.answer = taken
    await world.overdue()
    await world.turn(2)
    assert world.at(world.council, id)["status"] == "active" and world.told() == [], before


async def test_an_endpoint_that_hangs_holds_up_nobody_else(world: World, other: Receiver) -> None:
    """Not even another subscription to the same endpoint's host: each is a lane of its own."""
    hung = threading.Event()
    stuck = await world.subscribed(world.council, path="/stuck", seconds=60)
    await world.subscribed(world.council, path="/beside")
    elsewhere = world.asked(world.council, subscription(f"{other.url}/hook"))
    await world.turn()
    assert world.at(world.council, elsewhere)["status"] == "active"

    def answer(got: Notification) -> tuple[int, dict[str, str]]:
        if got.path == "/stuck":
            hung.wait(30)
        return 200, {}

    world.receiver.answer = answer
    try:
        for number in (1, 2, 3):
            world.observe()
            await world.notifier.turn()
            await reached(lambda number=number: numbers(other.events()) == [*range(1, number + 1)])
            await reached(lambda number=number: numbers(world.told("/beside")) == [*range(1, number + 1)])
        assert numbers(world.told("/stuck")) == [1]
    finally:
        hung.set()
    await world.notifier.idle()
    await world.turn()
    assert numbers(world.told("/stuck")) == [1, 2, 3]
    assert world.at(world.council, stuck)["status"] == "active"


async def test_an_application_whose_endpoints_all_hang_holds_up_no_other(world: World, other: Receiver) -> None:
    """However many origins it names: there are always lanes for the others."""
    hung = threading.Event()
    world.receiver.answer = lambda _: (200, {}) if hung.wait(60) else (500, {})
    for at in range(LANES + 1):
        world.asked(world.provider, subscription(f"{world.receiver.url}/hook/{at}", seconds=60))
    await world.sql("UPDATE fhirgw.subscription SET origin = 'https://' || id || '.test', due = now() - interval '1 d'")
    try:
        await world.notifier.turn()
        id = world.asked(world.council, subscription(f"{other.url}/hook"))
        await world.notifier.turn()
        await reached(lambda: bool(other.got))
        await reached(lambda: len(world.receiver.got) == OF_APPLICATION)
        await reached(lambda: world.at(world.council, id)["status"] == "active")
    finally:
        hung.set()
    await world.notifier.idle()
    assert len(world.receiver.got) == LANES + 1, "the others had their turn as lanes closed"


async def test_an_endpoint_that_takes_too_long_is_hung_up_on(world: World) -> None:
    id = await world.subscribed(world.council, seconds=1)
    hung = threading.Event()
    world.receiver.answer = lambda _: (200, {}) if hung.wait(30) else (500, {})
    world.observe()
    try:
        await world.turn()
        assert world.at(world.council, id)["error"] == "The endpoint did not answer within 1 seconds"
    finally:
        hung.set()


async def test_what_ends_late_is_not_skipped(world: World) -> None:
    """A transaction that began first ends after another was told of: its change has the lower number in the log."""
    await world.subscribed(world.council)
    early, late = [world.observe() for _ in range(2)]
    await world.turn()
    world.receiver.got.clear()
    slow, quick = await connected(world.url), await connected(world.url)
    log = "INSERT INTO fhirgw.change (type, id, version, kind, origin) VALUES ('Observation', $1, 1, 'create', 'test')"
    try:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute(log, early)
        await quick.execute(log, late)
        await world.turn()
        assert [each.foci for each in world.told()] == [[f"Observation/{late}"]]
        await world.turn()
        await transaction.commit()
        await world.turn(2)
        assert [each.foci for each in world.told()] == [[f"Observation/{late}"], [f"Observation/{early}"]]
        assert numbers(world.told()) == [3, 4]
    finally:
        await slow.close()
        await quick.close()


async def test_what_is_taken_back_is_never_told(world: World) -> None:
    await world.subscribed(world.council)
    connection = await connected(world.url)
    try:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "INSERT INTO fhirgw.change (type, id, version, kind, origin)"
            " VALUES ('Patient', 'cared-for', 1, 'create', 'test')"
        )
        await world.turn()
        await transaction.rollback()
        seen = world.observe()
        await world.turn()
        assert [each.foci for each in world.told()] == [[f"Observation/{seen}"]]
    finally:
        await connection.close()


async def test_a_load_of_many_is_noted_in_parts_and_numbered_without_a_gap(world: World) -> None:
    await world.subscribed(world.council, most=1000)
    seen = world.observe()
    await world.turn()
    await world.sql(
        "INSERT INTO fhirgw.change (type, id, version, kind, origin)"
        " SELECT CASE n % 2 WHEN 0 THEN 'Observation' ELSE 'Goal' END, $1, 1, 'create', 'test'"
        " FROM generate_series(1, 5001) n",
        seen,
    )
    await world.turn(4)
    assert numbers(world.told()) == [*range(1, 2502)]
    assert [len(each.numbers) for each in world.told()] == [1, 1000, 1000, 500]


async def test_what_is_new_is_found_without_reading_the_log(world: World) -> None:
    """However long it is, whether anybody has counted it yet or not: by its index."""
    await world.subscribed(world.council)
    await world.sql(  # by many transactions, as they are
        "INSERT INTO fhirgw.change (type, id, version, kind, origin, transaction)"
        " SELECT 'Organization', n::text, 1, 'create', 'test', (n % 700 + 1)::text::xid8"
        " FROM generate_series(1, 20000) n"
    )
    (current,), *_ = await world.sql("SELECT pg_current_snapshot()::text")
    bound = CHANGED.replace("$1", f"'{current}'").replace("$2", f"'{current}'").replace("$3", "0")
    for counted in (False, True):
        if counted:
            await world.sql("ANALYZE fhirgw.change")
        for query in (STIRRED, bound.replace("$4", "ARRAY['Organization']")):
            plan = "\n".join(row[0] for row in await world.sql(f"EXPLAIN {query}"))
            assert "change_by_transaction" in plan and "Seq Scan on change" not in plan, plan
    everything = await world.sql("EXPLAIN SELECT FROM fhirgw.change c WHERE c.kind = 'create'")
    assert "Seq Scan on change" in everything[0][0]


async def test_after_a_restore_it_goes_on_from_now(world: World) -> None:
    """Transactions are counted from less then: what is known of the old ones tells nothing of new ones."""
    id = await world.subscribed(world.council)
    await world.sql("UPDATE fhirgw.change SET transaction = '99999999999'")
    await world.sql("UPDATE fhirgw.subscription SET snapshot = '99999999990:99999999990:' WHERE id = $1", id)
    await world.turn()
    seen = world.observe()
    await world.turn()
    assert [(each.numbers, each.foci) for each in world.told()] == [([1], [f"Observation/{seen}"])]


async def test_what_is_of_before_a_restore_is_not_told_when_transactions_come_to_its_number(world: World) -> None:
    world.observe()
    ahead = "(pg_snapshot_xmax(pg_current_snapshot())::text::bigint + 200)::text::xid8"
    await world.sql(f"UPDATE fhirgw.change SET transaction = {ahead}")
    await world.subscribed(world.council)
    connection = await connected(world.url)
    for _ in range(250):
        await connection.execute("SELECT pg_current_xact_id()")
    await connection.close()
    seen = world.observe()
    await world.turn()
    assert [each.foci for each in world.told()] == [[f"Observation/{seen}"]]


async def test_two_processes_share_the_work(world: World) -> None:
    """Each event is noted once and told once, whoever looks first."""
    for path in "abcdef":
        await world.subscribed(world.council, path=f"/{path}")
    async with notifying(world.url, world.gateway.settings.key_folder) as other:
        for _ in range(3):
            world.observe()
            await asyncio.gather(world.notifier.turn(), other.turn())
        await asyncio.gather(world.notifier.idle(), other.idle())
        await asyncio.gather(world.turn(3), other.turn())
        await other.idle()
    for path in "abcdef":
        assert numbers(world.told(f"/{path}")) == [1, 2, 3]


@pytest.mark.parametrize("place", ["events noted", "before post", "before told"])
async def test_whoever_is_killed_loses_nothing(world: World, place: str) -> None:
    """At most it is told again, under the same number."""
    id = await world.subscribed(world.council)
    seen = world.observe()
    with process(world.url, world.gateway.settings.key_folder, place) as made:
        await asyncio.to_thread(until, lambda: not made.is_alive())
        assert made.exitcode == -9
    ((sent,),) = await world.sql("SELECT sent FROM fhirgw.subscription WHERE id = $1", id)
    assert sent == 0
    await world.turn()
    if place != "events noted":
        assert len(world.told()) == (place == "before told")  # its lease still holds
        await world.sql(LATE)
        await world.turn()
    assert [(each.numbers, each.foci) for each in world.told()] == [([1], [f"Observation/{seen}"])] * (
        2 if place == "before told" else 1
    )
    assert world.told()[0].headers["x-request-id"] != world.told()[-1].headers["x-request-id"] or len(world.told()) == 1


async def test_what_a_process_says_that_was_given_up_does_not_count(world: World) -> None:
    """It comes back after another has the lane."""
    id = await world.subscribed(world.council)
    world.observe()
    hung = threading.Event()
    world.receiver.answer = lambda _: (200, {}) if hung.wait(30) else (500, {})
    await world.notifier.turn()
    await reached(lambda: len(world.told()) == 1)
    await world.sql("UPDATE fhirgw.subscription SET token = token + 1 WHERE id = $1", id)
    hung.set()
    await world.notifier.idle()
    assert await world.sql("SELECT sent, events FROM fhirgw.subscription WHERE id = $1", id) == [(0, 1)]


async def reached(happened: object) -> None:
    await asyncio.to_thread(until, happened)


def numbers(told: list[Notification]) -> list[int]:
    return [number for each in told for number in each.numbers]
