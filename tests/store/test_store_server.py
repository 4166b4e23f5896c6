"""The embedded PostgreSQL: shared by those who use it, stopped by the last, started again after a kill."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from fhirgw.store import server as servers
from fhirgw.store.postmaster import lives, sockets_of
from fhirgw.store.server import ServerError, database, running, server
from tests.conftest import temporary

HOLD = """
import sys, time
from collections.abc import Iterator
from pathlib import Path
from tests.conftest import temporary

from fhirgw.store.server import running
with running(Path(sys.argv[1])) as url:
    print(url, flush=True)
    time.sleep(60)
"""


async def answer(url: str, question: str = "SELECT 1") -> object:
    connection = await asyncpg.connect(url, timeout=5)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


def postmaster(folder: Path) -> int:
    return int((folder / "cluster" / "postmaster.pid").read_text().split()[0])


def children(process: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def zombie(process: int) -> bool:
    return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2].startswith("Z")


def keep_zombies(on: bool) -> None:
    """Whether orphans become children of this process: PR_SET_CHILD_SUBREAPER."""
    assert ctypes.CDLL(None).prctl(36, int(on), 0, 0, 0) == 0


def killed_holder(folder: Path) -> None:
    """Another process starts the server and is killed without a chance to stop it."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline().startswith("postgresql://")
        holder.kill()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One cluster for all of these: making one takes longer than all they do with it."""
    with temporary() as folder:
        yield folder


async def test_it_keeps_what_was_written_and_stops_with_the_last_to_leave(folder: Path) -> None:
    async with server(folder) as url:
        await answer(url, "CREATE TABLE kept AS SELECT 7 AS n")
        async with server(folder) as again:
            assert again == url
        assert await answer(url, "SELECT n FROM kept") == 7  # the inner one was not the last
    assert not (folder / "cluster" / "postmaster.pid").exists()
    async with server(folder) as url:
        assert await answer(url, "SELECT n FROM kept") == 7
        assert await answer(url, "SELECT rolsuper FROM pg_roles WHERE rolname = current_user") is False
        assert await answer(url, "SHOW listen_addresses") == ""


async def test_the_log_says_nothing_of_what_was_asked(folder: Path) -> None:
    """Neither a value that cannot be cast, nor one that breaks a constraint, nor the statement they stand in."""
    async with server(folder) as url:
        connection = await asyncpg.connect(url)
        await connection.execute("CREATE TEMP TABLE one (name text PRIMARY KEY); INSERT INTO one VALUES ('CanaryName')")
        for statement, told in (
            ("SELECT '2025-CANARY'::timestamptz", "2025-CANARY"),
            ("SELECT 'CanaryNumber'::int", "CanaryNumber"),
            ("INSERT INTO one VALUES ('CanaryName')", "one_pkey"),
            ("DO $$ BEGIN RAISE WARNING 'CanaryWarning'; END $$", None),
        ):
            try:
                await connection.execute(statement)
            except asyncpg.PostgresError as error:
                assert told is not None and told in str(error)  # whoever asked is told
        with pytest.raises(asyncpg.DataError):
            await connection.fetchval("SELECT $1::text::int", "CanaryParameter")
        await connection.close()
    log = (folder / "log").read_text()
    assert "database system is ready" in log  # it is the server's log
    assert "canary" not in log.lower()
    assert (folder / "log").stat().st_mode & 0o777 == 0o600


async def test_a_killed_run_leaves_its_server_to_the_next(folder: Path) -> None:
    await asyncio.to_thread(killed_holder, folder)
    orphan = postmaster(folder)
    async with server(folder) as url:
        assert postmaster(folder) == orphan
        assert await answer(url) == 1
    assert not (folder / "cluster" / "postmaster.pid").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose process it was")
async def test_what_a_killed_server_left_running_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of its children is held up, as on a machine that is busy, until two starts have failed."""
    monkeypatch.setattr(servers, "AFTERLIFE", 0.0)
    forget, starts = servers.forget_the_dead, count(1)
    await asyncio.to_thread(killed_holder, folder)
    killed = postmaster(folder)
    child = children(killed)[0]

    def forget_and_go_on(cluster: Path) -> None:
        if next(starts) == 3:
            os.kill(child, signal.SIGCONT)
            monkeypatch.setattr(servers, "AFTERLIFE", 60.0)
        forget(cluster)

    monkeypatch.setattr(servers, "forget_the_dead", forget_and_go_on)
    os.kill(child, signal.SIGSTOP)
    os.kill(killed, signal.SIGKILL)
    async with server(folder) as url:
        assert await answer(url) == 1
    assert next(starts) > 3


