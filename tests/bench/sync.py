"""A council's first load, and the same extract again: rates over the whole walk, extract to searchable."""

from __future__ import annotations

import asyncio
import time

from tests.bench.council import world
from tests.bench.figures import ROUNDS, Figure


def run() -> list[Figure]:
    """Resources a second at first load, rows a second when nothing changed."""
    return asyncio.run(_run())


async def _run() -> list[Figure]:
    first = Figure("sync, first load, indexed and searchable", "resources/s", "target 12,000")
    again = Figure("sync, unchanged re-run", "rows/s", "target 40,000")
    async with world() as council:
        for _ in range(ROUNDS):
            await council.empty()
            begun = time.perf_counter()
            summary = await council.sync()
            first.values.append(summary.written / (time.perf_counter() - begun))
            begun = time.perf_counter()
            summary = await council.sync()
            again.values.append(summary.rows / (time.perf_counter() - begun))
            assert summary.written == 0
    return [first, again]
