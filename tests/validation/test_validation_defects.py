"""Typical defects, one at a time in resources that nothing else is wrong with: each is found, and where, and what.

The mark is the reference Java validator, which finds 63 of 64 such. Longer than a module is: a table.
"""

from __future__ import annotations

from typing import Any

import pytest

from fhirgw.fhir.issue import Resource
from fhirgw.fhir.profile import OURS, UK_CORE
from fhirgw.validation import validate
from tests.validation import right
from tests.validation.right import (
    ADMINISTRATION,
    ALLERGY,
    APPOINTMENT,
    BUNDLE,
    CONDITION,
    CONSENT,
    DOCUMENT,
    ENCOUNTER,
    GONE,
    HL7,
    NHS_NUMBER,
    OBSERVATION,
    ORGANISATION,
    PATIENT,
    PLACE,
    PLAN,
    QUESTIONNAIRE,
    RELATED,
    REQUEST,
    RESPONSE,
    SNOMED,
    TASK,
    TRANSACTION,
    UCUM,
    UK,
    concept,
    extension,
    spoilt,
    uk,
)

RIGHT = {name: value for name, value in vars(right).items() if isinstance(value, dict) and "resourceType" in value}
BIRTH_SEX = uk("BirthSex", valueCodeableConcept=concept(f"{HL7}/v3-AdministrativeGender", "F"))

Defect = tuple[Resource, dict[str, Any], str, str]

