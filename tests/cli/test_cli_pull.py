"""`fhirgw pull` as a person runs it, against a gateway that is the other server: killed with -9, it goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhirgw.fhir.canonical import encode
from fhirgw.settings import Settings
from fhirgw.store.registration import Registration
from tests.cli.conftest import Command, Ended, started
from tests.conftest import NewDatabase
from tests.gateway import Gateway, serving
from tests.jobs.rough import Answer, Road, Seen, road
from tests.jobs.working import until
from tests.put import put, stamped

NOTE = "What was seen and said at the visit, at some length. " * 20
PEOPLE = [{"resourceType": "Patient", "id": f"p{n}", "gender": "other"} for n in range(5)]
GOALS = [
    {"resourceType": "Goal", "id": f"g{n:04}", "subject": {"reference": f"Patient/p{n % 5}"}, "text": f"{n} {NOTE}"}
    for n in range(200)
]
EXPECTED = sorted(encode(stamped(each)) for each in [*PEOPLE, *GOALS])


@pytest.fixture(scope="module")
async def other(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """The other server."""
    async with new_database() as url:
        await put(url, *PEOPLE, *GOALS)
        data = tmp_path_factory.mktemp("other")
        with serving(Settings(database_url=url, data=data, controller="Z99", part_megabytes=0.05)) as gateway:
            gateway.client(Registration("ours", "Z99", "system/*.rs", rate=1_000_000)).close()
            yield gateway


@pytest.fixture
def between(other: Gateway) -> Iterator[Road]:
    with road(other.root) as made:
        yield made


@pytest.fixture
def ask(between: Road, database: str, other: Gateway) -> list[str]:
    """The arguments of a pull over that road."""
    key = str(other.settings.data / "keys" / "ours.json")
    return ["pull", "--from", between.base, "--as", "ours", "--key", key, "--source", "other", "--allow-http"]


def pulled(folder: Path) -> list[bytes]:
    listed = json.loads((folder / "manifest.json").read_text())["output"]
    return sorted(line for each in listed for line in (folder / each["url"]).read_bytes().splitlines())


def test_a_pull_that_is_killed_in_the_middle_of_a_file_goes_on(
    ask: list[str], between: Road, command: Command, database: str, tmp_path: Path
) -> None:
    to, environment = tmp_path / "to", {"FHIRGW_DATABASE_URL": database, "FHIRGW_DATA": str(tmp_path / "data")}
    ask += ["--to", str(to), "--plain", "--at-once", "1"]

    def slow(seen: Seen, answer: Answer) -> None:
        answer.slow = 0.03 if seen.file else 0.0

    between.spoil = slow
    with started(*ask, **environment) as process:
        until(lambda: list(to.glob("*.ndjson")) and any(path.stat().st_size > 9_000 for path in to.glob(".*.part")))
        os.kill(process.pid, signal.SIGKILL)
        process.wait(120)
    between.spoil = lambda seen, answer: None
    assert not (to / "manifest.json").exists()
    (part,) = to.glob(".*.part")
    had, before = part.stat().st_size, len(between.seen)

    done = command(*ask, "--json", **environment)
    assert done.code == 0, done.err
    assert pulled(to) == EXPECTED
    again = between.seen[before:]
    assert not any("$export?" in each.path for each in again), "it was asked for once"
    first = next(each for each in again if each.file)
    assert (first.headers["range"], first.status) == (f"bytes={had}-", 206)
    assert len([each for each in between.files() if "range" not in each.headers]) == len(list(to.glob("*.ndjson")))

    document = orjson.loads(done.out)
    assert (document["state"], document["place"]) == ("done", str(to))
    assert {each["type"]: each["lines"] for each in document["files"]} == {"Goal": 200, "Patient": 5}
    told = orjson.loads(command("pull", "ls", "--json", **environment).out)
    assert [(each["source"], each["state"], each["time"]) for each in told] == [("other", "done", document["time"])]
    audit = orjson.loads(command("audit", "list", "--json", **environment).out)
    codes = [each.get("code") for entry in audit for each in entry["subtype"]]
    assert "pull" in codes


def test_what_is_pulled_is_told_to_people(ask: list[str], command: Command, database: str, tmp_path: Path) -> None:
    done = command(*ask, "--type", "Patient", FHIRGW_DATABASE_URL=database)
    assert done.code == 0, done.err
    assert "fhirgw pull load other" in done.out
    assert "Patient" in done.out
    assert "files: " in done.err
    nothing = command(*ask, "--type", "Patient", FHIRGW_DATABASE_URL=database)
    assert (nothing.code, "Nothing has changed" in nothing.out) == (0, True)


@pytest.mark.parametrize(
    ("more", "code", "told"),
    [
        ((), 2, "--allow-http"),
        (("--allow-http", "--source", "a/b"), 2, "--source"),
        (("--allow-http", "--group", "a/b"), 2, "--group"),
        (("--allow-http", "--type", "patient"), 2, "--type"),
        (("--allow-http", "--key", "nowhere.json"), 3, "no private JWK"),
        (("--allow-http", "--as", "somebody"), 3, "register the public half"),
        (("--allow-http", "--to", "{full}"), 6, "not an empty folder"),
        (("--allow-http", "--hours", "0.0001"), 3, "the same command goes on"),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else None,
)
def test_what_cannot_be_pulled_is_told_with_its_code(
    ask: list[str], command: Command, between: Road, database: str, tmp_path: Path, more: Any, code: int, told: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    between.spoil = lambda seen, answer: setattr(answer, "slow", 0.1)
    said = [each.format(full=tmp_path / "full") for each in more]
    ended = command(*[each for each in ask if each != "--allow-http"], *said, FHIRGW_DATABASE_URL=database)
    assert (ended.code, told in ended.err) == (code, True), ended.err
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["letter.txt"]


def test_who_has_no_key_is_told_how_to_make_one(command: Command) -> None:
    ended = command("pull", "--from", "https://other.example/fhir", "--as", "nobody")
    assert (ended.code, "register its public half: fhirgw pull key nobody" in ended.err) == (3, True), ended.err


def test_a_key_is_made_to_be_registered_with_the_other_server(command: Command, tmp_path: Path) -> None:
    def made(ended: Ended) -> Any:
        assert ended.code == 0, ended.err
        return orjson.loads(ended.out)

    (public,) = made(command("pull", "key", "their-name", "--json"))["keys"]
    kept = tmp_path / "data" / "keys" / "their-name.json"
    assert (public["kid"], "d" in public) == (json.loads(kept.read_text())["kid"], False)
    assert kept.stat().st_mode & 0o077 == 0
    assert command("pull", "key", "their-name").code == 6, "it is not replaced"
