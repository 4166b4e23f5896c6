"""One council as two systems keep it: the same resources from both, and one Patient where both know a person."""

import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from fhirgw.council.council import Council
from fhirgw.council.expected import Expected
from tests.conftest import NewDatabase, temporary
from tests.journeys import exported, kept, sides
from tests.journeys.command import Place
from tests.journeys.conftest import Demo, Loaded, extract
from tests.put import connected

NHS = "https://fhir.nhs.uk/Id/nhs-number"
PERSON = {system: f"https://fhirgw.uk/Id/{system}/person" for system in ("meadow", "harbour")}
Export = dict[str, list[exported.Resource]]


@dataclass(frozen=True)
class Both:
    """One database that both systems were taken into: meadow alone, then harbour on top, then both again."""

    meadow: Export
    lines: dict[str, Counter[bytes]]
    summary: dict[str, Any]
    both: Export
    state: kept.State
    again: list[dict[str, Any]]
    after: kept.State


@pytest.fixture(scope="module")
async def harbour(new_database: NewDatabase, demo: Demo) -> AsyncIterator[Export]:
    """harbour's CSV extracts in a database of their own, exported."""
    async with new_database() as url:
        with temporary() as folder:
            place = Place(folder / "data", url)
            place.done("sync", "harbour", "--from", extract(demo, "harbour"))
            yield _exported(place, "alone")


@pytest.fixture(scope="module")
async def both(loaded: Loaded, demo: Demo) -> Both:
    """Both in one database."""
    place, url = loaded.place, loaded.place.url
    assert url
    meadow = _exported(place, "meadow")
    lines = exported.lines(place.data / "meadow")
    summary = place.done("sync", "harbour", "--from", extract(demo, "harbour"), "--json").document()
    together, state = _exported(place, "both"), await kept.state(url)
    again = [
        place.done("sync", system, "--from", extract(demo, system), "--json").document()
        for system in ("meadow", "harbour")
    ]
    return Both(meadow, lines, summary, together, state, again, await kept.state(url))


def _exported(place: Place, name: str) -> Export:
    place.done("export", "--to", place.data / name)
    return exported.files(place.data / name)


def test_csv_and_database_give_the_same_bytes(demo: Demo, both: Both) -> None:
    assert both.lines == exported.lines(demo.data / "export")


def test_both_systems_give_the_same_resources_but_for_what_one_cannot_know(
    demo: Demo, harbour: Export, council: Council
) -> None:
    """harbour keeps the eligibility decision in the assessment's row: with an assessment it refuses, it loses that."""
    only_meadow, only_harbour = {}, {}
    for kind in demo.export.keys() | harbour.keys():
        ours, theirs = _counted(demo.export, kind, "meadow"), _counted(harbour, kind, "harbour")
        only_meadow[kind], only_harbour[kind] = ours - theirs, theirs - ours
    assert +Counter({kind: each.total() for kind, each in only_harbour.items()}) == {}
    lost = [json.loads(each) for each in only_meadow.pop("Observation").elements()]
    assert +Counter({kind: each.total() for kind, each in only_meadow.items()}) == {}
    assert {each["code"]["text"] for each in lost} == {"Care Act eligibility decision"}
    refused = {each.number for each in council.faults if each.kind == "assessment"}
    decided = {each.number for each in council.records["assessment"] if each.eligibility}
    assert sorted(each["focus"][0]["number"] for each in lost) == sorted(refused & decided)
    assert refused & decided


def _counted(export: Export, kind: str, system: str) -> Counter[str]:
    """Nearly every one of them is unlike all others, because it says which person's it is and when it was."""
    resources = export.get(kind, [])
    counted = Counter(json.dumps(sides.comparable(each, system), sort_keys=True) for each in resources)
    assert len(counted) > 0.98 * len(resources)
    return counted


def test_a_person_whom_both_know_by_nhs_number_is_one_patient(
    both: Both, council: Council, meant: dict[str, Expected]
) -> None:
    """All but those without a number, and those whose number somebody else claims as well: they are kept apart."""
    refused = {each.number for each in council.faults if (each.kind, each.rule) == ("person", "nhs-number")}
    people = {each.number: each.nhs_number for each in council.records["person"] if each.number not in refused}
    met = {number for number, nhs in people.items() if nhs is not None and nhs not in meant["meadow"].shared}
    assert 0 < len(people) - len(met) < len(met)
    numbers = [
        {system: sides.number(value) for name, value in exported.identifiers(each) for system in PERSON
         if name == PERSON[system]}
        for each in both.both["Patient"]
    ]  # fmt: skip
    assert sorted(each["meadow"] for each in numbers if len(each) == 2) == sorted(met)
    assert all(len(set(each.values())) == 1 for each in numbers)
    apart = Counter(number for each in numbers if len(each) == 1 for number in each.values())
    assert apart == dict.fromkeys(people.keys() - met, 2)


