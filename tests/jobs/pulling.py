"""A pull as a real process, to be killed: forked from one that has imported everything already."""

from __future__ import annotations

import asyncio
import json
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from fhirgw.access import jose
from fhirgw.jobs.pull import patience
from fhirgw.jobs.pull.address import Reach
from fhirgw.jobs.pull.pull import Asked, pull
from fhirgw.jobs.pull.server import Credentials
from fhirgw.store.database import connect
from tests.jobs.working import FORKED


def pulling(url: str, base: str, key: Path, folder: Path, source: str, gzip: bool) -> BaseProcess:
    """A process that pulls from `base` into a folder below `folder`; start it."""
    return FORKED.Process(target=_pull, args=(url, base, str(key), str(folder), source, gzip))


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

    def fetching(self, done: int, files: int, size: int) -> None:
        """Nobody is told."""


async def _unaudited(connection: Any) -> None:
    """There is no audit to be in."""
