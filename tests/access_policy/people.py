"""A county for the tables of who sees what: persons who have each decided something else about sharing, with the same
people about them, and everybody who might ask."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.access_policy.oracle import (
    ABOUT_ME,
    CLASS,
    CLOSED,
    CONFIDENTIALITY,
    DECISION,
    NHS_NUMBER,
    PERFORMER,
    REQUEST_CODE,
    ROLE_CODE,
    SHARING,
    Caller,
    Grant,
    Resource,
    World,
)

COUNCIL, OTHER_COUNCIL = "Z9C01", "Z9C02"
TREATMENT, TYPES = "http://terminology.hl7.org/CodeSystem/v3-ActReason", "http://hl7.org/fhir/resource-types"
RECIPIENT = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"

NOW = datetime(2026, 7, 10, 12, tzinfo=UTC)
"""In summer, so that the days of London end an hour before those of UTC."""
YESTERDAY, TODAY, TOMORROW = "2026-07-09", "2026-07-10", "2026-07-11"
MIDNIGHT = datetime(2026, 7, 10, 23, tzinfo=UTC)
GRANTED_UNTIL = NOW + timedelta(minutes=10)
TICK = timedelta(microseconds=1)
EDGES = {
    "a grant expires": GRANTED_UNTIL,
    "today ends in London": MIDNIGHT,
    "the grace for closed work ends": MIDNIGHT - timedelta(1) + timedelta(90),
}
MOMENTS = {"at noon": NOW} | {
    f"{when} {name}": edge - TICK * (when == "just before")
    for name, edge in EDGES.items()
    for when in ("just before", "when")
}


def security(*labels: str) -> Resource:
    """A meta with labels: R, V and N are HL7's, others our own."""
    codings = [{"system": CONFIDENTIALITY if len(each) == 1 else CLASS, "code": each} for each in labels]
    return {"meta": {"security": codings}} if codings else {}


def concept(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}]}


def to(kind: str, id: str) -> Resource:
    return {"reference": f"{kind}/{id}"}


# What a person has decided


def provision(effect: str, *actors: str, **limits: Any) -> Resource:
    """A provision: `kinds`, `reasons`, `label`, `start`, `end` and `but` (nested ones) limit it."""
    made: Resource = {"type": effect}
    if actors:
        made["actor"] = [{"role": concept(RECIPIENT, "IRCP"), "reference": {"reference": each}} for each in actors]
    if "kinds" in limits:
        made["class"] = [{"system": TYPES, "code": each} for each in limits["kinds"]]
    if "reasons" in limits:
        made["purpose"] = [{"system": TREATMENT, "code": each} for each in limits["reasons"]]
    if "label" in limits:
        made["securityLabel"] = [{"system": CLASS, "code": limits["label"]}]
    if period := {name: limits[name] for name in ("start", "end") if name in limits}:
        made["period"] = period
    if "but" in limits:
        made["provision"] = limits["but"]
    return made


def consent(person: str, id: str, says: Resource, by: str | None = "", **elements: Any) -> Resource:
    """A sharing Consent, by the person unless another is named; by nobody for None."""
    made: Resource = {"resourceType": "Consent", "id": f"{person}-{id}", "status": "active"}
    made["scope"] = concept("http://terminology.hl7.org/CodeSystem/consentscope", "patient-privacy")
    made["category"] = [concept("http://terminology.hl7.org/CodeSystem/v3-ActCode", "INFA")]
    for name, system in (("sharing", SHARING), ("decision", DECISION)):
        if name in elements:
            made["category"].append(concept(system, elements.pop(name)))
    made |= {"patient": to("Patient", person), "provision": says}
    if by is not None:
        made["performer"] = [{"reference": by or f"Patient/{person}"}]
    return made | elements


VERIFIED = [{"verified": True, "verificationDate": "2026-01-01"}]
HOMECARE, OTHER_HOMECARE, SURGERY = "Organization/running", "Organization/ending", "Organization/surgery"
DENY = provision("deny")

Decided = Callable[[str], list[Resource]]


def _one(says: Resource, by: str | None = "", **elements: Any) -> Decided:
    return lambda person: [consent(person, "c1", says, by, **elements)]


