"""Things to live at home with: equipment from request to return, care technology from referral to removal."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime

from fhirgw.council import county
from fhirgw.council.assessing import assess
from fhirgw.council.case import Case
from fhirgw.council.days import DAY, at_work
from fhirgw.council.facts import Contact, Device, Equipment, Technology
from fhirgw.council.odds import Odds, between, pick

EQUIPMENT = Odds(
    {
        "commode": 14,
        "walking-frame": 14,
        "bath-board": 14,
        "raised-toilet-seat": 12,
        "grab-rail": 16,
        "hoist": 4,
        "profiling-bed": 6,
        "mattress": 6,
        "wheelchair": 4,
        "ramp": 3,
        "stairlift": 2,
        "key-safe": 9,
    }
)
TECHNOLOGY = Odds(
    {
        "pendant": 34,
        "alarm-unit": 22,
        "falls-detector": 12,
        "medication-dispenser": 5,
        "door-sensor": 6,
        "bed-sensor": 4,
        "gps": 4,
        "smoke-detector": 4,
        "video-phone": 85 * county.VIDEO_PHONE_USERS / county.TECHNOLOGY_USERS,
    }
)
MODELS = ("Lumen 2", "Lumen 3", "Tern", "Tern Plus", "Beacon S", "Beacon M")
UNWANTED = Odds({"not-needed": 70, "faulty": 30})


def equipment(case: Case) -> None:
    """An occupational therapist's assessment, and what it brings; sometimes one thing without it."""
    share = {"older": 0.24, "sensory-physical": 0.34}.get(case.group, 0.04)
    days = max(1, (case.until - case.since).days - 60)
    if case.chance(share):
        base = case.day(case.since, 0, days)
        team = case.world.team("occupational-therapy")
        therapy = replace(case, team=team, worker=case.world.worker(team))
        assessment = assess(therapy, None, base, 2, "services", "eligible", "occupational-therapy")
        done = (assessment.completed or assessment.started).date()
        for _ in range(between(case.rng, 1, 2)):
            _item(therapy, assessment.number, done)
    elif case.chance(0.05):
        _item(case, None, case.day(case.since, 0, days))


def _item(case: Case, assessment: int | None, day: date) -> None:
    rng = case.rng
    requested = case.day(day, 0, 3)
    refused = case.chance(0.04)
    delivered = requested + between(rng, 2, 21) * DAY
    late = refused or delivered > case.until
    returned = None
    if not late and (case.ended or case.chance(0.12)):
        back = max(case.ended or delivered, delivered) + between(rng, 5, 60) * DAY
        returned = back if back <= county.TODAY else None
    status = "refused" if refused else "requested" if late else "returned" if returned else "delivered"
    case.council.add(
        Equipment(
            person=case.key,
            assessment=assessment,
            kind=EQUIPMENT.deal(rng),
            status=status,
            requested=requested,
            delivered=None if late else delivered,
            returned=returned,
            supplier=case.world.organisation("equipment"),
            worker=case.worker,
        )
    )


def technology(case: Case, contact: Contact | None, base: date) -> None:
    """Care technology from referral to removal: a device or two."""
    for _ in range(2 if case.chance(0.12) else 1):
        rng = case.rng
        referred = case.day(base, 0, 20)
        installed = case.later(at_work(rng, referred), 3, 24)
        declined = case.chance(0.03)
        waiting = installed.date() >= case.until or (installed.date() - referred).days < 3
        device = () if declined or waiting else (_device(case, installed, len(case.council.of(Technology)) + 1),)
        removed = device and device[0].removed
        status = "declined" if declined else "referred" if waiting else "removed" if removed else "installed"
        case.council.add(
            Technology(
                person=case.key,
                contact=contact.number if contact else None,
                kind=TECHNOLOGY.deal(rng),
                status=status,
                referred=referred,
                supplier=case.world.organisation("technology"),
                worker=case.worker,
                device=device,
            )
        )


def _device(case: Case, installed: datetime, number: int) -> Device:
    rng = case.rng
    removed, why = None, None
    if case.ended:
        removed = min(case.ended + between(rng, 2, 25) * DAY, county.TODAY)
        why = "died" if case.why == "died" else "not-needed"
    elif case.chance(0.07):
        removed = installed.date() + between(rng, 60, 900) * DAY
        removed, why = (removed, UNWANTED.deal(rng)) if removed <= county.TODAY else (None, None)
    return Device(
        model=pick(rng, MODELS),
        serial=f"LT{number:07}",
        status="removed" if removed else "in-use",
        installed=installed,
        installer=pick(rng, case.world.directory.professions["technician"]),
        removed=removed,
        removal_reason=why,
    )
