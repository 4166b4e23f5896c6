"""The OperationDefinitions of our own operations; those of R4 and of bulk data are published elsewhere.

https://hl7.org/fhir/R4/operationdefinition.html
"""

from __future__ import annotations

from typing import Any

from fhirgw.fhir.capability import OURS
from fhirgw.fhir.issue import Resource

Parameter = dict[str, Any]


def _parameter(name: str, use: str, kind: str, least: int, most: str, told: str) -> Parameter:
    found = {"name": name, "use": use, "min": least, "max": most, "documentation": told}
    return found | {"type": kind}


def _operation(code: str, title: str, changes: bool, told: str, *parameters: Parameter) -> Resource:
    id = f"Patient-{code}"
    return {
        "resourceType": "OperationDefinition",
        "id": id,
        "url": f"{OURS}{id}",
        "version": "0.1.0",
        "name": "".join(part.capitalize() for part in id.split("-")),
        "title": title,
        "status": "active",
        "kind": "operation",
        "date": "2026-11-22",
        "publisher": "fhirgw",
        "description": told,
        "affectsState": changes,
        "code": code,
        "resource": ["Patient"],
        "system": False,
        "type": False,
        "instance": True,
        "parameter": list(parameters),
    }


_ALL = (
    _operation(
        *("who-looked", "Who looked", False),
        "Who looked at a person's record, when and why: for the person themselves, and for auditors.",
        _parameter("_count", "in", "integer", 0, "1", "How many accesses of a page"),
        _parameter("return", "out", "Bundle", 1, "1", "A searchset of AuditEvents, the newest first"),
    ),
    _operation(
        *("break-glass", "Break the glass", True),
        "Emergency access to one person's record, for 30 minutes, with a written reason that is reviewed.",
        _parameter("reason", "in", "string", 1, "1", "Why the record must be seen now, in a sentence"),
        _parameter("grant", "out", "id", 1, "1", "What to send as the header X-Break-Glass"),
        _parameter("expires", "out", "instant", 1, "1", "Until when it holds"),
        _parameter("banner", "out", "string", 1, "1", "What to show to whoever looks"),
    ),
    _operation(
        *("explain", "Explain access", False),
        "What somebody may see of a person's record, by which rule, and what would change it: for auditors.",
        _parameter("who", "in", "string", 0, "1", "Who would ask: one of the next two, whichever it is"),
        _parameter("app", "in", "string", 0, "1", "The registration that would ask"),
        _parameter("organisation", "in", "string", 0, "1", "The ODS code of the organisation that would ask"),
        _parameter("practitioner", "in", "string", 0, "1", "The id of the Practitioner who would ask"),
        _parameter("purpose", "in", "code", 0, "1", "The purpose of use"),
        _parameter("sector", "in", "code", 0, "1", "The sector of the organisation, where that is not to be supposed"),
        _parameter("type", "in", "string", 0, "1", "Types of resource, with commas"),
        _parameter("purpose", "out", "code", 0, "1", "The purpose of use that is explained"),
        _parameter("sector", "out", "code", 0, "1", "What consents call who would ask"),
        _parameter("supposed", "out", "string", 0, "1", "Why that sector is supposed, where nothing names one"),
        _parameter("refused", "out", "string", 0, "1", "Why the caller would get no permit at all"),
        _parameter("explanation", "out", "Element", 0, "*", "What of each type is held, seen, and why"),
    ),
)

_IMPORT = _operation(
    *("import", "Bulk import", True),
    "Resources from NDJSON files, asynchronously: for the controlling council's own systems.",
    _parameter("inputFormat", "in", "code", 1, "1", "application/fhir+ndjson"),
    _parameter("inputSource", "in", "uri", 0, "1", "The FHIR base of the server that the resources come from"),
    _parameter("storageDetail", "in", "Element", 0, "1", "Not needed: the address says how it is read"),
    _parameter("input", "in", "Element", 1, "*", "A file: its type and its url, as parts"),
) | {"id": "import", "url": f"{OURS}import", "name": "Import", "system": True, "instance": False}
del _IMPORT["resource"]

OPERATIONS: dict[str, Resource] = {each["id"]: each for each in (*_ALL, _IMPORT)}
"""Each by its id."""
