"""Commands as people and cron run them: processes with a terminal or without one, and signals."""

import asyncio
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import orjson
import pytest

from fhirgw.council.expected import expected
from fhirgw.council.generate import generate
from fhirgw.council.layouts import LAYOUTS
from fhirgw.systems.made_up import to_csv
from tests.cli.conftest import ROOT, finished, started
from tests.put import connected

DEMO = ("demo", "--people", "10", "--seed", "5")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `fhirgw demo --once --json` left behind, with its document."""
    folder = tmp_path_factory.mktemp("demo")
    ended = finished(*DEMO, "--once", "--json", "--data", str(folder))
    assert (ended.code, ended.err) == (0, "")
    (folder / "first.json").write_text(ended.out)
    return folder


def test_the_demo_counts_what_the_generator_made(folder: Path) -> None:
    first = orjson.loads((folder / "first.json").read_bytes())
    oracle = expected(generate(10, 5), LAYOUTS["meadow"])
    assert first["rows"] == oracle.rows
    assert sum(count for reasons in first["refused"].values() for count in reasons.values()) == len(oracle.refused)
    assert first["resources"] == first["exported"]
    assert first["written"] == sum(first["resources"].values())
    assert {stage["name"] for stage in first["stages"]} >= {"start the database", "sync meadow", "export"}
    for name, count in first["exported"].items():
        assert (folder / "export" / f"{name}.ndjson").read_bytes().count(b"\n") == count
    assert {each.name for each in (folder / "extracts").iterdir()} == set(LAYOUTS)


def test_run_again_it_writes_nothing(folder: Path) -> None:
    first = orjson.loads((folder / "first.json").read_bytes())
    again = finished(*DEMO, "--once", "--json", "--data", str(folder))
    second = orjson.loads(again.out)
    assert (again.code, again.err, second["written"]) == (0, "", 0)
    assert (second["rows"], second["resources"], second["exported"]) == (
        first["rows"],
        first["resources"],
        first["exported"],
    )
    assert "make up the council" not in {stage["name"] for stage in second["stages"]}
    assert not (folder / "postgres" / "cluster" / "postmaster.pid").exists()


def test_it_serves_until_it_is_stopped(folder: Path) -> None:
    with started(*DEMO, "--port", "0", "--data", str(folder), PYTHONUNBUFFERED="1") as process:
        assert process.stdout is not None
        shown = []
        for line in process.stdout:
            shown.append(line.rstrip())
            if line.startswith("Serving"):
                break
        addresses = [word for line in shown for word in line.split() if word.startswith("http://127.0.0.1:")]
        answers = [httpx.get(address, timeout=120) for address in addresses]
        process.send_signal(signal.SIGINT)
        code = process.wait(120)
        process.communicate()
    # A person is for who has a token; the pages of the desk and of care providers are everybody's, where there are any.
    assert [answer.status_code for answer in answers[:4]] == [200, 200, 401, 401]
    pages = {"/homecare/desk": 200, "/homecare/upload": 200}
    assert {answer.url.path: answer.status_code for answer in answers[4:]} in ({}, pages)
    page, capabilities, *_ = answers
    assert page.headers["content-type"].startswith("text/html")
    assert capabilities.json()["resourceType"] == "CapabilityStatement"
    assert code == 0
    assert not (folder / "postgres" / "cluster" / "postmaster.pid").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_asked_to_stop_ends_well(database: str, tmp_path: Path, number: signal.Signals) -> None:
    known = {"FHIRGW_DATABASE_URL": database, "FHIRGW_DATA": str(tmp_path)}
    with started("serve", "--port", "0", **known) as process:
        assert process.stderr is not None
        address = re.search(r"http://[0-9.:]+", process.stderr.readline())
        assert address is not None
        with httpx.Client(timeout=120) as http:
            answered = wait_for(lambda: http.get(f"{address[0]}/health/ready").status_code)
        process.send_signal(number)
        process.communicate(timeout=120)
    assert (answered, process.returncode) == (200, 0)


def test_several_processes_serve_one_port_and_one_that_dies_is_replaced(database: str, tmp_path: Path) -> None:
    known = {"FHIRGW_DATABASE_URL": database, "FHIRGW_DATA": str(tmp_path)}
    with started("serve", "--port", "0", "--workers", "2", **known) as process, httpx.Client(timeout=120) as http:
        assert process.stderr is not None
        address = re.search(r"http://[0-9.:]+", process.stderr.readline())
        assert address is not None
        answered = [wait_for(lambda: http.get(f"{address[0]}/health/ready").status_code)]
        first = wait_until(lambda: workers(process.pid), lambda them: len(them) == 2)
        os.kill(first[0], signal.SIGKILL)
        then = wait_until(lambda: workers(process.pid), lambda them: len(them) == 2 and first[0] not in them)
        answered.append(wait_for(lambda: http.get(f"{address[0]}/health/ready").status_code))
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert (answered, first[1] in then, process.returncode) == ([200, 200], True, 0)


def test_several_processes_divide_their_callers_and_keep_the_port(database: str, tmp_path: Path) -> None:
    known = {"FHIRGW_DATABASE_URL": database, "FHIRGW_DATA": str(tmp_path)}
    with started("serve", "--port", "0", "--workers", "2", **known) as process, ExitStack() as kept:
        assert process.stderr is not None
        address = re.search(r"http://[0-9.:]+", process.stderr.readline())
        assert address is not None
        port = int(address[0].rpartition(":")[2])
        kept.callback(process.terminate)  # else a failure would be waited for
        wait_until(lambda: [at_port(each, port, LISTENS) for each in workers(process.pid)], lambda now: now == [1, 1])
        both = workers(process.pid)
        for _ in range(40):
            kept.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
        shares = wait_until(lambda: [at_port(each, port, CONNECTED) for each in both], lambda now: sum(now) == 40)
        second = finished("serve", "--port", str(port), "--workers", "2", **known)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=120)
    assert min(shares) > 0  # by chance none of 40: once in five hundred thousand million times
    assert (second.code, process.returncode) == (6, 0)
    assert "cannot be had (Address already in use)" in second.err


LISTENS, CONNECTED = "0A", "01"
"""States of a socket in /proc/net/tcp: https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html"""


def at_port(process: int, port: int, state: str) -> int:
    """How many sockets of a process are at a port, in a state."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    found = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(f":{port:04X}") and line[3] == state}
    return sum(each in found for each in opened(process))


