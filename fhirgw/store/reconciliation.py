"""The ledger of a week, person by person: what lines commission, held against the visits that there are.

Computed when it is asked for, from the rows as they are: nothing of it is stored. What is missed, and what a dissent
hides, changes without anybody writing; a county-week is seconds, and what a batch of visits has changed is reckoned in
proportion to the batch, for the people whom it concerns (`since`). Whoever asks has one snapshot for all of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fhirgw.access.permit import Permit
from fhirgw.store.database import Connection
from fhirgw.store.package_lines import components, discharges, lines, ods_codes, people_of_lines, performing
from fhirgw.store.visit_facts import NO_LINE, Sought, hospital, listed, people_of_visits, sums
from fhirgw.visits.commission import commissioned, runs
from fhirgw.visits.ledger import COMMISSIONED, Hospital, Row
from fhirgw.visits.line import Line
from fhirgw.visits.rules import Rules
from fhirgw.visits.stay import Stay, stays, within
from fhirgw.visits.week import Week

PEOPLE = 1000
"""Whose week is reckoned at a time: some 15,000 visits."""


@dataclass(frozen=True, slots=True)
class Asked:
    """`provider`: an ODS code; `person`: a Patient's id; `since`: of whom something has been changed since then."""

    week: Week
    provider: str | None = None
    person: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of people in the order of their ids, and the last of them; None where there are no more."""

    rows: list[Row]
    last: str | None


@dataclass(frozen=True, slots=True)
class Known:
    """What visits are held against: lines that run in the week, each with its provider's code; stays by person."""

    lines: list[tuple[Line, str]]
    stays: dict[str, list[Stay]] = field(default_factory=dict)

    def in_stays(self) -> list[tuple[str, Stay]]:
        return [(person, each) for person, listed in self.stays.items() for each in listed]


@dataclass(frozen=True, slots=True)
class Reckoning:
    """Made for one caller: `directory` looks up organisations; `now` decides what is missed already."""

    permit: Permit
    directory: Permit
    rules: Rules
    now: datetime

    async def page(self, connection: Connection, asked: Asked, after: str = "", count: int = PEOPLE) -> Page:
        """The rows of the next people; those of visits in nobody's record come after everybody's."""
        own = await performing(connection, self.directory, asked.provider) if asked.provider else []
        people = await self._people(connection, asked, own, after, count)
        rows = await self._rows(connection, asked, own, people) if people else []
        if len(people) == count:
            return Page(rows, people[-1])
        if asked.person is None and asked.since is None:
            rows += await self._unallocated(connection, asked)
        return Page(rows, None)

    async def pages(self, connection: Connection, asked: Asked) -> AsyncIterator[list[Row]]:
        """All rows, PEOPLE by PEOPLE."""
        after: str | None = ""
        while after is not None:
            page = await self.page(connection, asked, after)
            yield page.rows
            after = page.last

    async def visits(self, connection: Connection, asked: Asked) -> tuple[Known, list[Any]]:
        """What the figures of a person's rows were counted of: lines, stays, and each visit."""
        assert asked.person is not None, "traces are of a person"
        own = await performing(connection, self.directory, asked.provider) if asked.provider else []
        known = await self._known(connection, asked, own, [asked.person])
        sought = Sought(asked.week, [asked.person], asked.provider)
        told = known.lines, known.in_stays(), self.rules, self.now
        return known, await listed(connection, self.permit, sought, *told)

    async def _people(
        self, connection: Connection, asked: Asked, own: Sequence[int], after: str, count: int
    ) -> list[str]:
        if asked.person is not None:
            return [asked.person] if asked.person > after else []
        wanted: dict[str, Any] = {"after": after, "count": count}
        if asked.since is not None:
            wanted["since"] = asked.since
        services = components(self.rules.commissioned)
        found = {*await people_of_visits(connection, self.permit, asked.week, wanted, asked.provider)}
        if own or asked.provider is None:
            found.update(await people_of_lines(connection, self.permit, services, wanted, own))
        return sorted(found)[:count]

    async def _known(self, connection: Connection, asked: Asked, own: Sequence[int], people: Sequence[str]) -> Known:
        services = components(self.rules.commissioned)
        found: list[Line] = []
        if own or asked.provider is None:
            found = await lines(connection, self.permit, services, people, own)
        running = [each for each in found if runs(each, asked.week)]
        codes = await ods_codes(connection, self.directory, {each.provider for each in running})
        vain = await hospital(connection, self.permit, asked.week, people)
        days = await discharges(connection, self.permit, sorted(vain)) if vain else {}
        away = {person: within(stays(each, days.get(person, ())), asked.week) for person, each in vain.items()}
        return Known(
            [(each, codes.get(each.provider, each.provider)) for each in running],
            {person: each for person, each in away.items() if each},
        )

    async def _rows(self, connection: Connection, asked: Asked, own: Sequence[int], people: Sequence[str]) -> list[Row]:
        known = await self._known(connection, asked, own, people)
        sought = Sought(asked.week, people, asked.provider)
        told = known.lines, known.in_stays(), self.rules, self.now
        counts = await sums(connection, self.permit, sought, *told)
        found = {(each.patient, each.n): each.figures for each in counts if each.n != NO_LINE}
        rows = [
            self._of_line(asked.week, known, n, found.get((each.patient, n), {}))
            for n, (each, _) in enumerate(known.lines)
        ]
        rows += [
            Row(
                str(asked.week),
                "uncommissioned",
                each.provider,
                each.patient,
                order=each.strange,
                figures=each.figures,
                hospital=self._stay(known, each.patient),
            )
            for each in counts
            if each.n == NO_LINE
        ]
        return sorted(rows, key=lambda each: (each.person or "", each.provider, each.line or "~", each.order or ""))

    def _of_line(self, week: Week, known: Known, n: int, figures: dict[str, int]) -> Row:
        line, provider = known.lines[n]
        away = [each.span for each in known.stays.get(line.patient, ())]
        made = commissioned(line, week, away)
        told = {f"commissioned_{name}": getattr(made, name) for name in COMMISSIONED}
        told |= {"suspended_visits": made.suspended_visits, "suspended_minutes": made.suspended_minutes}
        return Row(
            str(week),
            "commissioned",
            provider,
            line.patient,
            line.id,
            next(iter(line.names)),
            line.component,
            line.status,
            {name: value for name, value in (told | figures).items() if value},
            self._stay(known, line.patient),
        )

    def _stay(self, known: Known, person: str) -> Hospital | None:
        """The last of the person's stays that concern the week."""
        found = known.stays.get(person)
        if not found:
            return None
        last = found[-1]
        return Hospital(last.span.starts, last.span.ends, last.discharged, last.restart(self.now))

    async def _unallocated(self, connection: Connection, asked: Asked) -> list[Row]:
        counts = await sums(
            connection, self.permit, Sought(asked.week, None, asked.provider), [], [], self.rules, self.now
        )
        return [
            Row(str(asked.week), "unallocated", each.provider, figures=each.figures)
            for each in sorted(counts, key=lambda each: each.provider)
        ]


def expecting(known: Known) -> Iterator[tuple[int, Line, list[Stay]]]:
    """The lines of a trace by their places, each with the person's stays."""
    for n, (line, _) in enumerate(known.lines):
        yield n, line, known.stays.get(line.patient, [])
