"""The audit: one chain of AuditEvents, written by many processes, added to and never changed.

Requests share commits: while one is written, those that come meanwhile wait to be the next, as PostgreSQL's own group
commit would have it, but in one statement. A commit has two steps: once its rows are written, others may add theirs;
`record` comes back when the row is on disk, and no answer leaves before (`audit_write`, alembic's 0028).

Long, because a row, how it is handed over, and who writes it change together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from os import urandom
from typing import NamedTuple

import asyncpg
import structlog

from fhirgw.access.audit_event import Access, event
from fhirgw.access.audit_facets import Facets, facets
from fhirgw.access.audit_query import EPOCH, MILLISECOND
from fhirgw.access.audit_read import PART as BRIEF_PART
from fhirgw.access.audit_read import Form, known
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store.audit_forms import Forms
from fhirgw.store.audit_strangers import Strangers
from fhirgw.store.database import Connection, readers

PART = "\x02"
"""Parts the values of a column that is handed over: one text a column costs a third of an array (asyncpg looks at every
element).
"""
AT_ONCE = 2
"""Commits on their way: while the disk has one, the rows of the next are written."""
COMPANY = 8
"""Rows that make it worth while to begin one beside another: each costs as much as what it has of so many rows."""
LONGEST = 1000
"""Accesses that wait to be written; who comes then waits to wait."""
MOST = 500
"""Rows of one commit."""
MOST_BYTES = 4_000_000
"""Of one commit, but for the last row of it."""
SECONDS = 10.0
"""What one commit may take before it has failed."""

VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""Of a UUID: the digit that has two random bits, by one that has four. https://www.rfc-editor.org/rfc/rfc9562#section-4.1
"""
log = structlog.get_logger("fhirgw.audit")


class Unrecorded(FhirError):
    """The audit could not be written, so there is no answer: a 503."""

    def __init__(self) -> None:
        super().__init__(Issue("transient", "The audit cannot be written, so nothing can be answered: ask again"))


class Row(NamedTuple):
    """An AuditEvent and what it is searched by, as `audit_append` takes it."""

    recorded: datetime
    persons: str
    registration: str
    organisation: str
    purpose: str
    outcome: str
    body: str


@dataclass(slots=True)
class _Waiting:
    """`form` is what the body of the row rests on, if it is brief."""

    row: Row
    form: Form | None
    written: asyncio.Future[None]


class Auditor:
    """Writes the accesses of one process, over connections of its own: `async with Auditor(url) as auditor`.

    One task takes what waits, a commit's worth whenever a connection is free; one that is gone is replaced. Leaving the
    block writes what still waits. Errors reach everybody whose row was in the commit: none is dropped, none is told to
    be there that is not. One who stops waiting is recorded all the same.
    """

    def __init__(self, url: str, *, longest: int = LONGEST) -> None:
        self._pool = readers(url, size=AT_ONCE, seconds=SECONDS)
        self._free = asyncio.Semaphore(AT_ONCE)
        self._writing: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._queue: asyncio.Queue[_Waiting | None] = asyncio.Queue(longest)
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._strangers = Strangers(self._recorded)
        self._forms = Forms()

    async def __aenter__(self) -> Auditor:
        await self._pool.__aenter__()
        self._task = asyncio.create_task(self._run(), name="audit")
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self._strangers.ended()
        self._closed = True
        self._news.set()
        try:
            await self._queue.put(None)
            if self._task is not None:
                await self._task
            await asyncio.gather(*self._writing)
        finally:
            await self._pool.__aexit__(*raised)

    async def record(self, access: Access) -> None:
        """Comes back when the access is recorded durably. Raises Unrecorded.

        Many refusals of callers nobody knows share a row: see fhirgw.store.audit_strangers.
        """
        await (self._strangers.record if Strangers.is_one(access) else self._recorded)(access)

    async def _recorded(self, access: Access) -> None:
        if self._closed or self._task is None or self._task.done():
            raise Unrecorded
        waiting = _Waiting(*_written_out(access, self._forms), asyncio.get_running_loop().create_future())
        await self._queue.put(waiting)
        if self._queue.qsize() >= COMPANY:
            self._news.set()
        if self._task.done():  # ended while this one was waiting for room
            raise Unrecorded
        await waiting.written

    async def _run(self) -> None:
        """Writes until it is told to end; whatever ends it, nobody is left waiting."""
        try:
            while await self._free.acquire():
                await self._worth_while()
                if not (batch := await self._next()):
                    break
                writing = asyncio.create_task(self._settled(batch), name="audit commit")
                self._writing.add(writing)
                writing.add_done_callback(self._done)
        finally:
            self._closed = True
            left = [self._queue.get_nowait() for _ in range(self._queue.qsize())]
            _settle([each for each in left if each], failed=True)

    async def _worth_while(self) -> None:
        """Comes back when nothing is on its way, or enough waits to go beside it."""
        while self._writing and self._queue.qsize() < COMPANY and not self._closed:
            self._news.clear()
            await self._news.wait()

    def _done(self, writing: asyncio.Task[None]) -> None:
        self._writing.discard(writing)
        self._free.release()
        self._news.set()

    async def _settled(self, batch: list[_Waiting]) -> None:
        try:
            await self._written(batch)
        finally:
            _settle(batch, failed=True)  # who has been told already is not told again

    async def _next(self) -> list[_Waiting]:
        """All that wait, up to a commit's size; none at the end."""
        batch: list[_Waiting] = []
        size = 0
        each = await self._queue.get()
        try:
            await asyncio.sleep(0)  # those that are answered in this moment: half of a commit's CPU is the commit's own
        except BaseException:
            _settle([each] if each else [], failed=True)
            raise
        while each is not None:
            batch.append(each)
            size += len(each.row.body)
            if self._queue.empty() or len(batch) == MOST or size > MOST_BYTES:
                return batch
            each = self._queue.get_nowait()
        if batch:
            self._queue.put_nowait(None)  # there is room: it was taken from there
        return batch

    async def _written(self, batch: list[_Waiting]) -> None:
        """Writes a batch in one commit; where PostgreSQL refuses a value, each alone: one does not fail the others."""
        try:
            async with self._pool.acquire(timeout=SECONDS) as connection:
                await self._forms.keep(connection, [each.form for each in batch if each.form])
                await connection.execute(WRITE, *columns([each.row for each in batch]))
        except Exception as error:
            self._forms.doubt()
            if len(batch) > 1 and isinstance(error, asyncpg.DataError):
                for each in batch:
                    await self._written([each])
                return
            log.error("audit not written", rows=len(batch), error=type(error).__name__)
            _settle(batch, failed=True)
        else:
            _settle(batch, failed=False)


