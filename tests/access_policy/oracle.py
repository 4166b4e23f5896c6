"""Who may see what, worked out the plain way: one resource at a time, from the JSON alone.

Nothing here is shared with fhirgw: it was written from the security rules and what the modules of fhirgw.access say
they mean. It reads what the worlds of this folder write, and no more of FHIR than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

Resource = dict[str, Any]
Key = tuple[str, str]

LONDON = ZoneInfo("Europe/London")
NHS_NUMBER = "https://fhir.nhs.uk/Id/nhs-number"
CLASS = "https://fhirgw.uk/fhir/CodeSystem/record-class"
CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
SHARING = "https://fhirgw.uk/fhir/CodeSystem/consent-sharing"
DECISION = "https://fhirgw.uk/fhir/CodeSystem/consent-decision"
ROLE_CODE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
REQUEST_CODE = "https://fhirgw.uk/fhir/CodeSystem/request-code"
CLOSED = "https://fhirgw.uk/fhir/StructureDefinition/ext-closed-date"
PERFORMER = "https://fhirgw.uk/fhir/StructureDefinition/ext-performer"

REFERENCE_DATA = {"HealthcareService", "Location", "Organization", "Practitioner", "PractitionerRole", "Questionnaire"}
WHEREABOUTS = {
    *("RelatedPerson", "ServiceRequest", "EpisodeOfCare", "Encounter", "Appointment", "CareTeam", "Device"),
    *("DeviceUseStatement", "DeviceRequest", "Task", "Location", "Communication", "MedicationAdministration"),
    *("Consent", "DocumentReference", "Provenance"),
}
OF_A_PROVIDER = {
    *("Patient", "RelatedPerson", "EpisodeOfCare", "CarePlan", "Goal", "CareTeam", "Flag"),
    *("Appointment", "Encounter", "MedicationStatement", "MedicationAdministration"),
    *("Communication", "Device", "DeviceUseStatement", "AllergyIntolerance"),
}
ABOUT_ME = "https://fhirgw.uk/fhir/Questionnaire/about-me"
SAID_OF_VISITS = {"Appointment", "Encounter", "MedicationAdministration"}
OF_A_SUPPLIER = {"Patient", "RelatedPerson", "Flag", "DeviceRequest", "Device", "DeviceUseStatement"}
NOT_SAID = {
    "address",
    "telecom",
    "contact",
    "generalPractitioner",
    "managingOrganization",
    "photo",
    "text",
    "contained",
}
REASONS = {"TREAT": "direct-care", "HSYSADMIN": "planning", "HRESCH": "research", "PATRQT": "person"}
ACTS_BY_REGISTER, ACTS_BY_NOMINATION = {"HPOWATT", "GUARD"}, {"PRN", "DELEGATEE"}
DISSENT_HOLDS_FOR = {"direct-care", "planning", "research"}
SPECIFIC = {"actor": 8, "sector": 6, "class": 4, "securityLabel": 4, "purpose": 2, "period": 1}

OPEN_TO = {
    "direct-care": {"third-party", "entry"},
    "emergency": {"third-party", "entry"},
    "safeguarding": {"third-party", "safeguarding"},
}
"""Classes that a purpose is cleared for by itself: what others said in confidence is kept from the person."""

SHOWN = "shown"


@dataclass(frozen=True)
class Caller:
    """Who asks. `scopes` as SMART spells them, `clearance` names of classes; the rest as in the security rules."""

    organisation: str
    purpose: str
    scopes: tuple[str, ...] = ("system/*.rs",)
    parties: frozenset[str] = frozenset()
    clearance: frozenset[str] = frozenset()
    patient: str | None = None
    practitioner: str | None = None
    delegate: str | None = None
    grant: str | None = None
    case: str | None = None
    agreement: str | None = None


@dataclass(frozen=True)
class Grant:
    """A broken glass."""

    person: str
    practitioner: str
    organisation: str
    expires: datetime


@dataclass
class World:
    """The resources, whose systems they are from (an ODS code each), the grants, and who has opted out."""

    resources: dict[Key, Resource] = field(default_factory=dict)
    controllers: dict[Key, str] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    opted_out: set[str] = field(default_factory=set)
    records: dict[str | None, list[Resource]] = field(default_factory=dict)

    def add(self, controller: str, *resources: Resource) -> None:
        for each in resources:
            key = (each["resourceType"], each["id"])
            self.resources[key], self.controllers[key] = each, controller
            self.records.setdefault(whose(each), []).append(each)

    def of(self, person: str, *types: str) -> list[Resource]:
        return [each for each in self.records.get(person, []) if each["resourceType"] in types]


_WHOSE: dict[int, tuple[Resource, str | None]] = {}
_CLASSES: dict[int, tuple[Resource, frozenset[str]]] = {}


def whose(each: Resource) -> str | None:
    """The person in whose record a resource is. Remembered by object: nobody changes one."""
    found = _WHOSE.get(id(each))
    if found is None or found[0] is not each:
        found = _WHOSE[id(each)] = (each, _whose(each))
    return found[1]


def classes(each: Resource) -> frozenset[str]:
    """The classes that a resource's own labels put it in. Remembered too."""
    found = _CLASSES.get(id(each))
    if found is None or found[0] is not each:
        found = _CLASSES[id(each)] = (each, _classes(each.get("meta", {}).get("security", [])))
    return found[1]


