"""Pseudonymised exports: for whom, of how many, with which keys; and what is taken out of them again."""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.pseudonym import rules
from fhirgw.fhir.views import views
from fhirgw.jobs.export_jobs import ExportJobs
from fhirgw.jobs.projects import Projects
from fhirgw.store import export_job, ledger, opt_out
from fhirgw.store.database import connect, direct
from fhirgw.store.export import Selection
from fhirgw.store.export_job import Job
from tests.jobs.test_jobs_withdrawal import CONSENT
from tests.jobs.world import World, done
from tests.put import put

STUDY = Permit("Z9C01", "research", (Scope.parse("system/*.rs"),), registration="study", agreement="A1")
PEOPLE = 11
CONDITION = """\
table: reason
key: reason_id
resource: Condition
person: person_id
constants:
  - {{path: category, value: {{coding: [{{system: "https://fhirgw.uk/fhir/CodeSystem/x", code: support-reason}}]}}}}
fields:
  - {{column: reason_id, path: "identifier.where(system = 'https://fhirgw.uk/Id/{name}/reason').value"}}
  - {{column: person_id, path: subject, reference: person}}
  - {{column: words, path: code.text}}
  - {{column: restricted, path: "meta.security.where(system = 'https://fhirgw.uk/fhir/CodeSystem/record-class').code"}}
"""


def number(at: int) -> str:
    """A valid NHS number nobody has."""
    for digits in (f"9990{n:05}" for n in range(at * 7, at * 7 + 7)):
        check = 11 - sum(int(digit) * (10 - place) for place, digit in enumerate(digits)) % 11
        if check != 10:
            return digits + str(check % 11)
    raise AssertionError


@pytest.fixture
async def world(tmp_path: Path, database: str) -> AsyncIterator[World]:
    engine = connect(database)
    made = World(tmp_path, engine, database, more={"dissent": CONSENT, "reason": CONDITION})
    people = made.tables["person"]
    people[1:] = [[str(n), number(n), f"Canarybird{n}", "1940-02-01", "F"] for n in range(1, PEOPLE + 1)]
    made.tables["alert"], made.tables["phone"] = made.tables["alert"][:1], made.tables["phone"][:1]
    made.tables["dissent"] = [["dissent_id", "person_id"]]
    reasons = ([str(n), str(n), "a word", ""] for n in range(1, 12))
    made.tables["reason"] = [["reason_id", "person_id", "words", "restricted"], *reasons]
    await made.sync()
    async with direct(engine) as connection:
        await opt_out.load(connection, [number(99)], datetime.now(UTC))
    yield made
    await engine.dispose()


def jobs_in(world: World, folder: Path) -> ExportJobs:
    return ExportJobs(world.engine, folder / "exports", projects=Projects(folder / "keys"))


async def made(jobs: ExportJobs, asked: Selection, permit: Permit = STUDY) -> tuple[str, Job]:
    id = await jobs.kick_off(permit, asked, "request")
    return id, await done(jobs, id, permit)


async def read(jobs: ExportJobs, id: str, name: str, permit: Permit = STUDY) -> bytes:
    return (await jobs.file(permit, id, name)).path.read_bytes()


async def table(jobs: ExportJobs, id: str, name: str) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO((await read(jobs, id, name)).decode(), newline="")))


async def test_tables_join_and_say_nobodys_name(world: World, tmp_path: Path) -> None:
    async with jobs_in(world, tmp_path) as jobs:
        id, job = await made(jobs, Selection(form="csv", project="falls"))
        assert [(each["url"], each["count"]) for each in job.result["output"]] == [
            ("support_reasons.csv", PEOPLE),
            ("people.csv", PEOPLE),
        ]
        people, reasons = await table(jobs, id, "people.csv"), await table(jobs, id, "support_reasons.csv")
        kept = bytes.fromhex((tmp_path / "keys" / "Z9C01" / "falls.key").read_text())
        key = hmac.new(kept, b"agreement A1", hashlib.sha256).digest()
        expected = {
            hmac.new(key, f"Patient/{each['id']}".encode(), hashlib.sha256).hexdigest()[:32]
            for each in await world.bodies("Patient")
        }
        assert {each["id"] for each in people} == {each["person_id"] for each in reasons} == expected
        assert {each["birth_date"] for each in people} == {"1940"}
        written = b"".join(path.read_bytes() for path in (tmp_path / "exports" / id).iterdir())
        for canary in (
            b"Canarybird",
            number(3).encode(),
            b"a word",
            b"1940-02",
            (await world.bodies("Patient"))[0]["id"].encode(),
        ):
            assert canary not in written


