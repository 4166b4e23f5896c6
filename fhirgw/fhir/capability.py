"""What the gateway can do, as a CapabilityStatement made from the tables: nothing is claimed that no table
holds.

https://hl7.org/fhir/R4/capabilitystatement.html

Long, because each part of the statement is a function, and nothing else is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from fhirgw.fhir.issue import Resource
from fhirgw.fhir.parameters import HELD, supported
from fhirgw.fhir.profile import OURS as OUR_CANONICALS
from fhirgw.fhir.profile import UK_CORE, profile, profiles_for
from fhirgw.fhir.topics import topics

OF_TYPE = (
    *("read", "vread", "update", "patch", "delete", "history-instance", "history-type", "create", "search-type"),
)
"""What can be done with a type, in R4's words. https://hl7.org/fhir/R4/valueset-type-restful-interaction.html"""

OF_SYSTEM = {
    "transaction": ("transaction", "batch"),
    "history-system": ("history-system",),
    "search-system": ("search-system",),
}
"""What a request to the base can do. https://hl7.org/fhir/R4/valueset-system-restful-interaction.html"""

APART = ("AuditEvent",)
"""Types held that are not served as the others are, but by routes of their own."""

AUDITED = ("_id", "action", "agent", "date", "entity", "outcome", "patient", "subtype", "type")
"""What AuditEvents are searched by. They are in an audit of their own: no index, no versions, no neighbours."""

CARRIED = ("_id", "url", "version", "name", "title", "status")
"""What the definitions that are carried (code systems, value sets ...) are searched by."""

OURS = "https://fhirgw.uk/fhir/OperationDefinition/"
BULK = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/"
R4 = "http://hl7.org/fhir/OperationDefinition/"
IPS = "http://hl7.org/fhir/uv/ips/OperationDefinition/"
TOPIC = "StructureDefinition/capabilitystatement-subscriptiontopic-canonical"
BACKPORT = "http://hl7.org/fhir/uv/subscriptions-backport/"
DEFINITIONS = {
    ("", "export"): f"{BULK}export",
    ("", "import"): f"{OURS}import",
    ("", "meta"): f"{R4}Resource-meta",
    ("*", "meta"): f"{R4}Resource-meta",
    ("*", "validate"): f"{R4}Resource-validate",
    ("CodeSystem", "lookup"): f"{R4}CodeSystem-lookup",
    ("CodeSystem", "subsumes"): f"{R4}CodeSystem-subsumes",
    ("CodeSystem", "validate-code"): f"{R4}CodeSystem-validate-code",
    ("ConceptMap", "translate"): f"{R4}ConceptMap-translate",
    ("Measure", "evaluate-measure"): f"{R4}Measure-evaluate-measure",
    ("Patient", "break-glass"): f"{OURS}Patient-break-glass",
    ("Patient", "everything"): f"{R4}Patient-everything",
    ("Patient", "explain"): f"{OURS}Patient-explain",
    ("Patient", "export"): f"{BULK}patient-export",
    ("Group", "export"): f"{BULK}group-export",
    ("Patient", "match"): f"{R4}Patient-match",
    ("Patient", "summary"): f"{IPS}summary",
    ("Patient", "who-looked"): f"{OURS}Patient-who-looked",
    ("Subscription", "events"): f"{BACKPORT}OperationDefinition/backport-subscription-events",
    ("Subscription", "resend"): f"{BACKPORT}OperationDefinition/backport-subscription-resend",
    ("Subscription", "status"): f"{BACKPORT}OperationDefinition/backport-subscription-status",
    ("ValueSet", "expand"): f"{R4}ValueSet-expand",
    ("ValueSet", "validate-code"): f"{R4}ValueSet-validate-code",
}
"""The OperationDefinition of each operation, by the type it is of (`*`: all held; none: of the system) and its name."""

STEPS = ("export-status", "export-file", "import-status", "import-file")
"""Addresses that look like operations and are the later steps of one."""

