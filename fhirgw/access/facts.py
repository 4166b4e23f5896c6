"""What bears on a decision, and a reason for it: the words that fhirgw.access.reason and objection have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from fhirgw.access.consent import Delegation, Directive
from fhirgw.access.relationship import Tie
from fhirgw.fhir.dates import LONDON
from fhirgw.fhir.nhs import ODS_ORGANISATION

SHARING = "https://fhirgw.uk/fhir/CodeSystem/consent-sharing|"
SECTORS = {
    "nhs": "the NHS",
    "care-provider": "care providers",
    "voluntary": "voluntary organisations",
    "council": "councils",
    "family": "family and friends",
}
"""What a consent that names a whole sector calls it, as people do."""


class Reason(NamedTuple):
    """`allows` or stands in the way; `rests_on` is the resource that says so; `remedy` what would change it."""

    allows: bool
    text: str
    rests_on: str | None = None
    remedy: str | None = None


class Held(NamedTuple):
    """A tie, and the resource it rests on."""

    tie: Tie
    rests_on: str


class Ruled(NamedTuple):
    """A directive, and the Consent or Patient that makes it."""

    rule: Directive
    rests_on: str


class Acting(NamedTuple):
    """A delegation, and the Consent that grants it."""

    delegation: Delegation
    rests_on: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What the store knows that bears on a decision, at one moment. Ties and delegations are the asker's own."""

    person: str
    now: datetime
    ties: tuple[Held, ...] = ()
    rules: tuple[Ruled, ...] = ()
    delegations: tuple[Acting, ...] = ()
    numbered: bool = False
    opted_out: bool = False
    list_fresh: bool = False
    list_made: datetime | None = None
    """When the list of opt-outs in force was produced, if there is one."""
    granted_until: datetime | None = None
    case_open: bool = False
    """Whether the safeguarding case that the asker names opens this person's record."""
    may_break: bool = False
    """Whether the asker may break the glass."""
    names: Mapping[str, str] = field(default_factory=dict)

    def called(self, party: str) -> str:
        """A party by its name, where it has one: a reference or an identifier tells nobody who that is."""
        if party.startswith(SHARING):
            return SECTORS.get(party.removeprefix(SHARING), party)
        return self.names.get(party) or party.removeprefix(f"{ODS_ORGANISATION}|")


@dataclass(frozen=True, slots=True)
class Row:
    """Rows of one type that are alike in what decides: how many there are, and how many of them are seen.

    `covered` by the asker's scopes; `controlled` by their organisation; `own`: made by it, as a care provider.
    """

    labels: int
    held: int
    seen: int
    covered: bool = True
    controlled: bool = False
    own: bool = False


def current(starts: datetime | None, ends: datetime | None, now: datetime) -> bool:
    """Whether something that holds from `starts` to just before `ends` holds now."""
    return (starts is None or starts <= now) and (ends is None or now < ends)


def last(ends: datetime) -> str:
    """The last day of something that holds to just before `ends`; where that is no midnight, the moment."""
    local = ends.astimezone(LONDON)
    return day(ends) if (local.hour, local.minute) != (0, 0) else day(local - timedelta(days=1))


def day(moment: datetime) -> str:
    """As people write it, where they live."""
    local = moment.astimezone(LONDON)
    return f"{local.day} {local:%B %Y}" + (f", {local:%H:%M}" if (local.hour, local.minute) != (0, 0) else "")
