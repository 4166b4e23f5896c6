"""What is known of one visit, joined of everything that was ever said of it, in whatever order it arrived.

A visit is several facts: what was planned, what each carer did, what is claimed, its tasks … Each is a register of its
own, and holds what was said of it last: by the care provider's own version of the visit, then by when its system
recorded it, then, so that there is always an answer, by digest. Joining takes the greater stamp of each register. That
is commutative, associative and idempotent (a join-semilattice, a "last writer wins" map), so what is known depends on
what was said, and not on how often or in which order: late, repeated, corrected and offline all come out alike.

A list (`carers`, `tasks`) may also be said entry by entry (`carer`, `task`): two carers' phones come online in any
order. An entry holds where it is newer than the list that stands under it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

Value = Any
"""A part's JSON: an object, a list of objects, a text; None where it was withdrawn."""

ENTRIES = {"carer": ("carers", "carer"), "task": ("tasks", "task")}
"""A single entry, as it is said: the list it belongs to, and what of it tells entries apart."""


class Stamp(NamedTuple):
    """What decides: compared in this order. `version` is 0 where the care provider gives none."""

    version: int
    changed: datetime
    digest: bytes


class Said(NamedTuple):
    """One event: what a care provider said of a visit. A part that is not named is left as it was."""

    stamp: Stamp
    parts: Mapping[str, Value]


class Register(NamedTuple):
    """A part as it was said last."""

    stamp: Stamp
    value: Value


Known = Mapping[str, Register]
"""By part; of an entry `carers/<its key>`."""

NOTHING: Known = {}


def join(known: Known, said: Said) -> Known:
    """What is known when this was said too: the same object where it adds nothing."""
    if not known and said.parts:  # the usual: it is said once
        return {_place(name, value): Register(said.stamp, value) for name, value in said.parts.items()}
    found = dict(known)
    for name, value in said.parts.items():
        place = _place(name, value)
        held = found.get(place)
        if held is None or held.stamp < said.stamp:
            found[place] = Register(said.stamp, value)
    found = {place: each for place, each in found.items() if not _buried(place, each, found)}
    return known if found == known else found


def fold(events: Iterable[Said]) -> Known:
    """What is known of a visit by all of these."""
    known = NOTHING
    for each in events:
        known = join(known, each)
    return known


def top(known: Known) -> Stamp:
    """The greatest stamp there is; nothing has none."""
    stamps = [each.stamp for each in known.values()]
    return stamps[0] if stamps.count(stamps[0]) == len(stamps) else max(stamps)


def parts(known: Known) -> dict[str, Value]:
    """The facts as they are now, without those that were withdrawn; entries stand in their lists."""
    if "/" not in "".join(known):
        return {place: value for place in sorted(known) if (value := known[place].value) is not None}
    found: dict[str, Value] = {}
    for place in sorted(known):
        list_name, _, key = place.partition("/")
        value = known[place].value
        if not key:
            if value is not None:
                found[list_name] = value
        else:
            named = next(each for of, each in ENTRIES.values() if of == list_name)
            found[list_name] = _entered(found.get(list_name, []), named, key, value)
    return found


def _place(name: str, value: Value) -> str:
    if name not in ENTRIES:
        return name
    list_name, key = ENTRIES[name]
    return f"{list_name}/{value[key]}"


def _buried(place: str, held: Register, known: Known) -> bool:
    """Whether an entry is older than its list: the list was said with or without it. A list buries for ever."""
    list_name, _, key = place.partition("/")
    return bool(key) and list_name in known and held.stamp <= known[list_name].stamp


def _entered(entries: list[Value], named: str, key: str, value: Value) -> list[Value]:
    """The list with the entry in the place of the one it follows, or at the end."""
    if any(each[named] == key for each in entries):
        return [value if each[named] == key else each for each in entries]
    return [*entries, value]
