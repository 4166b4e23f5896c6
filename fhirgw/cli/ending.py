"""How a command ends that could not go on: what it says, and its exit code (fhirgw.cli.running.CODES)."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from fhirgw.fhir.issue import FhirError
from fhirgw.jobs.files import Unwritable
from fhirgw.jobs.preflight import ShrunkenExtract
from fhirgw.mapping.load import MappingFaults
from fhirgw.store.server import ServerError
from fhirgw.store.trouble import trouble

BY_ISSUE = {"transient": 4, "conflict": 7}
"""Exit codes by FHIR's issue type; what is not here is about the input."""


def ending(error: Exception) -> tuple[str, int]:
    """The message and the code for whatever was raised."""
    match error:
        case ShrunkenExtract():
            return str(error), 5
        case Unwritable():
            return str(error), 6
        case FhirError():
            return str(error), BY_ISSUE.get(error.issues[0].code, 3)
        case MappingFaults():
            return f"{error}\n{len(error.faults)} faults in the mappings", 3
        case ValidationError():
            return "\n".join(_setting(each["loc"], each["msg"]) for each in error.errors()), 2
        case ServerError():
            return str(error), 4
    if said := trouble(error):
        return said, 4
    return f"The gateway failed ({type(error).__name__} at {place(error)}): this is a fault of ours.", 1


def _setting(place: tuple[int | str, ...], message: str) -> str:
    return f"FHIRGW_{'_'.join(map(str, place)).upper()}: {message}"


def place(error: BaseException) -> str:
    """Where it was raised. Its message is left out: it may quote a row."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{Path(at.tb_frame.f_code.co_filename).name}:{at.tb_lineno}" if at else "?"
