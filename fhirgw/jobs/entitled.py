"""Who may have what an export made: whoever asked for it, while they may still see as much as it was made with."""

from __future__ import annotations

from collections.abc import Iterable

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope

SAME = ("organisation", "registration", "purpose", "agreement", "patient", "practitioner", "delegate")
"""What makes two permits those of one asker: the application, what for and by which agreement, and whose record."""


def entitled(permit: Permit, asked: Permit, types: Iterable[str]) -> bool:
    """Whether a permit may have files of these types that were made with the permit `asked`.

    A token that shows less gets none of them: fewer classes, fewer names by which records know the asker, or scopes
    that do not cover all that each type was asked for.
    """
    if any(getattr(asked, each) != getattr(permit, each) for each in SAME):
        return False
    if asked.clearance & ~permit.clearance or not set(asked.parties) <= set(permit.parties):
        return False
    return all(_within(permit, asked, each) for each in types)


def _within(permit: Permit, asked: Permit, resource_type: str) -> bool:
    scopes = [Scope(each.context, resource_type, "r", each.constraint) for each in asked.covering("r", resource_type)]
    return bool(scopes) and all(any(each.within(other) for other in permit.scopes) for each in scopes)
