"""What an export is asked for with: the headers and parameters of a Bulk Data kick-off request, read strictly.

https://hl7.org/fhir/uv/bulkdata/export.html#query-parameters. With `Prefer: handling=lenient` what cannot be honoured
is left out, and the export's `error` file says so.

Long, because each parameter has a reader of its own, with its refusals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import partial
from typing import Any

from starlette.requests import Request

from fhirgw.api import asked
from fhirgw.api.context import bases
from fhirgw.fhir.incoming import read
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.parameters import HELD, personal
from fhirgw.fhir.pseudonym_filter import finer, why
from fhirgw.fhir.shorten import elements
from fhirgw.fhir.type_filter import filters
from fhirgw.fhir.type_filter import read as search_of
from fhirgw.fhir.views import check_views
from fhirgw.store.export import Selection
from fhirgw.terminology.meant import check as check_codes

NDJSON = ("application/fhir+ndjson", "application/ndjson", "ndjson")
FORMATS = {
    **dict.fromkeys(NDJSON, "ndjson"),
    **dict.fromkeys(("text/csv", "csv"), "csv"),
    **dict.fromkeys(("application/vnd.apache.parquet", "parquet"), "parquet"),
}
"""CSV and Parquet are of views: tables of resources (fhirgw.fhir.views)."""

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
PATIENT = re.compile(r"Patient/([A-Za-z0-9\-.]{1,64})")
PARAMETERS = (
    *("_elements", "_outputFormat", "_pseudonymise", "_since", "_type", "_typeFilter", "_until", "_view"),
    *("allowPartialManifests", "includeAssociatedData", "organizeOutputBy", "patient"),
)
ASSOCIATED = {"LatestProvenanceResources": "latest", "RelevantProvenanceResources": "relevant"}
"""What may be asked for besides; the later is the less restrictive, which holds where both are."""

APART = ("AuditEvent",)
"""What is kept elsewhere than what is exported."""

MOST = 1000
"""Patients that one export may name."""

JSON = ("application/fhir+json", "application/json")
Given = dict[str, list[str]]


async def selection(request: Request, of_patients: bool) -> Selection:
    """What the request asks for; `of_patients`: of people's records alone. Raises FhirError naming the parameter."""
    if "respond-async" not in asked.preferences(request):
        raise _refusal("Prefer: respond-async is needed: an export takes longer than a request")
    if "accept" not in request.headers:
        raise _refusal("Accept: application/fhir+json is needed: it is what errors are told in")
    given = await _given(request)
    found = Selection(patients=() if of_patients else None)
    ignored: list[str] = []
    for name, values in given.items():
        try:
            found = replace(found, **_read(name, values, request, of_patients))
        except FhirError as error:
            if not asked.lenient(request) or error.issues[0].code != "not-supported":
                raise
            left = error.issues
            if name == "_type":
                found = replace(found, types=_known(values, of_patients))
                left = tuple(issue for each in dict.fromkeys(_listed(values)) for issue in _unfit(each, of_patients))
            ignored += [each.diagnostics or "" for each in left]
            if name == "includeAssociatedData" and (known := [each for each in _listed(values) if each in ASSOCIATED]):
                found = replace(found, associated=associated(known))
    check_together(found)
    if found.associated and found.types:
        found = replace(found, types=tuple(dict.fromkeys((*found.types, "Provenance"))))
    return replace(found, ignored=tuple(ignored))


def check_types(types: tuple[str, ...], of_patients: bool) -> None:
    """Raises FhirError for a type the gateway does not hold, or that is never in a patient's record."""
    for each in types:
        if each not in HELD:
            close = get_close_matches(each, HELD, 1, 0.75)
            meant = f": did you mean {close[0]}?" if close else ""
            raise FhirError(Issue("not-supported", f"_type: {each[:40]!r} is no type this gateway holds{meant}"))
        if each in APART:
            raise FhirError(Issue("not-supported", f"_type: {each} is not exported: search it"))
        if of_patients and each != "Patient" and not personal(each):
            told = f"_type: {each} is in nobody's record: ask for it at [base]/$export"
            raise FhirError(Issue("not-supported", told))


def check_form(found: Selection) -> None:
    """Raises FhirError for a format there is none of, and for what cannot be had in the one that is asked for, or with
    pseudonyms.
    """
    if found.form not in FORMATS.values():
        raise _refusal(f"There is no format {found.form[:40]!r}: {', '.join(dict.fromkeys(FORMATS.values()))}")
    if found.form == "ndjson":
        if found.views:
            raise _refusal("_view: views are written as text/csv or application/vnd.apache.parquet: say _outputFormat")
    else:
        check_views(found.views, found.types)
        if found.elements:
            raise _refusal("_elements: a view has the columns it has: leave _elements out, or ask for NDJSON")
        if found.organized:
            raise _refusal("organizeOutputBy: a table has no blocks: leave organizeOutputBy out, or ask for NDJSON")
        if found.associated:
            raise _refusal("includeAssociatedData: no view is of Provenance: leave it out, or ask for NDJSON")
    if found.project is not None:
        _check_pseudonymised(found)


