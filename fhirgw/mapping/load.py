"""Reads mappings/: every fault at once, each with file and line; then mappings ready to run.

A declaration is refused when it is loaded, not when a row meets it: a path the standard does not have, a column or a
path used twice, a code map that loses something without saying so, a reference to a mapping that is not there.
`judge` also tries each mapping on a sample row and has the outcome judged by R4 and the profiles (fhirgw.validation).

Long, because every fault a declaration can have is told here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from collections.abc import Mapping as ReadOnly
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from yaml import YAMLError

from fhirgw.fhir.issue import Resource
from fhirgw.mapping.build import Builder, Problem
from fhirgw.mapping.concept import CodeMap, Concept
from fhirgw.mapping.declaration import CodeFile, ConceptFile, MappingFile, SystemFile
from fhirgw.mapping.identity import PERSON, Identifiers
from fhirgw.mapping.mapping import Mapping
from fhirgw.mapping.positions import Location, Positioned

Declared = TypeVar("Declared", bound=BaseModel)
Judge = Callable[[Mapping], Iterator[str]]
"""Says what is wrong with a mapping: see fhirgw.mapping.sample."""


@dataclass(frozen=True, slots=True, order=True)
class MappingFault:
    """One thing wrong with a declaration."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


class MappingFaults(Exception):
    """All that is wrong with the declarations."""

    def __init__(self, faults: list[MappingFault]) -> None:
        super().__init__("\n".join(map(str, sorted(faults))))
        self.faults = sorted(faults)


@dataclass(frozen=True)
class SystemDefinition:
    """A system of record: how it is read, its code maps, and its mappings in the order in which they are loaded."""

    declared: SystemFile
    ids: Identifiers
    codes: ReadOnly[str, CodeMap]
    mappings: ReadOnly[str, Mapping]

    @property
    def name(self) -> str:
        """The system's name, which is its folder's."""
        return self.declared.system

    def tables(self) -> dict[str, list[Mapping]]:
        """The mappings by the table they read."""
        found: dict[str, list[Mapping]] = {}
        for mapping in self.mappings.values():
            found.setdefault(mapping.table, []).append(mapping)
        return found


@dataclass(frozen=True)
class Definitions:
    """All systems of record, and the standard lists they share."""

    systems: ReadOnly[str, SystemDefinition]
    concepts: ReadOnly[str, Concept]


@dataclass
class _Reading:
    folder: Path
    faults: list[MappingFault] = field(default_factory=list)

    def fault(self, file: Path, line: int, message: str) -> None:
        self.faults.append(MappingFault(str(file.relative_to(self.folder.parent)), line, message))

    def open(self, file: Path) -> Positioned | None:
        try:
            read = Positioned(file)
        except (YAMLError, UnicodeDecodeError) as error:
            mark = getattr(error, "problem_mark", None)
            self.fault(
                file,
                mark.line + 1 if mark else 1,
                f"not readable as YAML: {getattr(error, 'problem', error)}",
            )
            return None
        except OSError:
            self.fault(file, 1, "the file is missing or cannot be read")
            return None
        for line, key in read.repeated:
            self.fault(file, line, f"{key} stands here for the second time")
        return read

    def parse(self, read: Positioned, shape: type[Declared], at: Location = (), data: Any = None) -> Declared | None:
        try:
            return shape.model_validate(read.data if data is None else data)
        except ValidationError as error:
            for each in error.errors(include_url=False, include_input=False):
                place = (*at, *each["loc"])
                named = ".".join(str(part) for part in place)
                self.fault(read.file, read.line(place), f"{named}: {each['msg']}")
            return None


def load(folder: Path, judge: Judge | None = None) -> Definitions:
    """Everything under mappings/; MappingFaults with all that is wrong. `judge` adds a verdict on each mapping."""
    reading = _Reading(folder)
    if not folder.is_dir():
        raise MappingFaults([MappingFault(str(folder), 1, "there is no such folder of mappings")])
    concepts = _concepts(reading)
    systems: dict[str, SystemDefinition] = {}
    for file in sorted(folder.glob("*/system.yaml")):
        definition = _system(reading, file, concepts, judge)
        if definition is not None:
            systems[definition.name] = definition
    if not systems and not reading.faults:
        reading.fault(folder / "system.yaml", 1, "no folder here holds a system.yaml")
    if reading.faults:
        raise MappingFaults(reading.faults)
    return Definitions(systems, concepts)


