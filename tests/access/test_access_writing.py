"""Nobody empowers themselves: who may write what, as a table."""

from dataclasses import replace
from typing import Any

import pytest

from fhirgw.access.consent import ACT_CODE, SHARING
from fhirgw.access.label import RECORD_CLASS, RESTRICTED
from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.access.writing import KEPT, check, check_type, council, covered, origin, owns, vouches
from fhirgw.fhir.index import index
from fhirgw.fhir.issue import FhirError
from fhirgw.store.replay import _owner

EVERYTHING = (Scope.parse("system/*.cruds"),)
COUNCIL = Permit("Z99", "direct-care", EVERYTHING, parties=(f"{SHARING}|council",), registration="core")
PORTAL = Permit("Z99", "direct-care", EVERYTHING, parties=(f"{SHARING}|nhs",), registration="portal")
OTHER_COUNCIL = Permit(
    "Z98", "direct-care", EVERYTHING, parties=(f"{SHARING}|council",), registration="theirs", controls=False
)
PROVIDER = Permit("P01", "direct-care", EVERYTHING, parties=("Organization/p",), registration="care", controls=False)
PERSON = Permit("Z99", "person", EVERYTHING, patient="p1", parties=(f"{SHARING}|council",), registration="app")
DELEGATE = Permit("Z99", "person", EVERYTHING, patient="p1", delegate="RelatedPerson/r1", registration="app")
PLANNING = Permit("Z99", "planning", EVERYTHING, parties=(f"{SHARING}|council",), agreement="a1")
EMERGENCY = Permit("Z99", "emergency", EVERYTHING, patient="p1", practitioner="x", grant="g")
OTHERS = {
    "another application of the controller": PORTAL,
    "another council": OTHER_COUNCIL,
    "a care provider": PROVIDER,
    "the person": PERSON,
    "who acts for them": DELEGATE,
    "planning": PLANNING,
    "an emergency": EMERGENCY,
}

PATIENT = {"reference": "Patient/p1"}
GRANTING: dict[str, dict[str, Any]] = {
    "an episode of care": {
        "resourceType": "EpisodeOfCare",
        "status": "active",
        "patient": PATIENT,
        "managingOrganization": {"reference": "Organization/p"},
    },
    "an order": {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "subject": PATIENT,
        "performer": [{"reference": "Organization/p"}],
    },
    "a care team": {
        "resourceType": "CareTeam",
        "status": "active",
        "subject": PATIENT,
        "participant": [{"member": {"reference": "Organization/p"}}],
    },
    "a task": {
        "resourceType": "Task",
        "status": "accepted",
        "for": PATIENT,
        "authoredOn": "2026-01-01",
        "owner": {"reference": "Practitioner/x"},
    },
    "a safeguarding case": {
        "resourceType": "Flag",
        "status": "active",
        "subject": PATIENT,
        "meta": {"security": [{"system": RECORD_CLASS, "code": "safeguarding"}]},
    },
    "a label": {"resourceType": "Observation", "meta": {"security": [{"code": "R"}]}},
    "a source": {"resourceType": "Observation", "meta": {"source": "urn:elsewhere"}},
}
PLAIN = {"resourceType": "Observation", "status": "final", "subject": PATIENT, "meta": {"tag": [{"code": "x"}]}}


def allowed(permit: Permit, before: dict[str, Any] | None, after: dict[str, Any] | None) -> bool:
    verb = "c" if before is None else "d" if after is None else "u"
    try:
        check_type(permit, verb, (after or before or {})["resourceType"])
        check(permit, before, after)
    except FhirError as error:
        assert error.status == 403
        return False
    return True


@pytest.mark.parametrize("what", GRANTING)
@pytest.mark.parametrize("who", OTHERS)
def test_what_grants_is_written_by_the_council_alone(who: str, what: str) -> None:
    resource = GRANTING[what]
    for before, after in ((None, resource), (resource, None), ({**resource, "meta": {}, "status": "x"}, resource)):
        if before is not None and "meta" in resource and after is None:
            continue  # what is labelled may be deleted by whose it is
        assert allowed(COUNCIL, before, after)
        assert not allowed(OTHERS[who], before, after)


