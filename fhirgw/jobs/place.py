"""Where the finished files of a job are: a folder that every process sees, or below a prefix of an object store.

Whatever the place, a file is written to `drafts`, a folder of this machine, and is whole and on the disk before it is
kept: a COPY never waits for a network, and what an upload that fails has to begin again is here. A file is kept once,
under a name that no other is ever kept under (a part's has its token in it), and stays as it is: so what was read of
one piece by piece is of one file, and a worker that was given up for dead writes over nobody's.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.jobs.files import Unwritable, durable
from fhirgw.private import private_folder

ABSENT = "There is no such export"
"""What is said of one that there is not, and of a file of it."""

MEDIA = {".ndjson": "application/fhir+ndjson", ".csv": "text/csv; charset=utf-8; header=present"} | {
    ".parquet": "application/vnd.apache.parquet"
}
"""What files are, by how their names end. https://www.rfc-editor.org/rfc/rfc4180#section-3"""

SCRATCH = "scratch"
"""The folder below that of exports where what is going to an object store is written first."""


class Stored(Protocol):
    """A file in an object store."""

    async def size(self) -> int:
        """Its bytes, as it is kept. Raises FhirError: not-found, or transient if the store does not say."""

    def pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
        """What is in it from byte `start` to before `end`, some at a time. Raises FhirError."""

    async def signed(self) -> str | None:
        """An address that gives it to whoever has it, for minutes; None where none are given out."""


class Place(Protocol):
    """Where the files of a job are. What it cannot do it raises as Unwritable or Unkept, which are FhirErrors."""

    @property
    def drafts(self) -> Path:
        """The folder of this machine to write a file to before it is kept: it may have to be made."""

    def there(self) -> bool:
        """Whether this machine sees it, so far as that can be known without asking anybody."""

    async def keep(self, name: str) -> None:
        """Makes a draft that is on the disk one of the place's files, for good; the draft is gone."""

    async def drop(self, name: str) -> None:
        """Removes a file that nobody is to have, or its draft, so far as that can be done. Raises nothing."""

    async def remove(self, names: Iterable[str]) -> None:
        """Removes files; those that are not there are. What cannot be now is tried again. Raises nothing."""

    async def names(self) -> list[str]:
        """The files that are there, drafts too where they are in the same place."""

    async def clear(self) -> None:
        """Removes all there is."""

    def local(self, name: str) -> AbstractAsyncContextManager[Path]:
        """The file on this machine, to be read."""

    def file(self, name: str) -> Path | Stored:
        """The file, for who serves it."""


class Places(Protocol):
    """Where the files of jobs are that have no folder of their own."""

    def of(self, id: str) -> Place:
        """A job's."""

    async def tidy(self) -> None:
        """Tries again to remove what could not be removed, and what killed processes left here. Raises nothing."""


@dataclass(frozen=True, slots=True)
class File:
    """A finished file of a `media` type: `path` says where it is, on this machine or in an object store; `bytes` and
    `sha256` are of what is in it, which may be `packed` as gzip; `types` are all that it is of.
    """

    path: Path | Stored
    type: str
    bytes: int
    sha256: str
    packed: bool
    media: str
    types: tuple[str, ...] = ()


class Unkept(FhirError):
    """An object store refused, or does not answer; the message is for callers, `cause` for the log: no address."""

    def __init__(self, told: str, cause: str) -> None:
        super().__init__(Issue("transient", f"The object store of exports {told}: its operators have to look at it"))
        self.cause = cause


class Folder:
    """A folder: what is written there is kept as soon as the folder's own entry is."""

    def __init__(self, folder: Path) -> None:
        self.drafts = folder

    def there(self) -> bool:
        return self.drafts.is_dir()

    async def keep(self, name: str) -> None:
        await asyncio.to_thread(taken, durable, self.drafts)

    async def drop(self, name: str) -> None:
        with suppress(OSError):
            (self.drafts / name).unlink()

    async def remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self.drafts / name).unlink(missing_ok=True)

    async def names(self) -> list[str]:
        return await asyncio.to_thread(os.listdir, self.drafts) if self.there() else []

    async def clear(self) -> None:
        await asyncio.to_thread(shutil.rmtree, self.drafts, ignore_errors=True)

    @asynccontextmanager
    async def local(self, name: str) -> AsyncIterator[Path]:
        yield self.drafts / name

    def file(self, name: str) -> Path:
        return self.drafts / name


class Folders:
    """A folder for each job below one."""

    def __init__(self, folder: Path) -> None:
        self.root = folder

    def of(self, id: str) -> Folder:
        return Folder(self.root / id)

    async def tidy(self) -> None:
        return


def places(folder: Path, store: str | None = None, signed: timedelta = timedelta(0)) -> Places:
    """Where files are: below a prefix of an object store (`s3://bucket/prefix`), or in the folder if none is named.

    `signed`: how long addresses are good for that lead to the store itself; 0: none are given out.
    """
    if not store:
        return Folders(folder)
    from fhirgw.jobs.objects import ObjectStore  # a library that who has a folder does not need

    return ObjectStore(store, folder / SCRATCH, signed=signed)


async def ready(place: Place) -> Path:
    """The folder for drafts, made if it is not there. Raises Unwritable."""
    await asyncio.to_thread(taken, private_folder, place.drafts)
    return place.drafts


def taken(work: Callable[[Path], object], folder: Path) -> None:
    """Does what the file system may refuse. Raises Unwritable."""
    try:
        work(folder)
    except OSError as error:
        raise Unwritable(folder, error) from error
