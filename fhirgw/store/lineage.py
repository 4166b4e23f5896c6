"""Which source row became which resource, and what the row held: how a second run knows that nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from fhirgw.store.database import Connection

GONE = b""
"""The digest of a row that left the extract: its resource was deleted."""


class Traced(NamedTuple):
    """The resource a row became, and the digest of the row when it did."""

    id: str
    digest: bytes


async def traced(connection: Connection, system: str, mapping: str, keys: Sequence[str]) -> dict[str, Traced]:
    """What the keys became, by key."""
    query = "SELECT key, id, digest FROM fhirgw.lineage WHERE system = $1 AND mapping = $2 AND key = ANY ($3)"
    rows: list[Any] = await connection.fetch(query, system, mapping, keys)
    return {each[0]: Traced(each[1], each[2]) for each in rows}


async def retrace(connection: Connection, system: str, mapping: str, digests: Sequence[tuple[str, bytes]]) -> None:
    """New digests for rows that changed without changing their resource."""
    if digests:
        query = """
            UPDATE fhirgw.lineage l SET digest = n.digest FROM unnest($3::text[], $4::bytea[]) AS n (key, digest)
            WHERE l.system = $1 AND l.mapping = $2 AND l.key = n.key
        """
        keys, made = zip(*digests, strict=True)
        await connection.execute(query, system, mapping, list(keys), list(made))


async def living(connection: Connection, system: str, mapping: str) -> int:
    """How many resources the mapping's rows stand for now."""
    query = "SELECT count(*) FROM fhirgw.lineage WHERE system = $1 AND mapping = $2 AND digest <> ''"
    return int(await connection.fetchval(query, system, mapping))


async def ids(connection: Connection, system: str, mapping: str) -> dict[str, str]:
    """The keys of the rows that stand for something now, with what they stand for."""
    query = "SELECT key, id FROM fhirgw.lineage WHERE system = $1 AND mapping = $2 AND digest <> ''"
    return dict(map(tuple, await connection.fetch(query, system, mapping)))


async def watermarks(connection: Connection, system: str) -> dict[str, int]:
    """How many rows the last finished extract of each table had."""
    query = "SELECT mapping, rows FROM fhirgw.watermark WHERE system = $1"
    return dict(map(tuple, await connection.fetch(query, system)))


async def mark(connection: Connection, system: str, table: str, rows: int, run: int) -> None:
    """Notes the size of a finished extract, in the transaction that holds its rows; nothing where it is the same."""
    query = """
        INSERT INTO fhirgw.watermark (system, mapping, rows, run) VALUES ($1, $2, $3, $4)
        ON CONFLICT (system, mapping) DO UPDATE SET rows = excluded.rows, run = excluded.run
        WHERE fhirgw.watermark.rows <> excluded.rows
    """
    await connection.execute(query, system, table, rows, run)


async def any_of(connection: Connection, system: str, mapping: str) -> bool:
    """Whether the mapping ever made anything: before its first rows there is nothing to look up."""
    query = "SELECT EXISTS (SELECT FROM fhirgw.lineage WHERE system = $1 AND mapping = $2)"
    return bool(await connection.fetchval(query, system, mapping))


async def resources(connection: Connection, system: str) -> dict[str, int]:
    """How many resources of each type the system's rows stand for now."""
    query = "SELECT type, count(*) FROM fhirgw.lineage WHERE system = $1 AND digest <> '' GROUP BY type ORDER BY type"
    return dict(map(tuple, await connection.fetch(query, system)))


async def kinds(connection: Connection, system: str) -> set[tuple[str, str]]:
    """The mappings that have made something that is still there, each with the type of resource it made."""
    query = "SELECT DISTINCT mapping, type FROM fhirgw.lineage WHERE system = $1 AND digest <> ''"
    return set(map(tuple, await connection.fetch(query, system)))