def _two(one: Decided, other: Decided) -> Decided:
    def both(person: str) -> list[Resource]:
        return [*one(person), *({**each, "id": each["id"] + "-too"} for each in other(person))]

    return both


def _family(person: str) -> list[Resource]:
    return [consent(person, "c1", DENY, sharing="family")]


def _not_the_attorney(person: str) -> list[Resource]:
    says = provision("deny", f"RelatedPerson/{person}-attorney", kinds=["Observation"])
    return [consent(person, "c1", says)]


PERMIT = provision("permit", HOMECARE)
DECISIONS: dict[str, Decided] = {
    "none": lambda person: [],
    "dissent": _one(DENY),
    "dissentnobodysaid": _one(DENY, None),
    "dissentone": _one(provision("deny", HOMECARE)),
    "dissenttwo": _one(provision("deny", HOMECARE, OTHER_HOMECARE)),
    "dissentsurgery": _one(provision("deny", SURGERY)),
    "dissentcouncil": _one(provision("deny", "Organization/council")),
    "dissentworker": _one(provision("deny", "Practitioner/worker")),
    "dissentsector": _one(DENY, sharing="care-provider"),
    "dissentnhs": _one(DENY, sharing="nhs"),
    "dissentfamily": _family,
    "dissentattorney": _not_the_attorney,
    "dissentkind": _one(provision("deny", kinds=["Observation", "CarePlan", "Encounter"])),
    "dissentkindone": _one(provision("deny", HOMECARE, kinds=["Encounter"])),
    "dissentlabel": _one(provision("deny", label="safeguarding")),
    "dissentresearch": _one(provision("deny", reasons=["HRESCH"])),
    "dissentcare": _one(provision("deny", reasons=["TREAT"])),
    "dissentplanning": _one(provision("deny", reasons=["HSYSADMIN", "HRESCH"])),
    "exceptone": _one(provision("deny", but=[provision("permit", HOMECARE)])),
    "exceptkind": _one(provision("deny", but=[provision("permit", kinds=["Patient", "CarePlan"])])),
    "exceptdeep": _one(
        provision("deny", but=[provision("permit", HOMECARE, but=[provision("deny", kinds=["Encounter"])])])
    ),
    "oneexceptkind": _one(provision("deny", HOMECARE, but=[provision("permit", kinds=["Patient", "Encounter"])])),
    "exceptsoon": _one(provision("deny", but=[provision("permit", HOMECARE, start=TOMORROW)])),
    "permitbut": _one(provision("permit", but=[provision("deny", HOMECARE)])),
    "withdrawn": _one(DENY, status="inactive"),
    "tomorrow": _one(provision("deny", start=TOMORROW)),
    "today": _one(provision("deny", start="2026-01-01", end=TODAY)),
    "over": _one(provision("deny", end=YESTERDAY)),
    "thenpermit": _two(_one(DENY), _one(PERMIT)),
    "thenpermittoday": _two(_one(DENY), _one(provision("permit", HOMECARE, end=TODAY))),
    "equals": _two(_one(provision("deny", HOMECARE)), _one(PERMIT)),
    "denyone": _two(_one(provision("permit")), _one(provision("deny", HOMECARE))),
    "sectorthenone": _two(_one(DENY, sharing="care-provider"), _one(PERMIT)),
    "kindbeatsreason": _two(_one(provision("deny", reasons=["TREAT"])), _one(provision("permit", kinds=["Patient"]))),
    "bestinterest": _two(_one(DENY), _one(provision("permit", HOMECARE, end="2026-12-31"), "Practitioner/worker")),
    "bestinterestopen": _two(_one(DENY), _one(PERMIT, "Practitioner/worker")),
    "bestinterestdeny": _one(DENY, "Practitioner/worker", decision="best-interest"),
    "bestinterestequal": _two(_one(provision("deny", HOMECARE), "Practitioner/worker"), _one(PERMIT)),
    "theirown": _two(_one(DENY), _one(provision("permit", HOMECARE, end="2026-12-31"), HOMECARE)),
    "attorney": _two(_one(DENY), _one(PERMIT, "RelatedPerson/x", decision="attorney", verification=VERIFIED)),
    "unverified": _two(_one(DENY), _one(PERMIT, "RelatedPerson/x", decision="attorney")),
    "restricted": lambda person: [],
    "restrictedpermit": _one(provision("permit")),
    "restricteddissent": _one(DENY, sharing="nhs"),
    "sealed": lambda person: [],
    "sealedpermit": _one(PERMIT),
    "optedout": lambda person: [],
    "unnumbered": lambda person: [],
    "elsewhere": lambda person: [],
    "elsewheredissent": _one(DENY),
}
"""What each person has decided: the name is the id of the person."""

