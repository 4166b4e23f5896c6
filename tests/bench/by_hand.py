"""meadow's person row as a Patient, as a good programmer would write it by hand: the floor for the mapping engine.

It checks what the mapping checks (codes, NHS number, dates, telephone numbers), and no more; `make bench` asserts that
both give the same resource before it times either.
"""

from __future__ import annotations

import re
from datetime import date
from hashlib import sha1
from typing import Any

UKCORE = "https://fhir.hl7.org.uk/StructureDefinition"
PHONE = re.compile(r"\+?[0-9][0-9 ()\-]{4,22}[0-9]( ?(x|ext) ?\d{1,6})?")
UPRN = re.compile(r"\d{1,12}")
UPRN_TYPE = {
    "coding": [
        {
            "system": "https://fhir.hl7.org.uk/CodeSystem/UKCore-AddressKeyType",
            "code": "UPRN",
            "display": "Unique Property Reference Number",
        }
    ]
}
EXTENSIONS = [
    ("birth_sex", f"{UKCORE}/Extension-UKCore-BirthSex"),
    ("ethnicity", f"{UKCORE}/Extension-UKCore-EthnicCategory"),
]


def uuid_of(mapping: str, key: str) -> str:
    """The id a row's key leads to."""
    digest = sha1(f"fhirgw\x1fmeadow\x1f{mapping}\x1f{key}".encode(), usedforsecurity=False).hexdigest()
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


def nhs_number(value: str) -> str:
    """The number, if its check holds."""
    if len(value) != 10 or not value.isdigit():
        raise ValueError("an NHS number has ten digits")
    total = sum(int(digit) * weight for digit, weight in zip(value, range(10, 1, -1), strict=False))
    if (11 - total % 11) % 11 != int(value[9]):
        raise ValueError("the check digit of an NHS number is wrong")
    return value


def matched(pattern: re.Pattern[str], value: str) -> str:
    """The value, if it has the shape."""
    if not pattern.fullmatch(value):
        raise ValueError("the shape is wrong")
    return value


def iso(value: str) -> str:
    """The date, if there is one."""
    date.fromisoformat(value)
    return value


def patient(row: dict[str, Any], codes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The row as a Patient; `codes`: by column, the FHIR value of each code."""
    if row["family_name"] is None or row["gender"] is None:
        raise ValueError("a name and a gender are needed")
    resource: dict[str, Any] = {
        "resourceType": "Patient",
        "id": uuid_of("person", row["person_id"]),
        "meta": {"profile": [f"{UKCORE}/UKCore-Patient"]},
    }
    if row["restricted"] is not None:
        resource["meta"]["security"] = [codes["restricted"][row["restricted"]]]
    extensions = [
        {"url": url, "valueCodeableConcept": codes[column][row[column]]}
        for column, url in EXTENSIONS
        if row[column] is not None
    ]
    if row["contact_preference"] is not None:
        preferred = codes["contact_preference"][row["contact_preference"]]
        inner = {"url": "PreferredContactMethod", "valueCodeableConcept": preferred}
        extensions.append({"url": f"{UKCORE}/Extension-UKCore-ContactPreference", "extension": [inner]})
    if row["interpreter"] is not None:
        url = "http://hl7.org/fhir/StructureDefinition/patient-interpreterRequired"
        extensions.append({"url": url, "valueBoolean": {"Y": True, "N": False}[row["interpreter"]]})
    if row["religion"] is not None:
        url = "http://hl7.org/fhir/StructureDefinition/patient-religion"
        extensions.append({"url": url, "valueCodeableConcept": codes["religion"][row["religion"]]})
    if row["client_type"] is not None:
        url = "https://fhirgw.uk/fhir/StructureDefinition/ext-client-type"
        extensions.append({"url": url, "valueCodeableConcept": codes["client_type"][row["client_type"]]})
    if extensions:
        resource["extension"] = extensions
    identifiers = []
    if row["nhs_number"] is not None or row["nhs_number_status"] is not None:
        number: dict[str, Any] = {"system": "https://fhir.nhs.uk/Id/nhs-number"}
        if row["nhs_number_status"] is not None:
            status = codes["nhs_number_status"][row["nhs_number_status"]]
            url = f"{UKCORE}/Extension-UKCore-NHSNumberVerificationStatus"
            number["extension"] = [{"url": url, "valueCodeableConcept": status}]
        if row["nhs_number"] is not None:
            number["value"] = nhs_number(row["nhs_number"])
        identifiers.append(number)
    identifiers.append({"system": "https://fhirgw.uk/Id/meadow/person", "value": row["person_id"]})
    resource["identifier"] = identifiers
    name: dict[str, Any] = {"use": "official", "family": row["family_name"]}
    if row["given_name"] is not None:
        name["given"] = row["given_name"].split(" ")
    if row["title"] is not None:
        name["prefix"] = row["title"].split(" ")
    resource["name"] = [name]
    if row["preferred_name"] is not None:
        resource["name"].append({"use": "nickname", "given": row["preferred_name"].split(" ")})
    telecom = []
    if row["email"] is not None:
        telecom.append({"system": "email", "value": row["email"]})
    for phone in sorted(row["person_phone"], key=lambda phone: int(phone["phone_id"])):
        use = codes["phone_kind"][phone["kind"]]
        telecom.append({"system": "phone", "value": matched(PHONE, phone["number"]), "use": use})
    if telecom:
        resource["telecom"] = telecom
    resource["gender"] = codes["gender"][row["gender"]]
    if row["birth_date"] is not None:
        resource["birthDate"] = iso(row["birth_date"])
    if row["death_date"] is not None:
        resource["deceasedDateTime"] = iso(row["death_date"])
    if row["marital_status"] is not None:
        resource["maritalStatus"] = codes["marital_status"][row["marital_status"]]
    if row["language"] is not None:
        resource["communication"] = [{"language": codes["language"][row["language"]]}]
    if row["gp_organisation_id"] is not None:
        key = row["gp_organisation_id"]
        identifier = {"system": "https://fhirgw.uk/Id/meadow/organisation", "value": key}
        reference = f"Organization/{uuid_of('organisation', key)}"
        resource["generalPractitioner"] = [{"reference": reference, "identifier": identifier}]
    addresses = [
        address(each, codes) for each in sorted(row["person_address"], key=lambda each: int(each["address_id"]))
    ]
    if addresses:
        resource["address"] = addresses
    resource["active"] = True
    council = {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "Z9C01"}
    resource["managingOrganization"] = {"identifier": council}
    return resource


def address(row: dict[str, Any], codes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A row of person_address."""
    made: dict[str, Any] = {}
    if row["uprn"] is not None:
        parts = [
            {"url": "type", "valueCodeableConcept": UPRN_TYPE},
            {"url": "value", "valueString": matched(UPRN, row["uprn"])},
        ]
        made["extension"] = [{"url": f"{UKCORE}/Extension-UKCore-AddressKey", "extension": parts}]
    made["use"] = codes["address_kind"][row["kind"]]
    lines = [row[name] for name in ("line_1", "line_2") if row[name] is not None]
    if lines:
        made["line"] = lines
    for column, name in (("town", "city"), ("county", "district"), ("postcode", "postalCode")):
        if row[column] is not None:
            made[name] = row[column]
    period = {end: iso(row[column]) for column, end in (("start_date", "start"), ("end_date", "end")) if row[column]}
    if period:
        made["period"] = period
    return made
