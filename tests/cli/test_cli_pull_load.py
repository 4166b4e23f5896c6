"""`fhirgw pull --load`: what another server has is here, what it has deleted is not, and `_since` says so truly.

Oracle: the other server's own tables.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fhirgw.jobs.pull import patience
from fhirgw.settings import Settings
from fhirgw.store.registration import Registration
from tests.cli.conftest import Command, Ended
from tests.conftest import NewDatabase
from tests.gateway import Gateway, serving
from tests.jobs.pulling import commanding
from tests.jobs.rough import Road, road
from tests.put import connected, put, supersede

PEOPLE = [{"resourceType": "Patient", "id": f"p{n}", "gender": "other"} for n in range(4)]


def goal(n: int, text: str = "x") -> dict[str, Any]:
    return {
        "resourceType": "Goal",
        "id": f"g{n:02}",
        "lifecycleStatus": "active",
        "description": {"text": text},
        "subject": {"reference": f"Patient/p{n % 4}"},
    }


GOALS = [goal(n) for n in range(50)]
Rows = list[tuple[Any, ...]]


async def _asked(url: str, query: str) -> Rows:
    connection = await connected(url)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


def ask(url: str, query: str) -> Rows:
    return asyncio.run(_asked(url, query))


def said(url: str) -> Rows:
    """What a server says of each resource, but for what it says of its own version of it."""
    query = "SELECT type, id, (body::jsonb - 'meta')::text FROM fhirgw.resource WHERE type <> 'Group' ORDER BY 1, 2"
    return ask(url, query)


STATE = """
SELECT type, id, version, deleted FROM fhirgw.history
UNION ALL SELECT type, id, version, false FROM fhirgw.resource ORDER BY 1, 2, 3"""


@pytest.fixture(scope="module")
async def serving_url(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        yield url


@pytest.fixture(scope="module")
def other(serving_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    given = Settings(database_url=serving_url, data=tmp_path_factory.mktemp("other"), controller="Z99")
    with serving(given) as gateway:
        gateway.client(Registration("ours", "Z99", "system/*.rs", rate=1_000_000)).close()
        yield gateway


@pytest.fixture
async def other_url(serving_url: str) -> str:
    """The other server's database, as it is before anything changes."""
    connection = await connected(serving_url)
    await connection.execute("DELETE FROM fhirgw.resource; DELETE FROM fhirgw.history")
    await connection.close()
    await put(serving_url, *PEOPLE, *GOALS)
    return serving_url


@pytest.fixture
def between(other: Gateway, other_url: str) -> Iterator[Road]:
    with road(other.root) as made:
        yield made


