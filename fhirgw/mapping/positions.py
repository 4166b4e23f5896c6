"""YAML with its line numbers: plain data, and where each part of it stands.

A date, a yes or a 010 in YAML means what it says as text: declarations hold codes, and codes are text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Location = tuple[str | int, ...]


class Positioned:
    """A YAML file as data; `line(location)` tells where a key or item stands (1 = first line)."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: dict[Location, int] = {(): 1}
        self.repeated: list[tuple[int, str]] = []
        node = yaml.compose(file.read_text(encoding="utf-8"), Loader=_Loader)
        self.data: Any = {} if node is None else self._plain(node, ())

    def line(self, location: Location) -> int:
        """The line of the deepest part of the location that is known."""
        while location not in self.lines:
            location = location[:-1]
        return self.lines[location]

    def _plain(self, node: yaml.Node, location: Location) -> Any:
        self.lines.setdefault(location, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            made = {}
            for key, value in node.value:
                if key.value in made:
                    self.repeated.append((key.start_mark.line + 1, key.value))
                self.lines[(*location, key.value)] = key.start_mark.line + 1
                made[key.value] = self._plain(value, (*location, key.value))
            return made
        if isinstance(node, yaml.SequenceNode):
            return [self._plain(value, (*location, at)) for at, value in enumerate(node.value)]
        return _scalar(node)


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS = {"true": True, "false": False, "null": None}


def _scalar(node: yaml.Node) -> Any:
    if not getattr(node, "style", None):
        if node.value in _WORDS:
            return _WORDS[node.value]
        if node.value.isdecimal() and str(int(node.value)) == node.value:
            return int(node.value)
    return node.value
