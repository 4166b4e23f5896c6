"""What a finished export loses when a person says so, and what stays hidden of who is gone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from isal import igzip

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.issue import FhirError
from fhirgw.jobs.export_jobs import ExportJobs
from fhirgw.jobs.objects import ObjectStore
from fhirgw.store import registration, resources, write
from fhirgw.store.database import connect, direct
from fhirgw.store.export import Selection
from fhirgw.store.incoming import made_of
from fhirgw.store.registration import Registration
from tests.jobs.world import PERSON, World, done
from tests.put import reading
from tests.s3 import S3, serving_s3

ALL = Permit("Z9C01", "direct-care", (Scope.parse("system/*.rs"),), registration="ics")
CLEARED = replace(ALL, clearance=15)
CONSENT = """\
table: dissent
key: dissent_id
resource: Consent
person: person_id
constants:
  - {{path: status, value: active}}
  - {{path: scope, value: {{text: Privacy Consent}}}}
  - {{path: category, value: {{text: information access}}}}
  - {{path: provision.type, value: deny}}
fields:
  - {{column: dissent_id, path: "identifier.where(system = 'https://fhirgw.uk/Id/{name}/dissent').value"}}
  - {{column: person_id, path: patient, reference: person}}
"""


RESTRICTED = PERSON.replace(
    "children:",
    "  - {{column: restricted, path: \"meta.security.where(system = 'https://fhirgw.uk/fhir/CodeSystem/record-class').code\"}}\nchildren:",
)


@pytest.fixture
async def world(tmp_path: Path, database: str) -> AsyncIterator[World]:
    engine = connect(database)
    made = World(tmp_path, engine, database, more={"dissent": CONSENT})
    made.tables["dissent"] = [["dissent_id", "person_id"]]
    yield made
    await engine.dispose()


async def lines(jobs: ExportJobs, id: str, name: str) -> set[str]:
    """The ids in a file, which is what the job says of it."""
    file = await jobs.file(ALL, id, name)
    data = file.path.read_bytes()
    (told,) = [each for each in (await jobs.status(ALL, id)).result["output"] if each["url"] == name]
    assert (told["count"], told["bytes"]) == (data.count(b"\n"), len(data))
    assert hashlib.sha256(data).hexdigest() == file.sha256
    return {json.loads(line)["id"] for line in data.splitlines()}


async def test_a_dissent_takes_a_persons_lines_out_of_a_finished_export(world: World, tmp_path: Path) -> None:
    await world.sync()
    ashby, birch, cole = (each["id"] for each in await world.bodies("Patient"))
    async with ExportJobs(world.engine, tmp_path / "exports") as jobs:
        id = await jobs.kick_off(ALL, Selection(), "request")
        await done(jobs, id, ALL)
        assert await lines(jobs, id, "Patient.ndjson") == {ashby, birch, cole}
        assert len(await lines(jobs, id, "Flag.ndjson")) == 2
        await jobs.look()  # nothing has changed, and nothing does
        assert await lines(jobs, id, "Patient.ndjson") == {ashby, birch, cole}
        whole = (await jobs.status(ALL, id)).result

        world.tables["dissent"].append(["900", "1"])
        await world.sync()
        await jobs.look()
        assert await lines(jobs, id, "Patient.ndjson") == {birch, cole}
        assert len(await lines(jobs, id, "Flag.ndjson")) == 1
        assert len(list((tmp_path / "exports" / id).glob("Patient*"))) == 1  # the one with all lines is gone
        assert (await jobs.status(ALL, id)).result != whole

        world.tables["dissent"].append(["901", "3"])
        await world.sync()
        await jobs.look()
        assert await lines(jobs, id, "Patient.ndjson") == {birch}
        with pytest.raises(FhirError, match="no such export"):  # a file nothing is left of is no file any more
            await jobs.file(ALL, id, "Flag.ndjson")


@pytest.mark.parametrize("gzip", [True, False])
async def test_a_dissent_takes_out_of_what_is_gone_what_a_list_made_now_would_not_tell(
    world: World, tmp_path: Path, gzip: bool
) -> None:
    """What came and went between two exports the caller never knew of; what went of their copy they are still told."""
    await world.sync()
    known = {each["id"] for each in await world.bodies("Flag")}
    async with ExportJobs(world.engine, tmp_path / "exports", gzip=gzip) as jobs:
        before = await done(jobs, await jobs.kick_off(ALL, Selection(("Flag",)), "r"), ALL)
        world.tables["alert"] += [["102", "1", "New", "", ""], ["103", "2", "New", "", ""]]
        await world.sync()
        every = {each["id"]: each["subject"]["reference"][8:] for each in await world.bodies("Flag")}
        ashby, birch, _ = (each["id"] for each in await world.bodies("Patient"))
        (hers,) = {id for id, of in every.items() if of == ashby} - known
        (his,) = {id for id, of in every.items() if of == birch}
        del world.tables["alert"][1:]
        await world.sync(force=True)
        asked = Selection(("Flag",), since=before.time)
        id = await jobs.kick_off(ALL, asked, "r")
        await done(jobs, id, ALL)
        assert await gone(jobs, id) == {hers, his, *known}
        await jobs.look()  # nothing has changed, and nothing does
        assert await gone(jobs, id) == {hers, his, *known}

        world.tables["dissent"].append(["900", "1"])
        await world.sync()
        await jobs.look()
        assert await gone(jobs, id) == {his, *known}
        assert len(list((tmp_path / "exports" / id).glob("Bundle*"))) == 1  # the one that tells of all is gone
        now = await jobs.kick_off(ALL, asked, "r")
        await done(jobs, now, ALL)
        assert await gone(jobs, now) == {his, *known}


async def gone(jobs: ExportJobs, id: str) -> set[str]:
    """The ids that an export says are gone, in a file that is what the job says of it."""
    (told,) = (await jobs.status(ALL, id)).result["deleted"]
    file = await jobs.file(ALL, id, told["url"])
    data = file.path.read_bytes()
    data = igzip.decompress(data) if file.packed else data
    assert (told["count"], told["bytes"], file.sha256) == (1, len(data), hashlib.sha256(data).hexdigest())
    return {each["request"]["url"].partition("/")[2] for each in json.loads(data)["entry"]}


@pytest.mark.parametrize("spoilt", [0, 1])
@pytest.mark.parametrize("gzip", [True, False])
async def test_a_spoilt_file_keeps_no_dissent_from_other_exports(
    world: World, tmp_path: Path, spoilt: int, gzip: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.sync()
    _, birch, cole = (each["id"] for each in await world.bodies("Patient"))
    async with ExportJobs(world.engine, tmp_path / "exports", gzip=gzip) as jobs:
        ids = [await jobs.kick_off(ALL, Selection(("Patient",)), "r") for _ in range(2)]
        for id in ids:
            await done(jobs, id, ALL)
        path = (await jobs.file(ALL, ids[spoilt], "Patient.ndjson")).path
        data = path.read_bytes()[:-30]
        path.unlink()  # another export may have the same file, by a link
        path.write_bytes(data)
        world.tables["dissent"].append(["900", "1"])
        await world.sync()
        await jobs.look()
        left = (await jobs.file(ALL, ids[1 - spoilt], "Patient.ndjson")).path.read_bytes()
        unpacked = igzip.decompress(left) if gzip else left
        assert {json.loads(line)["id"] for line in unpacked.splitlines()} == {birch, cole}
        async with direct(world.engine) as connection:
            await connection.execute("UPDATE fhirgw.export_job SET looked = now() - interval '2 minutes'")
        with pytest.raises(FhirError, match="cannot be taken out of it now"):
            await jobs.file(ALL, ids[spoilt], "Patient.ndjson")
        assert "export not looked at" in "".join(capsys.readouterr())


async def test_a_dissent_takes_a_persons_lines_out_of_an_object_store(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.sync()
    ashby, birch, cole = (each["id"] for each in await world.bodies("Patient"))
    with serving_s3() as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        objects = ObjectStore(s3.url, tmp_path / "scratch", retries=0)
        async with ExportJobs(world.engine, objects, gzip=True) as jobs:
            id = await jobs.kick_off(ALL, Selection(), "request")
            before = (await done(jobs, id, ALL)).result
            assert set(people(s3, id, before)) == {ashby, birch, cole}
            files = s3.files(id)
            world.tables["dissent"].append(["900", "1"])
            await world.sync()

            s3.refuse = lambda asked: (403, "AccessDenied") if asked.upload else None
            await jobs.look()  # the store does not take what is left: all is as it was, and it is told
            assert ((await jobs.status(ALL, id)).result, s3.files(id)) == (before, files)
            assert "export not looked at" in "".join(capsys.readouterr())

            s3.refuse = lambda asked: (503, "SlowDown") if asked.removal else None
            await jobs.look()
            after = (await jobs.status(ALL, id)).result
            assert set(people(s3, id, after)) == {birch, cole}
            assert len(s3.names(id)) > len(after["output"])  # what has their lines is still there, and nobody's
            s3.calm()
            await objects.tidy()
            assert s3.names(id) == {each["key"] for each in after["output"]}
            assert ashby.encode() not in b"".join(map(igzip.decompress, s3.files(id).values()))
            assert not [path for path in (tmp_path / "scratch").rglob("*") if path.is_file() and path.suffix != ".lock"]

            (flags,) = [each["key"] for each in after["output"] if each["type"] == "Flag"]
            s3.lose(f"{id}/{flags}")
            world.tables["dissent"].append(["901", "3"])
            await world.sync()
            await jobs.look()  # what is lost keeps no dissent from the rest
            left = (await jobs.status(ALL, id)).result
            assert people(s3, id, left) == [birch]
            assert "Flag" not in {each["type"] for each in left["output"]}
            assert "file of an export lost" in "".join(capsys.readouterr())


def people(s3: S3, id: str, result: dict[str, Any]) -> list[str]:
    """Who is in the file of Patients, which is what the manifest says of it."""
    (told,) = [each for each in result["output"] if each["type"] == "Patient"]
    data = igzip.decompress(s3.files(id)[told["key"]])
    assert (told["count"], told["bytes"]) == (data.count(b"\n"), len(data))
    assert hashlib.sha256(data).hexdigest() == told["sha256"]
    return [json.loads(line)["id"] for line in data.splitlines()]


async def test_an_application_that_is_stopped_loses_its_exports(world: World, tmp_path: Path) -> None:
    await world.sync()
    async with direct(world.engine) as connection:
        for name in ("ics", "other"):
            await registration.add(connection, Registration(name, "Z9C01", "system/*.rs", jwks={"keys": []}))
    other = replace(ALL, registration="other")
    async with ExportJobs(world.engine, tmp_path / "exports") as jobs:
        id, theirs = await jobs.kick_off(ALL, Selection(), "r"), await jobs.kick_off(other, Selection(), "r")
        await done(jobs, id, ALL)
        await done(jobs, theirs, other)
        async with direct(world.engine) as connection:
            await registration.activate(connection, "ics", False)
        await jobs.look()
        with pytest.raises(FhirError, match="no such export"):
            await jobs.status(ALL, id)
        assert not (tmp_path / "exports" / id).exists()
        assert (await jobs.status(other, theirs)).state == "done"
        with pytest.raises(FhirError, match="no such export"):
            await jobs.status(ALL, theirs)


async def test_who_is_restricted_keeps_a_line_without_their_whereabouts(world: World, tmp_path: Path) -> None:
    world = World(tmp_path / "other", world.engine, world.url, more={"person": RESTRICTED})
    people = world.tables["person"]
    people[:] = [[*row, "restricted" if at == 0 else ""] for at, row in enumerate(people)]
    await world.sync()
    ashby, *_ = (each["id"] for each in await world.bodies("Patient"))
    async with ExportJobs(world.engine, tmp_path / "exports") as jobs:
        id = (await jobs.kick_off(ALL, Selection(), "r")), (await jobs.kick_off(CLEARED, Selection(), "r"))
        before = [await done(jobs, each, permit) for each, permit in zip(id, (ALL, CLEARED), strict=True)]
        people[1][-1] = "restricted"
        await world.sync()
        for _ in range(2):  # the second time there is nothing left to do
            await jobs.look()
            path = (await jobs.file(ALL, id[0], "Patient.ndjson")).path
            served = {each["id"]: each for each in map(json.loads, path.read_bytes().splitlines())}
            assert len(served) == 3 and "telecom" not in served[ashby]
            assert served[ashby]["name"] == [{"use": "official", "family": "Ashby"}]
            await lines(jobs, id[0], "Patient.ndjson")  # count, size and digest are those of the file
        told = [(await jobs.status(permit, each)).result for each, permit in zip(id, (ALL, CLEARED), strict=True)]
        assert told[0] != before[0].result
        assert told[1] == before[1].result  # who is cleared keeps what they have


ENDING = {
    "a relationship": "INSERT INTO fhirgw.relationship (person, party, kind, ends, type, id)"
    " VALUES ($1, 'Organization/gp', 'gp', now() + interval '1 hour', 'Patient', $1)",
    "a dissent begins": "INSERT INTO fhirgw.relationship (person, party, kind, type, id)"
    " VALUES ($1, 'Organization/gp', 'gp', 'Patient', $1); INSERT INTO fhirgw.directive (person, effect, starts,"
    " weight, decided, type, id) VALUES ($1, 'deny', now() + interval '1 hour', 5, 'person', 'Consent', 'c')",
    "a consent ends": "INSERT INTO fhirgw.relationship (person, party, kind, type, id)"
    " VALUES ($1, 'Organization/gp', 'gp', 'Patient', $1); INSERT INTO fhirgw.directive (person, effect,"
    " weight, decided, type, id) VALUES ($1, 'deny', 5, 'person', 'Consent', 'c'); INSERT INTO fhirgw.directive"
    " (person, effect, ends, weight, decided, type, id)"
    " VALUES ($1, 'permit', now() + interval '1 hour', 6, 'person', 'Consent', 'd')",
}

HOUR_LATER = {
    "a relationship": "UPDATE fhirgw.relationship SET ends = now() WHERE person = $1",
    "a dissent begins": "UPDATE fhirgw.directive SET starts = now() WHERE person = $1",
    "a consent ends": "UPDATE fhirgw.directive SET ends = now() WHERE person = $1 AND effect = 'permit'",
}
"""The hour comes to the row, since nobody notes a date that has come: nothing else tells of these writes either."""


@pytest.mark.parametrize("told", ENDING)
async def test_what_ends_by_its_own_date_leaves_finished_exports(world: World, tmp_path: Path, told: str) -> None:
    await world.sync()
    ashby, birch, _ = (each["id"] for each in await world.bodies("Patient"))
    gp = replace(ALL, organisation="GP1", parties=("Organization/gp",), controls=False)
    async with direct(world.engine) as connection, connection.transaction():
        for each in ENDING[told].split("; "):
            await connection.execute(each, ashby)
        await connection.execute(ENDING["a dissent begins"].split("; ")[0], birch)
    async with ExportJobs(world.engine, tmp_path / "exports") as jobs:
        id = await jobs.kick_off(gp, Selection(), "r")
        await done(jobs, id, gp)
        path = (await jobs.file(gp, id, "Patient.ndjson")).path
        assert {json.loads(line)["id"] for line in path.read_bytes().splitlines()} == {ashby, birch}
        async with direct(world.engine) as connection:
            await connection.execute(HOUR_LATER[told], ashby)
        await jobs.look()
        path = (await jobs.file(gp, id, "Patient.ndjson")).path
        assert {json.loads(line)["id"] for line in path.read_bytes().splitlines()} == {birch}
        assert [
            each["count"] for each in (await jobs.status(gp, id)).result["output"] if each["type"] == "Patient"
        ] == [1]


async def test_an_agreement_that_ends_takes_its_exports_with_it(world: World, tmp_path: Path) -> None:
    await world.sync()
    agreed = replace(ALL, purpose="research", registration="study", agreement="A1")
    found = Registration("study", "Z9C01", "system/*.rs", purposes=("research",), agreement="A1", jwks={"keys": []})
    async with direct(world.engine) as connection:
        await registration.add(connection, found)
    async with ExportJobs(world.engine, tmp_path / "exports") as jobs:
        id = await jobs.kick_off(agreed, Selection(), "r")
        await done(jobs, id, agreed)
        await jobs.look()
        assert (await jobs.status(agreed, id)).state == "done"
        ended = replace(found, agreement_until=datetime.now(UTC) - timedelta(seconds=1))
        async with direct(world.engine) as connection:
            await registration.add(connection, ended, replace_it=True)
        await jobs.look()
        with pytest.raises(FhirError, match="no such export"):
            await jobs.status(agreed, id)
        assert not (tmp_path / "exports" / id).exists()


@pytest.mark.parametrize(
    ("asked", "permit", "found"),
    [
        (CLEARED, CLEARED, True),
        (CLEARED, replace(CLEARED, clearance=3), False),
        (ALL, CLEARED, True),
        (replace(ALL, parties=("a",)), replace(ALL, parties=("b", "a")), True),
        (replace(ALL, parties=("a", "b")), replace(ALL, parties=("b",)), False),
    ],
)
async def test_who_sees_less_than_when_they_asked_gets_no_file(
    world: World, tmp_path: Path, asked: Permit, permit: Permit, found: bool
) -> None:
    async with ExportJobs(world.engine, tmp_path / "exports") as jobs:
        id = await jobs.kick_off(asked, Selection(("Patient",)), "r")
        await done(jobs, id, asked)
        if found:
            assert (await jobs.status(permit, id)).state == "done"
        else:
            with pytest.raises(FhirError, match="no such export"):
                await jobs.status(permit, id)


LABEL = {"security": [{"system": "https://fhirgw.uk/fhir/CodeSystem/record-class", "code": "restricted"}]}
OURS, THEIRS = {"reference": "Organization/ours"}, {"reference": "Organization/theirs"}
VISIT = {"resourceType": "Encounter", "status": "finished", "class": {"code": "HH"}}
MEETING = {"resourceType": "Appointment", "status": "booked"}
TURNING: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "a visit is another's": ("care-provider", VISIT | {"serviceProvider": OURS}, {"serviceProvider": THEIRS}),
    "an appointment is another's": (
        "care-provider",
        MEETING | {"participant": [{"actor": OURS, "status": "accepted"}]},
        {"participant": [{"actor": THEIRS, "status": "accepted"}]},
    ),
    "a package is a plan": (
        "care-provider",
        {"resourceType": "ServiceRequest", "status": "active", "intent": "order"},
        {"intent": "plan"},
    ),
    "a list is for others": (
        "gp",
        {"resourceType": "Group", "type": "person", "actual": True, "managingEntity": OURS},
        {"managingEntity": THEIRS},
    ),
    "a place is a refuge": ("gp", {"resourceType": "Location", "name": "A house"}, {"meta": LABEL}),
    "a relation is somebody else who is restricted": (
        "gp",
        {"resourceType": "RelatedPerson"},
        {
            "extension": [
                {
                    "url": "https://fhirgw.uk/fhir/StructureDefinition/ext-related-patient",
                    "valueReference": {"reference": "Patient/restricted"},
                }
            ]
        },
    ),
}
"""By what happens: who asks, a resource that they see, and what it says then."""


async def written(world: World, version: int, resource: dict[str, Any]) -> None:
    kind = "update" if version > 1 else "create"
    made = made_of(json.loads(json.dumps(resource)), kind, version, datetime.now(UTC), "Z9C01|x", "Z9C01")
    async with direct(world.engine) as connection, connection.transaction():
        await write.write(connection, "Z9C01|x", [made])


@pytest.mark.parametrize("happens", TURNING)
async def test_what_is_not_for_whoever_asked_any_more_leaves_finished_exports(
    world: World, tmp_path: Path, happens: str
) -> None:
    await world.sync()
    ashby, *_ = (each["id"] for each in await world.bodies("Patient"))
    tie, resource, turned = TURNING[happens]
    name = {"RelatedPerson": "patient", "ServiceRequest": "subject", "Encounter": "subject"}.get(
        resource["resourceType"]
    )
    resource = resource | ({name: {"reference": f"Patient/{ashby}"}} if name else {})
    if resource["resourceType"] == "Appointment":
        named = {"actor": {"reference": f"Patient/{ashby}"}, "status": "accepted"}
        resource, turned = ({**each, "participant": [*each["participant"], named]} for each in (resource, turned))
    if resource["resourceType"] == "Group":
        resource["member"] = [{"entity": {"reference": f"Patient/{ashby}"}}]
    asking = replace(ALL, organisation="P1", parties=("Organization/ours",), controls=False)
    async with direct(world.engine) as connection, connection.transaction():
        insert = "INSERT INTO fhirgw.relationship (person, party, kind, type, id) VALUES ($1, $2, $3, 'Patient', $1)"
        await connection.execute(insert, ashby, "Organization/ours", tie)
        restrict = (
            "INSERT INTO fhirgw.directive (person, effect, weight, decided, type, id)"
            " VALUES ('restricted', 'restrict', 600, 'record', 'Patient', 'restricted')"
        )
        await connection.execute(restrict)
    for id in ("stays", "turns"):
        await written(world, 1, resource | {"id": id})
    async with ExportJobs(world.engine, tmp_path / "exports") as jobs:
        id = await jobs.kick_off(asking, Selection((resource["resourceType"],)), "r")
        await done(jobs, id, asking)
        seen = []
        for version in (2, 3):
            path = (await jobs.file(asking, id, f"{resource['resourceType']}.ndjson")).path
            seen.append({json.loads(line)["id"] for line in path.read_bytes().splitlines()})
            await written(world, version, resource | turned | {"id": "turns"})
            await jobs.look()
        assert seen == [{"stays", "turns"}, {"stays"}]


@pytest.mark.parametrize("purpose", ["emergency", "safeguarding"])
async def test_nothing_is_exported_in_an_emergency(world: World, tmp_path: Path, purpose: str) -> None:
    asked = replace(ALL, purpose=purpose, practitioner="w", patient="p", grant="g", case="c")
    async with ExportJobs(world.engine, tmp_path / "exports") as jobs:
        with pytest.raises(FhirError, match="Nothing is exported"):
            await jobs.kick_off(asked, Selection(), "request")


@pytest.mark.parametrize("dissents", [True, False])
async def test_the_history_of_who_dissented_stays_hidden_when_they_are_gone(world: World, dissents: bool) -> None:
    """What said so is gone with them: the tombstone remembers."""
    if dissents:
        world.tables["dissent"].append(["900", "1"])
    await world.sync()
    ashby, *_ = await world.bodies("Patient")
    flag, _ = await world.bodies("Flag")
    world.tables["person"].pop(1)
    world.tables["alert"].pop(1)
    del world.tables["dissent"][1:]
    await world.sync(force=True)
    async with reading(world.url) as pool, pool.acquire() as connection:
        for kind, id in (("Patient", ashby["id"]), ("Flag", flag["id"])):
            seen = await resources.past(connection, ALL, kind, id)
            assert len(seen) == (0 if dissents else 2)
            assert len(await resources.past(connection, CLEARED, kind, id)) == 2
