"""The stories of the council: one for each sort of person it knows, from first contact to today or the ending."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from fhirgw.council import county, packages, words
from fhirgw.council.assessing import assess, reasons, reassessing
from fhirgw.council.case import Case, World, opened
from fhirgw.council.circumstances import alerts, registers
from fhirgw.council.days import DAY
from fhirgw.council.delegating import delegates
from fhirgw.council.delivering import Stop, coming
from fhirgw.council.equipment import equipment, technology
from fhirgw.council.facts import Contact, Plan
from fhirgw.council.kin import cared_for_by, carer_like, family
from fhirgw.council.odds import Odds, between, pick
from fhirgw.council.opening import ROUTE, aside, contact, waiting
from fhirgw.council.people import die, move, person, settle
from fhirgw.council.planning import support
from fhirgw.council.reablement import REABLED, SUPPORTED_AFTER, reable
from fhirgw.council.sharing import consents

TENURE = {
    "older": (700, 1_500),
    "learning-disability": (1_300, 1_900),
    "sensory-physical": (900, 1_700),
    "mental-health": (800, 1_600),
}
"""Days supported so far: the mean of an exponential, and the longest that the reporting copy reaches back."""
REABLEMENT = {"older": 0.55, "sensory-physical": 0.45}
"""Share who have reablement, of those out of hospital."""
NEED = {"residential": 3, "nursing": 3, "supported-living": 3, "homecare": 2, "extra-care": 2, "direct-payment": 2}
"""Weight of need by service; 1 by any other."""
DEPARTURE = Odds({"died": 84, "moved": 16})
AWAY = Odds({"advice": 52, "other-service": 20, "self-funded": 16, "none-offered": 12})
REFUSED = Odds({"not-eligible": 72, "no-needs": 28})


def supported(world: World, group: str, with_technology: bool, left: bool = False) -> Case:
    """An adult with long term support: today, or until they died or moved away."""
    rng = world.rng
    ended = county.TODAY - between(rng, 1, 730) * DAY if left else None
    mean, longest = TENURE[group]
    since = (ended or county.TODAY) - int(max(20, min(longest, rng.expovariate(1 / mean)))) * DAY
    case = opened(
        world, person(world, group, "service-user", since), group, since, ended, DEPARTURE.deal(rng) if left else None
    )
    settle(world, case.person, group, since, case.until)
    first = _admitted(case)
    base = _cared_for(case, first) if first else case.day(since, 0, 5)
    if not first:
        reasons(case, base)
    registers(case)
    family(case)
    delegates(case)
    alerts(case)
    consents(case)
    if with_technology:
        technology(case, first, base)
    if case.chance(0.25):
        aside(case)
    if ended and case.why == "died":
        die(case.person, ended)
    return case


def _admitted(case: Case) -> Contact | None:
    """The contact that leads to an assessment; none for those whose reablement is still under way."""
    route = ROUTE[case.group].deal(case.rng)
    if route != "discharge" or not case.chance(REABLEMENT.get(case.group, 0)):
        return contact(case, case.since, "assessment", route=route, discharged=route == "discharge")
    came = contact(case, case.since, "reablement", discharged=True)
    if not case.ended and (case.until - case.since).days < 55:
        reable(case, came, None)
        return None
    outcome = SUPPORTED_AFTER.deal(case.rng)
    if case.ended and (case.until - case.since).days < 25:
        outcome = "died" if case.why == "died" else "same"
    elif outcome == "self-caring" and (case.until - case.since).days < 160:
        outcome = "reduced"
    end = reable(case, came, outcome).end or case.until
    if outcome == "died":
        return None
    gap = between(case.rng, 60, 60 + (case.until - end).days // 2) if outcome == "self-caring" else 0
    return contact(case, case.day(end, gap, gap), "assessment", "change" if gap else "needs-assessment")


def _cared_for(case: Case, first: Contact) -> date:
    """Assessed, found eligible and supported, by one package or, before a care home, by two; the day support began."""
    services = packages.PACKAGES[case.group].deal(case.rng)
    base = first.closed or first.received.date()
    left = (case.until - base).days
    began = base
    stop = Stop(case.ended, case.why or "") if case.ended else None
    if services[0] in packages.CARE_HOMES and left > 240 and case.chance(0.6):
        switch = case.day(base, left * 3 // 10, left * 7 // 10)
        began = _phase(case, first, base, packages.AT_HOME, Stop(switch, "care-home")).start
        first = contact(case, switch - 30 * DAY, "assessment", "change", requester="family")
        base = first.closed or base
        _phase(case, first, base, services, stop, reassessed=True)
    else:
        began = _phase(case, first, base, services, stop).start
    equipment(case)
    if not case.ended:
        _lately(case)
    return began


def _lately(case: Case) -> None:
    """What is going on in the last weeks, for some."""
    if case.chance(0.02):
        waiting(case)
    if case.chance(0.03) and case.until - case.since > 100 * DAY:
        reassessing(case)


def _phase(
    case: Case, first: Contact, base: date, services: Sequence[str], stop: Stop | None, reassessed: bool = False
) -> Plan:
    """One assessment, its plan and its services, until it stops; the person moves where the service is."""
    need = max(NEED.get(name, 1) for name in services)
    assessment = assess(case, first, base, need, "services", "eligible", "discharge" if first.discharged else "")
    if not reassessed:
        reasons(case, assessment.completed.date() if assessment.completed else base)
    plan, places = support(case, assessment, services, stop)
    for service, place in zip((packages.SERVICES[name] for name in services), places, strict=True):
        if service.lives:
            move(case.person, plan.start, place.address if place else words.address(case.rng), service.lives)
    if not stop and case.chance(0.015):
        coming(case, plan)
    return plan


def reabled(world: World) -> Case:
    """Somebody who came out of hospital, had reablement, and needed no more."""
    rng = world.rng
    group = "older" if rng.random() < 0.88 else "sensory-physical"
    ended = county.TODAY - between(rng, 1, 700) * DAY
    since = ended - between(rng, 30, 58) * DAY
    case = opened(world, person(world, group, "service-user", since), group, since, ended, "planned")
    settle(world, case.person, group, since, ended)
    episode = reable(case, contact(case, since, "reablement", discharged=True), REABLED.deal(rng))
    case.ended = episode.end
    reasons(case, episode.start)
    family(case)
    delegates(case)
    consents(case)
    return case


def turned_away(world: World) -> Case:
    """Somebody assessed, found not eligible, and told where else to turn."""
    rng = world.rng
    group = pick(rng, ("older", "older", "sensory-physical", "mental-health"))
    ended = county.TODAY - between(rng, 1, 700) * DAY
    since = ended - between(rng, 50, 90) * DAY
    case = opened(world, person(world, group, "service-user", since), group, since, ended, "planned")
    settle(world, case.person, group, since, ended)
    first = contact(case, since, "assessment")
    assess(case, first, first.closed or since, 0, AWAY.deal(rng), REFUSED.deal(rng))
    consents(case)
    return case


def technology_only(world: World) -> Case:
    """Somebody with care technology and nothing else."""
    since = county.TODAY - between(world.rng, 30, 1_500) * DAY
    case = opened(world, person(world, "technology", "technology", since), "technology", since)
    settle(world, case.person, "technology", since)
    first = contact(case, since, "other-service")
    technology(case, first, first.closed or since)
    family(case)
    if case.chance(0.3):
        consents(case)
    return case


def carer(world: World, cared_for: Case, also: Case | None) -> Case:
    """An unpaid carer in their own right, with an assessment of their own; a few care for somebody else as well."""
    rng = world.rng
    since = cared_for.day(cared_for.since, 0, max(1, (cared_for.until - cared_for.since).days - 60))
    relation, like, together = carer_like(cared_for)
    who = person(world, "carer", "carer", since, like)
    case = opened(world, who, "carer", since)
    settle(world, who, "carer", since)
    cared_for_by(cared_for, who, relation, together, since)
    if also:
        cared_for_by(also, who, "friend", False, max(since, also.since))
    first = contact(case, since, "assessment", "carer-support", requester=pick(rng, ("self", "carer", "gp")))
    eligible = case.chance(0.78)
    outcome, decision = ("services", "eligible") if eligible else ("advice", "not-eligible")
    assessment = assess(case, first, first.closed or since, between(rng, 1, 2), outcome, decision)
    if eligible:
        reasons(case, assessment.completed.date() if assessment.completed else since)
        support(case, assessment, packages.PACKAGES["carer"].deal(rng), None)
    consents(case)
    return case
