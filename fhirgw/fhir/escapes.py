"""The punctuation of a search value: alternatives between commas, a system before a bar, a backslash to mean neither.

https://hl7.org/fhir/R4/search.html#escaping
"""

from __future__ import annotations

import re

COMMA = re.compile(r"(?<!\\)((?:\\\\)*),")
BAR = re.compile(r"(?<!\\)((?:\\\\)*)\|")
DOLLAR = re.compile(r"(?<!\\)((?:\\\\)*)\$")
ESCAPED = re.compile(r"\\([\\,$|])")
_CUT = "\0"


def alternatives(value: str) -> list[str]:
    """The values between commas, their escapes left in; `a\\,b` is one."""
    if "\\" not in value:
        return value.split(",")
    return COMMA.sub(lambda match: match.group(1) + _CUT, value).split(_CUT)


def parts(value: str) -> list[str]:
    """The parts of a composite between dollars, their escapes left in."""
    return DOLLAR.sub(lambda match: match.group(1) + _CUT, value).split(_CUT)


def at_bars(value: str, most: int) -> list[str]:
    """What stands between bars, unescaped, in at most that many pieces; the last may hold more bars."""
    return [unescape(each) for each in BAR.sub(lambda match: match.group(1) + _CUT, value, count=most - 1).split(_CUT)]


def at_bar(value: str) -> tuple[str, str, str]:
    """The two sides of the first bar, unescaped, and what is between them where there is one."""
    if "\\" not in value:
        return value.partition("|")
    left, bar, right = BAR.sub(lambda match: match.group(1) + _CUT, value, count=1).partition(_CUT)
    return unescape(left), bar, unescape(right)


def escape(value: str) -> str:
    r"""A text as a search value: `a,b` as `a\,b`."""
    return re.sub(r"([\\,$|])", r"\\\1", value)


def unescape(value: str) -> str:
    r"""`a\,b` as `a,b`."""
    return ESCAPED.sub(r"\1", value) if "\\" in value else value
