"""Where Procrastinate keeps its own tables: a schema beside ours, brought to its version by `fhirgw migrate`.

https://procrastinate.readthedocs.io/en/stable/howto/production/migrations.html. Its migrations are named by the version
that needs them, `03.04.00_01_pre_…`; the last one that was applied is told in the schema's comment.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from procrastinate.schema import SchemaManager
from sqlalchemy.ext.asyncio import AsyncEngine

from fhirgw.store.database import direct

SCHEMA = "procrastinate"
OPTIONS = f"-c search_path={SCHEMA} -c timezone=UTC -c application_name=fhirgw-queue"
"""What Procrastinate's own connections ask of the server."""
AT = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = 'procrastinate'"


async def migrate_queue(engine: AsyncEngine) -> None:
    """Makes the tables, or applies the migrations they lack, in one transaction; nothing where they are the newest."""
    async with direct(engine) as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended('fhirgw queue', 0))")
        at = await connection.fetchval(AT)
        if at == _newest():
            return
        if at is None:
            await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        await connection.execute(f"SET LOCAL search_path = {SCHEMA}")
        for statements in [SchemaManager.get_schema()] if at is None else _lacking(at):
            await connection.execute(statements)
        await connection.execute(f"COMMENT ON SCHEMA {SCHEMA} IS '{_newest()}'")


def _migrations() -> list[Path]:
    return sorted(Path(SchemaManager.get_migrations_path()).glob("*.sql"))


def _newest() -> str:
    return _migrations()[-1].stem


def _lacking(at: str) -> Iterator[str]:
    for path in _migrations():
        if path.stem > at:
            yield path.read_text()
