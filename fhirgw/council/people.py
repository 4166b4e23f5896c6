"""People who do not exist: who they are, where they live, how to reach them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

from fhirgw.council import county, words
from fhirgw.council.case import World
from fhirgw.council.days import DAY
from fhirgw.council.facts import Address, Person, Stay
from fhirgw.council.odds import Odds, between, pick

AGES = {
    "older": (65, 103, 84),
    "learning-disability": (19, 80, 36),
    "sensory-physical": (19, 64, 54),
    "mental-health": (19, 64, 42),
    "carer": (21, 92, 62),
    "technology": (60, 103, 83),
}
"""Youngest, oldest and commonest age today, by group."""

WOMEN = {"older": 0.63, "learning-disability": 0.42, "sensory-physical": 0.52, "mental-health": 0.47, "carer": 0.68}
"""Share of women; 0.62 of anybody else."""

GENDER = {
    True: Odds({"female": 99.3, "other": 0.4, "unknown": 0.3}),
    False: Odds({"male": 99.3, "other": 0.4, "unknown": 0.3}),
}
BIRTH_SEX = {
    True: Odds({"female": 98.5, "male": 0.3, "indeterminate": 0.1, "unknown": 1.1}),
    False: Odds({"male": 98.5, "female": 0.3, "indeterminate": 0.1, "unknown": 1.1}),
}
ETHNICITY = Odds(
    {
        "english": 862,
        "irish": 9,
        "traveller": 3,
        "roma": 2,
        "white-other": 32,
        "white-caribbean": 5,
        "white-african": 3,
        "white-asian": 5,
        "mixed-other": 4,
        "indian": 12,
        "pakistani": 6,
        "bangladeshi": 5,
        "chinese": 4,
        "asian-other": 7,
        "caribbean": 6,
        "african": 11,
        "black-other": 3,
        "arab": 2,
        "other": 4,
        "refused": 5,
        "unknown": 10,
    }
)
LANGUAGE: dict[str, Odds[str]] = {
    "white-other": Odds({"english": 40, "polish": 25, "romanian": 15, "lithuanian": 10, "portuguese": 5, "italian": 5}),
    "indian": Odds({"english": 55, "gujarati": 25, "punjabi": 20}),
    "pakistani": Odds({"english": 50, "urdu": 35, "punjabi": 15}),
    "bangladeshi": Odds({"english": 40, "bengali": 60}),
    "chinese": Odds({"english": 45, "chinese": 55}),
    "arab": Odds({"english": 40, "arabic": 60}),
    "other": Odds({"english": 60, "turkish": 40}),
}
SPOKEN = Odds({"english": 997, "bsl": 3})
"""By everybody else."""
YOUNG = Odds({"single": 74, "married": 14, "civil-partner": 1, "divorced": 6, "separated": 3, "unknown": 2})
OLD = Odds(
    {
        "single": 8,
        "married": 36,
        "civil-partner": 1,
        "divorced": 10,
        "dissolved": 0.3,
        "widowed": 41,
        "surviving-partner": 0.4,
        "separated": 1,
        "unknown": 2,
    }
)
RELIGION = Odds(
    {
        "christian": 46,
        "none": 36,
        "muslim": 2.5,
        "hindu": 1.2,
        "sikh": 0.4,
        "jewish": 1,
        "buddhist": 0.4,
        "other": 0.6,
        "not-stated": 12,
    }
)
PREFERENCE = Odds({"phone": 58, "letter": 22, "email": 12, "text": 5, "visit": 3})
NHS_STATUS = Odds({"01": county.CHECKED_AND_TRUE, "02": 0.04, "03": 0.02})
RESTRICTED = Odds({"none": 98.9, "whereabouts": 1, "sealed": 0.1})
"""Of a hundred people one is hidden from somebody; of a thousand one's record is sealed."""
HOUSING: dict[str, Odds[str]] = {
    "older": Odds({"owner": 62, "council-tenant": 20, "private-tenant": 8, "with-family": 6, "sheltered": 4}),
    "learning-disability": Odds({"with-family": 72, "council-tenant": 16, "private-tenant": 7, "owner": 5}),
    "sensory-physical": Odds({"owner": 36, "council-tenant": 38, "private-tenant": 14, "with-family": 12}),
    "mental-health": Odds(
        {
            "council-tenant": 46,
            "private-tenant": 22,
            "with-family": 14,
            "owner": 10,
            "temporary-council": 4,
            "guest": 2,
            "hostel": 1.4,
            "rough": 0.6,
        }
    ),
}
EMPLOYMENT: dict[str, Odds[str]] = {
    "learning-disability": Odds(
        {"paid-under-16": 4.5, "paid-16-over": 1.5, "voluntary": 8, "seeking": 6, "not-seeking": 80}
    ),
    "sensory-physical": Odds({"paid-under-16": 5, "paid-16-over": 9, "seeking": 6, "not-seeking": 78, "unknown": 2}),
    "mental-health": Odds({"paid-under-16": 4, "paid-16-over": 7, "voluntary": 4, "seeking": 15, "not-seeking": 70}),
    "carer": Odds({"paid-under-16": 12, "paid-16-over": 26, "paid-unknown": 2, "seeking": 4, "not-seeking": 56}),
}
"""Recorded for working age alone, as Client Level Data asks."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """What is settled about a person before they are made up: of a carer, by whom they care for."""

    woman: bool
    born: date
    family: str
    home: Address


TITLES = {True: ("Mrs", "Mrs", "Miss", "Ms"), False: ("Mr", "Mr", "Mr", "Dr")}


def person(world: World, group: str, client_type: str, since: date, like: Likeness | None = None) -> Person:
    """A new person of the group, known since a day, and an adult by then."""
    rng = world.rng
    like = like or _anybody(world, group)
    born, woman, family = min(like.born, since - 6_600 * DAY), like.woman, like.family
    given = pick(rng, words.WOMEN if woman else words.MEN)
    ethnicity = ETHNICITY.deal(rng)
    language = LANGUAGE.get(ethnicity, SPOKEN).deal(rng)
    number = next(world.numbers) if rng.random() < 0.97 else None
    old = county.TODAY.year - born.year > 62
    return world.council.add(
        Person(
            client_type=client_type,
            nhs_number=number,
            nhs_status=NHS_STATUS.deal(rng) if number else None,
            title=pick(rng, TITLES[woman]),
            given=given,
            family=family,
            preferred=pick(rng, words.WOMEN if woman else words.MEN) if rng.random() < 0.12 else None,
            born=born,
            gender=GENDER[woman].deal(rng),
            birth_sex=BIRTH_SEX[woman].deal(rng),
            ethnicity=ethnicity,
            language=language,
            interpreter=language != "english" and rng.random() < 0.6,
            marital_status=(OLD if old else YOUNG).deal(rng),
            religion=RELIGION.deal(rng),
            practice=world.organisation("gp-practice"),
            email=words.email(given, family, "post") if rng.random() < (0.2 if old else 0.6) else None,
            contact_preference=PREFERENCE.deal(rng),
            restricted=RESTRICTED.deal(rng),
            addresses={"home": like.home},
            phones=_phones(world, old),
        )
    )


def _anybody(world: World, group: str) -> Likeness:
    rng = world.rng
    youngest, oldest, commonest = AGES[group]
    born = county.TODAY - int(rng.triangular(youngest, oldest, commonest) * 365.25) * DAY
    return Likeness(rng.random() < WOMEN.get(group, 0.62), born, pick(rng, words.FAMILIES), words.address(rng))


def _phones(world: World, old: bool) -> dict[str, str]:
    rng = world.rng
    phones = {}
    if rng.random() < (0.85 if old else 0.3):
        phones["home"] = words.landline(rng)
    if rng.random() < (0.5 if old else 0.92):
        phones["mobile"] = words.mobile(rng)
    return phones


def settle(world: World, who: Person, group: str, since: date, until: date = county.TODAY) -> None:
    """Where the person lives and, of working age, whether they work, as recorded when they became known."""
    rng = world.rng
    if rng.random() < 0.6:
        moved_in = max(since - between(rng, 30, 9_000) * DAY, who.born)
        who.addresses["home"] = replace(who.addresses["home"], since=moved_in)
    who.accommodation["current"] = Stay(HOUSING.get(group, HOUSING["older"]).deal(rng), since, None)
    working_age = 18 <= county.TODAY.year - who.born.year < 65
    if not working_age or group not in EMPLOYMENT:
        return
    who.employment["current"] = Stay(EMPLOYMENT[group].deal(rng), since, None)
    changed = since + between(rng, 100, 900) * DAY
    if rng.random() < 0.15 and changed < until:
        who.employment["previous"] = Stay(EMPLOYMENT[group].deal(rng), since, changed - DAY)
        who.employment["current"].since = changed


def move(who: Person, day: date, home: Address, status: str) -> None:
    """The person moves: a new home and a new kind of accommodation, the old ones kept as previous."""
    old, stay = who.addresses["home"], who.accommodation["current"]
    who.addresses = {"home": replace(home, since=day), "previous": replace(old, until=day - DAY)}
    who.accommodation = {
        "current": Stay(status, day, None),
        "previous": Stay(stay.status, min(stay.since, day - DAY), day - DAY),
    }


def die(who: Person, day: date) -> None:
    """The person dies; where they lived and whether they worked ends that day."""
    who.died = day
    who.addresses["home"] = replace(who.addresses["home"], until=day)
    for stay in (*who.accommodation.values(), *who.employment.values()):
        stay.until = stay.until or day