@pytest.mark.parametrize("who", ["another application of the controller", "another council", "a care provider"])
def test_what_grants_nothing_may_be_written_by_others(who: str) -> None:
    for before, after in ((None, PLAIN), (PLAIN, {**PLAIN, "status": "amended"}), (PLAIN, None)):
        assert allowed(OTHERS[who], before, after)
    ordered = GRANTING["an episode of care"]
    assert allowed(OTHERS[who], ordered, {**ordered, "type": [{"text": "what it is called"}]})
    assert allowed(OTHERS[who], None, {**GRANTING["a task"], "owner": None, "status": "draft"})


ODS = "https://fhir.nhs.uk/Id/ods-organization-code"
OURS, THEIRS = {"reference": "Organization/p"}, {"reference": "Organization/q"}
INNER = {"contained": [{"resourceType": "Organization", "id": "o"}, {"resourceType": "Practitioner", "id": "w"}]}
CODED = [{"type": "Organization", "identifier": {"system": ODS, "value": code}} for code in ("P01", "Q01")]


@pytest.mark.parametrize(
    ("kind", "name", "own", "forged"),
    [
        ("Encounter", "serviceProvider", OURS, THEIRS),
        ("Encounter", "serviceProvider", {**OURS, "display": "Kestrel"}, {"display": "Heron"}),
        ("Encounter", "serviceProvider", {**OURS, **CODED[0]}, {**OURS, **CODED[1]}),
        ("Encounter", "serviceProvider", {"reference": "Organization/p/_history/1"}, {"reference": "#o"}),
        ("Observation", "performer", [{"reference": "Practitioner/x"}, OURS], [OURS, THEIRS]),
        ("Observation", "performer", [{"display": "a carer"}, CODED[0]], [CODED[1]]),
        ("Observation", "performer", [{"reference": "#w"}], [{"reference": "#o"}]),
        ("Communication", "sender", CODED[0], {"identifier": CODED[1]["identifier"]}),
        ("DocumentReference", "custodian", CODED[0], {"identifier": {"system": "urn:x", "value": "7"}}),
        ("Flag", "author", OURS, {"reference": "https://elsewhere.example/fhir/Organization/q"}),
    ],
)
def test_nobody_else_speaks_for_another_organisation(kind: str, name: str, own: Any, forged: Any) -> None:
    provider = replace(PROVIDER, parties=("Organization/p", f"{ODS}|P01"))
    bare = {"resourceType": kind, "status": "inactive", "subject": PATIENT, **INNER}
    assert allowed(provider, None, {**bare, name: own})
    for before in (None, bare, {**bare, name: own}):
        assert not allowed(provider, before, {**bare, name: forged})
        assert allowed(COUNCIL, before, {**bare, name: forged})
    assert allowed(provider, {**bare, name: forged}, {**bare, name: forged, "language": "en"})


@pytest.mark.parametrize("kind", [*KEPT, "AuditEvent"])
@pytest.mark.parametrize("who", OTHERS)
def test_types_that_say_who_is_who_are_the_councils(who: str, kind: str) -> None:
    own_consent = kind == "Consent" and who == "the person"
    for permit, wanted in ((COUNCIL, kind != "AuditEvent"), (OTHERS[who], own_consent)):
        for before, after in ((None, {"resourceType": kind}), ({"resourceType": kind}, None)):
            assert allowed(permit, before, after) is wanted


RECIPIENT = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]}
STAFF = Permit(
    "Z99",
    "direct-care",
    (Scope.parse("user/*.cruds"),),
    practitioner="x",
    parties=("Practitioner/x", "Organization/team", "Organization/council", f"{SHARING}|council"),
)


def test_staff_open_records_but_not_to_themselves() -> None:
    episode, team, task = (GRANTING[each] for each in ("an episode of care", "a care team", "a task"))
    assert allowed(STAFF, None, episode)
    assert allowed(STAFF, None, team)
    assert not allowed(STAFF, None, task)
    assert allowed(STAFF, None, {**task, "owner": {"reference": "Practitioner/y"}})
    assert not allowed(STAFF, None, {**task, "owner": {"reference": "Organization/team"}})
    assert allowed(STAFF, task, {**task, "description": "what they had already"})
    for member in ("Practitioner/x", "Organization/team"):
        assert not allowed(STAFF, team, {**team, "participant": [{"member": {"reference": member}}]})
    person = {"resourceType": "Patient", "id": "p1", "managingOrganization": {"reference": "Organization/council"}}
    assert allowed(STAFF, None, person)
    for whom, wanted in (("Practitioner/x", False), ("Practitioner/y", True)):
        dissent = {
            **consent(performer=[PATIENT]),
            "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTIN"}]},
            "provision": {"type": "deny", "actor": [{"role": RECIPIENT, "reference": {"reference": whom}}]},
        }
        assert allowed(STAFF, None, dissent)
        assert allowed(STAFF, dissent, {**dissent, "status": "inactive"}) is wanted
        assert allowed(COUNCIL, dissent, {**dissent, "status": "inactive"})
    for kind in ("Organization", "Practitioner", "PractitionerRole"):
        assert not allowed(STAFF, None, {"resourceType": kind})
        assert allowed(COUNCIL, None, {"resourceType": kind})


