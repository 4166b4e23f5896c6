"""Planning support: the plan an assessment leads to, its goals and its team, and its reviews."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

from fhirgw.council import county, packages
from fhirgw.council.assessing import METHOD
from fhirgw.council.case import Case
from fhirgw.council.days import DAY, at_work
from fhirgw.council.delivering import Stop, lines
from fhirgw.council.facts import Assessment, Goal, Location, Plan, Review
from fhirgw.council.odds import Odds, between, pick
from fhirgw.council.packages import SERVICES

REVIEW_REASON = Odds({"hospital": 38, "other": 24, "carer": 16, "safeguarding": 10, "failed": 7, "commissioning": 5})
ACHIEVED = Odds({"fully": 34, "partly": 52, "not": 14})
CLOSING = Odds({"achieved": 42, "partly": 34, "not-achieved": 14, "cancelled": 10})


def support(
    case: Case, assessment: Assessment, services: Sequence[str], stop: Stop | None
) -> tuple[Plan, list[Location | None]]:
    """The plan an assessment leads to, with its goals, reviews and services until it stops; each service's place."""
    done = (assessment.completed or assessment.started).date()
    end = stop.day if stop else None
    agreed = min(case.day(done, 1, 18), end or county.TODAY)
    start = min(case.day(agreed, 0, 9), end or county.TODAY)
    plan = case.council.add(
        Plan(
            person=case.key,
            assessment=assessment.number,
            kind="carer" if case.group == "carer" else "care-support",
            status="ended" if stop else "active",
            agreed=agreed,
            start=start,
            end=end,
            review_due=start + 365 * DAY,
            contingency=case.chance(0.8 if case.group == "carer" else 0.35),
            team=_team(case),
        )
    )
    _goals(case, plan)
    changes = _reviews(case, plan)
    return plan, [lines(case, plan, SERVICES[name], changes, stop) for name in services]


def _team(case: Case) -> dict[str, int]:
    team = {"lead": case.worker}
    professions = case.world.directory.professions
    if case.chance(0.3):
        team["therapist"] = pick(case.rng, professions["occupational-therapist"])
    if case.chance(0.2):
        team["support"] = pick(case.rng, professions["assessor"])
    return team


def _goals(case: Case, plan: Plan) -> None:
    domains = ["caring", "relationships"] if plan.kind == "carer" else list(packages.GOALS)
    for _ in range(min(len(domains), between(case.rng, 1, 3))):
        domain = domains.pop(int(case.rng.random() * len(domains)))
        target = plan.start + between(case.rng, 60, 360) * DAY
        closed = plan.end or (target if target < county.TODAY and case.chance(0.5) else None)
        case.council.add(
            Goal(
                plan=plan.number,
                episode=None,
                person=case.key,
                domain=domain,
                description=pick(case.rng, packages.GOALS[domain]),
                importance=between(case.rng, 5, 10),
                status=CLOSING.deal(case.rng) if closed else "in-progress",
                start=plan.start,
                target=target,
                closed=closed,
            )
        )


def _reviews(case: Case, plan: Plan) -> list[date]:
    """The plan's reviews, held and to come; the days of those that changed the package."""
    last = plan.end or county.TODAY
    changes = []
    due = plan.start + (between(case.rng, 42, 56) if case.group == "older" else 365) * DAY
    reason = "planned"
    while True:
        late = between(case.rng, 60, 200) if case.chance(0.12) else between(case.rng, 0, 30)
        held = case.day(max(due, plan.start), late, late)
        if due + late * DAY >= last:
            break
        changed = case.chance(0.25)
        if changed:
            changes.append(held)
        following = held + 365 * DAY
        _review(case, plan, reason, due, at_work(case.rng, held), "services" if changed else "continue", following)
        unplanned = case.chance(0.15)
        reason = REVIEW_REASON.deal(case.rng) if unplanned else "planned"
        due = held + between(case.rng, 40, 300) * DAY if unplanned else following
    plan.review_due = due
    if plan.end is None:
        _review(case, plan, "planned", due, None, None, None)
    elif case.chance(0.1) and due > plan.start:
        _review(case, plan, "planned", due, None, None, None).status = "cancelled"
    return changes


def _review(
    case: Case,
    plan: Plan,
    reason: str,
    planned: date,
    held: datetime | None,
    outcome: str | None,
    following: date | None,
) -> Review:
    return case.council.add(
        Review(
            person=case.key,
            plan=plan.number,
            reason=reason,
            method="carer" if plan.kind == "carer" else METHOD.deal(case.rng),
            status="completed" if held else "planned",
            planned=planned,
            held=held,
            outcome=outcome,
            achieved=ACHIEVED.deal(case.rng) if held and reason == "planned" else None,
            next_due=following,
            worker=case.worker,
            team=case.team,
        )
    )
