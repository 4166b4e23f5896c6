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
from tests.journeys import exported, kept
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


@dataclass(frozen=True)
class Loaded:
    """What one undisturbed `fhirgw sync` of a CSV extract makes of an empty database, as it was when that had ended."""

    place: Place
    summary: dict[str, Any]
    errors: str
    state: kept.State


@pytest.fixture(scope="session")
async def loaded(new_database: NewDatabase, demo: Demo) -> AsyncIterator[Loaded]:
    """meadow's CSV extract, taken in undisturbed."""
    async with new_database() as url:
        with temporary() as folder:
            place = Place(folder / "data", url)
            summary = place.done("sync", "meadow", "--from", extract(demo, "meadow"), "--json").document()
            yield Loaded(place, summary, errors(place, "meadow"), await kept.state(url))


def extract(demo: Demo, system: str) -> str:
    """Where a system's CSV extract is, as --from takes it."""
    return f"csv:{demo.data / 'extracts' / system}"


def errors(place: Place, system: str) -> str:
    """The errors file of the last sync there."""
    return (place.data / "errors" / f"{system}.ndjson").read_text()
