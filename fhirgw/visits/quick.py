"""Rows that are right, read quickly: nearly all are. What is wrong with the others is told by fhirgw.visits.reading.

Whether a row is right is asked once for all of it, without noting where it is not: a third of the time. Both ways read
a row alike, or this one does not read it; a test holds them to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import lru_cache
from typing import Any

from fhirgw.mapping.refusal import Refusal
from fhirgw.visits.field import ENTRIES, HOME, Shape, identifier, number
from fhirgw.visits.moment import AHEAD, LONGEST, instant, moment
from fhirgw.visits.rules import Rules

VERSIONS = 2**53
"""What every JSON reader can count to."""
OWN = ("visit", "provider", "version", "changed")
"""What a row says of itself, and not of the visit."""
ONE = {"carer": "carers", "task": "tasks"}
"""An entry that is said by itself, and the list it belongs to."""

RECURRING = ("person", "line", "tasks", "task", "outcome")
"""Parts of texts alone, that are said of visit after visit. (Not of numbers: 1 would be taken for true.)"""
LAYOUTS, REMEMBERED = 1 << 10, 1 << 14
"""Orders of names, and objects, that are kept."""

Make = Callable[[Any], Any]
Step = tuple[str, Make]
Read = tuple[str, int, str | None, dict[str, Any]]
"""The visit, its version, when it was recorded, and its parts."""


class _Otherwise(Exception):
    """The row is not as most are."""


class Quick:
    """`quick.read(row, provider, now)`: what a sound row says, or None for any other."""

    def __init__(self, shapes: Mapping[str, Shape], rules: Rules) -> None:
        own: dict[str, Make] = {"visit": identifier, "provider": str, "version": number(0, VERSIONS), "changed": moment}
        self._steps = _steps(own | {name: _part(name, shape) for name, shape in shapes.items()}, {"visit"})
        self._unmade = {code for code, each in rules.outcomes.items() if each.made is False}

    def read(self, row: Any, provider: str, now: datetime) -> Read | None:
        """The row as it is kept, its parts in the order of the shapes."""
        try:
            return self._read(row, provider, now)
        except (_Otherwise, Refusal):
            return None

    def _read(self, row: Any, provider: str, now: datetime) -> Read:
        if type(row) is not dict or row.get("provider", provider) != provider:
            raise _Otherwise
        parts = {name: make(row[name]) for name, make in self._steps(tuple(row))}
        visit, version, changed = parts.pop("visit"), parts.pop("version", 0), parts.pop("changed", None)
        parts.pop("provider", None)
        if not parts or HOME in parts or (changed and instant(changed) > now + AHEAD):
            raise _Otherwise
        if not self._possible(parts, now + AHEAD):
            raise _Otherwise
        return visit, version, changed, parts

    def _possible(self, parts: Mapping[str, Any], latest: datetime) -> bool:
        """Whether nothing in it cannot be so."""
        if not ONE.keys().isdisjoint(parts) and any(one in parts and many in parts for one, many in ONE.items()):
            return False
        planned, claimed = parts.get("planned"), parts.get("claimed")
        if planned and not _in_order(instant(planned["start"]), instant(planned["end"])):
            return False
        if claimed and instant(claimed["start"]) > latest:
            return False
        begun = False
        for each in _entries(parts, "carer"):
            if not _was(each, latest):
                return False
            begun = begun or "start" in each
        if begun and (outcome := parts.get("outcome")) and outcome["code"] in self._unmade:
            return False
        return all(
            each.get("outcome", "completed") == "completed" or "reason" in each for each in _entries(parts, "task")
        )


def _entries(parts: Mapping[str, Any], one: str) -> Iterator[Any]:
    if parts.get(one):
        yield parts[one]
    yield from parts.get(ONE[one]) or ()


def _was(carer: Mapping[str, Any], latest: datetime) -> bool:
    """Whether a carer's times can have been, and nothing is to be measured."""
    if "latitude" in carer or "longitude" in carer:
        return False
    start = instant(carer["start"]) if "start" in carer else None
    if "end" not in carer:
        return start is None or start <= latest
    end = instant(carer["end"])
    return start is not None and end <= latest and _in_order(start, end)


def _in_order(start: datetime, end: datetime) -> bool:
    """Whether it takes its time, and not too much: on the days of 25 hours, and of no time, the other way knows."""
    return start < end and end - start <= LONGEST


def _part(name: str, shape: Shape) -> Make:
    """What makes a part: None where it is withdrawn."""
    make = _remembered(_object(shape)) if name in RECURRING else _object(shape)
    if not shape.many:
        return make if name in ONE else lambda value: None if value is None else make(value)

    def listed(value: Any) -> Any:
        if value is None:
            return None
        if type(value) is not list or len(value) > ENTRIES:
            raise _Otherwise
        made = [make(each) for each in value]
        if shape.key and len(made) > 1 and len({each[shape.key] for each in made}) < len(made):
            raise _Otherwise
        return made

    return listed


def _object(shape: Shape) -> Make:
    """What makes an object, its fields in the order of its shape."""
    codecs = {name: field.codec for name, field in shape.fields.items()}
    required = {name for name, field in shape.fields.items() if field.required}
    steps = _steps(codecs, required)

    def make(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise _Otherwise
        made = {name: codec(given) for name, codec in steps(tuple(value)) if (given := value[name]) is not None}
        if not made or (len(made) < len(value) and not made.keys() >= required):
            raise _Otherwise
        return made

    return make


def _remembered(make: Make) -> Make:
    """The same for objects of texts alone: the same person, line and tasks are said of visit after visit."""
    known = lru_cache(maxsize=REMEMBERED)(lambda fields: make(dict(fields)))

    def made(value: Any) -> Any:
        if type(value) is not dict:
            raise _Otherwise
        try:
            return known(tuple(value.items()))
        except TypeError:  # a list or an object where a text belongs
            raise _Otherwise from None

    return made


def _steps(
    codecs: Mapping[str, Make], required: AbstractSet[str] = frozenset()
) -> Callable[[tuple[str, ...]], list[Step]]:
    """By the names of an object, what its values are read by, in order: rows of one system have the same names."""

    @lru_cache(maxsize=LAYOUTS)
    def steps(names: tuple[str, ...]) -> list[Step]:
        if not required <= set(names) <= codecs.keys():
            raise _Otherwise
        return [(name, codec) for name, codec in codecs.items() if name in names]

    return steps
