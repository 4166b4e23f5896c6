"""An explanation tells what the predicate decides, and its reasons agree with it, for everybody and everything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhirgw.access.label import EVERY, RESTRICTED, SAFEGUARDING, SEALED
from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope, scopes
from fhirgw.fhir.nhs import ODS_ORGANISATION
from fhirgw.store.database import Connection, connect, declared, direct
from fhirgw.store.explain import Explained, case_of, explain, together
from fhirgw.store.opt_out import load
from tests.conftest import NewDatabase
from tests.put import connected, put

CLASS = "https://fhirgw.uk/fhir/CodeSystem/record-class"
SHARING = "https://fhirgw.uk/fhir/CodeSystem/consent-sharing"
REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
ROLE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
TYPES = "http://hl7.org/fhir/resource-types"
NHS = "https://fhir.nhs.uk/Id/nhs-number"
OVERSEER = Permit("Z99", "operations", (Scope.parse("system/*.rs"),))
TODAY = datetime.now(UTC)
NUMBERS = {"p1": "9000000009", "opted": "9434765919"}


def on(days: int) -> str:
    return (TODAY + timedelta(days=days)).date().isoformat()


def made(kind: str, id: str, person: str | None = None, **elements: Any) -> dict[str, Any]:
    element = "for" if kind == "Task" else "patient" if kind in ("EpisodeOfCare", "Consent") else "subject"
    whose = {element: {"reference": f"Patient/{person}"}} if person else {}
    return {"resourceType": kind, "id": id, **whose, **elements}


def label(code: str) -> dict[str, Any]:
    return {"security": [{"system": CLASS, "code": code}]}


def package(id: str, person: str, provider: str, start: int, end: int | None) -> dict[str, Any]:
    period = {"start": on(start)} | ({"end": on(end)} if end is not None else {})
    by = {"managingOrganization": {"reference": f"Organization/{provider}"}}
    return made("EpisodeOfCare", id, person, status="active", period=period, **by)


def consent(id: str, person: str, provision: dict[str, Any], **elements: Any) -> dict[str, Any]:
    scope = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]}
    performer = [{"reference": f"Patient/{person}"}]
    return made(
        "Consent", id, person, status="active", scope=scope, performer=performer, provision=provision, **elements
    )


def recipient(reference: str, role: str | None = None) -> dict[str, Any]:
    return {
        **({"role": {"coding": [{"system": ROLE, "code": role}]}} if role else {}),
        "reference": {"reference": reference},
    }


def record(person: str, **elements: Any) -> list[dict[str, Any]]:
    """A person with a package of o1 that runs and others' that do not, and a little of most kinds of record."""
    number = [{"system": NHS, "value": NUMBERS[person]}] if person in NUMBERS else []
    practice = [{"reference": "Organization/gp"}]
    return [
        made("Patient", person, identifier=number, generalPractitioner=practice, **elements),
        package(f"{person}-now", person, "o1", -30, None),
        package(f"{person}-late", person, "o2", -90, -10),
        package(f"{person}-over", person, "o3", -300, -200),
        package(f"{person}-soon", person, "o4", 30, None),
        made("CarePlan", f"{person}-plan", person, status="active", intent="plan"),
        made("QuestionnaireResponse", f"{person}-said", person, status="completed"),
        made("QuestionnaireResponse", f"{person}-told", person, status="completed", meta=label("third-party")),
        made("Flag", f"{person}-case", person, status="active", meta=label("safeguarding")),
        made("Encounter", f"{person}-visit", person, status="finished", **{"class": {"code": "HH"}}),
    ]


