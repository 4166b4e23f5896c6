"""What is known of a person beside their support: registers, safeguarding and warnings."""

from __future__ import annotations

from fhirgw.council import county
from fhirgw.council.case import Case
from fhirgw.council.days import DAY
from fhirgw.council.facts import Alert, Register
from fhirgw.council.odds import Odds, between

REGISTERS: dict[str, tuple[tuple[str, float], ...]] = {
    "older": (("dementia", 0.26), ("hard-of-hearing", 0.12), ("partial-sight", 0.05), ("blind", 0.03)),
    "learning-disability": (("learning-disability", 0.8), ("autism", 0.3), ("deaf-without-speech", 0.01)),
    "sensory-physical": (
        ("blind", 0.06),
        ("partial-sight", 0.08),
        ("deaf-with-speech", 0.05),
        ("hard-of-hearing", 0.04),
    ),
    "mental-health": (("autism", 0.08),),
    "technology": (("dementia", 0.1), ("hard-of-hearing", 0.08)),
}
"""Registers, and the share of the group on each."""

SAFEGUARDING = Odds(
    {"enquiry": 40, "neglect": 18, "self-neglect": 14, "financial-abuse": 12, "physical-abuse": 8, "domestic-abuse": 8}
)
WARNING = Odds({"dog": 30, "aggression": 26, "no-lone-visit": 20, "infection": 12, "fire": 12})
CATEGORY = {"fire": "risk-to-others", "infection": "risk-to-others"}
"""Of a warning, by its code; the others are risks to staff."""


def registers(case: Case) -> None:
    """What the person is registered as, or known to live with."""
    for register, share in REGISTERS.get(case.group, ()):
        if case.chance(share):
            case.council.add(Register(person=case.key, register=register, since=case.day(case.since, 0, 90)))


def alerts(case: Case) -> None:
    """Safeguarding concerns, and warnings to staff."""
    if case.chance(0.06):
        _alert(case, "safeguarding", SAFEGUARDING.deal(case.rng), 20, 140)
    if case.chance(0.04):
        code = WARNING.deal(case.rng)
        _alert(case, CATEGORY.get(code, "risk-to-staff"), code, 180, 900)


def _alert(case: Case, category: str, code: str, low: int, high: int) -> None:
    days = max(1, (case.until - case.since).days)
    start = case.day(case.since, 0, days - 1)
    end = start + between(case.rng, low, high) * DAY
    closed = min(end, case.until) if end <= county.TODAY or case.ended else None
    status = "closed" if closed else "active"
    safeguarding = category == "safeguarding"
    worker = case.world.worker(case.world.team("safeguarding")) if safeguarding else case.worker
    case.council.add(
        Alert(person=case.key, category=category, code=code, status=status, start=start, end=closed, worker=worker)
    )