def test_the_second_system_only_adds_its_number_to_those_it_meets(both: Both) -> None:
    after = {each["id"]: each for each in both.both["Patient"]}
    touched = 0
    for before in both.meadow["Patient"]:
        now = after[before["id"]]
        added = [each for each in now["identifier"] if each not in before["identifier"]]
        assert now["identifier"] == before["identifier"] + added
        assert [each["system"] for each in added] in ([], [PERSON["harbour"]])
        assert now["meta"]["versionId"] == str(1 + len(added))
        assert _demographics(now) == _demographics(before)
        touched += len(added)
    assert touched == both.summary["tables"]["PERSON"]["updated"] > 100


def _demographics(patient: exported.Resource) -> exported.Resource:
    content = {name: value for name, value in patient.items() if name not in ("identifier", "meta")}
    versioned = ("versionId", "lastUpdated")
    return content | {"meta": {name: value for name, value in patient["meta"].items() if name not in versioned}}


def test_nothing_else_of_the_first_system_is_touched(both: Both) -> None:
    for kind, resources in both.meadow.items():
        if kind != "Patient":
            after = {each["id"]: each for each in both.both[kind]}
            assert [after[each["id"]] for each in resources] == resources


def test_what_the_second_system_says_of_a_person_lies_in_the_one_record(both: Both) -> None:
    """Each of its references to a person leads to the Patient that has the number it names."""
    patients = {
        value: each["id"]
        for each in both.both["Patient"]
        for name, value in exported.identifiers(each)
        if name == PERSON["harbour"]
    }
    led: dict[str, set[str]] = defaultdict(set)
    for resources in both.both.values():
        for resource in resources:
            for node in _to_people(resource):
                led[node["identifier"]["value"]].add(node["reference"])
    assert len(led) > 100
    assert led == {value: {f"Patient/{patients[value]}"} for value in led}


def _to_people(node: object) -> list[dict[str, Any]]:
    """The references that name a person by harbour's number."""
    if isinstance(node, list):
        return [found for each in node for found in _to_people(each)]
    if not isinstance(node, dict):
        return []
    if isinstance(node.get("reference"), str) and node.get("identifier", {}).get("system") == PERSON["harbour"]:
        return [node]
    return [found for value in node.values() for found in _to_people(value)]


async def test_a_resource_about_a_person_is_placed_with_them(both: Both, loaded: Loaded) -> None:
    """The patient it is filed under is the one it names, and its id begins as theirs does."""
    connection = await connected(loaded.place.url)
    try:
        apart = await connection.fetch("""
            SELECT r.type, count(*) FROM fhirgw.resource r
            LEFT JOIN fhirgw.resource p ON p.type = 'Patient' AND p.id = r.patient
            WHERE r.patient IS NOT NULL AND (p.id IS NULL OR left(p.id, 3) <> left(r.id, 3)) GROUP BY r.type
        """)
        about = await connection.fetchval("SELECT count(*) FROM fhirgw.resource WHERE patient IS NOT NULL")
    finally:
        await connection.close()
    assert (list(map(tuple, apart)), about > 5000) == ([], True)


def test_those_kept_apart_are_reported_by_id_alone(both: Both, meant: dict[str, Expected]) -> None:
    shared = meant["meadow"].shared
    holders = [
        sorted(each["id"] for each in both.both["Patient"] if (NHS, number) in exported.identifiers(each))
        for number in shared
    ]
    assert {len(each) for each in holders} == {4}
    told = [each for each in both.summary["warnings"] if "about sharing" not in each]
    assert sorted(told) == sorted(
        f"4 Patients hold one NHS number and are kept apart: {', '.join(each)}" for each in holders
    )


def test_taking_both_in_again_writes_nothing(both: Both) -> None:
    assert [each["written"] for each in both.again] == [0, 0]
    assert kept.differing(both.state, both.after) == {}
