"""The one SELECT of a search: everything of a type that meets the criteria and that the caller may see."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Text, bindparam, literal, select

from fhirgw.access.permit import Permit
from fhirgw.store import visibility
from fhirgw.store.criterion import Plain, Term, terms
from fhirgw.store.schema import resource
from fhirgw.store.visibility import visible


@dataclass(frozen=True, slots=True)
class Matching:
    """What matches, as a statement (`select`), what tells it from other statements (`shape`), and its parameters."""

    permit: Permit
    type: str
    terms: tuple[Term, ...]

    @classmethod
    def of(cls, permit: Permit, resource_type: str, criteria: Sequence[Plain]) -> Matching:
        """The resources of the type that meet all criteria and that the permit lets one search."""
        return cls(permit, resource_type, tuple(terms(resource_type, criteria)))

    @property
    def shape(self) -> Hashable:
        """Equal for searches that differ in values alone."""
        return self.type, visibility.shape(self.permit), tuple(term.shape for term in self.terms)

    def values(self) -> dict[str, Any]:
        """The parameters of `select`, by name."""
        every = (value for term in self.terms for value, _ in term.values)
        return visibility.values(self.permit) | {f"v{at}": value for at, value in enumerate(every)}

    def select(self, *columns: Any) -> Select[Any]:
        """The columns of what matches. The type is in the SQL itself, because it chooses the partition to plan for."""
        typed = resource.c.type == literal(self.type, Text, literal_execute=True)
        found = select(*columns).select_from(resource).where(typed, visible(self.permit, "s", self.type))
        at = 0
        for term in self.terms:
            binds = [
                bindparam(f"v{at + offset}", type_=kind, required=False) for offset, (_, kind) in enumerate(term.values)
            ]
            found = found.where(term.build(resource, binds))
            at += len(binds)
        return found
