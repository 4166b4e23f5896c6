"""A person's summary as a document: what an International Patient Summary has, and what social care knows besides.

It has the shape of an IPS (a document Bundle, its Composition first, the sections that are required, each saying why
where it is empty) and claims none of its profiles: what is held here is care and support, not the GP's record.
Problems, allergies and medicines that are not held are said to be unavailable, never to be none.
https://hl7.org/fhir/uv/ips/STU1.1/structure.html, https://hl7.org/fhir/R4/documents.html
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from fhirgw.fhir.issue import Resource

LOINC = "http://loinc.org"
OURS = "https://fhirgw.uk/fhir/CodeSystem/summary-section"
EMPTY = "http://terminology.hl7.org/CodeSystem/list-empty-reason"
CONTENTS = "urn:fhirgw:patient-summary"
MOST = 100
"""Entries of a section, those that changed last: a summary is to be read."""

REFERENCE = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+/[A-Za-z0-9\-.]{1,64})(?:/_history/.*)?", re.ASCII)
OVER = frozenset(("entered-in-error", "cancelled", "revoked", "rejected", "inactive", "stopped"))
"""Statuses of what is not, or was never, so."""

DONE = frozenset(("completed", "finished", "ended", "resolved"))
"""Statuses of what is over: a plan that has ended is no plan."""

Read = tuple[str, Resource]
"""`Type/id` and the resource."""


@dataclass(frozen=True, slots=True)
class Section:
    """One section: `types` are what is listed in it, `past` whether what has ended is too.

    `code` is LOINC's, or ours (without a hyphen and check digit); `required` by the IPS whatever is held.
    """

    code: str
    title: str
    types: tuple[str, ...] = ()
    past: bool = False
    required: bool = False
    category: str | None = None


SECTIONS = (
    Section("11450-4", "Problems and reasons for support", ("Condition",), required=True),
    Section("48765-2", "Allergies and intolerances", ("AllergyIntolerance",), required=True),
    Section("10160-0", "Medicines", required=True),
    Section("18776-5", "Care and support plan", ("CarePlan", "Goal")),
    Section("packages", "Packages of care", ("EpisodeOfCare",)),
    Section("requests", "Referrals and services asked for", ("ServiceRequest",)),
    Section("46264-8", "Care technology and equipment", ("DeviceUseStatement", "Device", "DeviceRequest")),
    Section("104605-1", "Alerts", ("Flag",)),
    Section("85847-2", "Care team", ("CareTeam",)),
    Section("contacts", "Contacts and carers", ("RelatedPerson",)),
    Section("assessments", "Assessments and reviews", ("Task",), past=True),
    Section("29762-2", "Circumstances and outcomes", ("Observation",), past=True),
)
"""In the order of a reader's questions: what is wrong, what is done about it, whom to ask."""

TYPES = ("Patient", *(each for section in SECTIONS for each in section.types))
NOTHING = "Nothing of this kind is held here: it may be known elsewhere, as in the GP record."
TEXTS = ("code", "type", "category", "description", "deviceName", "intent")
DATES = ("period", "effectivePeriod", "executionPeriod", "effectiveDateTime", "authoredOn", "recordedDate", "startDate")


def document(patient: Read, held: Sequence[Read], base: str, moment: str) -> tuple[Resource, list[str]]:
    """The document Bundle, but for the bodies of stored resources; and which of those (`Type/id`) follow, in order.

    `held` is what the caller may see of the record, the person themselves left out; `base` the FHIR address with a
    slash at its end, `moment` a FHIR instant.
    """
    known = dict([patient, *held])
    listed = {section.code: list(_listed(section, held)) for section in SECTIONS}
    shown = [each for each in SECTIONS if listed[each.code] or each.required]
    sections = [_section(each, listed[each.code], known, base) for each in shown]
    author, composition = _author(patient[0]), _composition(patient, sections, base, moment)
    first = [(f"urn:uuid:{each['id']}", each) for each in (composition, author)]
    bundle: Resource = {
        "resourceType": "Bundle",
        "type": "document",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{_named(patient[0], moment)}"},
        "timestamp": moment,
        "entry": [{"fullUrl": url, "resource": each} for url, each in first],
    }
    wanted = [patient[0], *(each for section in SECTIONS for each in listed[section.code])]
    return bundle, _closed(list(dict.fromkeys(wanted)), known, base)


def _composition(patient: Read, sections: list[Resource], base: str, moment: str) -> Resource:
    """Its references are whole addresses: from an entry that is at none, no relative one leads anywhere."""
    name = _name(patient[1])
    return {
        "resourceType": "Composition",
        "id": str(_named(patient[0], "composition")),
        "language": "en-GB",
        "status": "final",
        "type": {"coding": [{"system": LOINC, "code": "60591-5", "display": "Patient summary Document"}]},
        "subject": {"reference": base + patient[0]},
        "date": moment,
        "author": [{"reference": f"urn:uuid:{_named(patient[0], 'author')}", "display": "fhirgw"}],
        "title": f"Care and support summary: {name}" if name else "Care and support summary",
        "section": sections,
    }


