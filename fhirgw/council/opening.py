"""How a story opens: the contact with the council, or the referral to it."""

from __future__ import annotations

from datetime import date

from fhirgw.council import county
from fhirgw.council.case import Case
from fhirgw.council.days import DAY, at_work
from fhirgw.council.facts import Contact
from fhirgw.council.odds import Odds, between, pick

COMMUNITY = Odds(
    {
        "family": 34,
        "self": 20,
        "gp": 12,
        "community-health": 12,
        "carer": 6,
        "care-provider": 5,
        "internal": 4,
        "housing": 3,
        "police": 2,
        "voluntary": 2,
    }
)
"""Who asks, when it is not a hospital."""
SOURCE = {"hospital": "nhs-trust", "care-provider": "homecare", "voluntary": "voluntary"}
"""Kind of the organisation that asks, by who asks; a GP is the person's own."""
ROUTE: dict[str, Odds[str]] = {
    "older": Odds({"community": 60, "discharge": 28, "diversion": 6, "depleted": 5, "depleted-deferred": 1}),
    "learning-disability": Odds({"transition": 45, "community": 54, "prison": 1}),
    "sensory-physical": Odds({"community": 70, "discharge": 20, "diversion": 4, "transition": 6}),
    "mental-health": Odds({"community": 78, "discharge": 18, "prison": 4}),
}
"""Route of access by group; by the community, for everybody else."""
REASON = {"mental-health": "mental-health", "carer": "carer-support", "technology": "technology"}
"""Why they come, by group; else for an assessment."""
PRIORITY = Odds({"routine": 70, "urgent": 24, "same-day": 6})
WAIT = Odds({0: 42, 1: 34, 2: 14, 4: 6, 9: 4})
"""Days until the person is first spoken to; within 48 hours is the aim."""
ASIDE = Odds({"information": 46, "change": 30, "equipment": 12, "safeguarding": 12})
ENDING = Odds({"advice": 60, "other-service": 16, "continue": 14, "declined": 5, "nhs": 3, "other": 2})


def contact(
    case: Case,
    day: date,
    outcome: str,
    reason: str = "",
    route: str = "",
    requester: str = "",
    discharged: bool = False,
) -> Contact:
    """A contact on that day, spoken to within days, and closed with its outcome."""
    rng = case.rng
    received = at_work(rng, case.day(day, 0, 0))
    who = requester or ("hospital" if discharged else COMMUNITY.deal(rng))
    wait = WAIT.deal(rng)
    first = case.later(received, wait, wait)
    hospital = pick(rng, case.world.directory.locations["hospital"]) if discharged else None
    team = case.world.team("hospital" if discharged else "access")
    return case.council.add(
        Contact(
            person=case.key,
            received=received,
            route=route or ("discharge" if discharged else "community"),
            reason=reason or ("hospital-discharge" if discharged else REASON.get(case.group, "needs-assessment")),
            requester=who,
            source=hospital.organisation if hospital else _source(case, who),
            priority="urgent" if discharged else PRIORITY.deal(rng),
            status="closed",
            hospital=hospital.number if hospital else None,
            discharged=case.day(received.date(), 0, 2) if discharged else None,
            first_contact=first,
            closed=case.day(first.date(), 0, 4),
            outcome=outcome,
            worker=case.world.worker(team),
            team=team,
        )
    )


def _source(case: Case, who: str) -> int | None:
    if who == "gp":
        return case.person.practice
    return case.world.organisation(SOURCE[who]) if who in SOURCE else None


def aside(case: Case) -> Contact:
    """A contact beside the story: a question, a change of circumstances, a worry."""
    days = max(1, (case.until - case.since).days)
    return contact(case, case.since + between(case.rng, 0, days - 1) * DAY, ENDING.deal(case.rng), ASIDE.deal(case.rng))


def waiting(case: Case) -> Contact:
    """A contact of the last days, still open."""
    made = contact(case, county.TODAY - between(case.rng, 0, 4) * DAY, "other")
    made.status, made.closed, made.outcome = "open", None, None
    if case.chance(0.5):
        made.first_contact = None
    return made
