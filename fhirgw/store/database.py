"""Connections to PostgreSQL, and SQLAlchemy Core's statements as text for asyncpg.

Who writes takes an AsyncEngine. Who answers requests takes a `readers` pool: asyncpg alone carries a small select in a
fifth of the time that SQLAlchemy's execution needs (116 µs against 602 µs on two cores, 2026), while SQLAlchemy still
builds every statement (`statement`). Readers hold no state in their sessions, so nothing resets a connection between
requests: that is a round trip each, half the cost of reading one resource.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import asyncpg
from sqlalchemy import URL, Insert, make_url
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.sql.selectable import SelectBase

from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose

Connection: TypeAlias = "asyncpg.Connection"
Engine: TypeAlias = AsyncEngine
Readers: TypeAlias = "asyncpg.Pool"

STATEMENTS = 500
"""Prepared statements a connection keeps: a search's shape is one, and there are few shapes."""

SESSION = {
    "application_name": "fhirgw",
    "search_path": "fhirgw",
    "jit": "off",
    "timezone": "UTC",
    "idle_in_transaction_session_timeout": "10min",
}
"""What every connection asks of its server, embedded or not."""

WRITING = {"fhirgw.writing": "on"}
"""What who writes says besides, to pass row-level security; who answers requests declares a permit (`declared`)."""

STANDING = {"fhirgw.permit": "standing", "default_transaction_read_only": "on"}
"""What sessions say that answer by one statement, which has a permit in it (`standing`)."""

SHAPES = 2000
"""Statements kept; callers who ask for ever new shapes cost time, not memory."""

_made: dict[Hashable, Statement] = {}
_DIALECT = asyncpg_dialect()  # type: ignore[no-untyped-call]


def away(error: BaseException) -> bool:
    """Whether an error means that the database is not there, going, or full; not that it refused a statement."""
    return isinstance(error, _AWAY) and not isinstance(error, _REFUSED)


def overrun(error: BaseException) -> bool:
    """Whether a statement was stopped because it took longer than its session allows."""
    return isinstance(error, asyncpg.QueryCanceledError)


def connect(url: str, *, size: int = 10) -> AsyncEngine:
    """An engine for the server at the url, with at most `size` connections; nothing is opened yet.

    Dispose of it when done. `url` is libpq's: `postgresql://account@host/name`, or with `?host=<socket directory>`.
    """
    return create_async_engine(
        _url(url).set(drivername="postgresql+asyncpg"),
        pool_size=size,
        max_overflow=0,
        connect_args={
            "server_settings": SESSION | WRITING,
            "statement_cache_size": STATEMENTS,
            "prepared_statement_cache_size": STATEMENTS,
        },
    )


async def raw(connection: AsyncConnection) -> Connection:
    """The asyncpg connection that carries this one, in the same transaction if one has begun."""
    proxied = await connection.get_raw_connection()
    return cast("Any", proxied.driver_connection)


@asynccontextmanager
async def direct(engine: AsyncEngine) -> AsyncIterator[Connection]:
    """An asyncpg connection of the engine's, for COPY and for statements written by hand.

    Begin transactions on it (`async with connection.transaction()`): SQLAlchemy begins none that it does not see.
    """
    async with engine.connect() as connection:
        try:
            made = await raw(connection)
            if made.is_closed():  # the server went away while it was in the pool
                await connection.invalidate()
                made = await raw(connection)
            yield made
        finally:
            if made.is_closed():
                await connection.invalidate()


