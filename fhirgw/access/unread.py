"""Rows about sharing that could not be read: until somebody corrects one, its person is shared with nobody outside.

What such a row says nobody knows, and it may be a dissent: default deny. The controller, whose row it is and who has to
correct it, goes on caring for the person. So every sector is denied but councils, and so are those who would act for
the person, and every use beyond their own care.

A row that can only ever permit, such as one that names an attorney, permits nothing while it cannot be read. One that
was read before may have been revoked: then nobody acts for the person meanwhile.
"""

from __future__ import annotations

from fhirgw.access.consent import HEAVIEST, Directive
from fhirgw.access.provision import SHARING
from fhirgw.access.purpose import Purpose

SECTORS = ("nhs", "care-provider", "voluntary", "council")
"""What consents call the organisations that ask; every one of them is of one of these."""

FAMILY = "family"
"""What consents call those who ask for the person, as their attorney, parent or carer."""

UNREAD = "unread"
"""Who decided it (Directive.decided), and the type of what it rests on, whose id names the row."""


def unread(person: str, *, permits: bool) -> list[Directive]:
    """The rules of a row about a person's sharing that could not be read; `permits`: it could only ever permit."""
    if permits:
        return [_deny(person, FAMILY)]
    outside = [_deny(person, each) for each in (*SECTORS, FAMILY) if each != "council"]
    return [*outside, *(_deny(person, None, each) for each in (Purpose.PLANNING, Purpose.RESEARCH))]


def _deny(person: str, sector: str | None, purpose: Purpose | None = None) -> Directive:
    party = f"{SHARING}|{sector}" if sector else None
    return Directive(person, "deny", party, purpose, None, 0, None, None, HEAVIEST, UNREAD)
