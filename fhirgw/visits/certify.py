"""Whether a care provider's system sends what it is to send: sample cases, which of them arrived right, what to mend.

Cases are data (mappings/homecare/certification), told apart by when they are planned, so that a system sends them under
ids of its own. Each expectation that is not met is said in words, with its remedy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

from fhirgw.visits.moment import instant, moment
from fhirgw.visits.outcome import Came, came
from fhirgw.visits.quality import Sent, corrected
from fhirgw.visits.rules import Rules

FOLDER = "homecare/certification"
HOUR = timedelta(hours=1)
"""What a time is off by that was written in UTC as if it were the clock's in summer, or the other way round."""
State = Literal["right", "wrong", "missing"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Expected(_Strict):
    """What is looked for in a visit; what is None or empty is not."""

    outcome: str | None = None
    exceptions: tuple[str, ...] = ()
    carers: int | None = None
    minutes: int | None = None
    has: tuple[str, ...] = ()
    equals: Mapping[str, Any] = {}
    said: PositiveInt | None = None
    corrected: bool = False
    repeated: bool = False
    out_of_order: bool = False
    refused: str | None = None


class Case(_Strict):
    """A sample: `at` is when it is planned, None where it is to be refused; `send` says what to do, in words."""

    case: str
    title: str
    at: str | None = None
    send: str
    expect: Expected

    @model_validator(mode="after")
    def _found(self) -> Case:
        if (self.at is None) != (self.expect.refused is not None):
            raise ValueError(f"{self.case}: a case has a time it is planned for, or a reason to be refused for")
        return self

    @property
    def start(self) -> datetime | None:
        """When it is planned."""
        return instant(moment(self.at)) if self.at else None


class Cases(_Strict):
    """All of them, and what to do where an expectation is not met."""

    remedies: Mapping[str, str]
    cases: tuple[Case, ...]

    @model_validator(mode="after")
    def _apart(self) -> Cases:
        for listed in ([each.case for each in self.cases], [each.start for each in self.cases if each.start]):
            if len(set(listed)) < len(listed):
                raise ValueError("cases: each has a name and a planned time of its own")
        if lacking := {*Expected.model_fields, "missing", "hour", "turned-away", "twice", "allocated"} - set(
            self.remedies
        ):
            raise ValueError(f"remedies: there is none for {', '.join(sorted(lacking))}")
        return self

    @property
    def starts(self) -> list[datetime]:
        """When samples are planned, and what is an hour beside that and no sample's."""
        planned = [each.start for each in self.cases if each.start]
        return sorted({start + off for start in planned for off in (-HOUR, 0 * HOUR, HOUR)})


class Arrived(NamedTuple):
    """A visit that came: its id, as it is known, when each thing of it was received, in the order of its stamps."""

    visit: str
    sent: Sent
    received: Sequence[datetime]


class Wrong(NamedTuple):
    """What of a case is not as it is to be, and what to do."""

    what: str
    remedy: str


class Verdict(NamedTuple):
    """What became of a case: under which id it came, and what is wrong with it."""

    case: Case
    state: State
    visit: str | None = None
    wrong: tuple[Wrong, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The verdict as it is told."""
        told = {"case": self.case.case, "title": self.case.title, "send": self.case.send, "state": self.state}
        told |= {"visit": self.visit} if self.visit else {}
        return {**told, "wrong": [each._asdict() for each in self.wrong]} if self.wrong else told


def cases(folder: Path) -> Cases:
    """The cases in the folder of mappings. Raises ValueError (of pydantic) for what is none."""
    remedies: dict[str, str] = {}
    found: list[Any] = []
    for file in sorted((folder / FOLDER).glob("*.yaml")):
        given = yaml.safe_load(file.read_text())
        remedies |= given.get("remedies", {})
        found += given["cases"]
    return Cases.model_validate({"remedies": remedies, "cases": found})


class _Sandbox(NamedTuple):
    """All that came: visits by when they are planned, `strays` for no sample's time; for what rows were refused."""

    by_start: Mapping[datetime, Sequence[Arrived]]
    strays: Mapping[datetime, Sequence[Arrived]]
    reasons: Collection[str]
    repeated: bool


def verdicts(
    known: Cases, arrived: Sequence[Arrived], reasons: Collection[str], repeated: bool, rules: Rules, now: datetime
) -> list[Verdict]:
    """What became of each case. `reasons` that rows were refused for; `repeated`: whether a row was `unchanged`."""
    by_start: dict[datetime, list[Arrived]] = {}
    for each in arrived:
        by_start.setdefault(instant(each.sent.parts["planned"]["start"]), []).append(each)
    samples = {each.start for each in known.cases}
    strays = {start: found for start, found in by_start.items() if start not in samples}
    everything = _Sandbox(by_start, strays, reasons, repeated)
    return [_verdict(each, everything, known.remedies, rules, now) for each in known.cases]


def _verdict(case: Case, everything: _Sandbox, remedies: Mapping[str, str], rules: Rules, now: datetime) -> Verdict:
    if case.start is None:
        if case.expect.refused in everything.reasons:
            return Verdict(case, "right")
        return Verdict(case, "missing", None, (Wrong("No row was refused for it", remedies["refused"]),))
    found = everything.by_start.get(case.start, ())
    if not found:
        return _missing(case, case.start, everything, remedies)
    if len(found) > 1:
        told = f"{len(found)} visits are planned for this time"
        return Verdict(case, "wrong", found[0].visit, (Wrong(told, remedies["twice"]),))
    faults = _faults(case.expect, found[0], everything.repeated, rules, now)
    wrong = [Wrong(told, remedies[name]) for name, told in faults]
    return Verdict(case, "wrong" if wrong else "right", found[0].visit, tuple(wrong))


def _missing(case: Case, start: datetime, everything: _Sandbox, remedies: Mapping[str, str]) -> Verdict:
    """A case that nothing came of; where it may have gone is told."""
    for off, where in ((HOUR, "after"), (-HOUR, "before")):
        if beside := everything.strays.get(start + off):
            told = f"A visit is planned for an hour {where} this time, and none for it"
            return Verdict(case, "wrong", beside[0].visit, (Wrong(told, remedies["hour"]),))
    wrong = [Wrong("No visit is planned for this time", remedies["missing"])]
    if everything.reasons:
        told = f"Rows were refused, which may have been of this sample: {', '.join(sorted(everything.reasons))}"
        wrong.append(Wrong(told, remedies["turned-away"]))
    return Verdict(case, "missing", None, tuple(wrong))


def _faults(expect: Expected, found: Arrived, repeated: bool, rules: Rules, now: datetime) -> Iterator[tuple[str, str]]:
    """The names of expectations that are not met, each with what there is instead."""
    parts, result = found.sent.parts, came(found.sent.parts, rules, now)
    if not found.sent.allocated:
        yield "allocated", "It is in nobody's record"
    yield from _outcome(expect, parts, result)
    for path in expect.has:
        if not _all(parts, path):
            yield "has", f"{path} is not filled in"
    for path, value in expect.equals.items():
        if any(each != value for each in _all(parts, path) or [None]):
            yield "equals", f"{path} is not {str(value).lower()}"
    if expect.said and len(found.sent.events) < expect.said:
        yield "said", f"Something new was said of it {len(found.sent.events)} times, not {expect.said}"
    if expect.corrected and not corrected(found.sent):
        yield "corrected", "Nothing of it was corrected"
    if expect.repeated and not repeated:
        yield "repeated", "Nothing was sent a second time"
    if expect.out_of_order and all(one <= other for one, other in pairwise(found.received)):
        yield "out_of_order", "It arrived in the order in which it was recorded"


def _outcome(expect: Expected, parts: Mapping[str, Any], result: Came) -> Iterator[tuple[str, str]]:
    if expect.outcome and result.code != expect.outcome:
        yield "outcome", f"It came to {result.code}, and not to {expect.outcome}"
    if lacking := set(expect.exceptions) - set(result.exceptions):
        yield "exceptions", f"It does not show: {', '.join(sorted(lacking))}"
    made = sum("start" in each for each in parts.get("carers") or ())
    if expect.carers is not None and made != expect.carers:
        yield "carers", f"Carers who came: {made}, and not {expect.carers}"
    if expect.minutes is not None and result.minutes != expect.minutes:
        there = "It has no end" if result.minutes is None else f"It took {result.minutes} minutes"
        yield "minutes", f"{there}, and not {expect.minutes}"


def _all(parts: Mapping[str, Any], path: str) -> list[Any]:
    """The values of a field: of each entry of a list, where all of them have it."""
    part, _, name = path.partition(".")
    value = parts.get(part)
    entries = value if isinstance(value, list) else [value] if value is not None else []
    return [each[name] for each in entries] if all(name in each for each in entries) else []