def readers(
    url: str,
    *,
    size: int = 10,
    seconds: float = 30.0,
    replan: bool = False,
    writing: bool = False,
    standing: bool = False,
) -> Readers:
    """A pool of at most `size` connections for requests, each statement allowed `seconds`; nothing is opened yet.

    `async with readers(url) as pool` opens and closes it; `async with pool.acquire() as connection` borrows one.
    `replan` plans each statement for its own values: a search for a rare code and one for a common code are of one
    shape, and a plan that suits the one reads the whole table for the other. Reading by id needs one plan only, and
    planning costs as much as reading (41 and 84 µs). `writing`: for requests that write. `standing`: its sessions have
    declared a permit once for all and can do nothing but read. For the pools that requests read and search through, and
    for nobody else: a transaction for each read, to declare it, costs twice the read.
    """
    planning = {"plan_cache_mode": "force_custom_plan" if replan else "force_generic_plan"}
    return asyncpg.create_pool(
        plain(url),
        min_size=0,
        max_size=size,
        connection_class=_Reader,
        timeout=5,
        command_timeout=seconds + 5,  # for a server that does not even stop its statements
        statement_cache_size=STATEMENTS,
        server_settings=SESSION
        | planning
        | (WRITING if writing else {})
        | (STANDING if standing else {})
        | {"statement_timeout": f"{int(seconds * 1000)}ms"},
    )


class _Reader(asyncpg.Connection):  # type: ignore[misc]
    """A connection that comes back as it went."""

    async def reset(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 (asyncpg's signature)
        """Nothing to undo: `async with connection.transaction()` ends what it begins."""


@asynccontextmanager
async def declared(connection: Connection, permit: Permit, *, isolation: str = "READ COMMITTED") -> AsyncIterator[None]:
    """A transaction that reads under a permit. Without one, row-level security shows nobody's data.

    It is the second lock, and says no more than that somebody has asked for a permit: what the permit shows is the
    business of the first (fhirgw.store.visibility). https://www.postgresql.org/docs/18/ddl-rowsecurity.html
    """
    purpose = Purpose(permit.purpose).value
    begin = f"BEGIN ISOLATION LEVEL {isolation} READ ONLY; SET LOCAL fhirgw.permit = '{purpose}'"
    try:
        await connection.execute(f"{begin}; SET LOCAL fhirgw.writing = 'off'")
        yield
    finally:
        await _ended(connection)


async def _ended(connection: Connection) -> None:
    """Ends the transaction, or where that is cancelled too the connection: who had it next would be inside of it."""
    if connection.is_closed():
        return
    try:
        await connection.execute("ROLLBACK")
    except BaseException:
        connection.terminate()
        raise


@dataclass(frozen=True, slots=True)
class Statement:
    """`sql` with $1, $2 …, the names of its parameters in that order, and the values known when it was made."""

    sql: str
    names: tuple[str, ...]
    known: dict[str, Any] = field(default_factory=dict)

    def arguments(self, values: Mapping[str, Any] | None = None) -> list[Any]:
        """The parameters, from `values` first."""
        if values is None:
            return [self.known[name] for name in self.names]
        return [values[name] if name in values else self.known[name] for name in self.names]


def statement(query: SelectBase | Insert) -> Statement:
    """The query as asyncpg wants it: `await connection.fetch(made.sql, *made.arguments())`."""
    compiled = query.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return Statement(compiled.string, tuple(compiled.positiontup or ()), dict(compiled.params))


def once(shape: Hashable, build: Callable[[], SelectBase]) -> Statement:
    """The statement of a shape, built the first time: building one costs as much as running it.

    Two queries of one shape differ in the values of their named parameters, and in nothing else.
    """
    made = _made.get(shape)
    if made is None:
        if len(_made) >= SHAPES:
            _made.clear()
        made = _made[shape] = statement(build())
    return made


_AWAY = (
    *(OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError),
    *(asyncpg.OperatorInterventionError, asyncpg.InsufficientResourcesError, asyncpg.InternalClientError),
)
_REFUSED = (asyncpg.QueryCanceledError, asyncpg.DataError)


def plain(url: str) -> str:
    """The url as libpq itself takes it."""
    return _url(url).render_as_string(hide_password=False)


def _url(url: str) -> URL:
    """The url as libpq reads it, whatever driver it was written for."""
    return make_url(url).set(drivername="postgresql")
