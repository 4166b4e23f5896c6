"""The FHIR packages an operator added: kept as they came, in `packages` in the data folder, loaded at each start."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

from fhirgw.fhir import profile
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.terminology.definitions import carry
from fhirgw.validation.package import LARGEST, Package, read


def folder(data: Path) -> Path:
    """Where they are kept."""
    return data / "packages"


def add(data: Path, file: Path) -> Package:
    """Keeps a copy of the package in the file, in place of one of the same name. Raises FhirError, OSError."""
    if file.stat().st_size > LARGEST:
        raise FhirError(Issue("too-long", f"The package cannot be used. It has over {LARGEST >> 20} MB"))
    content = file.read_bytes()
    package = read(content)
    kept = folder(data)
    kept.mkdir(parents=True, exist_ok=True)
    before = list(_named(data, package.name))
    written = kept / f".{uuid4()}"
    try:
        written.write_bytes(content)
        written.replace(kept / f"{package.title}.tgz")
    finally:
        written.unlink(missing_ok=True)
    for each in before:
        if each.name != f"{package.title}.tgz":
            each.unlink()
    return package


def listed(data: Path) -> list[Package]:
    """Those that are kept, by name. Raises FhirError that names the file which can no longer be read."""
    return [_read(path) for path in sorted(folder(data).glob("*.tgz"))]


def remove(data: Path, name: str) -> bool:
    """Takes the package of that name away; whether there was one."""
    found = list(_named(data, name.partition("#")[0]))
    for each in found:
        with contextlib.suppress(FileNotFoundError):
            each.unlink()
    return bool(found)


def load(data: Path) -> list[Package]:
    """Makes the definitions of all that are kept known to this process."""
    packages = listed(data)
    if packages:
        definitions = [each for package in packages for each in package.definitions]
        carry(definitions)
        profile.add(definitions)
    return packages


def _read(path: Path) -> Package:
    try:
        return read(path.read_bytes())
    except FhirError as error:
        raise FhirError(Issue(error.issues[0].code, f"{path.name}: {error.issues[0].diagnostics}")) from None


def _named(data: Path, name: str) -> Iterator[Path]:
    return (path for path in folder(data).glob("*.tgz") if path.name.partition("#")[0] == name)
