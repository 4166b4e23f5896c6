"""How well visits are sent: what is told late, incompletely, differently later, of nobody; and what to do first.

    score = 100 × (1 − Σ weight × share / Σ weight), rounded; None where nothing was sent

Weights, words and what a visit is incomplete without are data: mappings/homecare/quality.yaml. It is about telling, not
about caring: a visit that was missed and told so at once counts as well as one that was made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

from fhirgw.visits.merge import ENTRIES
from fhirgw.visits.moment import instant
from fhirgw.visits.reading import Fault
from fhirgw.visits.rules import Rules

FILE = "homecare/quality.yaml"
MEASURES = ("late", "incomplete", "corrected", "manual", "unallocated", "refused")
TOLD = ("carers", "carer", "outcome")
"""Parts that tell what came of a visit."""
WEAK = 1
"""The strength of somebody's word."""

Became = Literal["made", "unmade", "silent"]
Parts = Mapping[str, Any]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Needed(_Strict):
    """A field without which a visit is incomplete, what is wrong without it, and what to do."""

    field: str
    rule: str
    remedy: str


class Measure(_Strict):
    """`of`: what it is a share of, in words; `next`: what to do about it."""

    weight: PositiveInt
    of: str
    title: str
    next: str


class Standard(_Strict):
    """What is asked of care providers. `late_after`: minutes after a visit's end."""

    late_after: PositiveInt
    complete: dict[Became, tuple[Needed, ...]]
    measures: dict[str, Measure]

    @model_validator(mode="after")
    def _whole(self) -> Standard:
        if set(self.measures) != set(MEASURES):
            raise ValueError(f"measures: there are {', '.join(MEASURES)}, each of them once")
        if set(self.complete) != {"made", "unmade", "silent"}:
            raise ValueError("complete: there are made, unmade, silent, each of them once")
        return self


class Sent(NamedTuple):
    """A visit as far as it was sent: its parts now, all that was said in the order of its stamps, and when.

    `told`: when it was first said what came of it; `allocated`: whether it is in somebody's record.
    """

    parts: Parts
    events: Sequence[Parts]
    told: datetime | None
    allocated: bool


class Measured(NamedTuple):
    """`weight` is how much of the score it costs, in points; `share` 0 to 1, of `of` visits or rows."""

    name: str
    found: int
    of: int
    points: float

    @property
    def share(self) -> float:
        """How many of all."""
        return self.found / self.of if self.of else 0.0


class Quality(NamedTuple):
    """`score` 0 to 100; `measures` with what costs most first; `fields` and `reasons` by how often, most first.

    `delay`: minutes from a visit's end until it was told, of half of the visits less.
    """

    score: int | None
    visits: int
    measures: tuple[Measured, ...]
    fields: tuple[tuple[str, int], ...]
    reasons: tuple[tuple[str, int], ...]
    delay: int | None


def standard(folder: Path) -> Standard:
    """The standard in the folder of mappings. Raises ValueError (of pydantic) for what is none."""
    return Standard.model_validate(yaml.safe_load((folder / FILE).read_text()))


def quality(
    visits: Iterable[Sent], rows: int, reasons: Counter[str], refused: int, given: Standard, rules: Rules, now: datetime
) -> Quality:
    """How well visits were sent; `rows` that were sent meanwhile, `refused` of them, for which `reasons`."""
    found: Counter[str] = Counter()
    fields: Counter[str] = Counter()
    delays: list[float] = []
    for each in visits:
        state = became(each.parts, rules, now)
        lacking = [fault.column for fault in missing(each.parts, given, rules, now)]
        fields.update(lacking)
        late = _delay(each) if state else None
        delays += [late] if late is not None else []
        found.update(
            visits=1,
            over=state is not None,
            made=state == "made",
            late=late is not None and late > given.late_after,
            incomplete=bool(lacking),
            corrected=corrected(each),
            manual=state == "made" and _weak(each.parts, rules),
            unallocated=not each.allocated,
        )
    found.update(rows=rows, refused=refused)
    of = {"late": "over", "incomplete": "over", "manual": "made", "refused": "rows"}
    whole = sum(each.weight for each in given.measures.values())
    measures = []
    for name, each_measure in given.measures.items():
        measured = Measured(name, found[name], found[of.get(name, "visits")], 0.0)
        measures.append(measured._replace(points=100 * each_measure.weight * measured.share / whole))
    measures.sort(key=lambda each: (-each.points, each.name))
    score = round(100 - sum(each.points for each in measures)) if found["visits"] or rows else None
    delay = round(median(delays)) if delays else None
    return Quality(score, found["visits"], tuple(measures), _often(fields), _often(reasons), delay)


