"""Reablement: six weeks, more or less, of help to do without help; most who come out of it do."""

from __future__ import annotations

from fhirgw.council import packages
from fhirgw.council.case import Case
from fhirgw.council.days import DAY
from fhirgw.council.facts import Contact, Goal, Reablement
from fhirgw.council.odds import Odds, between, pick

REABLED = Odds({"self-caring": 97, "reduced": 3})
"""Outcomes of those for whom reablement was all: few have gone on to pay for a little help themselves."""
SUPPORTED_AFTER = Odds({"self-caring": 59, "reduced": 20, "same": 14, "residential": 4, "hospital": 3})
"""Outcomes of those who are supported now; the self-caring came back. In all 71 to 75% are self-caring, as in Essex."""
SCORE = {"self-caring": (16, 20), "reduced": (11, 15), "same": (7, 10)}
"""Independence at the end, by outcome; by the others it was never scored above the start."""


def reable(case: Case, contact: Contact, outcome: str | None) -> Reablement:
    """Reablement after the contact, with its goals; with no outcome, it goes on."""
    rng = case.rng
    closed = contact.closed or contact.received.date()
    start = case.day(max(closed, contact.discharged or closed), 0, 2)
    end = case.day(start, 18, 48) if outcome else None
    score = between(rng, 3, 11)
    episode = case.council.add(
        Reablement(
            person=case.key,
            contact=contact.number,
            provider=case.world.organisation("reablement"),
            status="ended" if end else "active",
            discharged=contact.discharged,
            start=start,
            due=start + 42 * DAY,
            ready=max(start, end - between(rng, 0, 6) * DAY) if end and outcome == "self-caring" else None,
            end=end,
            score_start=score,
            score_end=between(rng, *SCORE.get(outcome, (max(0, score - 2), score))) if outcome else None,
            outcome=outcome,
        )
    )
    _goals(case, episode)
    return episode


def _goals(case: Case, episode: Reablement) -> None:
    domains = ["nutrition", "hygiene", "clothing", "home-safety", "community"]
    for _ in range(between(case.rng, 1, 3)):
        domain = domains.pop(int(case.rng.random() * len(domains)))
        well = episode.outcome == "self-caring" or case.chance(0.3)
        case.council.add(
            Goal(
                plan=None,
                episode=episode.number,
                person=case.key,
                domain=domain,
                description=pick(case.rng, packages.GOALS[domain]),
                importance=between(case.rng, 5, 10),
                status="in-progress" if episode.end is None else "achieved" if well else "partly",
                start=episode.start,
                target=episode.due,
                closed=episode.end,
            )
        )
