"""`fhirgw demo --once --json`: what it says agrees with the council, with the database and with the exported files."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterator

import pytest

from fhirgw.council.council import Council
from fhirgw.council.expected import Expected
from fhirgw.store.server import running
from tests.journeys import exported
from tests.journeys.canaries import canaries, told
from tests.journeys.command import Finished, postmaster
from tests.journeys.conftest import COMMAND, PEOPLE, SEED, Demo
from tests.put import connected

Meant = dict[str, Expected]
ONE_EACH = {
    "person": "Patient",
    "relationship": "RelatedPerson",
    "plan": "CarePlan",
    "technology_device": "Device",
    "worker": "Practitioner",
    "worker_role": "PractitionerRole",
    "location": "Location",
}
"""Tables of which every row is one resource, of a type that no other table makes."""


@pytest.fixture(scope="module")
def faults(demo: Demo) -> list[dict[str, str]]:
    """The lines of the errors file."""
    text = (demo.data / "errors" / "meadow.ndjson").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
async def held(demo: Demo) -> dict[str, int]:
    """What PostgreSQL counts, by type, and by table of the case-management database."""
    with running(demo.data / "postgres") as url:
        connection = await connected(url)
        try:
            types = await connection.fetch("SELECT type, count(*) FROM fhirgw.resource GROUP BY type")
            tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'meadow'")
            rows = {each: await connection.fetchval(f'SELECT count(*) FROM meadow."{each}"') for (each,) in tables}
        finally:
            await connection.close()
    return dict(map(tuple, types)) | rows


@pytest.fixture(scope="module")
def again(demo: Demo) -> Finished:
    """The same command on the same folder."""
    return demo.place.done(*COMMAND, "--once", "--json", "--data", demo.data)


def test_it_says_one_json_document_and_nothing_else(demo: Demo) -> None:
    assert (demo.said.err, demo.summary["people"], demo.summary["seed"]) == ("", PEOPLE, SEED)
    stages = demo.summary["stages"]
    assert [stage["name"] for stage in stages[-2:]] == ["register applications", "export"]
    assert all(stage["seconds"] >= 0 and stage["rate"] >= 0 for stage in stages)


def test_rows_are_the_generators_own_counts_table_by_table(demo: Demo, meant: Meant, held: dict[str, int]) -> None:
    rows = demo.summary["rows"]
    assert rows == meant["meadow"].rows
    assert {table: held[table] for table in rows} == rows


def test_both_extracts_have_a_line_for_every_row(demo: Demo, meant: Meant) -> None:
    for system, delimiter, encoding in (("meadow", ",", "utf-8"), ("harbour", ";", "windows-1252")):
        counts = {}
        for path in (demo.data / "extracts" / system).glob("*.csv"):
            with path.open(encoding=encoding, newline="") as file:
                counts[path.stem] = sum(1 for _ in csv.DictReader(file, delimiter=delimiter))
        assert counts == meant[system].rows


def test_refused_are_the_rows_made_wrong_table_by_table_and_reason_by_reason(demo: Demo, meant: Meant) -> None:
    planted = Counter((each.table, each.rule) for each in meant["meadow"].refused)
    counted = {(table, why): count for table, whys in demo.summary["refused"].items() for why, count in whys.items()}
    assert counted == planted


def test_the_errors_file_names_each_row_once_for_each_mapping_that_refused_it(
    faults: list[dict[str, str]], meant: Meant
) -> None:
    places = [(each["mapping"], each["table"], each["key"]) for each in faults]
    assert len(places) == len(set(places))
    told = {(each["table"], each["key"], each["reason"]) for each in faults}
    assert told == {(each.table, each.key, each.rule) for each in meant["meadow"].refused}
    assert all(each[part] for each in faults for part in ("system", "column", "value_class", "rule", "remedy"))


def test_nothing_is_made_of_a_refused_row(demo: Demo, meant: Meant) -> None:
    """By their keys: every identifier of the source says which mapping of which row a resource is."""
    owned: dict[str, set[str]] = {}
    for each in meant["meadow"].refused:
        for mapping in MAPPINGS.get(each.table, (each.table,)):
            owned.setdefault(f"https://fhirgw.uk/Id/meadow/{mapping}", set()).add(each.key)
    found = [
        (system.rpartition("/")[2], value)
        for resources in demo.export.values()
        for resource in resources
        for system, value in exported.identifiers(resource)[:1]
        if value in owned.get(system, ())
    ]
    assert found == []


MAPPINGS = {
    "assessment": ("assessment", "answers"),
    "contact": ("contact", "discharge_notice"),
    "eligibility_decision": ("eligibility",),
    "package_line": ("package_line", "package_episode"),
    "plan": ("plan", "care_team"),
    "reablement": ("reablement", "reablement_score_start", "reablement_score_end", "reablement_outcome"),
    "relationship": ("relationship", "caring_hours"),
    "technology_device": ("device", "device_use"),
    "technology_referral": ("technology",),
}
"""The mappings of tables that several read, or that are called otherwise."""


def test_resources_are_what_the_database_holds_and_the_rows_add_up_to(demo: Demo, held: dict[str, int]) -> None:
    resources, rows, refused = (demo.summary[each] for each in ("resources", "rows", "refused"))
    assert {each: held[each] for each in resources} == resources
    assert demo.summary["written"] == sum(resources.values())
    assert {kind: resources[kind] for kind in ONE_EACH.values()} == {
        kind: rows[table] - sum(refused.get(table, {}).values()) for table, kind in ONE_EACH.items()
    }


def test_exported_is_what_the_files_hold(demo: Demo) -> None:
    assert demo.summary["exported"] == {kind: len(lines) for kind, lines in demo.export.items()}
    assert demo.summary["exported"] == demo.summary["resources"]
    assert {kind: {each["resourceType"] for each in lines} for kind, lines in demo.export.items()} == {
        kind: {kind} for kind in demo.export
    }
    ids = [each["id"] for lines in demo.export.values() for each in lines]
    assert len(ids) == len(set(ids))


def test_the_manifest_is_right_about_every_file_and_names_them_all(demo: Demo) -> None:
    folder = demo.data / "export"
    manifest = json.loads((folder / "manifest.json").read_text())
    listed = {each["url"]: (each["type"], each["count"], each["bytes"], each["sha256"]) for each in manifest["output"]}
    there = {}
    for path in folder.glob("*.ndjson"):
        whole = path.read_bytes()
        there[path.name] = (path.stem, whole.count(b"\n"), len(whole), hashlib.sha256(whole).hexdigest())
    assert listed == there
    assert {path.name for path in folder.iterdir()} - there.keys() <= {"manifest.json", ".lock"}


def test_every_reference_leads_to_something_exported_or_refused(demo: Demo, meant: Meant) -> None:
    """A row may name one that was refused: that reference keeps the other's key and leads nowhere; no other does."""
    ids = {f"{kind}/{each['id']}" for kind, resources in demo.export.items() for each in resources}
    refused = {each.key for each in meant["meadow"].refused}
    dangling = [
        node["identifier"]["value"]
        for resources in demo.export.values()
        for resource in resources
        for node in _named(resource)
        if node["reference"] not in ids
    ]
    assert set(dangling) <= refused
    assert len(ids) > 40 * len(dangling)


