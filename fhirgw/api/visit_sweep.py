"""Looks, now and then, whether visits that wait have found their person (fhirgw.store.visit_allotment)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from fhirgw.api.writers import Writers
from fhirgw.meanwhile import meanwhile
from fhirgw.store import visit_allotment
from fhirgw.store.database import away

EVERY = 60.0
"""Seconds between two looks: a package that begins by its own date begins at midnight."""
SHARE = 50
"""Times as long as a look took, it waits for the next: many that wait in vain cost no more than this share."""
log = structlog.get_logger("fhirgw")


@asynccontextmanager
async def sweeping(writers: Writers) -> AsyncIterator[None]:
    """While the block runs, visits find their person."""
    async with meanwhile(_sweep(writers), "visits that wait"):
        yield


async def _sweep(writers: Writers) -> None:
    clock, took = asyncio.get_running_loop().time, 0.0
    while True:
        await asyncio.sleep(max(EVERY, took * SHARE))
        began = clock()
        try:
            async with writers.transaction() as connection:
                if found := await visit_allotment.sweep(connection):
                    log.info("visits found their person", visits=found)
        except Exception as error:
            log.error("visits that wait were not looked at", error=type(error).__name__, away=away(error))
        took = clock() - began