def _check_pseudonymised(found: Selection) -> None:
    if found.patients:
        told = "whoever picks people by who they are would know their pseudonyms: ask for all, or for a Group's"
        raise _refusal(f"_pseudonymise: {told}, without patient")
    for each in found.filters:
        if name := finer(each):
            raise _refusal(why("_typeFilter", name, each.partition("?")[0]))
    if found.until:
        raise _refusal("_until: with pseudonyms it would tell when each row was changed, and its dates: leave it out")
    if found.organized:
        raise _refusal("organizeOutputBy: a pseudonymised export comes by type: leave organizeOutputBy out")
    if found.associated:
        raise _refusal("includeAssociatedData: there are no rules to pseudonymise Provenance by: leave it out")


async def _given(request: Request) -> Given:
    """The parameters by name, of the address and of the body."""
    pairs = [*request.query_params.multi_items()]
    if request.method == "POST":
        pairs += list(_sent(await _parameters(request), bases(request)))
    given: Given = {}
    for name, value in pairs:
        if name not in ("_format", "_pretty"):
            given.setdefault(name, []).append(value.strip())
    return given


async def _parameters(request: Request) -> Resource:
    """What a POST sends. Raises FhirError: 415, 413, 400."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in JSON:
        raise FhirError(Issue("not-supported", f"Send the body as {JSON[0]}"), status=415)
    return read(await asked.body(request, 1 << 20, "What asks for an export"))


def _sent(sent: Resource, bases: Collection[str]) -> Iterator[tuple[str, str]]:
    """The pairs of a Parameters resource; addresses below one of our `bases` are local. Raises FhirError(structure)."""
    listed = sent.get("parameter", [])
    if sent.get("resourceType") != "Parameters" or not isinstance(listed, list):
        raise FhirError(Issue("structure", "An export is asked for by a Parameters resource"))
    for at, each in enumerate(listed):
        values = [value for name, value in each.items() if name.startswith("value")] if isinstance(each, dict) else []
        if len(values) != 1 or not isinstance(each.get("name"), str):
            raise FhirError(
                Issue("structure", "Each parameter has a name and one value", f"Parameters.parameter[{at}]")
            )
        value = values[0].get("reference") if isinstance(values[0], dict) else values[0]
        if isinstance(value, str) and isinstance(values[0], dict):
            value = next((value.removeprefix(f"{base}/") for base in bases if value.startswith(f"{base}/")), value)
        yield each["name"], value if isinstance(value, str) else str(value).lower()


def _read(name: str, values: list[str], request: Request, of_patients: bool) -> dict[str, Any]:
    """What one parameter says of the selection."""
    if name in READ:
        return READ[name](_only(name, values))
    listed = _listed(values)
    if name == "_type":
        types = tuple(dict.fromkeys(listed))
        check_types(types, of_patients)
        return {"types": types}
    if name == "_typeFilter":
        found = filters(values)
        for each in found:
            check_codes(search_of(each).criteria)
        return {"filters": found}
    if name == "_view":
        check_views(listed, ())
        return {"views": tuple(dict.fromkeys(listed))}
    if name == "_elements":
        return {"elements": tuple(element(each) for each in listed)}
    if name == "includeAssociatedData":
        return {"associated": associated(listed)}
    if name == "organizeOutputBy":
        return {"organized": organized(_only(name, values), of_patients)}
    if name == "patient" and request.method == "POST" and of_patients:
        return {"patients": _patients(listed)}
    raise FhirError(Issue("not-supported", _unsupported(name, request)))


def _listed(values: list[str]) -> list[str]:
    return [each.strip() for value in values for each in value.split(",")]


def associated(listed: list[str]) -> str:
    """`latest` or `relevant`. Raises FhirError for what there is not."""
    if unknown := [each for each in listed if each not in ASSOCIATED]:
        close = get_close_matches(unknown[0], ASSOCIATED, 1)
        meant = f"did you mean {close[0]}?" if close else f"there is {' and '.join(ASSOCIATED)}"
        raise FhirError(Issue("not-supported", f"includeAssociatedData: {unknown[0][:40]!r} is not supported: {meant}"))
    return max((ASSOCIATED[each] for each in listed), key=[*ASSOCIATED.values()].index)


def organized(by: str, of_patients: bool) -> bool:
    """That output comes in blocks. Raises FhirError for those of anything but of Patients."""
    if by != "Patient":
        raise FhirError(
            Issue("not-supported", "organizeOutputBy: output is organised by Patient, or by type without it")
        )
    if not of_patients:
        told = "organizeOutputBy: ask at [base]/Patient/$export or a Group's, where everything is somebody's"
        raise FhirError(Issue("not-supported", told))
    return True


def _partial(value: str) -> dict[str, Any]:
    if value not in ("true", "false"):
        raise _refusal("allowPartialManifests: this is true or false")
    return {"paged": value == "true"}


def _unsupported(name: str, request: Request) -> str:
    if name == "patient":
        return "The parameter patient is for a POST of Parameters to [base]/Patient/$export, or a Group's"
    close = get_close_matches(name, PARAMETERS, 1)
    meant = f"did you mean {close[0]}?" if close else f"supported here: {', '.join(PARAMETERS)}"
    return f"The parameter {name[:40]!r} is not supported: {meant}"


def _known(values: list[str], of_patients: bool) -> tuple[str, ...]:
    """Of the types that are asked for leniently, those that can be had. Raises FhirError where there is none."""
    listed = _listed(values)
    found = tuple(dict.fromkeys(each for each in listed if not _unfit(each, of_patients)))
    check_types(found or tuple(listed), of_patients)
    return found


def _unfit(kind: str, of_patients: bool) -> tuple[Issue, ...]:
    """What keeps a type from being exported."""
    try:
        check_types((kind,), of_patients)
    except FhirError as error:
        return error.issues
    return ()


def check_together(found: Selection) -> None:
    """Raises FhirError for parameters that contradict each other, or that come to nothing in this form."""
    for each in found.filters:
        kind = each.partition("?")[0]
        if found.types and kind not in found.types:
            raise _refusal(f"_typeFilter: {kind} is not among the types that _type asks for")
    if found.organized and found.associated:
        raise _refusal("includeAssociatedData: what a Provenance is of has no block, so leave organizeOutputBy out")
    check_form(found)
    if found.since and found.until and found.until <= found.since:
        raise _refusal("_until: this moment is not after _since")


def _only(name: str, values: list[str]) -> str:
    if len(values) > 1:
        raise _refusal(f"The parameter {name} may be given once")
    return values[0]


def _format(asked: str) -> dict[str, Any]:
    # A plus sign that was not encoded arrives as a space.
    form = FORMATS.get(asked.replace(" ", "+"))
    if form is None:
        raise FhirError(Issue("not-supported", f"_outputFormat: there are {', '.join(FORMATS)}"))
    return {"form": form}


def _since(value: str) -> dict[str, Any]:
    moment = _instant("_since", value)
    if moment > datetime.now(UTC):
        raise _refusal("_since: this moment is still to come")
    return {"since": moment}


def _until(value: str) -> dict[str, Any]:
    return {"until": _instant("_until", value)}


def _instant(name: str, value: str) -> datetime:
    value = value.replace(" ", "+")
    if not INSTANT.fullmatch(value):
        raise _refusal(f"{name}: an instant with a time zone is needed, as 2026-01-31T00:00:00Z")
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _refusal(f"{name}: there is no such moment") from None


def element(value: str) -> str:
    """`birthDate`, or `Patient.birthDate`. Raises FhirError(invalid)."""
    kind, dot, _ = value.partition(".")
    if dot and kind not in HELD:
        raise _refusal(f"_elements: {kind[:40]!r} is no type this gateway holds")
    elements(value, kind if dot else None)
    if not dot and not any(map(partial(_has, value), HELD)):
        raise _refusal(f"_elements: {value[:40]!r} is an element of no type this gateway holds")
    return value


def _has(name: str, kind: str) -> bool:
    try:
        return bool(elements(name, kind))
    except FhirError:
        return False


def _patients(listed: list[str]) -> tuple[str, ...]:
    found = [PATIENT.fullmatch(each) for each in listed]
    if len(found) > MOST or not all(found):
        raise _refusal(f"patient: at most {MOST} references, each as Patient/ID, or its address here")
    return tuple(dict.fromkeys(each[1] for each in found if each))


def _refusal(diagnostics: str) -> FhirError:
    return FhirError(Issue("invalid", diagnostics))


READ: dict[str, Callable[[str], dict[str, Any]]] = {
    "_outputFormat": _format,
    "_pseudonymise": lambda project: {"project": project},
    "_since": _since,
    "_until": _until,
    "allowPartialManifests": _partial,
}
