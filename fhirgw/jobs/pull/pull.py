"""A pull from beginning to end: kick-off, waiting, manifest, files, and the manifest of what lies in the folder.

Each step is in the ledger (fhirgw.store.pulls) before the next begins, so the same call goes on wherever another one
ended, or died. One at a time for each source. What the newest finished pull was as of is what the next is asked for
since, if it asks for the same; who loads what is pulled asks since the newest that was loaded whole. https://hl7.org/fhir/uv/bulkdata/export.html#bulk-data-export-operation-request-flow

Long, because it is one walk with a place to go on from at each step.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import quote, urlencode
from uuid import uuid4

from fhirgw.fhir.issue import FhirError
from fhirgw.jobs.pull import manifest
from fhirgw.jobs.pull.address import Reach
from fhirgw.jobs.pull.file import Fetch, Room
from fhirgw.jobs.pull.folder import clear, issues, publish
from fhirgw.jobs.pull.judge import Judged
from fhirgw.jobs.pull.patience import wait
from fhirgw.jobs.pull.server import Credentials, Document, Server, reached
from fhirgw.jobs.pull.trouble import Ended, Interrupted
from fhirgw.store import pulls, runs
from fhirgw.store.database import Connection, Engine, direct
from fhirgw.store.pulls import Pull, PulledFile

NDJSON = "application/fhir+ndjson"
LINKS = 1000
"""Manifests that one may be told in."""

KICK_OFF = {"accept": "application/fhir+json", "prefer": "respond-async"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is pulled: of which server, by which name of ours, and how.

    `level` is '', 'Patient' or 'Group/ID'. `full`: not since the last. `load`: since the last that was loaded. `most`
    bytes and `seconds` in one run.
    """

    source: str
    reach: Reach
    level: str = ""
    types: tuple[str, ...] = ()
    filters: tuple[str, ...] = ()
    full: bool = False
    load: bool = False
    restart: bool = False
    gzip: bool = True
    at_once: int = 4
    most: int = 200_000_000_000
    seconds: float = 86_400

    @property
    def kick_off(self) -> str:
        """The request but for its `_since`, below the base."""
        pairs = [("_outputFormat", NDJSON)]
        pairs += [("_type", ",".join(self.types))] if self.types else []
        pairs += [("_typeFilter", each) for each in self.filters]
        path = f"{self.level}/$export" if self.level else "$export"
        return f"{path}?{urlencode(pairs, quote_via=quote, safe=',/')}"


