"""What a write leaves in the store: all that a sync would have, once, durably, and kept by the syncs that follow."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.provision import SHARING
from fhirgw.access.scope import Scope
from fhirgw.fhir.issue import FhirError
from fhirgw.store.database import connect, readers
from fhirgw.store.incoming import made_of
from fhirgw.store.load import leave, merge, stage
from fhirgw.store.migrate import migrate
from fhirgw.store.server import running
from fhirgw.store.writing import Change, Written, apply, new_id
from tests.conftest import temporary
from tests.jobs.world import World
from tests.put import connected, put

ROOT = Path(__file__).parents[2]
COUNCIL = Permit(
    "Z9C01",
    "direct-care",
    (Scope.parse("system/*.cruds"),),
    parties=(f"{SHARING}|council",),
    registration="core",
    clearance=15,
)
MOMENT = datetime(2026, 3, 1, tzinfo=UTC)
AT_ONCE = 8


@asynccontextmanager
async def writing(url: str) -> AsyncIterator[asyncpg.Connection]:
    """A transaction as requests write in."""
    async with readers(url, size=1, writing=True) as pool, pool.acquire() as connection, connection.transaction():
        yield connection


async def done(url: str, *changes: Change, moment: datetime = MOMENT) -> list[Written]:
    async with writing(url) as connection:
        return await apply(connection, COUNCIL, changes, moment)


async def create(url: str, *resources: dict[str, Any]) -> list[Written]:
    return await done(url, *(Change("create", each["resourceType"], each.get("id", ""), each) for each in resources))


async def update(url: str, resource: dict[str, Any], version: int) -> Written:
    (made,) = await done(
        url, Change("update", resource["resourceType"], resource["id"], resource, frozenset([version]))
    )
    return made


async def rows(url: str, query: str, *arguments: Any) -> list[tuple[Any, ...]]:
    connection = await connected(url)
    try:
        return [tuple(each) for each in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


PATIENT = {
    "resourceType": "Patient",
    "id": "abc0",
    "identifier": [{"system": "https://example.org/Id", "value": "7"}],
    "name": [{"family": "Ashby"}],
    "managingOrganization": {
        "identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "Z9C01"}
    },
}
TEAM = {
    "resourceType": "CareTeam",
    "id": "abc1",
    "status": "active",
    "subject": {"reference": "Patient/abc0"},
    "participant": [{"member": {"identifier": {"system": "urn:x", "value": "y"}, "type": "Organization"}}],
}
CONSENT = {
    "resourceType": "Consent",
    "id": "abc2",
    "status": "active",
    "scope": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]},
    "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
    "patient": {"reference": "Patient/abc0"},
    "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
    "provision": {
        "type": "deny",
        "actor": [
            {
                "role": {
                    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]
                },
                "reference": {
                    "identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "Z9X01"},
                    "type": "Organization",
                },
            }
        ],
    },
}
RESTRICTED = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}


async def test_all_that_rests_on_a_resource_is_written_changed_and_ended_with_it(database: str) -> None:
    made = await create(database, PATIENT, TEAM, CONSENT)
    assert [(each.kind, each.version, each.person) for each in made] == [("created", 1, "abc0")] * 3
    relationships = "SELECT person, party, kind, id FROM fhirgw.relationship ORDER BY id"
    council = ("abc0", "https://fhir.nhs.uk/Id/ods-organization-code|Z9C01", "council", "abc0")
    assert await rows(database, relationships) == [council, ("abc0", "urn:x|y", "care-team", "abc1")]
    dissents = "SELECT person, party, id FROM fhirgw.directive WHERE effect = 'deny'"
    assert await rows(database, dissents) == [("abc0", "https://fhir.nhs.uk/Id/ods-organization-code|Z9X01", "abc2")]
    assert await rows(database, "SELECT system, value, patient, origin FROM fhirgw.identifier") == [
        ("https://example.org/Id", "7", "abc0", "app:core|Z9C01")
    ]
    assert await rows(database, "SELECT value FROM fhirgw.search_string WHERE id = 'abc0' AND param = 'family'") == [
        ("ashby",)
    ]
    assert await rows(database, "SELECT type, id, origin, controller, patient FROM fhirgw.resource ORDER BY id") == [
        ("Patient", "abc0", "app:core|Z9C01", "Z9C01", "abc0"),
        ("CareTeam", "abc1", "app:core|Z9C01", "Z9C01", "abc0"),
        ("Consent", "abc2", "app:core|Z9C01", "Z9C01", "abc0"),
    ]
    await update(database, {**CONSENT, "status": "inactive"}, 1)
    assert await rows(database, dissents) == []
    labelled = {
        **PATIENT,
        "meta": {"security": [RESTRICTED]},
        "name": [{"family": "Birch"}],
        "address": [{"city": "Ely"}],
    }
    await update(database, labelled, 1)
    ((redacted,),) = await rows(database, "SELECT redacted FROM fhirgw.resource WHERE id = 'abc0'")
    assert "address" not in json.loads(redacted)
    assert await rows(database, "SELECT value FROM fhirgw.search_string WHERE id = 'abc0' AND param = 'family'") == [
        ("birch",)
    ]
    assert await rows(database, "SELECT effect FROM fhirgw.directive") == [("restrict",)]
    await done(database, Change("delete", "CareTeam", "abc1", None, frozenset([1])))
    assert [each[3] for each in await rows(database, relationships)] == ["abc0"]
    changes = "SELECT type, kind, version, origin FROM fhirgw.change ORDER BY sequence"
    assert set((await rows(database, changes))[:3]) == {
        (kind, "create", 1, "app:core|Z9C01") for kind in ("Patient", "CareTeam", "Consent")
    }
    assert (await rows(database, changes))[3:] == [
        ("Consent", "update", 2, "app:core|Z9C01"),
        ("Patient", "update", 2, "app:core|Z9C01"),
        ("CareTeam", "delete", 2, "app:core|Z9C01"),
    ]
    history = "SELECT type, version, deleted FROM fhirgw.history ORDER BY type, version"
    assert await rows(database, history) == [
        ("CareTeam", 1, False),
        ("CareTeam", 2, True),
        ("Consent", 1, False),
        ("Patient", 1, False),
    ]


async def test_nothing_is_left_of_changes_that_cannot_all_be_made(database: str) -> None:
    await create(database, PATIENT)
    before = await rows(database, "SELECT count(*) FROM fhirgw.change")
    with pytest.raises(FhirError):
        await done(
            database,
            Change("create", "CareTeam", "abc1", TEAM),
            Change("update", "Patient", "abc0", {**PATIENT, "gender": "female"}, frozenset([7])),
        )
    assert await rows(database, "SELECT count(*) FROM fhirgw.change") == before
    assert await rows(database, "SELECT id FROM fhirgw.resource") == [("abc0",)]


async def test_of_two_who_change_one_version_one_is_told(database: str) -> None:
    await create(database, PATIENT)
    genders = ["female", "male", "other", "unknown"] * 3
    answers = await asyncio.gather(
        *(update(database, {**PATIENT, "gender": each}, 1) for each in genders), return_exceptions=True
    )
    assert sum(isinstance(each, Written) for each in answers) == 1
    assert {each.status for each in answers if isinstance(each, FhirError)} == {412}
    assert await rows(database, "SELECT version FROM fhirgw.resource") == [(2,)]


async def test_a_version_is_never_stamped_before_the_one_it_follows(database: str) -> None:
    await create(database, PATIENT)
    (made,) = await done(
        database,
        Change("update", "Patient", "abc0", {**PATIENT, "gender": "female"}, frozenset([1])),
        moment=MOMENT - timedelta(days=1),
    )
    assert made.updated is not None
    assert made.updated > MOMENT


def test_ids_are_in_the_place_of_the_person() -> None:
    assert new_id("abc12345-0000")[:3] == "abc"
    assert new_id("somebody")[:3] != "som"
    assert len({new_id(None) for _ in range(100)}) == 100
    assert {len(new_id(each)) for each in ("abc1", None, "x")} == {36}


async def test_a_sync_keeps_what_was_written_and_changes_what_its_row_says(tmp_path: Path, database: str) -> None:
    engine = connect(database)
    world = World(tmp_path, engine, database)
    await world.sync()
    (cole,) = [each for each in await world.bodies("Patient") if each["name"][0]["family"] == "Cole"]
    written = {**cole, "maritalStatus": {"text": "Widowed"}}
    assert (await update(database, written, 1)).version == 2
    assert (await world.sync()).written == 0
    world.tables["person"][3][2] = "Coleman"
    assert (await world.sync()).written == 1
    (merged,) = [each for each in await world.bodies("Patient") if each["id"] == cole["id"]]
    assert (merged["name"][0]["family"], merged["maritalStatus"]["text"]) == ("Coleman", "Widowed")
    assert merged["meta"]["versionId"] == "3"
    assert (await world.sync()).written == 0
    flag = (await world.bodies("Flag"))[0]
    await done(database, Change("delete", "Flag", flag["id"], None, frozenset([1])))
    assert (await world.sync()).written == 0
    world.tables["alert"][1][3] = "2025-01-03 10:00:00"
    world.tables["alert"][2][3] = "2025-06-03 10:00:00"
    await world.sync()
    versions = {each["id"]: each["meta"]["versionId"] for each in await world.bodies("Flag")}
    assert versions[flag["id"]] == "3"
    await engine.dispose()


async def test_who_met_by_number_and_birth_is_not_changed_under_them(tmp_path: Path, database: str) -> None:
    engine = connect(database)
    one, other = World(tmp_path, engine, database, "one"), World(tmp_path, engine, database, "other")
    await one.sync()
    await other.sync()
    (ashby,) = [each for each in await one.bodies("Patient") if each["name"][0]["family"] == "Ashby"]
    (birch,) = [
        each
        for each in await one.bodies("Patient")
        if each["name"][0]["family"] == "Birch" and "/one/" in str(each["identifier"])
    ]
    ashby.pop("telecom")
    with pytest.raises(FhirError, match="Several systems") as refused:
        await update(database, {**ashby, "birthDate": "1941-01-01"}, int(ashby["meta"]["versionId"]))
    assert refused.value.status == 409
    moved = {**ashby, "maritalStatus": {"text": "Single"}}
    assert (await update(database, moved, int(ashby["meta"]["versionId"]))).kind == "updated"
    assert (await update(database, {**birch, "birthDate": "1941-01-01"}, 1)).kind == "updated"
    await engine.dispose()


async def writes(url: str) -> None:
    """Writes for ever, several at once, and prints the id of each person when they are acknowledged."""

    async def one_after_another() -> None:
        async with readers(url, size=1, writing=True) as pool, pool.acquire() as connection:
            while True:
                async with connection.transaction():
                    person = {"resourceType": "Patient", "name": [{"family": "Ashby"}]}
                    (made,) = await apply(connection, COUNCIL, [Change("create", "Patient", "", person)], MOMENT)
                os.write(1, f"{made.id}\n".encode())

    await asyncio.gather(*(one_after_another() for _ in range(AT_ONCE)))


@contextmanager
def writer(url: str) -> Iterator["subprocess.Popen[str]"]:
    """A process of its own that does; killed afterwards."""
    command = [sys.executable, "-c", f"import asyncio, {__name__} as it; asyncio.run(it.writes({url!r}))"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


async def told(process: "subprocess.Popen[str]", most: int) -> set[str]:
    assert process.stdout is not None
    return {(await asyncio.to_thread(process.stdout.readline)).strip() for _ in range(most)}


WHOLE = """
SELECT r.id FROM fhirgw.resource r JOIN fhirgw.search_string s USING (type, id) JOIN fhirgw.change c USING (type, id)
WHERE s.param = 'family'"""


async def test_what_was_acknowledged_survives_a_kill_of_the_process(database: str) -> None:
    with writer(database) as process:
        said = await told(process, 60)
        process.send_signal(signal.SIGKILL)
        assert process.stdout is not None
        said |= {each.strip() for each in await asyncio.to_thread(process.stdout.readlines) if each.endswith("\n")}
    kept = {each[0] for each in await rows(database, WHOLE)}
    assert said <= kept
    assert len(kept) <= len(said) + AT_ONCE
    assert len(await rows(database, "SELECT id FROM fhirgw.resource")) == len(kept)


async def test_what_was_acknowledged_survives_a_kill_of_postgresql() -> None:
    """Its last transactions are in the write-ahead log alone."""
    with temporary() as folder, running(folder) as url:
        engine = connect(url)
        await migrate(engine)
        await engine.dispose()
        with writer(url) as process:
            said = await told(process, 60)
            os.kill(int((folder / "cluster" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
            assert process.stdout is not None
            said |= {each.strip() for each in await asyncio.to_thread(process.stdout.readlines) if each.endswith("\n")}
        with running(folder):
            for _ in range(1200):
                with contextlib.suppress(OSError, asyncpg.PostgresError):
                    kept = {each[0] for each in await rows(url, WHOLE)}
                    break
                await asyncio.sleep(0.1)
            assert said <= kept
            assert len(kept) <= len(said) + AT_ONCE


async def test_people_of_others_are_left_alone(database: str) -> None:
    """Positive and negative control of what `put` brought for another system: the same sight, another controller."""
    await put(database, PATIENT)
    with pytest.raises(FhirError) as refused:
        await update(database, {**PATIENT, "gender": "female"}, 1)
    assert refused.value.status in (403, 405)


@pytest.mark.parametrize(("labels", "left"), [([RESTRICTED], [("restrict",)]), ([], [])])
async def test_what_kept_a_person_outlasts_them_until_they_are_back(
    database: str, labels: list[dict[str, str]], left: list[tuple[str]]
) -> None:
    """A source that drops somebody ends what rests on them, but not what is kept of the rest of their record."""
    await create(database, {**PATIENT, "meta": {"security": labels}} if labels else PATIENT)
    effects = "SELECT effect FROM fhirgw.directive WHERE type = 'Patient' AND id = 'abc0'"
    assert await rows(database, effects) == left
    moment, source = MOMENT + timedelta(days=1), "app:core|Z9C01"
    async with writing(database) as connection:
        assert await leave(connection, source, "Patient", ["abc0"], moment) == 1
    assert await rows(database, "SELECT id FROM fhirgw.resource") == []
    assert await rows(database, "SELECT kind FROM fhirgw.relationship") == []
    assert await rows(database, effects) == left
    async with writing(database) as connection:
        back = made_of(dict(PATIENT), "create", 3, moment, "core", "Z9C01")
        await stage(connection)
        await merge(connection, "core", "person", [back._replace(key="1", digest=b"x")])
    assert await rows(database, effects) == []