def _author(patient: str) -> Resource:
    """The gateway, which put it together: a device, as no person has read it."""
    return {
        "resourceType": "Device",
        "id": str(_named(patient, "author")),
        "deviceName": [{"name": "fhirgw", "type": "user-friendly-name"}],
        "type": {"text": "Gateway between adult social care and the NHS"},
    }


def _listed(section: Section, held: Sequence[Read]) -> Iterator[str]:
    """What belongs in a section: by type, then the newest change first, ids last."""
    for kind in section.types:
        found = [each for each in held if each[1]["resourceType"] == kind and _current(each[1], section.past)]
        found.sort(key=lambda each: each[0])
        found.sort(key=lambda each: str(each[1].get("meta", {}).get("lastUpdated", "")), reverse=True)
        yield from (name for name, _ in found[:MOST])


def _current(resource: Resource, past: bool) -> bool:
    statuses = {str(resource.get(name)) for name in ("status", "lifecycleStatus") if name in resource}
    coding = resource.get("clinicalStatus", {}).get("coding", ())
    statuses |= {str(each.get("code")) for each in coding}
    return not statuses & OVER and (past or not statuses & DONE) and resource.get("active") is not False


def _section(section: Section, listed: Sequence[str], known: Mapping[str, Resource], base: str) -> Resource:
    system = LOINC if "-" in section.code else OURS
    made: Resource = {
        "title": section.title,
        "code": {"coding": [{"system": system, "code": section.code}], "text": section.title},
        "text": _narrative([_line(known[each]) for each in listed] or [NOTHING]),
    }
    if listed:
        return made | {"entry": [{"reference": base + each} for each in listed]}
    return made | {"emptyReason": {"coding": [{"system": EMPTY, "code": "unavailable", "display": "Unavailable"}]}}


def _narrative(lines: Iterable[str]) -> Resource:
    items = "".join(f"<li>{escape(each)}</li>" for each in lines)
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><ul>{items}</ul></div>'}


def _line(resource: Resource) -> str:
    """What it is, whose or by whom, and when, as far as the resource says so itself."""
    words = [_name(resource), *(_text(resource.get(name)) for name in TEXTS), _text(resource.get("relationship"))]
    words += [_text(resource.get(name)) for name in resource if name.startswith("value")]
    said = [each for each in dict.fromkeys(words) if each]
    when = next((_when(resource[name]) for name in DATES if name in resource), "")
    state = str(resource.get("status") or resource.get("lifecycleStatus") or "")
    return "; ".join(each for each in (", ".join(said) or resource["resourceType"], when, state) if each)


def _text(value: Any) -> str:
    """A concept, a list of them or a text, in words."""
    if isinstance(value, list):
        return ", ".join(each for each in map(_text, value) if each)
    if isinstance(value, dict):
        coding = next((each.get("display") for each in value.get("coding", ()) if each.get("display")), "")
        return str(value.get("text") or coding or value.get("display") or value.get("name") or value.get("value") or "")
    return str(value) if isinstance(value, str) else ""


def _name(resource: Resource) -> str:
    """A person's name as it is used, or a title."""
    names = resource.get("name")
    if not isinstance(names, list):
        return str(resource.get("title") or (names if isinstance(names, str) else ""))
    used = sorted(
        names,
        key=lambda each: ("official", "usual").index(each["use"]) if each.get("use") in ("official", "usual") else 2,
    )
    first = used[0] if used else {}
    return str(first.get("text") or " ".join([*first.get("given", ()), first.get("family", "")]).strip())


def _when(value: Any) -> str:
    if isinstance(value, dict):
        start, end = str(value.get("start", ""))[:10], str(value.get("end", ""))[:10]
        return f"{start} to {end}" if end else f"since {start}" if start else ""
    return str(value)[:10]


def _closed(wanted: list[str], known: Mapping[str, Resource], base: str) -> list[str]:
    """All that is wanted and all that it refers to, as far as it is known, each once, what is wanted first."""
    found = dict.fromkeys(wanted)
    waiting = list(found)
    while waiting:
        more = [each for name in waiting for each in sorted(set(_references(known[name], base))) if each in known]
        waiting = [each for each in dict.fromkeys(more) if each not in found]
        found |= dict.fromkeys(waiting)
    return list(found)


def _references(value: Any, base: str) -> Iterator[str]:
    if isinstance(value, list):
        for each in value:
            yield from _references(each, base)
    elif isinstance(value, dict):
        for name, each in value.items():
            if (
                name == "reference"
                and isinstance(each, str)
                and (match := REFERENCE.fullmatch(each.removeprefix(base)))
            ):
                yield match[1]
            elif isinstance(each, dict | list):
                yield from _references(each, base)


def _named(patient: str, part: str) -> uuid.UUID:
    return uuid.uuid5(uuid.NAMESPACE_URL, f"{CONTENTS}:{patient}:{part}")