def missing(parts: Parts, given: Standard, rules: Rules, now: datetime) -> list[Fault]:
    """What a visit is incomplete without; nothing of one that is not over."""
    state = became(parts, rules, now)
    needed = given.complete[state] if state else ()
    return [Fault(each.field, "incomplete", each.rule, each.remedy) for each in needed if not _has(parts, each.field)]


def became(parts: Parts, rules: Rules, now: datetime) -> Became | None:
    """What is told of a visit: a carer came, nobody came, nothing though it is over; None while it is not over."""
    if any(each.get("start") for each in parts.get("carers") or ()):
        return "made"
    planned, code = parts.get("planned") or {}, (parts.get("outcome") or {}).get("code")
    if code:
        return "made" if rules.outcomes[code].made else "unmade" if rules.outcomes[code].made is False else None
    checkout = timedelta(minutes=rules.tolerance(planned.get("type")).checkout)
    return "silent" if planned and now > instant(planned["end"]) + checkout else None


def corrected(sent: Sent) -> bool:
    """Whether something was said of it, and something else later: what was added to it is no correction."""
    if "amended" in sent.parts:
        return True
    known: dict[tuple[str, ...], Any] = {}
    for event in sent.events:
        facts = dict(_facts(event))
        if any(place in known and known[place] != value for place, value in facts.items()):
            return True
        if any(value is None and any(place[0] == name for place in known) for name, value in event.items()):
            return True
        known |= facts
    return False


def _facts(event: Parts) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What an event says, fact by fact, wherever it says it: an entry alone and one of a list are at one place."""
    for name, value in event.items():
        list_name, key = ENTRIES.get(name, (name, "")) if name in ENTRIES else (name.partition("/")[0], "")
        keyed = key or dict(ENTRIES.values()).get(list_name, "")
        entries = value if isinstance(value, list) else [value] if value is not None else []
        if keyed:
            for each in entries:
                yield from (((list_name, each[keyed], field), worth) for field, worth in each.items())
        elif isinstance(value, dict):
            yield from (((name, field), worth) for field, worth in value.items())
        elif value is not None:
            yield (name,), value


def _has(parts: Parts, path: str) -> bool:
    part, _, field = path.partition(".")
    value = parts.get(part)
    if isinstance(value, list):
        return bool(value) and all(not field or field in each for each in value)
    return value is not None and (not field or field in value)


def _delay(sent: Sent) -> float | None:
    """Minutes from the visit's end until it was first said what came of it."""
    ends = [each[name] for each in sent.parts.get("carers") or () for name in ("end", "start") if name in each]
    planned = sent.parts.get("planned") or {}
    if sent.told is None or not (ends or planned):
        return None
    end = max(map(instant, ends)) if ends else instant(planned["end"])
    return max(0.0, (sent.told - end) / timedelta(minutes=1))


def _weak(parts: Parts, rules: Rules) -> bool:
    """Whether a carer's presence rests on somebody's word; where nothing is said, it is incomplete instead."""
    given = [rules.verification[each["method"]] for each in parts.get("carers") or () if "method" in each]
    return bool(given) and min(given) <= WEAK


def _often(counts: Counter[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(counts.items(), key=lambda each: (-each[1], each[0])))
