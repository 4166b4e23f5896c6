"""Rows as CSV, for programs and for spreadsheets: https://www.rfc-editor.org/rfc/rfc4180, in UTF-8.

A text that a spreadsheet would take for a formula gets an apostrophe before it; numbers, which are none, stay as they
are: https://owasp.org/www-community/attacks/CSV_Injection.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from io import StringIO
from typing import Any

from fhirgw.fhir.canonical import encode

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a formula begins with; the wide ones where the spreadsheet is Japanese or Chinese."""


def written(rows: Iterable[Sequence[Any]]) -> bytes:
    """The rows as lines of CSV, each ended."""
    made = StringIO()
    csv.writer(made, lineterminator="\r\n").writerows([cell(value) for value in row] for row in rows)
    return made.getvalue().encode()


def cell(value: Any) -> str:
    """A value as the text of a cell: nothing is an empty one, a list is JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(FORMULA) else value
    if isinstance(value, bool | int | Decimal | list):
        return encode(value).decode()  # type: ignore[arg-type]
    raise TypeError(f"CSV has no way to say a {type(value).__name__}")


def records(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The records of what `written` wrote, each as it stands: a quoted cell may hold line breaks."""
    record = b""
    for line in lines:
        record += line
        if record.count(b'"') % 2 == 0:
            yield record
            record = b""


def key(record: bytes) -> str:
    """The first cell of a record, which holds the id of a resource: nothing that would be quoted.

    An id may begin with a hyphen, as a formula does, and has an apostrophe before it then.
    """
    return record.partition(b",")[0].strip(b"\r\n").decode().removeprefix("'")