LABELS = {"restricted": ["R"], "restrictedpermit": ["restricted"], "restricteddissent": ["R", "N"]}
LABELS |= {"sealed": ["V"], "sealedpermit": ["sealed"], "none": ["N"]}


# Whoever acts for a person


def delegation(person: str, name: str, role: str, by: str = "", **limits: Any) -> Resource:
    """A Consent by which somebody acts for the person."""
    elements = {each: limits.pop(each) for each in ("verification", "status") if each in limits}
    says = provision("permit", f"RelatedPerson/{person}-{name}", **limits)
    says["actor"][0]["role"] = concept(ROLE_CODE, role)
    return consent(person, f"d-{name}", says, by, **elements)


DELEGATES: dict[str, dict[str, Any]] = {
    "attorney": {"role": "HPOWATT", "by": "Organization/court", "verification": VERIFIED},
    "carer": {"role": "DELEGATEE", "kinds": ["Patient", "Encounter", "Observation", "Flag", "RelatedPerson"]},
}
"""Whom every person has."""
MORE_DELEGATES: dict[str, dict[str, Any]] = {
    "deputy": {"role": "GUARD", "by": "Organization/court", "verification": VERIFIED, "end": TODAY},
    "unverified": {"role": "HPOWATT", "by": "Organization/court"},
    "formoney": {"role": "POWATT", "by": "Organization/court", "verification": VERIFIED},
    "former": {"role": "DELEGATEE", "end": YESTERDAY},
    "coming": {"role": "PRN", "start": TOMORROW},
    "revoked": {"role": "DELEGATEE", "status": "inactive"},
    "forcare": {"role": "DELEGATEE", "reasons": ["TREAT"]},
}
"""Whom some have. (`selfmade` nominates themselves.)"""
NAMED = ("none", "dissentfamily", "restricted", "sealed")


# A person's record


