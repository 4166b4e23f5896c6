"""The TerminologyCapabilities, made of what is carried and of the table of operations.

https://hl7.org/fhir/R4/terminologycapabilities.html
"""

from __future__ import annotations

from fhirgw.fhir.issue import Resource
from fhirgw.terminology.code_system import code_system
from fhirgw.terminology.definitions import carried
from fhirgw.terminology.operations import EXPANSION


def statement(version: str, base: str, date: str) -> Resource:
    """That of software `version` at the FHIR address `base`, as of `date` (a dateTime)."""
    expanded = [name for name, kind in EXPANSION.takes.items() if kind in ("boolean", "integer", "string", "dateTime")]
    return {
        "resourceType": "TerminologyCapabilities",
        "status": "active",
        "date": date,
        "publisher": "fhirgw",
        "kind": "instance",
        "software": {"name": "fhirgw", "version": version},
        "implementation": {"description": "Terminology of adult social care records", "url": base},
        "lockedDate": False,
        "codeSystem": [_system(url) for url in carried("CodeSystem")],
        "expansion": {
            "hierarchical": False,
            "paging": True,
            "incomplete": False,
            "parameter": [{"name": name} for name in expanded],
            "textFilter": "Each word of the filter is in the display or the code",
        },
        "codeSearch": "explicit",
        "validateCode": {"translations": False},
        "translation": {"needsMap": True},
    }


def _system(url: str) -> Resource:
    found = code_system(url)
    version = found.version if found else None
    subsumption = bool(found and found.concepts)
    return (
        {"uri": url}
        | ({"version": [{"code": version, "isDefault": True}]} if version else {})
        | {"subsumption": subsumption}
    )
