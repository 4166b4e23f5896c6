"""Rows that are right, read quickly: nearly all are. What is wrong with the others is told by fhirgw.visits.reading.

Whether a row is right is asked once for all of it, without noting where it is not: a third of the time. Both ways read
a row alike, or this one does not read it; a test holds them to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
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

Make = Callable[[Any], Any]
Read = tuple[str, int, str | None, dict[str, Any]]
"""The visit, its version, when it was recorded, and its parts."""


class _Otherwise(Exception):
    """The row is not as most are."""


class Quick:
    """`quick.read(row, provider, now)`: what a sound row says, or None for any other."""

    def __init__(self, shapes: Mapping[str, Shape], rules: Rules) -> None:
        self._makes = {name: _part(name, shape) for name, shape in shapes.items()}
        self._version = number(0, VERSIONS)
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
        parts: dict[str, Any] = {name: make(row[name]) for name, make in self._makes.items() if name in row}
        if len(parts) + sum(name in row for name in OWN) != len(row) or not parts or HOME in parts:
            raise _Otherwise
        changed = moment(row["changed"]) if "changed" in row else None
        version = self._version(row["version"]) if "version" in row else 0
        if (changed and instant(changed) > now + AHEAD) or not self._possible(parts, now + AHEAD):
            raise _Otherwise
        return identifier(row.get("visit")), version, changed, parts

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
    make = _object(shape)
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
    known = {name: (rank, field.codec) for rank, (name, field) in enumerate(shape.fields.items())}
    required = [name for name, field in shape.fields.items() if field.required]

    def make(value: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise _Otherwise
        made: dict[str, Any] = {}
        last, ordered = -1, True
        for name, given in value.items():
            if name not in known:
                raise _Otherwise
            if given is not None:
                rank, codec = known[name]
                ordered, last = ordered and rank > last, rank
                made[name] = codec(given)
        for name in required:
            if name not in made:
                raise _Otherwise
        if not made:
            raise _Otherwise
        return made if ordered else {name: made[name] for name in known if name in made}

    return make
