"""Creates that wait at the same time share a statement: one round trip, one commit, one piece of the audit.

Nobody waits for company. Whoever comes first writes; those of the same permit who come meanwhile are the next to be
written together, by the first of them. Where one of them cannot be written, each
writes alone, so that no one's fault is another's. No task of its own: the requests do the work, and one who goes away
leaves the others to do it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fhirgw.access.permit import Permit
from fhirgw.api.writers import Writers
from fhirgw.fhir.issue import FhirError
from fhirgw.store.audit import Row
from fhirgw.store.writing import Change, Written, create

MOST = 64
"""Creates of one transaction."""


@dataclass(slots=True)
class _Waiting:
    """One create: `row` makes its row of the audit; `turn` is the answer, or None: it is for this one to write."""

    change: Change
    row: Callable[[Written], Row]
    turn: asyncio.Future[Written | None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True)
class Together:
    """Creates by permit: a list while somebody writes, of those who wait."""

    waiting: dict[Permit, list[_Waiting]] = field(default_factory=dict)

    async def create(
        self, writers: Writers, permit: Permit, change: Change, row: Callable[[Written], Row]
    ) -> Written | None:
        """What was created, durably and audited; None where it is to be done alone, because company failed."""
        mine = _Waiting(change, row)
        queue = self.waiting.get(permit)
        if queue is None:
            queue = self.waiting[permit] = []
            return await self._write(writers, permit, queue, [mine])
        queue.append(mine)
        try:
            done = await mine.turn
        except asyncio.CancelledError:
            self._gone(permit, queue, mine)
            raise
        if done is not None or mine not in queue:
            return done
        others = [each for each in queue if each is not mine and not each.turn.done()]
        group, queue[:] = [mine, *others[: MOST - 1]], others[MOST - 1 :]
        return await self._write(writers, permit, queue, group)

    async def _write(
        self, writers: Writers, permit: Permit, queue: list[_Waiting], group: list[_Waiting]
    ) -> Written | None:
        """Writes the group, of which the first is the caller's own; then it is the turn of the next who waits."""
        try:
            done = await self._written(writers, permit, group)
        except FhirError:  # nothing was kept: each finds out alone whose fault it was
            if len(group) == 1:
                raise
            _tell(group, [None] * len(group))
            return None
        except BaseException:  # nobody knows whether it was kept: what is done again would be done twice
            for each in group[1:]:
                if not each.turn.done():
                    each.turn.set_exception(ConnectionResetError("the write was broken off"))
            raise
        finally:
            self._next(permit, queue)
        _tell(group, done)
        return done[0]

    async def _written(self, writers: Writers, permit: Permit, group: list[_Waiting]) -> list[Written]:
        def rows(made: Sequence[Written]) -> list[Row]:
            return [each.row(one) for each, one in zip(group, made, strict=True)]

        async with writers.connection() as connection:
            return await create(connection, permit, [each.change for each in group], writers.now(), rows)

    def _gone(self, permit: Permit, queue: list[_Waiting], mine: _Waiting) -> None:
        """One who waited has gone away; whose turn it was passes it on."""
        told = mine.turn.done() and not mine.turn.cancelled() and mine in queue
        if mine in queue:
            queue.remove(mine)
        if told:
            self._next(permit, queue)

    def _next(self, permit: Permit, queue: list[_Waiting]) -> None:
        for each in queue:
            if not each.turn.done():
                each.turn.set_result(None)
                return
        del self.waiting[permit]


def _tell(group: list[_Waiting], done: Sequence[Written | None]) -> None:
    """Tells all but the first, who asks."""
    for each, made in zip(group[1:], done[1:], strict=True):
        if not each.turn.done():
            each.turn.set_result(made)
