"""Classes of record: what a security label keeps from those who are not cleared for it.

A resource carries its classes in meta.security. Restricted and sealed also follow from the person: see
fhirgw.access.consent. https://hl7.org/fhir/R4/security-labels.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.fhir.issue import Resource

RESTRICTED, SAFEGUARDING, SEALED, THIRD_PARTY, ENTRY = 1, 2, 4, 8, 16
CLASSES = {
    "restricted": RESTRICTED,
    "safeguarding": SAFEGUARDING,
    "sealed": SEALED,
    "third-party": THIRD_PARTY,
    "entry": ENTRY,
}
"""Each class by name, as a bit of Permit.clearance and of the store's `labels`."""

EVERY = RESTRICTED | SAFEGUARDING | SEALED | THIRD_PARTY | ENTRY

OPEN: dict[str, int] = {
    Purpose.DIRECT_CARE: THIRD_PARTY | ENTRY,
    Purpose.EMERGENCY: THIRD_PARTY | ENTRY,
    Purpose.SAFEGUARDING: THIRD_PARTY | SAFEGUARDING,
    Purpose.OPERATIONS: EVERY,
}
"""Classes that a purpose sees without clearance. What others said in confidence, and what warns staff, is kept from the
person and those who act for them, not from professionals. How to get into somebody's home is for who comes there, and
of those who have to do with a person not for all (fhirgw.access.relationship)."""

TELLING = ("RelatedPerson",)
"""Types that may tell of another Patient than the one they are filed under (`also`)."""


def opened(permit: Permit, resource_type: str) -> int:
    """The classes of a person's rows that a permit sees: those it is cleared for, and those its purpose opens.

    Where they live is not kept from those who live there; where somebody else does, whom a row in their record tells
    of, may well be.
    """
    own = RESTRICTED | ENTRY if permit.themselves and resource_type not in TELLING else 0
    return permit.clearance | OPEN.get(permit.purpose, 0) | own


RELATED_PATIENT = "https://fhirgw.uk/fhir/StructureDefinition/ext-related-patient"
RECORD_CLASS = "https://fhirgw.uk/fhir/CodeSystem/record-class"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"

CODES: dict[tuple[str, str], int] = {
    **{(RECORD_CLASS, name): bit for name, bit in CLASSES.items()},
    (CONFIDENTIALITY, "R"): RESTRICTED,
    (CONFIDENTIALITY, "V"): SEALED,
    (CONFIDENTIALITY, "REDACTED"): SEALED,
}
"""What each security label says; labels only add, and one that nobody knows says nothing."""

WITHHELD = (
    *("address", "telecom", "contact", "generalPractitioner", "managingOrganization", "photo"),
    *("text", "contained"),
)
"""What a Patient whose whereabouts are restricted is served without, as the Personal Demographics Service does; and
what may tell the same in other words, as extensions that hold an address do."""

UNSEARCHABLE = (
    *("address", "address-city", "address-country", "address-postalcode", "address-state", "address-use"),
    *("telecom", "phone", "email", "general-practitioner", "organization"),
)
"""Search parameters that look into what is withheld: who may not see it does not find by it, nor sort by it."""

WHEREABOUTS = (
    *("RelatedPerson", "ServiceRequest", "EpisodeOfCare", "Encounter", "Appointment", "CareTeam", "Device"),
    *("DeviceUseStatement", "DeviceRequest", "Task", "Location", "Communication", "MedicationAdministration"),
    *("Consent", "DocumentReference", "Provenance"),
)
"""Types that tell where a person lives, or who goes there: kept from whoever is not cleared, for such a person, as is
of any type what tells how to get into their home (ENTRY)."""


def labels(resource: Resource) -> int:
    """The classes of a resource, by its own labels. A restricted Patient has none: it is served redacted."""
    found = 0
    for each in _security(resource):
        found |= CODES.get((each.get("system", ""), each.get("code", "")), 0)
    return found & ~RESTRICTED if resource["resourceType"] == "Patient" else found


def restricted(resource: Resource) -> bool:
    """Whether a Patient's whereabouts are kept from whoever is not cleared."""
    return any(CODES.get((each.get("system", ""), each.get("code", ""))) == RESTRICTED for each in _security(resource))


def also(resource: Resource) -> str | None:
    """The id of another Patient whom a resource tells of: a related person who is somebody in their own right.

    Their address and phone stand in it, filed under whom they care for: what is kept of them is kept there too.
    """
    if resource["resourceType"] not in TELLING:
        return None
    for each in resource.get("extension", ()):
        if each.get("url") == RELATED_PATIENT:
            reference = str(each.get("valueReference", {}).get("reference", ""))
            return reference.removeprefix("Patient/") if reference.startswith("Patient/") else None
    return None


def redacted(resource: Resource) -> Resource | None:
    """What a restricted Patient is served as; None for anything else."""
    if resource["resourceType"] != "Patient" or not restricted(resource):
        return None
    kept = {name: value for name, value in resource.items() if name not in WITHHELD}
    if extensions := [each for each in kept.pop("extension", ()) if not _addressed(each)]:
        kept["extension"] = extensions
    return kept


def _addressed(extension: Mapping[str, Any]) -> bool:
    """Whether an extension, or one within it, holds an address: that of a birthplace, say."""
    return "valueAddress" in extension or any(_addressed(each) for each in extension.get("extension", ()))


def _security(resource: Resource) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = resource.get("meta", {}).get("security", [])
    return found
