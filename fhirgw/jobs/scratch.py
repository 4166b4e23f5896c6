"""A folder for this process's own drafts, which another process removes when this one has been killed.

It is held by a lock, and no killed process holds one: not a name, nor a process's number, which are others' by then.
https://man7.org/linux/man-pages/man2/flock.2.html
"""

from __future__ import annotations

import fcntl
import os
import shutil
import weakref
from pathlib import Path
from uuid import uuid4

from fhirgw.private import private_folder

LOCK = ".lock"


class Scratch:
    """Folders below `root`, one for each process that needs one; made when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder: Path | None = None

    @property
    def folder(self) -> Path:
        """This process's. Raises OSError."""
        if self._folder is None:
            private_folder(self._root)
            while (held := _held(path := self._root / f"{uuid4().hex}{LOCK}")) is None:
                pass  # somebody who tidies has taken it before it was locked
            self._folder = private_folder(path.with_suffix(""))
            weakref.finalize(self, _gone, held, path)
        return self._folder

    def tidy(self) -> None:
        """Removes what killed processes have left."""
        for path in self._root.glob(f"*{LOCK}") if self._root.is_dir() else ():
            if (held := _held(path)) is not None:
                _gone(held, path)


def _held(path: Path) -> int | None:
    """The lock of a file that is there, if nobody else has it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), path.stat()):
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(handle)
    return None


def _gone(held: int, path: Path) -> None:
    shutil.rmtree(path.with_suffix(""), ignore_errors=True)
    path.unlink(missing_ok=True)
    os.close(held)
