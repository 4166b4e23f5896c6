"""Code systems, value sets and concept maps: what is carried, and what can be said of what is not.

`membership` says whether a code is in a value set, `shaped` whether it can be a code of its system at all; both answer
None where nobody here knows. https://hl7.org/fhir/R4/terminology-module.html
"""

from fhirgw.terminology.shape import shaped
from fhirgw.terminology.value_set import listed, membership

__all__ = ["listed", "membership", "shaped"]
