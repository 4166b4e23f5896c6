"""The demonstration's care provider sends its visits: today's rota, and what its carers do while the gateway serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import structlog

from fhirgw import shipped
from fhirgw.access.audit_event import Seen
from fhirgw.access.permit import Permit
from fhirgw.cli.audited import audited
from fhirgw.cli.demo_apps import PROVIDER
from fhirgw.cli.permits import permit_of
from fhirgw.council.rota import rota
from fhirgw.meanwhile import meanwhile
from fhirgw.settings import Settings
from fhirgw.store import visits
from fhirgw.store.database import Engine, away, direct
from fhirgw.store.examples import looked_after
from fhirgw.store.registration import find
from fhirgw.visits.batch import told_apart
from fhirgw.visits.reading import Reader, Sent
from fhirgw.visits.rules import rules

PEOPLE = 40
"""Of those whom the care provider looks after: one small round of carers."""
EVERY = 20.0
"""Seconds between two times that it sends."""

log = structlog.get_logger("fhirgw.demo")


class Carers:
    """`await carers.send()` sends what is known by now; `async with carers.going()` does so again and again."""

    def __init__(self, engine: Engine, given: Settings, opened: datetime | None = None) -> None:
        self.engine, self.given = engine, given
        self.opened = opened or datetime.now(UTC)
        self._reader = Reader(rules(shipped.path("mappings")))

    async def send(self, now: datetime | None = None) -> int:
        """How many visits it sent; none where no care provider looks after anybody."""
        now = now or datetime.now(UTC)
        permit = await self._permit()
        if permit is None:
            return 0
        provider = visits.Provider(permit.organisation, permit.parties, self.given.controller)
        async with direct(self.engine) as connection, connection.transaction():
            people = await looked_after(connection, permit.parties, PEOPLE)
            read = told_apart([self._reader.read(row, provider.code, now) for row in rota(people, self.opened, now)])
            sent = [each for each in read if isinstance(each, Sent)]
            results = await visits.take(connection, provider, sent, self._reader.rules, now)
            news = [each for each in results if each.status == "stored" and each.id]
            if news:
                seen = [Seen("Encounter", str(each.id), each.patient) for each in news]
                await audited(connection, self.given.controller, "demo-visits", seen=seen)
        return len(sent)

    async def _permit(self) -> Permit | None:
        async with direct(self.engine) as connection:
            known = await find(connection, PROVIDER)
        return await permit_of(self.engine, self.given, PROVIDER) if known else None

    @asynccontextmanager
    async def going(self) -> AsyncIterator[None]:
        """While the block runs, carers come and go."""
        async with meanwhile(self._again(), "demo's carers"):
            yield

    async def _again(self) -> None:
        while True:
            await asyncio.sleep(EVERY)
            try:
                await self.send()
            except Exception as error:
                log.error("visits not sent", error=type(error).__name__, away=away(error))
