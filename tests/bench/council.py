"""A council's system of record in an embedded PostgreSQL, and a gateway's database beside it, for the benchmarks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fhirgw.council.generate import generate
from fhirgw.council.layouts import LAYOUTS
from fhirgw.jobs.summary import SyncSummary
from fhirgw.jobs.sync import sync
from fhirgw.mapping.load import SystemDefinition, load
from fhirgw.shipped import path
from fhirgw.store.database import Engine, connect, direct
from fhirgw.store.migrate import migrate
from fhirgw.store.server import server
from fhirgw.systems.database import DatabaseSystem
from fhirgw.systems.made_up import to_database

PEOPLE = int(os.environ.get("PEOPLE", "2000"))


@dataclass
class World:
    """The council and the gateway."""

    url: str
    engine: Engine
    definition: SystemDefinition
    folder: Path

    async def sync(self) -> SyncSummary:
        """Takes in the council."""
        async with DatabaseSystem("meadow", self.url) as system:
            return await sync(self.engine, self.definition, system, errors=self.folder / "errors.ndjson")

    async def empty(self) -> None:
        """Forgets all that was taken in."""
        async with direct(self.engine) as connection:
            await connection.execute("DROP SCHEMA fhirgw CASCADE")
        await migrate(self.engine)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    """A council of PEOPLE adults (2,000 unless the environment says otherwise), not yet taken in."""
    with tempfile.TemporaryDirectory(prefix="fhirgw-bench-") as name:
        folder = Path(name)
        async with server(folder / "postgres") as url:
            engine = connect(url)
            await migrate(engine)
            await to_database(url, LAYOUTS["meadow"], generate(PEOPLE), lambda table, rows: None)
            yield World(url, engine, load(path("mappings")).systems["meadow"], folder)
            await engine.dispose()
