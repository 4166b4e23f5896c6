"""Assessing a person: the assessment, its answers, the decision on eligibility, the reasons for support."""

from __future__ import annotations

from datetime import date

from fhirgw.council import county, packages
from fhirgw.council.case import Case
from fhirgw.council.days import DAY, at_work
from fhirgw.council.facts import Assessment, Contact, Eligibility, SupportReason
from fhirgw.council.odds import Odds, pick
from fhirgw.council.questions import CARER, OUTCOMES

KIND: dict[str, Odds[str]] = {
    "older": Odds({"care-act": 82, "trusted": 12, "self": 6}),
    "learning-disability": Odds({"care-act": 94, "self": 6}),
    "sensory-physical": Odds({"care-act": 88, "self": 12}),
    "mental-health": Odds({"care-act": 70, "mental-health": 30}),
    "carer": Odds({"carer": 1}),
}
"""Kind of assessment by group; somebody just out of hospital has a discharge assessment first."""

METHOD = Odds({"person": 62, "both": 38})
COMPANY = frozenset({"with-family", "residential", "nursing", "supported", "shared-lives", "guest", "hostel"})
"""Accommodation in which nobody lives alone."""
FUNDS = Odds({"fund-self": 8, "fund-joint": 58, "fund-council": 34})

NEED: tuple[Odds[str], ...] = (
    Odds({"manages": 86, "prompting": 12, "some-help": 2}),
    Odds({"manages": 46, "prompting": 30, "some-help": 22, "full-help": 2}),
    Odds({"manages": 22, "prompting": 20, "some-help": 44, "full-help": 14}),
    Odds({"manages": 6, "prompting": 10, "some-help": 34, "full-help": 50}),
)
"""Answers to the outcome questions, by weight of need: 0 none to 3 heavy."""


def assess(
    case: Case, contact: Contact | None, base: date, need: int, outcome: str, decision: str, kind: str = ""
) -> Assessment:
    """An assessment asked for on `base`, done in weeks, with answers to the weight of need, and its decision."""
    requested = case.day(base, 0, 3)
    started = at_work(case.rng, case.day(requested, 0, 24))
    completed = case.later(started, 0, 0 if case.chance(0.8) else 12)
    carer = case.group == "carer"
    return case.council.add(
        Assessment(
            person=case.key,
            contact=contact.number if contact else None,
            kind=kind or KIND[case.group].deal(case.rng),
            term="short" if kind == "discharge" else "long",
            method="carer" if carer else METHOD.deal(case.rng),
            status="completed",
            requested=requested,
            started=started,
            completed=completed,
            updated=completed,
            worker=case.worker,
            team=case.team,
            outcome=outcome,
            answers=_answers(case, need, carer),
            third_party=case.chance(0.03) or None,
            eligibility=(Eligibility(decision, completed.date(), case.worker),),
        )
    )


def reassessing(case: Case) -> None:
    """An assessment begun in the last weeks, and not yet completed."""
    started = at_work(case.rng, case.day(county.TODAY - 14 * DAY, 0, 12))
    assessment = assess(case, None, started.date() - 9 * DAY, 2, "continue", "eligible")
    assessment.status, assessment.started, assessment.updated = "in-progress", started, started
    assessment.completed = assessment.outcome = None
    assessment.eligibility = ()


def _answers(case: Case, need: int, carer: bool) -> dict[str, str]:
    rng, odds = case.rng, NEED[need]
    answers = {
        "STAT-HEALTH-01": "yes" if need or rng.random() < 0.5 else "no",
        "STAT-HOUSING-01": "yes" if _alone(case) else "no",
        "STAT-FINANCE-01": FUNDS.deal(rng),
    }
    answers.update((question.id, odds.deal(rng)) for question in (CARER if carer else OUTCOMES) if rng.random() < 0.93)
    return answers


def _alone(case: Case) -> bool:
    """Whether the person lives alone: not with a family, a spouse or in company, and of the others most."""
    who = case.person
    if who.accommodation["current"].status in COMPANY or who.marital_status == "married":
        return False
    return case.chance(0.2 if case.group == "carer" else 0.7)


def reasons(case: Case, since: date) -> None:
    """Why the person is supported from that day on: a primary reason, and sometimes another."""
    primary = packages.REASONS[case.group].deal(case.rng)
    named = [primary]
    if case.group != "carer" and case.chance(0.25):
        named += [reason for reason in (pick(case.rng, ("access", "isolation", "memory")),) if reason != primary]
    for reason in named:
        first = reason == primary
        case.council.add(SupportReason(person=case.key, reason=reason, primary=first, since=since, until=case.ended))
