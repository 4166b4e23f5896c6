"""Pseudonymised exports of one agreement, laid side by side: neither lists nor moments set a few people apart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhirgw.access.scope import Scope
from fhirgw.fhir.issue import FhirError
from fhirgw.jobs import apart
from fhirgw.jobs.apart import cuts
from fhirgw.store import opt_out
from fhirgw.store.database import direct
from fhirgw.store.export import Selection
from tests.jobs.test_jobs_pseudonymise import STUDY, jobs_in, made, number, read
from tests.jobs.test_jobs_pseudonymise import world as world
from tests.jobs.world import World
from tests.put import put

ASKED = Selection(("Patient",), patients=(), project="falls")
FEW = "this one sets a few people apart"
FILTER = "http://hl7.org/fhir/uv/bulkdata/StructureDefinition/member-filter"


@pytest.fixture
async def people(world: World) -> AsyncIterator[list[str]]:
    """45 of them."""
    world.tables["person"][1:] = [[str(n), number(n), "X", "1940-02-01", "F"] for n in range(1, 46)]
    await world.sync()
    yield sorted(each["id"] for each in await world.bodies("Patient"))


async def listed(world: World, id: str, members: Sequence[str] | None, *searches: str) -> Selection:
    """What an export of a Group, that there is now, is asked for with."""
    group = {"resourceType": "Group", "id": id, "type": "person", "actual": members is not None}
    group |= {"member": [{"entity": {"reference": f"Patient/{each}"}} for each in members]} if members else {}
    filters = [{"language": "application/x-fhir-query", "expression": each} for each in searches]
    group |= {"modifierExtension": [{"url": FILTER, "valueExpression": each} for each in filters]} if filters else {}
    await put(world.url, group)
    await world.ask("UPDATE fhirgw.resource SET controller = 'Z9C01' WHERE type = 'Group'")
    return replace(ASKED, group=id)


async def test_lists_that_set_few_apart(world: World, people: list[str], tmp_path: Path) -> None:
    lists = {
        "one less": people[:19],
        "nine others": people[:29],
        "one other": [*people[:19], people[20]],
        "one in common": people[19:39],
        "all but one": people[:44],
        "one": people[:1],
    }
    async with jobs_in(world, tmp_path) as jobs:
        first = await listed(world, "first", people[:20])
        _, job = await made(jobs, first)
        assert [each["count"] for each in job.result["output"]] == [20]
        for name, members in lists.items():
            asked = await listed(world, name.replace(" ", "-"), members)
            with pytest.raises(FhirError, match=FEW) as refused:
                await jobs.kick_off(STUDY, asked, "request")
            assert (refused.value.status, refused.value.issues[0].code) == (400, "business-rule"), name
            for known in (replace(asked, project="other"), replace(asked, form="csv")):
                with pytest.raises(FhirError, match=FEW):
                    await jobs.kick_off(STUDY, known, "request")
        for name, members in {"others": people[20:], "half": people[10:30], "again": people[:20]}.items():
            _, job = await made(jobs, await listed(world, name, members))
            assert [each["count"] for each in job.result["output"]] == [len(members)], name


async def test_another_agreement_begins_anew(world: World, people: list[str], tmp_path: Path) -> None:
    async with jobs_in(world, tmp_path) as jobs:
        _, one = await made(jobs, await listed(world, "one", people[:20]))
        less = await listed(world, "less", people[:19])
        with pytest.raises(FhirError, match=FEW):
            await jobs.kick_off(STUDY, less, "request")
        _, other = await made(jobs, less, replace(STUDY, agreement="A2"))
        assert (one.state, other.state) == ("done", "done")


async def test_who_may_not_be_in_an_export_hides_nobody(world: World, people: list[str], tmp_path: Path) -> None:
    """Those who have opted out fill a list up; what the token may read of people does not matter."""
    async with direct(world.engine) as connection:
        await opt_out.load(connection, [number(at) for at in range(1, 13)], datetime.now(UTC))
    async with jobs_in(world, tmp_path) as jobs:
        bodies, out = await world.bodies("Patient"), {number(at) for at in range(1, 13)}
        hidden = [each["id"] for each in bodies if out & {known["value"] for known in each["identifier"]}]
        shown = [id for id in people if id not in hidden]
        assert (len(hidden), len(shown)) == (12, 33)
        _, job = await made(jobs, await listed(world, "first", [*shown[:20], *hidden[:1]]))
        assert job.state == "done"
        padded = await listed(world, "padded", [*shown[:19], *hidden])
        blind = replace(STUDY, scopes=(Scope.parse("system/Group.rs"), Scope.parse("system/Condition.rs")))
        for permit, types in ((STUDY, ("Patient",)), (blind, ("Condition",))):
            with pytest.raises(FhirError, match=FEW):
                await jobs.kick_off(permit, replace(padded, types=types), "request")


async def test_a_list_that_changes_after_the_kick_off(
    world: World, people: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is judged again as it is when the export is made, and what was refused counts for nothing."""
    async with jobs_in(world, tmp_path) as jobs:
        asked = await listed(world, "first", people[:20])
        await made(jobs, asked)

        async def unjudged(*_: object) -> None:
            """As if the members changed right after."""

        await listed(world, "second", people[:19])
        with monkeypatch.context() as patched:
            patched.setattr(apart, "check", unjudged)
            _, job = await made(jobs, replace(ASKED, group="second"))
        assert (job.state, FEW in job.result["issue"][0]["diagnostics"]) == ("failed", True)
        _, again = await made(jobs, asked)
        assert again.state == "done"
        async with direct(world.engine) as connection:
            assert await connection.fetchval("SELECT count(*) FROM fhirgw.pseudonymised_cohort") == 1


