"""A refused row about sharing denies until it is corrected: through a sync, and over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.jobs.export_jobs import ExportJobs
from fhirgw.settings import Settings
from fhirgw.store.database import connect
from fhirgw.store.export import Selection
from fhirgw.store.registration import Registration
from tests.gateway import serving
from tests.jobs.world import World, done

SHARING = "https://fhirgw.uk/fhir/CodeSystem/consent-sharing"
CONSENT = f"""\
table: consent
key: consent_id
resource: Consent
person: person_id
constants:
  - {{{{path: scope, value: {{{{text: Privacy Consent}}}}}}}}
  - {{{{path: status, value: active}}}}
fields:
  - {{{{column: consent_id, path: "identifier.where(system = 'https://fhirgw.uk/Id/{{name}}/consent').value"}}}}
  - {{{{column: person_id, path: patient, reference: person}}}}
  - {{{{column: sector, path: "category.coding.where(system = '{SHARING}').code"}}}}
  - {{{{column: kind, path: provision.type, codes: kind}}}}
  - {{{{column: given, path: provision.period.start, codec: date}}}}
  - {{{{column: ends, path: provision.period.end, codec: date}}}}
checks:
  - {{{{required: [kind]}}}}
  - {{{{order: [given, ends]}}}}
"""
CODES = """\
gender: {{concept: administrative-gender, codes: {{M: male, F: female}}}}
kind: {{concept: kind, codes: {{P: permit, D: deny}}}}
"""
CONCEPT = """\
concept: kind
title: Kinds of consent
system: http://hl7.org/fhir/consent-provision-type
source: R4
codes: {{permit: Permit, deny: Deny}}
"""
NOMINEE = """\
table: nominee
key: nominee_id
resource: Consent
person: person_id
constants:
  - {{path: scope, value: {{text: Privacy Consent}}}}
  - {{path: category, value: {{text: information access}}}}
  - {{path: status, value: active}}
  - {{path: provision.type, value: permit}}
fields:
  - {{column: nominee_id, path: "identifier.where(system = 'https://fhirgw.uk/Id/{name}/nominee').value"}}
  - {{column: person_id, path: patient, reference: person}}
  - {{column: given, path: dateTime, codec: date}}
