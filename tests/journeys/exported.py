"""An export as a reader sees it who knows nothing but NDJSON, and resources told apart from when they were stored."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

Resource = dict[str, Any]
STAMP = re.compile(rb'"lastUpdated":"[^"]*"')
"""When a resource was stored: the one thing in it that differs from run to run."""


def files(folder: Path) -> dict[str, list[Resource]]:
    """The resources of a folder by the name of their file, which is their type."""
    return {path.stem: read(path.read_bytes()) for path in sorted(folder.glob("*.ndjson"))}


def read(ndjson: bytes) -> list[Resource]:
    """A resource a line, each line ended; numbers stay as they are written."""
    assert ndjson.endswith(b"\n")
    return [json.loads(line, parse_float=str) for line in ndjson.decode().split("\n")[:-1]]


def lines(folder: Path) -> dict[str, Counter[bytes]]:
    """The lines of each type, without when they were stored."""
    return {path.stem: timeless(path.read_bytes()) for path in folder.glob("*.ndjson")}


def timeless(ndjson: bytes) -> Counter[bytes]:
    """The lines, without when they were stored."""
    return Counter(STAMP.sub(b"", line) for line in ndjson.splitlines())


def contents(folder: Path) -> dict[str, str]:
    """Every file of the folder by its hash; the manifest says when it was written, and is left out."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.ndjson"))}


def identifiers(resource: Resource) -> list[tuple[str, str]]:
    """What a resource is known by; of a QuestionnaireResponse there is one, of all others a list."""
    held = resource.get("identifier", [])
    return [(each.get("system", ""), each["value"]) for each in (held if isinstance(held, list) else [held])]


def references(node: object) -> Iterator[str]:
    """Every literal reference anywhere in a resource."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "reference" and isinstance(value, str):
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for each in node:
            yield from references(each)


def at(node: object, path: str) -> list[Any]:
    """The values at a path of element names; lists are walked through."""
    found = [node]
    for name in path.split("."):
        found = [value for each in found if isinstance(each, dict) and name in each for value in _many(each[name])]
    return found


def _many(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else [value]
