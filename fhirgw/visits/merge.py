"""What is known of one visit, joined of everything that was ever said of it, in whatever order it arrived.

A visit is several facts: what was planned, what each carer did, what is claimed, its tasks … Each is a register of its
own, and holds what was said of it last: by the care provider's own version of the visit, then by when its system
recorded it, then, so that there is always an answer, by digest. Joining takes the greater stamp of each register. That
is commutative, associative and idempotent (a join-semilattice, a "last writer wins" map), so what is known depends on
what was said, and not on how often or in which order: late, repeated, corrected and offline all come out alike.

A list (`carers`, `tasks`) may also be said entry by entry (`carer`, `task`): two carers' phones come online in any
order. An entry holds where it is newer than the list that stands under it.

That nobody came and that a carer arrived cannot both be so: the one that was said last (by the same stamp) overrules
the other, which is kept, and holds again if what overrules it is withdrawn.
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

NOBODY_CAME = frozenset(
    (
        *("missed-by-provider", "cancelled-by-person-notice", "cancelled-by-person-short-notice"),
        *("cancelled-by-provider", "hospital", "respite", "deceased", "not-required"),
    )
)
"""Outcomes by which no carer was there: those of mappings/homecare/rules.yaml with `made: false`."""
OVERRULED = "overruled:"
"""Stands before the place of a register that does not hold, where it is kept: whoever reads parts passes over it."""


def join(known: Known, said: Said) -> Known:
    """What is known when this was said too: the same object where it adds nothing."""
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


def overruled(known: Known) -> frozenset[str]:
    """The places of arrivals, or of the outcome, where one says that nobody came and the other that somebody did."""
    outcome = known.get("outcome")
    if outcome is None or outcome.value is None or outcome.value["code"] not in NOBODY_CAME:
        return NONE
    arrivals = {place: each.stamp for place, each in known.items() if _arrives(place, each.value)}
    if not arrivals or (newest := max(arrivals.values())) == outcome.stamp:
        return NONE
    return frozenset(arrivals) if newest < outcome.stamp else frozenset(("outcome",))


NONE: frozenset[str] = frozenset()


def _arrives(place: str, value: Value) -> bool:
    if place == "carers":
        return any("start" in each for each in value or ())
    return place.startswith("carers/") and "start" in value


def kept(known: Known) -> dict[str, Value]:
    """The values by their places, in one order, as they are kept: what is overruled is marked."""
    beside = overruled(known) if "outcome" in known else NONE
    if not beside:
        return {place: known[place].value for place in sorted(known)}
    named = {f"{OVERRULED}{place}" if place in beside else place: place for place in known}
    return {name: known[named[name]].value for name in sorted(named)}


def parts(known: Known) -> dict[str, Value]:
    """The facts as they are now, without those that were withdrawn or overruled; entries stand in their lists."""
    if "outcome" in known and (beside := overruled(known)):
        known = {place: each for place, each in known.items() if place not in beside}
    return facts({place: each.value for place, each in known.items()})


def spoken(said: Said) -> dict[str, Value]:
    """What is kept of what is said first: nothing is overruled in it."""
    values = {_place(name, value): value for name, value in said.parts.items()}
    return {place: values[place] for place in sorted(values)}


def facts(values: Mapping[str, Value]) -> dict[str, Value]:
    """The facts of values by their places, as they are kept."""
    if "/" not in "".join(values) and OVERRULED not in "".join(values):
        return {place: value for place in sorted(values) if (value := values[place]) is not None}
    found: dict[str, Value] = {}
    for place in sorted(values):
        list_name, _, key = place.partition("/")
        value = values[place]
        if place.startswith(OVERRULED):
            continue
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