async def test_a_killed_server_is_started_again(folder: Path) -> None:
    await asyncio.to_thread(killed_holder, folder)
    os.kill(postmaster(folder), signal.SIGKILL)
    async with server(folder) as url:
        assert await answer(url) == 1


def follower(folder: Path, killed: int) -> None:
    """Waits until another server than that one runs."""
    deadline = time.monotonic() + 60
    while not lives(folder / "cluster") or postmaster(folder) == killed:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("inside", [".", "long" * 25])
async def test_one_that_is_killed_while_it_is_used_comes_back_where_it_was(inside: str) -> None:
    with temporary() as outer:
        async with server(outer / inside) as url:
            killed = postmaster(outer / inside)
            os.kill(killed, signal.SIGKILL)
            await asyncio.to_thread(follower, outer / inside, killed)
            await asyncio.to_thread(sockets_of, outer / inside / "cluster")
            assert await answer(url) == 1
        assert not lives(outer / inside / "cluster")


async def test_who_has_left_starts_nothing_again(folder: Path) -> None:
    left = threading.Event()
    left.set()
    assert not servers._again(folder, None, left)
    assert not lives(folder / "cluster")
    left.clear()
    assert servers._again(folder, None, left)
    async with server(folder) as url:
        assert await answer(url) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process take in orphans")
async def test_a_killed_server_nobody_waits_for_is_started_again(folder: Path) -> None:
    """As in a container without an init: its process is a zombie, and its id taken for ever."""
    keep_zombies(True)
    await asyncio.to_thread(killed_holder, folder)
    killed = postmaster(folder)
    orphans = [killed, *children(killed)]
    try:
        os.kill(killed, signal.SIGKILL)
        async with server(folder) as url:
            assert await answer(url) == 1
            assert zombie(killed)
    finally:
        keep_zombies(False)
        for each in orphans:
            await asyncio.to_thread(os.waitpid, each, 0)


async def test_a_note_that_names_another_program_is_not_believed(folder: Path) -> None:
    async with server(folder):
        note = (folder / "cluster" / "postmaster.pid").read_text().splitlines()
    note[0] = str(os.getpid())
    (folder / "cluster" / "postmaster.pid").write_text("\n".join(note))
    async with server(folder) as url:
        assert await answer(url) == 1


async def test_the_settings_url_wins(folder: Path, tmp_path: Path) -> None:
    async with database("postgresql://elsewhere/fhirgw", tmp_path / "unused") as url:
        assert url == "postgresql://elsewhere/fhirgw"
    assert not (tmp_path / "unused").exists()
    async with database(None, folder) as url:
        assert await answer(url) == 1


async def test_it_runs_behind_a_private_folder_and_a_long_and_odd_path() -> None:
    with temporary() as outer:
        (outer / "private").mkdir(mode=0o700)
        odd = outer / "private" / ("long" * 25) / "it's, with a comma"
        async with server(odd) as url:
            assert str(outer) not in url  # the socket is elsewhere
            assert await answer(url) == 1


def test_a_server_that_cannot_start_says_where_to_look(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fhirgw.store.server.AFTERLIFE", 0)
    with running(folder):
        pass
    (folder / "cluster" / "postgresql.conf").write_text("no_such_setting = 1")
    with pytest.raises(ServerError, match=r"see the end of .*log"), running(folder):
        pass
