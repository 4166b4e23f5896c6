"""In whose name something is written: which elements say by which organisation it was done or said.

Those who read a record believe them. The controlling council's own systems write down what others did; everybody else
names themselves: by a reference to their own Organization or team here, or by their ODS code. Practitioners are another
matter: who of its staff did something only their employer knows.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fhirgw.fhir.issue import Resource
from fhirgw.fhir.nhs import ODS_ORGANISATION

SAID_BY = {
    "CarePlan": ("author", "contributor"),
    "CareTeam": ("managingOrganization",),
    "Communication": ("sender",),
    "DeviceRequest": ("requester",),
    "DocumentReference": ("author", "authenticator", "custodian"),
    "Encounter": ("serviceProvider",),
    "EpisodeOfCare": ("managingOrganization",),
    "Flag": ("author",),
    "Observation": ("performer",),
    "QuestionnaireResponse": ("author",),
    "ServiceRequest": ("requester",),
    "Task": ("requester",),
}
"""Where a type that others than the council write names the organisation that did or said it, by R4's elements."""


ORGANISATIONS = ("custodian", "managingOrganization", "serviceProvider")
"""Those that name nobody but organisations."""


def anothers(parties: Collection[str], before: Resource, after: Resource) -> str | None:
    """The element by which `after` would speak for an organisation that is none of `parties`, as a Permit has them.

    What `before` said already may stay.
    """
    kind = after["resourceType"]
    for name in SAID_BY.get(kind, ()):
        said = [each for each in _listed(after.get(name)) if each not in _listed(before.get(name))]
        if any(_organisational(name, each, after) and not _own(each, parties) for each in said):
            return f"{kind}.{name}"
    return None


def _organisational(name: str, reference: Any, resource: Resource) -> bool:
    """Whether a reference is to an organisation, as far as it says."""
    if not isinstance(reference, dict):
        return False
    if name in ORGANISATIONS or reference.get("type") == "Organization":
        return True
    address = reference.get("reference")
    if not isinstance(address, str):
        return _identifier(reference).get("system") == ODS_ORGANISATION
    if address.startswith("#"):
        inner = (each for each in _listed(resource.get("contained")) if each.get("id") == address[1:])
        return any(each.get("resourceType") == "Organization" for each in inner)
    return "Organization/" in address


def _own(reference: dict[str, Any], parties: Collection[str]) -> bool:
    """Whether all that a reference names is one of the parties. Words alone name nobody: by them anybody is anybody."""
    named = []
    if isinstance(address := reference.get("reference"), str):
        named.append(address.partition("/_history/")[0])
    if known := _identifier(reference):
        named.append(f"{known.get('system')}|{known.get('value')}")
    return bool(named) and all(each in parties for each in named)


def _identifier(reference: dict[str, Any]) -> dict[str, Any]:
    found = reference.get("identifier")
    return found if isinstance(found, dict) else {}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