EXCEPTION = {"type": "permit", "class": [{"system": TYPES, "code": "CarePlan"}]}
NO_FLAGS = {"type": "deny", "class": [{"system": TYPES, "code": "Flag"}]}
HUSH = {"type": "deny", "securityLabel": [{"system": CLASS, "code": "third-party"}]}
SECTOR = {"category": [{"coding": [{"system": SHARING, "code": "nhs"}]}]}
CARER = {"type": "permit", "actor": [recipient("RelatedPerson/r1", "DELEGATEE")], "provision": [NO_FLAGS]}
CONSENTS = [
    consent("c1", "dissent", {"type": "deny"}),
    consent("c2", "except", {"type": "deny", "actor": [recipient("Organization/o1")], "provision": [EXCEPTION]}),
    consent("c3", "sector", {"type": "deny"}, **SECTOR),
    consent("c4", "hush", HUSH),
    consent("c5", "past", {"type": "deny", "period": {"end": on(-2)}}),
    consent("c6", "acted", CARER),
    consent("c7", "planned", {"type": "deny", "purpose": [{"system": REASON, "code": "HSYSADMIN"}]}),
]
NAMED = [
    made("Organization", "o1", name="Riverbank Homecare"),
    made(
        "Organization", "z99", name="Meadow County Council", identifier=[{"system": ODS_ORGANISATION, "value": "Z99"}]
    ),
    made("Practitioner", "w1", name=[{"family": "Bloggs", "given": ["Jo"]}]),
]
PEOPLE = ("p1", "opted", "dissent", "except", "sector", "hush", "past", "acted", "planned")
LABELLED = {"hidden": label("restricted"), "shut": label("sealed")}
ALL = (*PEOPLE, *LABELLED)


@pytest.fixture(scope="module")
async def connection(new_database: NewDatabase) -> AsyncIterator[Connection]:
    async with new_database() as url:
        people = [each for person in PEOPLE for each in record(person)]
        labelled = [each for person, meta in LABELLED.items() for each in record(person, meta=meta)]
        await put(url, *people, *labelled, *CONSENTS, *NAMED)
        await known(url)
        engine = connect(url)
        async with direct(engine) as connection:
            yield connection
        await engine.dispose()


async def known(url: str) -> None:
    """The identifiers of people, one of whom has opted out; and a glass that is broken."""
    connection = await connected(url)
    for person, number in NUMBERS.items():
        insert = (
            "INSERT INTO fhirgw.identifier (system, value, patient, origin, sure) VALUES ($1, $2, $3, 'test', 'yes')"
        )
        await connection.execute(insert, NHS, number, person)
    await load(connection, [NUMBERS["opted"]], TODAY - timedelta(days=1))
    await connection.execute(
        "INSERT INTO fhirgw.break_glass (id, person, practitioner, organisation, registration, reason, expires)"
        " VALUES ('g1', 'dissent', 'w1', 'RAB', 'app', 'she fell, no answer', now() + interval '20 minutes')"
    )
    await connection.close()


def system(*parties: str, purpose: str = "direct-care", organisation: str = "RAB", **context: Any) -> Permit:
    return Permit(organisation, purpose, (Scope.parse("system/*.rs"),), parties=parties, **context)


FAMILY = ("RelatedPerson/r1", f"{SHARING}|family")
BROKEN = {"purpose": "emergency", "practitioner": "w1"}
CASE = {"purpose": "safeguarding", "practitioner": "w1"}
ASKERS = {
    "controller": system(organisation="Z99"),
    "provider": system("Organization/o1"),
    "nhs trust that provides": system("Organization/o1", f"{SHARING}|nhs"),
    "cleared provider": system("Organization/o1", clearance=EVERY),
    "late": system("Organization/o2"),
    "over": system("Organization/o3"),
    "soon": system("Organization/o4"),
    "practice": system("Organization/gp"),
    "stranger": system("Organization/o9"),
    "plans only": replace(system("Organization/gp"), scopes=scopes("system/CarePlan.rs")),
    "some tasks": replace(system("Organization/gp"), scopes=scopes("system/*.r system/Task.r?status=completed")),
    "some plans": replace(
        system("Organization/gp", clearance=EVERY),
        scopes=scopes("system/CarePlan.r?status=draft system/Encounter.r?status=finished system/Patient.r"),
    ),
    "writes only": replace(system("Organization/gp"), scopes=scopes("system/*.cud")),
    "practitioner": replace(
        system("Organization/gp", "Practitioner/w1", practitioner="w1"), scopes=scopes("user/*.rs")
    ),
    "planner": system(organisation="Z99", purpose="planning", agreement="a1"),
    "planner elsewhere": system(organisation="RAB", purpose="planning", agreement="a1"),
    "researcher": system(organisation="Z99", purpose="research", agreement="a1", clearance=SAFEGUARDING),
    "themselves": system(purpose="person", patient="?"),
    "another": replace(system(purpose="person", patient="p1"), scopes=scopes("patient/*.rs")),
    "delegate": system(FAMILY[0], *FAMILY, purpose="person", patient="?", delegate=FAMILY[0]),
    "emergency": system(grant="g1", patient="dissent", clearance=EVERY & ~SEALED, **BROKEN),
    "no grant": system(grant="g2", patient="p1", **BROKEN),
    "safeguarding": system(organisation="Z99", case="?", clearance=SAFEGUARDING | RESTRICTED, **CASE),
}


