"""`_since` with a Group: of who was in it, what changed; of who has joined since, all there is."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.jobs.export_jobs import ExportJobs
from fhirgw.store.database import Engine
from fhirgw.store.export import Selection
from tests.jobs.world import done
from tests.put import put, supersede

ALL = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
BEFORE, SINCE, AFTER = (datetime(2026, 3, day, tzinfo=UTC) for day in (1, 10, 20))
PEOPLE = [{"resourceType": "Patient", "id": f"p{n}", "gender": "female"} for n in range(5)]
MEMBER_FILTER = "http://hl7.org/fhir/uv/bulkdata/StructureDefinition/member-filter"


def goal(person: int, name: str) -> dict[str, Any]:
    return {"resourceType": "Goal", "id": f"{name}{person}", "subject": {"reference": f"Patient/p{person}"}}


def listed(id: str, *people: int, inactive: int | None = None) -> dict[str, Any]:
    members = [{"entity": {"reference": f"Patient/p{n}"}} for n in people]
    members += [{"entity": {"reference": f"Patient/p{inactive}"}, "inactive": True}] if inactive is not None else []
    return {"resourceType": "Group", "id": id, "type": "person", "actual": True, "member": members}


def searched(id: str, search: str) -> dict[str, Any]:
    told = [{"url": MEMBER_FILTER, "valueExpression": {"language": "application/x-fhir-query", "expression": search}}]
    return {"resourceType": "Group", "id": id, "type": "person", "actual": False, "modifierExtension": told}


@pytest.fixture
async def jobs(database: str, engine: Engine, tmp_path: Path) -> AsyncIterator[ExportJobs]:
    """p0 and p1 were in all the Groups before; p2 has come since, p3 is in none; p1 has a new Goal, and so has p3."""
    men = [{**each, "gender": "male"} for each in PEOPLE[:2]]
    groups = [listed("list", 0, 1, inactive=2), listed("still", 0, 1, 2), searched("search", "Patient?gender=male")]
    await put(database, *men, *PEOPLE[2:], *(goal(n, "old") for n in range(5)), *groups, updated=BEFORE)
    await put(database, goal(1, "new"), goal(3, "new"), listed("fresh", 1, 2), updated=AFTER)
    await supersede(database, groups[0], listed("list", 0, 1, 2), 2, AFTER)
    await supersede(database, PEOPLE[2], {**PEOPLE[2], "gender": "male"}, 2, AFTER)
    await supersede(database, groups[1], listed("still", 0, 1, 2, inactive=4), 2, AFTER + timedelta(days=1))
    async with ExportJobs(engine, tmp_path / "exports") as made:
        yield made


async def ids(jobs: ExportJobs, asked: Selection) -> list[str]:
    """What is in the files of an export that has ended."""
    id = await jobs.kick_off(ALL, asked, "r")
    job = await done(jobs, id, ALL)
    assert job.state == "done", job.result
    found = []
    for told in job.result["output"]:
        text = (await jobs.file(ALL, id, told["url"])).path.read_text()
        found += [each["id"] for each in map(json.loads, text.splitlines()) if "id" in each]
    return sorted(found)


CASES = {
    "list": ["new1", "old2", "p2"],  # p2 was inactive
    "search": ["new1", "old2", "p2"],  # p2 did not meet it
    "still": ["new1", "p2"],  # p2 was in it already, and has changed
    "fresh": ["new1", "old1", "old2", "p1", "p2"],  # it was not there
}


@pytest.mark.parametrize("group", CASES)
async def test_of_who_has_joined_since_there_is_all(jobs: ExportJobs, group: str) -> None:
    asked = Selection(patients=(), group=group, since=SINCE)
    assert await ids(jobs, asked) == CASES[group]
    if group == "list":
        assert await ids(jobs, replace(asked, organized=True)) == CASES[group]
        assert await ids(jobs, replace(asked, patients=("p0", "p1"))) == ["new1"]
        assert await ids(jobs, replace(asked, since=AFTER)) == []
        assert await ids(jobs, replace(asked, until=SINCE + timedelta(days=1))) == ["old2"]
        assert await ids(jobs, replace(asked, since=None)) == sorted(
            [*(f"p{n}" for n in range(3)), *(f"old{n}" for n in range(3)), "new1"]
        )