def _whose(each: Resource) -> str | None:
    kind = each["resourceType"]
    if kind == "Patient":
        return str(each["id"])
    element = {"Task": "for", "RelatedPerson": "patient", "EpisodeOfCare": "patient", "Consent": "patient"}
    reference = each.get(element.get(kind, "subject"), {}).get("reference", "")
    return reference[8:] if reference.startswith("Patient/") else None


def _classes(labels: list[Resource]) -> frozenset[str]:
    found = set()
    for label in labels:
        if label["system"] == CLASS:
            found.add(label["code"])
        elif label["system"] == CONFIDENTIALITY:
            found |= {"R": {"restricted"}, "V": {"sealed"}, "REDACTED": {"sealed"}}.get(label["code"], set())
    return frozenset(found)


def _of_a_provider(each: Resource) -> bool:
    """Whether a care provider needs it: of requests the orders, of answers those about the person themselves."""
    match each["resourceType"]:
        case "ServiceRequest":
            return bool(each["intent"] == "order")
        case "QuestionnaireResponse":
            return each.get("questionnaire") == ABOUT_ME
    return each["resourceType"] in OF_A_PROVIDER


class Judge:
    """What one caller may see of a world at one moment."""

    def __init__(self, world: World, caller: Caller, now: datetime) -> None:
        self.world, self.caller, self.now = world, caller, now
        self._cleared = caller.clearance | OPEN_TO.get(caller.purpose, set())
        self._kinds: dict[str, set[str]] = {}
        self._rules: dict[str, list[_Rule]] = {}
        self._acting: dict[str, list[set[str] | None]] = {}
        self._patients: dict[str, Resource] = {
            i: each for (kind, i), each in world.resources.items() if kind == "Patient"
        }

    def seen(self, verb: str = "r") -> dict[Key, Resource]:
        """What may be seen, each as it is served."""
        every = self.world.resources.items()
        return {key: self.served(each) for key, each in every if self.why(each, verb) == SHOWN}

    def pattern(self, resources: Iterable[Resource]) -> tuple[bool, ...]:
        """Which of the resources may be read."""
        return tuple(self.why(each) == SHOWN for each in resources)

    def why(self, each: Resource, verb: str = "r") -> str:
        """The rule that hides a resource from the caller; SHOWN where none does."""
        caller, kind, person = self.caller, each["resourceType"], whose(each)
        if not any(self._covers(scope, verb, each) for scope in caller.scopes):
            return "scope"
        if caller.purpose == "operations":
            return SHOWN
        own = classes(each)
        lifted = {"restricted"} if kind == "Patient" or self._lives_there(kind) else set()
        lifted = lifted | ({"entry"} if self._lives_there(kind) else set())
        if own and (hidden := own - self._cleared - lifted):
            return "class " + min(hidden)
        if kind in REFERENCE_DATA:
            return SHOWN
        if not self._founded(each):
            return f"no basis for {caller.purpose}"
        if person is None:
            return SHOWN
        labels = classes(self._patients[person]) if person in self._patients else ()
        if "sealed" in labels and "sealed" not in self._cleared:
            return "sealed"
        if "restricted" in labels and (kind in WHEREABOUTS or "entry" in own) and not self._sees_whereabouts():
            return "restricted"
        return self._dissent(each, person)

    def served(self, each: Resource) -> Resource:
        """The resource, or what is told of a Patient whose whereabouts are not."""
        if each["resourceType"] != "Patient" or "restricted" not in classes(each) or self._sees_whereabouts():
            return each
        told = {name: value for name, value in each.items() if name not in NOT_SAID}
        if "extension" in told:
            told["extension"] = [one for one in told["extension"] if "valueAddress" not in one]
        return {name: value for name, value in told.items() if value != []}

    def _lives_there(self, kind: str) -> bool:
        """Where a person lives is no secret from them; where somebody lives whom their record tells of may be one.

        (Until November 2026 the person's own rows of that class were kept from them, which no rule asked for.)
        """
        about_others = kind == "RelatedPerson" or kind in REFERENCE_DATA
        return self.caller.purpose == "person" and self.caller.delegate is None and not about_others

    def _sees_whereabouts(self) -> bool:
        themselves = self.caller.purpose == "person" and self.caller.delegate is None
        return themselves or self.caller.purpose == "operations" or "restricted" in self.caller.clearance

    def _covers(self, scope: str, verb: str, each: Resource) -> bool:
        context, kind, verbs, constraint = _scope(scope)
        if verb not in verbs or kind not in ("*", each["resourceType"]):
            return False
        mine = context != "patient" or whose(each) == self.caller.patient
        return mine and all(self._fits(each, *pair.split("=")) for pair in constraint.split("&") if pair)

    def _fits(self, each: Resource, name: str, values: str) -> bool:
        """A constraint that asks for something withheld is met by nothing that is not told."""
        told = self.served(each)
        if name == "address-use":
            return any(one.get("use") in values.split(",") for one in told.get("address", []))
        return told.get(name) in values.split(",")

    # On what basis a purpose sees a person's record at all

    def _founded(self, each: Resource) -> bool:
        caller, kind, person = self.caller, each["resourceType"], whose(each)
        controller = self.world.controllers[kind, each["id"]]
        match caller.purpose:
            case "direct-care":
                in_person = bool(caller.practitioner) or any(scope.startswith("user/") for scope in caller.scopes)
                held = self._relationships(person) if person else set()
                if in_person:
                    held = held - {"council"}
                elif controller == caller.organisation:
                    return True
                providing = "provider" in held and _of_a_provider(each) and self._provided(each)
                if "entry" in classes(each) and kind == "Flag":
                    return bool(held & {"council", "work"}) or providing
                supplying = "supplier" in held and kind in OF_A_SUPPLIER
                return bool(held - {"provider", "late", "supplier"}) or providing or supplying
            case "person":
                if person is None or person != caller.patient:
                    return False
                return caller.delegate is None or any(kinds is None or kind in kinds for kinds in self._acts(person))
            case "planning" | "research":
                return controller == caller.organisation and self._counted(person)
            case "emergency":
                grant = self.world.grants.get(caller.grant or "")
                return (
                    grant is not None
                    and person == grant.person == caller.patient
                    and (grant.practitioner, grant.organisation) == (caller.practitioner, caller.organisation)
                    and self.now < grant.expires
                )
            case "safeguarding":
                case = self.world.resources.get(("Flag", caller.case or ""))
                return (
                    case is not None
                    and person is not None
                    and "safeguarding" in classes(case)
                    and whose(case) == person
                    and self.world.controllers["Flag", case["id"]] == caller.organisation
                )
        return False

    def _counted(self, person: str | None) -> bool:
        """Whether planning and research may count a person: one of whom we know whether they opted out."""
        patient = self._patients.get(person or "", {})
        numbers = {one["value"] for one in patient.get("identifier", []) if one["system"] == NHS_NUMBER}
        return bool(numbers) and not numbers & self.world.opted_out

    def _acts(self, person: str) -> list[set[str] | None]:
        """For what kinds of record the delegate may act for the person now: one answer for each Consent in force."""
        if person not in self._acting:
            self._acting[person] = [
                rule.kinds
                for rule in self._consented(person)
                if rule.permits
                and rule.acting
                and rule.valid
                and not rule.classes
                and rule.limits_purpose in (None, {"person"})
            ]
        return self._acting[person]

    def _provided(self, each: Resource) -> bool:
        """Of visits a care provider sees its own: here nobody but who it is brings any, so it is named in it."""
        return each["resourceType"] not in SAID_OF_VISITS or self._is(each.get("serviceProvider"))

    # Legitimate relationships

    def _relationships(self, person: str) -> set[str]:
        if person not in self._kinds:
            self._kinds[person] = set(self._related(person))
        return self._kinds[person]

    def _related(self, person: str) -> Iterator[str]:
        patient = self._patients.get(person, {})
        if self._is(patient.get("managingOrganization")):
            yield "council"
        if any(self._is(one) for one in patient.get("generalPractitioner", [])):
            yield "gp"
        for each in self.world.of(person, "EpisodeOfCare", "ServiceRequest", "CareTeam", "Task", "DeviceRequest"):
            yield from getattr(self, "_by_" + each["resourceType"].lower())(each)

    def _by_episodeofcare(self, each: Resource) -> Iterator[str]:
        if self._is(each.get("managingOrganization"), "Organization"):
            yield from self._provides(each, {"active", "onhold"}, {"finished"}, each.get("period", {}))

    def _by_servicerequest(self, each: Resource) -> Iterator[str]:
        performers = each.get("performer", [])
        running, over = {"active", "on-hold"}, {"completed"}
        if each["intent"] == "order":
            period = each.get("occurrenceTiming", {}).get("repeat", {}).get("boundsPeriod", {})
            if any(self._is(one, "Organization") for one in performers):
                yield from self._provides(each, running, over, period)
        elif each["intent"] == "plan" and {"system": REQUEST_CODE, "code": "contact"} in each["code"]["coding"]:
            closed = [one["valueDate"] for one in each.get("extension", []) if one["url"] == CLOSED]
            period = {"start": each["authoredOn"]} | ({"end": closed[0]} if closed else {})
            if self._is(each.get("requester")) and self._holds(each, running, over, period):
                yield "referral"
            if any(self._is(one) for one in performers) and self._holds(each, running, over, period, timedelta(90)):
                yield "work"

    def _by_devicerequest(self, each: Resource) -> Iterator[str]:
        """Whoever brings equipment, from when it is asked for until it is returned."""
        asked = {"start": each["authoredOn"]} | {
            k: v for k, v in each.get("occurrencePeriod", {}).items() if k == "end"
        }
        running = self._holds(each, {"draft", "active", "on-hold"}, {"completed"}, asked)
        if each["intent"] == "order" and self._is(each.get("performer"), "Organization") and running:
            yield "supplier"

    def _by_careteam(self, each: Resource) -> Iterator[str]:
        for one in each.get("participant", []):
            whole, own = each.get("period", {}), one.get("period", {})
            if self._is(one["member"]) and self._holds(each, {"active"}, {"inactive"}, whole) and self._within(own):
                yield "care team"

    def _by_task(self, each: Resource) -> Iterator[str]:
        doing = [one["valueReference"] for one in each.get("extension", []) if one["url"] == PERFORMER]
        period = {"start": each["authoredOn"]}
        end = each.get("executionPeriod", {}).get("end")
        if end is None and each["status"] == "completed":
            end = each.get("lastModified")
        if end is not None:
            period["end"] = end
        running = {"requested", "received", "accepted", "ready", "in-progress", "on-hold"}
        named_there = any(self._is(one) for one in [each.get("owner"), *doing])
        if named_there and self._holds(each, running, {"completed"}, period, timedelta(90)):
            yield "work"

    def _provides(self, each: Resource, running: set[str], over: set[str], period: Resource) -> Iterator[str]:
        if self._holds(each, running, over, period):
            yield "provider"
        ended = "end" in period and ends(period["end"]) <= self.now
        if ended and self._holds(each, running, over, period, timedelta(28)):
            yield "late"

    def _holds(
        self, each: Resource, running: set[str], over: set[str], period: Resource, grace: timedelta = timedelta(0)
    ) -> bool:
        """Whether what a resource says holds now: it goes on, or has ended and says when."""
        status = each["status"]
        return (status in running or (status in over and "end" in period)) and self._within(period, grace)

    def _within(self, period: Resource, grace: timedelta = timedelta(0)) -> bool:
        begun = "start" not in period or starts(period["start"]) <= self.now
        return begun and ("end" not in period or self.now < ends(period["end"]) + grace)

    def _is(self, reference: Resource | None, *types: str) -> bool:
        """Whether a reference names the caller."""
        name = named(reference)
        if name is None or name not in self.caller.parties:
            return False
        return not types or "|" in name or name.partition("/")[0] in types

    # Consent and dissent

    def _dissent(self, each: Resource, person: str) -> str:
        caller, kind, labels = self.caller, each["resourceType"], classes(each)
        if caller.purpose not in DISSENT_HOLDS_FOR and not caller.delegate:
            return SHOWN
        council = caller.purpose == "direct-care" and f"{SHARING}|council" in caller.parties
        keeps = council and self.world.controllers[kind, each["id"]] == caller.organisation
        denied: list[tuple[int, bool, int]] = []
        permitted: list[tuple[int, bool, int]] = []
        for rule in self._consented(person):
            if rule.matches(kind, labels, caller) and (rule.named or not keeps):
                if not rule.permits:
                    denied.append(rule.weight)
                elif rule.valid:
                    permitted.append(rule.weight)
        if not denied:
            return SHOWN
        if permitted and max(permitted) > max(denied):
            return SHOWN
        return "dissent that outweighs a permit" if permitted else "dissent"

    def _consented(self, person: str) -> list[_Rule]:
        if person not in self._rules:
            consents = [each for each in self.world.of(person, "Consent") if each["status"] == "active"]
            paths = [(each, path) for each in consents for path in _paths([each["provision"]])]
            held = [(each, path) for each, path in paths if all(self._within(one.get("period", {})) for one in path)]
            self._rules[person] = [_Rule(each, path, self.caller) for each, path in held]
        return self._rules[person]


