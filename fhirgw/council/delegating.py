"""Delegates: who of the people around a person may look at their record for them, at how much of it, since when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from fhirgw.council import county
from fhirgw.council.case import Case
from fhirgw.council.days import DAY
from fhirgw.council.facts import Delegate, Relationship
from fhirgw.council.odds import Odds

APPOINTED = {"attorney-welfare": "attorney", "deputy": "deputy"}
"""Roles that come with a power over health and welfare; an attorney for money alone has none over the record."""
PARENTS = frozenset({"mother", "father"})
YOUNG = 25 * 365
"""Days of age up to which a parent is asked to help with the record, if the young adult wants it."""
RECORDS: Odds[tuple[str, ...]] = Odds(
    {(): 56, ("plan", "team"): 22, ("order", "service"): 12, ("plan", "order", "service"): 10}
)
"""Kinds of record a nominated carer or a parent may see: all, or what caring needs."""


def delegates(case: Case) -> None:
    """Those whom a power or the person themself lets act for them: one for each human around them."""
    seen: set[tuple[str, str]] = set()
    for each in list(case.told(Relationship)):
        who = (each.given, each.family)
        kind = _kind(case, each)
        if kind and who not in seen:
            seen.add(who)
            _delegate(case, each, kind)


def _kind(case: Case, each: Relationship) -> str | None:
    if each.role in APPOINTED:
        return APPOINTED[each.role]
    young = (county.TODAY - case.person.born).days < YOUNG
    if each.relation in PARENTS and young and case.chance(0.5):
        return "parent"
    return "carer" if each.role == "carer" and case.chance(0.2) else None


def _delegate(case: Case, each: Relationship, kind: str) -> Delegate:
    since = case.day(each.since, 0, 120)
    until = min(_ends(case, since), default=None)
    appointed = kind in APPOINTED.values()
    verified = case.chance(0.93) if appointed else None
    bodies = case.world.directory.organisations["guardian"]
    return case.council.add(
        Delegate(
            person=case.key,
            relationship=each.number,
            kind=kind,
            status="ended" if until else "in-force",
            since=since,
            until=until,
            by_person=None if appointed else case.key,
            by_organisation=bodies[kind == "deputy"] if appointed else None,
            verified=verified,
            checked=case.day(since, 0, 30) if verified else None,
            worker=case.worker,
            records=() if appointed else RECORDS.deal(case.rng),
        )
    )


def _ends(case: Case, since: date) -> Iterator[date]:
    """When it ended: with the person's death, or because somebody changed their mind or was discharged."""
    if case.why == "died" and case.ended:
        yield case.ended
    changed = case.day(since, 90, 700)
    if case.chance(0.08) and since + DAY < changed < case.until:
        yield changed
