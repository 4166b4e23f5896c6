"""Workers on exports as real processes, to be killed: forked from one that has imported everything already."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING

import uvloop

from fhirgw.jobs import failpoint
from fhirgw.jobs.engine import Queue
from fhirgw.jobs.place import Places, places
from fhirgw.jobs.work import Worker
from fhirgw.store.database import connect

if TYPE_CHECKING:
    from tests.s3 import S3

LEASE = timedelta(seconds=1)
PATIENCE = 120.0
"""Seconds anything here may take: a machine that is busy is no failure."""
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["tests.jobs.working", "tests.jobs.pulling"])


@contextmanager
def process(
    url: str,
    folder: Path,
    fail: str = "",
    job: str | None = None,
    *,
    most: int = 0,
    lease: timedelta = LEASE,
    store: S3 | None = None,
) -> Iterator[BaseProcess]:
    """A worker while the block runs: on one job until that ends, or on whatever it is asked for.

    `fail`: where it dies (fhirgw.jobs.failpoint); `most`: bytes of the largest file it may write; `store`: where files
    go, if not to the folder.
    """
    known = (store.url, store.environment) if store else ("", {})
    made = FORKED.Process(target=_work, args=(url, str(folder), fail, job, most, lease, *known))
    made.start()
    try:
        yield made
    finally:
        if made.is_alive() and made.pid:
            os.kill(made.pid, signal.SIGKILL)
        made.join(PATIENCE)


def until(happened: Callable[[], object], patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)


def stopped(made: BaseProcess | Popen[bytes]) -> bool:
    """Whether SIGSTOP has reached it."""
    return Path(f"/proc/{made.pid}/stat").read_text().rpartition(") ")[2][0] == "T"


def _work(
    url: str,
    folder: str,
    fail: str,
    job: str | None,
    most: int,
    lease: timedelta,
    store: str,
    environment: Mapping[str, str],
) -> None:
    failpoint.arm(fail)
    os.environ.update(environment)
    if most:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    uvloop.run(_until_done(url, places(Path(folder), store), job, lease))  # as `fhirgw worker` does


async def _until_done(url: str, kept: Places, job: str | None, lease: timedelta) -> None:
    engine = connect(url)
    worker = Worker(engine, kept, lease)
    try:
        if job is None:
            async with Queue(url, worker).opened() as queue:
                await queue.work()
        while job in await worker.running():
            await worker.sweep()
            await worker.help(job, nobody)
            await asyncio.sleep(0.05)
    finally:
        await engine.dispose()


async def nobody() -> None:
    """There is nobody to recruit."""
