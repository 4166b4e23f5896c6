"""An alert as FHIR: a Task in the record of the person whose visit it is, and each step of what becomes of it.

`requested` until somebody acknowledges it (`accepted`); `completed` when it is over, `cancelled` when what is known now
says that it never was so. The focus is the visit's Appointment, the owner who is to act. A step is a note: when, and
who if anybody. No step says anything that is not in codes and times. https://hl7.org/fhir/R4/task.html
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from fhirgw.access.alerted import KIND
from fhirgw.fhir.dates import LONDON
from fhirgw.fhir.issue import Resource
from fhirgw.fhir.nhs import ODS_ORGANISATION
from fhirgw.mapping.identity import PLACEMENT
from fhirgw.visits.batch import key
from fhirgw.visits.rules import Alert, Rules, Rung

OURS = "https://fhirgw.uk/fhir"
RUNG = f"{OURS}/CodeSystem/visit-alert-rung"
END = f"{OURS}/CodeSystem/visit-alert-end"
PROFILE = f"{OURS}/StructureDefinition/visit-alert"
ALERT = f"{OURS}/Id/homecare/alert"
OPEN = ("requested", "accepted")
PROVIDER = "Care provider"
"""What the Task's input is called that says whose visit it is."""
PRIORITIES = ("routine", "urgent", "asap", "stat")
ENDS = {
    "over": ("completed", "It is so no more"),
    "never": ("cancelled", "By what is known now it never was so"),
    "moved": ("cancelled", "The visit is in somebody else's record now"),
    "gone": ("cancelled", "The visit is in nobody's record now"),
}
"""By what an alert ends by itself: the Task's status, and what is told."""


class Cause(NamedTuple):
    """What an alert is about. `key` is the visit's, or stands for the care provider; `again` counts how often it was so
    before. `visit`: the id of the visit's resources, and `patient` whose it is; None of a care provider.
    """

    key: str
    kind: str
    again: int
    provider: str
    controller: str
    patient: str | None = None
    visit: str | None = None

    @property
    def id(self) -> str:
        """The Task's id, which lives where everything of the person does: one cause has one."""
        made = key("", f"alert\x1f{self.key}\x1f{self.kind}\x1f{self.again}")
        return self.patient[:PLACEMENT] + made[PLACEMENT:] if self.patient else made


def raised(cause: Cause, since: datetime, now: datetime, rules: Rules) -> Resource:
    """The Task of a new alert, at the first rung."""
    alert = rules.alerts[cause.kind]
    about: Resource = (
        {"focus": {"reference": f"Appointment/{cause.visit}"}, "for": {"reference": f"Patient/{cause.patient}"}}
        if cause.patient
        else {"focus": {"type": "Organization", "identifier": _ods(cause.provider)}}
    )
    task = {
        "resourceType": "Task",
        "id": cause.id,
        "meta": {"profile": [PROFILE]},
        "identifier": [{"system": ALERT, "value": cause.id}],
        "status": "requested",
        "intent": "order",
        "priority": alert.priority,
        "code": {"coding": [{"system": KIND, "code": cause.kind, "display": alert.display}], "text": alert.display},
        "description": f"{alert.display}: since {_clock(since)}",
        **about,
        "executionPeriod": {"start": stamp(since)},
        "authoredOn": stamp(now),
        "lastModified": stamp(now),
        "requester": {"type": "Organization", "identifier": _ods(cause.controller)},
    }
    return _at(task, cause.provider, cause.controller, rules.ladder[0], rules, 0, now, now)


def climbed(task: Resource, provider: str, controller: str, rung: int, rules: Rules, now: datetime) -> Resource:
    """The Task one rung higher: nobody has acknowledged it in time."""
    on = datetime.fromisoformat(task["authoredOn"])
    return _at(task, provider, controller, rules.ladder[rung], rules, rung, on, now)


def moved(task: Resource, since: datetime, now: datetime) -> Resource:
    """The Task of an alert that is so since another moment, by what is known now."""
    told = f"{task['code']['text']}: since {_clock(since)}"
    period = task.get("executionPeriod", {}) | {"start": stamp(since)}
    return task | {"description": told, "executionPeriod": period, "lastModified": stamp(now)}