@pytest.fixture
def arguments(between: Road, database: str, other: Gateway, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(patience, "FIRST", 0.005)
    monkeypatch.setenv("FHIRGW_DATABASE_URL", database)
    key = str(other.settings.data / "keys" / "ours.json")
    return ["pull", "--from", between.base, "--as", "ours", "--key", key, "--source", "other", "--allow-http"]


def done(ended: Ended, code: int = 0) -> Any:
    assert ended.code == code, ended.err
    return json.loads(ended.out)


def since(between: Road) -> list[str | None]:
    """What each kick-off asked for what changed since."""
    asked = [parse_qs(urlsplit(each.path).query) for each in between.seen if "/$export?" in each.path]
    return [each.get("_since", [None])[0] for each in asked]


def change(url: str) -> None:
    """A Patient is gone with all 12 Goals, and 2 Goals of others; one is new, and one says something else."""

    async def work() -> None:
        now = datetime.now(UTC)
        for n in (8, 9, *range(3, 50, 4)):
            await supersede(url, goal(n), None, 2, now)
        await supersede(url, PEOPLE[3], None, 2, now)
        await supersede(url, goal(0), goal(0, "else"), 2, now)
        await put(url, goal(60), updated=now)

    asyncio.run(work())


def test_what_the_other_server_has_is_here_and_what_it_deleted_is_not(
    arguments: list[str], between: Road, command: Command, database: str, other_url: str
) -> None:
    first = done(command(*arguments, "--load", "--json"))
    assert said(database) == said(other_url) and len(said(database)) == 54
    assert ask(database, "SELECT DISTINCT origin FROM fhirgw.resource") == [("load:other",)]
    change(other_url)
    second = done(command(*arguments, "--load", "--json"))
    assert since(between) == [None, first["time"]]
    assert said(database) == said(other_url) and len(said(database)) == 54 - 12 - 1 - 2 + 1
    (load,) = second["loads"]
    assert (load["whole"], load["deletions"]) == (True, {"deleted": 15, "absent": 0, "others": 0, "refused": 0})
    events = [json.loads(body) for (body,) in ask(database, "SELECT body FROM fhirgw.audited ORDER BY sequence")]
    deleted = [each for each in events if each["action"] == "D"]
    told = json.dumps(deleted)
    assert [each in told for each in ("g07", "g08", "Patient/p3", "Patient/p0", "g10", "Patient/p2")] == [True] * 4 + [
        *(False, False)
    ]
    before = ask(database, STATE)
    third = done(command(*arguments, "--load", "--json"))
    assert since(between)[2] == second["time"]
    assert (ask(database, STATE), third["loads"][0]["files"]) == (before, [])
    quiet = command(*arguments, "--load")
    assert quiet.code == 0, quiet.err
    assert "Nothing has changed: the manifest lists no file." in quiet.out
    assert f"Loaded, as of {done(command('pull', 'ls', '--json'))[0]['time']}: the next" in quiet.out
    listed = done(command("pull", "ls", "--json"))
    assert [(each["refused"], each["loaded"] is not None) for each in listed] == [(0, True)] * 4


@pytest.mark.parametrize("fail", ["lines taken", "pull deleted", "pull loaded"])
def test_killed_anywhere_the_same_again_comes_to_the_same(
    arguments: list[str], between: Road, command: Command, database: str, other_url: str, tmp_path: Path, fail: str
) -> None:
    done(command(*arguments, "--load", "--json"))
    change(other_url)
    environment = {"FHIRGW_DATABASE_URL": database, "FHIRGW_DATA": str(tmp_path / "data")}
    killed = commanding([*arguments, "--load"], environment, fail)
    killed.start()
    killed.join(60)
    assert killed.exitcode == -signal.SIGKILL
    half = ask(database, "SELECT count(*) FROM fhirgw.history WHERE deleted")
    assert half == [(15 if fail == "pull loaded" else 0,)]
    (pulled, *_) = done(command("pull", "ls", "--json"))
    assert (pulled["state"], pulled["loaded"] is not None) == ("done", fail == "pull loaded")
    done(command(*arguments, "--load", "--json"))
    assert said(database) == said(other_url)
    versions = [row[2:] for row in ask(database, STATE) if row[1] in ("g00", "g07", "g60", "p3")]
    assert versions == [(1, False), (2, False), (1, False), (2, True), (1, False), (1, False), (2, True)]


def test_what_was_refused_is_asked_for_again_until_it_is_taken_or_will_do(
    arguments: list[str], between: Road, command: Command, database: str, other_url: str
) -> None:
    asyncio.run(put(database, goal(5, "brought by another")))
    refused = command(*arguments, "--load", "--json")
    assert done(refused, 3)["loads"][0]["whole"] is False
    assert "1 lines, deletions or files of what changed since ever were refused" in refused.err
    assert len(said(database)) == 54
    told = Path(done(refused, 3)["loads"][0]["errors"]).read_text()
    assert "The id is taken" in told and "brought by another" not in told
    assert "in part, 1 refused" in command("pull", "ls").out
    again = done(command(*arguments, "--load", "--accept-refused", "--json"))
    assert (since(between), again["loads"][0]["whole"]) == ([None, None], True)
    (kept,) = [text for _, id, text in said(database) if id == "g05"]
    assert "brought by another" in kept
    done(command(*arguments, "--load", "--json"))
    assert since(between)[2] == again["time"]


def test_what_is_pulled_and_not_loaded_is_said_and_can_be_loaded(
    arguments: list[str], between: Road, command: Command, database: str, other_url: str
) -> None:
    first = done(command(*arguments, "--json"))
    change(other_url)
    second = done(command(*arguments, "--json"))
    assert (since(between), second["load"]) == ([None, first["time"]], "fhirgw pull load other")
    assert [(each["loaded"], each["refused"]) for each in done(command("pull", "ls", "--json"))] == [(None, None)] * 2
    assert said(database) == []
    loads = done(command("pull", "load", "other", "--json"))
    assert [(each["id"], each["whole"]) for each in loads] == [(first["id"], True), (second["id"], True)]
    assert said(database) == said(other_url)
    assert done(command("pull", "load", "other", "--json")) == []
    assert (command("pull", "load", "nobody").code, len(between.seen)) == (2, len(between.seen))


def test_files_of_what_is_loaded_are_removed_unless_they_are_to_stay(
    arguments: list[str], between: Road, command: Command, database: str, other_url: str, tmp_path: Path
) -> None:
    pulls, elsewhere = tmp_path / "data" / "pulls", tmp_path / "elsewhere"

    def files() -> set[str]:
        return {path.name for folder in (pulls, elsewhere) for path in folder.rglob("*") if path.is_file()}

    first = done(command(*arguments, "--json"))
    whole = files()
    assert whole > {"manifest.json"}
    kept = done(command(*arguments, "--load", "--keep", "--json"))
    assert files() == whole and Path(kept["manifest"]).exists()
    change(other_url)
    second = done(command(*arguments, "--load", "--json"))
    assert (files(), second["manifest"]) == (set(), None)
    assert not Path(first["place"]).exists() and not Path(second["place"]).exists()
    done(command(*arguments, "--load", "--to", str(elsewhere), "--json"))
    assert files() == {"manifest.json"}  # which is whose the folder is


def test_files_that_are_gone_are_pulled_again(
    arguments: list[str], between: Road, command: Command, database: str, other_url: str
) -> None:
    first = done(command(*arguments, "--json"))
    next(Path(first["place"]).glob("Goal*")).unlink()
    assert done(command("pull", "load", "other", "--json")) == []
    done(command(*arguments, "--load", "--json"))
    assert (since(between), said(database)) == ([None, None], said(other_url))
