"""Packages of care: the services there are, and which people have which, as tables.

Weights by group are assumptions of ours, such that the weight of a package follows Essex's spend a head: older people
£9.5k a year, mental health £17k, physical and sensory impairment £22k, learning disability £53k.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time

from fhirgw.council.odds import Odds

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

ROUNDS = {
    1: (time(8, 30),),
    2: (time(8, 0), time(18, 30)),
    3: (time(8, 0), time(12, 30), time(18, 30)),
    4: (time(8, 0), time(12, 30), time(17, 0), time(20, 30)),
}
"""Times of day of a homecare round, by visits a day."""

VISITS = Odds({1: 22, 2: 26, 3: 18, 4: 34})
"""Homecare visits a day: 2.8 on average, as Essex's load has it."""
MINUTES = Odds({30: 62, 45: 28, 60: 10})
CARERS = Odds({1: 85, 2: 15})

COUNCIL_PAYS = Odds({"commissioned": 88, "managed-budget": 12})
DIRECT = Odds({"direct-payment": 1})
FUNDING = Odds({"joint": 62, "council": 30, "self": 5, "unknown": 3})
NO_CHARGE = Odds({"council": 1})


@dataclass(frozen=True, slots=True)
class Service:
    """A service one can have: its Client Level Data type and component, who provides it, where, and how much.

    `visits` a day, in the homecare way; or so many `sessions` (days, beginning, minutes) a week; or a block of `hours`
    a week; or none of these, for care round the clock. `lives` is the accommodation it comes with.
    """

    type: str
    component: str
    provider: str | None = None
    place: str | None = None
    delivery: Odds[str] = COUNCIL_PAYS
    funding: Odds[str] = FUNDING
    visits: bool = False
    sessions: tuple[Odds[int], time, int] | None = None
    hours: tuple[int, int] | None = None
    lives: str | None = None


SERVICES = {
    "homecare": Service("community", "home-support", "homecare", visits=True),
    "residential": Service("residential", "long-residential", "residential", "residential", lives="residential"),
    "nursing": Service("nursing", "long-nursing", "nursing", "nursing", lives="nursing"),
    "extra-care": Service("community", "extra-care", "homecare", "extra-care", visits=True, lives="sheltered"),
    "supported-living": Service("community", "supported-living", "homecare", hours=(21, 112), lives="supported"),
    "shared-lives": Service("community", "shared-lives", "homecare", lives="shared-lives"),
    "day": Service(
        "community", "day-support", "council", "day-centre", sessions=(Odds({1: 2, 2: 4, 3: 3, 5: 1}), time(10, 0), 330)
    ),
    "direct-payment": Service("community", "direct-payment", delivery=DIRECT, hours=(6, 38)),
    "outreach": Service("community", "long-other", "homecare", sessions=(Odds({1: 5, 2: 3, 3: 2}), time(11, 0), 120)),
    "work": Service("community", "learning", "voluntary", sessions=(Odds({1: 1, 2: 1}), time(10, 0), 180)),
    "social-work": Service("community", "social-worker", "council", funding=NO_CHARGE, hours=(1, 3)),
    "meals": Service("low-level", "meals", "voluntary", sessions=(Odds({3: 1, 5: 2, 7: 2}), time(12, 15), 15)),
    "transport": Service("low-level", "transport", "council", hours=(2, 4)),
    "respite": Service("carer-cared-for", "carer-respite", "residential", "residential", funding=NO_CHARGE),
    "sitting": Service(
        "carer-cared-for", "carer-sitting", "voluntary", funding=NO_CHARGE, sessions=(Odds({1: 1}), time(14, 0), 180)
    ),
    "carer-payment": Service("carer-direct", "direct-payment", delivery=DIRECT, funding=NO_CHARGE),
    "carer-universal": Service("carer-direct", "carer-universal", "voluntary", funding=NO_CHARGE),
}

PACKAGES: dict[str, Odds[tuple[str, ...]]] = {
    "older": Odds(
        {
            ("homecare",): 46,
            ("homecare", "day"): 8,
            ("homecare", "meals"): 4,
            ("residential",): 17,
            ("nursing",): 9,
            ("extra-care",): 6,
            ("direct-payment",): 6,
            ("meals",): 3,
            ("day",): 1,
        }
    ),
    "learning-disability": Odds(
        {
            ("supported-living",): 20,
            ("supported-living", "day"): 18,
            ("supported-living", "work"): 8,
            ("residential",): 15,
            ("shared-lives",): 3,
            ("shared-lives", "day"): 3,
            ("day", "transport"): 13,
            ("direct-payment", "day"): 10,
            ("direct-payment",): 6,
            ("outreach", "work"): 4,
        }
    ),
    "sensory-physical": Odds(
        {
            ("homecare",): 36,
            ("direct-payment",): 28,
            ("homecare", "day"): 6,
            ("outreach",): 8,
            ("extra-care",): 6,
            ("residential",): 7,
            ("nursing",): 6,
            ("social-work",): 3,
        }
    ),
    "mental-health": Odds(
        {
            ("supported-living",): 26,
            ("outreach",): 22,
            ("social-work",): 16,
            ("homecare",): 12,
            ("direct-payment",): 12,
            ("residential",): 9,
            ("outreach", "work"): 3,
        }
    ),
    "carer": Odds({("carer-payment",): 42, ("carer-universal",): 34, ("respite",): 14, ("sitting",): 10}),
}
"""Services together, by group."""

AT_HOME = ("homecare",)
"""What comes before a care home."""

CARE_HOMES = frozenset({"residential", "nursing"})

REASONS: dict[str, Odds[str]] = {
    "older": Odds(
        {"personal-care": 58, "memory": 22, "access": 13, "visual": 2, "hearing": 1, "dual": 1, "isolation": 3}
    ),
    "learning-disability": Odds({"learning-disability": 1}),
    "sensory-physical": Odds({"personal-care": 52, "access": 30, "visual": 9, "hearing": 6, "dual": 3}),
    "mental-health": Odds({"mental-health": 88, "substance": 7, "asylum": 1, "isolation": 4}),
    "carer": Odds({"carer": 1}),
}
"""Primary support reason by group."""

GOALS: dict[str, tuple[str, ...]] = {
    "nutrition": ("To make a hot meal once a day", "To eat at regular times", "To do my own shopping with support"),
    "hygiene": ("To wash myself in the morning", "To shower safely twice a week"),
    "toilet": ("To reach the toilet in time", "To manage at night without calling for help"),
    "clothing": ("To dress without help", "To choose and lay out my own clothes"),
    "home-safety": (
        "To move about my home without falling",
        "To use the stairs safely",
        "To get in and out of bed safely",
    ),
    "habitable-home": ("To keep my home clean and warm", "To manage my letters and bills"),
    "relationships": ("To see my family every week", "To make a new friend"),
    "work": ("To volunteer one day a week", "To start a college course", "To find paid work"),
    "community": ("To get to the shops on my own", "To go to my club each week", "To travel by bus with confidence"),
    "caring": ("To have a break from caring each week", "To keep caring, and keep well"),
}
"""Goals in people's words, by Care Act outcome."""
