"""Exports in several parts whatever their shape, and what finished ones of each shape lose when a person says so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.jobs.export_jobs import ExportJobs
from fhirgw.jobs.forms import form_of
from fhirgw.store.copied import PARTED
from fhirgw.store.database import Engine
from fhirgw.store.export import Selection
from tests.jobs.world import done
from tests.put import connected, put

ALL = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
BEFORE, SINCE, AFTER = (datetime(2026, 3, day, tzinfo=UTC) for day in (1, 10, 20))
PART = 64 << 10
NOTE = "What was seen and said at the visit, at some length. " * 12
PEOPLE = [{"resourceType": "Patient", "id": f"p{n:02}"} for n in range(40)]
GOALS = [
    {
        "resourceType": "Goal",
        "id": hashlib.sha256(b"%d" % n).hexdigest()[:32],
        "subject": {"reference": f"Patient/p{n % 40:02}"},
        "description": {"text": NOTE},
    }
    for n in range(200)
]
MEMBERS = [{"entity": {"reference": f"Patient/p{n:02}"}} for n in range(3)]
GROUP = {"resourceType": "Group", "id": "g", "type": "person", "actual": True, "member": MEMBERS}
NO = {
    "resourceType": "Consent",
    "id": "no",
    "status": "active",
    "patient": {"reference": "Patient/p01"},
    "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTOUT"}]},
}


@pytest.fixture
async def jobs(database: str, engine: Engine, tmp_path: Path) -> AsyncIterator[ExportJobs]:
    await put(database, *PEOPLE, *GOALS[:-2], updated=BEFORE)
    await put(database, *GOALS[-2:], GROUP, updated=AFTER)
    async with ExportJobs(engine, tmp_path / "exports", part=PART) as made:
        yield made


async def asked(url: str, *statements: str) -> None:
    connection = await connected(url)
    for each in statements:
        await connection.execute(each)
    await connection.close()


async def files(jobs: ExportJobs, id: str) -> list[list[dict[str, Any]]]:
    """What is in each file of an export that has ended, which is what the job says of it."""
    job = await done(jobs, id, ALL)
    found = []
    for told in job.result["output"]:
        file = await jobs.file(ALL, id, told["url"])
        data = file.path.read_bytes()
        assert (told["count"], told["bytes"]) == (data.count(b"\n"), len(data))
        assert hashlib.sha256(data).hexdigest() == file.sha256
        found.append([json.loads(line) for line in data.splitlines()])
    return found


def flat(found: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    return [each for lines in found for each in lines]


def ids(found: list[list[dict[str, Any]]], kind: str = "Goal") -> list[str]:
    return [each["id"] for each in flat(found) if each["resourceType"] == kind]


async def test_what_changed_is_divided_where_it_is_much(jobs: ExportJobs, database: str) -> None:
    much = Selection(("Goal",), since=BEFORE - timedelta(days=1))
    whole = await files(jobs, await jobs.kick_off(ALL, much, "r"))
    assert len(whole) > 2 and ids(whole) == sorted(each["id"] for each in GOALS)
    await asked(database, "ANALYZE fhirgw.resource")
    few = await files(jobs, await jobs.kick_off(ALL, Selection(("Goal",), since=SINCE), "r"))
    assert len(few) == 1 and ids(few) == sorted(each["id"] for each in GOALS[-2:])
    again = await files(jobs, await jobs.kick_off(ALL, much, "r"))
    assert len(again) > 2 and ids(again) == ids(whole)


async def test_peoples_records_are_divided_where_they_are_many(jobs: ExportJobs, database: str) -> None:
    await asked(database, "ANALYZE fhirgw.resource")
    several = tuple(each["id"] for each in PEOPLE[:30])
    many = await files(jobs, await jobs.kick_off(ALL, Selection(("Goal",), patients=several), "r"))
    theirs = sorted(each["id"] for each in GOALS if each["subject"]["reference"].partition("/")[2] in several)
    assert len(many) > 2 and ids(many) == theirs
    few = await files(jobs, await jobs.kick_off(ALL, Selection(("Goal",), patients=(), group="g"), "r"))
    members = {each["entity"]["reference"] for each in MEMBERS}
    assert len(few) == 1
    assert ids(few) == sorted(each["id"] for each in GOALS if each["subject"]["reference"] in members)


async def test_blocks_are_divided_between_patients(jobs: ExportJobs) -> None:
    found = await files(jobs, await jobs.kick_off(ALL, Selection(patients=(), organized=True), "r"))
    assert len(found) > 2
    assert sorted(ids(found)) == sorted(each["id"] for each in GOALS)
    assert ids(found, "Patient") == [each["id"] for each in PEOPLE]
    for lines in found:
        whose = ""
        for each in lines:
            if each["resourceType"] == "Parameters":
                whose = each["parameter"][0]["valueReference"]["reference"]
            else:
                assert whose == each.get("subject", {}).get("reference", f"Patient/{each['id']}")


async def test_a_finished_export_loses_a_block_with_its_header(jobs: ExportJobs, database: str) -> None:
    whole = Selection(patients=(), organized=True)
    goals = Selection(("Goal",), patients=(), organized=True)
    id, of_goals = await jobs.kick_off(ALL, whole, "r"), await jobs.kick_off(ALL, goals, "r")
    before, goals_before = await files(jobs, id), await files(jobs, of_goals)
    await put(database, NO)
    await asked(database, "INSERT INTO fhirgw.narrowed (person) VALUES ('p01')")
    await jobs.look()
    for earlier, now in ((before, await files(jobs, id)), (goals_before, await files(jobs, of_goals))):
        lines = [each for each in flat(earlier) if "p01" not in json.dumps(each)]
        assert len(lines) < len(flat(earlier)) and flat(now) == lines
    await jobs.look()  # the second time there is nothing left to do
    assert len(flat(await files(jobs, id))) == len(flat(before)) - 7


async def test_a_list_in_a_finished_export_loses_a_member(jobs: ExportJobs, database: str) -> None:
    id = await jobs.kick_off(ALL, Selection(("Group",)), "r")
    ((before,),) = await files(jobs, id)
    assert before["member"] == MEMBERS
    await put(database, NO)
    await asked(database, "INSERT INTO fhirgw.narrowed (person) VALUES ('p01')")
    await jobs.look()
    ((now,),) = await files(jobs, id)
    assert now == {**before, "member": [MEMBERS[0], MEMBERS[2]]}


def test_blocks_without_some_resources_are_what_they_would_be_of_the_others(tmp_path: Path) -> None:
    """A header goes with the last of its block, and what is in the place of a resource is in the shape asked for."""
    asked = Selection(patients=(), organized=True, elements=("Patient.gender", "Goal.description"))

    def line(whose: str, kind: str, id: str, **elements: Any) -> bytes:
        body = json.dumps({"resourceType": kind, "id": id, **elements})
        return PARTED.join((f"p{whose}", kind, body)).encode()

    lines = [
        line("1", "Patient", "p1", gender="female", birthDate="1950-01-01"),
        line("1", "Goal", "g1", description={"text": "one"}),
        line("2", "Patient", "p2", gender="male"),
        line("2", "Goal", "g2", description={"text": "two"}),
        line("3", "Goal", "p2", description={"text": "named as somebody is"}),
    ]
    changed = json.dumps({"resourceType": "Patient", "id": "p1", "gender": "other", "photo": []}).encode()
    other = {"Patient/p1": changed, "Patient/p2": None, "Goal/g2": None}
    (tmp_path / "file").write_bytes(form_of(asked, "Patient", "").add(lines)[0])
    assert form_of(asked, "Patient", "").holds(tmp_path / "file", other)
    assert not form_of(asked, "Patient", "").holds(tmp_path / "file", {"Patient/g1": None, "Goal/p1": None})
    left = [line("1", "Patient", "p1", gender="other"), lines[1], lines[4]]
    found = list(form_of(asked, "Patient", "").without(tmp_path / "file", other))
    wanted = form_of(asked, "Patient", "").add(left)
    assert (b"".join(data for data, _ in found), sum(count for _, count in found)) == wanted
    assert wanted[1] == 5  # two headers
