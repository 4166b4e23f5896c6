"""What keeps a pull from going on, and what comes of it.

Each says the place, the rule and the remedy, and quotes nothing that the other server has said but numbers: what it
says may be about somebody.
"""

from __future__ import annotations

from fhirgw.fhir.issue import FhirError, Issue


class Interrupted(FhirError):
    """It cannot go on now, and nothing is lost: the same command goes on where it was."""

    def __init__(self, code: str, told: str) -> None:
        super().__init__(Issue(code, told))


class Ended(FhirError):
    """It will never go on: what was asked for is not to be had. The next pull asks anew."""

    def __init__(self, code: str, told: str) -> None:
        super().__init__(Issue(code, told))
