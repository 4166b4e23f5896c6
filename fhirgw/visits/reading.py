"""One visit as a care provider sends it (a JSON object, or a CSV row that became one), read into what it says.

Everything that is wrong with it is found at once, each with its column, rule and remedy; a visit that is wrong in one
place is refused whole, because half of it would be another visit. Values are never told again.

Long, because what clashes with what within one visit is judged in one place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from hashlib import sha256
from typing import Any, NamedTuple

from fhirgw.fhir.canonical import encode
from fhirgw.mapping.refusal import Refusal
from fhirgw.visits.distance import PLACE, measured
from fhirgw.visits.field import ENTRIES, HOME, Shape, identifier, number, shapes
from fhirgw.visits.merge import Said, Stamp
from fhirgw.visits.moment import AHEAD, LONGEST, by_the_clock, instant, moment
from fhirgw.visits.quick import OWN, VERSIONS, Quick
from fhirgw.visits.rules import Rules
from fhirgw.visits.spelling import respelt

DIGEST = 16
"""Bytes of SHA-256 kept: enough that no two of a care provider's visits are ever the same by accident."""
BRIEF = ("no-reply", "refused-by-person", "entered-in-error")
"""Outcomes of visits that may end at the moment they start: the door stayed shut."""
UNTIMED = datetime(1, 1, 1, tzinfo=UTC)
"""Stands for when an event was recorded where its care provider does not say: until it is known when it arrived."""

__all__ = ["OWN", "Fault", "Reader", "Refused", "Sent", "sent", "untimed"]


class Fault(NamedTuple):
    """What is wrong with a row: `column` as it was sent (`planned.start`), and what a care manager can do."""

    column: str
    reason: str
    rule: str
    remedy: str


class Sent(NamedTuple):
    """A row that says something: `visit` is the care provider's own id; `timed`: whether it says when it was said."""

    visit: str
    said: Said

    @property
    def timed(self) -> bool:
        """Whether the row decides by itself what comes before it and what after."""
        return self.said.stamp.changed != UNTIMED or self.said.stamp.version > 0


class Refused(NamedTuple):
    """A row that is not taken; `visit` if that much can be read."""

    visit: str | None
    faults: tuple[Fault, ...]


class Reader:
    """`reader.read(row, provider, now)`: rows of one gateway, by its rules."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.shapes = shapes(rules)
        self._names = frozenset((*OWN, *self.shapes))
        self._quick = Quick(self.shapes, rules)

    def read(self, row: Any, provider: str, now: datetime) -> Sent | Refused:
        """What the row says, or all that is wrong with it. `provider`: the ODS code of who sends it."""
        quickly = self._quick.read(row, provider, now)
        return sent(*quickly) if quickly else self.slowly(row, provider, now)

    def slowly(self, row: Any, provider: str, now: datetime) -> Sent | Refused:
        """The same, of a row that may be wrong: looked at place by place."""
        row = respelt(row)
        if not isinstance(row, dict):
            return Refused(None, (Fault("", "structure", "a visit is a JSON object", "Send {...}, or a list of them"),))
        faults: list[Fault] = []
        visit = _taken(faults, "visit", identifier, row.get("visit"))
        own = _taken(faults, "version", number(0, VERSIONS), row["version"]) if "version" in row else 0
        changed = _taken(faults, "changed", moment, row["changed"]) if "changed" in row else None
        if row.get("provider", provider) != provider:
            told = "a visit is sent by the care provider who makes it"
            faults.append(Fault("provider", "provider", told, "Leave the column out, or send it with your own token"))
        if not row.keys() <= self._names:
            faults += _unknown("", row, self._names)
        parts = {name: self._part(faults, name, row[name]) for name in self.shapes if name in row}
        if not parts.keys() - {HOME} and not faults:
            told = "a visit says something: who, when it was planned, what was done"
            faults.append(Fault("", "required", told, "Fill in at least one of its columns"))
        if not faults:
            faults += _contradictions(parts, self.rules, changed, now)
        if faults or visit is None:
            return Refused(visit, tuple(faults))
        return sent(visit, own or 0, changed, parts)

    def _part(self, faults: list[Fault], name: str, value: Any) -> Any:
        shape = self.shapes[name]
        if value is None:
            if shape.key is None and name in ("carer", "task"):
                faults.append(Fault(name, "structure", "an entry is not withdrawn by itself", "Send the list without"))
            return None
        if not shape.many:
            return _object(faults, name, value, shape)
        if not isinstance(value, list) or len(value) > ENTRIES:
            faults.append(Fault(name, "structure", f"this is a list of at most {ENTRIES}", "Send it as [...]"))
            return None
        made = [_object(faults, name, each, shape, at) for at, each in enumerate(value)]
        if shape.key and len({each.get(shape.key) for each in made}) < len(made):
            faults.append(Fault(name, "duplicate", f"each has a {shape.key} of its own", "Send each once"))
        return made


def untimed(sent: Sent, arrived: datetime) -> Sent:
    """A row that does not say when it was said was said when it arrived: there is nothing else to go by."""
    stamp = sent.said.stamp._replace(changed=arrived)
    return sent._replace(said=sent.said._replace(stamp=stamp))


def sent(visit: str, version: int, changed: str | None, parts: Mapping[str, Any]) -> Sent:
    """What a sound row says, as it is kept."""
    kept = measured(parts) if HOME in parts else parts
    return Sent(visit, Said(_stamp(version, changed, kept), kept))


def _stamp(version: int, changed: str | None, parts: Mapping[str, Any]) -> Stamp:
    alike = _alike(parts) if parts.get("observations") else parts
    digest = sha256(encode({"version": version, "changed": changed, **alike})).digest()[:DIGEST]
    return Stamp(version, instant(changed).astimezone(UTC) if changed else UNTIMED, digest)


def _alike(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The parts with measured numbers in one spelling: who says 36.50 for 36.5 says nothing new."""
    return {**parts, "observations": [{**each, "value": _spelt(each["value"])} for each in parts["observations"]]}


