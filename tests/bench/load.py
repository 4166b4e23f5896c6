"""A council's NDJSON by the command line, into an empty database and once more: from start to searchable."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time

import orjson

from fhirgw.access.permit import operations
from fhirgw.jobs.export_folder import export
from fhirgw.settings import Settings
from fhirgw.store.export import Selection
from tests.bench.council import World, world
from tests.bench.figures import ROUNDS, Figure


def run() -> list[Figure]:
    """Resources a second of a first load, lines a second when nothing changed."""
    return asyncio.run(_run())


async def _run() -> list[Figure]:
    first = Figure("load of NDJSON, indexed and searchable", "resources/s", "target 15,000")
    again = Figure("load of NDJSON that was loaded before", "lines/s")
    async with world() as council:
        await council.sync()
        permit = operations(Settings().controller)
        await export(council.engine, permit, Selection(), council.folder / "export", request="bench")
        for _ in range(ROUNDS):
            await council.empty()
            for figure, name in ((first, "created"), (again, "unchanged")):
                begun = time.perf_counter()
                files = await asyncio.to_thread(_loaded, council)
                figure.values.append(sum(each[name] for each in files) / (time.perf_counter() - begun))
    return [first, again]


def _loaded(council: World) -> list[dict[str, int]]:
    """What `fhirgw load` says of each file."""
    done = subprocess.run(
        [sys.executable, "-m", "fhirgw", "load", str(council.folder / "export"), "--json"],
        env={**os.environ, "FHIRGW_DATABASE_URL": council.url, "FHIRGW_DATA": str(council.folder)},
        stdout=subprocess.PIPE,
        check=True,
    )
    files: list[dict[str, int]] = orjson.loads(done.stdout)["files"]
    return files
