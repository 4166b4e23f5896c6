"""Visits that nobody's record had find it when it appears, by whatever way; and leave it when it goes."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.api import visit_sweep
from fhirgw.settings import Settings
from fhirgw.store import load, visit_allotment, withdrawal
from fhirgw.store.deleted import concerned
from fhirgw.store.export import Selection
from fhirgw.store.visits import Lost
from tests.gateway import Gateway, serving
from tests.put import connected, put
from tests.visits.visiting import COUNCILS, HERON, MR_B, NHS, A, B, blocked, care, until, visit
from tests.visits.watching import send

PUSH = "/homecare/visits"
NOW = datetime(2026, 4, 1, tzinfo=UTC)
NEW = "9990000077"
"""Of somebody whom the council does not know yet."""


def receipt(client: httpx.Client, row: Any) -> Any:
    answer = client.post(PUSH, json=[row])
    assert answer.status_code == 200, answer.text
    return answer.json()["receipts"][0]


def status(client: httpx.Client, id: str) -> Any:
    return client.get(f"{PUSH}/{id}").json()


def created(client: httpx.Client, resource: Any) -> str:
    answer = client.post(f"/fhir/{resource['resourceType']}", json=resource)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def named(client: httpx.Client, patient: str, *identifiers: Any) -> None:
    held = client.get(f"/fhir/Patient/{patient}").json() | {"identifier": list(identifiers)}
    assert client.put(f"/fhir/Patient/{patient}", json=held).status_code == 200


def deleted(client: httpx.Client, of: str) -> int:
    return client.delete(f"/fhir/{of}").status_code


def person(number: str = NEW) -> Any:
    return {"resourceType": "Patient", "birthDate": "1941-05-06", "identifier": [{"system": NHS, "value": number}]}


def package(patient: str, provider: str = "kestrel", **elements: Any) -> Any:
    care = {"resourceType": "EpisodeOfCare", "status": "active", "patient": {"reference": f"Patient/{patient}"}}
    return care | {"managingOrganization": {"reference": f"Organization/{provider}"}, **elements}


async def whose(connection: asyncpg.Connection, id: str) -> str | None:
    found: str | None = await connection.fetchval("SELECT patient FROM fhirgw.visit WHERE visit = $1", id)
    return found


async def test_it_finds_the_person_when_the_package_is_written(
    council: httpx.Client, kestrel: httpx.Client, connection: asyncpg.Connection
) -> None:
    row = visit("early", person={"nhsNumber": NEW})
    first = receipt(kestrel, row)
    assert (first["status"], first["issues"][0]["reason"]) == ("stored", "unallocated")
    sent = status(kestrel, "early")
    await connection.execute("UPDATE fhirgw.visit SET updated = updated - interval '1 day' WHERE visit = 'early'")
    assert "finds the person by itself" in first["issues"][0]["remedy"]
    patient = created(council, person())
    assert await whose(connection, "early") is None, "nobody looks after them yet"
    created(council, package(patient, "heron"))
    assert await whose(connection, "early") is None, "another does"
    created(council, package(patient))
    assert await whose(connection, "early") == patient
    found = status(kestrel, "early")
    assert (sent["state"], found["state"], "since" in sent) == ("unallocated", "allocated", False)
    day = datetime.fromisoformat(found["received"]) + timedelta(days=1)
    assert day == datetime.fromisoformat(sent["received"]) <= datetime.fromisoformat(found["since"])
    again = receipt(kestrel, row)
    assert again["status"] == "unchanged"
    assert again["id"][:3] == patient[:3]
    assert "issues" not in again
    assert await connection.fetchval("SELECT count(*) FROM fhirgw.visit_waiting") == 0


async def test_it_finds_the_person_when_the_number_is_written(
    council: httpx.Client, kestrel: httpx.Client, connection: asyncpg.Connection
) -> None:
    patient = created(council, {"resourceType": "Patient", "birthDate": "1941-05-07"})
    created(council, package(patient))
    numbers = {"nhsNumber": "9990000085", "number": "85", "system": COUNCILS}
    assert receipt(kestrel, visit("numbered", person=numbers))["issues"][0]["reason"] == "unallocated"
    named(council, patient, {"system": NHS, "value": "9990000085"})
    assert await whose(connection, "numbered") is None, "one of the two numbers is not theirs"
    named(council, patient, {"system": NHS, "value": "9990000085"}, {"system": COUNCILS, "value": "85"})
    assert await whose(connection, "numbered") == patient


async def test_it_moves_where_the_number_moves_and_leaves_a_trace(
    council: httpx.Client, kestrel: httpx.Client, connection: asyncpg.Connection
) -> None:
    wrong, right = (created(council, {"resourceType": "Patient", "birthDate": "1941-05-08"}) for _ in range(2))
    for each in (wrong, right):
        created(council, package(each))

    one, two = ({"system": NHS, "value": each} for each in ("9990000093", "9990000107"))
    named(council, wrong, one, two)
    assert receipt(kestrel, visit("moved", person={"nhsNumber": "9990000093"}))["id"]
    assert receipt(kestrel, visit("stays", person={"nhsNumber": "9990000107"}))["id"]
    named(council, wrong, two)
    assert await whose(connection, "moved") is None
    named(council, right, one)
    assert (await whose(connection, "moved"), await whose(connection, "stays")) == (right, wrong)
    left = await connection.fetch("SELECT key::text, patient FROM fhirgw.visit_left WHERE patient = $1", wrong)
    assert len(left) == 1
    assert await connection.fetchval("SELECT count(*) FROM fhirgw.narrowed WHERE person = $1", wrong) >= 1
    again = receipt(kestrel, visit("moved", person={"nhsNumber": "9990000093"}))
    assert again["status"] == "unchanged"
    gone = again["id"].replace(right[:3], wrong[:3], 1)
    permit = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
    for kind in ("Appointment", "Encounter"):
        assert await withdrawal.withheld(connection, permit, kind, [wrong]) == {gone: None}
    assert await withdrawal.withheld(connection, permit, "Observation", [wrong]) == {}


def test_each_record_that_it_was_in_keeps_each_time(council: httpx.Client, kestrel: httpx.Client) -> None:
    """There, away and back again, with nothing new said: no version stands for two states."""
    here, there = (created(council, {"resourceType": "Patient", "birthDate": "1941-05-09"}) for _ in range(2))
    number = {"system": NHS, "value": "9990000166"}
    own = {each: {"system": COUNCILS, "value": each[:8]} for each in (here, there)}
    for each in (here, there):
        created(council, package(each))
    named(council, here, number, own[here])
    stay = [{"carer": "C9", "start": "2026-03-30T07:31:10", "end": "2026-03-30T08:00:41"}]
    id = receipt(kestrel, visit("to-and-fro", person={"nhsNumber": number["value"]}, carers=stay))["id"]
    for whom, other in ((there, here), (here, there), (there, here), (here, there)):
        named(council, other, own[other])
        named(council, whom, number, own[whom])
    entries = council.get(f"/fhir/Encounter/{id}/_history").json()["entry"]
    assert [each["request"]["method"] for each in entries] == ["PUT", "DELETE", "PUT", "DELETE", "POST"], entries
    versions = [int(each["response"]["etag"].strip('W/"')) for each in entries]
    assert versions == sorted(set(versions), reverse=True)
    assert council.get(f"/fhir/Encounter/{id}").headers["etag"] == f'W/"{versions[0]}"'


def read(client: httpx.Client, address: str) -> httpx.Response:
    return client.get(f"/fhir/{address}")


def provenance(client: httpx.Client, id: str) -> list[Any]:
    found = read(client, f"Provenance?target=Appointment/{id}").json()["entry"]
    return [each["resource"] for each in found if each["search"]["mode"] == "match"]


async def test_its_provenance_goes_where_it_goes_and_comes_again(
    council: httpx.Client, kestrel: httpx.Client, connection: asyncpg.Connection
) -> None:
    """Of one amendment there is one in each record that the visit was in, to be read in the one it is in."""
    here, there = (created(council, {"resourceType": "Patient", "birthDate": "1941-05-11"}) for _ in range(2))
    number = {"system": NHS, "value": "9990000182"}
    own = {each: {"system": COUNCILS, "value": each[:8]} for each in (here, there)}
    for each in (here, there):
        created(council, package(each))
    named(council, here, number, own[here])
    whose = {"person": {"nhsNumber": number["value"]}, "carers": None, "tasks": None}
    id = receipt(kestrel, visit("amended-there", **whose))["id"]
    hand = {"by": "M1", "reason": "Wrong day"}
    later = {"start": "2026-03-31T07:30", "end": "2026-03-31T08:00"}
    told = receipt(kestrel, visit("amended-there", version=2, planned=later, amended=hand, **whose))
    assert told["status"] == "stored", told
    first, moved = f"Provenance/{id}.a2", id.replace(here[:3], there[:3], 1)
    (original,) = provenance(council, id)
    assert original["target"] == [{"reference": f"Appointment/{id}/_history/2"}]
    named(council, here, own[here])
    named(council, there, number, own[there])
    since = datetime.now(UTC) - timedelta(minutes=5)
    assert read(council, first).status_code == 410
    assert provenance(council, id) == []
    assert "Provenance" in await concerned(connection, Selection(since=since))
    permit = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
    assert await withdrawal.withheld(connection, permit, "Provenance", [here]) == {f"{id}.a2": None}
    (other,) = provenance(council, moved)
    assert "entity" not in other, "in this record it was nothing before"
    for name in ("recorded", "reason", "agent"):
        assert other[name] == original[name]
    named(council, there, own[there])
    named(council, here, number, own[here])
    (again,) = provenance(council, id)
    version = read(council, f"Appointment/{id}").headers["etag"]
    assert again == {**original, "meta": again["meta"]}
    assert read(council, first).headers["etag"] == version, "it was told that it is gone, so it comes anew"
    entries = read(council, f"{first}/_history").json()["entry"]
    assert [each["request"]["method"] for each in entries] == ["PUT", "DELETE", "PUT"], entries
    assert read(council, f"{first}/_history/2").json() == original


async def test_many_that_wait_for_one_number_do_not_hold_the_council_up(
    council: httpx.Client, kestrel: httpx.Client, connection: asyncpg.Connection
) -> None:
    """The first find their person in the transaction that names them, the others by the sweep."""
    patient = created(council, {"resourceType": "Patient", "birthDate": "1941-05-10"})
    created(council, package(patient))
    assert "id" not in receipt(kestrel, visit("flood", person={"nhsNumber": "9990000174"}))
    columns = (
        "version, source_version, changed, digest, updated, start, finish, began, ended, provider, controller, parts"
    )
    await connection.execute(
        f"INSERT INTO fhirgw.visit (key, visit, {columns}) SELECT gen_random_uuid(), 'flood-' || n, {columns}"
        " FROM fhirgw.visit, generate_series(1, 1000) AS n WHERE visit = 'flood'"
    )
    count = "SELECT count(*) FROM fhirgw.visit WHERE visit LIKE 'flood%' AND patient = $1"
    named(council, patient, {"system": NHS, "value": "9990000174"})
    assert await connection.fetchval(count, patient) == 1000
    async with connection.transaction():
        assert await visit_allotment.sweep(connection) == 1
    assert await connection.fetchval(count, patient) == 1001


PERSONS = itertools.count(1)


@pytest.fixture
async def leaving(places: str) -> AsyncIterator[tuple[asyncpg.Connection, str]]:
    """Another's connection, and somebody who is to be deleted by it."""
    gone = f"a9900000-0000-5000-8000-{next(PERSONS):012}"
    await put(places, {"resourceType": "Patient", "id": gone}, care(f"care-of-{gone}", gone, "Organization/kestrel"))
    other = await connected(places)
    yield other, gone
    await other.close()


