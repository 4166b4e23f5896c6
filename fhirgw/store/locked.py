"""What of the gateway's waits for a lock in PostgreSQL, and behind whom: why work stands that somebody is at.

https://www.postgresql.org/docs/18/functions-info.html (pg_blocking_pids)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from fhirgw.store.database import Connection

LONG = timedelta(seconds=5)
"""How long a statement has waited before it is told of."""

WAITING = """
SELECT pid, extract(epoch FROM clock_timestamp() - query_start)::int AS seconds, pg_blocking_pids(pid) AS behind
FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND wait_event_type = 'Lock'
    AND query_start <= clock_timestamp() - $1::interval ORDER BY query_start, pid"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A server process that has waited so many seconds for what the processes `behind` which it is hold."""

    pid: int
    seconds: int
    behind: tuple[int, ...]


async def locked(connection: Connection) -> list[Waiting]:
    """What waits of this account's, the longest first; not what it would do, which may be about people."""
    found = await connection.fetch(WAITING, LONG)
    return [Waiting(each["pid"], each["seconds"], tuple(each["behind"])) for each in found]