def _concepts(reading: _Reading) -> dict[str, Concept]:
    found: dict[str, Concept] = {}
    for file in sorted((reading.folder / "concepts").glob("*.yaml")):
        read = reading.open(file)
        declared = read and reading.parse(read, ConceptFile)
        if declared and declared.concept != file.stem:
            reading.fault(file, 1, f"the file is called {file.stem}, the concept {declared.concept}")
        elif declared:
            for code in sorted(set(declared.also) - set(declared.codes)):
                reading.fault(
                    file, read.line(("also", code)) if read else 1, f"also names {code}, which codes does not have"
                )
            also = {
                code: tuple(each.model_dump(exclude_none=True) for each in codings)
                for code, codings in declared.also.items()
            }
            found[declared.concept] = Concept(declared.concept, dict(_codings(declared)), also)
    return found


def _codings(declared: ConceptFile) -> Iterator[tuple[str, Resource]]:
    for name, said in declared.codes.items():
        if isinstance(said, str):
            yield name, {"system": declared.system, "code": name, "display": said}
        else:
            yield name, {"system": said.system or declared.system, "code": said.code or name, "display": said.display}


def _system(
    reading: _Reading,
    file: Path,
    concepts: dict[str, Concept],
    judge: Judge | None,
) -> SystemDefinition | None:
    read = reading.open(file)
    declared = read and reading.parse(read, SystemFile)
    if not declared:
        return None
    if declared.system != file.parent.name:
        reading.fault(file, 1, f"the folder is called {file.parent.name}, the system {declared.system}")
    codes = _codes(reading, file.parent / "codes.yaml", declared, concepts)
    files, unread = _mapping_files(reading, file.parent)
    ids = Identifiers(declared.system)
    builder = Builder(declared, ids, codes, {name: mapping for name, (_, mapping) in files.items()}, unread)
    mappings: dict[str, Mapping] = {}
    for name in sorted(files, key=lambda name: _turn(name, files[name][1])):
        opened, _ = files[name]
        made = _build(reading, builder, name, opened)
        if made is not None:
            mappings[name] = made
            for message in judge(made) if judge else ():
                reading.fault(opened.file, 1, message)
    if files and PERSON not in files and PERSON not in unread:
        reading.fault(file, 1, f"a system needs a mapping called {PERSON} that makes its people into Patients")
    return SystemDefinition(declared, ids, codes, mappings)


def _mapping_files(reading: _Reading, folder: Path) -> tuple[dict[str, tuple[Positioned, MappingFile]], frozenset[str]]:
    """The mapping files of a system by name, and the names of those with faults of their own."""
    files: dict[str, tuple[Positioned, MappingFile]] = {}
    unread: set[str] = set()
    for each in sorted(folder.glob("*.yaml")):
        if each.name in ("system.yaml", "codes.yaml"):
            continue
        opened = reading.open(each)
        mapping = opened and reading.parse(opened, MappingFile)
        if opened and mapping:
            files[each.stem] = (opened, mapping)
        else:
            unread.add(each.stem)
    return files, frozenset(unread)


def _turn(name: str, mapping: MappingFile) -> tuple[int, str]:
    """Reference data first, then people, then what is about them."""
    return (1 if name == PERSON else 2 if mapping.person else 0, name)


def _build(reading: _Reading, builder: Builder, name: str, opened: Positioned) -> Mapping | None:
    problems: list[Problem] = []
    fingerprint = hashlib.sha256(opened.file.read_bytes() + builder.context).hexdigest()[:16]
    made = builder.build(name, fingerprint, problems)
    for problem in problems:
        reading.fault(opened.file, opened.line(problem.location), problem.message)
    return made


def _codes(reading: _Reading, file: Path, system: SystemFile, concepts: dict[str, Concept]) -> dict[str, CodeMap]:
    found: dict[str, CodeMap] = {}
    read = reading.open(file) if file.exists() else None
    for name, data in read.data.items() if read else ():
        assert read is not None
        declared = reading.parse(read, CodeFile, (name,), data)
        if declared is None:
            continue
        concept = concepts.get(declared.concept)
        if concept is None:
            reading.fault(file, read.line((name, "concept")), f"there is no concepts/{declared.concept}.yaml")
            continue
        made = CodeMap(
            name,
            concept,
            declared.codes,
            f"{system.namespace}/codes/{name}",
            declared.keep,
            declared.lost,
            declared.labels,
        )
        for code, message in _code_faults(made):
            reading.fault(file, read.line((name, "codes", code)), message)
        found[name] = made
    return found


def _code_faults(codes: CodeMap) -> Iterator[tuple[str, str]]:
    for source, target in codes.codes.items():
        if target not in codes.concept.standard:
            yield source, f"{target} is no code of the concept {codes.concept.name}"
    for source in sorted(codes.merged() - set(codes.lost)):
        yield (
            source,
            f"{source} shares its target with another code: name under lost what the standard cannot say",
        )
    for source in sorted(set(codes.lost) - set(codes.codes)):
        yield source, f"lost names {source}, which codes does not have"
