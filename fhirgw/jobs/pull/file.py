"""One file of a pull: fetched from where it broke off, judged as a whole, and only then given its name.

The bytes lie in `.NUMBER.part` as they came, packed or not; the ledger has their entity tag before the first of them is
written. To go on is `Range` with `If-Range`: a file that has changed answers with all of it, and is begun again. Bytes
of two files are never in one. https://www.rfc-editor.org/rfc/rfc9110#name-if-range
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Protocol

import httpx

from fhirgw.jobs.files import PACKED, Unwritable, durable
from fhirgw.jobs.pull.judge import Judged, Spoiled, judge
from fhirgw.jobs.pull.patience import AGAIN, patiently, wait
from fhirgw.jobs.pull.server import REFUSAL, REFUSED, TRIES, Server
from fhirgw.jobs.pull.trouble import Ended, Interrupted
from fhirgw.private import private_folder, privately
from fhirgw.store.pulls import PulledFile

ATTEMPTS = 10
"""How often a file is begun from its first byte: one that is never right is not asked for for ever."""

RESUMED = re.compile(r"bytes (\d+)-\d*/(\d+|\*)")


class Book(Protocol):
    """Where it is written down how far a file is: see fhirgw.store.pulls."""

    async def attempt(self, file: PulledFile, etag: str | None, packed: bool) -> int: ...
    async def fetched(self, file: PulledFile, judged: Judged, name: str) -> None: ...


class Room:
    """What all files together may still take, in bytes; and who is told how much has come."""

    def __init__(self, most: int, told: Callable[[int], None] = lambda size: None) -> None:
        self.most, self.come, self._told = most, 0, told

    def take(self, size: int) -> None:
        """So many bytes more. Raises Ended when it is too much."""
        self.come += size
        self._told(self.come)
        if self.come > self.most:
            raise Ended(
                "too-long", f"The files are longer than {self.most:,} bytes: say --most-gigabytes if that is so"
            )


class Fetch:
    """`await Fetch(server, book, folder, room, file, token).done()`"""

    def __init__(
        self, server: Server, book: Book, folder: Path, room: Room, file: PulledFile, token: bool, gzip: bool = True
    ) -> None:
        self._server, self._book, self._room, self._file = server, book, room, file
        self._folder, self._token, self._gzip = folder, token, gzip
        self._part = folder / part(file.number)
        self._what = f"file {file.number}"

    async def done(self) -> None:
        """Fetches the file and puts it in its place. Raises Interrupted, Ended, Unwritable."""
        try:
            private_folder(self._folder)
            while True:
                if not self._named().exists():
                    await self._whole()
                    await asyncio.to_thread(_save, self._part)
                try:
                    judged = await asyncio.to_thread(judge, self._present(), self._file, self._room.most)
                except Spoiled as spoiled:
                    await self._again(str(spoiled))
                    continue
                await self._finish(judged)
                return
        except (ConnectionError, TimeoutError, socket.gaierror):
            raise  # of the ledger's database
        except OSError as error:
            raise Unwritable(self._folder, error) from error

    async def _whole(self) -> None:
        """Every byte there is, however often the connection breaks; the count begins anew when some have come."""
        tries = 0
        while True:
            before = self._room.come
            try:
                pause, why = await self._some(), "not now"
            except httpx.TransportError as error:
                pause, why = {}, f"it broke off ({type(error).__name__})"
            if pause is None:
                return
            tries = 1 if self._room.come > before else tries + 1
            if tries >= TRIES:
                raise Interrupted("timeout", f"The {self._what} cannot be had: no answer, {TRIES} times in a row")
            await patiently(self._server.told, self._what, why, wait(pause, tries))

    async def _some(self) -> dict[str, str] | None:
        """As much as one answer has: None when that was the last of it, else its headers, to wait by.

        Raises httpx.TransportError where it breaks off.
        """
        have = self._part.stat().st_size if self._file.etag and self._part.exists() else 0
        headers = {"accept": "application/fhir+ndjson", "accept-encoding": "gzip" if self._gzip else "identity"}
        if have:
            headers |= {"range": f"bytes={have}-", "if-range": str(self._file.etag)}
        async with self._server.stream("GET", self._file.url, self._what, headers, token=self._token) as response:
            etag = _strong(response)
            if response.status_code == 206 and have and etag == self._file.etag and _from(response) == have:
                await self._append(response)
                return None
            if response.status_code == 200:
                await self._begin(response, etag)
                return None
            if response.status_code in (206, 416):
                # Not the bytes that were asked for: another file's, or there are no more.
                whole = response.status_code == 416 and response.headers.get("content-range") == f"bytes */{have}"
                if not whole:
                    await self._forget()
                return None if whole else {"retry-after": "0"}
            if response.status_code in AGAIN:
                return dict(response.headers)
            if response.status_code in REFUSED and self._token:
                raise Interrupted("login", f"{REFUSAL.format(self._what)} ({response.status_code})")
            if response.status_code in (401, 403, 404, 410):
                told = "the export has expired. Pull again: it is asked for anew"
                raise Ended("not-found", f"The {self._what} is not to be had ({response.status_code}): {told}")
            raise Interrupted("exception", f"The {self._what} is answered with {response.status_code}")

    async def _begin(self, response: httpx.Response, etag: str | None) -> None:
        """From the first byte; counted before."""
        coding = response.headers.get("content-encoding", "identity").lower()
        if coding not in ("identity", "gzip"):
            raise Ended("not-supported", f"The {self._what} comes in a coding that nobody asked for")
        self._part.unlink(missing_ok=True)  # before the tag of what replaces it is written down
        begun = await self._book.attempt(self._file, etag, coding == "gzip")
        self._file = replace(self._file, etag=etag, packed=coding == "gzip", attempts=begun)
        if begun > ATTEMPTS:
            raise Ended("incomplete", f"The {self._what} was begun {ATTEMPTS} times and is never whole")
        await self._append(response)

    async def _append(self, response: httpx.Response) -> None:
        with FileIO(self._part, "a", opener=privately) as file:
            async for chunk in response.aiter_raw():
                self._room.take(len(chunk))
                written = file.write(chunk)
                while written < len(chunk):  # the disk is filling up
                    written += file.write(memoryview(chunk)[written:])

    async def _again(self, why: str) -> None:
        if self._file.attempts >= ATTEMPTS:
            raise Ended("incomplete", f"The {self._what} is not what the manifest says, {ATTEMPTS} times: {why}")
        await self._forget()

    async def _forget(self) -> None:
        self._file = replace(self._file, etag=None)
        self._part.unlink(missing_ok=True)
        self._named().unlink(missing_ok=True)

    def _named(self) -> Path:
        """Where it will lie."""
        folder = self._folder if self._file.kind == "output" else self._folder / self._file.kind
        return folder / f"{self._file.type}.{self._file.number:06}.ndjson{PACKED if self._file.packed else ''}"

    def _present(self) -> Path:
        """It has its name already where the process was killed between giving it and writing that down."""
        return self._named() if self._named().exists() else self._part

    async def _finish(self, judged: Judged) -> None:
        named = self._named()
        if not named.exists():
            private_folder(named.parent)
            self._part.replace(named)
            await asyncio.to_thread(durable, named.parent)
        await self._book.fetched(self._file, judged, str(named.relative_to(self._folder)))


def part(number: int) -> str:
    """The name of what there is of a file that is not whole."""
    return f".{number}.part"


def _strong(response: httpx.Response) -> str | None:
    """The entity tag, if bytes can be told by it."""
    etag: str | None = response.headers.get("etag")
    return etag if etag and etag.startswith('"') and len(etag) < 512 else None


def _from(response: httpx.Response) -> int | None:
    found = RESUMED.fullmatch(response.headers.get("content-range", ""))
    return int(found[1]) if found else None


def _save(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