async def leave(connection: asyncpg.Connection, person: str) -> None:
    stamp = await connection.fetchval("SELECT statement_timestamp()")
    assert await load.leave(connection, "test", "Patient", [person], stamp) == 1


async def test_who_is_deleted_while_visits_are_pushed_is_gone_after_both(
    connection: asyncpg.Connection, leaving: tuple[asyncpg.Connection, str], places: str
) -> None:
    """Who deletes waits for the push, and finds what it wrote."""
    (other, gone), watch = leaving, await connected(places)
    async with connection.transaction():
        await send(connection, NOW, visit("meanwhile", person={"id": gone}))
        deleting = asyncio.create_task(leave(other, gone))
        await until(watch, lambda: blocked(watch, other))
    await deleting
    await watch.close()
    assert await whose(connection, "meanwhile") is None


async def test_who_pushes_visits_of_somebody_who_is_being_deleted_is_told_that_they_are_gone(
    connection: asyncpg.Connection, leaving: tuple[asyncpg.Connection, str], places: str
) -> None:
    """Who pushes waits for the deletion, and asks anew; a push of others does not wait, nor one after a deletion."""
    (other, gone), watch = leaving, await connected(places)

    async def push() -> None:
        async with connection.transaction():
            await send(connection, NOW, visit("pushed", person={"id": gone}))

    async with other.transaction():
        await leave(other, gone)
        pushing = asyncio.create_task(push())
        await until(watch, lambda: blocked(watch, connection))
        async with watch.transaction():
            await send(watch, NOW, visit("others"))
    with pytest.raises(Lost):
        await pushing
    await watch.close()
    assert not await connection.fetchval("SELECT count(*) FROM fhirgw.visit WHERE visit = 'pushed'")
    await push()
    assert await whose(connection, "pushed") is None
    assert await whose(connection, "others") == A


