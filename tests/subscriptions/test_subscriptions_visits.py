"""Subscribers are told of the homecare visits that were pushed: of those they may see, and of each change once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from fhirgw.store import notices, visit_changes
from tests.gateway import Gateway
from tests.put import connected
from tests.subscriptions.receiving import verified
from tests.subscriptions.subscribing import RECORD, TOPICS, World
from tests.visits.visiting import COUNCIL, HERON, KESTREL, MR_B, NOBODY, visit

VISITS = f"{TOPICS}homecare-visit"
KINDS = ("Appointment", "Encounter", "Task", "Observation")


@pytest.fixture(scope="module")
def clients(gateway: Gateway) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """The council's, and Mrs A's care provider's, who is `world.provider` here."""
    with gateway.client(COUNCIL) as council, gateway.client(KESTREL) as kestrel:
        yield council, kestrel


@pytest.fixture(scope="module")
def heron(gateway: Gateway) -> Iterator[httpx.Client]:
    """Mr B's care provider's."""
    with gateway.client(HERON) as client:
        yield client


def pushed(client: httpx.Client, *rows: dict[str, Any]) -> list[str | None]:
    """The ids of the resources that visits are."""
    answer = client.post("/homecare/visits", json=list(rows))
    assert answer.status_code == 200, answer.text
    assert answer.json()["refused"] == 0, answer.text
    return [each.get("id") for each in answer.json()["receipts"]]


def foci(world: World, path: str = "/hook") -> list[str | None]:
    """What subscribers were told of, event by event."""
    return [name for each in world.told(path) for name in each.foci]


def told(world: World, path: str = "/hook") -> list[tuple[str, str]]:
    """The same with what happened to it, of subscribers who are sent the whole of it."""
    entries = [entry for each in world.told(path) for entry in each.bundle["entry"][1:]]
    named = [(each["request"]["method"], each["fullUrl"].rpartition("/fhir/")[2]) for each in entries]
    assert [name for _, name in named] == foci(world, path)
    return named


async def test_a_visit_that_was_pushed_is_told(world: World, heron: httpx.Client) -> None:
    await world.subscribed(world.provider, VISITS, path="/kestrel", content="full-resource")
    await world.subscribed(heron, VISITS, path="/heron")
    (id,) = pushed(world.provider, visit("told"))
    await world.turn(2)
    (notification,) = world.told("/kestrel")
    verified(notification, world.keys())
    assert (notification.numbers, notification.foci) == ([1, 2], [f"Appointment/{id}", f"Encounter/{id}"])
    shown = [entry["resource"] for entry in notification.bundle["entry"][1:]]
    assert shown == [world.provider.get(f"/fhir/{kind}/{id}").json() for kind in ("Appointment", "Encounter")]
    assert world.told("/heron") == []
    (others,) = pushed(heron, visit("his", person={"nhsNumber": MR_B}))
    await world.turn()
    assert [each.foci for each in world.told("/heron")] == [[f"Appointment/{others}", f"Encounter/{others}"]]
    assert len(world.told("/kestrel")) == 1


async def test_what_is_said_of_a_visit_later_is_told_once(world: World) -> None:
    """It begins, is corrected by two rows of a batch, sent again, and turns out to be nobody's: none of it twice."""
    planned = visit("later")
    carers = planned.pop("carers")
    await world.subscribed(world.provider, VISITS, content="full-resource")
    (id,) = pushed(world.provider, planned)
    await world.turn()
    assert told(world) == [("POST", f"Appointment/{id}")]
    pushed(world.provider, visit("later", version=2, carers=carers))
    await world.turn()
    assert told(world)[1:] == [("PUT", f"Appointment/{id}"), ("POST", f"Encounter/{id}")]
    third = visit("later", version=3, notes=[{"text": "Well"}])
    pushed(world.provider, third, visit("later", version=4))
    pushed(world.provider, third)
    await world.turn(2)
    assert told(world)[3:] == [("PUT", f"Appointment/{id}"), ("PUT", f"Encounter/{id}")]
    pushed(world.provider, visit("later", version=5, person={"nhsNumber": NOBODY}))
    await world.turn()
    assert told(world)[5:] == [("DELETE", f"Appointment/{id}"), ("DELETE", f"Encounter/{id}")]
    pushed(world.provider, visit("later", version=6, carers=None))
    await world.turn()
    assert told(world)[7:] == [("POST", f"Appointment/{id}")]
    numbers = [number for each in world.told() for number in each.numbers]
    assert numbers == [*range(1, len(told(world)) + 1)]


