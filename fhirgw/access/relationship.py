"""Legitimate relationships: who has to do with a person, as far as one resource says so, from when to when.

Direct care rests on them. Each is computed from a record, and begins and ends with what it rests on: RULES say where a
type of resource names the party, in which statuses, and for how long. What a status has ended counts only where the
record says when; what was cancelled, revoked, rejected or entered in error never held.

Long, because half of it is those tables and the periods its rows name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from fhirgw.fhir.dates import END, LONDON, span
from fhirgw.fhir.issue import FhirError, Resource
from fhirgw.fhir.tokens import code, coding, plain_reference

Element = Mapping[str, Any]
Bounds = tuple[datetime | None, datetime | None]
"""From when to just before when; None for ever."""

ESSENTIALS = (
    *(
        "Patient",
        "RelatedPerson",
        "ServiceRequest",
        "EpisodeOfCare",
        "CarePlan",
        "Goal",
        "CareTeam",
        "Flag",
        "AllergyIntolerance",
        "QuestionnaireResponse",
    ),
    *("Appointment", "Encounter", "MedicationStatement", "MedicationAdministration", "Communication", "Device"),
    "DeviceUseStatement",
)
"""What a care provider needs to look after somebody: the package, contacts, access notes, allergies, about me, the
contingency plan. Not their assessments (which Tasks are) nor what they said in them, not the council's contacts, not
diagnoses nor decisions on sharing. Of homecare visits it sees all of those that it made, and none of another's
(fhirgw.store.basis); of some types a part alone: NARROWED."""

OWN = ("Appointment", "Encounter", "MedicationAdministration")
"""Of those, what is said of visits: a care provider sees what it brought, or what names it as who provided it."""

SENDING_ALONE: tuple[str, ...] = ()
"""What is opened by a tie that lets its party send, and see nothing."""

SUPPLIES = ("Patient", "RelatedPerson", "Flag", "DeviceRequest", "Device", "DeviceUseStatement")
"""What a supplier of equipment or care technology needs: whom to bring it to, who answers when an alarm is raised, what
to beware of at the door, and what was asked for, brought and is in use."""

KINDS: dict[str, tuple[str, ...] | None] = {
    "council": None,
    "gp": None,
    "worker": None,
    "team": None,
    "care-team": None,
    "referral": None,
    "care-provider": ESSENTIALS,
    "late-visits": SENDING_ALONE,
    "supplier": SUPPLIES,
}
"""Each kind of relationship, and the types it opens; None for every type."""


class Narrowed(NamedTuple):
    """Of a type that they open, these kinds of tie show what has a token (`shown`), or what has it not.

    `token` as in fhirgw.fhir.tokens; `told` says in words what they are shown.
    """

    kinds: tuple[str, ...]
    token: int
    shown: bool
    told: str


RECORD_CLASS = "https://fhirgw.uk/fhir/CodeSystem/record-class"
ABOUT_ME = "https://fhirgw.uk/fhir/Questionnaire/about-me"
ORDERED, OF_ABOUT_ME = code("intent", "order"), plain_reference("questionnaire", ABOUT_ME)
ENTRY_NOTE = coding("_security", RECORD_CLASS, "entry")[0]

NARROWED: dict[str, Narrowed] = {
    "ServiceRequest": Narrowed(("care-provider",), ORDERED, True, "the lines of the package"),
    "QuestionnaireResponse": Narrowed(("care-provider",), OF_ABOUT_ME, True, "what the person says in About me"),
    "Flag": Narrowed(("gp", "care-team", "referral", "supplier"), ENTRY_NOTE, False, "all but how to get in"),
}
"""How to get into somebody's home is for those who go there and for the council: who has a key safe's code and an
address needs nothing else."""

VISITS = (*OWN, "Observation", "Task")
"""What homecare visits are rendered as, and what alerts of them are."""

LATE_VISITS = timedelta(days=28)
"""The grace for a care provider whose package has ended: visits are recorded, corrected and invoiced in arrears, by the
four-week periods councils pay for. It opens nothing: what they may see ends with the package."""

WORK_CLOSED = timedelta(days=90)
"""The grace for a worker or team whose work is closed: letters, complaints and a person who comes back."""

CONTACT = "https://fhirgw.uk/fhir/CodeSystem/request-code"
PERFORMER = "https://fhirgw.uk/fhir/StructureDefinition/ext-performer"
VISIT_ALERT = "https://fhirgw.uk/fhir/CodeSystem/visit-alert"
CLOSED = "https://fhirgw.uk/fhir/StructureDefinition/ext-closed-date"

BOTH = ("Organization", "Practitioner")
NEVER: Bounds = (END, END)


class Tie(NamedTuple):
    """One relationship: a person's (the Patient's id), a party's (`Organization/…`, `Practitioner/…`, `system|value`).

    `kind` is a row of KINDS; it holds from `starts` to just before `ends`, either None for ever.
    """

    person: str
    party: str
    kind: str
    starts: datetime | None
    ends: datetime | None


class Row(NamedTuple):
    """Whom a resource names, each with a period of their own or None; `types` says which of them count.

    `late` turns the bounds of the resource into those of a grace.
    """

    kind: str
    parties: Callable[[Resource], Iterable[tuple[Any, Element | None]]]
    types: tuple[str, ...] = BOTH
    late: Callable[[Bounds], Bounds] | None = None


class Rule(NamedTuple):
    """When a resource of one type counts: `person` names whose it is, `when` gives its bounds.

    `running` are the statuses of what goes on, `over` those of what has ended, and counts if its bounds say when.
    """

    person: str
    running: frozenset[str]
    over: frozenset[str]
    when: Callable[[Resource], Bounds]
    applies: Callable[[Resource], bool]
    rows: tuple[Row, ...]


def ties(resource: Resource) -> list[Tie]:
    """The relationships a resource speaks of; none for most types."""
    kind = resource["resourceType"]
    if kind == "Patient":
        return _patient(resource)
    for rule in RULES.get(kind, ()):
        if rule.applies(resource):
            return _ties(rule, resource)
    return []


def opens(resource_type: str) -> tuple[str, ...]:
    """The kinds of relationship that open a type."""
    return tuple(kind for kind, types in KINDS.items() if types is None or resource_type in types)


def partly(resource_type: str) -> Narrowed:
    """The kinds of relationship that open a part of a type alone, and which: none, of most types."""
    visits = Narrowed(("care-provider",), 0, True, "its own visits and the alerts of them")
    return NARROWED.get(resource_type) or (visits if resource_type in VISITS else Narrowed((), 0, True, ""))


def party(reference: Any, types: tuple[str, ...]) -> str | None:
    """How a reference names a party of one of the types: by its address, or where it has none by its identifier.

    What holds a control character names nobody: such characters part rules from one another on their way to the store.
    """
    if not isinstance(reference, dict):
        return None
    address = reference.get("reference")
    if address:
        kind, _, id = address.partition("/")
        if "/" in id:
            id = _unversioned(id)
        return f"{kind}/{id}" if id and kind in types and id.isprintable() else None
    logical = reference.get("identifier")
    if not logical or reference.get("type", types[0]) not in types:
        return None
    system, value = logical.get("system"), logical.get("value")
    return f"{system}|{value}" if system and value and f"{system}{value}".isprintable() else None


def bounds(period: Element | None) -> Bounds:
    """The bounds of a Period. One that cannot be read is NEVER, as is one that ends before it begins."""
    if not period:
        return None, None
    start, end = period.get("start"), period.get("end")
    try:
        starts, ends = span(start)[0] if start else None, span(end)[1] if end else None
    except (FhirError, TypeError):
        return NEVER
    return (starts, ends) if starts is None or ends is None or starts < ends else NEVER


def within(one: Bounds, other: Bounds) -> Bounds:
    """What two bounds have in common."""
    starts = max((each for each in (one[0], other[0]) if each is not None), default=None)
    ends = min((each for each in (one[1], other[1]) if each is not None), default=None)
    return (starts, ends) if starts is None or ends is None or starts < ends else NEVER


def _patient(resource: Resource) -> list[Tie]:
    """A Patient's own: always and for ever. By hand, because a first load is full of them."""
    id = resource["id"]
    council = party(resource.get("managingOrganization"), _ORGANISATION)
    practices = [party(each, BOTH) for each in resource.get("generalPractitioner", ())]
    found = [Tie(id, council, "council", None, None)] if council else []
    return found + [Tie(id, practice, "gp", None, None) for practice in practices if practice]


