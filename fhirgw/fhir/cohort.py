"""What a Group of people says of who is in it: members by reference, or by searches that they meet.

https://hl7.org/fhir/uv/bulkdata/group.html. A search is a `member-filter`, a modifierExtension of the Bulk Data guide
(`Condition?code=…`, of Patient or of what is in a patient's record). Somebody meets searches of one type by meeting one
of them; those of several types, by meeting one of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.parameters import personal
from fhirgw.fhir.references import LOCAL
from fhirgw.fhir.type_filter import read

MEMBER_FILTER = "http://hl7.org/fhir/uv/bulkdata/StructureDefinition/member-filter"
LANGUAGE = "application/x-fhir-query"
MEMBERS = ("Patient", "Device", "Group", "Practitioner", "PractitionerRole")
"""The types of which members are held here."""

PERSONAL = (
    *("_id", "identifier", "patient", "subject", "name", "family", "given", "phonetic"),
    *("phone", "email", "telecom", "address"),
)
"""Search parameters whose values say who somebody is. A definition is served as it is to whoever sees the list, whether
they may see its people or not: those who are named are named as members.
"""

AT_FILTER = "Group.modifierExtension"
AT_MEMBER = "Group.member.entity"


def filters(group: Resource) -> dict[str, tuple[str, ...]]:
    """The searches that define a Group, by type; none for one by its members alone. Raises FhirError (422)."""
    found: dict[str, list[str]] = {}
    for each in group.get("modifierExtension", ()):
        if each.get("url") == MEMBER_FILTER:
            search = _search(each)
            found.setdefault(search.partition("?")[0], []).append(search)
    return {kind: tuple(searches) for kind, searches in found.items()}


def people(group: Resource) -> list[str]:
    """The ids of the Patients whom a Group names as its members."""
    named = (LOCAL.fullmatch(str(entity.get("reference", ""))) for entity in _entities(group))
    return list(dict.fromkeys(each[2] for each in named if each and each[1] == "Patient"))


def completed(after: Resource, seen: Resource, whole: Resource) -> Resource:
    """A Group as its writer would have it, and those of its members besides whom they were not shown.

    `seen` is what they were shown of the `whole`. What is contained was withheld with its members, and stays likewise.
    """
    shown = Counter(encode(each) for each in seen.get("member", ()))
    named = {entity.get("reference") for entity in _entities(after)}
    left = []
    for each in whole.get("member", ()):
        if shown[text := encode(each)]:
            shown[text] -= 1
        elif each.get("entity", {}).get("reference") not in named:
            left.append(each)
    contained = {"contained": whole["contained"]} if "contained" in whole else {}
    return contained | after | {"member": [*after.get("member", ()), *left]}


def check(group: Resource) -> None:
    """Raises FhirError (422) for a Group whose members nobody could find, or keep from those who may not see them."""
    filters(group)
    for entity in _entities(group):
        named = LOCAL.fullmatch(str(entity.get("reference", "")))
        if named is None or named[1] not in MEMBERS or "identifier" in entity:
            told = f"A member is a reference to a resource held here ({', '.join(MEMBERS)}), without an identifier"
            raise FhirError(Issue("value", told, AT_MEMBER), status=422)


def _search(extension: dict[str, Any]) -> str:
    expression = extension.get("valueExpression", {})
    search = expression.get("expression")
    if expression.get("language") != LANGUAGE or not isinstance(search, str):
        told = f"A member-filter is an expression in the language {LANGUAGE}, as Condition?code=…"
        raise FhirError(Issue("value", told, AT_FILTER), status=422)
    try:
        query = read(search, "member-filter")
    except FhirError as error:
        raise FhirError(
            *(Issue(each.code, each.diagnostics or "", AT_FILTER) for each in error.issues), status=422
        ) from None
    if query.type != "Patient" and not personal(query.type):
        told = f"A member-filter is of Patient, or of what is in a patient's record, and {query.type} is not"
        raise FhirError(Issue("value", told, AT_FILTER), status=422)
    if named := _naming(search):
        told = f"A member-filter is of what people have in common, and {named} says who somebody is: name them"
        raise FhirError(Issue("business-rule", f"{told} as members", AT_FILTER), status=422)
    return search


def _naming(search: str) -> str | None:
    """The parameter of a search, `Condition?code=…`, by whose value it looks for somebody in particular, if it does."""
    of, _, text = search.partition("?")
    for name, _ in parse_qsl(text):
        kind, asked = _asked(of, name)
        if asked in PERSONAL and (kind == "Patient" or personal(kind)):
            return asked
    return None


def _asked(kind: str, name: str) -> tuple[str, str]:
    """The parameter that is looked at in the end, with its type if that is a person's: `_has:Group:member:_id` is the
    Group's, `subject:Patient.family` the Patient's.
    """
    while name.startswith("_has:"):
        _, kind, _, name = name.split(":", 3)
    *links, last = name.split(".")
    for each in links:
        link, _, target = each.partition(":")
        kind = target or ("Patient" if link in ("patient", "subject") else "")
    return kind, last.partition(":")[0]


def _entities(group: Resource) -> Iterator[dict[str, Any]]:
    for each in group.get("member", ()):
        yield each.get("entity", {})
