"""What every request is answered with: the readers, the caller's permit, the address of the FHIR base."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias, cast

from starlette.requests import Request

from fhirgw.access.permit import Permit
from fhirgw.api.authenticate import Made
from fhirgw.api.shared import Shared
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.query import Query
from fhirgw.store import resources, search
from fhirgw.store.alike import Alike, alike, found
from fhirgw.store.database import Connection, Readers, declared
from fhirgw.store.include import Found, beside, fetch
from fhirgw.store.matching import alone, few, single
from fhirgw.store.rarity import Rarity, walkable
from fhirgw.store.registration import Standing
from fhirgw.store.resources import Stored
from fhirgw.store.search import Page

WAIT = 10.0
"""Seconds a request queues for a connection before it is told to come back: more waiting would answer nobody."""

MOST = 16
"""Searches of one statement: they are answered when the last of them is."""

Types: TypeAlias = "tuple[str, ...]"
Names: TypeAlias = "tuple[tuple[str, str], ...]"

HOST = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
"""A name, an IPv4 or an IPv6 address, and a port. https://www.rfc-editor.org/rfc/rfc9110#section-7.2"""


async def _nothing(request: Request) -> None:
    """No permit is assumed."""


@dataclass(frozen=True, slots=True)
class Context:
    """Made by the composition root when the app starts. `gate` turns a request into what its caller may do.

    `assumed` gives the permit that it is likely to come to, to be used where its standing is asked as well.
    `searchers` are readers that plan every statement anew (see fhirgw.store.database). `base_url` None: links are made
    of the address the caller used. `started` is a FHIR instant. `statements` are CapabilityStatements by their address.
    """

    readers: Readers
    searchers: Readers
    gate: Callable[[Request], Awaitable[Permit]]
    base_url: str | None
    version: str
    started: str
    assumed: Callable[[Request], Awaitable[Made | None]] = _nothing
    statements: dict[str, bytes] = field(default_factory=dict)
    _rarity: Rarity = field(init=False, default_factory=Rarity)
    _reads: Shared[tuple[Permit, str], str, Stored | None] = field(init=False)
    _standing: Shared[tuple[Made, str], str, Stored | None] = field(init=False)
    _searches: Shared[tuple[Hashable, Made | None], Alike, list[Found] | None] = field(init=False)
    _fetches: Shared[tuple[Permit, Types], Names, list[Found]] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_reads", Shared(self._read))
        object.__setattr__(self, "_standing", Shared(self._read_standing))
        object.__setattr__(self, "_searches", Shared(self._search, MOST))
        object.__setattr__(self, "_fetches", Shared(self._fetch, MOST))

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

    async def read_standing(self, made: Made, resource_type: str, id: str) -> Stored | None:
        """The same in one statement with whether the permit still holds; None where it may not, or finds nothing."""
        return await self._standing((made, resource_type), id)

    async def _read_standing(self, key: tuple[Made, str], ids: Sequence[str]) -> list[Stored | None]:
        made, resource_type = key
        async with self.glance(made.permit) as connection:
            return await resources.read_each(connection, made.permit, resource_type, ids, made.known.standing)

    async def page(self, permit: Permit, query: Query) -> Page | None:
        """The page of a search of few, without a transaction; who searches alike at the same time searches along.

        What comes along is as it is when that is asked. Nor takes it one to read along the order of ids what many have.
        None for any other search, and for more than a page of few. Raises FhirError: forbidden for the type.
        """
        if not alone(query):
            return await self._walked(permit, query)
        if asked := alike(permit, query):
            matches = await self._searches((asked.key, None), asked) or []
        else:
            async with self.glance(permit) as connection:
                matches = await search.only(connection, permit, query)
        return await self._page(permit, query, matches)

    async def page_standing(self, made: Made, query: Query) -> Page | None:
        """The same in one statement with whether the permit still holds; None where it may not, or cannot be."""
        if not alone(query):
            return await self._walked(made.permit, query, made.known.standing)
        asked = alike(made.permit, query)
        matches = await self._searches((asked.key, made), asked) if asked else None
        return None if matches is None else await self._page(made.permit, query, matches)

    async def _page(self, permit: Permit, query: Query, matches: list[Found]) -> Page | None:
        """The page of all that match, with what comes along; None where they are more than a page."""
        if len(matches) > query.count:
            return None
        along, notes = await beside(partial(self.fetch, permit), query, matches) if query.include else ([], [])
        return Page(matches, along, None if query.total == "none" else len(matches), None, notes)

    async def _walked(self, permit: Permit, query: Query, standing: Standing | None = None) -> Page | None:
        if not walkable(permit, query):
            return None
        await self._finds_few(permit, query)
        way = self._rarity.way(query)
        if way is None:
            return None
        async with self.glance(permit) as connection:
            return await search.walked(connection, permit, query, way, standing)

    async def _search(self, key: tuple[Hashable, Made | None], asked: Sequence[Alike]) -> Sequence[list[Found] | None]:
        made = key[1]
        async with self.glance(asked[0].matching.permit) as connection:
            return await found(connection, asked, made.known.standing if made else None)

    async def fetch(self, permit: Permit, wanted: Iterable[tuple[str, str]]) -> list[Found]:
        """The resources named by type and id that exist and may be seen, in the order of types and ids."""
        names = tuple(wanted)
        return await self._fetches((permit, tuple(sorted({each for each, _ in names}))), names)

    async def _fetch(self, key: tuple[Permit, Types], wanted: Sequence[Names]) -> list[list[Found]]:
        async with self.glance(key[0]) as connection:
            every = await fetch(connection, key[0], dict.fromkeys(name for names in wanted for name in names))
        known = {each[:2]: each for each in every}
        return [[known[name] for name in sorted(names) if name in known] for names in wanted]

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

    def look(self, permit: Permit) -> AbstractAsyncContextManager[Connection]:
        """The same as `glance`, to search."""
        return _borrowed(self.searchers)

    @asynccontextmanager
    async def searching(self, permit: Permit, query: Query) -> AsyncIterator[Connection]:
        """What a search needs: a transaction, unless one statement answers it; planned anew, unless it finds few."""
        if few(query):
            way = self.reader
        elif not single(query):
            way = self.searcher
        else:
            way = self.glance if await self._finds_few(permit, query) else self.look
        async with way(permit) as connection:
            yield connection

    async def _finds_few(self, permit: Permit, query: Query) -> bool:
        known = self._rarity.known(query)
        if known is None:
            async with self.glance(permit) as connection:
                await self._rarity.ask(connection, query)
            known = self._rarity.known(query)
        return bool(known)


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
