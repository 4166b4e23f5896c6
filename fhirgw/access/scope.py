"""SMART scopes: what an application may do with which type, in whose name.

Both spellings are read, `system/Patient.read` (v1) and `system/Patient.rs` (v2), and kept as v2.
https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fhirgw.fhir.issue import FhirError, Issue

VERBS = "cruds"
"""create, read, update, delete, search: v2 writes them in this order, and only so."""

VERSION_1 = {"read": "rs", "write": "cud", "*": VERBS}

SHAPE = re.compile(
    r"(?P<context>patient|user|system)/(?P<type>\*|[A-Z][A-Za-z]{1,63})\."
    r"(?:(?P<v1>read|write|\*)|(?P<v2>(?=[cruds])c?r?u?d?s?))"
)


@dataclass(frozen=True, slots=True)
class Scope:
    """`context` is patient, user or system; `type` a resource type or `*`; `verbs` letters of VERBS, in order."""

    context: str
    type: str
    verbs: str

    def covers(self, verb: str, resource_type: str) -> bool:
        """Whether the scope allows the verb on the type."""
        return verb in self.verbs and self.type in ("*", resource_type)

    def __str__(self) -> str:
        return f"{self.context}/{self.type}.{self.verbs}"

    @classmethod
    def parse(cls, text: str) -> Scope:
        """The scope a token spells. Raises FhirError(forbidden): what we cannot read permits nothing."""
        found = SHAPE.fullmatch(text)
        if not found:
            raise FhirError(
                Issue(
                    "forbidden",
                    "A scope is not one this gateway knows: use context/Type.verbs, as in system/Patient.rs",
                )
            )
        return cls(found["context"], found["type"], found["v2"] or VERSION_1[found["v1"]])