def _ties(rule: Rule, resource: Resource) -> list[Tie]:
    status, person = resource.get("status"), _person(resource.get(rule.person))
    over = status in rule.over
    if person is None or not (over or status in rule.running):
        return []
    limits = rule.when(resource)
    if limits is NEVER or (over and limits[1] is None):
        return []
    found: list[Tie] = []
    for kind, parties, types, late in rule.rows:
        given = limits if late is None else late(limits)
        for reference, own in parties(resource):
            if (named := party(reference, types)) is not None:
                starts, ends = within(given, bounds(own)) if own else given
                if starts is not END:
                    found.append(Tie(person, named, kind, starts, ends))
    return found if len(found) < 2 else list(dict.fromkeys(found))


def _person(reference: Element | None) -> str | None:
    kind, _, id = (reference or {}).get("reference", "").partition("/")
    return (_unversioned(id) or None) if kind == "Patient" else None


def _unversioned(id: str) -> str:
    """The id of `id/_history/vid`; what is deeper is no id."""
    id = id.partition("/_history/")[0]
    return "" if "/" in id else id


def _one(name: str) -> Callable[[Resource], Iterable[tuple[Any, None]]]:
    def parties(resource: Resource) -> Iterable[tuple[Any, None]]:
        return ((resource[name], None),) if name in resource else ()

    return parties