async def test_who_corrects_whose_it_is_leaves_a_trace_too(
    council: httpx.Client, kestrel: httpx.Client, connection: asyncpg.Connection
) -> None:
    other = created(council, person("9990000115"))
    created(council, package(other))
    first = receipt(kestrel, visit("corrected"))
    second = receipt(kestrel, visit("corrected", version=2, person={"nhsNumber": "9990000115"}))
    assert first["id"][:3] == A[:3]
    assert second["id"][3:] == first["id"][3:]
    key = await connection.fetchval("SELECT key FROM fhirgw.visit WHERE visit = 'corrected'")
    assert await connection.fetchval("SELECT patient FROM fhirgw.visit_left WHERE key = $1", key) == A
    assert receipt(kestrel, visit("corrected", version=3))["id"] == first["id"]
    assert await connection.fetchval("SELECT patient FROM fhirgw.visit_left WHERE key = $1", key) == other


async def test_a_person_with_visits_is_not_deleted_by_hand(
    council: httpx.Client, kestrel: httpx.Client, connection: asyncpg.Connection
) -> None:
    patient = created(council, person("9990000123"))
    care = created(council, package(patient))
    assert receipt(kestrel, visit("kept", person={"nhsNumber": "9990000123"}))["id"]
    assert deleted(council, f"EpisodeOfCare/{care}") == 204
    assert deleted(council, f"Patient/{patient}") == 409
    assert await whose(connection, "kept") == patient
    without = created(council, person("9990000131"))
    assert deleted(council, f"Patient/{without}") == 204