class _Rule:
    """One provision of a Consent, with what surrounds it, as it applies to one caller."""

    def __init__(self, consent: Resource, path: list[Resource], caller: Caller) -> None:
        last, person = path[-1], f"Patient/{whose(consent)}"
        performers = {named(one) for one in consent.get("performer", [])}
        verified = any(one["verified"] for one in consent.get("verification", []))
        decided = _decided(consent, performers, person)
        sectors = {f"{SHARING}|{code}" for code in _codes(consent, SHARING)}
        actors = [[one["reference"]["reference"] for one in each["actor"]] for each in path if "actor" in each]
        names = [set(each) for each in actors] or ([sectors] if sectors else [])
        common = set.intersection(*names) & caller.parties if names else set()

        self.permits = last["type"] == "permit"
        self.named = bool(names)
        self.reaches = bool(common) if names else not caller.delegate
        self.kinds = _common([{one["code"] for one in each["class"]} for each in path if "class" in each])
        reasons = [{REASONS[one["code"]] for one in each["purpose"]} for each in path if "purpose" in each]
        self.limits_purpose = _common(reasons)
        self.classes = set().union(*(_labelled(each) for each in path))
        ending = any("end" in each.get("period", {}) for each in path)
        others = decided == "best-interest" and bool(names) and not common & performers and bool(performers) and ending
        self.valid = verified or (decided == "person" and bool(performers)) or others
        self.acting = any(
            one["reference"]["reference"] == caller.delegate
            and (_role(one) in ACTS_BY_NOMINATION or (_role(one) in ACTS_BY_REGISTER and verified))
            for one in last.get("actor", [])
        )
        stated = {name for each in path for name in SPECIFIC if name in each}
        stated |= {"sector"} if sectors and "actor" not in stated else set()
        self.weight = (sum(SPECIFIC[name] for name in stated), decided == "person", len(path))

    def matches(self, kind: str, labels: frozenset[str], caller: Caller) -> bool:
        """Whether it is about the caller, their purpose, and this kind of record."""
        about = self.limits_purpose is None or caller.purpose in self.limits_purpose
        of_kind = self.kinds is None or kind in self.kinds
        return self.reaches and about and of_kind and (not self.classes or bool(self.classes & labels))


