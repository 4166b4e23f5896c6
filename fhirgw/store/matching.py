"""The one SELECT of a search: everything of a type that meets the criteria and that the caller may see."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Text, bindparam, literal, select

from fhirgw.access.permit import Permit
from fhirgw.fhir.criterion import Criterion, Ids, Tokens
from fhirgw.fhir.parameters import compartment
from fhirgw.fhir.query import Query
from fhirgw.store import visibility
from fhirgw.store.criterion import Plain, Term, terms
from fhirgw.store.schema import resource
from fhirgw.store.visibility import visible


@dataclass(frozen=True, slots=True)
class Matching:
    """What matches, as a statement (`select`), what tells it from other statements (`shape`), and its parameters.

    `whole`: it is asked by something that is withheld of some, who are not found by it.
    """

    permit: Permit
    type: str
    terms: tuple[Term, ...]
    whole: bool = False

    @classmethod
    def of(cls, permit: Permit, resource_type: str, criteria: Sequence[Plain]) -> Matching:
        """The resources of the type that meet all criteria and that the permit lets one search."""
        asked = (each.parameter.name for each in criteria if not isinstance(each, Ids))
        whole = any(visibility.withheld(resource_type, name) for name in asked)
        return cls(permit, resource_type, tuple(terms(resource_type, criteria)), whole)

    @property
    def shape(self) -> Hashable:
        """Equal for searches that differ in values alone."""
        return self.type, self.whole, visibility.shape(self.permit), tuple(term.shape for term in self.terms)

    def values(self) -> dict[str, Any]:
        """The parameters of `select`, by name."""
        every = (value for term in self.terms for value, _ in term.values)
        return visibility.values(self.permit) | {f"v{at}": value for at, value in enumerate(every)}

    def select(self, *columns: Any) -> Select[Any]:
        """The columns of what matches. The type is in the SQL itself, because it chooses the partition to plan for."""
        typed = resource.c.type == literal(self.type, Text, literal_execute=True)
        found = select(*columns).select_from(resource).where(typed, visible(self.permit, "s", self.type))
        if self.whole:
            found = found.where(visibility.whole(self.permit))
        at = 0
        for term in self.terms:
            binds = [
                bindparam(f"v{at + offset}", type_=kind, required=False) for offset, (_, kind) in enumerate(term.values)
            ]
            found = found.where(term.build(resource, binds))
            at += len(binds)
        return found


def few(query: Query) -> bool:
    """Whether a search finds few resources by what it asks: one person's record, one identifier's, those of some ids.

    One plan suits all of its values, and making it anew would take as long as the search itself.
    """
    return not query.sort and any(_names(query.type, each) for each in query.criteria)


def _names(resource_type: str, criterion: Criterion) -> bool:
    if isinstance(criterion, Ids):
        return True
    named = ("identifier", "patient", *compartment(resource_type))
    return isinstance(criterion, Tokens) and not criterion.negated and criterion.parameter.name in named
