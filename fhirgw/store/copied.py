"""Rows of texts as PostgreSQL copies them out: its binary format, which looks at no character of a text.

A body of 1.8 kB costs the server 1.5 microseconds so, and 4 as CSV, where it is looked through for what has to be
quoted. https://www.postgresql.org/docs/18/sql-copy.html (Binary Format)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from struct import Struct
from typing import Any

from fhirgw.store.database import Connection, Statement

Line = bytes | memoryview
"""Without its end; a view of what came with others, for who needs it no longer than it has it."""

Sink = Callable[[list[Line]], Awaitable[None]]
"""Takes lines."""

PARTED = "\x02"
"""Parts the columns of a row, where it has several: no text holds it (fhirgw.store.schema.NO_CONTROL)."""

BEFORE = Struct("!11sII")
"""What a copy begins with: its signature, flags, and how many bytes of a header follow."""
ROW, FIELD, END = Struct("!h"), Struct("!i"), -1
FIRST = Struct("!hi")
"""How many columns a row has, and how long the first is."""


async def copied(connection: Connection, made: Statement, values: Mapping[str, Any], sink: Sink) -> None:
    """What the query finds, a line for each row."""
    lines = Lines()

    async def output(data: bytes) -> None:
        if found := lines.of(data):
            await sink(found)

    await connection.copy_from_query(made.sql, *made.arguments(values), output=output, format="binary")


class Lines:
    """Turns what is copied into lines, however it comes in pieces."""

    def __init__(self) -> None:
        self._rest, self._wanted, self._begun = bytearray(), 0, False

    def of(self, data: bytes | bytearray) -> list[Line]:
        """The rows that are whole by now, a line each."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:  # a large row comes in many pieces
                return []
            data, self._rest = self._rest, bytearray()
        whole, at = bytes(data), 0
        if not self._begun:
            at = BEFORE.size + (BEFORE.unpack_from(whole)[2] if len(whole) >= BEFORE.size else 0)
            self._begun = len(whole) >= at
        found: list[Line] = []
        if self._begun:
            at = self._rows(whole, at, found.append)
        self._rest += whole[at:] if self._begun else whole
        return found

    def _rows(self, data: bytes, at: int, add: Callable[[Line], None]) -> int:
        """Adds the rows that are whole from a place on; the place where they end."""
        view, end, first, front = memoryview(data), len(data) - FIRST.size, FIRST.unpack_from, FIRST.size
        self._wanted = 0
        while at <= end:
            columns, size = first(data, at)
            begun, ended = at + front, at + front + size
            if columns == 1 and size >= 0:
                if ended > len(data):
                    self._wanted = ended - at
                    break
                add(view[begun:ended])
            elif columns == END or (whole := _row(data, at + ROW.size, columns)) is None:
                break
            else:
                line, ended = whole
                add(line)
            at = ended
        return at


def _row(data: bytes, at: int, columns: int) -> tuple[bytes, int] | None:
    """A row of several columns, or without a value, and where it ends; None where it is not all there."""
    texts = []
    for _ in range(columns):
        if at + FIELD.size > len(data):
            return None
        size = max(0, FIELD.unpack_from(data, at)[0])
        at += FIELD.size + size
        texts.append(data[at - size : at])
    return (PARTED.encode().join(texts), at) if at <= len(data) else None