def _each(name: str) -> Callable[[Resource], Iterable[tuple[Any, None]]]:
    def parties(resource: Resource) -> Iterable[tuple[Any, None]]:
        return [(each, None) for each in resource[name]] if name in resource else ()

    return parties


def _participants(resource: Resource) -> Iterable[tuple[Any, Element | None]]:
    return [(each.get("member"), each.get("period")) for each in resource.get("participant", ()) if each]


def _performers(resource: Resource) -> Iterable[tuple[Any, None]]:
    """Who does a Task: R4's Task has an owner alone, so an extension says who of the team it is."""
    return [(each.get("valueReference"), None) for each in _extensions(resource, PERFORMER)]


def _extensions(resource: Resource, url: str) -> list[Element]:
    return [each for each in resource.get("extension", ()) if each and each.get("url") == url]


def _ordered(resource: Resource) -> bool:
    return resource.get("intent") == "order"


def _contacted(resource: Resource) -> bool:
    if resource.get("intent") != "plan":
        return False
    codings = resource.get("code", {}).get("coding", ())
    return any(each.get("system") == CONTACT and each.get("code") == "contact" for each in codings)


def _episode(resource: Resource) -> Bounds:
    return bounds(resource.get("period"))


def _order(resource: Resource) -> Bounds:
    return bounds(resource.get("occurrenceTiming", {}).get("repeat", {}).get("boundsPeriod"))


def _equipment(resource: Resource) -> Bounds:
    """From when it was asked for, as it has to be brought first, until it was returned."""
    returned = (resource.get("occurrencePeriod") or {}).get("end")
    return bounds({"start": resource.get("authoredOn"), "end": returned})


