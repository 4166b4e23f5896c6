"""What may be changed of an alert of the gateway's, a Task that it raises itself: how it goes on, and nothing else.

Who was to be visited, when, and what was wrong is what the visit's facts say; whoever has an alert in hand says that
they have, adds notes, passes it on and closes it. Nobody makes an alert by hand, or makes one disappear.
"""

from __future__ import annotations

from fhirgw.access.relationship import VISIT_ALERT
from fhirgw.fhir.issue import FhirError, Issue, Resource

KIND = VISIT_ALERT
ORIGIN = "gateway:alerts"
"""By what name the store knows who brought an alert: no caller's."""
CHANGEABLE = ("meta", "status", "statusReason", "businessStatus", "owner", "note", "lastModified")
"""Of `meta` not the profile, by which the rest is judged."""
STATUSES = ("requested", "accepted", "completed", "cancelled")


def is_alert(resource: Resource | None) -> bool:
    """Whether it says that it is an alert of homecare visits."""
    if not resource or resource.get("resourceType") != "Task":
        return False
    codings = (resource.get("code") or {}).get("coding") or ()
    return any(isinstance(each, dict) and each.get("system") == KIND for each in codings)


def check(before: Resource | None, after: Resource | None) -> None:
    """Raises FhirError(forbidden) for a change that nobody makes to an alert."""
    if not (is_alert(before) or is_alert(after)):
        return
    if before is None or after is None or not is_alert(before):
        told = "Alerts of visits are raised by the gateway, and are kept: acknowledge or close one instead"
        raise FhirError(Issue("forbidden", told, "Task"))
    for name in sorted(before.keys() | after.keys()):
        if name not in CHANGEABLE and before.get(name) != after.get(name):
            told = f"Of an alert {', '.join(CHANGEABLE[1:])} may be changed: leave the rest as it is"
            raise FhirError(Issue("forbidden", told, "Task"))
    if before.get("meta", {}).get("profile") != after.get("meta", {}).get("profile"):
        raise FhirError(Issue("forbidden", "An alert keeps its profile", "Task.meta.profile"))
    if after.get("status") not in STATUSES:
        raise FhirError(Issue("forbidden", f"An alert is {', '.join(STATUSES)}", "Task.status"))
    if before["status"] in STATUSES[2:] and after["status"] != before["status"]:
        raise FhirError(Issue("forbidden", "This alert has ended, and is not opened again", "Task.status"))
