"""How much of each resource an export has: `_elements`, of all types or of one (`Patient.birthDate`).

https://hl7.org/fhir/uv/bulkdata/export.html#query-parameters. What is mandatory is always there, and what has been left
out is told by a tag.
"""

from __future__ import annotations

from fhirgw.fhir.shorten import Shape
from fhirgw.store.export import Selection


def shape_of(asked: Selection, kind: str) -> Shape:
    """What of each resource of a type; a type for which nothing is named is whole."""
    named = [each.rpartition(".") for each in asked.elements]
    return Shape(elements=tuple(element for of, _, element in named if of in ("", kind)))