DEFECTS: dict[str, Defect] = {
    # structure
    "unknown element": (PATIENT, {"surname": "Canary"}, "structure", "Patient.surname"),
    "unknown element below": (PATIENT, {"name[0].surname": "Canary"}, "structure", "Patient.name[0].surname"),
    "element of another type": (TASK, {"birthDate": "1940-02-29"}, "structure", "Task.birthDate"),
    "object for list": (PATIENT, {"name": {"family": "Canary"}}, "structure", "Patient.name"),
    "list for one": (PATIENT, {"gender": ["female"]}, "structure", "Patient.gender"),
    "list for one object": (PATIENT, {"maritalStatus": [{"text": "x"}]}, "structure", "Patient.maritalStatus"),
    "text for object": (PATIENT, {"name[0]": "Canary"}, "structure", "Patient.name[0]"),
    "object for text": (PATIENT, {"birthDate": {"value": "Canary"}}, "structure", "Patient.birthDate"),
    "text for boolean": (PATIENT, {"active": "true"}, "structure", "Patient.active"),
    "text for number": (OBSERVATION, {"valueQuantity.value": "7"}, "structure",
                        "Observation.value.ofType(Quantity).value"),
    "decimal for integer": (PATIENT, {"telecom[0].rank": 1.5}, "structure", "Patient.telecom[0].rank"),
    "boolean for integer": (APPOINTMENT, {"minutesDuration": True}, "structure", "Appointment.minutesDuration"),
    "empty text": (PATIENT, {"name[0].family": ""}, "value", "Patient.name[0].family"),
    "blank text": (PATIENT, {"name[0].family": "  "}, "value", "Patient.name[0].family"),
    "empty object": (PATIENT, {"contact[0].name": {}}, "structure", "Patient.contact[0].name"),
    "empty list": (PATIENT, {"address": []}, "structure", "Patient.address"),
    "null for a value": (PATIENT, {"birthDate": None}, "structure", "Patient.birthDate"),
    "null in a list": (PATIENT, {"name[0].given[1]": None}, "structure", "Patient.name[0].given[1]"),
    "extensions out of step": (PATIENT, {"name[0]._given": [{"id": "a"}]}, "structure", "Patient.name[0].given"),
    "extensions for no element": (PATIENT, {"_surname": {"id": "a"}}, "structure", "Patient._surname"),
    "only an id": (PATIENT, {"birthDate": GONE, "_birthDate": {"id": "a"}}, "invariant", "Patient.birthDate"),
    "two of a choice": (PATIENT, {"deceasedDateTime": "2025"}, "structure", "Patient.deceased"),
    "choice of a type R4 does not allow": (OBSERVATION, {"valueQuantity": GONE, "valueDecimal": 7}, "structure",
                                           "Observation.valueDecimal"),
    "no resource": (PATIENT, {"resourceType": "Person2"}, "structure", "resourceType"),
    "contained without a type": (REQUEST, {"contained[0].resourceType": GONE}, "structure",
                                 "ServiceRequest.contained[0].resourceType"),
    # cardinality
    "required code missing": (TASK, {"status": GONE}, "required", "Task.status"),
    "required reference missing": (CONDITION, {"subject": GONE}, "required", "Condition.subject"),
    "required below missing": (PATIENT, {"communication[0].language": GONE}, "required",
                               "Patient.communication[0].language"),
    "required choice missing": (ADMINISTRATION, {"medicationCodeableConcept": GONE}, "required",
                                "MedicationAdministration.medication"),
    "required list missing": (APPOINTMENT, {"participant": GONE}, "required", "Appointment.participant"),
    # values
    "date that does not exist": (PATIENT, {"birthDate": "1941-02-29"}, "value", "Patient.birthDate"),
    "British date": (PATIENT, {"birthDate": "29/02/1940"}, "value", "Patient.birthDate"),
    "date with a time": (PATIENT, {"birthDate": "1940-02-29T00:00:00Z"}, "value", "Patient.birthDate"),
    "month 13": (CONDITION, {"onsetDateTime": "2020-13"}, "value", "Condition.onset.ofType(dateTime)"),
    "time without a zone": (TASK, {"authoredOn": "2025-01-01T09:00:00"}, "value", "Task.authoredOn"),
    "hour 25": (TASK, {"authoredOn": "2025-01-01T25:00:00Z"}, "value", "Task.authoredOn"),
    "instant without a time": (OBSERVATION, {"issued": "2025-03-01"}, "value", "Observation.issued"),
    "id with a blank": (PATIENT, {"id": "p 1"}, "value", "Patient.id"),
    "id too long": (PATIENT, {"id": "a" * 65}, "value", "Patient.id"),
    "uri with a blank": (PATIENT, {"identifier[1].system": "https://a b"}, "value", "Patient.identifier[1].system"),
    "uuid cut short": (BUNDLE, {"entry[1].fullUrl": "urn:uuid:0d4fd1a6"}, "value", "Bundle.entry[1].fullUrl"),
    "oid that is none": (DOCUMENT, {"content[0].attachment.url": "urn:oid:a.b"}, "value",
                         "DocumentReference.content[0].attachment.url"),
    "code with a blank before": (PATIENT, {"maritalStatus.coding[0].code": " M"}, "value",
                                 "Patient.maritalStatus.coding[0].code"),
    "positive nought": (PATIENT, {"telecom[0].rank": 0}, "value", "Patient.telecom[0].rank"),
    "beyond 32 bits": (APPOINTMENT, {"minutesDuration": 2**31}, "value", "Appointment.minutesDuration"),
    "base64 that is none": (DOCUMENT, {"content[0].attachment.data": "aGVsbG8"}, "value",
                            "DocumentReference.content[0].attachment.data"),
    "control character": (PATIENT, {"name[0].family": "Smi\x00th"}, "value", "Patient.name[0].family"),
    "time of day in short": (REQUEST, {"occurrenceTiming.repeat.timeOfDay[0]": "07:30"}, "value",
                             "ServiceRequest.occurrence.ofType(Timing).repeat.timeOfDay[0]"),
    # codes
    "code outside": (PATIENT, {"gender": "woman"}, "code-invalid", "Patient.gender"),
    "code in capitals": (TASK, {"status": "Completed"}, "code-invalid", "Task.status"),
    "another type's code": (TASK, {"status": "revoked"}, "code-invalid", "Task.status"),
    "code outside below": (PATIENT, {"name[0].use": "main"}, "code-invalid", "Patient.name[0].use"),
    "unit of time outside": (REQUEST, {"occurrenceTiming.repeat.periodUnit": "day"}, "code-invalid",
                             "ServiceRequest.occurrence.ofType(Timing).repeat.periodUnit"),
    "required concept outside": (CONDITION, {"clinicalStatus.coding[0].code": "open"}, "code-invalid",
                                 "Condition.clinicalStatus"),
    "required concept of another system": (CONDITION, {"clinicalStatus.coding[0].system": SNOMED}, "code-invalid",
                                           "Condition.clinicalStatus"),
    "required concept as text": (CONDITION, {"clinicalStatus": {"text": "active"}}, "code-invalid",
                                 "Condition.clinicalStatus"),
    "code its system does not have": (OBSERVATION, {"code.coding[0].code": "nope"}, "code-invalid",
                                      "Observation.code.coding[0].code"),
    "SNOMED CT with a wrong check digit": (TASK, {"code.coding[0].code": "425268009"}, "code-invalid",
                                           "Task.code.coding[0].code"),
    "unit that UCUM has not": (OBSERVATION, {"valueQuantity.code": "hours"}, "code-invalid",
                               "Observation.value.ofType(Quantity).code"),
    "unit in capitals": (OBSERVATION, {"valueQuantity.code": "MM[HG]"}, "code-invalid",
                         "Observation.value.ofType(Quantity).code"),
    "unit of a dose that UCUM has not": (ADMINISTRATION, {"dosage.dose": {"value": 1, "system": UCUM, "code": "tabs"}},
                                         "code-invalid", "MedicationAdministration.dosage.dose.code"),
    "language of a resource that is none": (PATIENT, {"language": "xx-zzzz-"}, "code-invalid", "Patient.language"),
    "language of a document that is none": (DOCUMENT, {"content[0].attachment.language": "english"}, "code-invalid",
                                            "DocumentReference.content[0].attachment.language"),
    "rules that are not understood": (PATIENT, {"implicitRules": "https://example.org/rules"}, "not-supported",
                                      "Patient.implicitRules"),
    "rules of an entry": (BUNDLE, {"entry[0].resource.implicitRules": "https://example.org/rules"}, "not-supported",
                          "Bundle.entry[0].resource.implicitRules"),
    "language that is none": (PATIENT, {"communication[0].language.coding[0].code": "english language"},
                              "code-invalid", "Patient.communication[0].language"),
    "retired verification system": (
        PATIENT,
        {"identifier[0].extension[0].valueCodeableConcept.coding[0].system":
         f"{UK}/CodeSystem/UKCore-NHSNumberVerificationStatus"},
        "code-invalid",
        "Patient.identifier[0].extension[0].value.ofType(CodeableConcept)",
    ),
    # references
    "reference to the wrong type": (TASK, {"owner": {"reference": "Location/l1"}}, "value", "Task.owner"),
    "reference to the wrong type elsewhere": (
        TASK, {"owner": {"reference": "https://council.example/fhir/Location/l1"}}, "value", "Task.owner"
    ),
    "reference to a wrong type by its name": (TASK, {"owner": {"type": "Location", "display": "x"}}, "value",
                                              "Task.owner"),
    "reference at odds with its type": (PATIENT, {"generalPractitioner[0].type": "Practitioner"}, "value",
                                        "Patient.generalPractitioner[0]"),
    "reference to no type": (TASK, {"for.reference": "Person2/1"}, "value", "Task.for.reference"),
    "reference that is none": (TASK, {"for.reference": "p1"}, "value", "Task.for.reference"),
    "id of two elements": (PATIENT, {"name[0].id": "a", "address[0].id": "a"}, "value", "Patient.address[0].id"),
    "id of two codings": (
        PATIENT,
        {"maritalStatus.coding[0].id": "a", "maritalStatus.id": "a"},
        "value",
        "Patient.maritalStatus.coding[0].id",
    ),
    "id beside a primitive": (PATIENT, {"_gender": {"id": "a"}, "name[0].id": "a"}, "value", "Patient.gender.id"),
    "id of two contained": (
        REQUEST,
        {"contained[1]": {"resourceType": "Organization", "id": "care", "name": "x"}},
        "value",
        "ServiceRequest.contained[1].id",
    ),
    "system that is relative": (TASK, {"code.coding[0].system": "snomed"}, "value", "Task.code.coding[0].system"),
    "identifier of a relative system": (PATIENT, {"identifier[1].system": "mine"}, "value",
                                        "Patient.identifier[1].system"),
    "identifier that is no uri": (
        PATIENT,
        {"identifier[1].system": "urn:ietf:rfc:3986", "identifier[1].value": "1234"},
        "value",
        "Patient.identifier[1].value",
    ),
    "system that is a value set": (
        OBSERVATION,
        {"category[0].coding[0].system": "http://hl7.org/fhir/ValueSet/observation-category"},
        "value",
        "Observation.category[0].coding[0].system",
    ),
    "contained of the wrong type": (REQUEST, {"subject.reference": "#care"}, "value", "ServiceRequest.subject"),
    "nothing contained": (REQUEST, {"performer[0].reference": "#nobody"}, "invariant",
                          "ServiceRequest.performer[0].reference"),
    # extensions
    "ours that does not exist": (TASK, {"extension[0].url": f"{OURS}/StructureDefinition/ext-nope"}, "extension",
                                 "Task.extension[0]"),
    "extension with another type": (TASK, {"extension[0]": extension("due-date", valueString="x")}, "extension",
                                    "Task.extension[0]"),
    "extension that belongs elsewhere": (TASK, {"extension[0]": extension("carers-required", valuePositiveInt=2)},
                                         "extension", "Task.extension[0]"),
    "extension without url": (TASK, {"extension[0].url": GONE}, "required", "Task.extension[0].url"),
    "extension without value": (TASK, {"extension[0].valueDate": GONE}, "invariant", "Task.extension[0]"),
    "extension with value and parts": (
        TASK, {"extension[0].extension": [{"url": "x", "valueString": "y"}]}, "invariant", "Task.extension[0]"
    ),
    "extension twice": (TASK, {"extension[1]": extension("due-date", valueDate="2025-02-01")}, "structure",
                        "Task.extension[1]"),
    "extension in the modifiers' place": (
        TASK, {"modifierExtension": [extension("due-date", valueDate="2025-02-01")]}, "extension",
        "Task.modifierExtension[0]",
    ),
    "part missing": (PATIENT, {"address[0].extension[0].extension[0]": GONE},
                     "required", "Patient.address[0].extension[0]"),
    "part unknown": (PATIENT, {"address[0].extension[0].extension[2]": {"url": "nope", "valueString": "1"}},
                     "extension", "Patient.address[0].extension[0].extension[2]"),
    "extension code outside": (
        PATIENT, {"extension[0].valueCodeableConcept": concept(f"{HL7}/v3-AdministrativeGender", "X")},
        "code-invalid", "Patient.extension[0].value.ofType(CodeableConcept)",
    ),
    # profiles
    "profile of another type": (TASK, {"meta.profile[0]": f"{UK_CORE}Patient"}, "invalid", "Task.meta.profile[0]"),
    "two NHS numbers": (PATIENT, {"identifier[1]": {"system": NHS_NUMBER, "value": "9434765919"}}, "structure",
                        "Patient.identifier"),
    "NHS number without a value": (PATIENT, {"identifier[0].value": GONE}, "required", "Patient.identifier[0].value"),
    "two birth sexes": (PATIENT, {"extension[1]": BIRTH_SEX}, "structure", "Patient.extension[1]"),
    "two ODS codes": (
        ORGANISATION,
        {"identifier[1]": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "A1B2D"}},
        "structure", "Organization.identifier",
    ),
    # identifiers
    "NHS number with a wrong check digit": (PATIENT, {"identifier[0].value": "9000000008"}, "value",
                                            "Patient.identifier[0].value"),
    "NHS number with spaces": (PATIENT, {"identifier[0].value": "900 000 0009"}, "value",
                               "Patient.identifier[0].value"),
    "ODS code that is none": (ORGANISATION, {"identifier[0].value": "a1b"}, "value",
                              "Organization.identifier[0].value"),
    # invariants
    "app-1": (APPOINTMENT, {"participant[0].actor": GONE}, "invariant", "Appointment.participant[0]"),
    "ait-1": (ALLERGY, {"clinicalStatus": GONE}, "invariant", "AllergyIntolerance"),
    "ait-2": (ALLERGY, {"verificationStatus.coding[0].code": "entered-in-error"}, "invariant", "AllergyIntolerance"),
    "app-2": (APPOINTMENT, {"end": GONE}, "invariant", "Appointment"),
    "app-3": (APPOINTMENT, {"start": GONE, "end": GONE}, "invariant", "Appointment"),
    "app-4": (APPOINTMENT, {"cancelationReason": {"text": "x"}, "status": "noshow"}, "invariant", "Appointment"),
    "att-1": (DOCUMENT, {"content[0].attachment.contentType": GONE}, "invariant",
              "DocumentReference.content[0].attachment"),
    "con-4": (CONDITION, {"abatementDateTime": "2021"}, "invariant", "Condition"),
    "con-5": (CONDITION, {"verificationStatus.coding[0].code": "entered-in-error"}, "invariant", "Condition"),
    "con-2": (CONDITION, {"evidence[0]": {"id": "e"}}, "invariant", "Condition.evidence[0]"),
    "cpl-3": (PLAN, {"activity[0].reference": {"reference": "Task/t1"}}, "invariant", "CarePlan.activity[0]"),
    "cpt-2": (PATIENT, {"telecom[0].system": GONE}, "invariant", "Patient.telecom[0]"),
    "dom-2": (REQUEST, {"contained[0].contained": [{"resourceType": "Basic"}]}, "invariant", "ServiceRequest"),
    "dom-3": (REQUEST, {"performer": GONE}, "invariant", "ServiceRequest"),
    "contained without an id": (REQUEST, {"performer": GONE, "contained[0].id": GONE}, "invariant", "ServiceRequest"),
    "dom-4": (REQUEST, {"contained[0].meta": {"versionId": "1"}}, "invariant", "ServiceRequest"),
    "dom-5": (REQUEST, {"contained[0].meta": {"security": [{"display": "x"}]}}, "invariant", "ServiceRequest"),
    "inv-1": (TASK, {"lastModified": "2024-12-31T09:00:00Z"}, "invariant", "Task"),
    "mad-1": (ADMINISTRATION, {"dosage.dose": GONE, "dosage.text": "one"}, "invariant",
              "MedicationAdministration.dosage"),
    "obs-3": (OBSERVATION, {"referenceRange[0]": {"appliesTo": [{"text": "x"}]}}, "invariant",
              "Observation.referenceRange[0]"),
    "obs-6": (OBSERVATION, {"dataAbsentReason": {"text": "x"}}, "invariant", "Observation"),
    "obs-7": (OBSERVATION, {"component[0].code": OBSERVATION["code"]}, "invariant", "Observation"),
    "org-1": (ORGANISATION, {"name": GONE, "identifier": GONE}, "invariant", "Organization"),
    "org-2": (ORGANISATION, {"address[0].use": "home"}, "invariant", "Organization.address[0]"),
    "org-3": (ORGANISATION, {"telecom[0].use": "home"}, "invariant", "Organization.telecom[0]"),
    "pat-1": (PATIENT, {"contact[0].name": GONE}, "invariant", "Patient.contact[0]"),
    "per-1": (PLAN, {"period.end": "2024-12-31"}, "invariant", "CarePlan.period"),
    "ppc-1": (CONSENT, {"policyRule": GONE}, "invariant", "Consent"),
    "qrs-1": (RESPONSE, {"item[0].item": [{"linkId": "2"}]}, "invariant", "QuestionnaireResponse.item[0]"),
    "qty-3": (OBSERVATION, {"valueQuantity.system": GONE}, "invariant", "Observation.value.ofType(Quantity)"),
    "que-1": (QUESTIONNAIRE, {"item[0].type": "display"}, "invariant", "Questionnaire.item[0]"),
    "que-2": (QUESTIONNAIRE, {"item[1].linkId": "1.1"}, "invariant", "Questionnaire"),
    "que-7": (QUESTIONNAIRE, {"item[1].enableWhen[0]": {"question": "1", "operator": "exists", "answerString": "y"}},
              "invariant", "Questionnaire.item[1].enableWhen[0]"),
    "rat-1": (REQUEST, {"quantityRatio.denominator": GONE}, "invariant", "ServiceRequest.quantity.ofType(Ratio)"),
    "rng-2": (OBSERVATION, {"valueQuantity": GONE, "valueRange": {"low": {"value": 9}, "high": {"value": 1}}},
              "invariant", "Observation.value.ofType(Range)"),
    "tim-1": (REQUEST, {"occurrenceTiming.repeat.durationUnit": GONE}, "invariant",
              "ServiceRequest.occurrence.ofType(Timing).repeat"),
    "tim-2": (REQUEST, {"occurrenceTiming.repeat.periodUnit": GONE}, "invariant",
              "ServiceRequest.occurrence.ofType(Timing).repeat"),
    "tim-5": (REQUEST, {"occurrenceTiming.repeat.period": -1}, "invariant",
              "ServiceRequest.occurrence.ofType(Timing).repeat"),
    "tim-9": (REQUEST, {"occurrenceTiming.repeat.offset": 5}, "invariant",
              "ServiceRequest.occurrence.ofType(Timing).repeat"),
    "tim-10": (REQUEST, {"occurrenceTiming.repeat.when": ["MORN"]}, "invariant",
               "ServiceRequest.occurrence.ofType(Timing).repeat"),
    "txt-1, a script": (PATIENT, {"text.div": '<div xmlns="http://www.w3.org/1999/xhtml"><script>x</script></div>'},
                        "invariant", "Patient.text.div"),
    "txt-1, not well-formed": (PATIENT, {"text.div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>x</div>'},
                               "invariant", "Patient.text.div"),
    "txt-2": (PATIENT, {"text.div": '<div xmlns="http://www.w3.org/1999/xhtml"> </div>'}, "invariant",
              "Patient.text.div"),
    "SimpleQuantity with a comparator": (ADMINISTRATION, {"dosage.dose.comparator": "<"}, "value",
                                         "MedicationAdministration.dosage.dose.comparator"),
    # bundles
    "bdl-1": (BUNDLE, {"total": 3}, "invariant", "Bundle"),
    "bdl-2": (BUNDLE, {"entry[0].search": {"mode": "match"}}, "invariant", "Bundle"),
    "bdl-3": (TRANSACTION, {"entry[0].request": GONE}, "invariant", "Bundle"),
    "bdl-4": (TRANSACTION, {"entry[0].response": {"status": "200"}}, "invariant", "Bundle"),
    "bdl-5": (BUNDLE, {"entry[0]": {"fullUrl": "https://council.example/fhir/Patient/p1"}}, "invariant",
              "Bundle.entry[0]"),
    "bdl-7": (BUNDLE, {"entry[1].fullUrl": "urn:uuid:1d4fd1a6-4a4e-4c3c-9f43-1c2c0a5e8a10"}, "invariant", "Bundle"),
    "bdl-8": (BUNDLE, {"entry[0].fullUrl": "https://council.example/fhir/Patient/p1/_history/1"}, "invariant",
              "Bundle.entry[0]"),
    "bdl-9 to 11": (BUNDLE, {"type": "document"}, "invariant", "Bundle"),
    "entry at odds with its fullUrl": (BUNDLE, {"entry[0].resource.id": "p2"}, "value", "Bundle.entry[0].fullUrl"),
    "entry that is wrong": (BUNDLE, {"entry[0].resource.gender": "woman"}, "code-invalid",
                            "Bundle.entry[0].resource.gender"),
    "reference to no entry": (
        BUNDLE, {"entry[1].resource.author.reference": "urn:uuid:2d4fd1a6-4a4e-4c3c-9f43-1c2c0a5e8a10"},
        "not-found", "Bundle.entry[1].resource.author.reference",
    ),
    "reference to the wrong entry": (
        BUNDLE, {"entry[1].resource.subject.reference": "urn:uuid:0d4fd1a6-4a4e-4c3c-9f43-1c2c0a5e8a10"},
        "value", "Bundle.entry[1].resource.subject",
    ),
    # other types
    "no type in a place": (PLACE, {"position.latitude": GONE}, "required", "Location.position.latitude"),
    "encounter without class": (ENCOUNTER, {"class": GONE}, "required", "Encounter.class"),
    "related to nobody": (RELATED, {"patient": GONE}, "required", "RelatedPerson.patient"),
}  # fmt: skip


