"""R4's invariants of what is often seen, as plain Python: what the FHIRPath says, a thousand times as fast.

`RULES[key]` has the rule and what to do. A rule sees the object it stands on and its scope; it may stumble over a value
of the wrong kind, which is an issue of its own. A test holds each against the FHIRPath.
Longer than a module is: a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Any

from fhirgw.fhir.dates import span
from fhirgw.validation.narrative import is_narrative
from fhirgw.validation.scope import Scope

Rule = Callable[[Any, Scope], bool]
UCUM = "http://unitsofmeasure.org"
ALLERGY = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
VERIFIED = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
ENDED = ("resolved", "remission", "inactive")
LISTED = ("choice", "open-choice", "decimal", "integer", "date", "dateTime", "time", "string", "quantity")
MEASURED = ("boolean", "decimal", "integer", "string", "text", "url", "open-choice")
WITH_REQUEST = ("batch", "transaction", "history")
WITH_RESPONSE = ("batch-response", "transaction-response", "history")


def has(value: dict[str, Any], *names: str) -> bool:
    """Whether any of the elements is there; a primitive without a value but with extensions is."""
    return any(name in value or f"_{name}" in value for name in names)


def chosen(value: dict[str, Any], stem: str) -> bool:
    """Whether a choice of types (`value[x]`) is there."""
    return any(name.startswith((stem, f"_{stem}")) for name in value)


def listed(value: dict[str, Any], name: str) -> list[Any]:
    """The values of an element that repeats."""
    found = value.get(name)
    return [each for each in found if each is not None] if isinstance(found, list) else []


def coded(value: Any, system: str, *codes: str) -> bool:
    """Whether a CodeableConcept has one of the codes of the system."""
    return isinstance(value, dict) and any(
        each.get("system") == system and each.get("code") in codes for each in listed(value, "coding")
    )


def in_order(first: Any, second: Any) -> bool:
    """Whether the first time is not after the second; also where their precision does not tell."""
    if first is None or second is None:
        return True
    if len(first) == len(second) and (len(first) <= 10 or first[19:] == second[19:]):
        return bool(first <= second)
    return span(first)[0] < span(second)[1]


def strings(value: Any) -> Iterator[str]:
    """Every text below a value, extensions and all."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, str):
            yield each


def contained_used(value: dict[str, Any], scope: Scope) -> bool:
    """dom-3: each contained resource is referred to from the one that contains it, or refers to that. What has no id is
    not: R4's expression forgets it, and the reference validator does not.
    """
    if not all(isinstance(each, dict) and "id" in each for each in listed(value, "contained")):
        return False
    named = {text for text in strings(value) if text.startswith("#")}
    return all(f"#{id}" in named or "#" in strings(each) for id, each in scope.contained.items())


def low_and_high(value: dict[str, Any], scope: Scope) -> bool:
    low, high = value["low"], value["high"]
    alike = all(low.get(name) == high.get(name) for name in ("system", "code", "unit"))
    return not alike or Decimal(str(low["value"])) <= Decimal(str(high["value"]))


def distinct(values: Iterable[Any]) -> bool:
    found = list(values)
    return len(found) == len(set(found))


def entries(value: dict[str, Any], name: str, types: tuple[str, ...]) -> bool:
    wanted = value.get("type") in types
    return all((name in entry) is wanted for entry in listed(value, "entry"))


