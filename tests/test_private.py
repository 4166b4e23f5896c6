"""What holds records is this account's alone, whatever the umask says."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fhirgw.council.generate import generate
from fhirgw.council.layouts import LAYOUTS
from fhirgw.jobs.files import MANIFEST, Draft, publication
from fhirgw.private import private_folder, private_text
from fhirgw.systems.made_up import to_csv


@pytest.fixture(autouse=True)
def careless() -> Iterator[None]:
    """An account that lets everybody read."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_and_a_file_are_closed_to_others(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("old")
    assert mode(plain) == 0o666  # what they would be otherwise
    assert mode(private_folder(tmp_path / "a" / "b")) == 0o700
    with private_text(plain) as file:
        file.write("new")
    assert (mode(plain), plain.read_text()) == (0o600, "new")


def test_a_pipe_is_left_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o666)
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with private_text(tmp_path / "pipe") as file:
        file.write("x")
    os.close(reading)
    assert mode(tmp_path / "pipe") == 0o666


def test_an_export_and_an_extract_are_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    with publication(folder) as made:
        with Draft(made.drafts / "Patient.ndjson") as draft:
            draft.write(b"{}\n")
            draft.finish()
        made.publish(["Patient.ndjson"], {"output": []})
    to_csv(tmp_path / "extract", LAYOUTS["meadow"], generate(5), lambda *told: None)
    for place in (folder, tmp_path / "extract"):
        assert mode(place) == 0o700
        assert {mode(each) for each in place.iterdir()} == {0o600}
    assert (folder / MANIFEST).exists() and list((tmp_path / "extract").glob("*.csv"))
