"""Consents and dissents to sharing: with whom, of what, for what, who decided, and what they do not hold for."""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

from fhirgw.council.case import Case
from fhirgw.council.days import DAY
from fhirgw.council.facts import Consent, Exemption, Line, Relationship
from fhirgw.council.odds import Odds, pick

DISSENTING = 0.038
"""Share of those asked who do not want something of theirs shared, which is 3% of all people: an assumption of ours."""

OPPOSITE = {"consent": "dissent", "dissent": "consent"}
SCOPE = Odds({"nhs": 52, "care-provider": 22, "voluntary": 14, "family": 12})
"""Whom a dissent is about."""
RECORDS: Odds[tuple[str, ...]] = Odds(
    {
        (): 58,
        ("assessment", "answers"): 14,
        ("plan", "goal", "team"): 8,
        ("order", "service"): 6,
        ("alert",): 9,
        ("equipment", "device", "device-use"): 5,
    }
)
"""Kinds of record a dissent is about: mostly all of them."""
PURPOSE = Odds({None: 72, "planning": 12, "research": 12, "direct-care": 4})
DECIDED = Odds({"person": 88, "best-interest": 12})
"""Who decides, where nobody else was given the power; what is decided for somebody is decided anew after a year."""
POWERS = {"attorney-welfare": "attorney", "deputy": "deputy"}
"""As what somebody related may decide, by their role."""
BODIES = {"nhs": ("nhs-trust", "mental-health-trust"), "care-provider": ("homecare",), "voluntary": ("voluntary",)}
"""Kinds of organisation in a scope, beside the person's own practice and care provider."""


class Decision(NamedTuple):
    """Who decided, as what; one of the numbers is there."""

    decided: str
    person: int | None = None
    relationship: int | None = None
    worker: int | None = None


def consents(case: Case) -> None:
    """What the person, or who decides for them, said about sharing."""
    given = case.day(case.since, 0, 20)
    if case.chance(DISSENTING):
        _dissent(case, given)
    elif case.chance(0.7):
        made = _consent(case, "consent", "nhs", given, None)
        made.exceptions = _exceptions(case, made) if case.chance(0.015) else ()
    if case.chance(0.16):
        _consent(case, "consent", "care-provider", given, _organisation(case, "care-provider"))
    if case.chance(0.12):
        made = _consent(case, "consent", pick(case.rng, ("family", "family", "voluntary")), given, None)
        made.records = ("plan", "team") if case.chance(0.2) else ()


def _dissent(case: Case, given: date) -> None:
    """A dissent, from one organisation or from all in its scope, of some records, with exceptions here and there."""
    scope = SCOPE.deal(case.rng)
    one = _organisation(case, scope) if scope in BODIES and case.chance(0.45) else None
    made = _consent(case, "dissent", scope, given, one)
    made.records, made.purpose = RECORDS.deal(case.rng), PURPOSE.deal(case.rng)
    if case.chance(0.5):
        made.exceptions = _exceptions(case, made)


def _exceptions(case: Case, consent: Consent) -> tuple[Exemption, ...]:
    """What it does not hold for: one or two organisations, for all or for one kind of record, or kinds alone."""
    kind, rng = OPPOSITE[consent.kind], case.rng
    records = list(consent.records or ("plan", "team", "equipment", "device"))
    bodies = BODIES.get(consent.scope, ()) if consent.organisation is None else ()
    found: list[Exemption] = []
    for _ in range(2 if case.chance(0.4) else 1):
        organisation = _organisation(case, consent.scope) if bodies and case.chance(0.8) else None
        record = records.pop(int(rng.random() * len(records))) if records and case.chance(0.5) else None
        if organisation or record:
            found.append(Exemption(len(found) + 1, kind, organisation, record))
    return tuple(found)


def _consent(case: Case, kind: str, scope: str, given: date, organisation: int | None) -> Consent:
    changed = case.day(given, 40, 700)
    withdrawn = changed if case.chance(0.05) and given < changed < case.until else None
    decision = _decision(case)
    anew = given + 365 * DAY if decision.worker else None
    return case.council.add(
        Consent(
            person=case.key,
            kind=kind,
            scope=scope,
            status="withdrawn" if withdrawn else "given",
            given=given,
            until=withdrawn or anew,
            organisation=organisation,
            purpose=None,
            decided=decision.decided,
            by_person=decision.person,
            by_relationship=decision.relationship,
            by_worker=decision.worker,
            verified=case.chance(0.93) if decision.relationship else None,
            worker=case.worker,
            records=(),
            exceptions=(),
        )
    )


def _decision(case: Case) -> Decision:
    """The attorney or deputy, if there is one; else the person, or a worker for who cannot decide."""
    for each in case.told(Relationship):
        if each.role in POWERS and case.chance(0.6):
            return Decision(POWERS[each.role], relationship=each.number)
    if case.group in {"older", "learning-disability"} and DECIDED.deal(case.rng) == "best-interest":
        return Decision("best-interest", worker=case.worker)
    return Decision("person", person=case.key)


def _organisation(case: Case, scope: str) -> int:
    """One of those in the scope: mostly one the person has to do with."""
    if scope == "nhs" and case.chance(0.5):
        return case.person.practice
    if scope == "care-provider":
        mine = next((line.provider for line in case.told(Line) if line.provider), None)
        if mine and case.chance(0.8):
            return mine
    return case.world.organisation(pick(case.rng, BODIES[scope]))
