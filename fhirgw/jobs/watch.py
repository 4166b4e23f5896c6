"""Watches over homecare visits while a process runs: what becomes wrong is known within seconds of its moment.

Any number of processes may watch: what one looks at, the others leave (fhirgw.store.watch). What a process did not get
to, because it was killed or the database was away, is still due at the next look.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

import structlog

from fhirgw.meanwhile import meanwhile
from fhirgw.store import watch, write
from fhirgw.store.database import Connection, Engine, away, direct
from fhirgw.visits.rules import Rules

EVERY = 5.0
"""Seconds between two looks: an alert is to be known within 60 of the moment it becomes true."""

log = structlog.get_logger("fhirgw.jobs")


class Watch:
    """`async with Watch(engine, rules).watching()`. `clock`: when it is, for tests; else the database's clock says."""

    def __init__(self, engine: Engine, rules: Rules, clock: Callable[[], datetime] | None = None) -> None:
        self.engine, self.rules, self.clock = engine, rules, clock

    async def look(self) -> int:
        """Looks at all that is due; how much that was."""
        async with direct(self.engine) as connection:
            now = self.clock() if self.clock else await _now(connection)
            found = 0
            for step in (watch.look, watch.forsake, watch.listen, watch.climb):
                while done := await step(connection, self.rules, now):
                    found += done
        return found

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Looks again and again while the block runs."""
        async with meanwhile(self._again(), "visits watched"):
            yield

    async def _again(self) -> None:
        while True:
            try:
                await self.look()
            except write.COLLISIONS as error:  # another was quicker with one of them: it is looked at anew
                log.info("visits watched again", error=type(error).__name__)
            except Exception as error:
                log.error("visits not watched", error=type(error).__name__, away=away(error))
            await asyncio.sleep(EVERY)


async def _now(connection: Connection) -> datetime:
    moment: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
