"""Purposes of use: what a record is asked for, and what each purpose must name.

https://terminology.hl7.org/ValueSet-v3-PurposeOfUse.html
"""

from __future__ import annotations

from enum import StrEnum


class Purpose(StrEnum):
    """Why somebody asks. Each has its own legal basis; what each sees is fhirgw.store.visibility's business."""

    DIRECT_CARE = "direct-care"
    PLANNING = "planning"
    RESEARCH = "research"
    PERSON = "person"
    EMERGENCY = "emergency"
    SAFEGUARDING = "safeguarding"
    OPERATIONS = "operations"
    """The controller's own copy of its own records, by whoever runs its gateway: the command line alone has it."""


GRANTED = tuple(each for each in Purpose if each is not Purpose.OPERATIONS)
"""Those a token may have."""

CODES = {
    Purpose.DIRECT_CARE: "TREAT",
    Purpose.PLANNING: "HSYSADMIN",
    Purpose.RESEARCH: "HRESCH",
    Purpose.PERSON: "PATRQT",
    Purpose.EMERGENCY: "BTG",
    Purpose.SAFEGUARDING: "PUBHLTH",
    Purpose.OPERATIONS: "HOPERAT",
}
"""HL7's word for each, as Consent.provision.purpose and AuditEvent.purposeOfEvent spell it (v3-ActReason). There is
none for safeguarding: the nearest is a threat to the public's health or safety."""

ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"

BOUND: dict[Purpose, tuple[str, ...]] = {
    Purpose.DIRECT_CARE: (),
    Purpose.PLANNING: ("agreement",),
    Purpose.RESEARCH: ("agreement",),
    Purpose.PERSON: ("patient",),
    Purpose.EMERGENCY: ("patient", "practitioner", "grant"),
    Purpose.SAFEGUARDING: ("practitioner", "case"),
    Purpose.OPERATIONS: (),
}
"""What a Permit must name for its purpose: without it there is no such permit."""