ACCESS = "https://fhir.hl7.org.uk/uk-core-access/"
BULK = "http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"
SUBSCRIBED = ("_id", "criteria", "status", "type", "url")
"""What Subscriptions are searched by: each is compared whole, commas part alternatives."""

INSTANTIATES = (
    *(f"{ACCESS}CapabilityStatement/UKCoreAccess{each}Provider" for each in ("PatientIndex", "ClinicalData")),
    BULK,
    f"{BACKPORT}CapabilityStatement/backport-subscription-server-r4",
)
"""UK Core Access: https://build.fhir.org/ig/HL7-UK/UK-Core-Access/artifacts.html (0.1.0), and Bulk Data Access:
https://hl7.org/fhir/uv/bulkdata/CapabilityStatement-bulk-data.html, and topic-based subscriptions:
https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/CapabilityStatement-backport-subscription-server-r4.html
"""

DOCUMENTATION = (
    "JSON only. Reads, histories and searches take _summary (true, text, data, count, false), _elements, _pretty and"
    " _format. Searches are strict (unknown parameters are refused) unless Prefer: handling=lenient. Each answer is in"
    " the audit before it leaves; what the caller may not see answers as what does not exist."
)
SMART = {"system": "http://terminology.hl7.org/CodeSystem/restful-security-service", "code": "SMART-on-FHIR"}


@dataclass(frozen=True, slots=True)
class Served:
    """What the routes serve: (type, interaction) and (type, operation); `*` is each type held, none is the system."""

    interactions: tuple[tuple[str, str], ...]
    operations: tuple[tuple[str, str], ...]

    def types(self) -> tuple[str, ...]:
        """Every type that anything can be done with."""
        named = {kind for kind, _ in (*self.interactions, *self.operations) if kind not in ("", "*")}
        return tuple(sorted({*HELD, *named}))

    def of(self, resource_type: str) -> frozenset[str]:
        """What can be done with a type."""
        return frozenset(code for kind, code in self.interactions if kind in _kinds(resource_type))

    def operations_of(self, resource_type: str) -> list[dict[str, str]]:
        """The operations of a type, or of the system (no type), with their definitions."""
        known = {name: kind for kind, name in self.operations if kind in _kinds(resource_type) and name not in STEPS}
        return [{"name": name, "definition": DEFINITIONS[kind, name]} for name, kind in sorted(known.items())]


def _kinds(resource_type: str) -> tuple[str, ...]:
    return ("*", resource_type) if resource_type in HELD and resource_type not in APART else (resource_type,)


