"""A gateway to write to: a few people, and the applications that write."""

from typing import Any

from fhirgw.store.registration import Registration
from tests.put import made

COUNCIL = Registration("council-system", "Z99", "system/*.cruds", sector="council", rate=1_000_000)
"""The controlling council's own system: it may write everything but the audit."""
PROVIDER = Registration("home-care", "P01", "system/*.cruds", sector="care-provider", rate=1_000_000)
"""Looks after one of the people."""

CLEARED = Registration("duty-team", "Z99", "system/*.cruds", sector="council", clearance=15, rate=1_000_000)
"""The same, for those who may see what is restricted."""
PORTAL = Registration("portal", "Z99", "system/*.cruds", rate=1_000_000)
"""Another application of the controller."""
OWN_APP = Registration("own-app", "Z99", "patient/*.cruds", purposes=("person",), patient="cared-for", rate=1_000_000)
"""The application of one of the people."""
FINAL = Registration("final", "Z99", "system/Observation.cruds?status=final system/Patient.rs", rate=1_000_000)
"""Has to do with final observations alone."""

PROVIDER_ORGANISATION = made(
    "Organization",
    "provider",
    identifier=[{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "P01"}],
)
CARED_FOR = made("Patient", "cared-for", birthDate="1950-03-01")
STRANGER = made("Patient", "stranger", birthDate="1960-03-01")
CARE = made(
    "EpisodeOfCare",
    "care",
    status="active",
    patient={"reference": "Patient/cared-for"},
    managingOrganization={"reference": "Organization/provider"},
)
RESTRICTED = made(
    "Patient",
    "restricted",
    address=[{"postalCode": "ZZ99 3WZ"}],
    meta={"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]},
)
PEOPLE = (RESTRICTED, PROVIDER_ORGANISATION, CARED_FOR, STRANGER, CARE)


def observation(patient: str = "cared-for", **elements: Any) -> dict[str, Any]:
    """A valid Observation of a person."""
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"text": "Weight"},
        "subject": {"reference": f"Patient/{patient}"},
        **elements,
    }
