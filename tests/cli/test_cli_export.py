"""`fhirgw export run`: of whom, of what, since and until when, as a kick-off over HTTP would have it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fhirgw.jobs.alive import gone
from fhirgw.store import ledger
from fhirgw.store.database import connect, direct
from fhirgw.store.locked import LONG
from tests.cli.conftest import Command
from tests.put import STAMP, connected, put

PEOPLE = [{"resourceType": "Patient", "id": f"p{n}", "gender": "other", "birthDate": "1940-02-01"} for n in range(4)]
SAID = {"description": {"text": "x"}, "note": [{"text": "not asked for"}]}
MEMBERS = [{"entity": {"reference": f"Patient/p{n}"}} for n in (1, 2)]
GROUP = {"resourceType": "Group", "id": "g", "type": "person", "actual": True, "member": MEMBERS}


def goal(n: int, **more: Any) -> dict[str, Any]:
    status = ("active", "completed")[n // 4 % 2]
    subject = {"reference": f"Patient/p{n % 4}"}
    return {"resourceType": "Goal", "id": f"g{n:02}", "lifecycleStatus": status, "subject": subject, **more}


PROVENANCE = {
    "resourceType": "Provenance",
    "id": "v",
    "target": [{"reference": "Goal/g01"}],
    "recorded": "2026-01-01T00:00:00Z",
    "agent": [{"who": {"display": "x"}}],
}


@pytest.fixture
async def held(database: str) -> str:
    await put(database, *PEOPLE, GROUP, PROVENANCE, *(goal(n, **SAID) for n in range(12)))
    await put(database, *(goal(n, **SAID) for n in range(12, 16)), updated=STAMP + timedelta(days=9))
    return database


def test_what_is_asked_for_is_exported(command: Command, held: str, tmp_path: Path) -> None:
    given = {"FHIRGW_DATABASE_URL": held}

    def run(*arguments: str) -> list[dict[str, Any]]:
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        ended = command("export", "run", "--to", str(out), *arguments, "--json", **given)
        assert ended.code == 0, ended.err
        urls = [each["key"] for each in json.loads(ended.out)["result"]["output"]]
        return [json.loads(line) for url in urls for line in (out / url).read_text().splitlines()]

    until = (STAMP + timedelta(days=3)).strftime("%Y-%m-%dT%H:%M:%S")
    asked = ("--group", "g", "--type", "Goal", "--until", until, "--elements", "Goal.subject")
    found = run(*asked, "--type-filter", "Goal?lifecycle-status=active")
    assert [each["id"] for each in found] == ["g01", "g02", "g09", "g10"]
    asked_for = {
        "id",
        "meta",
        "resourceType",
        "subject",
        "description",
        "lifecycleStatus",
    }  # the last two are mandatory
    assert all(set(each) == asked_for for each in found)
    blocks = run("--group", "g", "--patient", "p2", "--organize-by", "Patient")
    assert [each["resourceType"] for each in blocks] == ["Parameters", "Patient", *["Goal"] * 4]
    assert {each["subject"]["reference"] for each in blocks[2:]} == {"Patient/p2"}
    related = run("--type", "Goal", "--filter", "Goal?_id=g01", "--associated", "LatestProvenanceResources")
    assert [each["id"] for each in related] == ["g01", "v"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--group", "nobody"], "There is no such Group"),
        (["--group", "g", "--patient", "p3"], "patient: not all of these are patients"),
        (["--group", "g", "--type", "Organization"], "Organization is in nobody's record"),
        (["--since", "2026-03-01", "--until", "2026-02-01"], "_until: this moment is not after _since"),
        (["--since", "2999-01-01"], "--since: this moment is still to come"),
        (["--type-filter", "Goal?stauts=active"], "stauts"),
        (["--type", "Task", "--type-filter", "Goal?_id=x"], "Goal is not among the types"),
        (["--elements", "Gaol.status"], "no type this gateway holds"),
        (["--organize-by", "Practitioner", "--patients"], "output is organised by Patient"),
        (["--organize-by", "Patient"], "where everything is somebody's"),
        (["--associated", "LatestProvenance"], "did you mean LatestProvenanceResources?"),
        (["--format", "csv", "--elements", "status"], "a view has the columns it has"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, list) else None,
)
def test_what_cannot_be_asked_for_is_told(command: Command, database: str, arguments: list[str], message: str) -> None:
    asyncio.run(put(database, *PEOPLE, GROUP))
    ended = command("export", "run", *arguments, FHIRGW_DATABASE_URL=database)
    assert (ended.code in (2, 3), message in ended.err) == (True, True), ended
    assert command("export", "ls", "--json", FHIRGW_DATABASE_URL=database).out.strip() == "[]"


def test_what_is_agreed_without_names_is_not_written_with_them(command: Command, held: str, tmp_path: Path) -> None:
    given = {"FHIRGW_DATABASE_URL": held}
    registered = ("app", "add", "study", "--scope", "system/*.rs", "--purpose", "research", "--generate")
    assert command(*registered, "--agreement", "DARS-1", "--pseudonymised", **given).code == 0
    for way in (("export", "--to", str(tmp_path / "to")), ("export", "run"), ("export", "run", "--format", "csv")):
        refused = command(*way, "--app", "study", **given)
        assert (refused.code, "is for pseudonymised data alone" in refused.err) == (3, True), refused.err
    assert not (tmp_path / "to").exists()
    assert command("export", "ls", "--json", **given).out.strip() == "[]"
    dated = tmp_path / "opted-out.txt"
    dated.write_text("9990000018\n")
    assert command("opt-outs", str(dated), **given).code == 0
    made = command("export", "run", "--pseudonymise", "falls", "--app", "study", "--json", **given)
    assert (made.code, json.loads(made.out)["state"]) == (0, "done"), made.err


def claimed(url: str, id: str, worker: str, lease: timedelta) -> None:
    """Has a worker begin a part, and say nothing more."""

    async def work() -> None:
        engine = connect(url)
        async with direct(engine) as connection:
            assert await ledger.claim(connection, id, worker, lease) is not None
        await engine.dispose()

    asyncio.run(work())


def test_who_resumes_does_not_wait_for_a_worker_that_is_gone(command: Command, held: str) -> None:
    given = {"FHIRGW_DATABASE_URL": held}
    left = json.loads(command("export", "run", "--detach", "--json", **given).out)["id"]
    ended = subprocess.Popen(["true"])
    ended.wait()
    worker = f"{socket.gethostname()}:{ended.pid}"
    claimed(held, left, worker, timedelta(days=1))
    resumed = command("export", "resume", left, **given)
    assert resumed.code == 0, resumed.err
    assert f"was {worker}'s, who has gone: it is begun again" in resumed.err
    assert [gone(f"{socket.gethostname()}:{os.getpid()}"), gone(f"elsewhere:{ended.pid}"), gone("x")] == [False] * 3


def test_who_is_at_a_part_is_told(command: Command, held: str) -> None:
    given = {"FHIRGW_DATABASE_URL": held}
    left = json.loads(command("export", "run", "--detach", "--json", **given).out)["id"]
    assert "it waits for a worker" in command("export", "status", left, **given).out

    claimed(held, left, "elsewhere:7", timedelta(seconds=20))
    told = " ".join(command("export", "status", left, **given).out.split())
    assert re.search(r"running 1 0 elsewhere:7 has it; after (1\d|20) s without a sign of life another takes it", told)
    (part,) = json.loads(command("export", "status", left, "--json", **given).out)["parts"]
    assert part["worker"] == "elsewhere:7" and 0 < part["lease"] <= 20


def test_what_a_standing_export_waits_for_is_told(command: Command, held: str) -> None:
    given = {"FHIRGW_DATABASE_URL": held}
    left = json.loads(command("export", "run", "--detach", "--json", **given).out)["id"]
    free = command("export", "status", left, **given)
    assert "waits for a worker" in free.out and "for a lock" not in free.out

    async def begin() -> tuple[Any, Any, Any]:
        holder, waiter = await connected(held), await connected(held)
        await holder.execute("BEGIN; LOCK TABLE fhirgw.history IN ACCESS EXCLUSIVE MODE")
        waiting = asyncio.ensure_future(waiter.fetchval("SELECT count(*) FROM fhirgw.history"))
        await asyncio.sleep(LONG.total_seconds() + 0.5)
        return holder, waiter, waiting

    async def end(holder: Any, waiter: Any, waiting: Any) -> None:
        await holder.execute("ROLLBACK")
        await waiting
        await holder.close()
        await waiter.close()

    with asyncio.Runner() as runner:
        begun = runner.run(begin())
        pids = [each.get_server_pid() for each in begun[:2]]
        ended, told = command("export", "status", left, **given), command("export", "status", left, "--json", **given)
        runner.run(end(*begun))
    (locked,) = json.loads(told.out)["locked"]
    assert (locked["pid"], locked["behind"], locked["seconds"] >= 5) == (pids[1], [pids[0]], True)
    said = rf"process {pids[1]} has waited \d+ s for a lock that {pids[0]} holds"
    assert re.search(said, " ".join(ended.out.split()))
