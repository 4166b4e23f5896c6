"""Relationships begin and end with what they rest on: one row of a record each, and nothing else."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.access.relationship import ESSENTIALS, KINDS, NARROWED, Tie, opens, ties

ME = {"reference": "Patient/p1"}
AGENCY = {"reference": "Organization/o1"}
WORKER = {"reference": "Practitioner/w1"}
TEAM = {"reference": "Organization/t1"}
ODS = "https://fhir.nhs.uk/Id/ods-organization-code"
MARCH = {"start": "2026-03-01", "end": "2026-03-31"}
FIRST_OF_MARCH = datetime(2026, 3, 1, tzinfo=UTC)
END_OF_MARCH = datetime(2026, 3, 31, 23, tzinfo=UTC)
"""The midnight that ends 31 March is in British Summer Time."""


def patient(**elements: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", "id": "p1", **elements}


def episode(**elements: Any) -> dict[str, Any]:
    return {
        "resourceType": "EpisodeOfCare",
        "id": "e1",
        "status": "active",
        "patient": ME,
        "managingOrganization": AGENCY,
        "period": MARCH,
        **elements,
    }


def equipment(**elements: Any) -> dict[str, Any]:
    return {
        "resourceType": "DeviceRequest",
        "id": "d1",
        "status": "active",
        "intent": "order",
        "subject": ME,
        "authoredOn": "2026-03-01",
        "occurrencePeriod": {"start": "2026-03-09", "end": "2026-03-31"},
        "performer": AGENCY,
        **elements,
    }


def order(**elements: Any) -> dict[str, Any]:
    return {
        "resourceType": "ServiceRequest",
        "id": "s1",
        "status": "active",
        "intent": "order",
        "subject": ME,
        "performer": [AGENCY],
        "occurrenceTiming": {"repeat": {"boundsPeriod": MARCH}},
        **elements,
    }


def contact(**elements: Any) -> dict[str, Any]:
    coding = {"system": "https://fhirgw.uk/fhir/CodeSystem/request-code", "code": "contact"}
    return {
        "resourceType": "ServiceRequest",
        "id": "c1",
        "status": "active",
        "intent": "plan",
        "subject": ME,
        "code": {"coding": [coding]},
        "authoredOn": "2026-03-01",
        "requester": AGENCY,
        "performer": [WORKER, TEAM],
        **elements,
    }


def closed(day: str) -> list[dict[str, str]]:
    return [{"url": "https://fhirgw.uk/fhir/StructureDefinition/ext-closed-date", "valueDate": day}]


def task(**elements: Any) -> dict[str, Any]:
    performer = {"url": "https://fhirgw.uk/fhir/StructureDefinition/ext-performer", "valueReference": WORKER}
    return {
        "resourceType": "Task",
        "id": "k1",
        "status": "in-progress",
        "for": ME,
        "owner": TEAM,
        "extension": [performer],
        "authoredOn": "2026-03-01",
        **elements,
    }


def team(*participants: dict[str, Any], **elements: Any) -> dict[str, Any]:
    return {
        "resourceType": "CareTeam",
        "id": "m1",
        "status": "active",
        "subject": ME,
        "participant": list(participants),
        **elements,
    }


def test_a_person_has_a_council_and_general_practitioners() -> None:
    council = {"identifier": {"system": ODS, "value": "Z9C01"}}
    assert ties(patient(managingOrganization=council, generalPractitioner=[AGENCY, WORKER])) == [
        Tie("p1", f"{ODS}|Z9C01", "council", None, None),
        Tie("p1", "Organization/o1", "gp", None, None),
        Tie("p1", "Practitioner/w1", "gp", None, None),
    ]
    assert ties(patient()) == []


@pytest.mark.parametrize(
    ("reference", "named"),
    [
        ({"reference": "Organization/o1/_history/3"}, "Organization/o1"),
        ({"reference": "Organization/o1", "identifier": {"system": ODS, "value": "X"}}, "Organization/o1"),
        ({"type": "Organization", "identifier": {"system": ODS, "value": "X"}}, f"{ODS}|X"),
        ({"reference": "#o1"}, None),
        ({"reference": "https://elsewhere.example/Organization/o1"}, None),
        ({"reference": "Practitioner/w1"}, None),
        ({"reference": "Organization/"}, None),
        ({"reference": "Organization/o1/x"}, None),
        ({"identifier": {"value": "X"}}, None),
        ({"identifier": {"system": ODS}}, None),
        ({"type": "Practitioner", "identifier": {"system": ODS, "value": "X"}}, None),
        ({"display": "The council"}, None),
        ({"reference": "Organization/o1\x03Organization/o2"}, None),
        ({"identifier": {"system": ODS, "value": "X\x04gp"}}, None),
    ],
)
def test_a_party_is_named_by_its_address_or_else_its_identifier(reference: dict[str, Any], named: str | None) -> None:
    assert [tie.party for tie in ties(patient(managingOrganization=reference))] == ([named] if named else [])


@pytest.mark.parametrize("make", [episode, order])
def test_a_care_provider_is_tied_while_its_package_runs_and_to_late_visits_for_28_days(make: Any) -> None:
    assert ties(make()) == [
        Tie("p1", "Organization/o1", "care-provider", FIRST_OF_MARCH, END_OF_MARCH),
        Tie("p1", "Organization/o1", "late-visits", END_OF_MARCH, END_OF_MARCH + timedelta(days=28)),
    ]


def test_a_package_without_an_end_runs_on_and_has_no_grace() -> None:
    since_march = [Tie("p1", "Organization/o1", "care-provider", FIRST_OF_MARCH, None)]
    assert ties(episode(period={"start": "2026-03-01"})) == since_march
    assert ties(order(occurrenceTiming={"repeat": {"boundsPeriod": {"start": "2026-03-01"}}})) == since_march


@pytest.mark.parametrize(
    ("make", "status", "holds"),
    [
        *((episode, each, True) for each in ("active", "onhold", "finished")),
        *((episode, each, False) for each in ("planned", "waitlist", "cancelled", "entered-in-error", "", None)),
        *((order, each, True) for each in ("active", "on-hold", "completed")),
        *((order, each, False) for each in ("draft", "revoked", "entered-in-error", "unknown", "", None)),
        *((equipment, each, True) for each in ("draft", "active", "on-hold", "completed")),
        *((equipment, each, False) for each in ("revoked", "entered-in-error", "unknown", "", None)),
        *((team, each, True) for each in ("active",)),
        *((team, each, False) for each in ("proposed", "suspended", "inactive", "entered-in-error")),
        *((task, each, True) for each in ("requested", "received", "accepted", "ready", "in-progress", "on-hold")),
        *((task, each, False) for each in ("draft", "rejected", "cancelled", "failed", "entered-in-error")),
        *((contact, each, True) for each in ("active", "on-hold")),
        *((contact, each, False) for each in ("draft", "revoked", "completed", "entered-in-error", "unknown")),
    ],
)
def test_the_status_decides_whether_there_is_a_tie(make: Any, status: str, holds: bool) -> None:
    member = {"member": WORKER}
    made = make(member, status=status) if make is team else make(status=status)
    assert bool(ties(made)) is holds


@pytest.mark.parametrize(
    "resource", [episode(status="finished", period={}), order(status="completed", occurrenceTiming={})]
)
def test_what_is_over_and_does_not_say_when_gives_nothing(resource: dict[str, Any]) -> None:
    assert ties(resource) == []


@pytest.mark.parametrize("intent", ["plan", "proposal", "option", None])
def test_what_is_not_ordered_makes_nobody_a_care_provider(intent: str | None) -> None:
    assert ties(order(intent=intent)) == []


def test_a_supplier_is_tied_from_when_equipment_is_asked_for_until_it_is_returned() -> None:
    assert ties(equipment()) == [Tie("p1", "Organization/o1", "supplier", FIRST_OF_MARCH, END_OF_MARCH)]
    assert ties(equipment(occurrencePeriod={"start": "2026-03-09"})) == [
        Tie("p1", "Organization/o1", "supplier", FIRST_OF_MARCH, None)
    ]
    assert ties(equipment(status="completed", occurrencePeriod={"start": "2026-03-09"})) == []  # nobody knows when
    assert ties(equipment(intent="proposal")) == ties(equipment(performer=WORKER)) == []


def test_an_open_contact_ties_who_referred_and_who_deals_with_it() -> None:
    assert ties(contact()) == [
        Tie("p1", "Organization/o1", "referral", FIRST_OF_MARCH, None),
        Tie("p1", "Practitioner/w1", "worker", FIRST_OF_MARCH, None),
        Tie("p1", "Organization/t1", "team", FIRST_OF_MARCH, None),
    ]


def test_a_closed_contact_ties_the_worker_for_90_days_more_and_the_referrer_no_longer() -> None:
    late = END_OF_MARCH + timedelta(days=90)
    assert ties(contact(status="completed", extension=closed("2026-03-31"))) == [
        Tie("p1", "Organization/o1", "referral", FIRST_OF_MARCH, END_OF_MARCH),
        Tie("p1", "Practitioner/w1", "worker", FIRST_OF_MARCH, late),
        Tie("p1", "Organization/t1", "team", FIRST_OF_MARCH, late),
    ]


def test_a_plan_that_is_no_contact_ties_nobody() -> None:
    assert ties(contact(code={"coding": [{"system": "http://snomed.info/sct", "code": "contact"}]})) == []


def test_a_person_or_relative_who_asks_is_no_professional() -> None:
    asked = contact(requester={"reference": "RelatedPerson/r1"}, performer=[{"reference": "Patient/p2"}])
    assert ties(asked) == []


def test_work_ties_worker_and_team_until_90_days_after_it_is_done() -> None:
    assert ties(task()) == [
        Tie("p1", "Organization/t1", "team", FIRST_OF_MARCH, None),
        Tie("p1", "Practitioner/w1", "worker", FIRST_OF_MARCH, None),
    ]
    late = END_OF_MARCH + timedelta(days=90)
    assert {tie.ends for tie in ties(task(status="completed", executionPeriod={"end": "2026-03-31"}))} == {late}
    assert {tie.ends for tie in ties(task(status="completed", lastModified="2026-03-31"))} == {late}
    assert ties(task(status="completed")) == []


def test_a_team_ties_each_member_once_within_their_own_period_and_the_teams() -> None:
    own = {"start": "2026-02-01", "end": "2026-03-31"}
    found = ties(
        team({"member": WORKER}, {"member": WORKER, "role": []}, {"member": AGENCY, "period": own}, period=MARCH)
    )
    assert found == [
        Tie("p1", "Practitioner/w1", "care-team", FIRST_OF_MARCH, END_OF_MARCH),
        Tie("p1", "Organization/o1", "care-team", FIRST_OF_MARCH, END_OF_MARCH),
    ]
    before = {"start": "2026-01-01", "end": "2026-01-31"}
    assert ties(team({"member": WORKER, "period": before}, period=MARCH)) == []
    assert ties(team({"member": {"reference": "RelatedPerson/r1"}}, {"role": []})) == []


@pytest.mark.parametrize(
    "period", [{"start": "2026-02-30"}, {"end": "soon"}, {"start": "2026-04-01", "end": "2026-03-01"}]
)
def test_a_period_that_cannot_be_ties_nobody(period: dict[str, str]) -> None:
    assert ties(episode(period=period)) == []
    assert ties(team({"member": WORKER, "period": period})) == []


@pytest.mark.parametrize(
    "subject", [None, {}, {"reference": "Group/g1"}, {"identifier": {"system": "s", "value": "v"}}]
)
def test_what_is_nobodys_ties_nobody(subject: Any) -> None:
    assert ties(episode(patient=subject)) == []
    assert ties(task(**{"for": subject})) == []


@given(st.dates(datetime(1950, 1, 1).date(), datetime(2150, 1, 1).date()), st.integers(0, 4000))  # noqa: DTZ001
def test_a_package_and_its_grace_meet_and_do_not_overlap(start: Any, days: int) -> None:
    period = {"start": start.isoformat(), "end": (start + timedelta(days=days)).isoformat()}
    while_it_runs, late = ties(episode(period=period))
    assert while_it_runs.ends == late.starts
    assert while_it_runs.starts is not None and while_it_runs.ends is not None and late.ends is not None
    assert while_it_runs.starts < while_it_runs.ends < late.ends
    assert while_it_runs.party == late.party


def test_each_kind_opens_its_types() -> None:
    assert opens("Observation") == ("council", "gp", "worker", "team", "care-team", "referral")
    assert opens("Condition") == opens("Consent") == opens("Observation"), "no care provider needs them"
    assert opens("AllergyIntolerance") == opens("QuestionnaireResponse") == opens("CarePlan")
    for kind, part in NARROWED.items():
        assert {*part.kinds} < {*opens(kind)}, "a part of what they open, and somebody sees all of it"
    assert opens("CarePlan") == ("council", "gp", "worker", "team", "care-team", "referral", "care-provider")
    assert opens("Encounter") == tuple(each for each in KINDS if each not in ("late-visits", "supplier"))
    assert opens("DeviceRequest") == ("council", "gp", "worker", "team", "care-team", "referral", "supplier")
    assert "late-visits" not in {kind for each in ESSENTIALS for kind in opens(each)}
    made = [
        patient(managingOrganization=AGENCY, generalPractitioner=[AGENCY]),
        episode(),
        contact(),
        task(),
        equipment(),
    ]
    found = {tie.kind for each in [*made, team({"member": WORKER})] for tie in ties(each)}
    assert found == set(KINDS)


def test_other_types_speak_of_no_relationship() -> None:
    assert (
        ties({"resourceType": "Observation", "id": "x", "status": "final", "subject": ME, "performer": [WORKER]}) == []
    )
