"""What stands in the way of seeing a record though there is a basis: dissent, labels of the person, classes of the row.

The rule that decides among consents and dissents is the one with the greatest weight; of equals, the deny.
"""

from __future__ import annotations

from collections.abc import Iterator

from fhirgw.access.consent import Directive
from fhirgw.access.facts import Facts, Reason, Row, Ruled, current, day
from fhirgw.access.label import CLASSES, ENTRY, RESTRICTED, SEALED, opened
from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.access.unread import UNREAD

HEEDED = (Purpose.DIRECT_CARE, Purpose.PLANNING, Purpose.RESEARCH)
DECIDED = {
    "person": "the person decided",
    "delegate": "decided by somebody who may act for the person",
    "best-interest": "decided in the person's best interests",
    "record": "as their record is labelled",
}


MEANT = {
    "restricted": "restricted: they tell where somebody lives who must not be found",
    "safeguarding": "about safeguarding",
    "sealed": "sealed",
    "third-party": "what somebody else told in confidence (third-party)",
    "entry": "how to get into the person's home (entry)",
}
"""Each class as a reason tells it."""


def dissent(permit: Permit, resource_type: str, rows: tuple[Row, ...], facts: Facts) -> Iterator[Reason]:
    """What labels of the person stand in the way, and the consent or dissent that decides, for rows of each class."""
    for rule, rests_on in facts.rules:
        if current(rule.starts, rule.ends, facts.now):
            yield from _labelled(permit, resource_type, rows, rule, rests_on)
    if permit.purpose not in HEEDED and not permit.delegate:
        return
    for labels, controlled in sorted({(row.labels, row.controlled) for row in rows}):
        keeps = permit.keeps and controlled
        matching = [each for each in facts.rules if _matches(permit, resource_type, labels, keeps, each.rule, facts)]
        if matching:
            yield _strongest(matching, facts)


def _labelled(
    permit: Permit, resource_type: str, rows: tuple[Row, ...], rule: Directive, rests_on: str
) -> Iterator[Reason]:
    if permit.purpose == Purpose.OPERATIONS:
        return
    if rule.effect == "seal" and not permit.clearance & SEALED:
        yield Reason(False, "The person's record is sealed.", rests_on, "it were cleared for sealed records")
    if rule.effect != "restrict" or permit.clearance & RESTRICTED or permit.themselves:
        return
    if resource_type in (rule.kinds or ()) or any(row.labels & ENTRY for row in rows):
        told = "The person is restricted: what tells where they are is withheld."
        yield Reason(False, told, rests_on, "it were cleared for restricted records")
    elif resource_type == "Patient":
        yield Reason(True, "They are restricted: it is served without their address, telephone and GP.", rests_on)


def _matches(permit: Permit, resource_type: str, labels: int, keeps: bool, rule: Directive, facts: Facts) -> bool:
    named = rule.party in permit.parties or (rule.party is None and not permit.delegate and not keeps)
    return (
        rule.effect in ("permit", "deny")
        and named
        and rule.purpose in (None, permit.purpose)
        and (rule.kinds is None or resource_type in rule.kinds)
        and (rule.classes == 0 or bool(rule.classes & labels))
        and current(rule.starts, rule.ends, facts.now)
    )


def _strongest(matching: list[Ruled], facts: Facts) -> Reason:
    """The rule that decides: the greatest weight; of equals, the deny."""
    rule, rests_on = max(matching, key=lambda each: (each.rule.weight, each.rule.effect == "deny"))
    if rule.decided == UNREAD:
        row = rests_on.removeprefix(f"{UNREAD}/")
        told = f"The row {row} is about sharing the person's record and was refused: it may be a dissent."
        return Reason(False, told, None, "the row were corrected at its source: the errors file of the sync says how")
    about = [
        *([", ".join(rule.kinds)] if rule.kinds else []),
        *([f"what is {_named(rule.classes)}"] if rule.classes else []),
        f"with {facts.called(rule.party)}" if rule.party else "with everybody",
        *([f"for {rule.purpose.replace('-', ' ')}"] if rule.purpose else []),
    ]
    since = f", since {day(rule.starts)}" if rule.starts else ""
    says = "A consent" if rule.effect == "permit" else "A dissent"
    told = f"{says} to sharing {' '.join(about)} decides{since}: {DECIDED[rule.decided]}."
    if rule.effect == "permit":
        return Reason(True, told, rests_on)
    return Reason(False, told, rests_on, "the dissent were withdrawn, or a more specific consent given")


def classes(permit: Permit, resource_type: str, rows: tuple[Row, ...]) -> Iterator[Reason]:
    """Rows of a class that the permit is not cleared for, and its purpose does not open."""
    cleared = opened(permit, resource_type)
    for name, bit in CLASSES.items():
        kept = [row for row in rows if row.labels & bit & ~cleared]
        if kept:
            which = "They are" if len(kept) == len(rows) else "Some are"
            yield Reason(False, f"{which} {MEANT[name]}.", None, f"it were cleared for {name} records")


def _named(classes: int) -> str:
    return " or ".join(name for name, bit in CLASSES.items() if classes & bit)
