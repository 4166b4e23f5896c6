"""The folder of a pull: its manifest, which comes last; what its error files say; and its end, where it is given up."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson

from fhirgw.jobs.files import MANIFEST, Draft, Unwritable, durable, unpacked
from fhirgw.jobs.pull.file import part
from fhirgw.jobs.pull.manifest import KINDS
from fhirgw.private import private_folder
from fhirgw.store.pulls import Pull, PulledFile

WORD = re.compile(r"[a-z-]{1,40}", re.ASCII)
"""A severity or a code: what else stands there is not repeated."""


def publish(folder: Path, pull: Pull, files: list[PulledFile]) -> None:
    """Writes the manifest, last: a folder with one is whole. In the shape of our own exports' manifests."""
    listed: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    for each in files:
        told = {"type": each.type, "url": each.name, "count": each.lines, "bytes": each.bytes, "sha256": each.sha256}
        listed[each.kind].append(told)
    request = f"{pull.base}/{pull.asked}" + (f"&_since={quote(pull.since, safe='')}" if pull.since else "")
    document = {"transactionTime": pull.time, "request": request, "requiresAccessToken": False, **listed}
    made = folder / f".{MANIFEST}"
    try:
        private_folder(folder)
        with Draft(made) as draft:
            draft.write(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            draft.finish()
        made.replace(folder / MANIFEST)
        durable(folder)
    except OSError as error:
        raise Unwritable(folder, error) from error


def issues(folder: Path, files: list[PulledFile]) -> Counter[tuple[str, str]]:
    """What the server says went wrong, counted: what it says of whom stays in its files."""
    return Counter(
        (severity, code)
        for each in files
        if each.kind == "error"
        for issue in _said(folder / str(each.name))
        if WORD.fullmatch(severity := str(issue.get("severity"))) and WORD.fullmatch(code := str(issue.get("code")))
    )


def _said(path: Path) -> Iterator[dict[str, Any]]:
    with unpacked(path) as lines:
        for line in lines:
            with suppress(ValueError, AttributeError):
                yield from (each for each in orjson.loads(line).get("issue", []) if isinstance(each, dict))


def clear(folder: Path, files: list[PulledFile]) -> None:
    """Removes what there is of the files, and the folders if nothing else is in them."""
    for each in files:
        for name in filter(None, (part(each.number), each.name)):
            (folder / name).unlink(missing_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    for emptied in (*(folder / kind for kind in KINDS), folder):
        with suppress(OSError):  # there is something else in it, or it is not there
            emptied.rmdir()
