"""Brings a database's tables to the version this code knows, and says which version they have."""

from __future__ import annotations

from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from alembic import command
from fhirgw.shipped import path
from fhirgw.store.schema import SCHEMA

LOCK = 0x6668697267770001
"""The advisory lock under which one process at a time migrates."""


async def migrate(engine: AsyncEngine) -> str:
    """Upgrades to the newest version in one transaction, and returns it; does nothing where it is there already."""
    async with engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        await connection.run_sync(_upgrade)
    return newest()


async def version(engine: AsyncEngine) -> str | None:
    """The version the database has; None where there are no tables yet."""
    async with engine.connect() as connection:
        return await connection.run_sync(_version)


def newest() -> str:
    """The version this code needs."""
    return ScriptDirectory.from_config(configuration()).get_current_head() or ""


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
