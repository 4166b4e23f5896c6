"""Running commands: in this process where only words and exit codes matter, else as processes of their own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

import fhirgw
from fhirgw.cli import main

ROOT = Path(fhirgw.__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """`command("sync", "meadow", FHIRGW_X="…")`: the command in this process."""

    def run(*arguments: str, **environment: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["fhirgw", *arguments])
        for name, value in {"FHIRGW_DATA": str(tmp_path / "data"), **environment}.items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        return Ended(code, *capfd.readouterr())

    return run


def started(*arguments: str, group: bool = False, **environment: str) -> subprocess.Popen[str]:
    """The command as a process of its own, its output to be read; `group`: and of a group of its own."""
    known = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "PYTHONWARNINGS": "error", **environment}
    return subprocess.Popen(
        [sys.executable, "-m", "fhirgw", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=known,
        process_group=0 if group else None,
    )


def finished(*arguments: str, **environment: str) -> Ended:
    """`started`, and waited for."""
    with started(*arguments, **environment) as process:
        out, err = process.communicate(timeout=120)
    return Ended(process.returncode, out, err)