def record(person: str, council: str = "council", surgery: str = "surgery") -> list[Resource]:
    """Everything of one person but their Consents."""

    def own(kind: str, id: str, *labels: str, **elements: Any) -> Resource:
        name = {"Task": "for", "RelatedPerson": "patient", "EpisodeOfCare": "patient"}.get(kind, "subject")
        made = {"resourceType": kind, "id": f"{person}-{id}", name: to("Patient", person)}
        return {**made, **security(*labels), **elements}

    def package(provider: str, status: str = "active", **period: str) -> Resource:
        return own(
            *("EpisodeOfCare", f"package-{provider}"),
            status=status,
            period=period,
            managingOrganization=to("Organization", provider),
        )

    def contact(id: str, requester: str, worker: str, closed: str | None = None) -> Resource:
        made = own("ServiceRequest", f"contact-{id}", status="completed" if closed else "active", intent="plan")
        made |= {"code": concept(REQUEST_CODE, "contact"), "authoredOn": "2026-02-01"}
        made |= {"requester": to("Organization", requester), "performer": [to("Practitioner", worker)]}
        return made | ({"extension": [{"url": CLOSED, "valueDate": closed}]} if closed else {})

    def task(id: str, status: str, owner: Resource, *performers: Resource, **elements: Any) -> Resource:
        doing = [{"url": PERFORMER, "valueReference": each} for each in performers]
        made = own(
            "Task", f"task-{id}", status=status, intent="order", authoredOn="2026-02-01", owner=owner, **elements
        )
        return made | ({"extension": doing} if doing else {})

    def visit(id: str, **elements: Any) -> Resource:
        return own("Encounter", id, status="finished", period={"start": "2026-07-01", "end": "2026-07-01"}, **elements)

    def equipment(supplier: str, status: str, intent: str = "order", **period: str) -> Resource:
        made = own("DeviceRequest", f"equipment-{supplier}", status=status, intent=intent, authoredOn="2026-01-01")
        made["codeCodeableConcept"] = concept("https://example.org/codes", "rail")
        made["performer"] = to("Organization", supplier)
        return made | ({"occurrencePeriod": period} if period else {})

    order = own("ServiceRequest", "order", status="active", intent="order", performer=[to("Organization", "ordered")])
    order["occurrenceTiming"] = {"repeat": {"boundsPeriod": {"start": "2026-01-01", "end": TODAY}}}
    team = own("CareTeam", "team", status="active", period={"start": "2026-01-01"})
    team["participant"] = [
        {"member": to("Practitioner", "nurse")},
        {"member": to("Practitioner", "formernurse"), "period": {"end": YESTERDAY}},
        {"member": to("Organization", "ward"), "period": {"start": TOMORROW}},
    ]
    return [
        _patient(person, council, surgery),
        package("running", start="2026-01-01"),
        package("ended", "finished", start="2026-01-01", end=YESTERDAY),
        package("ending", start="2026-01-01", end=TODAY),
        package("longended", "finished", start="2025-01-01", end="2026-05-01"),
        package("coming", start=TOMORROW),
        package("cancelled", "cancelled", start="2026-01-01"),
        package("undated", "finished", start="2026-01-01"),
        order,
        contact("open", "hospital", "screener"),
        contact("closed", "clinic", "formerscreener", YESTERDAY),
        task("running", "in-progress", to("Practitioner", "worker"), to("Organization", "workers")),
        task("closed", "completed", to("Practitioner", "formerworker"), executionPeriod={"end": YESTERDAY}),
        task("old", "completed", to("Practitioner", "oldworker"), lastModified="2026-01-01T00:00:00Z"),
        task("rejected", "rejected", to("Practitioner", "stranger")),
        team,
        own("Observation", "weight", status="final", code=concept("https://example.org/codes", "a")),
        own("Observation", "address", "restricted", status="final", code=concept("https://example.org/codes", "b")),
        own("Observation", "hush", "sealed", status="amended", code=concept("https://example.org/codes", "a")),
        own("Flag", "safeguarding", "safeguarding", status="active"),
        own("Flag", "stairs", "N", status="active"),
        own("Flag", "keysafe", "entry", status="active"),
        own("Condition", "stroke"),
        own("QuestionnaireResponse", "aboutme", status="completed", questionnaire=ABOUT_ME),
        own("QuestionnaireResponse", "answers", status="completed"),
        own("QuestionnaireResponse", "neighbours", "third-party", status="completed"),
        own("Flag", "staff", "third-party", "safeguarding", status="active"),
        own("CarePlan", "plan", status="active", intent="plan"),
        visit("visit"),
        visit("cared", serviceProvider=to("Organization", "running")),
        visit("nursed", serviceProvider=to("Organization", "ending")),
        own("RelatedPerson", "attorney"),
        own("RelatedPerson", "daughter", "restricted"),
        equipment("supplier", "draft"),
        equipment("returned", "completed", start="2026-01-02", end=TODAY),
        equipment("catalogue", "active", "plan"),
    ]


def _patient(person: str, council: str, surgery: str) -> Resource:
    """A person with an address, a telephone and a picture to withhold."""
    made: Resource = {"resourceType": "Patient", "id": person, **security(*LABELS.get(person, []))}
    made["text"] = {"status": "generated", "div": f"<div>{person}, 1 Hidden Lane</div>"}
    number = [] if person == "unnumbered" else [{"system": NHS_NUMBER, "value": nhs_number(person)}]
    made["identifier"] = [*number, {"system": "https://example.org/Id/person", "value": person}]
    made["name"] = [{"family": person.capitalize(), "given": ["Ann"]}]
    made["extension"] = [
        {"url": "http://hl7.org/fhir/StructureDefinition/patient-birthPlace", "valueAddress": {"city": "Hidden"}},
        {"url": "https://example.org/likes", "valueString": "tea"},
    ]
    made["telecom"] = [{"system": "phone", "value": "01702 000000", "use": "home"}]
    made["address"] = [{"use": "home", "line": ["1 Hidden Lane"], "city": "Southend", "postalCode": "SS1 1AA"}]
    made["generalPractitioner"] = [to("Organization", surgery)]
    made["managingOrganization"] = to("Organization", council)
    made["contact"] = [{"telecom": [{"system": "phone", "value": "01702 000001"}]}]
    made["photo"] = [{"title": "the house"}]
    return made


