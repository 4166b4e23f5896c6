"""What every request is answered with: the readers, the caller's permit, the address of the FHIR base."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from starlette.requests import Request

from fhirgw.access.permit import Permit
from fhirgw.api.shared import Shared
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store import resources
from fhirgw.store.database import Connection, Readers, declared
from fhirgw.store.resources import Stored

WAIT = 10.0
"""Seconds a request queues for a connection before it is told to come back: more waiting would answer nobody."""


HOST = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
"""A name, an IPv4 or an IPv6 address, and a port. https://www.rfc-editor.org/rfc/rfc9110#section-7.2"""


@dataclass(frozen=True, slots=True)
class Context:
    """Made by the composition root when the app starts. `gate` turns a request into what its caller may do.

    `searchers` are readers that plan every statement anew (see fhirgw.store.database). `base_url` None: links are made
    of the address the caller used. `started` is a FHIR instant. `statements` are CapabilityStatements by their address.
    """

    readers: Readers
    searchers: Readers
    gate: Callable[[Request], Awaitable[Permit]]
    base_url: str | None
    version: str
    started: str
    statements: dict[str, bytes] = field(default_factory=dict)
    _reads: Shared[tuple[Permit, str], str, Stored | None] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_reads", Shared(self._read))

    async def read(self, permit: Permit, resource_type: str, id: str) -> Stored:
        """The current version of a resource; who reads at the same time under the same permit reads along.

        Raises FhirError: forbidden, not-found, deleted.
        """
        permit.require("r", resource_type)
        found = await self._reads((permit, resource_type), id)
        if found is None:  # not there, or not any more, or not for this one: in the words that are for it
            async with self.glance(permit) as connection:
                return await resources.read(connection, permit, resource_type, id)
        return found

    async def _read(self, key: tuple[Permit, str], ids: Sequence[str]) -> list[Stored | None]:
        async with self.glance(key[0]) as connection:
            return await resources.read_each(connection, *key, ids)

    def glance(self, permit: Permit) -> AbstractAsyncContextManager[Connection]:
        """`async with here.glance(permit) as connection`: for one statement that has the permit in it.

        Raises TimeoutError after WAIT seconds.
        """
        return _borrowed(self.readers)

    def reader(self, permit: Permit) -> AbstractAsyncContextManager[Connection]:
        """A transaction to read by id: all its statements see the same."""
        return _reading(self.readers, permit)

    def searcher(self, permit: Permit) -> AbstractAsyncContextManager[Connection]:
        """The same, to search."""
        return _reading(self.searchers, permit)


WITHIN = "fhirgw.context"
"""Where in its scope a request that is part of another has a context of its own."""


def context(request: Request) -> Context:
    """The context of the app that got the request, or of the transaction that it is part of."""
    return cast(Context, request.scope.get(WITHIN) or request.app.state.context)


def base(request: Request) -> str:
    """The FHIR base in links: the settings', else as the caller addressed us; no slash at its end.

    Raises FhirError(invalid) for a Host that is none: it would be in every link of the answer.
    """
    if known := context(request).base_url:
        return known.rstrip("/")
    host = request.headers.get("host", "")
    if not HOST.fullmatch(host):
        raise FhirError(Issue("invalid", "The Host header is no host and port: send the gateway's own address"))
    return f"{request.scope['scheme']}://{host}/fhir"


def bases(request: Request) -> tuple[str, ...]:
    """All that the FHIR base is known to be called: in links, and as the caller addressed us."""
    called = f"{request.scope['scheme']}://{request.headers.get('host', '')}/fhir"
    return tuple(dict.fromkeys((base(request), called)))


def permitted(request: Request) -> Permit:
    """What the caller may do: `interactions` asked the gate before it called the handler."""
    return cast(Permit, request.state.permit)


@asynccontextmanager
async def _reading(pool: Readers, permit: Permit) -> AsyncIterator[Connection]:
    # One snapshot for all statements of a request: a page, its total and what its chains pass through agree.
    async with _borrowed(pool) as connection, declared(connection, permit, isolation="REPEATABLE READ"):
        yield connection


def _borrowed(pool: Readers) -> AbstractAsyncContextManager[Connection]:
    # A timeout is a timer and a task of its own: not worth it where a connection is free.
    waiting = None if pool.get_idle_size() or pool.get_size() < pool.get_max_size() else WAIT
    return cast("AbstractAsyncContextManager[Connection]", pool.acquire(timeout=waiting))
