"""What an export is asked for with: the headers and parameters of a Bulk Data kick-off request, read strictly.

https://hl7.org/fhir/uv/bulkdata/export.html#query-parameters
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from difflib import get_close_matches

from starlette.requests import Request

from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.parameters import HELD, compartment
from fhirgw.store.export import Selection

FORMATS = ("application/fhir+ndjson", "application/ndjson", "ndjson")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
PARAMETERS = ("_outputFormat", "_since", "_type")


def selection(request: Request, of_patients: bool) -> Selection:
    """What the request asks for; `of_patients`: of people's records alone. Raises FhirError naming the parameter."""
    if "respond-async" not in _preferences(request):
        raise _refusal("Prefer: respond-async is needed: an export takes longer than a request")
    if "accept" not in request.headers:
        raise _refusal("Accept: application/fhir+json is needed: it is what errors are told in")
    given: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        if name != "_format":
            given.setdefault(name, []).append(value.strip())
    for name in given:
        if name not in PARAMETERS:
            close = get_close_matches(name, PARAMETERS, 1)
            meant = f"did you mean {close[0]}?" if close else f"supported here: {', '.join(PARAMETERS)}"
            raise FhirError(Issue("not-supported", f"The parameter {name[:40]!r} is not supported: {meant}"))
    _check_format(_only(given, "_outputFormat"))
    types = tuple(dict.fromkeys(each.strip() for value in given.get("_type", ()) for each in value.split(",")))
    check_types(types, of_patients)
    return Selection(types, () if of_patients else None, _since(_only(given, "_since")))


def _preferences(request: Request) -> list[str]:
    """The header may be repeated, and each may hold several: `respond-async, handling=lenient`."""
    return [each.strip().lower() for line in request.headers.getlist("prefer") for each in line.split(",")]


def _only(given: dict[str, list[str]], name: str) -> str | None:
    values = given.get(name, [])
    if len(values) > 1:
        raise _refusal(f"The parameter {name} may be given once")
    return values[0] if values else None


def _check_format(asked: str | None) -> None:
    # A plus sign that was not encoded arrives as a space.
    if asked is not None and asked.replace(" ", "+") not in FORMATS:
        raise FhirError(Issue("not-supported", f"_outputFormat: only NDJSON is written: {', '.join(FORMATS)}"))


def check_types(types: tuple[str, ...], of_patients: bool) -> None:
    """Raises FhirError for a type the gateway does not hold, or that is never in a patient's record."""
    for each in types:
        if each not in HELD:
            close = get_close_matches(each, HELD, 1, 0.75)
            meant = f": did you mean {close[0]}?" if close else ""
            raise FhirError(Issue("not-supported", f"_type: {each[:40]!r} is no type this gateway holds{meant}"))
        if of_patients and each != "Patient" and not compartment(each):
            raise _refusal(f"_type: {each} is in nobody's record: ask for it at [base]/$export")


def _since(value: str | None) -> datetime | None:
    if value is None:
        return None
    value = value.replace(" ", "+")
    if not INSTANT.fullmatch(value):
        raise _refusal("_since: an instant with a time zone is needed, as 2026-01-31T00:00:00Z")
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise _refusal("_since: there is no such moment") from None
    if moment > datetime.now(UTC):
        raise _refusal("_since: this moment is still to come")
    return moment


def _refusal(diagnostics: str) -> FhirError:
    return FhirError(Issue("invalid", diagnostics))
