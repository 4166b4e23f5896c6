"""An access as an AuditEvent: whole, valid R4, and without anything that may be personal."""

from base64 import b64decode
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from fhirgw.access.audit_event import Access, Seen, event
from fhirgw.access.audit_facets import Facets, facets
from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.access.scope import Scope
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import Resource
from tests.judged import check

ANNE, BERT = "0f8fad5b-d9cb-469f-a165-70867728950e", "1f8fad5b-d9cb-469f-a165-70867728950e"
VISIT = "0f800000-d9cb-569f-a165-70867728950e"
MOMENT = datetime(2026, 3, 3, 11, 2, 4, 5, tzinfo=timezone(timedelta(hours=1)))
SYSTEM = (Scope.parse("system/*.rs"),)
CARE = Permit("Z9C01", "direct-care", SYSTEM, practitioner="pr1", registration="demo-ics")
READ = Access(
    *("read", "/fhir/{type}/{id}", MOMENT, "r-1"),
    type="Encounter",
    asked=f"Encounter/{VISIT}",
    seen=(Seen("Encounter", VISIT, ANNE),),
    permit=CARE,
)
PERMITS = [
    CARE,
    Permit("Z9C01", "planning", SYSTEM, agreement="DSA 12/7", registration="demo-bulk"),
    Permit("Z9C01", "research", SYSTEM, agreement="DSA 12/7"),
    Permit("Z9C01", "person", (Scope.parse("patient/*.rs"),), patient=ANNE, registration="demo-person"),
    Permit("Z9C01", "person", (Scope.parse("patient/*.rs"),), patient=ANNE, delegate="RelatedPerson/d1"),
    Permit("Z9C01", "person", (Scope.parse("patient/*.rs"),), patient=ANNE, delegate="https://example.org/id|7"),
    Permit("Z9C01", "emergency", SYSTEM, patient=ANNE, practitioner="pr1", grant="g1"),
    Permit("Z9C01", "safeguarding", SYSTEM, practitioner="pr1", case="f1"),
    Permit("Z99", "operations", SYSTEM),
]
WAYS = [
    READ,
    replace(READ, interaction="vread", route="/fhir/{type}/{id}/_history/{vid}"),
    replace(READ, interaction="history-instance", route="/fhir/{type}/{id}/_history"),
    replace(READ, status=404, seen=()),
    replace(READ, status=503, seen=()),
    replace(READ, interaction="update", status=412),
    Access("search-type", "/fhir/{type}", MOMENT, "r-2", type="Encounter", parameters=("date", "_count"), permit=CARE),
    Access("operation", "/fhir/$export", MOMENT, "r-3", operation="export", everybody=True, types=("Goal",)),
    Access("operation", "/fhir/oauth/token", MOMENT, "r-4", operation="token", registration="demo-ics", status=400),
    Access("create", "/fhir/{type}", MOMENT, "r-5", status=401),
]


def by_role(made: Resource, code: str) -> list[Resource]:
    return [each for each in made["entity"] if each["role"]["code"] == code]


