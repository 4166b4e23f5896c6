"""`fhirgw audit`: whether it is sound, what it says, and who looked; exit code 8 where somebody has changed it."""

import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import asyncpg
import pytest

from fhirgw.fhir.nhs import ODS_ORGANISATION
from fhirgw.store.audit import record_now
from fhirgw.store.audit_chain import verify
from tests.cli.conftest import Command, Ended
from tests.put import put
from tests.store.test_store_audit import ANNE, BERT, CARE, access, forged

HOMECARE = {
    "resourceType": "Organization",
    "id": "2f8fad5b-d9cb-469f-a165-70867728950e",
    "identifier": [{"system": ODS_ORGANISATION, "value": "Z9C01"}],
    "name": "Riverbank Homecare",
}


WORKER = {"resourceType": "Practitioner", "id": "w1", "name": [{"family": "Bloggs", "given": ["Jo"]}]}
STAFF = replace(CARE, practitioner="w1")


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    """With three accesses."""
    made = await asyncpg.connect(database)
    await put(database, HOMECARE, WORKER)
    for each in (access(1), access(2, BERT, permit=STAFF), access(3, None, everybody=True)):
        await record_now(made, each)
    yield made
    await made.close()


Audit = Callable[..., Ended]


@pytest.fixture
def audit(command: Command, database: str) -> Audit:
    """`audit("verify")`: the command, on the test's database."""
    return lambda *arguments: command("audit", *arguments, FHIRGW_DATABASE_URL=database)


def test_a_sound_audit_ends_well_and_says_its_newest(audit: Audit, connection: asyncpg.Connection) -> None:
    ended = audit("verify")
    assert (ended.code, ended.err) == (0, "")
    found = re.fullmatch(r"The audit is sound: 3 accesses\. Note the newest elsewhere: (3:[0-9a-f]{64})\n", ended.out)
    assert found
    again = audit("verify", "--json", "--noted", found[1])
    assert (again.code, json.loads(again.out)) == (0, {"sound": True, "rows": 3, "head": found[1]})
    on = audit("verify", "--json", "--from", found[1])
    assert (on.code, json.loads(on.out)) == (0, {"sound": True, "rows": 0, "head": found[1]})


@pytest.fixture
async def changed(connection: asyncpg.Connection) -> str:
    """Takes the second access out of the audit; the newest point of it, noted before."""
    noted = (await verify(connection, [], None)).head
    await forged(connection, "DELETE FROM fhirgw.audit WHERE sequence = 2")
    return str(noted)


def test_a_changed_audit_ends_with_8(audit: Audit, changed: str) -> None:
    ended = audit("verify")
    assert (ended.code, ended.out) == (8, "")
    assert ended.err == "The audit is not sound. Number 2: it is missing.\n"
    told = json.loads(audit("verify", "--json").out)
    assert told == {"sound": False, "rows": 1, "head": changed, "broken": 2, "why": "it is missing"}


def test_a_point_that_is_none_is_not_understood(audit: Audit) -> None:
    for option in ("--noted", "--from"):
        assert audit("verify", option, "x").code == 2


def test_operators_see_accesses_and_are_seen(audit: Audit, connection: asyncpg.Connection) -> None:
    ended = audit("list")
    assert ended.code == 0
    lines = [re.split(r"  +", each) for each in ended.out.splitlines()[2:]]
    lines = [each if len(each) == 8 else [*each[:3], "", *each[3:]] for each in lines]  # nobody in particular
    assert lines == [
        ["when (UTC)", "organisation", "application", "who", "purpose", "what", "of", "outcome"],
        ["2026-03-03 00:03:00", "Z9C01", "demo-ics", "", "direct-care", "read", "everybody", "permitted"],
        ["2026-03-03 00:02:00", "Z9C01", "demo-ics", "Jo Bloggs", "direct-care", "read", BERT, "permitted"],
        ["2026-03-03 00:01:00", "Z9C01", "demo-ics", "", "direct-care", "read", ANNE, "permitted"],
    ]
    [newest] = json.loads(audit("list", "--app", "operator", "--json", "--count", "1").out)
    assert newest["subtype"][1]["code"] == "audit-list"
    whose = json.loads(audit("list", "--person", BERT, "--since", "2026-03-03T00:03:00", "--json").out)
    assert [each["entity"][1]["description"] for each in whose] == ["everybody"]


def test_who_looked_is_told_as_to_the_person(audit: Audit, connection: asyncpg.Connection) -> None:
    ended = audit("who-looked", ANNE)
    assert (ended.code, ended.out) == (
        0,
        "On 3 March 2026 at 00:03, a bulk copy of records was made for Riverbank Homecare (with the application"
        " demo-ics), and may have included all of your record. Why: to give or arrange care (direct care).\n"
        "On 3 March 2026 at 00:01, Riverbank Homecare (with the application demo-ics) looked at your record."
        " Why: to give or arrange care (direct care).\n",
    )
    again = json.loads(audit("who-looked", ANNE, "--json").out)
    assert "looked at the list of who has looked at your record." in again[0]
    assert again[1:] == ended.out.splitlines()
    assert audit("verify").code == 0


def test_what_is_kept_from_the_person_is_told_when_asked_for(audit: Audit, connection: asyncpg.Connection) -> None:
    ended = audit("who-looked", ANNE, "--all")
    assert "Riverbank Homecare (with the application demo-ics) looked at your goals." in ended.out


def test_nobody_is_said_in_words(audit: Audit) -> None:
    assert audit("who-looked", ANNE).out == "Nobody has looked at this record.\n"


@pytest.mark.parametrize("person", ["9000000009", "Canarybird"])
def test_people_are_named_by_ids_alone(audit: Audit, person: str) -> None:
    for arguments in (("who-looked", person), ("list", "--person", person)):
        ended = audit(*arguments)
        assert ended.code == 2
        assert person not in ended.out + ended.err
