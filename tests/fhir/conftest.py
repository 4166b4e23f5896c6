"""Where the published definitions and examples are that these tests judge by."""

from __future__ import annotations

from pathlib import Path

import pytest

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
