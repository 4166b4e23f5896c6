"""What an AuditEvent of ours is found by, read from it again: the audit's other columns hold nothing of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from fhirgw.access.audit_event import EVERYBODY, PURPOSE, REGISTRATION
from fhirgw.fhir.issue import Resource
from fhirgw.fhir.nhs import ODS_ORGANISATION


class Facets(NamedTuple):
    """The columns of the audit: none can be changed alone, and its digest left as it was."""

    recorded: datetime
    persons: tuple[str, ...]
    registration: str
    organisation: str
    purpose: str
    outcome: str


def facets(made: Resource) -> Facets:
    """What the AuditEvent is found by."""
    agents = [each["who"] for each in made["agent"]]
    codings = made.get("purposeOfEvent", [{"coding": []}])[0]["coding"]
    return Facets(
        datetime.fromisoformat(made["recorded"]),
        tuple(dict.fromkeys(persons(made))),
        _identified(agents, REGISTRATION),
        _identified(agents, ODS_ORGANISATION),
        next((each["code"] for each in codings if each["system"] == PURPOSE), ""),
        made["outcome"],
    )


def persons(made: Resource) -> Iterator[str]:
    """The ids of the Patients an AuditEvent is about, or EVERYBODY."""
    for entity in made["entity"]:
        if entity.get("role", {}).get("code") == "1":
            yield entity["what"]["reference"].partition("/")[2] if "what" in entity else EVERYBODY


def _identified(whos: Sequence[Resource], system: str) -> str:
    found = (each["identifier"]["value"] for each in whos if each.get("identifier", {}).get("system") == system)
    return next(found, "")
