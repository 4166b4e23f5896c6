"""Whether what the gateway makes is FHIR R4, as a stranger's would be judged."""

from __future__ import annotations

from fhirgw.fhir.issue import Issue, Resource
from fhirgw.validation import validate


def check(resource: Resource) -> list[Issue]:
    """What is wrong with it. Warnings (no narrative, a code beside an extensible set) are no faults."""
    return [each for each in validate(resource) if each.severity == "error"]