def _spelt(value: int | Decimal) -> int | Decimal:
    return Decimal(f"{value.normalize():f}") if isinstance(value, Decimal) else value


def _taken(faults: list[Fault], column: str, codec: Any, value: Any) -> Any:
    """The value as it is kept, or None with a fault."""
    try:
        return codec(value)
    except Refusal as refusal:
        faults.append(Fault(column, refusal.reason, refusal.rule, refusal.remedy))
        return None


def _object(faults: list[Fault], part: str, value: Any, shape: Shape, at: int | None = None) -> dict[str, Any]:
    """An object as it is kept, its fields in the order of its shape; the `at`-th of a list. Places are for faults."""
    if not isinstance(value, dict):
        faults.append(Fault(_place(part, at), "structure", "this is a JSON object", "Send it as {...}"))
        return {}
    unknown = [] if value.keys() <= shape.names else list(_unknown(f"{_place(part, at)}.", value, shape.names))
    faults += unknown
    misspelt = {each.column for each in unknown}
    made: dict[str, Any] = {}
    for name, (codec, required) in shape.fields.items():
        given = value.get(name)
        if given is not None:
            try:
                made[name] = codec(given)
            except Refusal as refusal:
                faults.append(Fault(f"{_place(part, at)}.{name}", refusal.reason, refusal.rule, refusal.remedy))
                made[name] = None
        elif required and f"{_place(part, at)}.{name}" not in misspelt:
            faults.append(Fault(f"{_place(part, at)}.{name}", "required", "this cannot be left out", "Fill it in"))
    if not made and not unknown:
        faults.append(Fault(_place(part, at), "required", "there is nothing in it", "Fill it in, or leave it out"))
    return made


def _place(part: str, at: int | None) -> str:
    return part if at is None else f"{part}[{at}]"


def _unknown(before: str, given: Mapping[str, Any], known: Collection[str]) -> Iterator[Fault]:
    """Names that no field has. They are told again only as far as they are like one of ours: they may be anything."""
    strange = 0
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, 1, 0.6)
            strange += not near
            if near:
                yield Fault(before + near[0], "unknown", "a field's name is misspelt", f"Did you mean {near[0]}?")
    if strange:
        told = "no field has this name" if strange == 1 else f"{strange} names are of no field"
        yield Fault(before.rstrip("."), "unknown", told, f"These are known: {', '.join(sorted(known))}")


