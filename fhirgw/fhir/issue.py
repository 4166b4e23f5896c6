"""What went wrong, in FHIR's own words: an Issue is a value, and FhirError the one exception that crosses layers.

https://hl7.org/fhir/R4/operationoutcome.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Resource = dict[str, Any]

STATUS = {
    "invalid": 400,
    "structure": 400,
    "required": 400,
    "value": 400,
    "invariant": 422,
    "security": 403,
    "login": 401,
    "forbidden": 403,
    "processing": 422,
    "not-supported": 400,
    "duplicate": 409,
    "not-found": 404,
    "deleted": 410,
    "too-long": 413,
    "code-invalid": 400,
    "too-costly": 400,
    "conflict": 409,
    "transient": 503,
    "timeout": 503,
    "throttled": 429,
    "exception": 500,
    "informational": 200,
}
"""The HTTP status an issue of each type answers with, unless the caller says otherwise."""


@dataclass(frozen=True, slots=True)
class Issue:
    """One entry of an OperationOutcome: `code` from the issue-type list, `diagnostics` for people, no personal data."""

    code: str
    diagnostics: str
    expression: str | None = None
    severity: str = "error"

    def as_fhir(self) -> Resource:
        """The issue as an OperationOutcome.issue element."""
        element: Resource = {"severity": self.severity, "code": self.code, "diagnostics": self.diagnostics}
        if self.expression:
            element["expression"] = [self.expression]
        return element


def outcome(issues: Sequence[Issue]) -> Resource:
    """An OperationOutcome holding the issues, in their order."""
    return {"resourceType": "OperationOutcome", "issue": [issue.as_fhir() for issue in issues]}


class FhirError(Exception):
    """Carries issues to whoever can answer them; `status` is the HTTP status they answer with."""

    def __init__(self, *issues: Issue, status: int | None = None) -> None:
        super().__init__("; ".join(issue.diagnostics for issue in issues))
        self.issues = issues
        self.status = status or STATUS.get(issues[0].code, 400)

    def outcome(self) -> Resource:
        """The OperationOutcome that tells the caller."""
        return outcome(self.issues)