@cache
def _scope(spelt: str) -> tuple[str, str, str, str]:
    allowed, _, constraint = spelt.partition("?")
    context, _, rest = allowed.partition("/")
    kind, _, verbs = rest.partition(".")
    return context, kind, verbs, constraint


def _decided(consent: Resource, performers: set[str | None], person: str) -> str:
    """Who decided: the person (also where nobody is named), somebody who acts for them, or a professional."""
    by = "best-interest"
    if person in performers or not performers:
        by = "person"
    elif any((one or "").startswith(("RelatedPerson/", "Patient/")) for one in performers):
        by = "delegate"
    words = {"attorney": "delegate", "deputy": "delegate", "best-interest": "best-interest"}
    said = [words[code] for code in sorted(_codes(consent, DECISION)) if code in words]
    return said[0] if said else by


def _paths(path: list[Resource]) -> Iterator[list[Resource]]:
    yield path
    for inner in path[-1].get("provision", []):
        yield from _paths([*path, inner])


def _codes(consent: Resource, system: str) -> set[str]:
    codings = [coding for each in consent.get("category", []) for coding in each["coding"]]
    return {coding["code"] for coding in codings if coding["system"] == system}


def _labelled(provision: Resource) -> set[str]:
    return set(_classes(provision.get("securityLabel", [])))


def _role(actor: Resource) -> str | None:
    codings = actor.get("role", {}).get("coding", [])
    return next((str(one["code"]) for one in codings if one["system"] == ROLE_CODE), None)


def _common(limits: list[set[str]]) -> set[str] | None:
    return set.intersection(*limits) if limits else None


def named(reference: Resource | None) -> str | None:
    """How a reference names somebody."""
    if not reference:
        return None
    if "reference" in reference:
        return str(reference["reference"])
    return "{system}|{value}".format(**reference["identifier"])


@cache
def starts(text: str) -> datetime:
    """The first instant of a day, in London; an instant is itself."""
    if len(text) > 10:
        return datetime.fromisoformat(text).astimezone(UTC)
    return datetime.fromisoformat(text).replace(tzinfo=LONDON).astimezone(UTC)


@cache
def ends(text: str) -> datetime:
    """The first instant after a day, in London, or after a second."""
    if len(text) > 10:
        return starts(text) + timedelta(seconds=1)
    return starts((datetime.fromisoformat(text) + timedelta(days=1)).date().isoformat())
