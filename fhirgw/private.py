"""Files and folders for this account alone: what holds records, keys, or what was wrong with a record."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


def private_folder(folder: Path) -> Path:
    """The folder, made so that only this account may enter it. One that is there already is left as it is."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def privately(path: str, flags: int) -> int:
    """An `opener` for `open`: the file is this account's alone, whoever could read it before."""
    file = os.open(path, flags, 0o600)
    if stat.S_ISREG(os.fstat(file).st_mode):  # a terminal or a pipe is somebody else's to close
        os.fchmod(file, 0o600)
    return file


@contextmanager
def private_text(path: Path) -> Iterator[TextIO]:
    """The file, to be written anew."""
    with open(path, "w", encoding="utf-8", opener=privately) as file:
        yield file
