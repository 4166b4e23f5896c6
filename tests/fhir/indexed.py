"""Resources drawn at random, with something in many of the places that search parameters look at."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from fhirgw.fhir.elements import Element
from fhirgw.fhir.issue import Resource
from fhirgw.fhir.parameters import COLUMNS, Source, supported

WORDS = st.sampled_from(["a", "b", "SS1 1AA", "Siân  Ffion", "true", "Patient", "https://x.uk/a|1.0", "a|b"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=5
)
SYSTEMS = st.sampled_from(["http://snomed.info/sct", "https://x.uk/list", "phone", "email"])
NUMBERS = st.sampled_from(["(07700) 900-123", "A-B@x.uk", "07700900123", ""])
TARGETS = st.sampled_from(
    [
        *("Patient/p1", "Patient/p2/_history/3", "Practitioner/w", "Group/g", "#inside", "odd"),
        *("https://x.uk/fhir/Patient/p1", "https://x.uk/fhir/Group/g/_history/1", "urn:uuid:1"),
    ]
)
DATES = st.sampled_from(["2025", "2025-03", "2025-03-30", "2025-03-30T01:30:00Z", "2025-06-01T10:00:00+01:00"])
LATE = st.sampled_from(["2026-01-01", "2026-10-25T00:30:00.123Z"])


def partly(**strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with some of the properties."""
    return st.fixed_dictionaries({}, optional=strategies)


def several(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(strategy, max_size=2)


GAPPED = several(WORDS | st.none())
PARTS = dict.fromkeys(("text", "family", "city", "district", "state", "postalCode", "country"), WORDS)
LISTS = dict.fromkeys(("given", "prefix", "suffix", "line"), GAPPED)
CODING = partly(system=SYSTEMS, code=WORDS, display=WORDS)
IDENTIFIER = partly(system=SYSTEMS, value=WORDS)
PERIOD = partly(start=DATES, end=LATE)
QUANTITY = partly(
    value=st.sampled_from([0, 5, Decimal("5.40"), Decimal("-1.5")]),
    comparator=st.sampled_from(["<", ">="]),
    system=SYSTEMS,
    code=WORDS,
    unit=WORDS,
)
BY_TYPE = {
    "CodeableConcept": partly(coding=several(CODING), text=WORDS),
    "Coding": CODING,
    "Identifier": IDENTIFIER,
    "ContactPoint": partly(system=SYSTEMS, value=NUMBERS),
    "boolean": st.booleans(),
    "HumanName": partly(**PARTS, **LISTS),
    "Address": partly(**PARTS, **LISTS),
    "Reference": st.fixed_dictionaries({"reference": TARGETS})
    | partly(reference=TARGETS, type=st.sampled_from(["Patient", "Device"]), identifier=IDENTIFIER),
    "Period": PERIOD,
    "Timing": partly(event=several(DATES | st.none()), repeat=partly(boundsPeriod=PERIOD)),
    **dict.fromkeys(("date", "dateTime", "instant"), DATES),
    **dict.fromkeys(("Quantity", "Age", "Duration"), QUANTITY),
    "Range": partly(low=QUANTITY, high=QUANTITY),
    "SampledData": st.fixed_dictionaries({"origin": QUANTITY, "data": st.sampled_from(["1 2", "E", "-1 U 3"])}),
}


@st.composite
def resources(draw: st.DrawFn, kind: str) -> Resource:
    """A resource of the type; a choice (`value[x]`) is made once, elements stand in R4's order of parameters."""
    made: Resource = {"resourceType": kind, "id": "r1"}
    sources = [
        source
        for each in supported(kind).values()
        if each.name not in COLUMNS
        for source in each.sources
        if source.path
    ]
    if kind == "Patient":
        made |= draw(partly(deceasedBoolean=st.booleans()) | partly(deceasedDateTime=DATES))
    for source in sources:
        if draw(st.booleans()):
            _place(draw, made, source)
    return made


def _place(draw: st.DrawFn, holder: dict[str, Any], source: Source) -> None:
    """A value at the source's path, unless another choice, or another parameter's value, is there."""
    for element in source.path[:-1]:
        inner: Any = holder.setdefault(element.name, [{}] if element.is_list else {})
        holder = inner[0] if isinstance(inner, list) else inner
    leaf = source.leaf
    if not {leaf.name, *leaf.choices} & holder.keys():
        value = BY_TYPE.get(leaf.type, WORDS)
        holder[leaf.name] = draw(_listed(leaf, value) if leaf.is_list else value)


def _listed(leaf: Element, value: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A list is never empty, nor null where it holds objects: another parameter may look inside its first."""
    return st.lists(value | st.none() if leaf.is_primitive else value, min_size=1, max_size=2)