async def test_a_visit_that_is_moved_is_told_where_it_was_and_where_it_is(world: World, heron: httpx.Client) -> None:
    tie = (
        "INSERT INTO fhirgw.relationship (person, kind, party, starts, ends, type, id)"
        " SELECT person, kind, 'Organization/kestrel', starts, ends, type, id || '-too' FROM fhirgw.relationship"
        " WHERE kind = 'care-provider' AND party = 'Organization/heron'"
    )
    await world.sql(tie)
    try:
        (before,) = pushed(world.provider, visit("moved"))
        await world.subscribed(world.provider, VISITS, path="/kestrel", content="full-resource")
        await world.subscribed(heron, VISITS, path="/heron", content="full-resource")
        (after,) = pushed(world.provider, visit("moved", version=2, person={"nhsNumber": MR_B}))
        await world.turn()
        gone = {("DELETE", f"{kind}/{before}") for kind in ("Appointment", "Encounter")}
        come = {("POST", f"{kind}/{after}") for kind in ("Appointment", "Encounter")}
        assert Counter(told(world, "/kestrel")) == Counter(gone | come)
        assert not any(each in told(world, "/heron") for each in gone)
    finally:
        await world.sql("DELETE FROM fhirgw.relationship WHERE id LIKE '%-too'")


async def test_many_go_in_parts(world: World) -> None:
    """As many as a part may have, each once, and no number is left out."""
    await world.subscribed(world.council, VISITS, most=400)
    ids = pushed(world.provider, *(visit(f"many{at}") for at in range(500)))
    await world.turn(4)
    assert [len(each.numbers) for each in world.told()] == [400, 400, 200]
    assert [number for each in world.told() for number in each.numbers] == [*range(1, 1001)]
    assert Counter(foci(world)) == Counter(f"{kind}/{id}" for id in ids for kind in ("Appointment", "Encounter"))


async def test_a_record_has_the_entries_of_its_visits(world: World) -> None:
    await world.subscribed(world.provider, RECORD)
    await world.subscribed(world.provider, VISITS, "status=booked,arrived", path="/narrow")
    (id,) = pushed(
        world.provider, visit("entries", observations=[{"name": "Temperature", "value": 36.5, "unit": "Cel"}])
    )
    await world.turn()
    names = [str(name) for name in foci(world)]
    assert Counter(name.partition("/")[0] for name in names) == dict.fromkeys(KINDS, 1)
    assert all(str(id) in name for name in names)
    assert world.told("/narrow") == []
    (planned,) = pushed(world.provider, visit("narrow", carers=None, tasks=None))
    await world.turn()
    assert foci(world, "/narrow") == [f"Appointment/{planned}"]


async def test_what_ends_late_is_not_skipped(world: World) -> None:
    """A batch that began first ends after another was told of, and a third has corrected what it says since."""
    first, second = pushed(world.provider, visit("slow"), visit("quick"))
    await world.subscribed(world.council, VISITS)
    slow, quick = await connected(world.url), await connected(world.url)
    touch = (
        "UPDATE fhirgw.visit SET version = version + 1, updated = clock_timestamp(),"
        " transaction = pg_current_xact_id() WHERE visit = $1 AND provider = 'K01'"
    )
    try:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute(touch, "slow")
        await quick.execute(touch, "quick")
        await world.turn(2)
        assert set(foci(world)) == {f"Appointment/{second}", f"Encounter/{second}"}
        await transaction.commit()
        await quick.execute(touch, "slow")
        await world.turn(2)
        both = [(kind, *each) for kind in ("Appointment", "Encounter") for each in ((first, 2), (second, 1))]
        assert Counter(foci(world)) == {f"{kind}/{id}": times for kind, id, times in both}
    finally:
        await slow.close()
        await quick.close()


async def test_after_a_restore_it_goes_on_from_now(world: World) -> None:
    """Transactions are counted from less then: visits of before are not told when the count comes by them."""
    id = await world.subscribed(world.council, VISITS)
    pushed(world.provider, visit("restored"))
    ((now,),) = await world.sql("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    await world.sql("UPDATE fhirgw.visit SET transaction = $1::bigint::text::xid8", now + 30)
    await world.sql("UPDATE fhirgw.subscription SET snapshot = '99999999990:99999999990:' WHERE id = $1", id)
    await world.turn()
    while (await world.sql("SELECT pg_current_xact_id()::text::bigint"))[0][0] < now + 40:
        pass
    (seen,) = pushed(world.provider, visit("afterwards"))
    await world.turn(2)
    assert set(foci(world)) == {f"Appointment/{seen}", f"Encounter/{seen}"}


async def test_it_is_looked_for_by_transaction(world: World) -> None:
    """Whoever looks once a second reads no table of visits from its beginning."""
    ((current,),) = await world.sql("SELECT pg_current_snapshot()::text")
    bound = visit_changes.CHANGED.replace("$1", f"'{current}'").replace("$2", f"'{current}'")
    bound = bound.replace("$3", "NULL").replace("$4", "ARRAY['Encounter']").replace("$5", "false")
    many = (
        "INSERT INTO fhirgw.visit (key, version, source_version, changed, digest, updated, provider, visit, patient,"
        " controller, parts, transaction) SELECT gen_random_uuid(), 1, 0, now(), '', now(), 'K01', 'plan' || n,"
        " 'nobody', 'Z99', '{}', n::text::xid8 FROM generate_series(1, 20000) AS n"
    )
    await world.sql(many)
    await world.sql("ANALYZE fhirgw.visit")
    for query in (notices.STIRRED, bound):
        plan = "\n".join(row[0] for row in await world.sql(f"EXPLAIN {query}"))
        assert "visit_by_transaction" in plan and "Seq Scan on visit" not in plan, plan
