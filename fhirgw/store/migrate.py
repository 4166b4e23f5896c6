"""Brings a database's tables to the version this code knows, and says which version they have.

Every command asks for both versions, and few migrate: alembic and the queue, which take a third of a second to import,
are imported by those few.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from fhirgw.shipped import path
from fhirgw.store.reindex import reindex, stale
from fhirgw.store.schema import SCHEMA

if TYPE_CHECKING:
    from alembic.config import Config

STATED = re.compile(r'^(?:down_)?revision = (?:"(\w+)"|None)$', re.MULTILINE)
"""What a migration says of its place: its own version, and the one before."""
LOCK = 0x6668697267770001
"""The advisory lock under which one process at a time migrates."""


async def migrate(engine: AsyncEngine) -> str:
    """Upgrades to the newest version in one transaction, and returns it; does nothing where it is there already.

    Then rows that an older version of the code indexed are indexed again, batch by batch.
    """
    from fhirgw.store.queue import migrate_queue

    async with engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        await connection.run_sync(_upgrade)
    await migrate_queue(engine)
    await reindex(engine)
    return newest()


async def version(engine: AsyncEngine) -> str | None:
    """The version the database has; None where there are no tables yet."""
    async with engine.connect() as connection:
        there = await connection.scalar(text(f"SELECT to_regclass('{SCHEMA}.alembic_version') IS NOT NULL"))
        return await connection.scalar(text(f"SELECT version_num FROM {SCHEMA}.alembic_version")) if there else None


def newest() -> str:
    """The version this code needs."""
    return _versions()[0]


def serves(version: str | None) -> bool:
    """Whether this code can serve tables of that version: its own, or one it does not know, which is a newer one.

    A migration keeps to what the running code needs, so that a new version can be rolled out beside it.
    """
    return version is not None and version not in _versions()[1:]


async def check(engine: AsyncEngine) -> None:
    """Raises NotMigrated where the tables are missing or old."""
    found = await version(engine)
    if not serves(found):
        have = f"are of version {found}" if found else "are not there"
        raise NotMigrated(f"The database's tables {have}, and version {newest()} is needed: run `fhirgw migrate`")
    if await stale(engine):
        raise NotMigrated("The database's rows are indexed as an older version needs them: run `fhirgw migrate`")


class NotMigrated(Exception):
    """The database does not have the tables this code needs."""


@cache
def _versions() -> tuple[str, ...]:
    """Every version this code knows, the newest first: each migration says which it follows."""
    texts = [each.read_text() for each in (path("alembic") / "versions").glob("*.py")]
    following = {before: version for version, before in map(STATED.findall, texts)}
    chain: list[str] = []
    while (after := following.get(chain[-1] if chain else "")) is not None:
        chain.append(after)
    return tuple(reversed(chain))


def _upgrade(connection: Connection) -> None:
    from alembic import command

    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def configuration() -> Config:
    """Where alembic finds the migrations."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(path("alembic")).replace("%", "%%"))
    return config
