"""Files of exports in an object store: S3 and what speaks as it does, Azure, Google; a prefix for each job.

By obstore, which is Apache's object_store: https://developmentseed.org/obstore/latest/. It reads who we are, the region
and another endpoint from the environment, by the names that each store's own tools know: `AWS_ACCESS_KEY_ID`,
`AWS_ENDPOINT_URL`, `AZURE_STORAGE_ACCOUNT_KEY`, `GOOGLE_SERVICE_ACCOUNT`, or the workload's own identity.

It tries again what failed on the way for a minute at most, so that a part whose store is away says so while somebody
may still be asking. An upload that was killed leaves pieces that nobody sees, and only a rule of the bucket's own
removes (AbortIncompleteMultipartUpload): k8s/README.md has it.

Long, because a store may refuse, lose or delay each step, and each way is told apart.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import obstore
import structlog
from obstore.exceptions import BaseError

from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.jobs.files import PACKED, Unwritable
from fhirgw.jobs.place import ABSENT, MEDIA, Unkept, taken
from fhirgw.jobs.scratch import Scratch
from fhirgw.private import private_folder

CHUNK, AT_ONCE = 8 << 20, 3
"""Bytes of a piece of an upload, and how many of them are under way: together what an upload takes of memory."""

PIECE = 2 << 20
"""Bytes that are asked for at once: whoever takes them slowly keeps no request to the store waiting."""

LONGEST = timedelta(minutes=5)
"""How long an address that leads to the store itself may be good for."""

RETRIES, PATIENCE = 6, timedelta(seconds=60)
CLIENT = {"connect_timeout": "5s", "timeout": "60s"}
"""Of one request, in which at most a piece goes either way."""

CODE = re.compile(r"<Code>(\w{1,64})</Code>|status code: (\d{3})")
MEANT = {
    "has no room": re.compile(r"status code: 507|StorageFull|QuotaExceeded|NotEnoughSpace|InsufficientStorage"),
    "refuses": re.compile(r"status code: 40[13]"),
}
"""What is said of a store by what it answers: obstore has kinds of errors for some of it, and not for lists."""

OPENED = ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP")

log = structlog.get_logger("fhirgw.jobs")


class ObjectStore:
    """The store of an address such as `s3://bucket/prefix`, with drafts below the folder `scratch`.

    Raises FhirError for one that the environment does not tell enough of. No store is ever printed: it has keys.
    """

    def __init__(
        self,
        url: str,
        scratch: Path,
        *,
        signed: timedelta = timedelta(0),
        retries: int = RETRIES,
        patience: timedelta = PATIENCE,
    ) -> None:
        self.store = _opened(url, {"max_retries": retries, "retry_timeout": patience})
        self.url, self.signed, self.scratch = url.rstrip("/"), min(signed, LONGEST), Scratch(scratch)
        self._left: set[str] = set()

    def of(self, id: str) -> Prefix:
        return Prefix(self, id)

    async def removed(self, paths: Iterable[str]) -> None:
        """Removes objects; those that cannot be now are remembered, as long as this process lives. Raises nothing."""
        self._left.update(paths)
        for path in sorted(self._left):
            try:
                with _told(), suppress(FileNotFoundError):
                    await obstore.delete_async(self.store, path)
            except Unkept as error:
                log.error("object not removed", cause=error.cause, left=len(self._left))
                return
            self._left.discard(path)

    async def tidy(self) -> None:
        """See fhirgw.jobs.place.Places. It takes no longer than a sweep may wait."""
        with suppress(TimeoutError, OSError):
            async with asyncio.timeout(5):
                await asyncio.to_thread(self.scratch.tidy)
                await self.removed(())


def _opened(url: str, retries: Any) -> Any:
    plain = any(os.environ.get(each, "").lower() == "true" for each in OPENED)
    options: Any = CLIENT | {"allow_http": plain}
    try:
        return obstore.store.from_url(url, client_options=options, retry_config=retries)
    except (BaseError, ValueError) as error:
        told = str(error).partition("\n")[0]
        remedy = "Set the variables that the store's own tools know: AWS_…, AZURE_… or GOOGLE_…"
        raise FhirError(Issue("exception", f"FHIRGW_EXPORT_STORE: {told}. {remedy}.")) from None


class Prefix:
    """The objects of one job: `{job}/{name}` below the prefix that all have."""

    def __init__(self, all: ObjectStore, id: str) -> None:
        self._all, self._store, self._id = all, all.store, id

    def __str__(self) -> str:
        return f"{self._all.url}/{self._id}"

    @property
    def drafts(self) -> Path:
        try:
            return self._all.scratch.folder / self._id
        except OSError as error:
            raise Unwritable(Path(self._id), error) from error

    def there(self) -> bool:
        return True

    async def keep(self, name: str) -> None:
        draft = self.drafts / name
        with _told(missing="is not there"):
            await obstore.put_async(
                self._store,
                self._path(name),
                draft,
                attributes=cast("Any", _attributes(name)),
                chunk_size=CHUNK,
                max_concurrency=AT_ONCE,
            )
        draft.unlink(missing_ok=True)

    async def drop(self, name: str) -> None:
        with suppress(OSError, Unwritable):
            (self.drafts / name).unlink(missing_ok=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self.remove([name])

    async def remove(self, names: Iterable[str]) -> None:
        await self._all.removed(self._path(name) for name in names)

    async def names(self) -> list[str]:
        with _told():
            listed = [each["path"] async for batch in obstore.list(self._store, self._id) for each in batch]
        return [path.removeprefix(f"{self._id}/") for path in listed]

    async def clear(self) -> None:
        if paths := [self._path(name) for name in await self.names()]:
            with _told(), suppress(FileNotFoundError):  # somebody else has removed it meanwhile, and removes the rest
                await obstore.delete_async(self._store, paths)

    @asynccontextmanager
    async def local(self, name: str) -> AsyncIterator[Path]:
        await asyncio.to_thread(taken, private_folder, self.drafts)
        with TemporaryDirectory(dir=self.drafts) as folder:
            path, stored = Path(folder) / name, self.file(name)
            with path.open("wb") as file:
                async for piece in stored.pieces(0, await stored.size()):
                    try:
                        await asyncio.to_thread(file.write, piece)
                    except OSError as error:
                        raise Unwritable(path, error) from error
            yield path

    def file(self, name: str) -> StoredObject:
        return StoredObject(self._store, self._path(name), self._all.signed)

    def _path(self, name: str) -> str:
        return f"{self._id}/{name}"


class StoredObject:
    """One of them: see fhirgw.jobs.place.Stored."""

    def __init__(self, store: Any, path: str, lifetime: timedelta) -> None:
        self._store, self._path, self._lifetime = store, path, lifetime

    async def size(self) -> int:
        with _absent(), _told():
            return int((await obstore.head_async(self._store, self._path))["size"])

    async def pieces(self, start: int, end: int) -> AsyncIterator[bytes]:
        for at in range(start, end, PIECE):
            with _absent(), _told():
                piece = await obstore.get_range_async(self._store, self._path, start=at, end=min(at + PIECE, end))
            yield bytes(piece)

    async def signed(self) -> str | None:
        if not self._lifetime:
            return None
        try:
            with _told():
                return str(await obstore.sign_async(self._store, "GET", self._path, self._lifetime))
        except Unkept as error:  # an identity that may read, and not sign: the gateway passes the file on itself
            log.warning("address not signed", cause=error.cause)
            return None


def _attributes(name: str) -> dict[str, str]:
    """What an object is served with. Nobody on the way may unpack it, as Google's store does for who asks otherwise.

    https://cloud.google.com/storage/docs/transcoding
    """
    packed = name.endswith(PACKED)
    media = MEDIA.get(Path(name.removesuffix(PACKED)).suffix, "application/json")
    told = {"Content-Type": media, "Cache-Control": "private, no-store, no-transform"}
    return told | ({"Content-Encoding": "gzip"} if packed else {})


@contextmanager
def _absent() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise FhirError(Issue("not-found", ABSENT)) from None


@contextmanager
def _told(missing: str = "") -> Iterator[None]:
    """Raises Unkept for what a store says, without its words: they may hold keys and addresses.

    FileNotFoundError stays, unless it is told as `missing`.
    """
    try:
        yield
    except FileNotFoundError as error:
        if not missing:
            raise
        raise Unkept(missing, _cause(error)) from None
    except (BaseError, ValueError, OSError) as error:
        words = str(error)
        told = next((told for told, meant in MEANT.items() if meant.search(words)), "does not answer, or not in time")
        raise Unkept(told, _cause(error)) from None


def _cause(error: Exception) -> str:
    """The kind of an error, and the store's code for it."""
    codes = dict.fromkeys(found[0] or found[1] for found in CODE.findall(str(error)))
    return " ".join([type(error).__name__, *codes])