async def asked(connection: Connection, who: str, person: str, *types: str, days: float = 7) -> dict[str, Explained]:
    asker = ASKERS[who]
    patient = person if asker.patient == "?" else asker.patient
    case = f"{person}-case" if asker.case else None
    async with declared(connection, OVERSEER):
        asker = replace(asker, patient=patient, case=case)
        found = await explain(connection, OVERSEER, asker, person, types, days)
    return {each.type: each for each in found}


@pytest.mark.parametrize("person", ALL)
@pytest.mark.parametrize("who", ASKERS)
async def test_the_reasons_agree_with_the_decision(connection: Connection, who: str, person: str) -> None:
    """And name nobody by an address."""
    found = await asked(connection, who, person)
    assert {"Patient", "Flag", "CarePlan", "EpisodeOfCare"} <= found.keys()
    for each in found.values():
        assert (each.seen == each.held) == all(reason.allows for reason in each.reasons), each
        assert not any("at fault" in reason.text for reason in each.reasons), each
        assert bool(each.remedies) == (each.seen < each.held), each
        told = " ".join((*(reason.text for reason in each.reasons), *each.remedies))
        assert "http" not in told and "weight" not in told


@pytest.mark.parametrize(
    ("who", "person", "kind", "seen", "text", "rests_on"),
    [
        ("controller", "p1", "CarePlan", 1, "Meadow County Council is the controller of this record.", None),
        (
            "provider",
            "p1",
            "CarePlan",
            1,
            "Riverbank Homecare is a care provider with a package",
            "EpisodeOfCare/p1-now",
        ),
        (
            "provider",
            "p1",
            "QuestionnaireResponse",
            0,
            "what the person says in About me, and none of these is that",
            "EpisodeOfCare/p1-now",
        ),
        ("late", "p1", "Encounter", 0, "whose package of care has ended", "EpisodeOfCare/p1-late"),
        ("late", "p1", "CarePlan", 0, "was a care provider with a package of care, until", "EpisodeOfCare/p1-late"),
        ("over", "p1", "Encounter", 0, "was a care provider with a package of care, until", "EpisodeOfCare/p1-over"),
        ("soon", "p1", "Encounter", 0, "but only from", "EpisodeOfCare/p1-soon"),
        ("themselves", "p1", "QuestionnaireResponse", 1, "Some are what somebody else told in confidence", None),
        ("themselves", "p1", "Flag", 0, "They are about safeguarding.", None),
        ("stranger", "p1", "Patient", 0, "Nothing in the record ties RAB to the person.", None),
        ("plans only", "p1", "Flag", 0, "None of its scopes covers these.", None),
        (
            "practice",
            "dissent",
            "CarePlan",
            0,
            "A dissent to sharing with everybody decides: the person decided.",
            "Consent/c1",
        ),
        (
            "provider",
            "except",
            "CarePlan",
            1,
            "A consent to sharing CarePlan with Riverbank Homecare decides",
            "Consent/c2",
        ),
        ("provider", "except", "Encounter", 0, "A dissent to sharing with Riverbank Homecare decides", "Consent/c2"),
        ("nhs trust that provides", "sector", "CarePlan", 0, "A dissent to sharing with the NHS decides", "Consent/c3"),
        ("planner", "opted", "CarePlan", 0, "The person has opted out", None),
        ("planner", "hush", "CarePlan", 0, "The person has no NHS number", None),
        ("provider", "hidden", "EpisodeOfCare", 0, "what tells where they are is withheld", "Patient/hidden"),
        ("provider", "hidden", "Patient", 1, "it is served without their address", "Patient/hidden"),
        ("cleared provider", "hidden", "EpisodeOfCare", 4, "is a care provider", "EpisodeOfCare/hidden-now"),
        ("controller", "shut", "CarePlan", 0, "The person's record is sealed.", "Patient/shut"),
        ("delegate", "acted", "CarePlan", 1, "RelatedPerson/r1 acts for the person (carer).", "Consent/c6"),
        ("delegate", "acted", "Flag", 0, "A dissent to sharing Flag with RelatedPerson/r1 decides", "Consent/c6"),
        ("delegate", "p1", "CarePlan", 0, "RelatedPerson/r1 does not act for the person.", None),
        ("another", "hush", "CarePlan", 0, "It is somebody else's record.", None),
        ("emergency", "dissent", "CarePlan", 1, "Break-glass: a grant is in force until", None),
        ("no grant", "p1", "CarePlan", 0, "No break-glass grant is in force.", None),
        ("safeguarding", "p1", "Flag", 1, "The person has a safeguarding case.", "Flag/p1-case"),
    ],
)
async def test_it_says_what_decided(
    connection: Connection, who: str, person: str, kind: str, seen: int, text: str, rests_on: str | None
) -> None:
    found = (await asked(connection, who, person, kind))[kind]
    assert found.seen == seen
    assert [reason.rests_on for reason in found.reasons if text in reason.text] == [rests_on], found.reasons


