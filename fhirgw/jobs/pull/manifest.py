"""The manifest another server answers with: believed where it is as the specification says, and refused where not.

https://hl7.org/fhir/uv/bulkdata/export.html#bulk-data-output-manifest
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fhirgw.jobs.pull.address import Reach
from fhirgw.jobs.pull.trouble import Ended
from fhirgw.store.pulls import PulledFile

KINDS = ("output", "deleted", "error")
MOST = 100_000
"""Files of one export."""

TYPE = re.compile(r"[A-Z][A-Za-z]{0,63}", re.ASCII)
"""It becomes part of a file's name."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an export is: as of `time`, these files, which need a `token` or not; and where more of it is listed."""

    time: str
    token: bool
    files: list[PulledFile]
    next: str | None


def read(document: Any, reach: Reach, first: int = 1) -> Manifest:
    """The manifest of a JSON document, its files numbered from `first`. Raises Ended."""
    _check(isinstance(document, dict), "it is no object")
    time, token = document.get("transactionTime"), document.get("requiresAccessToken")
    _check(_instant(time), "its transactionTime is no instant with a zone")
    _check(isinstance(token, bool), "its requiresAccessToken is neither true nor false")
    _check(isinstance(document.get("output"), list), "it has no output")
    files: list[PulledFile] = []
    for kind in KINDS:
        listed = document.get(kind) or []
        _check(isinstance(listed, list) and len(files) + len(listed) <= MOST, f"its {kind} is no list of files")
        numbered = enumerate(listed, first + len(files))
        files += [_file(kind, each, number, token, reach) for number, each in numbered]
    return Manifest(time, token, files, _next(document.get("link") or [], reach))


def _file(kind: str, given: Any, number: int, token: bool, reach: Reach) -> PulledFile:
    _check(isinstance(given, dict) and isinstance(given.get("url"), str), f"an entry of its {kind} has no url")
    type, count = given.get("type") or {"deleted": "Bundle", "error": "OperationOutcome"}.get(kind), given.get("count")
    _check(isinstance(type, str) and TYPE.fullmatch(type), f"an entry of its {kind} has no type")
    counted = isinstance(count, int) and not isinstance(count, bool) and count >= 0
    _check(count is None or counted, f"an entry of its {kind} has a count that is none")
    url = reach.checked(given["url"], f"file {number}")
    if token and not reach.own(url):
        told = f"File {number} needs a token and is at another origin than the base: no token is sent there"
        raise Ended("security", told)
    return PulledFile(number, kind, str(type), url, count)


def _next(links: Any, reach: Reach) -> str | None:
    _check(isinstance(links, list), "its link is no list")
    for each in links:
        if isinstance(each, dict) and each.get("relation") == "next" and isinstance(each.get("url"), str):
            return reach.checked(each["url"], "next manifest")
    return None


def _instant(text: object) -> bool:
    try:
        return isinstance(text, str) and len(text) < 64 and datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _check(holds: object, otherwise: str) -> None:
    if not holds:
        raise Ended("structure", f"The manifest cannot be used: {otherwise}")
