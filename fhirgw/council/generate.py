"""Making up a council: so many adults and a seed, and it is always the same council.

Sizes are the county's (`fhirgw.council.county`), scaled; the stories are told in a shuffled order, so that no kind of
person sits together in the extracts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from fhirgw.council import county, nhs_numbers
from fhirgw.council.case import Case, World
from fhirgw.council.council import Council
from fhirgw.council.essentials import essentials
from fhirgw.council.faults import plant
from fhirgw.council.odds import Odds, pick
from fhirgw.council.reference import reference
from fhirgw.council.stories import carer, reabled, supported, technology_only, turned_away

DEPARTED = Odds({"older": 85, "learning-disability": 5, "sensory-physical": 5, "mental-health": 5})
"""Group of those who died or moved away."""


@dataclass(slots=True)
class Turn:
    """One story to tell: its sort; for an adult their group, and whether they have care technology, or a carer."""

    sort: str
    group: str = ""
    technology: bool = False
    carer: bool = False


def generate(people: int, seed: int = 1, faults: bool = True) -> Council:
    """A council that supports `people` adults today, and all whom it knows besides; with faults, unless told not to."""
    rng = Random(seed)
    council = Council(people, seed)
    world = World(council, reference(council, rng), rng, nhs_numbers.issue(rng))
    cases: list[Case] = []
    for turn in _turns(people, rng):
        if turn.sort == "supported":
            case = supported(world, turn.group, turn.technology)
            cases.append(case)
            if turn.carer:
                carer(world, case, pick(rng, cases) if rng.random() < 0.04 and len(cases) > 1 else None)
        elif turn.sort == "left":
            supported(world, turn.group, rng.random() < 0.4, left=True)
        else:
            {"reabled": reabled, "turned-away": turned_away, "technology": technology_only}[turn.sort](world)
    essentials(council, Random(seed + 2))
    if faults:
        plant(council, Random(seed + 1))
    return council


def _turns(people: int, rng: Random) -> list[Turn]:
    """Every story there is to tell, in the order of the telling."""
    turns = list(_supported(people, rng))
    turns += [Turn("left", DEPARTED.deal(rng)) for _ in range(round(people * county.LEFT))]
    turns += [Turn("reabled") for _ in range(round(people * county.REABLED))]
    turns += [Turn("turned-away") for _ in range(round(people * county.TURNED_AWAY))]
    users = county.scaled(county.TECHNOLOGY_USERS, people) - round(people * county.SUPPORTED_WITH_TECHNOLOGY)
    turns += [Turn("technology") for _ in range(users)]
    rng.shuffle(turns)
    return turns


def _supported(people: int, rng: Random) -> Iterator[Turn]:
    counts = {group: county.scaled(figure, people) for group, figure in county.GROUPS.items()}
    counts["older"] += people - sum(counts.values())
    turns = [Turn("supported", group) for group, count in counts.items() for _ in range(count)]
    for turn in rng.sample(turns, round(people * county.SUPPORTED_WITH_TECHNOLOGY)):
        turn.technology = True
    for turn in rng.sample(turns, county.scaled(county.SUPPORTED_CARERS, people)):
        turn.carer = True
    yield from turns
