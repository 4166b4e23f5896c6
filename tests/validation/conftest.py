"""Where the published definitions and examples are that these tests judge by; what is in the repository."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhirgw.fhir import profile
from fhirgw.fhir.issue import Resource

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def data() -> Path:
    """The reference data, beside the repository: `../shared/data`."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not (folder / "r4" / "hl7.fhir.r4.core-4.0.1.tgz").is_file():
        pytest.fail("The published FHIR definitions are not at ../shared/data: profiles/README.md says whence", False)
    return folder


@pytest.fixture
def added() -> Iterator[None]:
    """Takes back what a test adds to the profiles."""
    yield
    profile.drop()


def golden() -> Iterator[tuple[str, Resource]]:
    """Each resource that the mappings' golden files have, with the name of its mapping."""
    for path in sorted((REPOSITORY / "mappings").glob("*/*.golden.json")):
        for pair in json.loads(path.read_text("utf-8")):
            made = pair.get("resource")
            for each in made if isinstance(made, list) else [made] if made else []:
                yield path.name.removesuffix(".golden.json"), each
