"""Visits sent one by one that wait at the same time share a transaction: one commit, one piece of the audit.

Nobody waits for company (fhirgw.api.shared): who comes while one transaction is written is in the next. Without it each
visit would wait for a commit of its own, and all of them for the head of the audit's chain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fhirgw.access.audit_event import Access
from fhirgw.api.shared import Shared
from fhirgw.api.writers import Writers
from fhirgw.store import audit, submissions
from fhirgw.store import visits as store
from fhirgw.store.audit_forms import Forms
from fhirgw.store.visits import Provider, Result
from fhirgw.visits.reading import Sent
from fhirgw.visits.receipt import Receipt
from fhirgw.visits.rules import Rules

TRIES = 5
"""How often visits are taken again because somebody else was quicker with one of them."""


class Single(NamedTuple):
    """A visit that came alone: `access` is what the audit is told, when it is known what became of it."""

    provider: Provider
    sent: Sent
    access: Callable[[Result], Access]


class Company:
    """`await company(single)`: what became of a visit, durable and audited. Raises store.Lost, and what a pool does."""

    def __init__(self, writers: Writers, rules: Rules) -> None:
        self._writers, self._rules, self._forms = writers, rules, Forms()
        self._shared: Shared[None, Single, Result] = Shared(self._taken)

    async def __call__(self, single: Single) -> Result:
        """The result, when it is on disk."""
        return await self._shared(None, single)

    async def _taken(self, _: None, singles: Sequence[Single]) -> list[Result]:
        for attempt in range(TRIES):
            try:
                return await self._written(singles, alone=attempt > 0)
            except store.Lost:
                self._forms.doubt()
            except BaseException:
                self._forms.doubt()
                raise
        raise store.Lost

    async def _written(self, singles: Sequence[Single], *, alone: bool) -> list[Result]:
        async with self._writers.transaction() as connection:
            now = self._writers.now()
            rows = [(each.provider, each.sent) for each in singles]
            found = await store.take_all(connection, rows, self._rules, now, alone=alone)
            told: dict[str, list[Receipt]] = {}
            for each, done in zip(singles, found, strict=True):
                told.setdefault(each.provider.code, []).append(_receipt(each.sent, done))
            await submissions.note_singles(connection, told, now)
            accesses = [each.access(done) for each, done in zip(singles, found, strict=True)]
            await audit.append_brief(connection, accesses, self._forms)
        return found


def _receipt(sent: Sent, result: Result) -> Receipt:
    return Receipt(1, sent.visit, result.status, result.id, result.faults)