def nhs_number(person: str) -> str:
    return str(9_000_000_000 + sorted(DECISIONS).index(person) if person in DECISIONS else 9_100_000_000)


def county() -> World:
    """All of them, and the organisations and people about them."""
    world = World()
    for person, decided in DECISIONS.items():
        elsewhere = person.startswith("elsewhere")
        here = OTHER_COUNCIL if elsewhere else COUNCIL
        world.add(here, *record(person, "othercouncil" if elsewhere else "council"), *decided(person))
        delegates = DELEGATES | (MORE_DELEGATES if person in NAMED else {})
        world.add(here, *(delegation(person, name, **limits) for name, limits in delegates.items()))
        if person in NAMED:
            world.add(here, delegation(person, "selfmade", "DELEGATEE", f"RelatedPerson/{person}-selfmade"))
        world.grants[f"{person}-live"] = Grant(person, "doctor", "HOSP1", GRANTED_UNTIL)
    world.grants["expired"] = Grant("none", "doctor", "HOSP1", NOW - timedelta(minutes=1))
    world.opted_out.add(nhs_number("optedout"))
    world.add(COUNCIL, *about())
    return world


def about() -> list[Resource]:
    """Reference data, and what is about nobody."""
    organisations = ("council", "othercouncil", "surgery", "running", "ended", "ending", "longended", "hospital")
    made: list[Resource] = [_organisation(each) for each in organisations]
    made.append({"resourceType": "Organization", "id": "refuge", "name": "Refuge", **security("restricted")})
    made.append({"resourceType": "Practitioner", "id": "worker", "name": [{"family": "Worker"}]})
    made.append({"resourceType": "Location", "id": "house", "name": "Day centre"})
    made.append({"resourceType": "Device", "id": "spare", "status": "active"})
    return made


def _organisation(name: str) -> Resource:
    made: Resource = {"resourceType": "Organization", "id": name, "name": name}
    return made | ({"identifier": [{"system": ODS, "value": CODES[name]}]} if name in CODES else {})


CODES = {"council": COUNCIL, "othercouncil": OTHER_COUNCIL, "surgery": "GP1", "running": "PRORUNN", "ended": "PROENDE"}


# Whoever might ask


def organisation(name: str, code: str, sector: str, **elements: Any) -> Caller:
    """An application of an organisation, for direct care unless it says otherwise."""
    parties = frozenset({f"{ODS}|{code}", f"Organization/{name}", f"{SHARING}|{sector}"})
    return Caller(code, elements.pop("purpose", "direct-care"), parties=parties, **elements)


def practitioner(name: str, *, at: str = "council", code: str = COUNCIL, **elements: Any) -> Caller:
    """Somebody who asks in person."""
    asked = organisation(at, code, elements.pop("sector", "council"), practitioner=name, **elements)
    scopes = elements.get("scopes", ("user/*.rs",))
    return Caller(**{**vars(asked), "parties": asked.parties | {f"Practitioner/{name}"}, "scopes": scopes})


def cleared(*classes: str) -> dict[str, Any]:
    return {"clearance": frozenset(classes)}


ALL = cleared("restricted", "safeguarding", "sealed", "third-party")


