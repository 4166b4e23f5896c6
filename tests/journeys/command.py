"""`fhirgw` as people run it: the installed program, in a process of its own, outside the repository."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import orjson

PROGRAM = Path(sys.executable).with_name("fhirgw")
PATIENCE = 120.0
"""Seconds anything here may take: a machine that is busy is no failure."""


class Finished(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str

    def document(self) -> Any:
        """stdout, when it is one JSON document and nothing else. Raises ValueError."""
        return orjson.loads(self.out)


@dataclass
class Started:
    """A command that is running; what it says goes to two files, so that no full pipe ever holds it up."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def kill(self) -> None:
        """SIGKILL: nothing of the process's own gets to run."""
        self.process.kill()
        self.process.wait(PATIENCE)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Finished:
        """Asks it to end, and waits until it has."""
        self.process.send_signal(number)
        return self.finished()

    def finished(self) -> Finished:
        """Waits for its end."""
        code = self.process.wait(PATIENCE)
        return Finished(code, self.out.read_text(), self.err.read_text())

    def until(self, happened: Callable[[], object], pause: float = 0.02) -> None:
        """Waits for something that the command is to bring about."""
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert self.process.poll() is None, f"it ended before: {self.finished()}"
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(pause)


@dataclass(frozen=True)
class Place:
    """Where commands run: `data` is their folder (made by them), `url` their database (None: an embedded one)."""

    data: Path
    url: str | None = None

    def run(self, *arguments: object) -> Finished:
        """A command to its end."""
        with self.running(*arguments) as started:
            return started.finished()

    def done(self, *arguments: object) -> Finished:
        """A command that must succeed."""
        finished = self.run(*arguments)
        assert finished.code == 0, finished
        return finished

    @contextmanager
    def running(self, *arguments: object) -> Iterator[Started]:
        """A command while the block runs; killed if it outlives it."""
        said = self.data.parent / f"{self.data.name}.said"
        said.mkdir(exist_ok=True)
        number = len(list(said.glob("*.out")))
        out, err = said / f"{number}.out", said / f"{number}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [str(PROGRAM), *map(str, arguments)],
                cwd=said,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        started = Started(process, out, err)
        try:
            yield started
        finally:
            if process.poll() is None:
                started.kill()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FHIRGW_")}
        given = {"FHIRGW_DATA": str(self.data)}
        if self.url:
            given["FHIRGW_DATABASE_URL"] = self.url
        return kept | given


def alive(process: int) -> bool:
    """Whether a process runs still; one that ended and was not asked after does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{process}/stat")
    try:
        return stat.read_text().rpartition(") ")[2][0] != "Z" if stat.parent.exists() else True
    except FileNotFoundError:
        return False


def postmaster(data: Path) -> int:
    """The process id of the folder's embedded PostgreSQL. Raises FileNotFoundError where none runs."""
    return int(_note(data)[0])


def embedded(data: Path) -> str:
    """The url of the folder's embedded PostgreSQL, which a command has started."""
    return f"postgresql://fhirgw@/fhirgw?host={quote(_note(data)[4])}"


def _note(data: Path) -> list[str]:
    """What a running PostgreSQL says of itself: its process first, its socket's directory fifth."""
    return (data / "postgres" / "cluster" / "postmaster.pid").read_text().splitlines()