def test_a_read_says_who_what_when_why_and_whose() -> None:
    assert event(READ, "e1") == {
        "resourceType": "AuditEvent",
        "id": "e1",
        "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-event-type", "code": "rest"},
        "subtype": [{"system": "http://hl7.org/fhir/restful-interaction", "code": "read"}],
        "action": "R",
        "recorded": "2026-03-03T10:02:04.000005Z",
        "outcome": "0",
        "purposeOfEvent": [
            {
                "coding": [
                    {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"},
                    {"system": "https://fhirgw.uk/fhir/CodeSystem/purpose-of-use", "code": "direct-care"},
                ]
            }
        ],
        "agent": [
            {
                "type": {"coding": [{"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "110150"}]},
                "who": {"identifier": {"system": "https://fhirgw.uk/fhir/Id/registration", "value": "demo-ics"}},
                "requestor": True,
                "policy": ["https://fhirgw.uk/fhir/policy/direct-care"],
            },
            {
                "type": {
                    "coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "IRCP"}]
                },
                "who": {"reference": "Practitioner/pr1"},
                "requestor": False,
            },
            {
                "who": {
                    "identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "Z9C01"},
                    "type": "Organization",
                },
                "requestor": False,
            },
        ],
        "source": {
            "observer": {"identifier": {"system": "https://fhirgw.uk/fhir/Id/gateway", "value": "fhirgw"}},
            "type": [{"system": "http://terminology.hl7.org/CodeSystem/security-source-type", "code": "4"}],
        },
        "entity": [
            {
                "what": {"identifier": {"system": "https://fhirgw.uk/fhir/Id/request", "value": "r-1"}},
                "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-entity-type", "code": "2"},
                "role": {"system": "http://terminology.hl7.org/CodeSystem/object-role", "code": "24"},
                "query": "L2ZoaXIve3R5cGV9L3tpZH0=",
                "description": "Encounter",
            },
            {
                "what": {"reference": f"Patient/{ANNE}"},
                "type": {"system": "http://terminology.hl7.org/CodeSystem/audit-entity-type", "code": "1"},
                "role": {"system": "http://terminology.hl7.org/CodeSystem/object-role", "code": "1"},
                "detail": [{"type": "Encounter", "valueString": VISIT}],
            },
        ],
    }


@pytest.mark.parametrize("permit", [*PERMITS, None], ids=lambda each: f"{each and each.purpose}")
@pytest.mark.parametrize("access", WAYS, ids=lambda each: f"{each.operation or each.interaction}-{each.status}")
def test_every_event_is_valid_r4(access: Access, permit: Permit | None) -> None:
    assert check(event(replace(access, permit=permit), "e1")) == []


def test_an_event_that_is_not_valid_would_be_found() -> None:
    assert check(event(READ, "e1") | {"outcome": "bad"})


@pytest.mark.parametrize("purpose", Purpose)
def test_each_purpose_is_told(purpose: Purpose) -> None:
    permit = next(each for each in PERMITS if each.purpose == purpose)
    assert facets(event(replace(READ, permit=permit), "e1")).purpose == purpose


def test_what_it_rests_on_is_named_by_id() -> None:
    policies = [event(replace(READ, permit=each), "e1")["agent"][0]["policy"][1:] for each in PERMITS]
    base = "https://fhirgw.uk/fhir/policy"
    agreed = f"{base}/agreement/DSA%2012%2F7"
    assert policies == [[], [agreed], [agreed], [], [], [], [f"{base}/grant/g1"], [f"{base}/case/f1"], []]


def test_it_is_found_by_what_it_says() -> None:
    seen = [Seen("Patient", BERT, BERT), Seen("Encounter", VISIT, ANNE), Seen("Organization", "o1", None)]
    made = event(replace(READ, interaction="search-type", seen=seen), "e1")
    recorded = MOMENT.astimezone(UTC)
    assert facets(made) == Facets(recorded, (BERT, ANNE), "demo-ics", "Z9C01", "direct-care", "0")
    assert by_role(made, "24")[0]["detail"] == [{"type": "Organization", "valueString": "o1"}]


def test_many_of_one_person_are_one_entity() -> None:
    seen = [*(Seen("Goal", f"g{n}", ANNE) for n in range(3)), Seen("Patient", ANNE, ANNE)]
    [person] = by_role(event(replace(READ, seen=seen), "e1"), "1")
    assert person["detail"] == [
        {"type": "Goal", "valueString": "g0 g1 g2"},
        {"type": "Patient", "valueString": ANNE},
    ]


def test_a_bulk_copy_is_of_everybody() -> None:
    made = event(WAYS[7], "e1")
    assert facets(made).persons == ("*",)
    assert by_role(made, "1")[0]["detail"] == [{"type": "Goal", "valueString": "*"}]


@pytest.mark.parametrize(("status", "outcome"), [(200, "0"), (304, "0"), (401, "4"), (404, "4"), (500, "8")])
def test_refusals_are_told_from_failures(status: int, outcome: str) -> None:
    made = event(replace(READ, status=status), "e1")
    assert made["outcome"] == outcome
    assert made.get("outcomeDesc") == (None if outcome == "0" else f"refused: {status}")


def test_whoever_was_asked_for_in_vain_is_told_of_it() -> None:
    missed = replace(READ, type="Patient", asked=f"Patient/{ANNE}", seen=(), status=404)
    assert facets(event(missed, "e1")).persons == (ANNE,)
    other = event(replace(READ, seen=(), status=404), "e1")
    assert facets(other).persons == ()
    assert [each["what"]["reference"] for each in by_role(other, "4")] == [f"Encounter/{VISIT}"]


@pytest.mark.parametrize("id", ["9000000009", "Canarybird", "ZZ99-3WZ", "1950-03-01", ANNE.upper()])
@pytest.mark.parametrize("kind", ["Patient", "Encounter"])
def test_what_is_no_id_of_ours_is_not_kept(kind: str, id: str) -> None:
    asked = replace(READ, type=kind, asked=f"{kind}/{id}", seen=(), status=404)
    assert id not in encode(event(asked, "e1")).decode()
    kept = replace(asked, asked=f"{kind}/{ANNE}")
    assert ANNE in encode(event(kept, "e1")).decode()


def test_a_search_is_told_by_its_template_and_names() -> None:
    [query] = by_role(event(WAYS[6], "e1"), "24")
    assert b64decode(query["query"]) == b"/fhir/{type}?date&_count"


def test_exactly_one_agent_asked() -> None:
    for permit in (*PERMITS, None):
        agents = event(replace(READ, permit=permit), "e1")["agent"]
        assert [each["requestor"] for each in agents] == [True, *[False] * (len(agents) - 1)]