def errors(resource: Any) -> list[tuple[str, str | None]]:
    return [(issue.code, issue.expression) for issue in validate(resource) if issue.severity == "error"]


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_passes(name: str) -> None:
    assert validate(RIGHT[name]) == []


def test_the_corpus_is_as_large_as_it_says() -> None:
    assert len(DEFECTS) >= 130


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS)
def test_each_defect_is_found_at_its_place(defect: Defect) -> None:
    resource, changes, code, expression = defect
    assert errors(resource) == []
    issues = validate(spoilt(resource, changes))
    assert (code, expression) in [(each.code, each.expression) for each in issues if each.severity == "error"]
    assert not any("Canary" in each.diagnostics or "Smi" in each.diagnostics for each in issues)
    assert all(each.diagnostics.partition(":")[2] for each in issues)  # a rule and what to do


TWO_FAULTS = (
    *("bdl-9 to 11", "bdl-5", "reference to the wrong entry", "dom-2", "extension without url", "bdl-7", "bdl-8"),
    *("uuid cut short", "app-2", "nothing contained", "code with a blank before", "required concept outside"),
    *("required concept of another system", "language that is none", "extension code outside"),
)
ALONE = [name for name in DEFECTS if name not in TWO_FAULTS]
"""Defects that are one fault, and not two by another look at them."""


@pytest.mark.parametrize("name", ALONE)
def test_nothing_else_is_said_of_it(name: str) -> None:
    resource, changes, code, expression = DEFECTS[name]
    assert errors(spoilt(resource, changes)) == [(code, expression)]


@pytest.mark.parametrize(
    ("display", "told"),
    [
        ("Married", []),
        ("married ", []),
        ("Divorced", ["Patient.maritalStatus.coding[0].display"]),
        ("Widow", ["Patient.maritalStatus.coding[0].display"]),
    ],
)
def test_a_display_that_is_another_code_s_is_a_warning(display: str, told: list[str]) -> None:
    issues = validate(spoilt(PATIENT, {"maritalStatus.coding[0].display": display}))
    assert [(each.severity, each.expression) for each in issues] == [("warning", place) for place in told]
    assert not any(display in each.diagnostics for each in issues)


def test_a_display_of_what_is_not_carried_is_anybodys() -> None:
    assert validate(spoilt(TASK, {"code.coding[0].display": "Whatever it is called"})) == []


@pytest.mark.parametrize("language", ["en-GB", "cy", "en"])
def test_a_language_that_is_one(language: str) -> None:
    assert validate(spoilt(PATIENT, {"language": language})) == []