def _contradictions(parts: Mapping[str, Any], rules: Rules, changed: str | None, now: datetime) -> Iterator[Fault]:
    """What cannot be so: an end before its start, a visit of 25 hours, what has not happened yet."""
    latest = now + AHEAD
    if changed and instant(changed) > latest:
        told = "it was recorded in the future"
        yield Fault("changed", "future", told, "Correct the clock of the system that sends it")
    for list_name, one in (("carers", "carer"), ("tasks", "task")):
        if list_name in parts and one in parts:
            yield Fault(one, "structure", f"a row has {list_name}, or one {one}, not both", f"Put it into {list_name}")
    yield from _period("planned", parts.get("planned") or {})
    brief = (parts.get("outcome") or {}).get("code") in BRIEF
    for place, each in _carers(parts):
        yield from _period(place, each, brief=brief)
        for name in ("start", "end"):
            if name in each and instant(each[name]) > latest:
                told = "an actual time is in the future: it cannot have happened yet"
                yield Fault(f"{place}.{name}", "future", told, "Put it under planned, or correct the date")
        if "end" in each and "start" not in each:
            yield Fault(f"{place}.start", "required", "who left has arrived", "Fill in when the carer arrived")
    claimed = parts.get("claimed") or {}
    if "start" in claimed and instant(claimed["start"]) > latest:
        yield Fault("claimed.start", "future", "nothing is claimed before it is done", "Correct the date")
    yield from _unmade(parts, rules)
    yield from _reasons(parts)
    yield from _places(parts)


def _period(place: str, each: Mapping[str, Any], *, brief: bool = False) -> Iterator[Fault]:
    if "start" not in each or "end" not in each:
        return
    start, end = instant(each["start"]), instant(each["end"])
    if end < start:
        told = "it ends before it starts"
        yield Fault(f"{place}.end", "order", told, "Correct the times; after midnight it is the next day's date")
    elif end == start and not brief:
        told = "it takes no time: it ends at the moment it starts"
        remedy = "Correct the end; if the carer was not let in, say no-reply or refused-by-person as the outcome"
        yield Fault(f"{place}.end", "length", told, "Correct the end" if place == "planned" else remedy)
    elif end - start > LONGEST and by_the_clock(start, end) > LONGEST:
        told = "it takes longer than 24 hours"
        yield Fault(f"{place}.end", "length", told, "Correct the date; care by day and night is one visit a day")


def _unmade(parts: Mapping[str, Any], rules: Rules) -> Iterator[Fault]:
    """Nobody came, and yet a carer did."""
    code = (parts.get("outcome") or {}).get("code")
    if code and rules.outcomes[code].made is False and any("start" in each for _, each in _carers(parts)):
        told = "this outcome says that nobody came, and a carer has an arrival"
        yield Fault("outcome.code", "contradiction", told, "Say no-reply or refused-by-person, or leave the times out")


def _reasons(parts: Mapping[str, Any]) -> Iterator[Fault]:
    single = [("task", parts["task"])] if parts.get("task") else []
    listed = [(f"tasks[{at}]", each) for at, each in enumerate(parts.get("tasks") or ())]
    for place, each in (*single, *listed):
        if each.get("outcome", "completed") != "completed" and "reason" not in each:
            yield Fault(f"{place}.reason", "required", "what was not done has a reason", "Say why, in a few words")


def _places(parts: Mapping[str, Any]) -> Iterator[Fault]:
    """A place is kept as its distance from where the person lives, so both are said, or neither."""
    for at, each in _carers(parts):
        said = [name for name in PLACE if name in each]
        if said and (len(said) < len(PLACE) or HOME not in parts or parts[HOME] is None):
            told = "where a carer was is measured from where the person lives: both have a latitude and a longitude"
            yield Fault(f"{at}.{said[0]}", "required", told, "Send home as well, or the distance in metres instead")


def _carers(parts: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if parts.get("carer"):
        yield "carer", parts["carer"]
    for at, each in enumerate(parts.get("carers") or ()):
        yield f"carers[{at}]", each
