"""JSON text with line breaks and indents, for people to read: every string and number stays as it is spelt.

https://hl7.org/fhir/R4/http.html#parameters
"""

from __future__ import annotations

import re

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
LONGEST = 512 * 1024
"""Bytes that are laid out; what is longer goes out as it is, for nobody reads it, and others wait meanwhile."""


def pretty(text: bytes) -> bytes:
    """The JSON text laid out, two spaces a level. Longer than LONGEST it comes back unchanged."""
    if len(text) > LONGEST:
        return text
    found: list[str] = []
    depth, last = 0, ""
    for token in TOKEN.findall(text.decode()):
        if token in "}]":
            depth -= 1
            if last not in "{[":
                found.append(_line(depth))
        elif last and last in "{[,":
            found.append(_line(depth))
        found.append(": " if token == ":" else token)
        depth += token in "{["
        last = token
    return "".join(found).encode() + b"\n"


def _line(depth: int) -> str:
    return "\n" + "  " * depth
