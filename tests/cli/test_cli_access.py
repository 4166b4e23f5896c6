"""Explaining a decision, reviewing break-glass, loading opt-outs: what each command says, and what none tells."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import scopes
from fhirgw.store.break_glass import grant
from fhirgw.store.registration import Registration, add
from tests.cli.conftest import Command, Ended
from tests.conftest import NewDatabase
from tests.put import connected, put

NHS = "https://fhir.nhs.uk/Id/nhs-number"
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"
NUMBER, OTHER, THIRD = "9000000009", "9434765919", "9990000018"
WHY = "found on the floor, cannot speak"
PERSON: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p1",
    "identifier": [{"system": NHS, "value": NUMBER}],
    "generalPractitioner": [{"identifier": {"system": ODS, "value": "A81001"}}],
}


OTHERS: list[dict[str, Any]] = [
    {"resourceType": "Goal", "id": "g1", "subject": {"reference": "Patient/p1"}, "lifecycleStatus": "active"},
    {"resourceType": "Practitioner", "id": "w1", "name": [{"prefix": ["Dr"], "given": ["Jo"], "family": "Bloggs"}]},
    {
        "resourceType": "Organization",
        "id": "gp",
        "name": "High Street Surgery",
        "identifier": [{"system": ODS, "value": "A81001"}],
    },
]


@pytest.fixture
async def url(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        await put(url, PERSON, {"resourceType": "Patient", "id": "p2"}, *OTHERS)
        connection = await connected(url)
        insert = "INSERT INTO fhirgw.identifier (system, value, patient, origin, sure) VALUES ($1, $2, $3, $4, $4)"
        await connection.execute(insert, NHS, NUMBER, "p1", "test")
        await add(connection, Registration("surgery", "A81001", "system/*.rs"))
        for name, roles in (("clinic", ("break-glass",)), ("office", ())):
            await add(connection, Registration(name, "RAB", "user/*.rs", practitioner="w1", roles=roles))
        await connection.close()
        yield url


@pytest.fixture
async def given(url: str) -> str:
    """A grant that waits for a review."""
    permit = Permit("RAB", "direct-care", scopes("user/*.rs"), practitioner="w1", registration="trust-app")
    connection = await connected(url)
    made = await grant(connection, permit, "p1", WHY, lambda made: None)
    await connection.close()
    return made.id


@pytest.fixture
def run(command: Command, url: str) -> Command:
    return lambda *arguments: command(*arguments, FHIRGW_DATABASE_URL=url, FHIRGW_CONTROLLER="Z99")


def rows(json: Ended) -> Any:
    assert json.code == 0, json.err
    return orjson.loads(json.out)


def test_explain_tells_what_an_application_or_an_organisation_sees(run: Command) -> None:
    told = run("explain", "--who", "surgery", "--person", "p1")
    assert told.code == 0, told.err
    assert told.out.splitlines() == [
        "surgery (High Street Surgery), to give or arrange care (direct care): sees 2 of 2.",
        "Consents count it among the NHS (nhs).",
        "",
        "Sees all: Goal (1), Patient (1)",
        "  + High Street Surgery is the person's GP practice. [Patient/p1]",
    ]
    told = run("explain", "--who", "RAB", "--person", "p1")
    assert told.out.splitlines()[:5] == [
        "RAB, to give or arrange care (direct care): sees 0 of 2.",
        "Consents count it among the NHS (nhs: an application of its is registered as such; --sector says otherwise).",
        "",
        "Sees none: Goal (1), Patient (1)",
        "  - Nothing in the record ties RAB to the person.",
    ]
    assert "  It would be seen if the record named them" in told.out
    assert run("explain", "--who", "RAB", "--person", "p1", "--type", "Task").out.endswith("\nThere are none: Task\n")


def test_explain_names_break_glass_to_those_who_may(run: Command) -> None:
    asked = ("explain", "--who", "clinic", "--person", "p1", "--type", "Patient")
    assert "if in an emergency the practitioner broke the glass, with a written reason" in run(*asked).out
    asked = ("explain", "--who", "office", "--person", "p1", "--type", "Patient")
    assert "Sees none: Patient (1)" in run(*asked).out
    assert "glass" not in run(*asked).out


def test_explain_says_which_purposes_there_are(run: Command) -> None:
    told = run("explain", "--who", "surgery", "--person", "p1", "--purpose", "research")
    assert told.out == (
        "surgery sees nothing. surgery may not ask for the purpose research: it is registered for direct-care, and"
        " could if it were registered for that too, with the agreement that allows it (--agreement).\n"
    )


def test_explain_for_machines(run: Command) -> None:
    _, found = rows(run("explain", "--who", "surgery", "--person", "p1", "--json"))["types"]
    assert (found["type"], found["held"], found["seen"], found["would_change"]) == ("Patient", 1, 1, [])
    assert found["reasons"][0]["rests_on"] == "Patient/p1"
    refused = rows(run("explain", "--who", "surgery", "--person", "p1", "--purpose", "research", "--json"))
    assert list(refused) == ["refused"]


def test_an_nhs_number_is_read_and_no_argument(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("explain", "--who", "surgery", "--person", NUMBER)
    assert (shown.code, shown.out) == (2, "")
    assert "Everybody on this machine sees arguments" in shown.err
    monkeypatch.setattr("sys.stdin", io.StringIO("900 000 0009\n"))
    assert "Sees all: Goal (1), Patient (1)" in run("explain", "--who", "surgery", "--person", "-").out
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{OTHER}\n"))
    unknown = run("explain", "--who", "surgery", "--person", "-")
    assert unknown.code == 3
    assert "No Patients have this NHS number" in unknown.err
    assert OTHER not in unknown.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--who", "surgery", "--person", "a name"), "--person is the id of a Patient"),
        (("--who", "nobody here", "--person", "p1"), "neither an ODS code nor a registered application (`"),
        (("--who", "surgry", "--person", "p1"), "registered application: did you mean surgery?"),
        (("--app", "surgry", "--person", "p1"), "There is no such application"),
        (("--person", "p1"), "Name either an application or an organisation"),
        (("--who", "surgery", "--app", "surgery", "--person", "p1"), "Name either an application or an organisation"),
        (("--who", "RAB", "--person", "p1", "--sector", "bogus"), "one of nhs, care-provider, voluntary, council"),
        (("--who", "surgery", "--person", "p1", "--sector", "nhs"), "the sector it is registered with: leave it out"),
        (("--who", "surgery", "--person", "p1", "--purpose", "fun"), "The purpose is one of direct-care"),
        (
            ("--who", "surgery", "--person", "p1", "--type", "Patients"),
            "'Patients' are held here. Did you mean Patient?",
        ),
    ],
)
def test_a_question_that_is_none_ends_with_2(run: Command, arguments: tuple[str, ...], message: str) -> None:
    ended = run("explain", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err


def test_a_person_who_is_not_there_is_told_so(run: Command) -> None:
    told = run("explain", "--who", "surgery", "--person", "nobody")
    assert (told.code, told.out) == (0, "The record of this person is empty, or there is no such person.\n")
    of_type = run("explain", "--who", "surgery", "--person", "nobody", "--type", "Patient")
    assert of_type.out == told.out
    held = run("explain", "--who", "surgery", "--person", "p1", "--type", "Flag")
    assert held.out.endswith("\nThere are none: Flag\n")


def sector(run: Command, *arguments: str) -> tuple[str, bool]:
    """Which sector an explanation goes by, and whether it is supposed."""
    found = rows(run("explain", "--person", "p1", "--json", *arguments))
    return found["sector"], found["supposed"] is not None


def test_an_organisation_is_taken_for_what_it_is_and_that_is_said(run: Command, url: str) -> None:
    async def provided() -> None:
        package = {
            "resourceType": "EpisodeOfCare",
            "id": "e1",
            "status": "active",
            "patient": {"reference": "Patient/p2"},
        }
        by = {"identifier": {"system": ODS, "value": "P77"}}
        await put(url, package | {"managingOrganization": by})

    asyncio.run(provided())
    assert sector(run, "--who", "Z99") == ("council", True)
    assert sector(run, "--who", "P77") == ("care-provider", True)
    assert sector(run, "--who", "P78") == ("nhs", True)
    assert sector(run, "--organisation", "P78", "--sector", "voluntary") == ("voluntary", False)
    assert sector(run, "--app", "surgery") == ("nhs", False)
    shown = run("explain", "--who", "Z99", "--person", "p1").out.splitlines()
    assert shown[1].startswith("Consents count it among councils (council: it is the controller of these records;")


def test_what_every_kind_of_record_has_in_common_is_said_once(run: Command, url: str) -> None:
    flag = {"resourceType": "Flag", "id": "f1", "status": "active", "subject": {"reference": "Patient/p1"}}
    case = {"security": [{"system": "https://fhirgw.uk/fhir/CodeSystem/record-class", "code": "safeguarding"}]}
    asyncio.run(put(url, flag | {"meta": case}))
    told = run("explain", "--who", "RAB", "--person", "p1").out.splitlines()
    nothing = "  - Nothing in the record ties RAB to the person."
    assert told[3:5] == ["Of all there are:", nothing]
    assert told.count(nothing) == 1
    at = told.index("Sees none: Flag (1)")
    assert told[at + 1] == "  - They are about safeguarding."
    assert told[told.index("Sees none: Goal (1), Patient (1)") + 1 :][:1] in ([], [""])


def test_a_review_finds_something(run: Command, given: str) -> None:
    (waiting,) = rows(run("break-glass", "list", "--json"))
    assert (waiting["id"], waiting["person"], waiting["reason"]) == (given, "p1", WHY)
    shown = run("break-glass", "list").out
    assert WHY in shown
    assert "Dr Jo Bloggs, RAB (with the application trust-app)" in shown
    assert f"fhirgw break-glass review {given} --finding appropriate|inappropriate --by NAME" in shown
    wrong = run("break-glass", "review", given, "--finding", "fine", "--by", "A. Guardian")
    assert (wrong.code, wrong.out) == (2, "")
    done = run("break-glass", "review", given, "--finding", "inappropriate", "--by", "A. Guardian")
    assert (done.code, done.out) == (0, "Found inappropriate by A. Guardian.\n")
    assert run("break-glass", "list").out == "Nothing waits for a review.\n"
    assert [each["finding"] for each in rows(run("break-glass", "list", "--all", "--json"))] == ["inappropriate"]
    again = run("break-glass", "review", given, "--finding", "appropriate", "--by", "B. Guardian")
    assert (again.code, again.out) == (3, "")  # 7 would say: wait, and try again
    assert run("break-glass", "review", "nothing", "--finding", "appropriate", "--by", "B").code == 3


def test_what_these_show_is_audited(run: Command, given: str) -> None:
    run("explain", "--who", "surgery", "--person", "p1")
    run("break-glass", "list")
    run("break-glass", "review", given, "--finding", "appropriate", "--by", "A. Guardian")
    found = rows(run("audit", "list", "--json"))
    operations = [each["subtype"][-1]["code"] for each in found]
    assert operations == ["break-glass-review", "break-glass-list", "explain"]
    assert rows(run("audit", "verify", "--json"))["sound"]


def test_what_changes_who_may_see_what_is_audited_with_it(run: Command, tmp_path: Path) -> None:
    for arguments in (
        ("app", "add", "shared", "--scope", "system/*.rs", "--organisation", "Z99", "--generate"),
        ("token", "--app", "shared"),
        ("token", "--app", "shared", "--scope", "system/AuditEvent.rs"),
        ("app", "deactivate", "shared"),
        ("app", "activate", "shared"),
        ("app", "rotate", "shared", "--generate"),
        ("opt-outs", listed(tmp_path, OTHER), "--produced", "2026-01-01"),
    ):
        ended = run(*arguments)
        assert ended.code == (3 if arguments[-1] == "system/AuditEvent.rs" else 0), ended.err
    found = rows(run("audit", "list", "--json"))[::-1]
    assert [(each["subtype"][-1]["code"], each["outcome"]) for each in found] == [
        *(("app-add", "0"), ("token", "0"), ("token", "4"), ("app-deactivate", "0"), ("app-activate", "0")),
        *(("app-rotate", "0"), ("opt-outs", "0")),
    ]
    about = {"system": "https://fhirgw.uk/fhir/Id/registration", "value": "shared"}
    assert [each["entity"][1]["what"]["identifier"] for each in found[:-1]] == [about] * 6
    assert OTHER not in orjson.dumps(found).decode()
    assert rows(run("audit", "verify", "--json"))["sound"]


def test_what_cannot_be_audited_is_not_done(run: Command, url: str) -> None:
    async def renamed(old: str, new: str) -> None:
        connection = await connected(url)
        await connection.execute(f"ALTER FUNCTION fhirgw.{old} RENAME TO {new}")
        await connection.close()

    asyncio.run(renamed("audit_append", "gone"))
    assert run("app", "deactivate", "surgery").code == 4
    asyncio.run(renamed("gone", "audit_append"))
    (surgery,) = [each for each in rows(run("app", "list", "--json")) if each["id"] == "surgery"]
    assert surgery["active"]
    assert run("app", "deactivate", "surgery").code == 0


def listed(folder: Path, *numbers: str) -> str:
    file = folder / "opt-outs.dat"
    file.write_text("".join(f"{number}\n" for number in numbers))
    return str(file)


def test_how_old_the_list_of_opt_outs_is_is_told(run: Command, tmp_path: Path) -> None:
    assert run("opt-outs").out == "There is no list of national data opt-outs: planning and research see nobody.\n"
    run("app", "add", "study", "--scope", "system/*.rs", "--purpose", "research", "--agreement", "a", "--identifiable",
        "--generate")  # fmt: skip
    asked = ("explain", "--who", "study", "--person", "p1")
    assert "opt-outs is missing, so nobody's record is used." in run(*asked).out
    assert run("opt-outs", listed(tmp_path, NUMBER, OTHER), "--produced", "2026-01-01").code == 0
    told = run("opt-outs").out.splitlines()
    assert told[0].startswith("2 have opted out, by the list of 1 January 2026 (loaded ")
    assert told[1] == "It is older than 7 days (FHIRGW_OPT_OUT_DAYS): planning and research see nobody."
    assert "opt-outs is of 1 January 2026, and too old, so nobody's record is used." in run(*asked).out
    assert run("opt-outs", listed(tmp_path, NUMBER, OTHER)).code == 0
    assert run("opt-outs").out.splitlines()[1].startswith("Planning and research go by it until ")
    assert rows(run("opt-outs", "--json"))["fresh"]
    assert "opt-outs is" not in run(*asked).out


def test_who_could_plan_for_nobody_is_told_when_it_is_registered(run: Command) -> None:
    asked = ("--scope", "system/*.rs", "--purpose", "research", "--agreement", "a", "--identifiable", "--generate")
    theirs = run("app", "add", "study", *asked, "--organisation", "RAB")
    assert theirs.code == 0, theirs.err
    told = "For research it sees nobody: an agreement shows its controller's own people"
    assert told in theirs.err + theirs.out
    own = run("app", "add", "own-study", *asked, "--organisation", "Z99")
    assert (own.code, told in own.err + own.out) == (0, False)


def test_a_list_of_opt_outs_is_loaded(run: Command, tmp_path: Path) -> None:
    told = run("opt-outs", listed(tmp_path, NUMBER, OTHER), "--produced", "2026-01-01")
    assert (told.code, told.out) == (0, "2 have opted out: 2 more than before, 0 no longer.\n")
    done = rows(run("opt-outs", listed(tmp_path, OTHER, THIRD), "--produced", "2026-01-02", "--json"))
    assert done == {"rows": 2, "added": 1, "removed": 1, "produced": "2026-01-02T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("numbers", "options", "code", "message"),
    [
        ((NUMBER, "Canarybird"), (), 3, "Line 2 is no NHS number"),
        ((), (), 3, "The list is empty"),
        ((NUMBER,), ("--produced", "2199-01-01"), 3, "made in the future"),
        ((NUMBER,), ("--produced", "2025-12-31"), 5, "look, then say --force"),
        ((NUMBER,), ("--produced", "2025-12-31", "--force"), 3, "A newer list is in force"),
    ],
)
def test_what_is_no_list_changes_nothing(
    run: Command, tmp_path: Path, numbers: tuple[str, ...], options: tuple[str, ...], code: int, message: str
) -> None:
    assert run("opt-outs", listed(tmp_path, NUMBER, OTHER, THIRD), "--produced", "2026-01-01").code == 0
    refused = run("opt-outs", listed(tmp_path, *numbers), *options)
    assert (refused.code, refused.out) == (code, "")
    assert message in refused.err
    assert "Canarybird" not in refused.err
    same = rows(run("opt-outs", listed(tmp_path, NUMBER, OTHER, THIRD), "--produced", "2026-01-01", "--json"))
    assert (same["added"], same["removed"]) == (0, 0)
    assert run("opt-outs", str(tmp_path / "nothing")).code == 3
