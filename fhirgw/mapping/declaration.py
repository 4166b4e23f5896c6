"""What a mapping file may say: the shapes of system.yaml, codes.yaml, concepts/*.yaml and <mapping>.yaml.

mappings/README.md explains them to those who write one; here each key is declared once, and whatever else stands in a
file is refused with its line.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class CsvForm(_Strict):
    """How the system writes CSV extracts."""

    delimiter: str = Field(default=",", min_length=1, max_length=1)
    encoding: str = "utf-8"


class SystemFile(_Strict):
    """system.yaml: a system of record."""

    system: str = Field(pattern=r"^[a-z][a-z0-9_]{0,30}$")
    title: str
    controller: str
    namespace: str = Field(pattern=r"^(https?://|urn:)\S+$")
    timezone: str = "Europe/London"
    csv: CsvForm = CsvForm()
    schema_: str = Field(alias="schema")


class CodeFile(_Strict):
    """One entry of codes.yaml: the system's codes for one concept."""

    concept: str
    codes: dict[str, str] = Field(min_length=1)
    keep: bool = False
    lost: dict[str, str] = {}
    labels: dict[str, str] = {}


class CodingFile(_Strict):
    """A translation of a standard code into another list."""

    system: str
    code: str
    display: str | None = None


class CodeIn(_Strict):
    """A code of another system than the list's own, or one whose name here is not its code."""

    system: str | None = None
    code: str | None = None
    display: str


class ConceptFile(_Strict):
    """concepts/*.yaml: a standard list."""

    concept: str
    title: str
    system: str
    source: str
    codes: dict[str, str | CodeIn] = Field(min_length=1)
    also: dict[str, list[CodingFile]] = {}


class FieldFile(_Strict):
    """One line of a mapping: a column, a path, and how one becomes the other."""

    column: str
    path: str
    codec: str | None = None
    format: str | None = None
    values: dict[str, Any] = {}
    separator: str = ","
    item: str = "text"
    codes: str | None = None
    reference: str | None = None
    value: Any = None
    only: list[str] = []
    person: str | None = None
    direction: Literal["both", "in"] = "both"

    @model_validator(mode="after")
    def _one_way_of_reading(self) -> FieldFile:
        if sum(kind is not None for kind in (self.codec, self.codes, self.reference, self.value)) > 1:
            raise ValueError("say one of codec, codes, reference and value")
        if self.value is not None and self.direction == "both":
            raise ValueError("a value says nothing to the column: add direction: in")
        if self.only and self.value is None:
            raise ValueError("only says for which cells a value stands: add a value")
        return self


class ConstantFile(_Strict):
    """Content every resource of the mapping has."""

    path: str
    value: Any


class CheckFile(_Strict):
    """A rule between columns."""

    order: list[str] | None = Field(default=None, min_length=2, max_length=2)
    required: list[str] | None = None


class ChildrenFile(_Strict):
    """A child table whose rows are elements of a list."""

    table: str
    parent: str
    key: str
    order: str | None = None
    path: str
    direction: Literal["both", "in"] = "both"
    fields: list[FieldFile] = Field(min_length=1)


class MappingFile(_Strict):
    """<name>.yaml: rows of a table <-> resources of a type."""

    table: str
    key: str
    resource: str
    profile: str | None = None
    person: str | None = None
    when: dict[str, str | list[str]] = {}
    constants: list[ConstantFile] = []
    fields: list[FieldFile] = Field(min_length=1)
    checks: list[CheckFile] = []
    children: list[ChildrenFile] = []