def capability(version: str, base: str, date: str, served: Served) -> Resource:
    """The CapabilityStatement of software `version` at the FHIR address `base`, as of `date` (a dateTime)."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": date,
        "publisher": "fhirgw",
        "kind": "instance",
        "instantiates": list(INSTANTIATES),
        "software": {"name": "fhirgw", "version": version},
        "implementation": {"description": "Adult social care records as FHIR", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json", "json"],
        **({"patchFormat": ["application/json-patch+json"]} if "patch" in served.of("Patient") else {}),
        "implementationGuide": [f"{ACCESS}ImplementationGuide/uk-core-access"],
        "rest": [_rest(base, served)],
    }


def _rest(base: str, served: Served) -> dict[str, Any]:
    of_system = [code for each in sorted(served.of("")) for code in OF_SYSTEM.get(each, ())]
    return {
        "mode": "server",
        "documentation": DOCUMENTATION,
        "security": _security(base),
        "resource": [_resource(each, served) for each in served.types()],
        "interaction": [{"code": code} for code in of_system],
        "operation": served.operations_of(""),
    }


def _security(base: str) -> dict[str, Any]:
    """Everything but this statement wants an access token. (SMART's oauth-uris would want an authorize address too.)"""
    told = f"Access tokens for signed assertions: see {base}/.well-known/smart-configuration"
    return {"service": [{"coding": [SMART]}], "description": told}


def _audit(served: Served) -> dict[str, Any]:
    """What can be done with the audit, by those who may: it is added to by what is done, and never changed."""
    known = supported("AuditEvent")
    return {
        "type": "AuditEvent",
        "documentation": "For auditors of the organisation that runs the gateway; and for a person, of their own.",
        "interaction": _interactions("AuditEvent", served),
        "versioning": "no-version",
        "readHistory": False,
        "searchParam": [
            {"name": name, "definition": known[name].definition, "type": known[name].kind} for name in AUDITED
        ],
    }


def _subscription(served: Served) -> dict[str, Any]:
    """What may be subscribed to, and how: each topic by its canonical."""
    known = supported("Subscription")
    return {
        "extension": [{"url": f"{BACKPORT}{TOPIC}", "valueCanonical": each} for each in topics()],
        "type": "Subscription",
        "supportedProfile": [f"{BACKPORT}StructureDefinition/backport-subscription"],
        "documentation": "To topics, by rest-hook, for registered applications; each is its subscriber's alone.",
        "interaction": _interactions("Subscription", served),
        "versioning": "versioned-update",
        "readHistory": False,
        "updateCreate": False,
        "searchParam": [
            {"name": name, "definition": known[name].definition, "type": known[name].kind} for name in SUBSCRIBED
        ],
        "operation": served.operations_of("Subscription"),
    }


def _resource(resource_type: str, served: Served) -> dict[str, Any]:
    """What can be done with one type."""
    if resource_type == "Subscription":
        return _subscription(served)
    if resource_type == "AuditEvent":
        return _audit(served)
    if resource_type not in HELD:
        known = supported(resource_type)
        told = {
            "interaction": _interactions(resource_type, served),
            "searchParam": [
                {"name": name, "definition": known[name].definition, "type": known[name].kind}
                for name in (("url",) if resource_type == "OperationDefinition" else CARRIED)
                if name in known and "search-type" in served.of(resource_type)
            ],
            "operation": served.operations_of(resource_type),
        }
        return {"type": resource_type, **{name: value for name, value in told.items() if value}}
    found = {
        "type": resource_type,
        "supportedProfile": _profiles(resource_type),
        "interaction": _interactions(resource_type, served),
        **_versions(served.of(resource_type)),
        "searchInclude": list(includes(resource_type)),
        "searchRevInclude": list(reverse_includes(resource_type)),
        "searchParam": [
            {"name": each.name, "definition": each.definition, "type": each.kind}
            for each in supported(resource_type).values()
        ],
        "operation": served.operations_of(resource_type),
    }
    return {key: value for key, value in found.items() if value != []}


def _interactions(resource_type: str, served: Served) -> list[dict[str, str]]:
    return [{"code": code} for code in OF_TYPE if code in served.of(resource_type)]


def _versions(codes: frozenset[str]) -> dict[str, Any]:
    """How versions are kept, and what can be done on condition. A 304 is for who reads; the rest is for who writes."""
    writes = "update" in codes
    return {
        "versioning": "versioned-update" if writes else "versioned",
        "readHistory": "vread" in codes,
        "updateCreate": False,
        "conditionalCreate": "create" in codes,
        "conditionalRead": "full-support",
        "conditionalUpdate": "conditional-update" in codes,
        "conditionalDelete": "single" if "conditional-delete" in codes else "not-supported",
    }


def _profiles(resource_type: str) -> list[str]:
    """Our own profiles of the type, and UK Core's."""
    ours = [each.url for each in profiles_for(resource_type) if each.url.startswith(f"{OUR_CANONICALS}/")]
    return [*ours, *(each for each in (UK_CORE + resource_type,) if profile(each))]


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
        for source in sorted({*HELD} - {"AuditEvent"})
        for each in supported(source).values()
        if each.kind == "reference" and {resource_type, "Resource"} & set(each.targets)
    )
