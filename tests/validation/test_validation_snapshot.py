"""Snapshots we make of R4's own profiles are those that were published: element ids, cardinality, types, bindings."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from fhirgw.fhir.differential import Constraint, constraint
from fhirgw.fhir.issue import Resource
from fhirgw.fhir.profile import profile
from fhirgw.validation.snapshot import snapshot

DEFINITIONS = "http://hl7.org/fhir/StructureDefinition/"

ODD = {
    "bp": "a shorthand below a slice (component:SystolicBP.valueQuantity) is written as no slice, others as one",
    "catalog": "slices Composition.date, which comes once, and leaves out the element that it slices",
    "elementdefinition-de": "writes the parts of the extensions it slices, which no other does",
    "familymemberhistory-genetic": "has FamilyMemberHistory.relationship to deceased[x] in no place",
    "provenance-relevant-history": "takes the slice's binding from R4, not from the profile's own element",
}
"""Published snapshots that are not as the others are, nor as the rules say: why."""

KINDS = ("required", "extensible")


@cache
def published(package: Path) -> tuple[Resource, ...]:
    """R4's own profiles, of resources and datatypes, that have a snapshot."""

    def read() -> Iterator[Resource]:
        with tarfile.open(package) as archive:
            for member in archive:
                if member.name.startswith("package/StructureDefinition-"):
                    content = archive.extractfile(member)
                    assert content is not None
                    found = json.load(content)
                    if found.get("derivation") == "constraint" and found["type"] != "Extension" and "snapshot" in found:
                        yield found

    return tuple(read())


def facts(stated: Constraint) -> tuple[Any, ...]:
    """What is compared of an element: the ids of resources are strings in published profiles, by an old quirk."""
    bound = str(stated.get("binding") or "")
    types = frozenset(str(each).partition("(")[0] for each in stated.get("types") or ())
    return stated.get("min"), stated.get("max"), types, bound if bound.startswith(KINDS) else ""


def compared(definition: Resource) -> bool:
    type_code = definition["type"]
    stated = {each["id"]: facts(constraint(each)) for each in definition["snapshot"]["element"]}
    made = {path: facts(each) for path, each in snapshot(definition["url"]).items()}
    for known in (stated, made):
        known.pop(f"{type_code}.id", None)
        known.pop(type_code, None)
    return stated == made and list(stated) == list(made)


def test_snapshots_are_as_published(data: Path) -> None:
    known = published(data / "r4" / "hl7.fhir.r4.core-4.0.1.tgz")
    assert len(known) > 40
    differing = {each["id"] for each in known if not compared(each)}
    assert differing == ODD.keys()


def test_a_profile_on_a_profile_has_what_both_say() -> None:
    weight = snapshot(f"{DEFINITIONS}bodyweight")
    assert weight["Observation.status"]["min"] == 1
    assert weight["Observation.category:VSCat"]["min"] == 1
    assert weight["Observation.value[x]"]["types"] == ["Quantity"]
    found = profile(f"{DEFINITIONS}bodyweight")
    assert found is not None and found.base.endswith("vitalsigns")
