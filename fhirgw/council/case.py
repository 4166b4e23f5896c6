"""A case: one person's story in the making, the world it happens in, and the one rule of its days.

No day of a case falls before the one it follows from, nor after the case's end: `Case.day` sees to both, so the stories
need not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import takewhile
from random import Random
from typing import TypeVar

from fhirgw.council import county
from fhirgw.council.council import Council
from fhirgw.council.days import after, at_work
from fhirgw.council.facts import Line, Person, Relationship
from fhirgw.council.odds import between, pick
from fhirgw.council.reference import Directory

Told = TypeVar("Told", Line, Relationship)

TEAM = {"older": "locality", "carer": "carers"}
"""Kind of team for a kind of person; the others have their own name."""


@dataclass(slots=True)
class World:
    """What every case shares: the council being made, what it can name, and the one generator of chance."""

    council: Council
    directory: Directory
    rng: Random
    numbers: Iterator[str]

    def worker(self, team: int) -> int:
        """One of the team's workers."""
        return pick(self.rng, self.directory.workers[team])

    def team(self, kind: str) -> int:
        """One of the teams of that kind."""
        return pick(self.rng, self.directory.teams[kind])

    def organisation(self, kind: str) -> int:
        """One of the organisations of that kind."""
        return pick(self.rng, self.directory.organisations[kind])


@dataclass(slots=True)
class Case:
    """A person of a group, known since a day; `ended` and why, if they are no longer supported."""

    world: World
    person: Person
    group: str
    since: date
    ended: date | None
    why: str | None
    team: int
    worker: int

    @property
    def council(self) -> Council:
        """The council being made."""
        return self.world.council

    @property
    def rng(self) -> Random:
        """The world's generator."""
        return self.world.rng

    @property
    def key(self) -> int:
        """The person's number."""
        return self.person.number

    @property
    def until(self) -> date:
        """The last day of the story so far."""
        return self.ended or county.TODAY

    def day(self, base: date, low: int, high: int) -> date:
        """A working day `low` to `high` days after base, within the case: never before base, never after the end."""
        return max(base, min(after(self.rng, base, low, high), self.until))

    def later(self, moment: datetime, low: int, high: int) -> datetime:
        """A working moment `low` to `high` days after another: within the hours to come, if it is the same day."""
        day = self.day(moment.date(), low, high)
        if day > moment.date():
            return at_work(self.rng, day)
        return moment + timedelta(minutes=15 * between(self.rng, 2, 8))

    def told(self, kind: type[Told]) -> Iterator[Told]:
        """What was told of the person so far, last first: a story is told at one go, so it stands at the end."""
        return takewhile(lambda record: record.person == self.key, reversed(self.council.of(kind)))

    def chance(self, share: float) -> bool:
        """Whether something that happens to that share of cases happens to this one."""
        return self.rng.random() < share


def opened(
    world: World, person: Person, group: str, since: date, ended: date | None = None, why: str | None = None
) -> Case:
    """A case for the person, with a team and a worker."""
    team = world.team(TEAM.get(group, group))
    return Case(world, person, group, since, ended, why, team, world.worker(team))
