"""Telling subscribers: what happened is noted, and each is told in a lane of its own until they have taken it.

Any number of processes do the same, wherever they are. Nothing is lost if one of them dies, wherever it is: what is
noted is in the database before anybody is told, and a lane whose lease has run out is another's. What was told, but not
written down as told, is told again, under the same numbers.

Each time something is sent it is asked anew who the subscriber is and what they may see; and it is in the audit first.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import structlog

from fhirgw.access.audit_event import Access, Seen
from fhirgw.access.permit import Permit
from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.notification import Foci, Happening, Status, bundle
from fhirgw.fhir.topics import known, narrowed
from fhirgw.jobs.failpoint import reach
from fhirgw.jobs.hook import Reach, Untold
from fhirgw.store import notices, subscription
from fhirgw.store.audit import Auditor
from fhirgw.store.database import Connection, Engine, away, direct
from fhirgw.store.subscription import Subscription

POLL = 1.0
"""Seconds between two looks at the change log."""

LANES, OF_ORIGIN, OF_APPLICATION = 32, 4, 16
"""Lanes at once of a process, of one origin, and of one application: who hangs, or names many origins that do, leaves
room for the others.
"""

LEASE = timedelta(seconds=90)
"""Longer than any endpoint may take, and all that is done before and after."""

FIRST, LONGEST = 2.0, 3600.0
"""Seconds until a delivery that failed is tried again: twice as long each time, up to an hour."""

SWEPT = 60
"""Looks between two sweeps."""

MEDIA = "application/fhir+json"
log = structlog.get_logger("fhirgw.jobs")

Permits = Callable[[Connection, Subscription], Awaitable[Permit]]
"""Who a subscriber is now, and what they may see. Raises FhirError where they may not ask any more."""

Sign = Callable[[bytes, str], str]
"""A detached JWS of a body that goes to an endpoint."""


class Notifier:
    """Notes and tells. `async with notifier.working()` does so while the block runs, turn by turn."""

    def __init__(self, engine: Engine, auditor: Auditor, permits: Permits, sign: Sign, reach: Reach) -> None:
        self._engine, self._auditor, self._permits, self._sign, self._reach = engine, auditor, permits, sign, reach
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._lanes: dict[asyncio.Task[None], Subscription] = {}
        self._turns = 0

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Looks again and again while the block runs; lanes that are open at its end are another's when it is over."""
        task = asyncio.create_task(self._work(), name="notifications")
        try:
            yield
        finally:
            tasks = [task, *self._lanes]
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            until = time.monotonic() + POLL
            try:
                await self.turn()
                await self.idle(until)
            except Exception as error:
                log.error("notifications interrupted", error=type(error).__name__, away=away(error))
            await asyncio.sleep(max(0.0, until - time.monotonic()))

    async def turn(self) -> None:
        """One look: what happened is noted, and lanes that have something to tell are begun."""
        async with direct(self._engine) as connection:
            if self._turns % SWEPT == 0:
                await subscription.sweep(connection)
                if any((counted := await subscription.counted(connection)).values()):
                    log.info("subscriptions", **counted)
            self._turns += 1
            for id in await notices.stirred(connection):
                await self._note(connection, id)
        await self._begin()

    def sweeps(self) -> None:
        """The next turn sweeps."""
        self._turns = 0

    async def idle(self, until: float = math.inf) -> None:
        """Comes back when no lane of this process is open, or then; one that has closed makes room for the next."""
        while self._lanes and (left := until - time.monotonic()) > 0:
            patience = None if left == math.inf else left
            done, _ = await asyncio.wait(list(self._lanes), timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            if done:
                await self._begin()

    async def _note(self, connection: Connection, id: str) -> None:
        """Notes what is new to a subscription; one whose subscriber may not ask any more is in error."""
        try:
            async with connection.transaction():
                window = await notices.opened(connection, id)
                kept = await subscription.find(connection, id) if window else None
                if window is None or kept is None:
                    return
                permit = await self._permits(connection, kept)
                triggers = narrowed(known(kept.topic), kept.filters, kept.base)
                await notices.note(connection, kept, window, permit, triggers)
                reach("events noted")
        except FhirError as error:
            log.warning("subscription stopped", subscription=id, code=error.issues[0].code)
            await subscription.stop(connection, id, str(error))

    async def _begin(self) -> None:
        """Begins lanes that wait, as many as there is room for."""
        while len(self._lanes) < LANES:
            origins = _often((each.origin for each in self._lanes.values()), OF_ORIGIN)
            applications = _often((each.registration for each in self._lanes.values()), OF_APPLICATION)
            async with direct(self._engine) as connection:
                lane = await subscription.claim(connection, self.name, LEASE, origins, applications)
            if lane is None:
                return
            task = asyncio.create_task(self._told(lane), name=f"lane of {lane.id}")
            self._lanes[task] = lane
            task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        del self._lanes[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("lane interrupted", error=type(error).__name__, away=away(error))

    async def _told(self, lane: Subscription) -> None:
        """Tells a lane what is next, and writes down what came of it."""
        try:
            async with direct(self._engine) as connection:  # who has the handshake is told of all that comes after it
                place = await subscription.here(connection)
            number = await self._tell(lane)
        except FhirError as error:  # whoever subscribed may not ask any more, or what it was signed with is not there
            if error.status < 500:
                async with direct(self._engine) as connection:
                    await subscription.stop(connection, lane.id, str(error))
                return
            await self._failed(lane, Untold("The gateway could not make the notification"))
        except Untold as error:
            await self._failed(lane, error)
        except asyncio.CancelledError:
            await asyncio.shield(self._released(lane))
            raise
        else:
            reach("before told")
            async with direct(self._engine) as connection:
                if lane.status == "requested":
                    await subscription.greeted(connection, lane, place)
                else:
                    await subscription.told(connection, lane, number)

    async def _released(self, lane: Subscription) -> None:
        """It is another's at once: this process was asked to stop."""
        async with direct(self._engine) as connection:
            await subscription.release(connection, lane)

    async def _failed(self, lane: Subscription, error: Untold) -> None:
        async with direct(self._engine) as connection:
            status = await subscription.failed(
                connection, lane, str(error), pause(lane.attempts), for_good=error.for_good
            )
        log.warning("notification not taken", subscription=lane.id, attempts=lane.attempts + 1, status=status)

    async def _tell(self, lane: Subscription) -> int:
        """Sends what is next of a lane; the number of the last event of it. Raises Untold, FhirError."""
        moment, request = datetime.now(UTC), str(uuid4())
        events: Sequence[Happening] = ()
        foci: Foci = {}
        async with direct(self._engine) as connection:
            permit = await self._permits(connection, lane)
            if lane.status == "active" and lane.sent < lane.events:
                events = await notices.waiting(connection, lane.id, lane.sent, lane.most)
                if lane.content != "empty":
                    foci = await notices.foci(connection, permit, events, lane.content == "full-resource")
        kind = "handshake" if lane.status == "requested" else "event-notification" if events else "heartbeat"
        status = Status(lane.base, lane.id, lane.topic, lane.status, lane.events, lane.content)
        body = bundle(status, kind, moment, events, foci)
        signed = self._sign(body, lane.endpoint)
        if events:
            await self._auditor.record(noticed(permit, moment, request, lane.id, foci))
        reach("before post")
        given = (each.partition(":")[::2] for each in lane.headers)
        headers = {name: value.strip() for name, value in given}
        ours = {"content-type": MEDIA, "x-request-id": request, "x-jws-signature": signed}
        await self._reach.post(lane.endpoint, body, {**headers, **ours}, lane.seconds)
        return events[-1].number if events else lane.events


def _often(names: Iterable[str], times: int) -> list[str]:
    return [name for name, number in Counter(names).items() if number >= times]


def noticed(permit: Permit, moment: datetime, request: str, id: str, foci: Foci) -> Access:
    """What the audit says of a notification: who was told of what."""
    seen = [Seen(*name, shown.person) for name, shown in foci.items()]
    route = "POST [subscriber's endpoint]"
    return Access(
        "operation", route, moment, request, operation="notify", permit=permit, seen=seen, asked=f"Subscription/{id}"
    )


def pause(attempts: int) -> timedelta:
    """How long to wait after so many failures before this one, and somewhat at random: not all come back at once."""
    longest = min(LONGEST, FIRST * 2.0 ** min(attempts, 20))
    return timedelta(seconds=random.uniform(longest / 2, longest))
