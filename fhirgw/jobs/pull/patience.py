"""How long to wait before asking again: as long as the server says, else longer each time.

https://www.rfc-editor.org/rfc/rfc9110#name-retry-after, https://hl7.org/fhir/uv/bulkdata/export.html#bulk-data-status-request
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST, LONGEST = 1.0, 60.0
"""Seconds: the first wait where the server does not say how long, and the longest."""

SAID = 900.0
"""Seconds a server may have us wait at once: a mistaken date is no reason to sleep until it."""

AGAIN = frozenset({408, 425, 429, 502, 503, 504})
"""Statuses that mean: not now."""


def wait(headers: Mapping[str, str], tries: int) -> float:
    """Seconds to wait after so many tries in a row, 1 the first; what the server says comes first."""
    said = _said(headers.get("retry-after", "").strip())
    if said is not None:
        return min(said, SAID)
    return min(FIRST * float(2 ** min(tries - 1, 16)), LONGEST) * random.uniform(0.75, 1.0)


async def patiently(told: Callable[[str], None], what: str, why: str, seconds: float) -> None:
    """Waits before something is asked for again, and says so: whoever watches wonders otherwise what goes on."""
    told(f"The {what}: {why}; asked again in {seconds:.0f} s")
    await asyncio.sleep(seconds)


def _said(text: str) -> float | None:
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
