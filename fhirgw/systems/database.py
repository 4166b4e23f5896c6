"""A system of record kept as a PostgreSQL schema: its reporting copy, read as text in one consistent snapshot.

Reads go through a server-side cursor inside one REPEATABLE READ, READ ONLY transaction: all tables of a sync are of
one moment. A cursor rather than a keyset, because a keyset leaves out rows whose key is blank or stands twice, and
those are what an extract must report. Writing back locks the row, compares it with what the caller saw, and writes
only then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Self

import asyncpg

from fhirgw.systems.system import Child, ExtractError, Row, arranged, blanked, nearest
from fhirgw.systems.write_back import Kinds, Writing, quoted

AWAY = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    # asyncpg's confusion when the server ends a connection just as the next query is sent.
    asyncpg.InternalClientError,
)
"""What asyncpg raises when the server is not there, goes away, or does not let us in."""

SPELLING = {"datestyle": "ISO, YMD", "timezone": "UTC", "application_name": "fhirgw extract"}
"""How the server writes values as text, whatever its own settings say."""

COLUMNS = """
SELECT relname, attname, format_type(atttypid, NULL) AS kind
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE relnamespace = to_regnamespace($1) AND relkind IN ('r', 'p', 'v', 'm', 'f')
  AND attnum > 0 AND NOT attisdropped
