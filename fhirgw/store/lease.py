"""Leases, attempts and fencing: who has a part of a job, until when they are believed, and how often it was begun.

The one home of it, for all that is done in parts: exports (fhirgw.store.ledger) and imports (fhirgw.store.import_job).

A part is claimed before it is worked on: the attempt is counted, its token goes up, and a lease begins, which whoever
works on it renews. A lease that was not renewed is swept by any process: the part waits again, or has failed after
ATTEMPTS, with a reason. What a worker says of its part counts only with the token it claimed it with, so one that was
given up for dead and comes back is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol

from fhirgw.store.database import Connection
from fhirgw.store.export_job import REVOKED

ATTEMPTS = 3
"""Times a part is begun: one that took three workers with it would take a fourth."""

LEASE = timedelta(seconds=30)
"""How long a worker that says nothing is believed."""

HELD = "job = $1 AND number = $2 AND token = $3 AND state = 'running'"
"""It is still one's own."""


class Holding(Protocol):
    """A part as it was claimed; `held` is its job, number and token, `attempts` how often it was begun."""

    @property
    def attempts(self) -> int: ...
    @property
    def held(self) -> tuple[str, int, int]: ...


class Leases:
    """Those on the rows of `parts`, of jobs in the table `jobs`.

    `progress`: columns that tell how far an attempt is, 0 at its beginning. `first`: by what parts (i) are ordered that
    were begun as often. `able`: of parts (i) those that a worker can do, by what it says of itself ($4). `unless`: the
    job a part of which (i) is claimed is not to go on; `over`: it (j) has ended, though parts wait; `ours`: only jobs
    (j) of which others know. `stopped` says why a part failed whose workers stopped without a word. All are SQL.
    """

    def __init__(
        self,
        jobs: str,
        parts: str,
        stopped: str,
        *,
        progress: Sequence[str] = (),
        first: str = "i.number",
        able: str = "true",
        unless: str = "false",
        over: str = "false",
        ours: str = "true",
    ) -> None:
        none = "".join(f", {name} = 0" for name in progress)
        far = "".join(f", {name} = ${number}" for number, name in enumerate(progress, 5))
        tried = f"state = CASE WHEN attempts < {ATTEMPTS} THEN 'waiting' ELSE 'failed' END, lease = NULL{none}"
        running = f"EXISTS (SELECT FROM {jobs} WHERE id = $1 AND state = 'running'"
        some = f"EXISTS (SELECT FROM {parts} i WHERE i.job = j.id AND i.state"
        self.wanted = f"{HELD} AND {running} AND NOT {REVOKED})"
        """It is one's own, and its job is to go on."""

        self._claim = f"""
            WITH next AS (
                SELECT i.job, i.number FROM {parts} i JOIN {jobs} j ON j.id = i.job
                WHERE i.state = 'waiting' AND i.job = $1 AND j.state = 'running' AND NOT {REVOKED} AND NOT ({unless})
                    AND {able}
                ORDER BY i.attempts, {first}, i.number LIMIT 1 FOR UPDATE OF i SKIP LOCKED)
            UPDATE {parts} i
            SET state = 'running', attempts = i.attempts + 1, token = i.token + 1,
                lease = clock_timestamp() + $3::interval, worker = $2{none}
            FROM next WHERE i.job = next.job AND i.number = next.number RETURNING i.*"""
        self._renew = f"UPDATE {parts} SET lease = clock_timestamp() + $4::interval{far} WHERE {self.wanted}"
        self._fail = f"UPDATE {parts} SET state = 'failed', lease = NULL, reason = $4{none} WHERE {HELD}"
        self._again = f"UPDATE {parts} SET {tried}, reason = $4 WHERE {HELD}"
        self._release = f"""
            UPDATE {parts} SET state = 'waiting', lease = NULL, attempts = attempts - 1{none} WHERE {HELD}"""
        self._sweep = f"""
            UPDATE {parts} SET {tried}, reason = {stopped} WHERE state = 'running' AND lease < clock_timestamp()
                AND EXISTS (SELECT FROM {jobs} j WHERE j.id = job AND {ours})"""
        self._open = f"""
            SELECT id, {some} = 'waiting') AS waiting,
                NOT {some} IN ('waiting', 'running')) OR {over} AS ended
            FROM {jobs} j WHERE state = 'running' AND {ours} ORDER BY created"""
        self._waiting = f"""
            SELECT number, token FROM {parts} WHERE job = $1 AND state = 'waiting' ORDER BY attempts, number LIMIT $2"""

    async def claim(
        self, connection: Connection, job: str, worker: str, lease: timedelta = LEASE, *able: Any
    ) -> Any | None:
        """The row of the next part of a job that waits, begun; None where none does or the job is not to go on."""
        return await connection.fetchrow(self._claim, job, worker, lease, *able)

    async def renew(self, connection: Connection, part: Holding, *far: int, lease: timedelta = LEASE) -> bool:
        """Says that it is being worked on, and how far it is. False: it is not one's own any more, or not wanted."""
        return bool(await connection.execute(self._renew, *part.held, lease, *far) == "UPDATE 1")

    async def fail(self, connection: Connection, part: Holding, reason: str, again: bool) -> None:
        """It could not be done: it waits for another attempt if there is one and `again`, or has failed."""
        await connection.execute(self._again if again else self._fail, *part.held, reason)

    async def release(self, connection: Connection, part: Holding) -> None:
        """It goes back as it was: whoever worked on it was asked to stop."""
        await connection.execute(self._release, *part.held)

    async def waiting(self, connection: Connection, job: str, most: int) -> list[tuple[int, int]]:
        """What waits of a job, the next first, as its number and token: of each attempt, another."""
        return [tuple(row) for row in await connection.fetch(self._waiting, job, most)]

    async def sweep(self, connection: Connection) -> list[tuple[str, bool, bool]]:
        """Takes parts from workers that have gone; then the jobs that run, whether parts wait, whether all ended."""
        await connection.execute(self._sweep)
        return [tuple(row) for row in await connection.fetch(self._open)]