"""
MORE = {"consent": CONSENT, "codes": CODES, "../concepts/kind": CONCEPT}
COUNCIL = "Z9C01"
ICS = Registration("ics", COUNCIL, "system/*.rs", rate=1_000_000)
SOCIAL_WORK = Registration("social-work", COUNCIL, "system/*.rs", sector="council", rate=1_000_000)
UNREADABLE = {
    "unknown kind": ["800", "1", "nhs", "Q", "2025-01-01", ""],
    "no kind": ["800", "1", "nhs", "", "2025-01-01", ""],
    "a date that is none": ["800", "1", "nhs", "D", "2025-02-30", ""],
    "it ends before it begins": ["800", "1", "nhs", "D", "2025-02-03", "2025-02-02"],
    "no key": ["", "1", "nhs", "D", "2025-01-01", ""],
}


@pytest.fixture
async def world(tmp_path: Path, database: str) -> AsyncIterator[World]:
    engine = connect(database)
    made = World(tmp_path, engine, database, more=MORE)
    made.tables["consent"] = [["consent_id", "person_id", "sector", "kind", "given", "ends"]]
    yield made
    await engine.dispose()


async def test_a_row_that_cannot_be_read_denies_until_it_is_corrected(world: World, tmp_path: Path) -> None:
    await world.sync()
    with serving(Settings(database_url=world.url, data=tmp_path / "data")) as gateway:
        apps = [gateway.client(each) for each in (ICS, SOCIAL_WORK)]
        ashby, birch, _ = [each["id"] for each in await world.bodies("Patient")]

        def seen(id: str) -> list[int]:
            return [each.get(f"/fhir/Patient/{id}").status_code for each in apps]

        assert seen(ashby) == [200, 200]
        for told, row in UNREADABLE.items():
            world.tables["consent"][1:] = [row]
            done = await world.sync(force=True)
            assert done.unshared == {"1"} and done.nobodys == 0, told
            assert done.as_json()["unread"] == {"people_not_shared": 1, "rows_of_nobody": 0}
            assert any("1 person is shared with nobody outside" in each for each in done.warnings)
            assert (told, seen(ashby)) == (told, [404, 200])
            assert seen(birch) == [200, 200]
            assert apps[0].get("/fhir/Patient?_summary=count").json()["total"] == 2

            world.tables["consent"][1:] = [["800", "1", "nhs", "P", "2025-01-01", ""]]  # corrected
            assert (await world.sync()).unshared == set()
            assert (told, seen(ashby)) == (told, [200, 200])
        for each in apps:
            each.close()


async def test_a_row_that_was_read_once_denies_when_it_no_longer_is(world: World, tmp_path: Path) -> None:
    permit = ["800", "1", "nhs", "P", "2025-01-01", ""]
    world.tables["consent"].append(permit)
    await world.sync()
    assert await rules(world) == []
    world.tables["consent"][1] = [*permit[:3], "Q", *permit[4:]]
    await world.sync()
    held = await rules(world)
    assert {row[1] for row in held} == {
        f"{SHARING}|{each}" for each in ("nhs", "care-provider", "voluntary", "family")
    } | {None}
    await world.sync()
    assert await rules(world) == held  # a second run changes nothing
    world.tables["consent"][1] = permit  # as it was: nothing is written, and the rules go all the same
    assert (await world.sync()).written == 0
    assert await rules(world) == []


async def test_a_removed_row_denies_nothing_more(world: World) -> None:
    world.tables["consent"].append(UNREADABLE["unknown kind"])
    await world.sync()
    assert await rules(world)
    del world.tables["consent"][1]
    await world.sync(force=True)
    assert await rules(world) == []


async def test_a_row_that_names_nobody_is_counted(world: World) -> None:
    world.tables["consent"] += [["801", "99", "nhs", "D", "", ""], ["802", "", "nhs", "Q", "", ""]]
    done = await world.sync()
    assert (done.unshared, done.nobodys) == (set(), 2)
    assert any("2 refused rows about sharing name nobody who is held" in each for each in done.warnings)
    assert await rules(world) == []


async def test_a_finished_export_loses_who_may_have_dissented(world: World, tmp_path: Path) -> None:
    await world.sync()
    permit = Permit(COUNCIL, "direct-care", (Scope.parse("system/*.rs"),), parties=(f"{SHARING}|nhs",))
    async with ExportJobs(world.engine, tmp_path / "exports") as jobs:
        id = await jobs.kick_off(permit, Selection(), "request")
        counts = {each["type"]: each["count"] for each in (await done(jobs, id, permit)).result["output"]}
        world.tables["consent"].append(UNREADABLE["unknown kind"])
        await world.sync()
        await jobs.look()
        left = {each["type"]: each["count"] for each in (await jobs.status(permit, id)).result["output"]}
        assert (counts["Patient"], left["Patient"]) == (3, 2)


async def test_who_only_ever_permits_denies_family_once_it_was_read(world: World) -> None:
    """A nomination that never was read permits nothing, and stands in nobody's way; one that was may be revoked."""
    world = World(world.folder.parent, world.engine, world.url, more={**world.more, "nominee": NOMINEE})
    world.tables["consent"] = [["consent_id", "person_id", "sector", "kind", "given", "ends"]]
    world.tables["nominee"] = [["nominee_id", "person_id", "given"], ["7", "1", "2025-02-30"]]
    await world.sync()
    assert await rules(world) == []
    world.tables["nominee"][1][2] = "2025-02-28"
    await world.sync()
    world.tables["nominee"][1][2] = "2025-02-30"
    await world.sync()
    assert [row[1:3] for row in await rules(world)] == [(f"{SHARING}|family", None)]


async def rules(world: World) -> list[tuple[str, str | None, str | None]]:
    query = "SELECT id, party, purpose FROM fhirgw.directive WHERE type = 'unread' AND person = $1 ORDER BY 1, 2, 3"
    return await world.ask(query, world.definition.ids.person("1"))