def acknowledged(task: Resource, who: Mapping[str, Any], now: datetime, said: str | None = None) -> Resource:
    """The Task when somebody has it in hand. `who`: the author of a note, as FHIR has one."""
    taken = {each: value for each, value in task.items() if each != "restriction"}
    note = {**who, "time": stamp(now), "text": f"Acknowledged: {said}" if said else "Acknowledged"}
    return taken | {"status": "accepted", "lastModified": stamp(now), "note": [*task.get("note", ()), note]}


def ended(task: Resource, why: str, now: datetime, until: datetime | None, told: str = "") -> Resource:
    """The Task when what is known now ends it: `why` of ENDS. `told`: what the care provider has declared."""
    status, words = ENDS[why]
    text = f"{words}. {told}".rstrip(". ") if told else words
    period = task.get("executionPeriod", {}) | {"end": stamp(max(until or now, _start(task)))}
    kept = {each: value for each, value in task.items() if each != "restriction"}
    return kept | {
        "status": status,
        "statusReason": {"coding": [{"system": END, "code": why, "display": words}], "text": text},
        "executionPeriod": period,
        "lastModified": stamp(now),
        "note": [*task.get("note", ()), {"time": stamp(now), "text": text}],
    }


def shown(task: Resource) -> dict[str, Any]:
    """What a screen shows of an alert: ids, codes, words of ours and times; nobody's name."""
    coding, place = task["code"]["coding"][0], (task.get("businessStatus") or {}).get("coding", [{}])[0]
    notes = [{each: note[each] for each in ("time", "text") if each in note} for note in task.get("note", ())]
    found = {
        "id": task["id"],
        "version": int(task["meta"]["versionId"]),
        "open": task["status"] in OPEN,
        "status": task["status"],
        "kind": coding["code"],
        "display": coding["display"],
        "priority": task["priority"],
        "since": task["executionPeriod"]["start"],
        "raised": task["authoredOn"],
        "rung": place.get("code"),
        "owner": place.get("display"),
        "escalates": ((task.get("restriction") or {}).get("period") or {}).get("end"),
        "visit": task["focus"].get("reference"),
        "patient": (task.get("for") or {}).get("reference"),
        "provider": _provider(task),
        "ended": (task.get("statusReason") or {}).get("text"),
        "steps": notes,
    }
    return {name: value for name, value in found.items() if value not in (None, [])}


def _provider(task: Resource) -> str | None:
    """The care provider's ODS code."""
    for each in task.get("input", ()):
        if each["type"].get("text") == PROVIDER:
            found: str = each["valueIdentifier"]["value"]
            return found
    return None


def _at(
    task: Resource, provider: str, controller: str, rung: Rung, rules: Rules, at: int, on: datetime, now: datetime
) -> Resource:
    coding = {"system": RUNG, "code": rung.rung, "display": rung.display}
    alert = rules.alerts[task["code"]["coding"][0]["code"]]
    party = provider if rung.party == "provider" else controller
    note = {"time": stamp(now), "text": f"{'Raised to' if at == 0 else 'Not acknowledged: to'} {rung.display}"}
    made = task | {
        "priority": _raised(alert, rung),
        "businessStatus": {"coding": [coding], "text": rung.display},
        "owner": {"type": "Organization", "identifier": _ods(party), "display": rung.display},
        "lastModified": stamp(now),
        "note": [*task.get("note", ()), note],
        "input": [{"type": {"text": PROVIDER}, "valueIdentifier": _ods(provider)}],
    }
    after = climbs(rules, at, on)
    made.pop("restriction", None)
    return made | ({"restriction": {"period": {"end": stamp(after)}}} if after else {})


def climbs(rules: Rules, at: int, on: datetime) -> datetime | None:
    """When an alert that was raised then goes to the next rung; None from the last."""
    if at + 1 >= len(rules.ladder):
        return None
    return on + timedelta(minutes=rules.ladder[at + 1].minutes)


def _raised(alert: Alert, rung: Rung) -> str:
    return PRIORITIES[min(PRIORITIES.index(alert.priority) + rung.raise_, len(PRIORITIES) - 1)]


def _ods(code: str) -> dict[str, str]:
    return {"system": ODS_ORGANISATION, "value": code}


def _start(task: Resource) -> datetime:
    return datetime.fromisoformat(task["executionPeriod"]["start"])


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(LONDON):%d/%m/%Y %H:%M}"


def stamp(moment: datetime) -> str:
    """A FHIR dateTime in London's offset, to the second."""
    return moment.astimezone(LONDON).isoformat(timespec="seconds")
