"""What the gateway can do, as a CapabilityStatement made from the tables: nothing is claimed that no table
holds.

https://hl7.org/fhir/R4/capabilitystatement.html
"""

from __future__ import annotations

from functools import cache
from typing import Any

from fhirgw.fhir.issue import Resource
from fhirgw.fhir.parameters import HELD, supported
from fhirgw.fhir.profile import UK_CORE, profile

INTERACTIONS = ("read", "vread", "history-instance", "search-type")
OURS = "https://fhirgw.uk/fhir/OperationDefinition/"
BULK = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/"
SYSTEM_OPERATIONS = (("export", f"{BULK}export"),)
TYPE_OPERATIONS = {
    "Patient": (
        ("everything", "http://hl7.org/fhir/OperationDefinition/Patient-everything"),
        ("export", f"{BULK}patient-export"),
        ("who-looked", f"{OURS}Patient-who-looked"),
        ("break-glass", f"{OURS}Patient-break-glass"),
        ("explain", f"{OURS}Patient-explain"),
    ),
}
SMART = {"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR"}


def capability(version: str, base: str, date: str) -> Resource:
    """The CapabilityStatement of software `version` at the FHIR address `base`, as of `date` (a dateTime)."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": date,
        "publisher": "fhirgw",
        "kind": "instance",
        "software": {"name": "fhirgw", "version": version},
        "implementation": {"description": "Adult social care records as FHIR", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        "rest": [
            {
                "mode": "server",
                "security": _security(base),
                "resource": [_resource(each) for each in sorted(HELD)],
                "operation": _operations(SYSTEM_OPERATIONS),
            }
        ],
    }


def _security(base: str) -> dict[str, Any]:
    """Everything but this statement wants an access token. (SMART's oauth-uris would want an authorize address too.)"""
    told = f"Access tokens for signed assertions: see {base}/.well-known/smart-configuration"
    return {"service": [{"coding": [SMART]}], "description": told}


def _resource(resource_type: str) -> dict[str, Any]:
    """What can be done with one type."""
    found = {
        "type": resource_type,
        "supportedProfile": [each for each in (UK_CORE + resource_type,) if profile(each)],
        "interaction": [{"code": code} for code in INTERACTIONS],
        "versioning": "versioned",
        "readHistory": True,
        "searchInclude": list(includes(resource_type)),
        "searchRevInclude": list(reverse_includes(resource_type)),
        "searchParam": [
            {"name": each.name, "definition": each.definition, "type": each.kind}
            for each in supported(resource_type).values()
        ],
        "operation": _operations(TYPE_OPERATIONS.get(resource_type, ())),
    }
    return {key: value for key, value in found.items() if value != []}


@cache
def includes(resource_type: str) -> tuple[str, ...]:
    """What `_include` takes in a search of the type: `Type:parameter`."""
    return tuple(
        f"{resource_type}:{each.name}"
        for each in supported(resource_type).values()
        if each.kind == "reference" and {*HELD, "Resource"} & set(each.targets)
    )


@cache
def reverse_includes(resource_type: str) -> tuple[str, ...]:
    """What `_revinclude` takes in a search of the type: `Type:parameter` of those that may refer to it."""
    return tuple(
        f"{source}:{each.name}"
        for source in sorted(HELD)
        for each in supported(source).values()
        if each.kind == "reference" and {resource_type, "Resource"} & set(each.targets)
    )


def _operations(known: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"name": name, "definition": definition} for name, definition in known]