class Telling(Protocol):
    """Who is told how far it is."""

    def waiting(self, told: str) -> None: ...
    def fetching(self, done: int, files: int, size: int) -> None: ...
    def retrying(self, told: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came of it; `issues` counts what the server's error files say, by severity and code."""

    pull: Pull
    files: list[PulledFile]
    issues: Counter[tuple[str, str]]


async def pull(
    engine: Engine,
    credentials: Credentials,
    asked: Asked,
    place: Callable[[str], Path],
    telling: Telling,
    audit: Callable[[Connection], Awaitable[None]],
) -> Pulled:
    """Pulls, or goes on with it. `place` is the folder for an id; `audit` is called in the transaction that ends it.

    Raises Interrupted (nothing is lost), Ended (the next one asks anew), AlreadyRunning, Unwritable.
    """
    async with direct(engine) as holding, runs.alone(holding, asked.source, "pull"):
        found = await _begun(engine, asked, place)
        try:
            async with asyncio.timeout(asked.seconds), reached(asked.reach, credentials, telling.retrying) as server:
                return await _Run(engine, server, asked, found, telling).done(audit)
        except TimeoutError:
            raise Interrupted("timeout", "It takes longer than --hours allows") from None
        except Ended as ended:
            async with direct(engine) as connection:
                await _given_up(connection, found, str(ended))
            raise


async def _begun(engine: Engine, asked: Asked, place: Callable[[str], Path]) -> Pull:
    """The pull that is under way, or another."""
    async with direct(engine) as connection:
        found = await pulls.under_way(connection, asked.source)
        if found and asked.restart:
            await _given_up(connection, found, "Begun again by --restart")
            found = None
        if found is None:
            id, base = uuid4().hex, asked.reach.base
            what = asked.source, base, asked.kick_off
            since = None if asked.full else await pulls.newest(connection, *what, loaded=asked.load)
            return await pulls.begin(connection, id, *what, since, str(place(id)))
    if (found.base, found.asked) != (asked.reach.base, asked.kick_off):
        remedy = "say the same to go on with it, --restart to give it up, or another name"
        raise Interrupted("business-rule", f"A pull of {asked.source} that asks for something else is open: {remedy}")
    return found


async def _given_up(connection: Connection, found: Pull, why: str) -> None:
    """It has failed: what had come of it is nobody's any more, and is not left lying about."""
    folder, files = Path(found.place), await pulls.files(connection, found.id)
    await pulls.end(connection, found.id, "failed", why)
    await asyncio.to_thread(clear, folder, files)


class _Run:
    """One run of a pull."""

    def __init__(self, engine: Engine, server: Server, asked: Asked, found: Pull, telling: Telling) -> None:
        self._engine, self._server, self._asked = engine, server, asked
        self._pull, self._telling, self._folder = found, telling, Path(found.place)

    async def done(self, audit: Callable[[Connection], Awaitable[None]]) -> Pulled:
        if self._pull.state == "asked":
            await self._kick_off()
        if self._pull.state == "waiting":
            await self._wait()
        await self._fetch()
        async with direct(self._engine) as connection:
            files = await pulls.files(connection, self._pull.id)
        await asyncio.to_thread(publish, self._folder, self._pull, files)
        async with direct(self._engine) as connection, connection.transaction():
            await pulls.end(connection, self._pull.id, "done")
            await audit(connection)
        await self._tidy()
        return Pulled(await self._now(), files, await asyncio.to_thread(issues, self._folder, files))

    async def _kick_off(self) -> None:
        since = f"&_since={quote(self._pull.since, safe='')}" if self._pull.since else ""
        url, tries = f"{self._pull.base}/{self._pull.asked}{since}", 0
        while (found := await self._server.ask("GET", url, "kick-off", KICK_OFF)).status == 429:
            tries += 1
            await self._pause("it has enough to do", found, tries)
        if found.status != 202 or "content-location" not in found.headers:
            raise Ended("not-supported", f"The server does not take the export ({found.status})")
        status = self._server.reach.checked(found.headers["content-location"], "status")
        async with direct(self._engine) as connection:
            await pulls.accepted(connection, self._pull.id, status)
        self._pull = await self._now()

    async def _wait(self) -> None:
        found, tries = await self._status(str(self._pull.status_url)), 1
        while found.status in (202, 429):
            progress = found.headers.get("x-progress", "")
            await self._pause(progress if progress.isascii() and progress.isprintable() else "", found, tries)
            found, tries = await self._status(str(self._pull.status_url)), tries + 1
        if found.status != 200:
            told = "the export failed, or has expired. Pull again: it is asked for anew"
            raise Ended("not-found", f"The server's status is {found.status}: {told}")
        listed = manifest.read(found.body, self._server.reach)
        files, token, pages = list(listed.files), listed.token, 1
        while listed.next and pages < LINKS:
            more = await self._status(listed.next)
            listed = manifest.read(more.body, self._server.reach, len(files) + 1)
            files, token, pages = [*files, *listed.files], token or listed.token, pages + 1
        async with direct(self._engine) as connection:
            await pulls.answered(connection, self._pull.id, listed.time, token, files)
        self._pull = await self._now()

    async def _status(self, url: str) -> Document:
        return await self._server.ask("GET", url, "status", {"accept": "application/json"})

    async def _pause(self, told: str, found: Document, tries: int) -> None:
        seconds = wait(found.headers, tries)
        self._telling.waiting(f"{told[:100]}, asked again in {seconds:.0f} s".removeprefix(", "))
        await asyncio.sleep(seconds)

    async def _fetch(self) -> None:
        """The files that are not there, so many at once."""
        async with direct(self._engine) as connection:
            files = await pulls.files(connection, self._pull.id)
        left = [each for each in map(self._seen, files) if each.state == "waiting"]
        ready = len(files) - len(left)

        def told(size: int) -> None:
            self._telling.fetching(ready, len(files), size)

        room, waiting = Room(self._asked.most, told), iter(left)
        told(0)

        async def work() -> None:
            nonlocal ready
            for each in waiting:
                token = bool(self._pull.token)
                await Fetch(self._server, self, self._folder, room, each, token, self._asked.gzip).done()
                ready += 1
                told(room.come)

        working = [asyncio.create_task(work()) for _ in range(min(self._asked.at_once, len(left)))]
        try:
            await asyncio.gather(*working)
        finally:
            for each in working:
                each.cancel()
            await asyncio.gather(*working, return_exceptions=True)

    def _seen(self, file: PulledFile) -> PulledFile:
        """The file as the folder has it: what somebody has taken from there is fetched again."""
        if file.state == "done" and not (self._folder / str(file.name)).is_file():
            return replace(file, state="waiting")
        return file

    async def attempt(self, file: PulledFile, etag: str | None, packed: bool) -> int:
        """See Book."""
        async with direct(self._engine) as connection:
            return await pulls.attempt(connection, self._pull.id, file.number, etag, packed)

    async def fetched(self, file: PulledFile, judged: Judged, name: str) -> None:
        """See Book."""
        came = judged.bytes, judged.lines, judged.sha256
        async with direct(self._engine) as connection:
            await pulls.fetched(connection, self._pull.id, file.number, name, *came)

    async def _tidy(self) -> None:
        """Tells the server that its files are not needed any more. If it does not hear, they expire."""
        with suppress(FhirError):
            await self._server.ask("DELETE", str(self._pull.status_url), "status", {"accept": "application/json"})

    async def _now(self) -> Pull:
        async with direct(self._engine) as connection:
            return await pulls.find(connection, self._pull.id)
