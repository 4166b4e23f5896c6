"""Resources that nothing is wrong with, each to be spoilt in one place; and the path language to spoil them with."""

from __future__ import annotations

import re
from copy import deepcopy
from itertools import pairwise
from typing import Any

from fhirgw.fhir.issue import Resource
from fhirgw.fhir.profile import OURS, UK_CORE

GONE: Any = object()
"""What a path is set to that is to be taken out."""

NARRATIVE = {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Something</div>'}
NHS_NUMBER = "https://fhir.nhs.uk/Id/nhs-number"
UK = "https://fhir.hl7.org.uk"
HL7 = "http://terminology.hl7.org/CodeSystem"
SNOMED = "http://snomed.info/sct"
UCUM = "http://unitsofmeasure.org"
ANYBODY = {"reference": "Patient/p1"}


def spoilt(resource: Resource, changes: dict[str, Any]) -> Resource:
    """A copy with values set at paths (`name[0].family`), or taken out."""
    made = deepcopy(resource)
    for path, value in changes.items():
        steps: list[Any] = [int(each) if each.isdigit() else each for each in re.findall(r"\w+", path)]
        at: Any = made
        for step, following in pairwise(steps):
            if isinstance(step, str):
                at = at.setdefault(step, [] if isinstance(following, int) else {})
            else:
                if step == len(at):
                    at.append([] if isinstance(following, int) else {})
                at = at[step]
        last = steps[-1]
        if value is GONE:
            del at[last]
        elif isinstance(last, int) and last == len(at):
            at.append(value)
        else:
            at[last] = value
    return made


def concept(system: str, code: str) -> Resource:
    return {"coding": [{"system": system, "code": code}]}


def extension(name: str, **value: Any) -> Resource:
    return {"url": f"{OURS}/StructureDefinition/ext-{name}", **value}


def uk(name: str, **value: Any) -> Resource:
    return {"url": f"{UK}/StructureDefinition/Extension-UKCore-{name}", **value}


VERIFIED = uk(
    "NHSNumberVerificationStatus",
    valueCodeableConcept=concept(f"{UK}/CodeSystem/UKCore-NHSNumberVerificationStatusEngland", "01"),
)

PATIENT = {
    "resourceType": "Patient",
    "id": "p1",
    "meta": {"profile": [f"{UK_CORE}Patient"], "lastUpdated": "2025-03-30T09:15:00+01:00"},
    "text": NARRATIVE,
    "extension": [
        uk("BirthSex", valueCodeableConcept=concept(f"{HL7}/v3-AdministrativeGender", "F")),
        uk("EthnicCategory", valueCodeableConcept=concept(f"{UK}/CodeSystem/UKCore-EthnicCategoryEngland", "A")),
    ],
    "identifier": [
        {"extension": [VERIFIED], "system": NHS_NUMBER, "value": "9000000009"},
        {"system": f"{OURS}/Id/person", "value": "17"},
    ],
    "active": True,
    "name": [{"use": "official", "family": "Smith", "given": ["Jane", "Ann"], "period": {"start": "2001-01-01"}}],
    "telecom": [{"system": "phone", "value": "01632 960001", "rank": 1}],
    "gender": "female",
    "birthDate": "1940-02-29",
    "deceasedBoolean": False,
    "address": [
        {
            "extension": [
                uk(
                    "AddressKey",
                    extension=[
                        {"url": "type", "valueCodeableConcept": {"text": "UPRN"}},
                        {"url": "value", "valueString": "100090000001"},
                    ],
                )
            ],
            "use": "home",
            "line": ["1 High Street"],
            "postalCode": "SS1 1AA",
        }
    ],
    "maritalStatus": concept(f"{HL7}/v3-MaritalStatus", "M"),
    "contact": [{"relationship": [concept(f"{HL7}/v2-0131", "C")], "name": {"family": "Smith"}}],
    "communication": [{"language": concept("urn:ietf:bcp:47", "en"), "preferred": True}],
    "generalPractitioner": [{"reference": "Organization/g1", "type": "Organization"}],
}

OBSERVATION = {
    "resourceType": "Observation",
    "id": "o1",
    "text": NARRATIVE,
    "status": "final",
    "category": [concept(f"{HL7}/observation-category", "social-history")],
    "code": concept(f"{OURS}/CodeSystem/observation", "accommodation-status"),
    "subject": ANYBODY,
    "effectiveDateTime": "2025-03-01",
    "issued": "2025-03-01T10:00:00Z",
    "valueQuantity": {"value": 7, "unit": "h", "system": UCUM, "code": "h"},
    "referenceRange": [{"low": {"value": 1}, "high": {"value": 9}}],
    "component": [{"code": concept("http://loinc.org", "8480-6"), "valueInteger": 3}],
}

TASK = {
    "resourceType": "Task",
    "id": "t1",
    "meta": {"profile": [f"{UK_CORE}Task"]},
    "text": NARRATIVE,
    "extension": [extension("due-date", valueDate="2025-01-31")],
    "status": "completed",
    "intent": "plan",
    "code": concept(SNOMED, "425268008"),
    "for": ANYBODY,
    "authoredOn": "2025-01-01T09:00:00Z",
    "lastModified": "2025-01-02T09:00:00Z",
    "owner": {"reference": "Practitioner/w1"},
    "input": [{"type": {"text": "form"}, "valueString": "yes"}],
}

APPOINTMENT = {
    "resourceType": "Appointment",
    "text": NARRATIVE,
    "identifier": [{"system": f"{OURS}/Id/visit", "value": "1"}],
    "status": "booked",
    "basedOn": [{"reference": "ServiceRequest/s1"}],
    "start": "2025-03-30T07:30:00+01:00",
    "end": "2025-03-30T08:00:00+01:00",
    "minutesDuration": 30,
    "participant": [
        {"actor": ANYBODY, "status": "accepted"},
        {"actor": {"reference": "PractitionerRole/c1"}, "required": "required", "status": "accepted"},
    ],
}

ENCOUNTER = {
    "resourceType": "Encounter",
    "text": NARRATIVE,
    "identifier": [{"system": f"{OURS}/Id/visit", "value": "1"}],
    "status": "finished",
    "class": {"system": f"{HL7}/v3-ActCode", "code": "HH"},
    "subject": ANYBODY,
    "participant": [{"individual": {"reference": "Practitioner/c1"}, "period": {"start": "2025-03-30T07:52:10Z"}}],
    "period": {"start": "2025-03-30T07:52:10Z", "end": "2025-03-30T08:20:41Z"},
    "serviceProvider": {"identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "A1B2C"}},
}

REQUEST = {
    "resourceType": "ServiceRequest",
    "text": NARRATIVE,
    "contained": [{"resourceType": "Organization", "id": "care", "name": "Care Ltd"}],
    "identifier": [{"system": f"{OURS}/Id/line", "value": "1"}],
    "basedOn": [{"reference": "CarePlan/c1"}],
    "status": "active",
    "intent": "order",
    "category": [{"text": "Long term support"}],
    "code": {"text": "Home support"},
    "subject": ANYBODY,
    "occurrenceTiming": {
        "repeat": {"boundsPeriod": {"start": "2025-03-03"}, "frequency": 1, "period": 1, "periodUnit": "d",
                   "timeOfDay": ["07:30:00"], "duration": 30, "durationUnit": "min"}
    },
    "performer": [{"reference": "#care"}],
    "quantityRatio": {
        "numerator": {"value": 7},
        "denominator": {"value": 1, "unit": "wk", "system": UCUM, "code": "wk"},
    },
}  # fmt: skip

CONDITION = {
    "resourceType": "Condition",
    "text": NARRATIVE,
    "clinicalStatus": concept(f"{HL7}/condition-clinical", "active"),
    "verificationStatus": concept(f"{HL7}/condition-ver-status", "confirmed"),
    "code": {"text": "Dementia"},
    "subject": ANYBODY,
    "onsetDateTime": "2020",
    "evidence": [{"detail": [{"reference": "Observation/o1"}]}],
}

PLAN = {
    "resourceType": "CarePlan",
    "text": NARRATIVE,
    "status": "active",
    "intent": "plan",
    "subject": ANYBODY,
    "period": {"start": "2025-01-01", "end": "2025-12-31"},
    "activity": [{"detail": {"status": "in-progress", "kind": "ServiceRequest"}}],
    "goal": [{"reference": "Goal/g1"}],
}

CONSENT = {
    "resourceType": "Consent",
    "text": NARRATIVE,
    "status": "active",
    "scope": concept(f"{HL7}/consentscope", "patient-privacy"),
    "category": [concept(f"{HL7}/v3-ActCode", "INFA")],
    "patient": ANYBODY,
    "policyRule": {"text": "Care Act"},
    "provision": {"type": "deny", "period": {"start": "2025-01-01"}},
}

ORGANISATION = {
    "resourceType": "Organization",
    "id": "o1",
    "meta": {"profile": [f"{UK_CORE}Organization"]},
    "text": NARRATIVE,
    "identifier": [{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "A1B2C"}],
    "name": "Care Ltd",
    "telecom": [{"system": "url", "value": "https://care.example", "use": "work"}],
    "address": [{"use": "work", "city": "Ottersea"}],
}

RELATED = {
    "resourceType": "RelatedPerson",
    "text": NARRATIVE,
    "patient": ANYBODY,
    "relationship": [concept(f"{UK}/CodeSystem/UKCore-AdditionalPersonRelationshipRole", "Carer")],
    "name": [{"family": "Brown"}],
}

QUESTIONNAIRE = {
    "resourceType": "Questionnaire",
    "text": NARRATIVE,
    "url": f"{OURS}/Questionnaire/q",
    "name": "Needs",
    "status": "active",
    "item": [
        {
            "linkId": "1",
            "type": "group",
            "item": [{"linkId": "1.1", "type": "choice", "answerOption": [{"valueString": "a"}]}],
        },
        {
            "linkId": "2",
            "type": "string",
            "enableWhen": [{"question": "1.1", "operator": "exists", "answerBoolean": True}],
        },
    ],
}

RESPONSE = {
    "resourceType": "QuestionnaireResponse",
    "text": NARRATIVE,
    "questionnaire": f"{OURS}/Questionnaire/adult-social-care-assessment",
    "status": "completed",
    "subject": ANYBODY,
    "item": [{"linkId": "1", "answer": [{"valueString": "yes", "item": [{"linkId": "1.1"}]}]}],
}

ADMINISTRATION = {
    "resourceType": "MedicationAdministration",
    "text": NARRATIVE,
    "status": "completed",
    "medicationCodeableConcept": {"text": "Aspirin"},
    "subject": ANYBODY,
    "effectiveDateTime": "2025-03-30T08:00:00Z",
    "dosage": {"dose": {"value": 1, "unit": "tablet"}},
}

DOCUMENT = {
    "resourceType": "DocumentReference",
    "text": NARRATIVE,
    "status": "current",
    "content": [{"attachment": {"contentType": "text/plain", "data": "aGVsbG8=", "url": "urn:oid:1.2.3"}}],
}

ALLERGY = {
    "resourceType": "AllergyIntolerance",
    "text": NARRATIVE,
    "clinicalStatus": concept(f"{HL7}/allergyintolerance-clinical", "active"),
    "verificationStatus": concept(f"{HL7}/allergyintolerance-verification", "confirmed"),
    "code": {"text": "Penicillin"},
    "patient": {"reference": "Patient/p1"},
}

PLACE = {
    "resourceType": "Location",
    "text": NARRATIVE,
    "status": "active",
    "position": {"longitude": 0.5, "latitude": 51.5},
}

BUNDLE = {
    "resourceType": "Bundle",
    "type": "collection",
    "entry": [
        {"fullUrl": "https://council.example/fhir/Patient/p1", "resource": PATIENT},
        {
            "fullUrl": "urn:uuid:0d4fd1a6-4a4e-4c3c-9f43-1c2c0a5e8a10",
            "resource": {
                "resourceType": "Flag",
                "text": NARRATIVE,
                "status": "active",
                "code": {"text": "Dog"},
                "subject": {"reference": "https://council.example/fhir/Patient/p1"},
                "author": {"reference": "urn:uuid:1d4fd1a6-4a4e-4c3c-9f43-1c2c0a5e8a10"},
            },
        },
        {
            "fullUrl": "urn:uuid:1d4fd1a6-4a4e-4c3c-9f43-1c2c0a5e8a10",
            "resource": {"resourceType": "Practitioner", "text": NARRATIVE, "name": [{"family": "Green"}]},
        },
    ],
}

TRANSACTION = {
    "resourceType": "Bundle",
    "type": "transaction",
    "entry": [{"resource": ORGANISATION, "request": {"method": "PUT", "url": "Organization/o1"}}],
}
