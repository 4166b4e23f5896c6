"""Whether a value follows a pattern: the part of it that is fixed.

https://hl7.org/fhir/R4/elementdefinition-definitions.html#ElementDefinition.pattern_x_
"""

from __future__ import annotations

from typing import Any

from fhirgw.fhir.canonical import encode

LONGEST = 200
"""Characters that are told of what is fixed."""


def matches(value: Any, pattern: Any) -> bool:
    """Whether a value has everything a pattern has; in a list, each of the pattern's in some one of its own."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            name in value and matches(value[name], each) for name, each in pattern.items()
        )
    if isinstance(pattern, list):
        return isinstance(value, list) and all(any(matches(each, wanted) for each in value) for wanted in pattern)
    return bool(value == pattern) and value.__class__ is pattern.__class__


def spelt(wanted: Any) -> str:
    """What a definition asks for, as it may be told: it is nobody's. What is long is cut."""
    text = str(wanted).lower() if isinstance(wanted, bool) else str(wanted)
    if isinstance(wanted, dict | list):
        text = encode({"": wanted})[len(b'{"":') : -1].decode()
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
