"""Coded values against what they are bound to, and codes against their systems.

Required: a code outside is an error. Extensible: a warning, since a concept the set lacks may stand outside. What
nobody here can decide (SNOMED CT by query) passes, if it has the shape of its system's codes.
https://hl7.org/fhir/R4/terminologies.html#strength
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from fhirgw.fhir.elements import Binding
from fhirgw.fhir.issue import Issue
from fhirgw.fhir.table import Table
from fhirgw.terminology import listed, membership, shaped
from fhirgw.terminology.code_system import code_system
from fhirgw.terminology.definitions import definition
from fhirgw.terminology.shape import LANGUAGES, reason
from fhirgw.validation.primitive import WORTH_KEEPING, Judged, primitive
from fhirgw.validation.scope import Check, Found, Scope

NO_SYSTEM = Issue(
    "code-invalid", "A code without its system has no defined meaning: say whose code it is in system", None, "warning"
)
NO_LANGUAGE = Issue("code-invalid", "No language of BCP 47: write a tag of registered subtags, as en-GB or cy")
NOT_ITS_DISPLAY = Issue(
    "code-invalid", "The display is not this code's: $lookup tells the one it has, or leave it out", None, "warning"
)
RELATIVE = Issue("value", "A system is an absolute uri: write whose code it is in full, as http://snomed.info/sct")
A_VALUE_SET = Issue("value", "This is a value set, and not a code system: name the system that defines the code")
ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:.")
SEVERITY = {"required": "error", "extensible": "warning"}
FEW = 12
"""Codes of a value set that are named in an issue."""
CODED = ("CodeableConcept", "Coding", "Quantity", "code", "string", "uri")
"""The types a binding can be judged on."""


@cache
def not_in(binding: Binding) -> Issue:
    """The issue of a code outside of the value set."""
    must = "must" if binding.strength == "required" else "should, where the set has the concept,"
    what = f"The code is not in the {binding.strength} value set {binding.value_set}: it {must} be one of its codes"
    if binding.strength == "required" and (codes := listed(binding.value_set, FEW)):
        what += f" ({', '.join(codes)})"
    return Issue("code-invalid", what, None, SEVERITY[binding.strength])


@cache
def answers(type_code: str, binding: Binding) -> Table:
    """The judge of a primitive that is bound: of its type's form and of its membership, in one look-up."""
    plain, outside = primitive(type_code), not_in(binding)

    def judge(value: str) -> Issue | None:
        return plain(value) or (outside if membership(binding.value_set, None, value) is False else None)

    return Judged(judge)


def language(plain: Callable[[str], Issue | None]) -> Table:
    """The judge of a code that is a language, with what is asked of any code: R4 binds it to BCP 47 at the most.

    https://hl7.org/fhir/R4/valueset-all-languages.html
    """
    return Judged(lambda value: plain(value) or (NO_LANGUAGE if shaped(LANGUAGES, value) is False else None))


def code(type_code: str, binding: Binding) -> Callable[[Any], Issue | None]:
    """The same as a function of any value."""
    plain, known = primitive(type_code), answers(type_code, binding)

    def check(value: Any) -> Issue | None:
        return known[value] if value.__class__ is str else plain(value)

    return check


def concept(type_code: str, binding: Binding) -> Callable[[Any], Found | None]:
    """The judge of a CodeableConcept, a Coding or a Quantity that is bound."""
    outside = [("", not_in(binding))]
    required = binding.strength == "required"
    known = Remembered(lambda each: membership(binding.value_set, each[0], each[1]))

    def fits(coding: Any) -> bool:
        if coding.__class__ is not dict:
            return True  # its structure is judged elsewhere
        found = coding.get("code")
        if not isinstance(found, str):
            return not required
        system = coding.get("system")
        return known[system if isinstance(system, str) else "", found] is not False

    def check(value: Any) -> Found | None:
        if value.__class__ is not dict:
            return None
        codings = value.get("coding")
        if codings.__class__ is not list:
            fitting = not required or bool(value.keys() <= {"id", "extension"})
            return None if fitting else outside
        for each in codings:
            if fits(each):
                return None
        return outside

    def single(value: Any) -> Found | None:
        return None if fits(value) or ("code" not in value and type_code == "Quantity") else outside

    return check if type_code == "CodeableConcept" else single


@cache
def bound(type_code: str, rule: Binding) -> Check:
    """The judge of any value of one of the CODED types, of its code only: its form is judged elsewhere."""
    if type_code in ("CodeableConcept", "Coding", "Quantity"):
        judge = concept(type_code, rule)
        return lambda value, scope: judge(value)
    one = code(type_code, rule)

    def check(value: Any, scope: Scope) -> Found | None:
        issue = one(value)
        return [("", issue)] if issue is not None and issue.code == "code-invalid" else None

    return check


def coding(value: dict[str, Any], scope: Scope) -> Found | None:
    """What is wrong with the code of a Coding, whatever it is bound to."""
    found, system = value.get("code"), value.get("system")
    if system.__class__ is str and (issue := SYSTEMS[system]) is not None:
        return [(".system", issue)]
    if found.__class__ is not str:
        return None
    if system.__class__ is not str:
        return [("", NO_SYSTEM)] if system is None and "_system" not in value else None
    issue = CODES[system, found]
    if issue is not None:
        return [(".code", issue)]
    display = value.get("display")
    if display.__class__ is str and not DISPLAYS[f"{system}|{found}", display]:
        return [(".display", NOT_ITS_DISPLAY)]
    return None


def quantity(value: dict[str, Any], scope: Scope) -> Found | None:
    """What is wrong with the unit of a Quantity: UCUM's codes have a grammar, and other systems theirs."""
    system, found = value.get("system"), value.get("code")
    if system.__class__ is not str or found.__class__ is not str:
        return None
    issue = CODES[system, found]
    return None if issue is None else [(".code", issue)]


def _displays(pair: tuple[str, str]) -> bool:
    """Whether what is said of a code is its display, whatever its case and spaces; of systems that are carried."""
    system, _, found = pair[0].rpartition("|")
    known = code_system(system)
    concept = known.find(found) if known else None
    return concept is None or not concept.display or _plain(concept.display) == _plain(pair[1])


def _plain(display: str) -> str:
    return " ".join(display.split()).casefold()


def _system(url: str) -> Issue | None:
    """https://hl7.org/fhir/R4/datatypes.html#Coding"""
    if ABSOLUTE.match(url) is None:
        return None if primitive("uri")(url) else RELATIVE  # what is no uri at all is told already
    return A_VALUE_SET if definition("ValueSet", url) and code_system(url) is None else None


def _code_of_system(pair: tuple[str, str]) -> Issue | None:
    system, found = pair
    known = code_system(system)
    if known is not None and known.complete and known.find(found) is None:
        return Issue("code-invalid", f"The system {known.url} has no such code: use one of its codes")
    if shaped(system, found) is False:
        return Issue("code-invalid", f"{reason(system, found)}: look it up again")
    return None


class Remembered(Table):
    """A table over pairs of texts that remembers only short ones."""

    __slots__ = ()

    def __missing__(self, value: Any) -> Any:
        short = len(value[0]) + len(value[1]) <= 2 * WORTH_KEEPING
        return super().__missing__(value) if short else self.work_out(value)


CODES = Remembered(_code_of_system)
DISPLAYS = Remembered(_displays)
"""(`system|code`, display) -> whether that is what the code system calls it."""

SYSTEMS = Judged(_system)
"""What a Coding has as its system -> what is wrong with it."""
