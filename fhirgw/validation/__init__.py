"""Whether a resource is FHIR R4, and keeps to the profiles it claims or is asked to keep to.

`structure` says what R4 asks of every object, `constraint` what profiles add; both are compiled when first met, so that
a resource of some 50 elements takes some 50 µs. No issue repeats a value. https://hl7.org/fhir/R4/validation.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fhirgw.fhir import profile
from fhirgw.fhir.elements import is_resource
from fhirgw.fhir.issue import Issue
from fhirgw.terminology import definitions
from fhirgw.validation import binding, constraint, extension, snapshot, structure
from fhirgw.validation.claim import by_claim
from fhirgw.validation.ids import twice
from fhirgw.validation.scope import Scope
from fhirgw.validation.shape import OBJECT
from fhirgw.validation.structure import NO_TYPE, judge

__all__ = ["Issue", "validate"]

MOST = 1000
"""Issues that are told of one resource."""

TOO_DEEP = Issue("structure", "Nested too deep to be judged: nothing in FHIR is")


def forget() -> None:
    """Compiles anew what is met next: definitions were added or taken back."""
    for compiled in (structure.judge, extension.extensions, constraint.conforms, snapshot.tree):
        compiled.cache_clear()
    binding.answers.cache_clear()
    binding.bound.cache_clear()
    binding.CODES.clear()
    binding.DISPLAYS.clear()
    binding.SYSTEMS.clear()


profile.rests_on_these(forget)
definitions.rests_on_these(forget)


def validate(resource: Any, profiles: Sequence[str] = ()) -> list[Issue]:
    """Everything found wrong with a resource, whatever JSON it is; an empty list when nothing is.

    `profiles` are canonical urls to judge it by besides those in its meta.profile. Each issue has its FHIRPath place in
    `expression`, and its `severity`: error, warning or information. A resource is sound that has no error.
    """
    if resource.__class__ is not dict:
        return [OBJECT]
    kind = resource.get("resourceType")
    if kind.__class__ is not str or not is_resource(kind) or kind in ("Resource", "DomainResource"):
        return [replace(NO_TYPE, expression="resourceType")]
    scope = Scope(resource)
    try:
        found = [*(judge(kind)(resource, scope) or ()), *(by_claim(resource, profiles, scope) or ())]
        if scope.named or "contained" in resource:
            found += twice(resource)
    except RecursionError:
        return [replace(TOO_DEEP, expression=kind)]
    if not found:
        return []
    issues = [Issue(each.code, each.diagnostics, kind + place, each.severity) for place, each in dict.fromkeys(found)]
    return issues if len(issues) <= MOST else _most(issues)


def _most(issues: list[Issue]) -> list[Issue]:
    """As many issues as anybody reads: errors before others."""
    kept = sorted(issues, key=lambda each: each.severity != "error")[:MOST]
    return [*kept, Issue("informational", f"{len(issues) - MOST:,} more were found", None, "information")]
