"""References: their form, what they may name, and that what they lead to is here where it has to be.

https://hl7.org/fhir/R4/references.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from fhirgw.fhir.elements import is_resource
from fhirgw.fhir.issue import Issue
from fhirgw.validation.scope import Found, Scope

_LITERAL = re.compile(r"([A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?")
_ANYWHERE = re.compile(r"https?://\S+/([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?")

NOT_CONTAINED = Issue("invariant", "ref-1: no contained resource has this id: contain it, or refer to another")
NOT_IN_BUNDLE = Issue("not-found", "No entry of the Bundle has this fullUrl: add it, or refer to a resource by its url")
MALFORMED = Issue("value", "Not a reference: write Type/id, a url, urn:uuid: and a UUID, or # and a contained id")
NO_SUCH_TYPE = Issue("value", "The reference names no type of R4: write Type/id")
DISAGREE = Issue("value", "The reference and its type name different types: leave out type, or correct one")
EMPTY = Issue("structure", "The reference says nothing: give a reference, an identifier or a display", None, "warning")


@cache
def wrong_type(targets: tuple[str, ...]) -> Found:
    """What is found of a reference to another type than one of these."""
    return [("", Issue("value", f"The reference may name {' or '.join(targets)}: refer to one of these"))]


@cache
def reference(targets: tuple[str, ...]) -> Callable[[dict[str, Any], Scope], Found | None]:
    """The judge of a Reference that may name these resource types; any, for none or Resource."""
    anything = not targets or "Resource" in targets
    wanted = frozenset(targets)

    def check(value: dict[str, Any], scope: Scope) -> Found | None:
        written = value.get("reference")
        kind = value.get("type")
        if written.__class__ is str:
            match = _LITERAL.fullmatch(written)
            named = match.group(1) if match else elsewhere(written, scope)
            if not isinstance(named, str):
                return [(".reference", named)] if named else None
            if match and not is_resource(named):
                return [(".reference", NO_SUCH_TYPE)]
            if kind.__class__ is str and kind != named:
                return [("", DISAGREE)]
            kind = named
        elif kind is None and not value.keys() & {"identifier", "display", "extension", "_reference"}:
            return [("", EMPTY)]
        if anything or kind.__class__ is not str or kind in wanted or "/" in kind:
            return None
        return wrong_type(targets)

    return check


def elsewhere(written: str, scope: Scope) -> str | Issue | None:
    """The type that a reference of another form than Type/id leads to; None where that is not known here."""
    if written.startswith(("#", "urn:")):
        found = scope.resolved(written)
        if found is not None:
            kind = found.get("resourceType")
            return kind if isinstance(kind, str) else None
        if written.startswith("#"):
            return NOT_CONTAINED
        return NOT_IN_BUNDLE if scope.above is not None else None
    if match := _ANYWHERE.fullmatch(written):
        return match.group(1) if is_resource(match.group(1)) else None
    kind, conditional, _ = written.partition("?")
    if conditional and is_resource(kind) and scope.above is not None:
        return kind
    return None if "://" in written else MALFORMED