def versions(value: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for entry in listed(value, "entry"):
        if "fullUrl" in entry:
            yield entry["fullUrl"], entry.get("resource", {}).get("meta", {}).get("versionId", "")


def first_is(value: dict[str, Any], type_code: str) -> bool:
    held = listed(value, "entry")
    return bool(held) and held[0].get("resource", {}).get("resourceType") == type_code


def link_ids(value: dict[str, Any]) -> Iterator[str]:
    waiting = listed(value, "item")
    while waiting:
        item = waiting.pop()
        yield item.get("linkId")
        waiting += listed(item, "item")


def quantity(value: dict[str, Any]) -> bool:
    """What Age, Count and Distance say alike."""
    return (has(value, "code") or not has(value, "value")) and value.get("system", UCUM) == UCUM


def unused(value: dict[str, Any], scope: Scope, code: str) -> bool:
    """ppc-2 to ppc-5 ask for a system that nobody has: as R4 wrote them."""
    return has(value, "patient") or not coded(value.get("scope"), "something", code)


def performed(value: dict[str, Any], scope: Scope) -> bool:
    """ctm-1: on whose behalf only for a practitioner, where the reference says what it names."""
    member = value.get("member", {})
    target = member.get("reference", "")
    found = scope.resolved(target) or {}
    kind = found.get("resourceType") or member.get("type") or target.rpartition("/")[0].rpartition("/")[2]
    return not has(value, "onBehalfOf") or kind in ("", "Practitioner") or target.startswith("urn:")


RULES: dict[str, tuple[Rule, str]] = {
    "age-1": (
        lambda v, s: quantity(v) and v.get("value", 1) > 0,
        "an age is above nought, with a UCUM code and system",
    ),
    "ait-1": (
        lambda v, s: has(v, "clinicalStatus") or coded(v.get("verificationStatus"), ALLERGY, "entered-in-error"),
        "say the clinicalStatus",
    ),
    "ait-2": (
        lambda v, s: (
            not coded(v.get("verificationStatus"), ALLERGY, "entered-in-error") or not has(v, "clinicalStatus")
        ),
        "what was entered in error has no clinicalStatus",
    ),
    "app-1": (lambda v, s: has(v, "type", "actor"), "say who takes part (actor) or in what part (type)"),
    "app-2": (lambda v, s: has(v, "start") == has(v, "end"), "give start and end, or neither"),
    "app-3": (
        lambda v, s: (has(v, "start") and has(v, "end")) or v.get("status") in ("proposed", "cancelled", "waitlist"),
        "only what is proposed, cancelled or on the waiting list has no start and end",
    ),
    "app-4": (
        lambda v, s: not has(v, "cancelationReason") or v.get("status") in ("no-show", "cancelled"),
        "cancelationReason goes with the status cancelled only (not with noshow: R4 misspells it in the rule)",
    ),
    "apr-1": (lambda v, s: has(v, "participantType", "actor"), "say who answers: participantType or actor"),
    "att-1": (lambda v, s: not has(v, "data") or has(v, "contentType"), "say the contentType of data"),
    "bdl-1": (
        lambda v, s: not has(v, "total") or v.get("type") in ("searchset", "history"),
        "only a searchset or a history has a total",
    ),
    "bdl-2": (
        lambda v, s: v.get("type") == "searchset" or not any("search" in each for each in listed(v, "entry")),
        "only entries of a searchset have search",
    ),
    "bdl-3": (
        lambda v, s: entries(v, "request", WITH_REQUEST),
        "every entry of a batch, transaction or history has a request, and none elsewhere",
    ),
    "bdl-4": (
        lambda v, s: entries(v, "response", WITH_RESPONSE),
        "every entry of a batch-response, transaction-response or history has a response, and none elsewhere",
    ),
    "bdl-5": (lambda v, s: has(v, "resource", "request", "response"), "an entry has a resource, request or response"),
    "bdl-7": (
        lambda v, s: v.get("type") == "history" or distinct(versions(v)),
        "each fullUrl comes once, or with different versions (meta.versionId)",
    ),
    "bdl-8": (
        lambda v, s: "/_history/" not in v.get("fullUrl", ""),
        "a fullUrl names no version: leave out /_history/",
    ),
    "bdl-9": (
        lambda v, s: v.get("type") != "document" or {"system", "value"} <= v.get("identifier", {}).keys(),
        "a document has an identifier with system and value",
    ),
    "bdl-10": (lambda v, s: v.get("type") != "document" or "timestamp" in v, "a document has a timestamp"),
    "bdl-11": (
        lambda v, s: v.get("type") != "document" or first_is(v, "Composition"),
        "the first entry of a document is its Composition",
    ),
    "bdl-12": (
        lambda v, s: v.get("type") != "message" or first_is(v, "MessageHeader"),
        "the first entry of a message is its MessageHeader",
    ),
    "cmp-1": (lambda v, s: has(v, "text", "entry", "section"), "a section has text, entries or sections"),
    "cmp-2": (
        lambda v, s: not has(v, "emptyReason") or not has(v, "entry"),
        "only an empty section has an emptyReason",
    ),
    "cnt-3": (
        lambda v, s: quantity(v) and v.get("code", "1") == "1" and int(v.get("value", 1)) == v.get("value", 1),
        "a count is a whole number with the UCUM code 1",
    ),
    "con-1": (lambda v, s: has(v, "summary", "assessment"), "a stage has a summary or an assessment"),
    "con-2": (lambda v, s: has(v, "code", "detail"), "evidence has a code or a detail"),
    "con-3": (
        lambda v, s: (
            has(v, "clinicalStatus")
            or coded(v.get("verificationStatus"), VERIFIED, "entered-in-error")
            or not has(v, "category")
        ),
        "say the clinicalStatus",
    ),
    "con-4": (
        lambda v, s: not chosen(v, "abatement") or coded(v.get("clinicalStatus"), CLINICAL, *ENDED),
        "what has abated has the clinicalStatus inactive, remission or resolved",
    ),
    "con-5": (
        lambda v, s: (
            not coded(v.get("verificationStatus"), VERIFIED, "entered-in-error") or not has(v, "clinicalStatus")
        ),
        "what was entered in error has no clinicalStatus",
    ),
    "cpl-3": (
        lambda v, s: not has(v, "detail") or not has(v, "reference"),
        "an activity has detail or reference, not both",
    ),
    "cpt-2": (lambda v, s: not has(v, "value") or has(v, "system"), "say the system of a value: phone, email ..."),
    "ctm-1": (performed, "onBehalfOf is for a member that is a Practitioner"),
    "dis-1": (lambda v, s: quantity(v), "a distance has a UCUM code and system"),
    "dom-2": (
        lambda v, s: not any("contained" in each for each in listed(v, "contained")),
        "what is contained contains nothing: put it beside",
    ),
    "dom-3": (contained_used, "refer to each contained resource as # and its id, or leave it out"),
    "dom-4": (
        lambda v, s: not any(has(each.get("meta", {}), "versionId", "lastUpdated") for each in listed(v, "contained")),
        "what is contained has no version of its own: leave out meta.versionId and meta.lastUpdated",
    ),
    "dom-5": (
        lambda v, s: not any(has(each.get("meta", {}), "security") for each in listed(v, "contained")),
        "label the whole, not what is contained: leave out its meta.security",
    ),
    "dom-6": (
        lambda v, s: "div" in v.get("text", ()) or v is not s.resource,  # what is contained is told of by its container
        "give a narrative, for readers that know nothing else",
    ),
    "drq-1": (lambda v, s: has(v, "path") != has(v, "searchParam"), "give path or searchParam, one of them"),
    "drq-2": (lambda v, s: has(v, "path") != has(v, "searchParam"), "give path or searchParam, one of them"),
    "drt-1": (
        lambda v, s: not has(v, "code") or (v.get("system") == UCUM and has(v, "value")),
        "a duration's code is UCUM's, beside a value",
    ),
    "exp-1": (lambda v, s: has(v, "expression", "reference"), "give an expression or a reference"),
    "ext-1": (
        lambda v, s: (
            (len(v) == 2 and "url" in v and "id" not in v)
            or has(v, "extension") != any(name.startswith(("value", "_value")) for name in v)
        ),
        "an extension has a value or extensions, one of them",
    ),
    "gol-1": (lambda v, s: not chosen(v, "detail") or has(v, "measure"), "say what the detail measures (measure)"),
    "grp-1": (lambda v, s: not has(v, "member") or v.get("actual") is True, "only a group that is actual has members"),
    "lst-1": (lambda v, s: not has(v, "emptyReason") or not has(v, "entry"), "only an empty list has an emptyReason"),
    "lst-2": (
        lambda v, s: v.get("mode") == "changes" or not any(has(each, "deleted") for each in listed(v, "entry")),
        "only a list of changes says what was deleted",
    ),
    "lst-3": (
        lambda v, s: v.get("mode") == "working" or not any(has(each, "date") for each in listed(v, "entry")),
        "only a working list dates its entries",
    ),
    "mad-1": (lambda v, s: has(v, "dose") or chosen(v, "rate"), "a dosage has a dose or a rate"),
    "obs-3": (lambda v, s: has(v, "low", "high", "text"), "a reference range has low, high or text"),
    "obs-6": (
        lambda v, s: not has(v, "dataAbsentReason") or not chosen(v, "value"),
        "give a value or the reason it is absent, not both",
    ),
    "obs-7": (
        lambda v, s: (
            not chosen(v, "value")
            or not any(
                coding in listed(v.get("code", {}), "coding")
                for each in listed(v, "component")
                for coding in listed(each.get("code", {}), "coding")
            )
        ),
        "a component does not repeat the code whose value the observation has",
    ),
    "org-1": (lambda v, s: has(v, "identifier", "name"), "an organisation has a name or an identifier"),
    "org-2": (lambda v, s: v.get("use") != "home", "an organisation's address is nobody's home: another use"),
    "org-3": (lambda v, s: v.get("use") != "home", "an organisation is not reached at anybody's home: another use"),
    "pat-1": (
        lambda v, s: has(v, "name", "telecom", "address", "organization"),
        "a contact has a name, telecom, address or organisation",
    ),
    "per-1": (lambda v, s: in_order(v.get("start"), v.get("end")), "a period ends after it starts"),
    "ppc-1": (lambda v, s: has(v, "policy", "policyRule"), "say the policy or the policyRule"),
    "ppc-2": (lambda v, s: unused(v, s, "patient-privacy"), "say the patient"),
    "ppc-3": (lambda v, s: unused(v, s, "research"), "say the patient"),
    "ppc-4": (lambda v, s: unused(v, s, "adr"), "say the patient"),
    "ppc-5": (lambda v, s: unused(v, s, "treatment"), "say the patient"),
    "prr-1": (lambda v, s: not has(v, "orderDetail") or has(v, "code"), "orderDetail goes with a code"),
    "qrs-1": (
        lambda v, s: not has(v, "answer") or not has(v, "item"),
        "what is under an answered question goes in its answer",
    ),
    "qty-3": (lambda v, s: not has(v, "code") or has(v, "system"), "say whose code of the unit it is: system"),
    "que-1": (
        lambda v, s: (
            (v.get("type") != "group" or has(v, "item")) and (v.get("type") != "display" or not has(v, "item"))
        ),
        "a group has items, a display has none",
    ),
    "que-2": (lambda v, s: distinct(link_ids(v)), "each linkId comes once"),
    "que-3": (lambda v, s: v.get("type") != "display" or not has(v, "code"), "a display has no code"),
    "que-4": (
        lambda v, s: not has(v, "answerOption") or not has(v, "answerValueSet"),
        "answerOption or answerValueSet",
    ),
    "que-5": (
        lambda v, s: v.get("type") in LISTED or not has(v, "answerOption", "answerValueSet"),
        "only a question whose answers can be listed has options",
    ),
    "que-6": (
        lambda v, s: v.get("type") != "display" or not has(v, "required", "repeats"),
        "a display is not answered",
    ),
    "que-7": (lambda v, s: v.get("operator") != "exists" or "answerBoolean" in v, "exists is answered by a boolean"),
    "que-8": (
        lambda v, s: v.get("type") not in ("group", "display") or not has(v, "initial"),
        "only a question is initial",
    ),
    "que-9": (
        lambda v, s: v.get("type") != "display" or not has(v, "readOnly"),
        "a display is not answered: no readOnly",
    ),
    "que-10": (lambda v, s: v.get("type") in MEASURED or not has(v, "maxLength"), "maxLength is for simple answers"),
    "que-11": (lambda v, s: not has(v, "answerOption") or not has(v, "initial"), "mark the option as initialSelected"),
    "que-12": (
        lambda v, s: len(listed(v, "enableWhen")) <= 2 or has(v, "enableBehavior"),
        "say enableBehavior: all or any",
    ),
    "que-13": (
        lambda v, s: v.get("repeats") is True or len(listed(v, "initial")) <= 1,
        "one initial, unless it repeats",
    ),
    "rat-1": (
        lambda v, s: has(v, "numerator") == has(v, "denominator") and has(v, "numerator", "extension"),
        "give numerator and denominator",
    ),
    "rng-2": (lambda v, s: not ("low" in v and "high" in v) or low_and_high(v, s), "low is not above high"),
    "sev-1": (lambda v, s: not has(v, "name") or not has(v, "query"), "an entity has a name or a query, not both"),
    "tim-1": (lambda v, s: not has(v, "duration") or has(v, "durationUnit"), "say the durationUnit"),
    "tim-2": (lambda v, s: not has(v, "period") or has(v, "periodUnit"), "say the periodUnit"),
    "tim-4": (lambda v, s: v.get("duration", 0) >= 0, "a duration is not below nought"),
    "tim-5": (lambda v, s: v.get("period", 0) >= 0, "a period is not below nought"),
    "tim-6": (lambda v, s: not has(v, "periodMax") or has(v, "period"), "periodMax goes with period"),
    "tim-7": (lambda v, s: not has(v, "durationMax") or has(v, "duration"), "durationMax goes with duration"),
    "tim-8": (lambda v, s: not has(v, "countMax") or has(v, "count"), "countMax goes with count"),
    "tim-9": (
        lambda v, s: not has(v, "offset") or (has(v, "when") and not {"C", "CM", "CD", "CV"} & set(listed(v, "when"))),
        "an offset goes with when, and not with a meal itself",
    ),
    "tim-10": (lambda v, s: not has(v, "timeOfDay") or not has(v, "when"), "timeOfDay or when, not both"),
    "txt-1": (lambda v, s: is_narrative(v), "write one XHTML div (with its xmlns) of basic elements, without scripts"),
    "Parameters.parameter inv-1": (
        lambda v, s: chosen(v, "value") + has(v, "resource") + has(v, "part") == 1,
        "a parameter has a value, a resource or parts, one of them",
    ),
    "Task inv-1": (
        lambda v, s: in_order(v.get("authoredOn"), v.get("lastModified")),
        "lastModified is not before authoredOn",
    ),
}
"""By the rule's key; by its path and key where R4 has given one key twice."""

TOGETHER = frozenset({"ele-1", "ref-1", "txt-2"})
"""Judged with the structure, or by another rule: ref-1 where references are, txt-2 with txt-1."""

NEEDED = {
    "answer": ("qrs-1",),
    "answerOption": ("que-4", "que-11"),
    "cancelationReason": ("app-4",),
    "category": ("con-3",),
    "code": ("qty-3", "drt-1"),
    "component": ("obs-7",),
    "contained": ("dom-2", "dom-3", "dom-4", "dom-5"),
    "countMax": ("tim-8",),
    "data": ("att-1",),
    "dataAbsentReason": ("obs-6",),
    "detail": ("cpl-3",),
    "duration": ("tim-1", "tim-4"),
    "durationMax": ("tim-7",),
    "emptyReason": ("lst-1", "cmp-2"),
    "enableWhen": ("que-12",),
    "end": ("per-1",),
    "high": ("rng-2",),
    "initial": ("que-13",),
    "item": ("que-2",),
    "lastModified": ("Task inv-1",),
    "maxLength": ("que-10",),
    "member": ("grp-1",),
    "offset": ("tim-9",),
    "onBehalfOf": ("ctm-1",),
    "orderDetail": ("prr-1",),
    "period": ("tim-2", "tim-5"),
    "periodMax": ("tim-6",),
    "query": ("sev-1",),
    "scope": ("ppc-2", "ppc-3", "ppc-4", "ppc-5"),
    "timeOfDay": ("tim-10",),
    "total": ("bdl-1",),
    "value": ("cpt-2",),
    "verificationStatus": ("con-5", "ait-2"),
}
FREE = {key: name for name, keys in NEEDED.items() for key in keys}
"""The element without which a rule cannot be broken: looked for first."""
