"""What is asked of homecare by parameters of the address: the same words, in the same form, whatever is asked for.

`week` (2026-W40, or a day in it; else the last that is over), `provider` (an ODS code), `person` (a Patient's id, or
`Patient/` and the id), `_count` and `_cursor` (which `next` has).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches

from starlette.requests import Request

from fhirgw.api import asked
from fhirgw.api.answer import ID
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.nhs import is_ods_code
from fhirgw.visits.week import Week

CURSOR = "_cursor is malformed: follow `next` as it is"


def parameters(request: Request, *known: str) -> dict[str, str]:
    """The parameters of the address, each once. Raises FhirError(not-supported, invalid)."""
    given = asked.pairs(request)
    for name, _ in given:
        if name not in known:
            raise FhirError(Issue("not-supported", f"A parameter is not supported here: {_meant(name, known)}"))
    if len(dict(given)) < len(given):
        raise FhirError(Issue("invalid", "A parameter is given twice: give it once"))
    return dict(given)


def _meant(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name, known, 1)
    return f"did you mean {near[0]}?" if near else f"these are: {', '.join(known)}" if known else "there are none"


def week(given: Mapping[str, str], now: datetime) -> Week:
    """The week that is asked for, or the last that is over. Raises FhirError(invalid)."""
    return Week.parse(given["week"]) if "week" in given else Week.over(now)


def provider(given: Mapping[str, str]) -> str | None:
    """The ODS code of the care provider that is asked for. Raises FhirError(invalid)."""
    if "provider" in given and not is_ods_code(given["provider"]):
        raise FhirError(Issue("invalid", "provider is the ODS code of a care provider, such as K01", "provider"))
    return given.get("provider")


def person(given: Mapping[str, str]) -> str | None:
    """The id of the Patient that is asked for. Raises FhirError(invalid)."""
    id = given["person"].removeprefix("Patient/") if "person" in given else None
    if id is not None and not ID.fullmatch(id):
        raise FhirError(Issue("invalid", "person is the id of a Patient, or Patient/ and the id", "person"))
    return id


def malformed() -> FhirError:
    """A cursor that is none."""
    return FhirError(Issue("invalid", CURSOR, "_cursor"))
