"""Pulls as rows: what was asked of which other server, since when, and the ledger of the files it answered with.

Progress is committed before what it allows: an address before it is asked, an entity tag before bytes are written under
it, a digest after they are durable. So whatever dies, what is left says how to go on (fhirgw.jobs.pull).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from fhirgw.store.database import Connection


@dataclass(frozen=True, slots=True)
class Pull:
    """An export of the server at `base`: `asked` is its kick-off without `_since`, which is `since`.

    `state` is asked, waiting (for `status_url`), fetching (what the manifest lists, which is as of `time`), done, or
    failed (`reason`). `token`: files need one. `since` and `time` are in the server's own spelling. `loaded`: when all
    of it was taken in here; `refused`: how many of its lines and deletions were not, None while nobody has tried.
    """

    id: str
    source: str
    base: str
    asked: str
    place: str
    state: str
    since: str | None
    status_url: str | None
    time: str | None
    reason: str | None
    token: bool | None
    created: datetime
    finished: datetime | None
    loaded: datetime | None
    refused: int | None


@dataclass(frozen=True, slots=True)
class PulledFile:
    """A file of a manifest: `count` lines, if that tells. `etag` is of the bytes that lie in the folder unfinished.

    `packed`: they are gzip. When it is done, it lies at `name`; `bytes`, `lines` and `sha256` are of its NDJSON.
    """

    number: int
    kind: str
    type: str
    url: str
    count: int | None
    state: str = "waiting"
    attempts: int = 0
    packed: bool = False
    bytes: int | None = None
    lines: int | None = None
    etag: str | None = None
    sha256: str | None = None
    name: str | None = None


EVER = datetime(1, 1, 1, tzinfo=UTC)
PULLS = ", ".join(each.name for each in fields(Pull))
FILES = ", ".join(each.name for each in fields(PulledFile))


async def begin(
    connection: Connection, id: str, source: str, base: str, asked: str, since: str | None, to: str
) -> Pull:
    """Writes down what is going to be asked for, before it is."""
    query = (
        "INSERT INTO fhirgw.pull (id, source, base, asked, since, place) VALUES ($1, $2, $3, $4, $5, $6)"
        f" RETURNING {PULLS}"
    )
    return Pull(*await connection.fetchrow(query, id, source, base, asked, since, to))


async def find(connection: Connection, id: str) -> Pull:
    """The pull, as it stands."""
    return Pull(*await connection.fetchrow(f"SELECT {PULLS} FROM fhirgw.pull WHERE id = $1", id))


async def under_way(connection: Connection, source: str) -> Pull | None:
    """The pull of a source that has not ended."""
    query = f"SELECT {PULLS} FROM fhirgw.pull WHERE source = $1 AND finished IS NULL"
    row = await connection.fetchrow(query, source)
    return Pull(*row) if row else None


async def newest(connection: Connection, source: str, base: str, asked: str, *, loaded: bool = False) -> str | None:
    """What the newest finished pull of the same is as of; None where there is none, so that all of it is asked for.

    `loaded`: the newest that was taken in here as well.
    """
    found = await _newest(connection, source, base, asked, loaded)
    return found.time if found else None


async def _newest(connection: Connection, source: str, base: str, asked: str, loaded: bool) -> Pull | None:
    query = (
        f"SELECT {PULLS} FROM fhirgw.pull WHERE source = $1 AND base = $2 AND asked = $3 AND state = 'done'"
        " AND (loaded IS NOT NULL OR NOT $4) ORDER BY created DESC LIMIT 1"
    )
    row = await connection.fetchrow(query, source, base, asked, loaded)
    return Pull(*row) if row else None


async def to_load(
    connection: Connection, source: str, base: str, asked: str, without: Collection[str] = ()
) -> Pull | None:
    """The pull of the same that is to be loaded next: of everything, or of what changed since the newest that was.

    What was pulled before that one says nothing that it does not; what follows on something that was not loaded whole,
    or is one of those `without`, waits for it in vain.
    """
    last = await _newest(connection, source, base, asked, loaded=True)
    query = (
        f"SELECT {PULLS} FROM fhirgw.pull WHERE source = $1 AND base = $2 AND asked = $3 AND state = 'done'"
        " AND refused IS NULL AND created > $4 ORDER BY created, id"
    )
    rows = await connection.fetch(query, source, base, asked, last.created if last else EVER)
    since = (None, last.time) if last else (None,)
    waiting = (Pull(*row) for row in rows)
    return next((each for each in waiting if each.since in since and each.id not in without), None)


async def loaded(connection: Connection, source: str, base: str, asked: str) -> list[Pull]:
    """The pulls of the same whose files no load needs any more: the newest that was loaded whole, and those before."""
    last = await _newest(connection, source, base, asked, loaded=True)
    query = (
        f"SELECT {PULLS} FROM fhirgw.pull WHERE source = $1 AND base = $2 AND asked = $3 AND state = 'done'"
        " AND created <= $4 ORDER BY created, id"
    )
    rows = await connection.fetch(query, source, base, asked, last.created if last else EVER)
    return [Pull(*row) for row in rows]


async def load_ended(connection: Connection, id: str, refused: int, whole: bool) -> None:
    """All of a pull has been tried; `whole`: the next one may be of what has changed since. In the caller's
    transaction, with the last of what was taken in.
    """
    query = "UPDATE fhirgw.pull SET refused = $2, loaded = CASE WHEN $3 THEN clock_timestamp() END WHERE id = $1"
    await connection.execute(query, id, refused, whole)


async def listed(connection: Connection) -> list[Pull]:
    """All of them, the newest first."""
    return [Pull(*row) for row in await connection.fetch(f"SELECT {PULLS} FROM fhirgw.pull ORDER BY created DESC, id")]


async def accepted(connection: Connection, id: str, status_url: str) -> None:
    """The server has taken the request, and says there how far it is."""
    await connection.execute("UPDATE fhirgw.pull SET state = 'waiting', status_url = $2 WHERE id = $1", id, status_url)


async def answered(connection: Connection, id: str, time: str, token: bool, files: Sequence[PulledFile]) -> None:
    """The server has answered with a manifest of these files, all of which are to be fetched."""
    async with connection.transaction():
        await connection.execute("DELETE FROM fhirgw.pull_file WHERE pull = $1", id)
        await connection.executemany(
            "INSERT INTO fhirgw.pull_file (pull, number, kind, type, url, count) VALUES ($1, $2, $3, $4, $5, $6)",
            [(id, each.number, each.kind, each.type, each.url, each.count) for each in files],
        )
        query = "UPDATE fhirgw.pull SET state = 'fetching', time = $2, token = $3 WHERE id = $1"
        await connection.execute(query, id, time, token)


async def files(connection: Connection, id: str) -> list[PulledFile]:
    """The files of a pull, in the manifest's order."""
    query = f"SELECT {FILES} FROM fhirgw.pull_file WHERE pull = $1 ORDER BY number"
    return [PulledFile(*row) for row in await connection.fetch(query, id)]


