"""One spelling of names: camelCase, as FHIR has them. What comes in may be spelt with underscores as well.

The columns of the ledger's CSV keep the names that they have always had, which finance systems read.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

AFTER = re.compile(r"(?<=[a-z0-9])_([a-z])")


def camel(name: str) -> str:
    """`planned_minutes` as `plannedMinutes`."""
    return AFTER.sub(lambda found: found[1].upper(), name)


OURS = lru_cache(maxsize=1024)(camel)
"""The same of our own names, of which there are few."""


def spelt(document: Any) -> Any:
    """A document of ours with its names in camelCase, at every depth."""
    if isinstance(document, dict):
        return {OURS(name): spelt(value) for name, value in document.items()}
    return [spelt(each) for each in document] if isinstance(document, list | tuple) else document


def respelt(row: Any) -> Any:
    """What somebody sent, likewise; a name that is there in both spellings is left as it is, for nobody to know."""
    if isinstance(row, dict):
        return {name if camel(name) in row else camel(name): respelt(value) for name, value in row.items()}
    return [respelt(each) for each in row] if isinstance(row, list) else row
