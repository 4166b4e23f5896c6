"""One made-up council, walked through the gateway once and looked at by all journeys."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fhirgw.council.council import Council
from fhirgw.council.expected import Expected, expected
from fhirgw.council.generate import generate
from fhirgw.council.layouts import LAYOUTS
from tests.conftest import NewDatabase, temporary
from tests.journeys import exported
from tests.journeys.command import Finished, Place

PEOPLE, SEED = 120, 1
COMMAND = ("demo", "--people", PEOPLE, "--seed", SEED)


@dataclass(frozen=True)
class Demo:
    """What `fhirgw demo --once --json` left: its folder, what it said, and its first export by type."""

    place: Place
    said: Finished
    export: dict[str, list[exported.Resource]]
    contents: dict[str, str]

    @property
    def data(self) -> Path:
        return self.place.data

    @property
    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = self.said.document()
        return found


@pytest.fixture(scope="session")
def council() -> Council:
    """The people and facts that the demonstration makes up."""
    return generate(PEOPLE, SEED)


@pytest.fixture(scope="session")
def meant(council: Council) -> dict[str, Expected]:
    """What must come of them, by layout."""
    return {name: expected(council, layout) for name, layout in LAYOUTS.items()}


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """The demonstration, made once."""
    with temporary() as folder:
        place = Place(folder / "data")
        said = place.done(*COMMAND, "--once", "--json", "--data", place.data)
        yield Demo(place, said, exported.files(place.data / "export"), exported.contents(place.data / "export"))


@pytest.fixture(scope="session")
async def elsewhere(new_database: NewDatabase) -> AsyncIterator[Place]:
    """A place with a migrated database that nothing is in, for the CSV extracts of the same council."""
    async with new_database() as url:
        with temporary() as folder:
            yield Place(folder / "data", url)
