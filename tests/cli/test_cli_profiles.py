"""FHIR packages on the command line: added, listed, removed; and refused where they cannot be used."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from tests.cli.conftest import Command
from tests.validation.test_validation_package import GOOD, packed


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "elsewhere.tgz"
    path.write_bytes(packed(GOOD))
    return str(path)


def test_a_package_is_added_listed_and_removed(command: Command, file: str) -> None:
    added = command("profiles", "add", file)
    counts = "1 profiles, 1 value sets, 0 code systems"
    assert added.code == 0
    assert added.out.strip() == f"Added elsewhere.profiles#1.0.0: {counts}. Restart servers to validate by it."
    listed = command("profiles", "ls", "--json")
    assert orjson.loads(listed.out) == {
        "packages": [
            {"name": "elsewhere.profiles", "version": "1.0.0", "profiles": 1, "value_sets": 1, "code_systems": 0}
        ]
    }
    assert command("profiles", "remove", "elsewhere.profiles").code == 0
    assert orjson.loads(command("profiles", "ls", "--json").out) == {"packages": []}


def test_what_cannot_be_used_is_told(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "x.tgz"
    path.write_bytes(b"no package")
    refused = command("profiles", "add", str(path))
    assert (refused.code, refused.out) == (3, "")
    assert "The package cannot be used. It is no .tgz, or is cut short: fetch it again" in refused.err
    assert command("profiles", "add", str(tmp_path / "none.tgz")).code == 2
    missing = command("profiles", "remove", "nobody")
    assert missing.code == 3 and "fhirgw profiles ls" in missing.err