def _named(node: object) -> Iterator[dict]:
    if isinstance(node, dict):
        if isinstance(node.get("reference"), str):
            yield node
        for value in node.values():
            yield from _named(value)
    elif isinstance(node, list):
        for each in node:
            yield from _named(each)


def test_two_who_claim_one_number_are_both_there_and_are_reported_without_it(demo: Demo, meant: Meant) -> None:
    shared = meant["meadow"].shared
    system = "https://fhir.nhs.uk/Id/nhs-number"
    holders: dict[str, list[str]] = {}
    for each in demo.export["Patient"]:
        for number in shared.keys() & {value for name, value in exported.identifiers(each) if name == system}:
            holders.setdefault(number, []).append(each["id"])
    assert {number: len(held) for number, held in holders.items()} == {each: len(shared[each]) for each in shared}
    assert len(shared) > 0
    unread, nobodys, *others = demo.summary["warnings"]  # rows about sharing, wrong on purpose, are told first
    assert "shared with nobody outside the controller" in unread and "nobody who is held" in nobodys
    assert others == [
        f"{len(held)} Patients hold one NHS number and are kept apart: {', '.join(held)}"
        for held in sorted(map(sorted, holders.values()))
    ]


def test_nothing_about_anybody_is_told_but_in_the_export(demo: Demo, council: Council, again: Finished) -> None:
    secrets = canaries(council)
    export = "".join(path.read_text() for path in demo.data.glob("export/*.ndjson"))
    assert len(told(secrets, export)) > 0.95 * len(secrets)
    said = {
        "errors": (demo.data / "errors" / "meadow.ndjson").read_text(),
        "PostgreSQL's log": (demo.data / "postgres" / "log").read_text(),
        **{f"{name} of run {at}": text for at, run in enumerate((demo.said, again)) for name, text in
           (("stdout", run.out), ("stderr", run.err))},
    }  # fmt: skip
    assert {name: told(secrets, text) for name, text in said.items()} == {name: set() for name in said}


def test_a_second_run_writes_nothing_and_leaves_the_export_byte_for_byte(demo: Demo, again: Finished) -> None:
    second = again.document()
    assert second["written"] == 0
    same = ("rows", "resources", "refused", "exported", "warnings")
    assert {name: second[name] for name in same} == {name: demo.summary[name] for name in same}
    assert exported.contents(demo.data / "export") == demo.contents


def test_nothing_is_left_running(demo: Demo, again: Finished) -> None:
    with pytest.raises(FileNotFoundError):
        postmaster(demo.data)