async def attempt(connection: Connection, id: str, number: int, etag: str | None, packed: bool) -> int:
    """A file is begun, from its first byte; how often it has been."""
    query = (
        "UPDATE fhirgw.pull_file SET attempts = attempts + 1, etag = $3, packed = $4"
        " WHERE pull = $1 AND number = $2 RETURNING attempts"
    )
    return int(await connection.fetchval(query, id, number, etag, packed))


async def fetched(connection: Connection, id: str, number: int, name: str, bytes: int, lines: int, sha256: str) -> None:
    """A file lies in the folder, whole and durable, under that name."""
    await connection.execute(
        "UPDATE fhirgw.pull_file SET state = 'done', name = $3, bytes = $4, lines = $5, sha256 = $6, etag = NULL"
        " WHERE pull = $1 AND number = $2",
        *(id, number, name, bytes, lines, sha256),
    )


async def end(connection: Connection, id: str, state: str, reason: str | None = None) -> None:
    """It is done, or failed. Addresses that may be as good as a password are forgotten."""
    async with connection.transaction():
        await connection.execute(
            "UPDATE fhirgw.pull SET state = $2, reason = $3, finished = clock_timestamp()"
            " WHERE id = $1 AND finished IS NULL",
            *(id, state, reason),
        )
        await connection.execute("UPDATE fhirgw.pull_file SET url = '' WHERE pull = $1", id)


def as_json(pull: Pull) -> dict[str, Any]:
    """A pull as a command prints it."""
    return {each.name: getattr(pull, each.name) for each in fields(pull) if each.name != "status_url"}