async def test_groups_defined_by_what_is_shown(world: World, people: list[str], tmp_path: Path) -> None:
    async with jobs_in(world, tmp_path) as jobs:
        finer = await listed(world, "finer", None, "Patient?gender=female", "Patient?birthdate=1940-02-01")
        with pytest.raises(FhirError, match="Group, member-filter: birthdate asks more of Patient than is shown"):
            await jobs.kick_off(STUDY, finer, "request")
        _, job = await made(jobs, await listed(world, "women", None, "Patient?gender=female"))
        assert [each["count"] for each in job.result["output"]] == [45]


async def test_since_is_a_moment_of_an_export_of_the_project(world: World, people: list[str], tmp_path: Path) -> None:
    async with jobs_in(world, tmp_path) as jobs:
        _, before = await made(jobs, ASKED)
        assert before.time is not None
        world.tables["person"] += [[str(n), number(n), "X", "1940-02-01", "F"] for n in range(50, 60)]
        await world.sync()
        for asked, permit in (
            (replace(ASKED, since=before.time - timedelta(milliseconds=1)), STUDY),
            (replace(ASKED, since=before.time, project="frailty"), STUDY),
            (replace(ASKED, since=before.time), replace(STUDY, agreement="A2")),
        ):
            with pytest.raises(FhirError, match="_since: with pseudonyms this is the transactionTime of an export"):
                await jobs.kick_off(permit, asked, "request")
        await world.ask("DELETE FROM fhirgw.export_job")  # as when its files have expired
        _, job = await made(jobs, replace(ASKED, since=before.time))
        assert [each["count"] for each in job.result["output"]] == [10]


async def test_two_agreements_have_no_pseudonym_in_common(world: World, tmp_path: Path) -> None:
    asked = Selection(("Patient",), project="falls")
    async with jobs_in(world, tmp_path) as jobs:
        mine, _ = await made(jobs, asked)
        again, _ = await made(jobs, asked)
        permit = replace(STUDY, agreement="A2")
        other, _ = await made(jobs, asked, permit)
        files = [await read(jobs, each, "Patient.ndjson") for each in (mine, again)]
        files.append(await read(jobs, other, "Patient.ndjson", permit))
    ids = [{orjson.loads(line)["id"] for line in each.splitlines()} for each in files]
    assert ids[0] == ids[1] and len(ids[0]) == 11 and ids[0].isdisjoint(ids[2])


async def test_files_of_one_agreement_are_not_given_out_under_another(world: World, tmp_path: Path) -> None:
    async with jobs_in(world, tmp_path) as jobs:
        id, _ = await made(jobs, Selection(("Patient",), project="falls"))
        assert await read(jobs, id, "Patient.ndjson")
        for permit in (replace(STUDY, agreement="A2"), replace(STUDY, purpose="planning")):
            with pytest.raises(FhirError, match="no such export"):
                await jobs.file(permit, id, "Patient.ndjson")


async def test_a_scope_narrows_no_more_than_a_filter(world: World, tmp_path: Path) -> None:
    async with jobs_in(world, tmp_path) as jobs:
        asked = Selection(("Patient",), project="falls")
        finer = replace(STUDY, scopes=(Scope.parse("system/Patient.rs?identifier=x|1"),))
        with pytest.raises(FhirError, match="scope: identifier asks more of Patient") as refused:
            await jobs.kick_off(finer, asked, "request")
        assert refused.value.status == 403
        _, job = await made(jobs, asked, replace(STUDY, scopes=(Scope.parse("system/Patient.rs?gender=female"),)))
        assert [each["count"] for each in job.result["output"]] == [11]


LISTS = st.lists(st.frozensets(st.sampled_from(range(40)), min_size=5), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(lists=LISTS, rest=st.sampled_from([0, 3, 10]))
def test_no_way_to_lay_them_side_by_side_tells_few(lists: list[frozenset[int]], rest: int) -> None:
    """By hand: of whatever lists are taken together, and of those who are in none, a new one takes none or ten, and
    leaves none or ten.
    """
    everybody = frozenset(range(40 + rest))
    *earlier, new = lists
    expected = False
    for size in range(len(earlier) + 1):
        for chosen in combinations(earlier, size):
            others = [each for each in earlier if each not in chosen]
            together = everybody.intersection(*chosen).difference(*others)
            inside, outside = len(together & new), len(together - new)
            expected |= (0 < inside < 10 and outside > 0) or (0 < outside < 10 and inside > 0)
    named = frozenset().union(*lists)
    left = min(len(everybody - named), 10)
    words = [frozenset(map(str, each)) for each in lists]
    assert cuts(words[:-1], words[-1], frozenset(map(str, named)), left) == expected
