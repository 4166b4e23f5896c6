"""What stands at the end of a path: a primitive, a coded concept, or a reference to another row's resource.

Every leaf writes a cell as a FHIR value (given the value that stands there now, to keep what is others'), reads a
cell back from one, and knows its own value again among the elements of a list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from fhirgw.mapping.codec import Codec
from fhirgw.mapping.concept import CodeMap
from fhirgw.mapping.identity import PERSON, Identifiers
from fhirgw.mapping.refusal import Refusal


class Leaf(Protocol):
    """The end of a path, both ways. `person` is the key of the person the row is about."""

    @property
    def many(self) -> bool:
        """Whether the value is the whole list."""

    @property
    def sample(self) -> str:
        """A cell this leaf takes."""

    def write(self, cell: str, old: Any, person: str | None) -> Any:
        """The FHIR value of a cell; Refusal where it has none."""

    def read(self, value: Any) -> str | None:
        """The cell of a FHIR value; None where it says nothing to this system; Refusal where it cannot be held."""

    def knows(self, value: Any) -> bool:
        """Whether a list's element is this leaf's."""


@dataclass(frozen=True, slots=True)
class Primitive:
    """A value of a primitive type, through a codec."""

    codec: Codec

    @property
    def many(self) -> bool:
        """Whether the value is the whole list."""
        return self.codec.many

    @property
    def sample(self) -> str:
        """A cell this leaf takes."""
        return self.codec.sample

    def write(self, cell: str, old: Any, person: str | None) -> Any:
        """The encoded cell."""
        return self.codec.encode(cell)

    def read(self, value: Any) -> str | None:
        """The decoded value."""
        return self.codec.decode(value)

    def knows(self, value: Any) -> bool:
        """Primitives are found by position."""
        return True


@dataclass(frozen=True, slots=True)
class Coded:
    """A code, Coding or CodeableConcept, through a code map. `form` is the element's type."""

    codes: CodeMap
    form: str
    many: bool = False

    @property
    def sample(self) -> str:
        """A cell this leaf takes."""
        return next(iter(self.codes.codes))

    def write(self, cell: str, old: Any, person: str | None) -> Any:
        """The concept, with other people's translations kept while its meaning stays.

        Its text is what the source said, where that says more than the standard: its own label of a kept code.
        """
        if self.form == "code":
            return self.codes.concept.standard[self.codes.target(cell)]["code"]
        codings = self.codes.codings(cell)
        if self.form == "Coding":
            return self._standard(codings)
        if isinstance(old, dict) and self.codes.read(old.get("coding") or []) == cell:
            return old
        label = self.codes.labels.get(cell) if self.codes.keep else None
        return {"coding": codings, "text": label or self._standard(codings)["display"]}

    def _standard(self, codings: list[Any]) -> Any:
        return codings[1 if self.codes.keep else 0]

    def read(self, value: Any) -> str | None:
        """The system's code."""
        if self.form == "code":
            return self.codes.source(self.codes.concept.named(value))
        return self.codes.read([value] if self.form == "Coding" else value.get("coding") or [])

    def knows(self, value: Any) -> bool:
        """An element that holds a coding of either list."""
        if self.form == "code":
            return True
        return isinstance(value, dict) and self.codes.mentions(
            [value] if self.form == "Coding" else value.get("coding")
        )


@dataclass(frozen=True, slots=True)
class Fixed:
    """Content that stands beside a column's: there while the column is filled, and never read back.

    With `only`: while it is filled with one of these.
    """

    value: Any
    only: tuple[str, ...] = ()
    many: bool = False

    @property
    def sample(self) -> str:
        """A cell for which it stands."""
        return self.only[0] if self.only else "1"

    def stands(self, cell: str) -> bool:
        """Whether a filled column means it."""
        return not self.only or cell in self.only

    def write(self, cell: str, old: Any, person: str | None) -> Any:
        """The content, whatever the cell says."""
        return self.value

    def read(self, value: Any) -> str | None:
        """Nothing."""
        return None

    def knows(self, value: Any) -> bool:
        """The same content."""
        return bool(value == self.value)


@dataclass(frozen=True, slots=True)
class Referring:
    """A Reference to what another row is: its id, and its key as a logical reference, which is what is read back."""

    ids: Identifiers
    mapping: str
    type: str
    system: str
    about: bool
    many: bool = False
    sample: str = "1001"

    def write(self, cell: str, old: Any, person: str | None) -> Any:
        """The reference; a display that somebody gave to the same one is kept."""
        made = {
            "reference": f"{self.type}/{self.id(cell, person)}",
            "identifier": {"system": self.system, "value": cell},
        }
        if isinstance(old, dict) and old.get("identifier") == made["identifier"]:
            return old | made
        return made

    def id(self, cell: str, person: str | None) -> str:
        """The id of the row referred to."""
        if self.mapping == PERSON:
            return self.ids.person(cell)
        return self.ids.about(self.mapping, cell, person) if self.about else self.ids.plain(self.mapping, cell)

    def read(self, value: Any) -> str | None:
        """The key referred to."""
        identifier = value.get("identifier") if isinstance(value, dict) else None
        if isinstance(identifier, dict) and identifier.get("system") == self.system:
            key = identifier.get("value")
            return key if isinstance(key, str) else None
        raise Refusal(
            "reference",
            f"a reference must carry its identifier of {self.system}",
            "Send Reference.identifier",
        )

    def knows(self, value: Any) -> bool:
        """An element that refers to the same kind of row."""
        identifier = value.get("identifier") if isinstance(value, dict) else None
        return isinstance(identifier, dict) and identifier.get("system") == self.system
