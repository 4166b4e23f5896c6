"""The terminology operations of R4 that are answered here: a table of what each takes, and where it stands.

https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

from dataclasses import dataclass

from fhirgw.terminology.expand import EXPAND
from fhirgw.terminology.inputs import Kinds
from fhirgw.terminology.lookup import LOOKUP, SUBSUMES
from fhirgw.terminology.translate import TRANSLATE
from fhirgw.terminology.validate_code import IN_SET, IN_SYSTEM


@dataclass(frozen=True, slots=True)
class Operation:
    """`takes` are its parameters by name. `names` are those that say which definition is meant: an instance is one
    already, so there they may not be given.
    """

    type: str
    name: str
    takes: Kinds
    names: tuple[str, ...] = ()

    @property
    def of_instance(self) -> Kinds:
        """What it takes of an instance."""
        return {name: kind for name, kind in self.takes.items() if name not in self.names}


LOOK_UP = Operation("CodeSystem", "lookup", LOOKUP)
SUBSUME = Operation("CodeSystem", "subsumes", SUBSUMES, ("system",))
VALIDATE_IN_SYSTEM = Operation("CodeSystem", "validate-code", IN_SYSTEM, ("url",))
VALIDATE_IN_SET = Operation("ValueSet", "validate-code", IN_SET, ("url", "valueSet"))
EXPANSION = Operation("ValueSet", "expand", EXPAND, ("url", "valueSet"))
TRANSLATION = Operation("ConceptMap", "translate", TRANSLATE, ("url",))

OPERATIONS = (LOOK_UP, SUBSUME, VALIDATE_IN_SYSTEM, VALIDATE_IN_SET, EXPANSION, TRANSLATION)
NAMES = frozenset(name for each in OPERATIONS for name in each.takes)
"""Every parameter that one of them takes."""