async def test_a_person_whom_their_source_drops_leaves_the_visits(
    places: str, kestrel: httpx.Client, connection: asyncpg.Connection
) -> None:
    """What a source no longer has is deleted with all that is found by it: the visits wait for whoever comes back."""
    assert receipt(kestrel, visit("dropped", person={"id": A}))["id"]
    transaction = connection.transaction()
    await transaction.start()
    try:
        stamp = await connection.fetchval("SELECT statement_timestamp()")
        assert await load.leave(connection, "test", "Patient", [A], stamp) == 1
        assert await whose(connection, "dropped") is None
        assert not await connection.fetchval("SELECT count(*) FROM fhirgw.visit WHERE patient = $1", A)
        assert await connection.fetchval("SELECT count(*) FROM fhirgw.visit_left WHERE patient = $1", A)
    finally:
        await transaction.rollback()


async def test_a_package_that_begins_by_its_date_is_found_by_the_sweep(
    gateway: Gateway, connection: asyncpg.Connection
) -> None:
    with gateway.client(HERON) as heron:
        assert "id" not in receipt(heron, visit("future", person={"nhsNumber": "9990000018"}))
        assert receipt(heron, visit("own", person={"nhsNumber": MR_B}))["id"][:3] == B[:3]
    insert = "INSERT INTO fhirgw.relationship (person, party, kind, starts, ends, type, id) VALUES"
    later = "statement_timestamp() + interval '1 hour', 'infinity', 'EpisodeOfCare', 'later'"
    await connection.execute(f"{insert} ('{A}', 'Organization/heron', 'care-provider', {later})")
    async with connection.transaction():
        assert await visit_allotment.sweep(connection) == 0
        assert await whose(connection, "future") is None
    await connection.execute("UPDATE fhirgw.relationship SET starts = '-infinity' WHERE id = 'later'")
    assert await whose(connection, "future") is None, "nothing was made"
    other = await connected(str(gateway.settings.database_url))
    try:
        async with connection.transaction(), other.transaction():
            assert await visit_allotment.sweep(connection) == 1
            assert await visit_allotment.sweep(other) is None, "one looks at a time"
    finally:
        await other.close()
    assert await whose(connection, "future") == A
    async with connection.transaction():
        assert await visit_allotment.sweep(connection) == 0


async def test_the_gateway_sweeps_by_itself(
    places: str, tmp_path: Path, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connection.execute("UPDATE fhirgw.visit SET patient = NULL WHERE visit = 'future'")
    monkeypatch.setattr(visit_sweep, "EVERY", 0.01)
    with serving(Settings(database_url=places, data=tmp_path, controller="Z99")):
        for _ in range(2000):
            if await whose(connection, "future") == A:
                return
            await connection.execute("SELECT pg_sleep(0.01)")
    raise AssertionError("nobody looked")


async def test_two_with_the_number_are_nobody(
    council: httpx.Client, kestrel: httpx.Client, connection: asyncpg.Connection
) -> None:
    twins = [created(council, person("9990000158")) for _ in range(2)]
    created(council, package(twins[0]))
    assert receipt(kestrel, visit("twins", person={"nhsNumber": "9990000158"}))["id"][:3] == twins[0][:3]
    created(council, package(twins[1]))
    assert await whose(connection, "twins") == twins[0], "it is not taken away because another comes"
    assert "id" in receipt(kestrel, visit("twins", person={"nhsNumber": "9990000158"}))
    assert "id" not in receipt(kestrel, visit("twins-2", person={"nhsNumber": "9990000158"}))
