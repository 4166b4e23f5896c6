"""Wall clocks and calendars: the fixed-width formats extracts use <-> FHIR's date and dateTime.

A wall-clock time has no offset; it gets the one that was in force there. Twice a year that fails: in spring an hour
does not exist, in autumn an hour happens twice. Both are refused (never guessed), with the remedy.
https://hl7.org/fhir/R4/datatypes.html#dateTime
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from fhirgw.fhir.table import Table
from fhirgw.mapping.refusal import Refusal

WIDTH = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}
ISO_DATE = "%Y-%m-%d"
ISO_LOCAL = "%Y-%m-%d %H:%M:%S"


class Layout:
    """A fixed-width format such as `%d/%m/%Y %H:%M`: where each part stands, and what stands between them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts: dict[str, slice] = {}
        pattern, at = "", 0
        for piece in re.findall(r"%.|[^%]", text):
            if piece[0] == "%":
                if piece[1:] not in WIDTH:
                    raise ValueError(f"format {text}: only %Y %m %d %H %M %S are known, each with all its digits")
                width = WIDTH[piece[1]]
                self.parts[piece[1]] = slice(at, at + width)
                pattern += rf"\d{{{width}}}"
                at += width
            else:
                pattern += re.escape(piece)
                at += 1
        self.match = re.compile(pattern, re.ASCII).fullmatch
        self.shape = re.sub(r"%(.)", lambda part: part[1] * WIDTH[part[1]], text)

    def read(self, text: str, parts: str, separator: str, missing: str = "00") -> str:
        """The named parts joined in ISO order; ValueError where the text does not follow the format."""
        if not self.match(text):
            raise ValueError
        where = self.parts
        return separator.join(text[where[part]] if part in where else missing for part in parts)

    def read_both(self, text: str) -> tuple[str, str]:
        """The day and the time of day, in ISO order; ValueError where the text does not follow the format."""
        if self.text == ISO_LOCAL and self.match(text):
            return text[:10], text[11:]
        return self.read(text, "Ymd", "-"), self.read(text, "HMS", ":")

    def write(self, moment: datetime) -> str:
        """The moment in this format; ValueError where the format would lose something."""
        text = moment.strftime(self.text) if moment.year >= 1000 else self._write_early(moment)
        if any(getattr(moment, name) for part, name in _FINE if part not in self.parts) or moment.microsecond:
            raise ValueError
        return text

    def _write_early(self, moment: datetime) -> str:
        return moment.strftime(self.text.replace("%Y", f"{moment.year:04d}"))


_FINE = (("H", "hour"), ("M", "minute"), ("S", "second"))


def date_codec(text: str) -> tuple[Callable[[str], str], Callable[[str], str]]:
    """Both directions of a date in the format `text`: '31/03/2026' <-> '2026-03-31'."""
    layout = Layout(text)
    if not {"Y", "m", "d"} == set(layout.parts):
        raise ValueError(f"format {text}: a date needs %Y, %m and %d and nothing else")

    def encode(value: str) -> str:
        try:
            return date.fromisoformat(layout.read(value, "Ymd", "-")).isoformat()
        except ValueError:
            raise Refusal(
                "date", f"a date must exist and be written {layout.shape}", "Correct the date at its source"
            ) from None

    def decode(value: str) -> str:
        try:
            return layout.write(datetime.combine(date.fromisoformat(value), time()))
        except ValueError:
            raise Refusal("date", "the source holds whole dates only", "Send year, month and day") from None

    return Table(encode).__getitem__, decode  # the days of a county's records are few


def local_codec(text: str, zone: str) -> tuple[Callable[[str], str], Callable[[str], str]]:
    """Both directions of a wall-clock time: '2025-07-01 10:00:00' <-> '2025-07-01T10:00:00+01:00'."""
    layout = Layout(text)
    if not {"Y", "m", "d", "H", "M"} <= set(layout.parts):
        raise ValueError(f"format {text}: a time of day needs %Y, %m, %d, %H and %M")
    place = ZoneInfo(zone)

    def encode(value: str) -> str:
        try:
            day, clock = layout.read_both(value)
            offset = steady_offset(zone, day)
            if offset is None:
                offset = _offset(datetime.fromisoformat(f"{day}T{clock}"), place)
            elif not (clock < "24" and clock[3] < "6" and clock[6] < "6"):
                raise ValueError
        except Refusal:
            raise
        except ValueError:
            raise Refusal(
                "datetime",
                f"a date and time must exist and be written {layout.shape}",
                "Correct it at its source",
            ) from None
        return f"{day}T{clock}{offset}"

    def decode(value: str) -> str:
        try:
            moment = datetime.fromisoformat(value)
            if moment.tzinfo is None:
                raise ValueError
            local = moment.astimezone(place)
            written = layout.write(local.replace(tzinfo=None))
            _offset(local.replace(tzinfo=None, fold=0), place)
        except Refusal:
            raise
        except ValueError:
            raise Refusal(
                "datetime",
                f"the source holds {layout.shape} only",
                "Send a time with its offset, to that precision",
            ) from None
        return written

    return encode, decode


@lru_cache(maxsize=1 << 14)
def steady_offset(zone: str, day: str) -> str | None:
    """The offset in force all day long ('+01:00'), or None on the two days it changes."""
    place = ZoneInfo(zone)
    first = datetime.fromisoformat(f"{day}T00:00:00")
    start = first.replace(tzinfo=place).utcoffset()
    end = (first + timedelta(days=1)).replace(tzinfo=place).utcoffset()
    return _spell(start) if start == end and start is not None else None


def _offset(moment: datetime, place: ZoneInfo) -> str:
    """The offset of a wall-clock time on a day the clocks change."""
    early = moment.replace(tzinfo=place, fold=0).utcoffset()
    late = moment.replace(tzinfo=place, fold=1).utcoffset()
    if early is None or late is None or early == late:
        return _spell(early or timedelta())
    if early < late:
        raise Refusal(
            "local-time",
            "the clocks went forward over this time: it did not exist",
            "Correct the time, or send it with its offset",
        )
    raise Refusal(
        "local-time",
        "the clocks went back over this time: it happened twice",
        "Send the time with its offset",
    )


def _spell(offset: timedelta) -> str:
    minutes = int(offset.total_seconds()) // 60
    sign = "-" if minutes < 0 else "+"
    return f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
