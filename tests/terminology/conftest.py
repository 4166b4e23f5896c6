"""Where the published definitions are that these tests judge by."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fhirgw.terminology import definitions

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def data() -> Path:
    """The reference data, beside the repository: `../shared/data`."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not (folder / "r4" / "hl7.fhir.r4.core-4.0.1.tgz").is_file():
        pytest.fail(
            "The published FHIR definitions are not at ../shared/data beside the repository: these tests compare with "
            "them. profiles/README.md says where they come from.",
            pytrace=False,
        )
    return folder


@pytest.fixture(scope="module", autouse=True)
def carried_as_before() -> Iterator[None]:
    """What a module's tests carry besides goes with them."""
    before = dict(definitions._added)
    yield
    definitions._added.clear()
    definitions._added.update(before)
    definitions.carry([])