async def test_it_says_what_would_change_it(connection: Connection) -> None:
    assert (await asked(connection, "over", "p1", "CarePlan"))["CarePlan"].remedies == (
        "the package of care were running",
    )
    assert (await asked(connection, "practice", "dissent", "Encounter"))["Encounter"].remedies == (
        "the dissent were withdrawn, or a more specific consent given",
    )
    assert (await asked(connection, "provider", "p1", "Flag"))["Flag"].remedies == (
        "it were cleared for safeguarding records",
    )
    assert (await asked(connection, "provider", "p1", "CarePlan"))["CarePlan"].remedies == ()


async def test_an_emergency_is_named_to_those_who_may_break_the_glass(connection: Connection) -> None:
    surgeon = system("Practitioner/w1", practitioner="w1")
    surgeon = replace(surgeon, scopes=scopes("user/*.rs"), parties=("Practitioner/w1",))
    for roles, person, permit, named in (
        (("break-glass",), "p1", surgeon, True),
        (("break-glass",), "dissent", surgeon, True),
        ((), "p1", surgeon, False),
        (("break-glass",), "p1", replace(surgeon, scopes=scopes("system/*.rs")), False),
        (("break-glass",), "p1", replace(surgeon, purpose="planning", agreement="a1"), False),
        (("break-glass",), "shut", surgeon, False),  # sealed information is withheld in an emergency too
        (("break-glass",), "p1", replace(surgeon, scopes=scopes("user/Task.rs")), False),
    ):
        async with declared(connection, OVERSEER):
            (found,) = await explain(connection, OVERSEER, permit, person, ["CarePlan"], 7, roles)
        assert found.decision == "none"
        assert any("broke the glass" in each for each in found.remedies) is named, (roles, person)


async def test_types_that_are_alike_are_told_together(connection: Connection) -> None:
    found = list((await asked(connection, "late", "p1")).values())
    groups = [[each.type for each in group] for group in together(found)]
    assert sorted(each for group in groups for each in group) == sorted(each.type for each in found)
    assert len(groups) < len(found)
    for group in together(found):
        assert len({(each.decision, each.reasons, each.remedies) for each in group}) == 1


async def test_without_a_fresh_list_nobody_is_planned_with(connection: Connection) -> None:
    fresh = (await asked(connection, "planner", "p1", "CarePlan"))["CarePlan"]
    stale = (await asked(connection, "planner", "p1", "CarePlan", days=0.5))["CarePlan"]
    assert (fresh.seen, stale.seen) == (1, 0)
    assert "a list were loaded (`fhirgw opt-outs`)" in stale.remedies


async def test_what_a_record_does_not_hold_is_told_as_none(connection: Connection) -> None:
    for who in ("controller", "stranger"):
        found = await asked(connection, who, "hidden", "Location")
        assert [(each.type, each.held, each.seen, each.reasons) for each in found.values()] == [("Location", 0, 0, ())]
    assert await asked(connection, "controller", "nobody") == {}


async def test_a_case_is_a_flag_with_the_label(connection: Connection) -> None:
    async with declared(connection, OVERSEER):
        assert await case_of(connection, OVERSEER, "p1") == "p1-case"
        assert await case_of(connection, OVERSEER, "nobody") is None
