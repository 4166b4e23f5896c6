"""An official FHIR package (`.tgz`) read: its name, its version, and the definitions that the gateway has use for.

What comes is not trusted: nothing is unpacked to disk, sizes are bounded while they are read, and a name that leads out
of the package refuses it. https://confluence.hl7.org/display/FHIR/NPM+Package+Specification
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from fhirgw.fhir.differential import facts_of
from fhirgw.fhir.issue import FhirError, Issue, Resource

LARGEST = 64 << 20
"""Bytes of a package: R4's own has 5 MB."""
LARGEST_UNPACKED = 1 << 30
"""Bytes of a package unpacked: R4's own has 150 MB."""
LARGEST_FILE = 32 << 20
MOST_FILES = 50_000
KINDS = ("StructureDefinition", "ValueSet", "CodeSystem", "ConceptMap")
MANIFEST = "package/package.json"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,127}")
_R4 = re.compile(r"4\.0(\.[0-9]+)?|hl7\.fhir\.r4\.core")


@dataclass(frozen=True)
class Package:
    """A package: `definitions` are the StructureDefinitions, ValueSets, CodeSystems and ConceptMaps in it."""

    name: str
    version: str
    definitions: tuple[Resource, ...]

    @property
    def title(self) -> str:
        return f"{self.name}#{self.version}"

    def count(self, kind: str) -> int:
        return sum(each["resourceType"] == kind for each in self.definitions)


def read(content: bytes) -> Package:
    """The package in these bytes. Raises FhirError that says which file breaks which rule."""
    if len(content) > LARGEST:
        raise refused("too-long", f"It has over {LARGEST >> 20} MB: packages of definitions have less")
    manifest: dict[str, Any] | None = None
    definitions: list[Resource] = []
    try:
        for name, body in files(content):
            if name == MANIFEST:
                manifest = parsed(name, body)
            elif (found := definition(name, body)) is not None:
                definitions.append(found)
    except (tarfile.TarError, EOFError, OSError, zlib.error):
        raise refused("structure", "It is no .tgz, or is cut short: fetch it again") from None
    if manifest is None:
        raise refused("structure", f"It has no {MANIFEST}: a FHIR package says there what it is")
    title, version = manifest.get("name"), manifest.get("version")
    if not all(isinstance(each, str) and _NAME.fullmatch(each) for each in (title, version)):
        raise refused("value", f"{MANIFEST} has no usable name and version")
    _is_r4(manifest)
    return Package(str(title), str(version), tuple(definitions))


def files(content: bytes) -> Iterator[tuple[str, bytes]]:
    """The JSON files of the package's own folder, in their order."""
    with tarfile.open(fileobj=Bounded(content), mode="r|") as archive:
        for count, member in enumerate(archive):
            name = member.name.removeprefix("./")
            if name.startswith("/") or "\\" in name or ".." in name.split("/"):
                raise refused("security", "A file's name leads out of the package: do not use it")
            if not (member.isfile() or member.isdir()):
                raise refused("security", "It holds a link or a device: a package holds files")
            if count >= MOST_FILES or member.size > LARGEST_FILE:
                raise refused("too-long", f"It holds over {MOST_FILES:,} files, or one of over {LARGEST_FILE >> 20} MB")
            if member.isfile() and name.startswith("package/") and name.count("/") == 1 and name.endswith(".json"):
                held = archive.extractfile(member)
                yield name, held.read() if held else b""


class Bounded(io.RawIOBase):
    """A gzip's content as it is unpacked, until there is too much of it."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at, self.given = content, 0, 0
        self.unpacking = zlib.decompressobj(wbits=31)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = size if size > 0 else 1 << 16
        made = b""
        while not made and not self.unpacking.eof:
            held = self.unpacking.unconsumed_tail
            if not held:
                held, self.at = self.content[self.at : self.at + 65_536], self.at + 65_536
                if not held:
                    raise EOFError
            made = self.unpacking.decompress(held, wanted)
        self.given += len(made)
        if self.given > LARGEST_UNPACKED:
            raise refused("too-long", f"Unpacked it has over {LARGEST_UNPACKED >> 20} MB: do not use it")
        return made


def definition(name: str, body: bytes) -> Resource | None:
    """The definition in a file, if it is one that can be used. Raises FhirError for one that is misshapen."""
    if name.rpartition("/")[2].startswith("."):
        return None
    found = parsed(name, body)
    if found.get("resourceType") not in KINDS:
        return None
    if not isinstance(found.get("url"), str):
        return None
    try:
        facts_of(found)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        raise refused("structure", f"{_shown(name)} is not a {found['resourceType']} that can be read") from None
    return found


def parsed(name: str, body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise refused("structure", f"{_shown(name)} is not JSON") from None
    if not isinstance(found, dict):
        raise refused("structure", f"{_shown(name)} is not a JSON object")
    return found


def _is_r4(manifest: dict[str, Any]) -> None:
    said = manifest.get("fhirVersions") or manifest.get("fhir-version-list") or []
    depends = manifest.get("dependencies")
    named = [*said] if isinstance(said, list) else [said]
    if named and not any(isinstance(each, str) and _R4.match(each) for each in named):
        raise refused("not-supported", "It is for another version of FHIR: this gateway is R4 (4.0.1)")
    core = [each for each in depends if str(each).startswith("hl7.fhir.r")] if isinstance(depends, dict) else []
    if not named and any(each.endswith(".core") for each in core) and "hl7.fhir.r4.core" not in core:
        raise refused("not-supported", "It rests on another version of FHIR: this gateway is R4 (4.0.1)")


def _shown(name: str) -> str:
    """A file's name, if it can be shown."""
    bare = name.rpartition("/")[2]
    return bare if re.fullmatch(r"[\w.\-]{1,120}", bare, re.ASCII) else "A file"


def refused(code: str, text: str) -> FhirError:
    return FhirError(Issue(code, f"The package cannot be used. {text}"))