def callers() -> dict[str, Caller]:
    """Those who ask about everybody."""
    found = {
        "council": organisation("council", COUNCIL, "council"),
        "council, with restricted": organisation("council", COUNCIL, "council", **cleared("restricted")),
        "council, with safeguarding": organisation("council", COUNCIL, "council", **cleared("safeguarding")),
        "council, with sealed": organisation("council", COUNCIL, "council", **cleared("sealed")),
        "council, with everything": organisation("council", COUNCIL, "council", **ALL),
        "other council": organisation("othercouncil", OTHER_COUNCIL, "council"),
        "surgery": organisation("surgery", "GP1", "nhs"),
        "surgery, with restricted": organisation("surgery", "GP1", "nhs", **cleared("restricted")),
        "surgery, reads Observations": organisation("surgery", "GP1", "nhs", scopes=("system/Observation.r",)),
        "surgery, one by one": organisation(
            *("surgery", "GP1", "nhs"), scopes=("system/Patient.rs", "system/Observation.s", "system/Organization.r")
        ),
        "surgery, constrained": organisation(
            *("surgery", "GP1", "nhs"),
            scopes=("system/Observation.rs?status=final", "system/Patient.rs?address-use=home", "system/Task.r"),
        ),
        "surgery, one patient": organisation("surgery", "GP1", "nhs", scopes=("patient/*.rs",), patient="none"),
        "surgery, nothing": organisation("surgery", "GP1", "nhs", scopes=()),
        "stranger surgery": organisation("otherSurgery", "GP2", "nhs"),
        "ward": organisation("ward", "HOSP3", "nhs"),
        "hospital": organisation("hospital", "HOSP1", "nhs"),
        "clinic": organisation("clinic", "HOSP2", "nhs"),
        "workers": organisation("workers", "TEAM1", "council"),
        "running, with everything": organisation("running", "RUN1", "care-provider", **ALL),
        "operator": organisation("council", COUNCIL, "council", purpose="operations"),
    }
    for name in (
        "running",
        "ended",
        "ending",
        "longended",
        "coming",
        "cancelled",
        "undated",
        "ordered",
        "supplier",
        "returned",
        "catalogue",
    ):
        found[f"provider {name}"] = organisation(name, f"PRO{name[:4].upper()}", "care-provider")
    for name in ("worker", "formerworker", "oldworker", "stranger", "screener", "formerscreener"):
        found[name] = practitioner(name)
    for scope in ("system/*.rs", "patient/*.rs"):  # whatever their application asked for, it is they who ask
        launched = {"scopes": (scope,), "patient": "none"}
        found |= {f"{name}, by {scope}": practitioner(name, **launched) for name in ("worker", "stranger")}
    for name in ("nurse", "formernurse"):
        found[name] = practitioner(name, at="hospital", code="HOSP1", sector="nhs")
    found["partner"] = practitioner("partner", at="surgery", code="GP1", sector="nhs", **cleared("restricted"))
    for purpose in ("planning", "research"):
        agreed = {"purpose": purpose, "agreement": "a1"}
        found[f"council, {purpose}"] = organisation("council", COUNCIL, "council", **agreed)
        found[f"council, {purpose}, with restricted"] = organisation(
            "council", COUNCIL, "council", **agreed, **cleared("restricted")
        )
        found[f"council, {purpose}, with third-party"] = organisation(
            "council", COUNCIL, "council", **agreed, **cleared("third-party", "safeguarding")
        )
        found[f"surgery, {purpose}"] = organisation("surgery", "GP1", "nhs", **agreed)
    return found


def bound(person: str) -> dict[str, Caller]:
    """Those who ask about one person."""
    app = organisation("app", "APP1", "nhs", purpose="person", patient=person, scopes=("patient/*.rs",))
    doctor = {"at": "hospital", "code": "HOSP1", "sector": "nhs"}
    found = {
        "themselves": app,
        "doctor in an emergency": practitioner(
            "doctor", **doctor, purpose="emergency", patient=person, grant=f"{person}-live"
        ),
        "doctor with everything": practitioner(
            "doctor", **doctor, purpose="emergency", patient=person, grant=f"{person}-live", **ALL
        ),
        "another doctor": practitioner("other", **doctor, purpose="emergency", patient=person, grant=f"{person}-live"),
        "safeguarding lead": practitioner(
            *("lead",), purpose="safeguarding", case=f"{person}-safeguarding", **cleared("safeguarding")
        ),
        "lead without clearance": practitioner("lead", purpose="safeguarding", case=f"{person}-safeguarding"),
        "lead without a case": practitioner("lead", purpose="safeguarding", case=f"{person}-stairs", **ALL),
        "lead of elsewhere": practitioner(
            *("lead",), at="hospital", code="HOSP1", purpose="safeguarding", case=f"{person}-safeguarding", **ALL
        ),
        "doctor, by an old grant": practitioner(
            "doctor", **doctor, purpose="emergency", patient=person, grant="expired"
        ),
    }
    names = [*DELEGATES, *(MORE_DELEGATES if person in NAMED else ()), *(("selfmade",) if person in NAMED else ())]
    for name in names:
        delegate = f"RelatedPerson/{person}-{name}"
        parties = frozenset({delegate, f"{SHARING}|family"})
        found[name] = Caller(**{**vars(app), "delegate": delegate, "parties": parties})
    return found