@pytest.mark.parametrize("scope", ["system/*.cruds", "patient/*.cruds"])
def test_staff_are_staff_by_whatever_scopes_their_application_asks(scope: str) -> None:
    asked = replace(STAFF, scopes=(Scope.parse(scope),), patient="p1")
    task = GRANTING["a task"]
    for permit, wanted in ((asked, False), (replace(asked, practitioner=None), True)):
        assert permit.in_person is not wanted
        assert vouches(permit) is wanted
        assert allowed(permit, None, task) is wanted
        assert allowed(permit, None, {"resourceType": "Organization"}) is wanted
    assert allowed(asked, None, {**task, "owner": {"reference": "Practitioner/y"}})


def test_staff_take_back_no_dissent_that_names_nobody_nor_permit_everybody() -> None:
    general = general_dissent("TREAT")
    over = {**general, "status": "inactive"}
    permitting = {
        **general,
        "policyRule": {"coding": [{"system": ACT_CODE, "code": "OPTIN"}]},
        "performer": [PATIENT],
        "provision": {"type": "permit", "period": {"start": "2026-01-01", "end": "2026-12-31"}},
    }
    for permit, wanted in ((STAFF, False), (COUNCIL, True)):
        assert allowed(permit, general, over) is wanted
        assert allowed(permit, general, None) is wanted
        assert allowed(permit, None, permitting) is wanted
    assert allowed(STAFF, None, general)  # what takes away they write
    elsewhere = general_dissent("HRESCH")
    assert allowed(STAFF, elsewhere, {**elsewhere, "status": "inactive"})


def general_dissent(purpose: str) -> dict[str, Any]:
    reason = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": purpose}
    policy = {"coding": [{"system": ACT_CODE, "code": "OPTOUT"}]}
    return consent(policyRule=policy, provision={"type": "deny", "purpose": [reason]})


def test_staff_lift_no_label_that_keeps_them_out() -> None:
    code = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
    person: dict[str, Any] = {"resourceType": "Patient", "id": "p1", "meta": {"security": [code]}}
    for permit, wanted in ((STAFF, False), (replace(STAFF, clearance=RESTRICTED), True), (COUNCIL, True)):
        assert allowed(permit, person, {**person, "meta": {}}) is wanted
        assert allowed(permit, {**person, "meta": {}}, person)


def test_staff_make_no_safeguarding_case() -> None:
    case = GRANTING["a safeguarding case"]
    ended = {**case, "status": "inactive"}
    longer = {**case, "period": {"end": "2030-01-01"}}
    for before, after in ((None, case), (case, None), (ended, case), (case, ended), (case, longer), (longer, case)):
        assert not allowed(STAFF, before, after)
        assert not allowed(PORTAL, before, after)
        assert allowed(COUNCIL, before, after)
    for unlabelled in (None, {**case, "meta": {}}):
        assert allowed(STAFF, None, {**case, "meta": {}})
        assert allowed(STAFF, unlabelled, {**ended, "meta": {}})
    assert allowed(STAFF, case, {**case, "code": {"text": "what it is called"}})


@pytest.mark.parametrize(
    ("kind", "name"),
    [("Communication", "sender"), ("QuestionnaireResponse", "author"), ("QuestionnaireResponse", "source")],
)
def test_a_person_and_who_acts_for_them_speak_in_their_own_names(kind: str, name: str) -> None:
    doctor = {"type": "Practitioner", "identifier": {"value": "7"}, "display": "Dr Real"}
    people = {"Patient/p1": PERSON, "RelatedPerson/r1": DELEGATE}
    for own, permit in people.items():
        for other in people:
            assert allowed(permit, None, {"resourceType": kind, name: {"reference": other}}) is (own == other)
        for wrong in (doctor, {"reference": own, "display": "Dr Real"}, {"reference": "Patient/p2"}, {}):
            assert not allowed(permit, None, {"resourceType": kind, name: wrong})
            assert allowed(PROVIDER, None, {"resourceType": kind, name: wrong})
            assert not allowed(permit, {"resourceType": kind}, {"resourceType": kind, name: wrong})


