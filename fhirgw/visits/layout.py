"""How a care provider's spreadsheet, or a council's import layout, says visits: a file, and no Python.

    mappings/<layout>/visits.yaml

Each field of a visit (fhirgw.visits.field) names the columns it is read from. What a cell says is judged where JSON is
judged; here it only becomes JSON, so that a spreadsheet and an API say the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fhirgw.visits.field import Shape
from fhirgw.visits.reading import OWN

FILE = "visits.yaml"
STANDARD = "homecare"
"""The layout of whoever names none, and has none of its own: a spreadsheet to begin with."""
PATH = re.compile(r"([a-zA-Z]+)(?:\[(\d)\])?(?:\.([a-zA-Z]+))?")
"""`visit`, `planned.start`, `carers[1].start`."""


class Source(BaseModel):
    """Where a field is read: a cell as it is; a date and a time of day; minutes after another field; or a constant.

    `after`: a field that this one comes after: a time of day that does not is the next day's; `minutes` are counted
    from it. `near`: a field that this one is near: the date is that field's, and about midnight this one may be of the
    day before or the next. `codes` leads the cells that are known to our words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str | None = None
    kind: Literal["text", "integer", "decimal", "boolean", "moment"] = "text"
    codes: dict[str, str | bool] | None = None
    date: str | None = None
    time: str | None = None
    minutes: str | None = None
    after: str | None = None
    near: str | None = None
    value: str | int | bool | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Source:
        ways = (self.column, self.date or self.time, self.minutes, self.value)
        if sum(each is not None for each in ways) != 1:
            raise ValueError("a field is read from a column, a date and a time, minutes, or is a value: one of these")
        if (self.date is None) != (self.time is None):
            raise ValueError("a date and a time go together: for a column with both, kind: moment")
        if self.minutes and not self.after:
            raise ValueError("minutes are counted after another field: name it")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it is read from."""
        return tuple(each for each in (self.column, self.date, self.time, self.minutes) if each)


class Layout(BaseModel):
    """A layout as it is declared. `providers`: the ODS codes of those whose own it is.

    `dates`: which comes first where a date is written with strokes; `short_years`: whether 25 is 2025. `required`:
    fields without which a file is not of this layout. `file`: the column with the file's own reference.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    layout: str
    title: str
    providers: tuple[str, ...] = ()
    dates: Literal["day-first", "iso"] = "day-first"
    short_years: bool = False
    file: str | None = None
    required: tuple[str, ...] = ("visit",)
    fields: dict[str, Source] = Field(min_length=1)

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column, once."""
        named = [each for source in self.fields.values() for each in source.columns]
        return tuple(dict.fromkeys([*([self.file] if self.file else []), *named]))

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that a file of this layout has."""
        named = [each for field in self.required for each in self.fields[field].columns]
        return tuple(dict.fromkeys([*([self.file] if self.file else []), *named]))


class LayoutFaults(ValueError):
    """All that is wrong with the layouts, each with its file."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


def layouts(folder: Path, shapes: Mapping[str, Shape]) -> dict[str, Layout]:
    """Every layout below mappings/, by name. Raises LayoutFaults with all that is wrong."""
    found: dict[str, Layout] = {}
    faults: list[str] = []
    for file in sorted(folder.glob(f"*/{FILE}")):
        place = f"{folder.name}/{file.parent.name}/{FILE}"
        try:
            layout = Layout.model_validate(yaml.safe_load(file.read_text()))
        except ValidationError as error:
            told = error.errors(include_url=False, include_input=False)
            faults += [f"{place}: {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in told]
            continue
        except yaml.YAMLError as error:
            faults.append(f"{place}: not readable as YAML: {getattr(error, 'problem', error)}")
            continue
        faults += [f"{place}: {each}" for each in _faults(layout, file.parent.name, shapes)]
        found[layout.layout] = layout
    owners = [code for each in found.values() for code in each.providers]
    faults += [f"{folder.name}: {code} has two layouts of its own" for code in set(owners) if owners.count(code) > 1]
    if faults:
        raise LayoutFaults(faults)
    return found


def _faults(layout: Layout, folder: str, shapes: Mapping[str, Shape]) -> Iterator[str]:
    if layout.layout != folder:
        yield f"the folder is called {folder}, the layout {layout.layout}"
    for path, source in layout.fields.items():
        if not _is_field(path, shapes):
            yield f"fields.{path}: a visit has no such field"
        for named in (source.after, source.near):
            if named and named not in layout.fields:
                yield f"fields.{path}: there is no {named} for it to come after, or be near"
    for path in layout.required:
        if path not in layout.fields:
            yield f"required: {path} is read from no column"


def _is_field(path: str, shapes: Mapping[str, Shape]) -> bool:
    found = PATH.fullmatch(path)
    if found is None:
        return False
    part, at, name = found.groups()
    if part not in shapes:
        return path in OWN
    return shapes[part].many == (at is not None) and name in shapes[part].fields


def own(known: Mapping[str, Layout], provider: str) -> Layout:
    """The layout of a care provider that names none."""
    return next((each for each in known.values() if provider in each.providers), known[STANDARD])


def split(path: str) -> tuple[str, int | None, str | None]:
    """`carers[1].start` as its part, place and name."""
    found = PATH.fullmatch(path)
    assert found is not None, "layouts() has looked"
    part, at, name = found.groups()
    return part, None if at is None else int(at), name


def sources(layout: Layout) -> dict[str, tuple[str, ...]]:
    """By the path of a field, the columns it is read from; of what holds it, all of theirs; of a list, each first."""
    found: dict[str, tuple[str, ...]] = {}
    first: dict[str, str] = {}
    for path, source in layout.fields.items():
        part, at, _ = split(path)
        whole = part if at is None else f"{part}[{at}]"
        leads = first.setdefault(whole, path) == path
        for each in dict.fromkeys((path, whole, part) if at is None or leads else (path, whole)):
            found[each] = tuple(dict.fromkeys((*found.get(each, ()), *source.columns)))
    return found


Row = dict[str, Any]
