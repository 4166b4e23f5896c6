"""Puts the made-up council where a system of record would keep it: a PostgreSQL schema, or a folder of CSV extracts."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from fhirgw.council.council import Council
from fhirgw.council.layout import Layout
from fhirgw.private import private_folder, privately
from fhirgw.systems.database import connected, explained
from fhirgw.systems.system import ExtractError

MARK = "Made up by fhirgw: no real person is in it"
"""The comment on a schema that may be dropped and made again."""

CHUNK = 5000
"""Rows written at a time."""

Progress = Callable[[str, int], None]
"""Told a table and how many of its rows are written."""
Text = str | None


async def to_database(url: str, layout: Layout, council: Council, progress: Progress) -> dict[str, int]:
    """Makes the layout's schema anew in one transaction, and says how many rows each table has.

    Raises ExtractError when a schema of that name is there and not of our making: it may be somebody's real one.
    """
    place = f"schema {layout.name}"
    written: dict[str, int] = {}
    async with connected(url, place) as connection:
        with explained(place):
            async with connection.transaction():
                found = await connection.fetchrow(
                    "SELECT obj_description(oid, 'pg_namespace') AS mark FROM pg_namespace WHERE nspname = $1",
                    layout.name,
                )
                if found and found["mark"] != MARK:
                    remedy = "Drop it yourself if it may go, or name another database"
                    raise ExtractError(place, "it exists and was not made by fhirgw", remedy, "conflict")
                if found:
                    await connection.execute(f'DROP SCHEMA "{layout.name}" CASCADE')
                for statement in layout.ddl():
                    await connection.execute(statement)
                await connection.execute(f"COMMENT ON SCHEMA \"{layout.name}\" IS '{MARK}'")
                for table in layout.tables(council):
                    rows = _Counted(table.rows, table.name, progress)
                    await connection.copy_to_table(
                        table.name,
                        schema_name=layout.name,
                        columns=list(table.columns),
                        source=_encoded(rows),
                        format="csv",
                    )
                    written[table.name] = rows.count
                for statement in layout.constraints():
                    await connection.execute(statement)
            for name in written:
                await connection.execute(f'ANALYZE "{layout.name}"."{name}"')
    return written


def to_csv(
    folder: Path, layout: Layout, council: Council, progress: Progress, delimiter: str = ",", encoding: str = "utf-8"
) -> dict[str, int]:
    """Writes `<table>.csv` for each table, and says how many rows each has; the files take their names at the end."""
    written: dict[str, int] = {}
    drafts: list[Path] = []
    try:
        private_folder(folder)
        for table in layout.tables(council):
            draft = folder / f".{table.name}.csv"
            drafts.append(draft)
            rows = _Counted(table.rows, table.name, progress)
            with open(draft, "w", encoding=encoding, newline="", opener=privately) as file:
                writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
                writer.writerow(table.columns)
                for chunk in rows:
                    writer.writerows(chunk)
            written[table.name] = rows.count
        for draft in drafts:
            draft.replace(folder / draft.name.removeprefix("."))
    except OSError as error:
        remedy = "Make room, or name another folder"
        raise ExtractError(str(folder), f"it cannot be written ({error.strerror})", remedy) from error
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)
    return written


class _Counted:
    """Rows in chunks, counted and told as they go."""

    def __init__(self, rows: Iterable[tuple[Text, ...]], table: str, progress: Progress) -> None:
        self._rows, self._table, self._progress = iter(rows), table, progress
        self.count = 0

    def __iter__(self) -> Iterator[list[tuple[Text, ...]]]:
        while chunk := list(islice(self._rows, CHUNK)):
            yield chunk
            self.count += len(chunk)
            self._progress(self._table, self.count)


async def _encoded(chunks: Iterable[list[tuple[Text, ...]]]) -> AsyncIterator[bytes]:
    """The rows as COPY reads them: an empty cell is NULL."""
    for chunk in chunks:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(chunk)
        yield text.getvalue().encode()
