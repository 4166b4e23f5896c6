"""CodeSystem/$validate-code and ValueSet/$validate-code: whether a code is one, and is in a set.

A code that is wrong is an answer, not an error. Where nobody here knows, the answer is unknown: it says so, and another
server may be asked. https://hl7.org/fhir/R4/valueset-operation-validate-code.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from fhirgw.fhir.issue import Issue, Resource, outcome
from fhirgw.terminology.code_system import Concept, code_system
from fhirgw.terminology.coded import Coded, asked, asked_set, parameters, part
from fhirgw.terminology.definitions import REMEDY, wanted
from fhirgw.terminology.inputs import Inputs
from fhirgw.terminology.shape import SHAPES, reason, shaped
from fhirgw.terminology.value_set import GRAMMARS, ValueSet

IN_SYSTEM = {
    "url": "uri",
    "codeSystem": "CodeSystem",
    "code": "code",
    "version": "string",
    "display": "string",
    "coding": "Coding",
    "codeableConcept": "CodeableConcept",
    "date": "dateTime",
    "abstract": "boolean",
    "displayLanguage": "code",
}
IN_SET = {
    "url": "uri",
    "valueSet": "ValueSet",
    "valueSetVersion": "string",
    "code": "code",
    "system": "uri",
    "systemVersion": "string",
    "display": "string",
    "coding": "Coding",
    "codeableConcept": "CodeableConcept",
    "date": "dateTime",
    "abstract": "boolean",
    "displayLanguage": "code",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`result` None: not known here. `message` says what is wrong with it, or unknown; `display` is the standard's."""

    result: bool | None
    message: str | None = None
    display: str | None = None

    def as_fhir(self) -> Resource:
        """The Parameters. Unknown is no yes; `issues` tells it from a no."""
        parts = [part("result", "Boolean", bool(self.result))]
        if self.message:
            parts.append(part("message", "String", self.message))
        if self.display:
            parts.append(part("display", "String", self.display))
        if self.result is None:
            unknown = Issue("not-found", self.message or "Not known here", severity="warning")
            parts.append({"name": "issues", "resource": outcome([unknown])})
        return parameters(parts)


def in_system(inputs: Inputs, system: str | None = None) -> Verdict:
    """Whether a code is one of the code system: of `url`, of the instance's, or of its coding's. Raises NotHeld."""
    url = system or inputs.text("url")
    bare = url.partition("|")[0] if url else None
    codes = asked(inputs, system=bare, named="url")
    if url and bare not in SHAPES:
        wanted("CodeSystem", url, inputs.text("version"))
    if bare and any(each.system != bare for each in codes):
        return Verdict(False, "The coding is of another code system")
    for each in codes:
        if each.system not in SHAPES:
            wanted("CodeSystem", each.system, each.version)
    return _any(codes, lambda each: _code_of(each, inputs))


def in_set(inputs: Inputs, value_set: str | None = None) -> Verdict:
    """Whether a code is in the value set of `url`, of the instance, or sent along. Raises NotHeld."""
    _, found = asked_set(inputs, value_set)
    return _any(asked(inputs), lambda each: _member(found, each, inputs))


def _any(codes: list[Coded], judge: Callable[[Coded], Verdict]) -> Verdict:
    """The verdict on a concept: its best coding's."""
    verdicts = [judge(each) for each in codes]
    for result in (True, None):
        if found := next((each for each in verdicts if each.result is result), None):
            return found
    return verdicts[0]


def _member(value_set: ValueSet, coded: Coded, inputs: Inputs) -> Verdict:
    answer = value_set.has(coded.system, coded.code)
    if answer is False:
        if shaped(coded.system, coded.code) is False:
            return Verdict(False, reason(coded.system, coded.code))
        return Verdict(False, "The code is not in the value set")
    if answer is None:
        unknown = f"Not known: the value set draws on codes that are not carried here; {REMEDY}"
        return Verdict(None, unknown, _display(coded, value_set))
    return _judged(_concept(coded), coded, inputs, _display(coded, value_set))


def _code_of(coded: Coded, inputs: Inputs) -> Verdict:
    if (shape := shaped(coded.system, coded.code)) is False:
        return Verdict(False, reason(coded.system, coded.code))
    if shape and coded.system in GRAMMARS:
        return Verdict(True)
    system = code_system(coded.system)
    concept = _concept(coded)
    if concept is not None:
        return _judged(concept, coded, inputs, concept.display)
    if system is not None and system.complete:
        return Verdict(False, "The code system has no such code")
    return Verdict(None, f"Not known: the codes of this system are not carried here; {REMEDY}")


def _judged(concept: Concept | None, coded: Coded, inputs: Inputs, display: str | None) -> Verdict:
    """A code that is right: as long as what is said of it is."""
    found = Verdict(True, display=display)
    if concept is not None and concept.abstract and inputs.flag("abstract") is False:
        return replace(found, result=False, message="The code is abstract: a heading for others, not to be recorded")
    known = {_plain(each) for each in (display, concept.display if concept else None) if each}
    if coded.display and known and _plain(coded.display) not in known:
        return replace(found, result=False, message="The display is not this code's: `display` has the one it has")
    if concept is not None and concept.inactive:
        return replace(found, message="The code is no longer in use")
    return found


def _concept(coded: Coded) -> Concept | None:
    system = code_system(coded.system)
    return system.find(coded.code) if system else None


def _display(coded: Coded, value_set: ValueSet) -> str | None:
    """The code's own display, or else the value set's."""
    concept = _concept(coded)
    if concept and concept.display:
        return concept.display
    return value_set.extent.part(coded.system).codes.get(coded.code)


def _plain(display: str) -> str:
    return " ".join(display.split()).casefold()
