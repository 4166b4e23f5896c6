"""JSON Patch (RFC 6902) on a resource: only where a caller may write, and all of it or nothing.

Paths are allow-listed: elements that R4 gives the type, and of meta what describes (tag, profile). What says which
resource it is, who may see it and whose word it is, is not patched. https://hl7.org/fhir/R4/http.html#patch
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, cast

import jsonpatch
import jsonpointer

from fhirgw.fhir.canonical import encode
from fhirgw.fhir.elements import children, step
from fhirgw.fhir.issue import FhirError, Issue, Resource

MEDIA = "application/json-patch+json"
MOST = 200
"""Operations of one patch."""
LARGEST = 2_000_000
"""Bytes that a resource may grow to by copying within itself."""

NOT_PATCHED = ("resourceType", "id", "implicitRules", "contained")
META = ("tag", "profile")
"""What of meta is patched."""
MEMBERS = {
    "add": {"value"},
    "replace": {"value"},
    "test": {"value"},
    "remove": set(),
    "move": {"from"},
    "copy": {"from"},
}
"""The operations, and what each needs besides its path."""


_MISFITS = (TypeError, ValueError, AttributeError)
"""What jsonpatch makes of a path into a text or a number."""


def patched(resource: Resource, operations: Any) -> Resource:
    """What the operations make of a resource, which stays as it is.

    Raises FhirError naming the operation by its position: invalid for what is no patch (400), forbidden for what is not
    patched here (403), processing for what does not fit the resource, a failed test among it (422).
    """
    if not isinstance(operations, list) or not operations or len(operations) > MOST:
        raise _refusal("invalid", f"A JSON Patch is a list of 1 to {MOST} operations", None)
    for at, each in enumerate(operations):
        _check(resource["resourceType"], each, at)
    made: Resource = resource
    for at, each in enumerate(operations):
        made = _applied(made, each, at)
    return made


def _applied(resource: Resource, operation: dict[str, Any], at: int) -> Resource:
    try:
        made: Resource = jsonpatch.apply_patch(resource, cast(Any, [operation]))
    except jsonpatch.JsonPatchTestFailed:
        raise _refusal("processing", "The value is not the one that is there: read it again", at) from None
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, LookupError, *_MISFITS):
        raise _refusal("processing", "The path leads nowhere in this resource: read it again", at) from None
    if operation["op"] == "copy" and len(encode(made)) > LARGEST:
        raise _refusal("too-costly", "By copying, the resource grows too large", at)
    return made


def _check(resource_type: str, operation: Any, at: int) -> None:
    if not isinstance(operation, dict) or str(operation.get("op")) not in MEMBERS:
        raise _refusal("invalid", f"op is one of {', '.join(MEMBERS)}", at)
    if not MEMBERS[operation["op"]] <= operation.keys():
        raise _refusal("invalid", f"{operation['op']} needs {', '.join(MEMBERS[operation['op']])}", at)
    for name in ("path", *(["from"] if "from" in MEMBERS[operation["op"]] else [])):
        _allowed(resource_type, operation.get(name), name, operation["op"], at)


def _allowed(resource_type: str, path: Any, name: str, op: str, at: int) -> None:
    try:
        parts: Sequence[str] = jsonpointer.JsonPointer(path).parts
    except (jsonpointer.JsonPointerException, TypeError, AttributeError):
        raise _refusal("invalid", f"{name} is no JSON Pointer, as /status is", at) from None
    if op == "test":
        return
    if not parts or parts[0] in NOT_PATCHED:
        told = f"{name} is /[element of {resource_type}], or below one; /{', /'.join(NOT_PATCHED)} stay as they are"
        raise _refusal("forbidden", told, at)
    if step(resource_type, parts[0]) is None:
        near = get_close_matches(parts[0], children(resource_type), 1)
        told = f"{name} is /[element of {resource_type}], or below one"
        raise _refusal("processing", f"{told}: did you mean /{near[0]}?" if near else told, at)
    if parts[0] == "meta" and (len(parts) < 2 or parts[1] not in META):
        raise _refusal("forbidden", f"Only /meta/{' and /meta/'.join(META)} may be patched of meta", at)


def _refusal(code: str, diagnostics: str, at: int | None) -> FhirError:
    place = "The patch" if at is None else f"Operation {at + 1} of the patch"
    return FhirError(Issue(code, f"{place}: {diagnostics}"))