def consent(**elements: Any) -> dict[str, Any]:
    return {"resourceType": "Consent", "status": "active", "patient": PATIENT, **elements}


@pytest.mark.parametrize(
    ("elements", "fits"),
    [
        ({}, True),
        ({"performer": [PATIENT]}, True),
        ({"provision": {"type": "permit", "actor": [{"reference": {"reference": "Organization/p"}}]}}, True),
        ({"verification": [{"verified": True}]}, False),
        ({"performer": [{"reference": "RelatedPerson/r1"}]}, False),
        ({"performer": [{"identifier": {"value": "x"}}]}, False),
        ({"meta": {"security": [{"code": "R"}]}}, False),
    ],
)
def test_a_persons_own_consent_is_theirs_alone(elements: dict[str, Any], fits: bool) -> None:
    assert allowed(PERSON, None, consent(**elements)) is fits
    assert allowed(COUNCIL, None, consent(**elements))
    assert not allowed(DELEGATE, None, consent(**elements))


def test_a_person_and_who_acts_for_them_say_and_answer() -> None:
    for permit in (PERSON, DELEGATE):
        for kind in ("Communication", "QuestionnaireResponse"):
            assert allowed(permit, None, {"resourceType": kind})
        assert not allowed(permit, None, PLAIN)


def test_nobody_writes_without_a_scope() -> None:
    reader = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),), parties=(f"{SHARING}|council",))
    assert council(reader)
    for verb in "cud":
        with pytest.raises(FhirError, match="No scope"):
            check_type(reader, verb, "Observation")


def test_what_is_written_fits_the_scope() -> None:
    final = Permit("Z99", "direct-care", (Scope.parse("system/Observation.cud?status=final,amended"),))
    mine = Permit("Z99", "person", (Scope.parse("patient/Observation.cud"),), patient="p1")
    for permit, resource, wanted in (
        (final, PLAIN, True),
        (final, {**PLAIN, "status": "amended"}, True),
        (final, {**PLAIN, "status": "cancelled"}, False),
        (mine, PLAIN, True),
        (mine, {**PLAIN, "subject": {"reference": "Patient/p2"}}, False),
        (PERSON, PLAIN, True),
        (PERSON, {**PLAIN, "subject": {"reference": "Patient/p2"}}, False),
        (PERSON, {**PLAIN, "subject": {"display": "somebody"}}, False),
        (COUNCIL, {**PLAIN, "subject": {"display": "somebody"}}, True),
        (COUNCIL, PLAIN, True),
    ):
        found = index(resource)
        assert covered(permit, "u", "Observation", found.tokens, found.patient) is wanted
    assert not covered(final, "r", "Observation", index(PLAIN).tokens, "p1")


def test_whose_a_resource_is_to_change() -> None:
    assert owns(COUNCIL, "core-system", "Z99")
    assert owns(PORTAL, "core-system", "Z99")
    assert not owns(PROVIDER, "core-system", "Z99")
    assert owns(PROVIDER, origin(PROVIDER), "Z99")
    assert not owns(PROVIDER, origin(PORTAL), "Z99")
    assert not owns(PERSON, "core-system", "Z99")
    assert owns(PERSON, origin(PERSON), "Z99")


def test_those_who_come_by_one_application_own_what_each_of_them_wrote() -> None:
    by_issuer = [replace(PROVIDER, registration="https://cis2.test", organisation=each) for each in ("P01", "P02")]
    people = [PERSON, DELEGATE, replace(PERSON, patient="p2"), replace(DELEGATE, delegate="RelatedPerson/r2")]
    tricky = [
        replace(PROVIDER, registration="a|b", organisation="c"),
        replace(PROVIDER, registration="a", organisation="b|c"),
    ]
    for together in (by_issuer, people, tricky):
        for one in together:
            for other in together:
                assert owns(one, origin(other), "Z99") is (one is other)
                assert (_owner(one) == _owner(other)) is (one is other)
    assert origin(replace(PROVIDER, practitioner="x")) == origin(PROVIDER)  # what an organisation wrote is its own
    assert _owner(replace(PROVIDER, practitioner="x")) != _owner(PROVIDER)