ORDER BY relname, attnum
"""

ORPHANS = """
SELECT count(*) FROM {child} AS child
WHERE NOT EXISTS (SELECT FROM {table} AS parent WHERE parent.{key}::text = child.{parent}::text)
"""


class DatabaseSystem:
    """The tables and views of `schema` (the system's name unless told) in the database at `url`."""

    def __init__(self, name: str, url: str, schema: str | None = None) -> None:
        self.name, self.url, self.schema = name, url, schema or name
        self.orphans: dict[str, int] = {}
        self._kinds: Kinds = {}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        place = f"database of {self.name}"
        async with AsyncExitStack() as stack:
            self._snapshot = await stack.enter_async_context(connected(self.url, place))
            with explained(place):
                # Never committed: it reads, and closing the connection ends it.
                await self._snapshot.transaction(isolation="repeatable_read", readonly=True).start()
                for table, column, kind in await self._snapshot.fetch(COLUMNS, quoted(self.schema)):
                    self._kinds.setdefault(table, {})[column] = kind
            if not self._kinds:
                remedy = f"Name the schema that holds the tables of {self.name}, and let this account use it"
                raise ExtractError(place, f"there is no table in schema {self.schema!r}", remedy, "not-found")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def tables(self) -> dict[str, tuple[str, ...]]:
        """The columns of the schema's tables and views."""
        return {table: tuple(columns) for table, columns in self._kinds.items()}

    async def count(self, table: str) -> int:
        """The table's rows, in this snapshot."""
        return await self._counted(table, f"SELECT count(*) FROM {self._from(table)}")

    async def extract(
        self, table: str, key: str, columns: Sequence[str], children: Sequence[Child] = (), batch: int = 2000
    ) -> AsyncIterator[list[Row]]:
        """See System.extract; in the order of the key."""
        names, query = self._select(table, columns and (*columns, key))
        with explained(self._place(table)):
            # "source": by the column's own type, and not by the text it is read as.
            cursor = await self._snapshot.cursor(f"{query} ORDER BY source.{quoted(key)}")
        while True:
            with explained(self._place(table)):
                rows = [Row(zip(names, blanked(each), strict=True)) for each in await cursor.fetch(batch)]
                await self._adopt(self._snapshot, rows, key, children)
            if not rows:
                break
            yield rows
        for child in children:
            query = ORPHANS.format(
                child=self._from(child.table),
                table=self._from(table),
                key=quoted(key),
                parent=quoted(child.parent),
            )
            self.orphans[child.table] = await self._counted(child.table, query)

    async def fetch(
        self, table: str, key: str, value: str, columns: Sequence[str] = (), children: Sequence[Child] = ()
    ) -> Row | None:
        """The row as it is now, outside the snapshot."""
        async with connected(self.url, self._place(table)) as connection:
            with explained(self._place(table)):
                return await self._one(connection, table, key, value, columns, children)

    async def apply(
        self,
        table: str,
        key: str,
        value: str,
        before: Row | None,
        after: Row | None,
        children: Sequence[Child] = (),
    ) -> bool:
        """See System.apply; what `before` does not name is neither compared nor changed."""
        changes = Writing(self.schema, self._kinds).row(table, {key: value}, before, after, children)
        async with connected(self.url, self._place(table)) as connection:
            with explained(self._place(table)):
                try:
                    async with connection.transaction():
                        now = await self._one(connection, table, key, value, (), children, "FOR UPDATE")
                        if not _same(before, now):
                            return False
                        for query, cells in changes:
                            await connection.execute(query, *cells)
                except asyncpg.UniqueViolationError:  # somebody made the row since: there was none to lock
                    return False
        return True

    async def _one(
        self,
        connection: Any,
        table: str,
        key: str,
        value: str,
        columns: Sequence[str],
        children: Sequence[Child],
        lock: str = "",
    ) -> Row | None:
        names, query = self._select(table, columns and (*columns, key))
        where = f"WHERE {quoted(key)} = $1::text::{self._kinds[table][key]}"
        found = await connection.fetchrow(f"{query} {where} {lock}", value)
        if found is None:
            return None
        row = Row(zip(names, blanked(found), strict=True))
        await self._adopt(connection, [row], key, children, lock)
        return row

    async def _adopt(
        self, connection: Any, rows: list[Row], key: str, children: Sequence[Child], lock: str = ""
    ) -> None:
        """Hangs the child rows under their parents."""
        for child in children if rows else ():
            names, query = self._select(child.table, child.read, child.parent)
            kind = self._kinds[child.table][child.parent]
            where = f"WHERE {quoted(child.parent)} = ANY ($1::text[]::{kind}[])"
            families: dict[str | None, list[Row]] = {row[key]: [] for row in rows}
            for parent, *cells in await connection.fetch(f"{query} {where} {lock}", list(families)):
                families[parent].append(Row(zip(names, blanked(cells), strict=True)))
            for row in rows:
                row[child.table] = arranged(families[row[key]], child.order)

    async def _counted(self, table: str, query: str) -> int:
        with explained(self._place(table)):
            return int(await self._snapshot.fetchval(query))

    def _select(self, table: str, columns: Sequence[str], *first: str) -> tuple[Sequence[str], str]:
        """The columns' names (all, when none are asked for), and the query for `first` and them as text."""
        source, known = self._from(table), self._kinds[table]
        for name in (*first, *columns):
            if name not in known:
                remedy = f"Add it to the table, or take it out of the mapping; {nearest(name, known)}"
                raise ExtractError(self._place(table), f"there is no column {name!r}", remedy)
        names = tuple(dict.fromkeys(columns or known))
        cells = ", ".join(f"{quoted(name)}::text" for name in (*first, *names))
        return names, f"SELECT {cells} FROM {source} AS source"

    def _from(self, table: str) -> str:
        if table not in self._kinds:
            remedy = f"Create it, or leave it out of the mappings; {nearest(table, self._kinds)}"
            raise ExtractError(self._place(table), "there is no such table", remedy, "not-found")
        return f"{quoted(self.schema)}.{quoted(table)}"

    def _place(self, table: str) -> str:
        return f"database of {self.name}, {self.schema}.{table}"


@asynccontextmanager
async def connected(url: str, place: str) -> AsyncIterator[Any]:
    """An asyncpg connection, closed at the end even if the server has gone. Raises ExtractError at `place`."""
    with explained(place):
        connection = await asyncpg.connect(url, server_settings=SPELLING)
    try:
        yield connection
    finally:
        connection.terminate()


@contextmanager
def explained(place: str) -> Iterator[None]:
    """What PostgreSQL raises as an ExtractError. Its own message is left out: it may quote a cell."""
    try:
        yield
    except AWAY as error:
        rule = f"the database is away ({type(error).__name__})"
        remedy = "Start it, or correct its address, and run the same again: no unfinished table was kept"
        raise ExtractError(place, rule, remedy, "transient") from error
    except asyncpg.PostgresError as error:
        rule = f"the database refused ({type(error).__name__}, SQLSTATE {error.sqlstate})"
        raise ExtractError(place, rule, "Give this account the right, or correct the mapping") from error


def _same(before: Row | None, now: Row | None) -> bool:
    """True when what the caller saw is what is there; columns the caller did not see do not count."""
    if before is None or now is None:
        return before is now
    return all(_seen(now.get(name), cell) for name, cell in before.items())


def _seen(now: Any, before: Any) -> bool:
    if not isinstance(before, list):
        return bool(now == before)
    return len(now) == len(before) and all(map(_same, before, now))
