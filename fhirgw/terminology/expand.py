"""ValueSet/$expand: the codes of a value set, filtered and in pages.

https://hl7.org/fhir/R4/valueset-operation-expand.html
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.terminology.code_system import code_system
from fhirgw.terminology.coded import asked_set, part
from fhirgw.terminology.definitions import REMEDY, NotHeld
from fhirgw.terminology.inputs import Inputs
from fhirgw.terminology.value_set import ValueSet

EXPAND = {
    "url": "uri",
    "valueSet": "ValueSet",
    "valueSetVersion": "string",
    "filter": "string",
    "date": "dateTime",
    "offset": "integer",
    "count": "integer",
    "includeDesignations": "boolean",
    "includeDefinition": "boolean",
    "activeOnly": "boolean",
    "excludeNested": "boolean",
    "excludeNotForUI": "boolean",
    "excludePostCoordinated": "boolean",
    "displayLanguage": "code",
}
MOST = 5000
"""Codes in one answer."""
LEFT_OUT = ("compose", "expansion", "text")


def expand(inputs: Inputs, moment: str, value_set: str | None = None) -> Resource:
    """The value set of `url`, of the instance, or sent along, with its expansion as of `moment`, a dateTime.

    The list is flat. What was honoured is told in expansion.parameter. Raises NotHeld, as too-costly for a set whose
    codes nobody here could list.
    """
    definition, found = asked_set(inputs, value_set)
    if found.extent.undecided or found.extent.elsewhere is not False:
        told = f"The value set draws on codes that are not carried here and cannot be listed; {REMEDY}"
        raise NotHeld(told, "too-costly")
    contains = [each for each in _contains(found) if _passes(each, inputs)]
    offset = inputs.number("offset") or 0
    count = inputs.number("count")
    if count is None and len(contains) - offset > MOST:
        raise FhirError(Issue("too-costly", f"There are more than {MOST} codes: ask in pages, with count and offset"))
    page = contains[offset : offset + min(MOST if count is None else count, MOST)]
    expansion = {
        "identifier": f"urn:uuid:{uuid.uuid4()}",
        "timestamp": moment,
        "total": len(contains),
        "offset": offset,
        "parameter": [*_honoured(inputs), *_versions(found)],
        "contains": page,
    }
    known = {key: value for key, value in definition.items() if key not in LEFT_OUT}
    return known | {"expansion": {key: value for key, value in expansion.items() if value != []}}


def _contains(value_set: ValueSet) -> Iterator[Resource]:
    for system, part_of in value_set.extent.parts.items():
        held = code_system(system)
        for code, display in part_of.codes.items():
            concept = held.find(code) if held else None
            entry: Resource = {"system": system}
            if concept is not None and concept.abstract:
                entry["abstract"] = True
            if concept is not None and concept.inactive:
                entry["inactive"] = True
            entry["code"] = code
            if shown := display or (concept.display if concept else None):
                entry["display"] = shown
            yield entry


def _passes(entry: Resource, inputs: Inputs) -> bool:
    """By `filter`, each word of which is in the display or the code; and by what is to be left out."""
    if (inputs.flag("activeOnly") and "inactive" in entry) or (inputs.flag("excludeNotForUI") and "abstract" in entry):
        return False
    words = (inputs.text("filter") or "").casefold().split()
    shown = f" {entry.get('display', '')} {entry['code']}".casefold()
    return all(word in shown for word in words)


def _honoured(inputs: Inputs) -> list[Resource]:
    kinds = {"filter": "String", "activeOnly": "Boolean", "excludeNotForUI": "Boolean", "excludeNested": "Boolean"}
    told = [part(name, kind, inputs.value(name)) for name, kind in kinds.items() if name in inputs]
    return [*told, *(part(name, "Integer", inputs.number(name)) for name in ("offset", "count") if name in inputs)]


def _versions(value_set: ValueSet) -> list[Resource]:
    """Which version of each code system it was made of. https://hl7.org/fhir/R4/valueset.html#expansion"""
    held = [code_system(system) for system, of in value_set.extent.parts.items() if of.codes]
    return [part("version", "Uri", f"{each.url}|{each.version}") for each in held if each and each.version]
