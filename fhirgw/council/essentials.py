"""What whoever comes to a person's home must know: allergies, how to get in, what the person wants known about them.

Made up after everything else, by chances of its own, so that the rest of a council is as it was without.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from fhirgw.council.council import Council
from fhirgw.council.facts import AboutMe, AccessNote, Allergy, Line, Plan
from fhirgw.council.odds import Odds, pick

AT_HOME = ("home-support", "extra-care")
"""Services of which carers come to the door."""

SUBSTANCE = Odds(
    {
        "none-known": 45,
        "penicillin": 22,
        "sulfonamide": 8,
        "latex": 6,
        "shellfish": 5,
        "peanut": 5,
        "egg": 5,
        "milk": 4,
    }
)
CRITICALITY = Odds({"low": 60, "high": 25, "not-assessed": 15})
REACTIONS = ("Rash", "Swelling of the face", "Wheezing", "Sickness and diarrhoea")
WAY_IN = {
    "key-safe": ("Key safe left of the porch, {code}", "Key safe by the back door, code {code}"),
    "opens-door": ("Comes to the door: give it two minutes", "Ring twice, and wait"),
    "neighbour-key": ("Neighbour on the right has a key", "Key with the neighbour opposite, until 9 pm"),
    "door-entry": ("Intercom, flat 4, then {code}#",),
}
WAYS_IN = Odds({"key-safe": 62, "opens-door": 20, "neighbour-key": 10, "door-entry": 8})
ABOUT_ME = {
    "matters": ("My garden, and the radio in the morning", "To stay in my own home", "My cat Biscuit"),
    "people": ("My daughter, who rings at six", "My brother, and friends from chapel", "The neighbours"),
    "communication": ("Speak up, on my left side", "I understand well, and need time to answer", "I lip-read"),
    "wellness": ("I tire quickly after lunch", "My knees are worst in the morning"),
    "do-and-do-not": ("Please knock before you come in; please don't move my chair", "Please don't hurry me"),
    "support": ("Let me wash my own face", "I take my tea before I get up", "Two sugars, and toast cut in four"),
    "also": ("I drove the number 9 bus for thirty years", "I was a midwife"),
}
"""What people say, by the headings of the Professional Record Standards Body's About Me."""
CONTINGENCY = (
    "If nobody comes within the hour, ring the daughter, then the duty desk",
    "The neighbour can give breakfast and the morning tablets; a bed in respite after one night",
    "Ring the emergency contact: cannot be left alone overnight",
)


def essentials(council: Council, rng: Random) -> None:
    """Tells them of everybody to whose home carers come or came."""
    lines: dict[int, list[Line]] = {}
    for line in council.of(Line):
        if line.component in AT_HOME and line.provider and line.status != "planned":
            lines.setdefault(line.person, []).append(line)
    for coming in lines.values():
        _told(council, coming, rng)
    for plan in council.of(Plan):
        plan.contingency_actions = pick(rng, CONTINGENCY) if plan.contingency else None


def _told(council: Council, lines: Sequence[Line], rng: Random) -> None:
    """Of one person, from when the first of the lines began."""
    first = min(lines, key=lambda line: line.start)
    worker = council.find(Plan, first.plan).team["lead"]
    if rng.random() < 0.45:
        council.add(_allergy(first, worker, rng))
    if rng.random() < 0.75:
        council.add(_access_note(lines, first, worker, rng))
    if rng.random() < 0.4:
        answers = {each: pick(rng, told) for each, told in ABOUT_ME.items() if each == "matters" or rng.random() < 0.6}
        council.add(AboutMe(person=first.person, told=first.start, answers=answers))


def _access_note(lines: Sequence[Line], first: Line, worker: int, rng: Random) -> AccessNote:
    """Closed when nobody comes any more."""
    ends = [line.end for line in lines]
    until = None if None in ends else max(end for end in ends if end)
    kind = WAYS_IN.deal(rng)
    return AccessNote(
        person=first.person,
        kind=kind,
        detail=pick(rng, WAY_IN[kind]).format(code=f"{int(rng.random() * 10_000):04}"),
        status="closed" if until else "active",
        since=first.start,
        until=until,
        worker=worker,
    )


def _allergy(line: Line, worker: int, rng: Random) -> Allergy:
    substance = SUBSTANCE.deal(rng)
    known = substance != "none-known"
    return Allergy(
        person=line.person,
        substance=substance,
        criticality=CRITICALITY.deal(rng) if known else None,
        reaction=pick(rng, REACTIONS) if known and rng.random() < 0.7 else None,
        status="resolved" if known and rng.random() < 0.08 else "active",
        recorded=line.start,
        worker=worker,
    )
