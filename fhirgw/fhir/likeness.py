"""How sure it is that two Patients are one person: by identifiers, date of birth, names, postcode and gender.

A point for each that agrees, by how few people share it, out of what both say; one that says otherwise takes its points
away. Certain is what the Personal Demographics Service takes as such: the NHS number with the date of birth and the
family name; or, where no number is given, everything else to the letter. A number that somebody else gave (a council, a
care provider) does as well as the NHS number, and to have others than these says nothing. What is certain of two is
certain of neither.
https://hl7.org/fhir/R4/patient-operation-match.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from fhirgw.fhir.escapes import escape
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.nhs import NHS_NUMBER, is_nhs_number
from fhirgw.fhir.strings import normalise

WEIGHTS = {"number": 50, "birth": 20, "family": 12, "given": 8, "postcode": 7, "gender": 3}
OWN = 50
"""Of an identifier besides the NHS number: where it agrees, and only there."""
PROBABLE, POSSIBLE = 0.8, 0.5
"""The least score of each grade; what is less alike is no match. https://hl7.org/fhir/R4/valueset-match-grade.html"""

ALMOST = 0.99
"""The most that a score is which is not certain."""

Facts = dict[str, frozenset[str]]
NONE: frozenset[str] = frozenset()


class Likeness(NamedTuple):
    """`grade` is certain, probable or possible; `score` from 0 to 1."""

    grade: str
    score: float


def facts(patient: Resource) -> Facts:
    """What of a Patient is compared, each as it is compared. Raises FhirError(structure) for what is no Patient."""
    try:
        return {name: frozenset(values) for name, values in _facts(patient)}
    except (AttributeError, TypeError):
        raise FhirError(Issue("structure", "The resource is not a Patient as R4 has it: try $validate")) from None


def likeness(asked: Facts, known: Facts) -> Likeness | None:
    """How alike they are; None for two people."""
    if "number" in asked and "number" in known and not asked["number"] & known["number"]:
        return None
    weights = WEIGHTS | ({"own": OWN} if asked.get("own", NONE) & known.get("own", NONE) else {})
    both = [name for name in weights if asked.get(name) and known.get(name)]
    agreed = {name for name in both if asked[name] & known[name]}
    gained = sum(weights[name] for name in agreed) - sum(weights[name] for name in both if name not in agreed)
    score = round(max(gained, 0) / sum(weights[name] for name in weights if asked.get(name)), 2) if agreed else 0.0
    if _certain(asked, agreed):
        return Likeness("certain", score)
    if score >= POSSIBLE:
        return Likeness("probable" if score >= PROBABLE else "possible", min(score, ALMOST))
    return None


def graded(found: list[Likeness]) -> list[Likeness]:
    """The same, where only one can be certain."""
    if sum(each.grade == "certain" for each in found) < 2:
        return found
    return [Likeness("probable", min(each.score, ALMOST)) if each.grade == "certain" else each for each in found]


def _certain(asked: Facts, agreed: set[str]) -> bool:
    if agreed & {"number", "own"}:
        return {"birth", "family"} <= agreed
    return "number" not in asked and agreed == WEIGHTS.keys() - {"number"}


def _facts(patient: Resource) -> Iterator[tuple[str, list[str]]]:
    numbers = [_joined(each.get("value")) for each in patient.get("identifier", ()) if each.get("system") == NHS_NUMBER]
    names = [each for each in patient.get("name", ()) if each.get("use") != "old"]
    given = [normalise(one) for each in names for one in each.get("given", ())[:1]]
    found: dict[str, list[Any]] = {
        "number": [each for each in numbers if is_nhs_number(each)],
        "own": [one for each in patient.get("identifier", ()) if (one := _own(each))],
        "birth": [patient["birthDate"]] if isinstance(patient.get("birthDate"), str) else [],
        "family": [normalise(each["family"]) for each in names if "family" in each],
        "given": given,
        "postcode": [_joined(each["postalCode"]) for each in patient.get("address", ()) if "postalCode" in each],
        "gender": [patient["gender"]] if patient.get("gender") in ("male", "female", "other") else [],
    }
    yield from ((name, values) for name, values in found.items() if values)


def _own(identifier: Any) -> str:
    """An identifier that is another than the NHS number and says whose, as it is searched by; else ""."""
    system, value = identifier.get("system"), identifier.get("value")
    said = isinstance(system, str) and isinstance(value, str) and system and value
    return f"{escape(system)}|{escape(value)}" if said and system != NHS_NUMBER else ""


def _joined(text: Any) -> str:
    return "".join(str(text).split()).upper()
