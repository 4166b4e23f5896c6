"""Where two things that were said of a visit cannot both be so, although neither is the newer.

What is said of different parts goes together, whenever it was said. Of the same part it is one or the other; so are a
carer's arrival and an outcome by which nobody came. Numbers are compared by their worth: 36.50 is 36.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fhirgw.visits.merge import ENTRIES, NOBODY_CAME

Parts = Mapping[str, Any]


def contradiction(one: Parts, other: Parts) -> str | None:
    """The column of `one` (`planned.start`) that says otherwise than the other; None where both may be so."""
    return next(_contradictions(one, other), None)


def _contradictions(one: Parts, other: Parts) -> Iterator[str]:
    for name in one.keys() & other.keys():
        if name in ENTRIES:
            named = ENTRIES[name][1]
            if one[name][named] == other[name][named] and one[name] != other[name]:
                yield name
        elif one[name] != other[name]:
            yield _column(name, one[name], other[name])
    yield from (name for name in ENTRIES if _unlisted(one, other, name))
    yield from (ENTRIES[name][0] for name in ENTRIES if _unlisted(other, one, name))
    if _nobody(one) and _came(other):
        yield "outcome.code"
    if _came(one) and _nobody(other):
        yield "carer" if "carer" in one else "carers"


def _column(name: str, one: Any, other: Any) -> str:
    """The part, or the one field of it that differs first."""
    if not isinstance(one, dict) or not isinstance(other, dict):
        return name
    fields = [each for each in (*one, *other) if one.get(each) != other.get(each)]
    return f"{name}.{fields[0]}"


def _unlisted(one: Parts, other: Parts, name: str) -> bool:
    """Whether an entry that is said by itself is not as the other's list has it."""
    listed = ENTRIES[name][0]
    return name in one and listed in other and one[name] not in (other[listed] or ())


def _nobody(parts: Parts) -> bool:
    return (parts.get("outcome") or {}).get("code") in NOBODY_CAME


def _came(parts: Parts) -> bool:
    carers = (*(parts.get("carers") or ()), *filter(None, (parts.get("carer"),)))
    return any("start" in each for each in carers)
