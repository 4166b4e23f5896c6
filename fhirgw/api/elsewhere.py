"""What is not carried here, asked of the terminology server that the settings name, if they name one.

Where it does not answer, a code is unknown, which is no failure; a meaning or a list cannot be had just then.
https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

from collections.abc import Callable

from fhirgw.api.answer import RETRY_AFTER
from fhirgw.api.terminology_server import TerminologyServer, Unanswered
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.terminology.definitions import NotHeld
from fhirgw.terminology.operations import Operation
from fhirgw.terminology.validate_code import Verdict

SILENT = "Unknown, because the terminology server did not answer"
Pairs = list[tuple[str, str]]


async def judged(
    server: TerminologyServer | None,
    operation: Operation,
    judge: Callable[[], Verdict],
    forms: Callable[[], list[Pairs]],
) -> Verdict:
    """The verdict: ours, and where we do not know, the server's on any of the codings. Raises NotHeld."""
    absent: NotHeld | None = None
    try:
        verdict = judge()
    except NotHeld as error:
        verdict, absent = Verdict(None, str(error)), error
    if verdict.result is None and server is not None:
        verdict = await _judged_there(server, operation, forms(), verdict)
    if verdict.result is None and absent is not None and verdict.message != SILENT:
        raise absent
    return verdict


async def answered(server: TerminologyServer | None, operation: Operation, given: Pairs, absent: NotHeld) -> Resource:
    """The server's answer. Raises `absent` where it knows no more than we, FhirError(transient) without one."""
    if server is None:
        raise absent
    try:
        found = await server.ask(f"{operation.type}/${operation.name}", given)
    except Unanswered:
        raise FhirError(Issue("transient", f"{SILENT}: ask again in {RETRY_AFTER} seconds")) from None
    if found is None:
        raise absent
    return found


async def _judged_there(
    server: TerminologyServer, operation: Operation, forms: list[Pairs], unknown: Verdict
) -> Verdict:
    found = unknown
    for pairs in forms:
        try:
            said = await server.ask(f"{operation.type}/${operation.name}", pairs)
        except Unanswered:
            return Verdict(None, SILENT, unknown.display)
        verdict = _verdict(said) if said else None
        if verdict is not None:
            found = verdict
            if verdict.result:
                break
    return found


def _verdict(there: Resource) -> Verdict | None:
    """What another server's Parameters say, as far as they are Parameters."""
    said: dict[str, object] = {}
    parts = there.get("parameter")
    for each in parts if isinstance(parts, list) else ():
        if isinstance(each, dict):
            value = next((value for name, value in each.items() if name.startswith("value")), None)
            said[str(each.get("name"))] = value
    result, message, display = (said.get(name) for name in ("result", "message", "display"))
    if not isinstance(result, bool):
        return None
    return Verdict(result, message if isinstance(message, str) else None, display if isinstance(display, str) else None)
