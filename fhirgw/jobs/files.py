"""Files that appear all together or not at all: written under a hidden name, made durable, then renamed.

`manifest.json` comes last and says what there is: a folder without one holds nothing finished. The folder is the
caller's and may hold anything: no file is removed from it but plain NDJSON files that an export lists as its own.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

import orjson
from isal import igzip, isal_zlib

from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.private import private_folder, privately

MANIFEST = "manifest.json"
UNFINISHED = ".unfinished"
PUBLISHING = ".publishing"
"""Lists what a publication that was killed may have left, in the shape of a manifest."""
DATA = ".ndjson"
PACKED = ".gz"

FASTEST, GZIP, BLOCK = 1, 31, 1 << 18
"""Level 1 of ISA-L packs faster than a disk takes what is not packed; 31 is zlib's word for a gzip header."""


_igzip: Any = igzip  # which has no types of its own


class Unwritable(FhirError):
    """The file system refused; the message names the place and the remedy."""

    def __init__(self, path: Path, error: OSError) -> None:
        remedy = "Make room or choose another folder, then run the same again: nothing half-written was kept"
        super().__init__(Issue("exception", f"{path}: it cannot be written ({error.strerror}). {remedy}."), status=507)


@dataclass(frozen=True, slots=True)
class Written:
    """A finished file: lines, bytes and the SHA-256 of what is in it."""

    name: str
    lines: int
    bytes: int
    sha256: str


class Draft:
    """A file being written: counted and hashed as it goes, because reading it again would cost as much as writing it.

    Both are done in line: on two cores, where the server has one, a thread for them costs more than it saves.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.lines, self.bytes = path, 0, 0
        self._hash = hashlib.sha256()
        try:
            self._file = FileIO(path, "w", opener=privately)
        except OSError as error:
            raise Unwritable(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write(self, data: bytes, lines: int | None = None) -> None:
        """Appends; so many `lines`, if they are not what a line break ends. Raises Unwritable."""
        self._put(data)
        self._hash.update(data)
        self.lines += data.count(b"\n") if lines is None else lines
        self.bytes += len(data)

    def _put(self, data: bytes) -> None:
        """To the file itself."""
        try:
            taken = self._file.write(data)
            while taken < len(data):  # the disk is filling up, or a signal came between
                taken += self._file.write(memoryview(data)[taken:])
        except OSError as error:
            raise Unwritable(self.path, error) from error

    def _end(self) -> None:
        """What is still to be written when no more comes."""

    def save(self) -> None:
        """Makes what was written durable; blocks until the disk has it. Raises Unwritable."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise Unwritable(self.path, error) from error

    def finish(self) -> Written:
        """`save`, and no more to come. Raises Unwritable."""
        self._end()
        self.save()
        self._file.close()
        return Written(self.path.name, self.lines, self.bytes, self._hash.hexdigest())


class Packed(Draft):
    """A draft that is kept as gzip; its lines, bytes and hash are those of what is unpacked from it.

    It is packed in blocks of one size, whatever sizes it comes in: the same lines are the same file.
    https://www.rfc-editor.org/rfc/rfc1952
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._packer = isal_zlib.compressobj(level=FASTEST, wbits=GZIP)
        self._waiting = bytearray()

    def _put(self, data: bytes) -> None:
        self._waiting += data
        while len(self._waiting) >= BLOCK:
            with memoryview(self._waiting) as waiting, waiting[:BLOCK] as block:
                packed = self._packer.compress(block)
            super()._put(packed)
            del self._waiting[:BLOCK]

    def _end(self) -> None:
        super()._put(self._packer.compress(self._waiting) + self._packer.flush())


def unpacked(path: Path) -> IO[bytes]:
    """A file's lines, whichever way it is kept."""
    return cast("IO[bytes]", _igzip.open(path, "rb")) if path.suffix == PACKED else path.open("rb")


def draft(path: Path) -> Draft:
    """A draft of the form that its name says."""
    return Packed(path) if path.suffix == PACKED else Draft(path)


class Publication:
    """What is going to be in a folder; `drafts` is where to write it meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.drafts = folder, folder / UNFINISHED
        for path in (folder / MANIFEST, folder / PUBLISHING, *folder.glob(f"*{DATA}")):
            # What cannot be replaced is told now: a whole export would be copied before the renaming shows it.
            if path.is_dir() and not path.is_symlink():
                raise Unwritable(path, IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)))

    def publish(self, names: list[str], manifest: dict[str, Any]) -> None:
        """Puts the drafts of those names in place of what an earlier manifest listed, and the manifest last."""
        old, journal = self.folder / MANIFEST, self.folder / PUBLISHING
        outdated = _listed(old) | _listed(journal)
        self._put(PUBLISHING, {"output": [{"url": name} for name in sorted(outdated | set(names))]})
        durable(self.folder)
        old.unlink(missing_ok=True)
        for name in names:
            (self.drafts / name).replace(self.folder / name)
        for name in outdated - set(names):
            (self.folder / name).unlink(missing_ok=True)
        self._put(MANIFEST, manifest)
        durable(self.folder)
        journal.unlink()

    def _put(self, name: str, document: dict[str, Any]) -> None:
        """Writes a JSON file, whole or not at all."""
        with Draft(self.drafts / name) as draft:
            draft.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            draft.finish()
        (self.drafts / name).replace(self.folder / name)


@contextmanager
def publication(folder: Path) -> Iterator[Publication]:
    """The folder, held against a second writer; what is not published by the end is removed."""
    try:
        private_folder(folder)
        with _lock(folder / ".lock") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FhirError(
                    Issue("conflict", f"{folder}: another export is being written here. Wait, or choose another.")
                ) from None
            made = Publication(folder)
            shutil.rmtree(made.drafts, ignore_errors=True)  # of a process that was killed
            private_folder(made.drafts)
            try:
                yield made
            finally:
                shutil.rmtree(made.drafts, ignore_errors=True)
    except OSError as error:
        raise Unwritable(folder, error) from error


def _lock(path: Path) -> IO[bytes]:
    """The file to lock: never another one behind a link, and what is in it stays."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b")


def _listed(manifest: Path) -> set[str]:
    """The data files a manifest lists beside itself; none where it is missing, or is not one of ours."""
    try:
        document = orjson.loads(manifest.read_bytes())
        urls = {each["url"] for each in [*document["output"], *document.get("deleted", ())]}
        plain = {url for url in urls if url.endswith(DATA) and url == Path(url).name and "\0" not in url}
        return {url for url in plain if len(url.encode()) < 256}
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return set()


def durable(folder: Path) -> None:
    """A rename is durable when its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
