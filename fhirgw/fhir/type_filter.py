"""`_typeFilter` of a bulk export: searches that resources of their types have to meet, one of them at least.

https://hl7.org/fhir/uv/bulkdata/export.html#_typefilter-query-parameter. Several come as a repeated parameter, or, as
the older version has it and programs in use do, in one with commas between them, and the commas within as `%2C`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import parse_qsl

from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.parameters import HELD
from fhirgw.fhir.query import CONTROLS, Query

NEXT = re.compile(r",(?=[A-Z][A-Za-z]*\?)")
"""A comma before another filter; other commas are of the search."""


def filters(values: Sequence[str]) -> tuple[str, ...]:
    """The filters one by one, each as `Type?query`. Raises FhirError (400) for one that is no search."""
    found = tuple(dict.fromkeys(each for value in values for each in NEXT.split(value)))
    for each in found:
        read(each)
    return found


def read(filter: str, name: str = "_typeFilter") -> Query:
    """The search of one filter; `name` is what that is called. Raises FhirError (400)."""
    kind, question, text = filter.partition("?")
    if not question or not text or kind not in HELD:
        raise _refusal(name, "each is a type the gateway holds and a search of it, as Observation?category=laboratory")
    pairs = parse_qsl(text, keep_blank_values=True)
    for each, _ in pairs:
        if each in CONTROLS or each.startswith(("_include", "_revinclude")):
            raise _refusal(name, f"{each.partition(':')[0]} is about the answer of a search, and an export has none")
    if "\0" in text or not pairs:
        raise _refusal(name, "there is no search in it")
    try:
        return Query.parse(kind, pairs)
    except FhirError as error:
        raise FhirError(*(Issue(each.code, f"{name}: {each.diagnostics}") for each in error.issues)) from None


def _refusal(name: str, told: str) -> FhirError:
    return FhirError(Issue("invalid", f"{name}: {told}"))