def _written_out(access: Access, forms: Forms) -> tuple[Row, Form | None]:
    """The row, before anybody else's is at stake, and its form. Raises Unrecorded for what JSON cannot say."""
    try:
        made = known(access, _id(access.moment))
        if made is None or not forms.has_met(made.form) or (brief := made.brief).count(BRIEF_PART) != len(made.values):
            return row(access), None
        return _row(brief, made.facets), made.form
    except (TypeError, ValueError) as error:  # as a lone surrogate
        log.error("audit not written", rows=1, error=type(error).__name__)
        raise Unrecorded from None


def row(access: Access) -> Row:
    """The row of an access, under an id of its own, with all of its JSON. Raises ValueError as `_row`."""
    id = _id(access.moment)
    if (short := known(access, id)) is not None:
        return _row(short.body, short.facets)
    made = event(access, id)
    return _row(encode(made).decode(), facets(made))


def _row(body: str, found: Facets) -> Row:
    """Raises ValueError for what would not arrive as it is."""
    written = Row(found.recorded, " ".join(found.persons), *found[2:], body)
    if PART in "".join(written[1:]):
        raise ValueError("a value with a control character cannot be handed to the audit")
    return written


def _id(moment: datetime) -> str:
    """An id that says in which millisecond it was recorded, so that no index is needed to find it by.

    A UUID of version 7, which Python has from 3.14 on. https://www.rfc-editor.org/rfc/rfc9562#section-5.7
    """
    since = f"{(moment - EPOCH) // MILLISECOND:012x}"
    drawn = urandom(10).hex()
    return f"{since[:8]}-{since[8:]}-7{drawn[:3]}-{VARIANT[drawn[3]]}{drawn[4:7]}-{drawn[7:19]}"


def drawn_uuid() -> str:
    """A UUID of version 4: what `str(uuid.uuid4())` is, in a third of the time."""
    drawn = urandom(16).hex()
    return f"{drawn[:8]}-{drawn[8:12]}-4{drawn[13:16]}-{VARIANT[drawn[16]]}{drawn[17:20]}-{drawn[20:]}"


async def append(connection: Connection, rows: Sequence[Row]) -> int:
    """Adds rows to the chain, durable when the transaction has ended; returns the sequence of the last."""
    last: int = await connection.fetchval(APPEND, *columns(rows))
    return last


async def append_brief(connection: Connection, accesses: Sequence[Access], forms: Forms) -> None:
    """The same of accesses, brief where that can be, in a transaction that has their forms too.

    Where the transaction fails, the forms are in doubt. Raises Unrecorded.
    """
    made = [_written_out(each, forms) for each in accesses]
    await forms.keep(connection, sorted({form for _, form in made if form}))  # so that nobody waits for who waits
    await append(connection, [each for each, _ in made])


def columns(rows: Sequence[Row]) -> list[str]:
    """The rows as `appended` takes them."""
    moments, *others = zip(*rows, strict=True)
    return [PART.join([each.isoformat() for each in moments]), *map(PART.join, others)]


def appended(first: int) -> str:
    """The call that adds `columns`, from parameter `first` on."""
    return f"fhirgw.audit_append({_handed(first)})"


def _handed(first: int) -> str:
    # Of one empty value `string_to_array` makes none.
    texts = [
        f"CASE ${at} WHEN '' THEN ARRAY[''] ELSE string_to_array(${at}, E'\\x02') END" for at in range(first, first + 7)
    ]
    return f"({texts[0]})::timestamptz[], {', '.join(texts[1:])}"


APPEND = f"SELECT {appended(1)}"
WRITE = f"CALL fhirgw.audit_write({_handed(1)})"


async def record_now(connection: Connection, access: Access) -> None:
    """Records one access in the transaction of the connection, or in one of its own.

    For commands. No other process can record until the transaction ends: let it be the last thing in it.
    """
    await append(connection, [row(access)])


def _settle(batch: Sequence[_Waiting], *, failed: bool) -> None:
    for each in batch:
        if not each.written.done():  # its request may have been cancelled
            each.written.set_exception(Unrecorded()) if failed else each.written.set_result(None)
