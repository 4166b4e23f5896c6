"""Brings a database's tables to the version this code knows, and says which version they have."""

from __future__ import annotations

from functools import cache

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from alembic import command
from fhirgw.shipped import path
from fhirgw.store.queue import migrate_queue
from fhirgw.store.reindex import reindex, stale
from fhirgw.store.schema import SCHEMA

LOCK = 0x6668697267770001
"""The advisory lock under which one process at a time migrates."""


async def migrate(engine: AsyncEngine) -> str:
    """Upgrades to the newest version in one transaction, and returns it; does nothing where it is there already.

    Then rows that an older version of the code indexed are indexed again, batch by batch.
    """
    async with engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        await connection.run_sync(_upgrade)
    await migrate_queue(engine)
    await reindex(engine)
    return newest()


async def version(engine: AsyncEngine) -> str | None:
    """The version the database has; None where there are no tables yet."""
    async with engine.connect() as connection:
        return await connection.run_sync(_version)


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
    """Every version this code knows, the newest first."""
    return tuple(each.revision for each in ScriptDirectory.from_config(configuration()).walk_revisions())


def _upgrade(connection: Connection) -> None:
    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _version(connection: Connection) -> str | None:
    return MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA}).get_current_revision()


def configuration() -> Config:
    """Where alembic finds the migrations."""
    config = Config()
    config.set_main_option("script_location", str(path("alembic")).replace("%", "%%"))
    return config
