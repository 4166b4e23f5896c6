"""A made-up care provider's rota of one day, as its system would send it at any moment of that day.

Four rounds a day, half an hour with each person; carers are a few minutes early or late, and each visit is known as far
as it has come: planned, begun, done. One visit is planned for a quarter of an hour before `opened`, and nobody comes.
The same moment always gives the same rows, so sending them again says nothing new.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any

from fhirgw.fhir.dates import LONDON
from fhirgw.fhir.hashes import sha1

ROUNDS = (("morning", time(7, 0), "personal-care"), ("noon", time(12, 0), "meal"), ("tea", time(16, 30), "medication"),
          ("bed", time(20, 0), "personal-care"))  # fmt: skip
"""What each is called, when it begins in London, and the type of its visits."""
LENGTH = timedelta(minutes=30)
ROUND = 5
"""Carers who go round at the same time; each goes from one person to the next."""
BEFORE = timedelta(minutes=14, seconds=30)
"""How long before `opened` the visit is planned that nobody makes: half a minute later that is too late."""

Row = dict[str, Any]


def rota(people: Sequence[str], opened: datetime, now: datetime) -> list[Row]:
    """Rows as POST /homecare/visits takes them, of people by their Patients' ids; none of nobody.

    The last of the people is the one whom nobody visits.
    """
    if not people:
        return []
    day = opened.astimezone(LONDON).date()
    *visited, missed = people
    return [*(row for each in ROUNDS for row in _round(visited, day, *each, now)), _missed(missed, opened)]


def _round(people: Sequence[str], day: date, name: str, starts: time, kind: str, now: datetime) -> Iterator[Row]:
    for at, person in enumerate(people):
        start = datetime.combine(day, starts, LONDON) + (at // ROUND) * (LENGTH + timedelta(minutes=10))
        visit = f"{day}-{name}-{at}"
        planned = {"start": start.isoformat(), "end": (start + LENGTH).isoformat(), "type": kind}
        row: Row = {"visit": visit, "version": 1, "person": {"id": person}, "planned": planned}
        yield row | _made(visit, f"carer-{at % ROUND}", start, now)


def _made(visit: str, carer: str, start: datetime, now: datetime) -> Row:
    """What the carer's phone has told by now."""
    came = start + timedelta(minutes=_by_chance(visit, 12) - 4)
    left = came + LENGTH + timedelta(minutes=_by_chance(f"{visit} end", 8) - 4)
    if now < came:
        return {}
    stay = {"carer": carer, "start": came.isoformat(), "method": "nfc-tag"}
    if now < left:
        return {"version": 2, "carers": [stay]}
    done = {"task": "T1", "text": "What the care plan says for this visit", "outcome": "completed"}
    return {"version": 3, "carers": [stay | {"end": left.isoformat()}], "tasks": [done]}


def _missed(person: str, opened: datetime) -> Row:
    start = (opened - BEFORE).replace(microsecond=0)
    planned = {"start": start.isoformat(), "end": (start + LENGTH).isoformat(), "type": "personal-care"}
    return {"visit": f"{start:%Y-%m-%d-%H%M%S}-late", "version": 1, "person": {"id": person}, "planned": planned}


def _by_chance(what: str, below: int) -> int:
    return int(sha1(what.encode()).hexdigest(), 16) % below