def opened(process: int) -> list[str]:
    """What a process has open; nothing of one that has just ended, nor what it has closed meanwhile."""
    kept = []
    with suppress(FileNotFoundError):
        for each in Path(f"/proc/{process}/fd").iterdir():
            with suppress(FileNotFoundError):
                kept.append(str(each.readlink()))
    return kept


def workers(parent: int) -> list[int]:
    """The serving processes of a supervisor, by their parent's id."""
    listed = subprocess.run(["ps", "-wweo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines() if "spawn_main" in line]
    return [int(row[0]) for row in rows if int(row[1]) == parent]


def wait_until(look: Callable[[], list[int]], enough: Callable[[list[int]], bool]) -> list[int]:
    """What is seen when it is enough."""
    for _ in range(2400):
        if enough(found := look()):
            return found
        time.sleep(0.05)
    pytest.fail("it never came to that")


def wait_for(ask: Callable[[], int]) -> int:
    """The first answer there is."""
    for _ in range(6000):
        try:
            return ask()
        except httpx.TransportError:
            time.sleep(0.02)
    pytest.fail("it never answered")


def test_a_port_that_is_taken_is_told_before_anything_is_made(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = finished(*DEMO, "--port", port, "--data", str(tmp_path / "data"))
    assert (ended.code, ended.out) == (6, "")
    assert ended.err == (f"127.0.0.1:{port} cannot be had (Address already in use). Choose another port with --port.\n")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_it_keeps_nothing_half_written(tmp_path: Path, number: signal.Signals, code: int) -> None:
    out = tmp_path / "out"
    with started("generate", "--people", "1000", "--to", f"csv:{out}") as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("make up the council")  # so that it writes now
        process.send_signal(number)
        text, err = process.communicate(timeout=120)
    assert (process.returncode, text) == (code, "")
    assert "Traceback" not in err
    assert not out.exists() or list(out.iterdir()) == []


async def test_a_database_that_goes_away_half_way_and_comes_back(database: str, tmp_path: Path) -> None:
    to_csv(tmp_path / "meadow", LAYOUTS["meadow"], generate(200), lambda table, rows: None)
    arguments = ("sync", "meadow", "--from", f"csv:{tmp_path / 'meadow'}", "--json")
    environment = {"FHIRGW_DATABASE_URL": database, "FHIRGW_DATA": str(tmp_path / "data")}
    connection = await connected(database)
    with started(*arguments, **environment) as process:
        while await connection.fetchval("SELECT count(*) FROM fhirgw.watermark") < 6:
            assert process.poll() is None
            await asyncio.sleep(0.005)
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        out, err = await asyncio.to_thread(process.communicate, timeout=120)
    assert (process.returncode, out) == (4, "")
    assert "The database cannot be reached: it is away: start it" in err
    done = await connection.fetchval("SELECT count(*) FROM fhirgw.watermark")
    stored = await connection.fetchval("SELECT count(*) FROM fhirgw.resource")
    assert 6 <= done < 26
    second = await asyncio.to_thread(finished, *arguments, **environment)
    summary = orjson.loads(second.out)
    assert second.code == 0
    assert summary["written"] == sum(summary["resources"].values()) - stored
    assert await connection.fetchval("SELECT count(*) FROM fhirgw.history") == 0
    await connection.close()


def test_on_a_terminal_there_are_bars_and_elsewhere_plain_lines(tmp_path: Path) -> None:
    arguments = ["generate", "--people", "200", "--to", f"csv:{tmp_path}"]
    plain = finished(*arguments)
    assert "\x1b" not in plain.out + plain.err
    assert "write meadow as CSV: " in plain.err
    leader, follower = pty.openpty()
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "TERM": "xterm-256color", "COLUMNS": "120"}
    with subprocess.Popen(
        [sys.executable, "-m", "fhirgw", *arguments], stdout=follower, stderr=follower, stdin=follower, env=environment
    ) as process:
        os.close(follower)
        seen = b""
        while select.select([leader], [], [], 60)[0]:
            try:
                chunk = os.read(leader, 65536)
            except OSError:  # Linux says so when the other side has closed
                break
            if not chunk:
                break
            seen += chunk
    os.close(leader)
    assert process.returncode == 0
    assert b"\x1b[" in seen
    assert "━".encode() in seen
    assert b"rows" in seen


INTERRUPTED = """
import os, sys
import fhirgw.cli

class Interrupted:
    def find_spec(self, name, path, target=None):
        if name == "fhirgw.cli.load":
            try:
                os.kill(os.getpid(), int(sys.argv.pop()))
                sum(range(1000))
            except BaseException:
                raise ValueError("as pydantic does with whatever is raised while it makes a schema") from None

sys.meta_path.insert(0, Interrupted())
fhirgw.cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_a_command_is_imported_is_no_fault_of_ours(number: signal.Signals) -> None:
    known = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "load", "--help", str(int(number))],
        capture_output=True, text=True, env=known, timeout=120,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (128 + number, "Stopped.\n")
