"""CodeSystem/$lookup and CodeSystem/$subsumes: what a code means, and whether one is under another.

https://hl7.org/fhir/R4/codesystem-operation-lookup.html
https://hl7.org/fhir/R4/codesystem-operation-subsumes.html
"""

from __future__ import annotations

from collections.abc import Iterator

from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.terminology.code_system import CodeSystem, Concept, code_system
from fhirgw.terminology.coded import Coded, asked, parameters, part
from fhirgw.terminology.definitions import REMEDY, NotHeld, wanted
from fhirgw.terminology.inputs import Inputs
from fhirgw.terminology.shape import SHAPES, reason, shaped

LOOKUP = {
    "code": "code",
    "system": "uri",
    "version": "string",
    "coding": "Coding",
    "date": "dateTime",
    "displayLanguage": "code",
    "property": "code*",
}
SUBSUMES = {
    "codeA": "code",
    "codeB": "code",
    "system": "uri",
    "version": "string",
    "codingA": "Coding",
    "codingB": "Coding",
}


def system_of(coded: Coded) -> CodeSystem:
    """The code system, its codes carried. Raises NotHeld; FhirError(not-found) for a code that cannot be its."""
    if shaped(coded.system, coded.code) is False:
        raise FhirError(Issue("not-found", reason(coded.system, coded.code)))
    if coded.system in SHAPES:
        raise NotHeld(f"The codes of this system are not carried here; {REMEDY}")
    wanted("CodeSystem", coded.system, coded.version)
    found = code_system(coded.system)
    if found is None or not found.concepts:
        raise NotHeld(f"The codes of this system are not carried here; {REMEDY}")
    return found


def lookup(inputs: Inputs) -> Resource:
    """What is known of the code. Raises NotHeld, FhirError(not-found)."""
    coded = asked(inputs)[0]
    system = system_of(coded)
    concept = _concept(system, coded)
    only = set(inputs.texts("property"))
    known = [each for each in _properties(system, concept) if not only or each["part"][0]["valueCode"] in only]
    version = [part("version", "String", system.version)] if system.version else []
    shown = part("display", "String", concept.display or concept.code)
    return parameters([part("name", "String", system.name), *version, shown, *known])


def subsumes(inputs: Inputs, system: str | None = None) -> Resource:
    """How one code stands to another. Raises NotHeld, FhirError(not-found)."""
    a, b = (asked(inputs, system=system, suffix=suffix)[0] for suffix in "AB")
    if a.system != b.system:
        raise FhirError(Issue("invalid", "$subsumes compares codes of one system: codingA and codingB are of two"))
    found = system_of(a)
    codes = [_concept(found, each).code for each in (a, b)]
    return parameters([part("outcome", "Code", found.subsumes(*codes))])


def _concept(system: CodeSystem, coded: Coded) -> Concept:
    concept = system.find(coded.code)
    if concept is not None:
        return concept
    if not system.complete:
        raise NotHeld(f"This code is not among those of the system that are carried here; {REMEDY}")
    raise FhirError(Issue("not-found", "The code system has no such code: CodeSystem?url=… shows those it has"))


def _properties(system: CodeSystem, concept: Concept) -> Iterator[Resource]:
    """https://hl7.org/fhir/R4/codesystem.html#defined-props"""
    if concept.definition:
        yield _property("definition", "String", concept.definition)
    yield _property("inactive", "Boolean", concept.inactive)
    if concept.abstract:
        yield _property("notSelectable", "Boolean", True)
    for name, codes in (("parent", concept.parents), ("child", system.children(concept.code))):
        for code in codes:
            yield _property(name, "Code", code)


def _property(name: str, kind: str, value: object) -> Resource:
    return {"name": "property", "part": [part("code", "Code", name), part("value", kind, value)]}
