"""Moments as care providers write them: with an offset, or as the clock on a wall in the United Kingdom showed them.

An hour that does not exist in spring and one that happens twice in autumn are refused, unless they carry an offset
(fhirgw.mapping.localtime). What comes out is always the same text for the same moment, whoever wrote it: digests are
made of it.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from fhirgw.fhir.dates import LONDON
from fhirgw.mapping.localtime import local_codec
from fhirgw.mapping.refusal import Refusal

ZONE = "Europe/London"
WRITTEN = re.compile(r"(20\d\d-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(\.\d{1,9})?(Z|[+-]\d\d:\d\d)?", re.ASCII)
PLAIN = re.compile(r"20\d\d-\d\d-\d\dT\d\d:[0-5]\d(?::[0-5]\d)?Z", re.ASCII)
"""As most systems write them: of such a moment London's clock changes the hour alone."""
LONGEST = timedelta(hours=24)
"""Of a visit, by the clock: living in is a visit a day. On the day the clocks go back that is 25 hours."""
AHEAD = timedelta(minutes=5)
"""How far a care provider's clock may be ahead of ours."""

_local, _ = local_codec("%Y-%m-%d %H:%M:%S", ZONE)


def moment(text: object) -> str:
    """`2026-03-28T07:30:00+00:00`, in London's offset. Raises Refusal, which says the rule and what to do."""
    if not isinstance(text, str):
        raise _unreadable()
    return _moment(text)


@lru_cache(maxsize=1 << 15)
def _moment(text: str) -> str:
    """Kept for a while: a day's visits begin and end at the same few hundred times."""
    if PLAIN.fullmatch(text):
        hour, offset = _hour(text[:13])
        return f"{hour}{text[13:-1] if len(text) > 17 else text[13:16] + ':00'}{offset}"
    found = WRITTEN.fullmatch(text)
    if found is None:
        raise _unreadable()
    day, clock, second, fraction, zone = found.groups()
    written = f"{day} {clock}{second or ':00'}"
    try:
        given = datetime.fromisoformat(f"{written}{zone}").astimezone(LONDON) if zone else None
    except (ValueError, OverflowError):
        raise _unreadable() from None
    if given is None:
        whole = _in_london(written)
        given = datetime.fromisoformat(whole) if fraction else None
        if given is None:
            return whole
    return given.replace(microsecond=int(fraction[1:7].ljust(6, "0")) if fraction else 0).isoformat()


@lru_cache(maxsize=1 << 12)
def _hour(written: str) -> tuple[str, str]:
    """An hour of UTC as London's clock shows it, and how far ahead that is: the clocks change on the hour."""
    try:
        shown = datetime.fromisoformat(f"{written}:00+00:00").astimezone(LONDON).isoformat()
    except ValueError:
        raise _unreadable() from None
    return shown[:13], shown[19:]


def _in_london(written: str) -> str:
    try:
        return _local(written)
    except Refusal as refusal:
        raise _unreadable() if refusal.reason == "datetime" else refusal from None


def instant(text: str) -> datetime:
    """The moment as a datetime with its offset."""
    return datetime.fromisoformat(text)


def by_the_clock(start: datetime, end: datetime) -> timedelta:
    """How long it is from one to the other on a wall in London."""
    return end.astimezone(LONDON).replace(tzinfo=None) - start.astimezone(LONDON).replace(tzinfo=None)


def _unreadable() -> Refusal:
    return Refusal(
        "datetime",
        "a time is a date (from 2000 on) and a time of day that exist, written 2026-03-28T07:30, or +00:00 after it",
        "Write it so; without an offset it is UK time",
    )


def later(text: str, *, minutes: int | None = None, days: int = 1) -> str:
    """So many minutes later, as they pass; or without, the same time by the clock so many days on. Raises Refusal."""
    given = instant(text)
    if minutes is not None:
        return (given.astimezone(UTC) + timedelta(minutes=minutes)).astimezone(LONDON).isoformat()
    return _local((given.replace(tzinfo=None) + timedelta(days=days)).isoformat(" ", "seconds"))
