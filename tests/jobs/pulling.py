"""A pull, or the command, as a real process, to be killed: forked from one that has imported everything already."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from fhirgw import cli
from fhirgw.access import jose
from fhirgw.jobs import failpoint, lines, taking
from fhirgw.jobs.pull import patience
from fhirgw.jobs.pull.address import Reach
from fhirgw.jobs.pull.pull import Asked, pull
from fhirgw.jobs.pull.server import Credentials
from fhirgw.store.database import connect
from tests.jobs.working import FORKED


def pulling(url: str, base: str, key: Path, folder: Path, source: str, gzip: bool) -> BaseProcess:
    """A process that pulls from `base` into a folder below `folder`; start it."""
    return FORKED.Process(target=_pull, args=(url, base, str(key), str(folder), source, gzip))


def commanding(arguments: list[str], environment: dict[str, str], fail: str) -> BaseProcess:
    """A process that runs the command, in transactions of twenty lines, and dies at `fail`; start it."""
    return FORKED.Process(target=_command, args=(arguments, environment, fail))


def _command(arguments: list[str], environment: dict[str, str], fail: str) -> None:
    patience.FIRST = 0.005
    lines.LINES, taking.GROUP = 10, 2
    os.environ.update(environment)
    sys.argv = ["fhirgw", *arguments]
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    failpoint.arm(fail)
    cli.main()


def _pull(url: str, base: str, key: str, folder: str, source: str, gzip: bool) -> None:
    patience.FIRST = 0.005
    held = Credentials("ours", jose.private_key(json.loads(Path(key).read_text())), "system/*.rs")
    asyncio.run(_pulled(url, base, held, Path(folder), source, gzip))


async def _pulled(url: str, base: str, held: Credentials, folder: Path, source: str, gzip: bool) -> None:
    engine = connect(url)
    try:
        asked = Asked(source, Reach(base, loopback=True), gzip=gzip, at_once=2)
        await pull(engine, held, asked, lambda id: folder / id, _Nobody(), _unaudited)
    finally:
        await engine.dispose()


class _Nobody:
    def waiting(self, told: str) -> None:
        """Nobody is told."""

    def retrying(self, told: str) -> None:
        """Nobody is told."""

    def fetching(self, done: int, files: int, size: int) -> None:
        """Nobody is told."""


async def _unaudited(connection: Any) -> None:
    """There is no audit to be in."""
