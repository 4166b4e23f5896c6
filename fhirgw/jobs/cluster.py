"""Who moves the work where there is a Dask cluster already: https://distributed.dask.org.

A task says "a part of this job is ready" and no more; which part its worker does is the ledger's choice, as with
Procrastinate (fhirgw.jobs.engine). A task is named after the part that waited and its token, so that however many
processes tell the scheduler, it is one task; a part that comes back has another token, and another task. Nothing is
lost with a task, a worker or the scheduler: what still waits is told again by every process that sweeps.

Dask gives fhirgw's tasks only to workers that say they take them, by a resource (`--resources fhirgw=1`), of which each
task holds one: so many parts at a time. https://distributed.dask.org/en/stable/resources.html
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import structlog

from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.jobs.engine import PROCRASTINATE, Help, swept

if TYPE_CHECKING:
    from distributed import Client, Future

AHEAD = 100
"""Parts of a job that are told at a time: more than a cluster has workers for; the next sweep tells of the next."""

PATIENCE = 5
"""Seconds in which a scheduler has to answer."""

AGAIN = 30
"""Seconds after which a job that waits is told once more, by another name: a worker that hangs may have the task."""

MINUTE = 60.0
RESOURCE = "fhirgw"
SCHEMES = {"dask": "tcp", "dask+tls": "tls"}
"""How the setting names an address, and how Dask does. https://distributed.dask.org/en/stable/tls.html"""

COMMAND = "dask worker {} --nthreads 1 --resources fhirgw=1 --preload fhirgw.jobs.cluster_work"
"""What starts a worker."""

UNREACHABLE = (
    "FHIRGW_EXECUTOR: no Dask scheduler answers at {}. Start it (dask scheduler), correct the address or Dask's"
    " own TLS settings, or leave the setting unset: then Procrastinate moves the work, and needs the database alone"
)
log = structlog.get_logger("fhirgw.jobs")


def address(told: str) -> str:
    """Dask's address of the scheduler that the setting names: `dask+tls://host:port` is `tls://host:port`."""
    scheme, _, rest = told.partition("://")
    return f"{SCHEMES[scheme]}://{rest.rstrip('/')}"


async def connected(at: str, security: Any = None) -> Client:
    """A client of the scheduler at Dask's address, to be closed. Raises FhirError(transient): nobody answers there."""
    from distributed import Client  # here, because most gateways have no Dask

    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it would say, our log says
    client = Client(at, asynchronous=True, timeout=PATIENCE, set_as_default=False, security=security)
    try:
        await client
    except (OSError, RuntimeError, TypeError, ValueError) as error:  # the latter: of its TLS settings
        with suppress(Exception):
            await client.close(timeout=1)
        raise FhirError(Issue("transient", UNREACHABLE.format(at))) from error
    return client


async def reachable(told: str) -> None:
    """Raises FhirError(transient) unless the scheduler that the setting names answers, if it names one."""
    if told == PROCRASTINATE:
        return
    client = await connected(address(told))
    await client.close()


class Cluster:
    """The Dask executor of one kind of work; it is open while its block runs. `at`: Dask's address of the scheduler.

    A scheduler that is away keeps nobody from opening, nor from asking: it is told when it is back.
    """

    def __init__(self, at: str, worker: Help, name: str, security: Any = None) -> None:
        self._at, self._worker, self._name, self._security = at, worker, name, security
        self._client: Client | None = None
        self._told: dict[str, Future] = {}
        self._said: dict[str, float] = {}

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Cluster]:
        """Connects; sweeps again and again until the block ends."""
        await self._connect()
        try:
            async with swept(self.sweep):
                yield self
        finally:
            if self._client is not None:
                await self._client.close()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Nothing: Dask's workers do the work, and this process none of it."""
        yield

    async def ask(self, id: str) -> None:
        """Has somebody help with each part of the job that waits, soon; twice is once. It waits for no scheduler."""
        self._tell([(id, f"{number}-{token}") for number, token in await self._worker.waiting(id, AHEAD)])

    async def sweep(self) -> None:
        """Has what waits worked on, whoever was to do it."""
        await self._connect()
        self._forget()
        jobs = await self._worker.sweep()
        for id in jobs:
            await self.ask(id)
        self._tell([(id, f"again-{int(time.time()) // AGAIN}") for id in jobs])
        if jobs:
            await self._look()

    async def _connect(self) -> None:
        """Has a client; another, if the scheduler was away for so long that the last one gave up."""
        if self._client is None or self._client.status in ("closing", "closed"):
            self._told.clear()
            with suppress(FhirError):  # who has something to tell will say so
                self._client = await connected(self._at, self._security)

    def _tell(self, ready: list[tuple[str, str]]) -> None:
        """Has a task for each that there is none for. What the scheduler is not told now, it is told at a sweep."""
        from distributed import fire_and_forget

        client = self._client
        if client is None or client.status != "running":
            if ready:
                self._say("Dask not told", "start the scheduler, or see why it does not answer")
            return
        for id, which in ready:
            key = f"fhirgw-{self._name}-{id}-{which}"
            if key not in self._told:
                asked = client.submit(_task(), self._name, id, key=key, resources={RESOURCE: 1}, pure=False)
                fire_and_forget(asked)  # it is done though this process ends
                self._told[key] = asked

    def _forget(self) -> None:
        """Lets go of tasks that have ended, so that they may be told again; of those that failed with a word."""
        for key, asked in list(self._told.items()):
            if asked.status == "error":
                log.error("Dask could not help", task=key, remedy="the log of Dask's worker says why")
            if asked.status != "pending":
                del self._told[key]

    async def _look(self) -> None:
        """Tells of jobs that wait when there is nobody to do them."""
        if self._client is None or self._client.status != "running":
            return
        with suppress(OSError):
            found = await self._client.scheduler.identity()
            if not any(each["resources"].get(RESOURCE) for each in found["workers"].values()):
                self._say("no Dask worker takes it", COMMAND.format(self._at))

    def _say(self, what: str, remedy: str) -> None:
        """Tells why jobs wait, again each minute as long as they do."""
        if time.monotonic() - self._said.get(what, -MINUTE) >= MINUTE:
            self._said[what] = time.monotonic()
            log.error(what, kind=self._name, at=self._at, remedy=remedy)


def _task() -> Callable[[str, str], None]:
    """The task. A function within a function travels by value: the scheduler opens what it is sent, and has no fhirgw.

    https://github.com/cloudpipe/cloudpickle
    """

    def help(kind: str, job: str) -> None:
        from fhirgw.jobs.cluster_work import help

        help(kind, job)

    return help