def _contact(resource: Resource) -> Bounds:
    """From when it was received until it was closed."""
    closed = [each.get("valueDate") for each in _extensions(resource, CLOSED)]
    return bounds({"start": resource.get("authoredOn"), "end": closed[0] if closed else None})


def _task(resource: Resource) -> Bounds:
    """From when it was asked for until it was done; one that does not say when it was done was last changed then."""
    period = resource.get("executionPeriod", {})
    end = period.get("end") or (resource.get("lastModified") if resource.get("status") == "completed" else None)
    return bounds({"start": resource.get("authoredOn") or period.get("start"), "end": end})


def _longer(limits: Bounds) -> Bounds:
    return limits[0], _later(limits[1], WORK_CLOSED)


def _afterwards(limits: Bounds) -> Bounds:
    return (limits[1], _later(limits[1], LATE_VISITS)) if limits[1] is not None and limits != NEVER else NEVER


def _later(moment: datetime | None, by: timedelta) -> datetime | None:
    """So many days later by the clock on the wall: a grace that begins at midnight ends at midnight."""
    if moment is None or moment > END - by - timedelta(days=1):
        return moment
    return (moment.astimezone(LONDON) + by).astimezone(UTC)


_ORGANISATION, _PRACTITIONER = ("Organization",), ("Practitioner",)
_SERVING, _SERVED = frozenset({"active", "onhold"}), frozenset({"finished"})
_REQUESTED, _DONE = frozenset({"active", "on-hold"}), frozenset({"completed"})
_SUPPLIED = frozenset({"draft", "active", "on-hold"})
"""Equipment that was asked for is a draft until it is in the home, as Interweave reads a DeviceRequest."""
_WORKING = frozenset({"requested", "received", "accepted", "ready", "in-progress", "on-hold"})


def _providing(parties: Callable[[Resource], Iterable[tuple[Any, None]]]) -> tuple[Row, ...]:
    provider = Row("care-provider", parties, _ORGANISATION)
    return provider, Row("late-visits", parties, _ORGANISATION, _afterwards)


def _working(parties: Callable[[Resource], Iterable[tuple[Any, None]]]) -> tuple[Row, ...]:
    return Row("worker", parties, _PRACTITIONER, _longer), Row("team", parties, _ORGANISATION, _longer)


def _any(resource: Resource) -> bool:
    return True


def _worked_on(resource: Resource) -> bool:
    """Whoever is told of an alert (fhirgw.visits.alert_task) is no worker of the person's by that."""
    codings = (resource.get("code") or {}).get("coding") or ()
    return all(not isinstance(each, dict) or each.get("system") != VISIT_ALERT for each in codings)


_EPISODE = _providing(_one("managingOrganization"))
_ORDER = _providing(_each("performer"))
_CONTACT = (Row("referral", _one("requester")), *_working(_each("performer")))
_TEAM = (Row("care-team", _participants),)
_SUPPLIER = (Row("supplier", _one("performer"), _ORGANISATION),)
_TASK = (*_working(_one("owner")), *_working(_performers))

RULES: dict[str, tuple[Rule, ...]] = {
    "EpisodeOfCare": (Rule("patient", _SERVING, _SERVED, _episode, _any, _EPISODE),),
    "ServiceRequest": (
        Rule("subject", _REQUESTED, _DONE, _order, _ordered, _ORDER),
        Rule("subject", _REQUESTED, _DONE, _contact, _contacted, _CONTACT),
    ),
    "DeviceRequest": (Rule("subject", _SUPPLIED, _DONE, _equipment, _ordered, _SUPPLIER),),
    "CareTeam": (Rule("subject", frozenset({"active"}), frozenset({"inactive"}), _episode, _any, _TEAM),),
    "Task": (Rule("for", _WORKING, _DONE, _task, _worked_on, _TASK),),
}
"""By type of resource: when it counts, and each row where it names somebody. The first rule that applies holds."""
