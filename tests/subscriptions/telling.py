"""Who tells subscribers as a real process, to be killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

from fhirgw.api.keys import Keyring
from fhirgw.api.subscribing import permits, signer
from fhirgw.jobs import failpoint
from fhirgw.jobs.hook import Reach
from fhirgw.jobs.notify import Notifier
from fhirgw.store.audit import Auditor
from fhirgw.store.database import connect
from tests.jobs.working import FORKED


@asynccontextmanager
async def notifying(url: str, keys: Path) -> AsyncIterator[Notifier]:
    """Who tells those who subscribed in a database, signed with the keys of a folder."""
    engine = connect(url)
    try:
        async with Auditor(url) as auditor:
            yield Notifier(engine, auditor, permits(["Z99"]), signer(Keyring(keys)), Reach(loopback=True))
    finally:
        await engine.dispose()


@contextmanager
def process(url: str, keys: Path, fail: str) -> Iterator[BaseProcess]:
    """One that dies where `fail` says, as by `kill -9`."""
    made = FORKED.Process(target=_tell, args=(url, str(keys), fail))
    made.start()
    try:
        yield made
    finally:
        if made.is_alive() and made.pid:
            os.kill(made.pid, signal.SIGKILL)
        made.join(30)


def _tell(url: str, keys: str, fail: str) -> None:
    failpoint.arm(fail)
    asyncio.run(_work(url, Path(keys)))


async def _work(url: str, keys: Path) -> None:
    async with notifying(url, keys) as notifier, notifier.working():
        await asyncio.Event().wait()