async def test_ndjson_too_and_a_key_of_their_own_for_each_project(world: World, tmp_path: Path) -> None:
    async with jobs_in(world, tmp_path) as jobs:
        falls, _ = await made(jobs, Selection(("Patient",), project="falls"))
        again, _ = await made(jobs, Selection(("Patient",), project="falls"))
        other, _ = await made(jobs, Selection(("Patient",), project="frailty"))
        files = [await read(jobs, each, "Patient.ndjson") for each in (falls, again, other)]
    assert files[0] == files[1]  # the same project knows its people again
    ids = [{json.loads(line)["id"] for line in file.splitlines()} for file in files]
    assert len(ids[0]) == PEOPLE and ids[0].isdisjoint(ids[2])
    folder = tmp_path / "keys" / "Z9C01"
    assert sorted(path.name for path in folder.iterdir()) == ["falls.key", "frailty.key"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


async def test_few_people_are_refused(world: World, tmp_path: Path) -> None:
    enough = tuple(each["id"] for each in await world.bodies("Patient"))[: rules().smallest]
    async with jobs_in(world, tmp_path) as jobs:
        id, job = await made(jobs, Selection(("Patient",), enough[:-1], project="falls"))
        assert job.state == "failed"
        (issue,) = job.result["issue"]
        assert issue["diagnostics"].startswith("Patient: of fewer than 10 people, who might be known by it")
        assert not list((tmp_path / "exports" / id).iterdir())
        _, job = await made(jobs, Selection(("Patient",), enough, project="falls"))
        assert job.state == "done"
        _, plain = await made(jobs, Selection(("Patient",), enough[:-1]))
        assert plain.state == "done"  # what else this purpose may have is another matter


async def test_a_type_of_few_people_is_refused_and_the_others_are_not(world: World, tmp_path: Path) -> None:
    del world.tables["reason"][5:]
    await world.sync(force=True)
    async with jobs_in(world, tmp_path) as jobs:
        _, job = await made(jobs, Selection(project="falls"))
        assert "Condition: of fewer than 10 people" in job.result["issue"][0]["diagnostics"]
        _, job = await made(jobs, Selection(("Patient",), project="falls"))
        assert [each["type"] for each in job.result["output"]] == ["Patient"]


async def test_a_view_is_counted_by_what_is_in_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are enough people, and not enough who have what the view is of."""
    whole, seen = views()["people"], iter(range(PEOPLE))
    few = replace(whole, rows=lambda each: whole.rows(each) if next(seen) < 3 else [])
    monkeypatch.setattr("fhirgw.jobs.forms.views", lambda: {**views(), "people": few})
    async with jobs_in(world, tmp_path) as jobs:
        _, job = await made(jobs, Selection(("Patient", "Condition"), form="csv", project="falls"))
        assert job.result["issue"][0]["diagnostics"].startswith("people: of fewer than 10 people")
        _, job = await made(jobs, Selection(("Condition",), form="csv", project="falls"))
        assert job.state == "done"


REFUSED = {
    "for planning and research alone": (replace(STUDY, purpose="direct-care"), Selection(project="falls")),
    "no rules to pseudonymise Flag by": (STUDY, Selection(("Flag",), project="falls")),
    "A project is named by letters": (STUDY, Selection(project="../falls")),
    "63 at most": (STUDY, Selection(project="")),
}


async def test_what_is_not_pseudonymised(world: World, tmp_path: Path) -> None:
    async with jobs_in(world, tmp_path) as jobs:
        for told, (permit, asked) in REFUSED.items():
            with pytest.raises(FhirError, match=told):
                await jobs.kick_off(permit, asked, "request")
        _, job = await made(jobs, Selection(project="falls"), replace(STUDY, purpose="planning"))
        assert job.state == "done"
    assert [path.name for path in (tmp_path / "keys").rglob("*.key")] == ["falls.key"]


async def test_a_key_that_cannot_be_kept_is_told_without_our_folders(world: World, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a file where a folder belongs")
    async with jobs_in(world, tmp_path) as jobs:
        with pytest.raises(FhirError, match="operators have to make room") as refused:
            await jobs.kick_off(STUDY, Selection(project="falls"), "request")
    assert refused.value.status == 507
    assert "keys" not in str(refused.value).replace("key of the project", "")


@pytest.mark.parametrize("form", ["ndjson", "csv"])
async def test_a_group_is_pseudonymised_unless_few_are_in_it(world: World, tmp_path: Path, form: str) -> None:
    smallest = rules().smallest
    more = [[str(n), number(n), f"Canarybird{n}", "1940-02-01", "F"] for n in range(20, 20 + smallest)]
    world.tables["person"] += more
    await world.sync()
    people = [each["id"] for each in await world.bodies("Patient") if each["birthDate"]]
    with_reasons = {each["subject"]["reference"][8:] for each in await world.bodies("Condition")}
    people.sort(key=lambda each: (each not in with_reasons, each))
    for name, ids in (("few", people[: smallest - 1]), ("enough", people[:smallest])):
        members = [{"entity": {"reference": f"Patient/{each}"}} for each in ids]
        group = {"resourceType": "Group", "id": name, "type": "person", "actual": True, "member": members}
        await put(world.url, group)
    await world.ask("UPDATE fhirgw.resource SET controller = 'Z9C01' WHERE type = 'Group'")
    asked = Selection(patients=(), form=form, project="falls")
    async with jobs_in(world, tmp_path) as jobs:
        with pytest.raises(FhirError, match="sets a few people apart"):
            await jobs.kick_off(STUDY, replace(asked, group="few"), "request")
        _, plain = await made(jobs, Selection(("Patient",), patients=(), group="few"))
        assert [each["count"] for each in plain.result["output"]] == [smallest - 1]
        id, enough = await made(jobs, replace(asked, group="enough"))
        assert {(each["type"], each["count"]) for each in enough.result["output"]} == {
            ("Condition", smallest),
            ("Patient", smallest),
        }
        written = b"".join([await read(jobs, id, each["url"]) for each in enough.result["output"]])
    assert not [each for each in people if each.encode() in written]


@pytest.mark.parametrize("form", ["ndjson", "csv"])
async def test_who_opts_out_is_taken_out_by_their_key(world: World, tmp_path: Path, form: str) -> None:
    name = {"ndjson": "Patient.ndjson", "csv": "people.csv"}[form]
    async with jobs_in(world, tmp_path) as jobs:
        id, _ = await made(jobs, Selection(("Patient",), form=form, project="falls"))
        whole = await read(jobs, id, name)
        async with direct(world.engine) as connection:
            await opt_out.load(connection, [number(4)], datetime.now(UTC))
        await jobs.look()
        left = await read(jobs, id, name)
        (told,) = (await jobs.status(STUDY, id)).result["output"]
        assert (told["count"], told["sha256"]) == (PEOPLE - 1, hashlib.sha256(left).hexdigest())
        gone = set(whole.splitlines()) - set(left.splitlines())
        assert len(gone) == 1 and set(left.splitlines()) < set(whole.splitlines())


@pytest.mark.parametrize("form", ["ndjson", "csv", "parquet"])
async def test_what_is_left_of_too_few_people_is_withheld(world: World, tmp_path: Path, form: str) -> None:
    """As at a kick-off: ten are enough, also where one of them has less in it than before; nine are not."""
    world.tables["reason"].append(["12", "1", "another word", ""])
    await world.sync()
    folder = tmp_path / "exports"
    async with jobs_in(world, tmp_path) as jobs:
        id, job = await made(jobs, Selection(form=form, project="falls"))
        assert {each["type"]: each["count"] for each in job.result["output"]} == {"Condition": 12, "Patient": 11}

        async def left(*gone: int) -> Job:
            async with direct(world.engine) as connection:
                await opt_out.load(connection, [number(at) for at in gone], datetime.now(UTC))
            await jobs.look()
            return await jobs.status(STUDY, id)

        job = await left(4)
        assert {each["type"]: each["count"] for each in job.result["output"]} == {"Condition": 11, "Patient": 10}
        world.tables["reason"][-1][-1] = "safeguarding"
        await world.sync()
        job = await left(4)
        assert (job.state, [each["count"] for each in job.result["output"]]) == ("done", [10, 10])
        job = await left(4, 5)
        assert (job.state, "of fewer than 10 people" in job.result["issue"][0]["diagnostics"]) == ("failed", True)
        assert list((folder / id).iterdir()) == []
        with pytest.raises(FhirError, match="no such export"):
            await jobs.file(STUDY, id, "Patient.ndjson")
        await left(99)
        async with direct(world.engine) as connection:
            assert await ledger.resume(connection, id)
        await jobs._queue.ask(id)
        job = await done(jobs, id, STUDY)  # which makes it anew: they have opted in again
        assert {each["type"]: each["count"] for each in job.result["output"]} == {"Condition": 11, "Patient": 11}


async def test_who_opts_out_before_the_end_counts_no_more(world: World, tmp_path: Path) -> None:
    waiting = ExportJobs(world.engine, tmp_path / "exports", projects=Projects(tmp_path / "keys"), working=False)
    async with waiting as jobs:
        id, worker = await jobs.kick_off(STUDY, Selection(("Patient",), project="falls"), "request"), jobs._worker
        for _ in range(2):  # the plan, and the one part
            async with direct(world.engine) as connection:
                part, job = await ledger.claim(connection, id, "w"), await export_job.find(connection, id)
            assert part is not None and job is not None
            await worker.attempt(job, part)
        async with direct(world.engine) as connection:
            await opt_out.load(connection, [number(4), number(5)], datetime.now(UTC))
        await worker.conclude(id)
        job = await jobs.status(STUDY, id)
        assert (job.state, job.result["issue"][0]["diagnostics"][:34]) == (
            "failed",
            "Patient: of fewer than 10 people, ",
        )


async def test_no_file_is_given_out_that_nobody_has_looked_through(world: World, tmp_path: Path) -> None:
    """Somebody opts out while the gateway is down; then the key is gone, and nobody can tell them apart."""
    async with jobs_in(world, tmp_path) as jobs:
        id, _ = await made(jobs, Selection(("Patient",), project="falls"))
        whole = await read(jobs, id, "Patient.ndjson")
        async with direct(world.engine) as connection:
            await opt_out.load(connection, [number(4)], datetime.now(UTC))
        assert await read(jobs, id, "Patient.ndjson") == whole  # it was looked through a moment ago
        await world.ask("UPDATE fhirgw.export_job SET looked = looked - interval '61 seconds'")
        left = await read(jobs, id, "Patient.ndjson")
        assert len(set(whole.splitlines()) - set(left.splitlines())) == 1
        key = tmp_path / "keys" / "Z9C01" / "falls.key"
        kept = key.read_text()
        key.unlink()
        assert await read(jobs, id, "Patient.ndjson") == left
        await world.ask("UPDATE fhirgw.export_job SET looked = looked - interval '61 seconds'")
        with pytest.raises(FhirError, match="ask again") as refused:
            await read(jobs, id, "Patient.ndjson")
        assert refused.value.status == 503
        key.write_text(kept)
        assert await read(jobs, id, "Patient.ndjson") == left


async def test_what_is_deleted_is_told_by_its_key(world: World, tmp_path: Path) -> None:
    async with jobs_in(world, tmp_path) as jobs:
        id, before = await made(jobs, Selection(("Condition",), project="falls"))
        known = {json.loads(line)["id"] for line in (await read(jobs, id, "Condition.ndjson")).splitlines()}
        world.tables["reason"].pop(1)
        await world.sync(force=True)
        id, job = await made(jobs, Selection(("Condition",), since=before.time, project="falls"))
        (told,) = job.result["deleted"]
        (entry,) = json.loads(await read(jobs, id, told["url"]))["entry"]
    assert entry["request"]["url"].removeprefix("Condition/") in known


async def test_who_has_been_hidden_since_is_told_by_their_key(world: World, tmp_path: Path) -> None:
    async with jobs_in(world, tmp_path) as jobs:
        id, before = await made(jobs, Selection(("Patient",), project="falls"))
        known = {json.loads(line)["id"] for line in (await read(jobs, id, "Patient.ndjson")).splitlines()}
        world.tables["dissent"].append(["900", "4"])
        await world.sync()
        id, job = await made(jobs, Selection(since=before.time, project="falls"))
        (told,) = job.result["deleted"]
        bundles = [json.loads(line) for line in (await read(jobs, id, told["url"])).splitlines()]
    gone = {entry["request"]["url"] for bundle in bundles for entry in bundle["entry"]}
    assert len(gone) == 2 and len(gone & {f"Patient/{each}" for each in known}) == 1
    assert {each.partition("/")[0] for each in gone} == {"Patient", "Condition"}  # and never a type without rules


async def test_a_worker_without_the_key_says_so_and_one_with_it_goes_on(world: World, tmp_path: Path) -> None:
    async with jobs_in(world, tmp_path) as jobs:
        await made(jobs, Selection(project="falls"))  # which makes the key
    lost = (tmp_path / "keys" / "Z9C01" / "falls.key").rename(tmp_path / "lost")
    elsewhere = ExportJobs(world.engine, tmp_path / "exports", projects=Projects(tmp_path / "none"), working=False)
    async with elsewhere:
        elsewhere._worker.projects.begin(STUDY, Selection(project="falls"))
        id = await elsewhere.kick_off(STUDY, Selection(("Patient",), project="falls"), "request")
    async with jobs_in(world, tmp_path) as jobs:
        job = await done(jobs, id, STUDY)
    assert (job.state, job.result["issue"][0]["diagnostics"][:44]) == (
        "failed",
        "This worker has not the key of the project: ",
    )
    assert lost.exists()
