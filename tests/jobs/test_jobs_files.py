"""Files that appear all together or not at all."""

import fcntl
import hashlib
from pathlib import Path

import orjson
import pytest

from fhirgw.fhir.issue import FhirError
from fhirgw.jobs.files import MANIFEST, Draft, Unwritable, Written, publication


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir() if not each.name.startswith(".")}


def publish(folder: Path, **files: bytes) -> None:
    with publication(folder) as made:
        for name, content in files.items():
            with Draft(made.drafts / name) as draft:
                draft.write(content)
                draft.finish()
        made.publish(list(files), {"output": [{"url": name} for name in files]})


def test_a_draft_is_counted_and_hashed_as_it_goes(tmp_path: Path) -> None:
    with Draft(tmp_path / "a") as draft:
        for chunk in (b"one\ntw", b"o\n"):
            draft.write(chunk)
        assert draft.finish() == Written("a", 2, 8, hashlib.sha256(b"one\ntwo\n").hexdigest())
    assert (tmp_path / "a").read_bytes() == b"one\ntwo\n"


def test_nothing_is_there_until_it_is_published(tmp_path: Path) -> None:
    with publication(tmp_path) as made:
        (made.drafts / "a").write_bytes(b"x")
        assert names(tmp_path) == set()
        made.publish(["a"], {"output": [{"url": "a"}]})
    assert names(tmp_path) == {"a", MANIFEST}
    assert orjson.loads((tmp_path / MANIFEST).read_bytes()) == {"output": [{"url": "a"}]}


def test_what_breaks_off_leaves_what_was_there(tmp_path: Path) -> None:
    publish(tmp_path, a=b"old")
    with pytest.raises(ZeroDivisionError), publication(tmp_path) as made:
        (made.drafts / "a").write_bytes(b"new")
        raise ZeroDivisionError
    assert (tmp_path / "a").read_bytes() == b"old"
    assert not made.drafts.exists()


def test_a_newer_publication_replaces_an_older_one_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes(b"mine")
    publish(tmp_path, a=b"1", b=b"1")
    publish(tmp_path, b=b"2", c=b"2")
    assert names(tmp_path) == {"b", "c", "mine.txt", MANIFEST}
    assert (tmp_path / "b").read_bytes() == b"2"


def test_leftovers_of_a_killed_process_are_cleared(tmp_path: Path) -> None:
    (tmp_path / ".unfinished").mkdir()
    (tmp_path / ".unfinished" / "a").write_bytes(b"half")
    publish(tmp_path, b=b"1")
    assert not (tmp_path / ".unfinished").exists()


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FhirError, match="another export is being written here"), publication(tmp_path):
            pytest.fail("it was let in")
    publish(tmp_path, a=b"1")


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unwritable, match=r"file: it cannot be written \(File exists\)\. Make room"):
        publish(tmp_path / "file", a=b"1")


def test_a_full_disk_is_told() -> None:
    with Draft(Path("/dev/full")) as draft, pytest.raises(Unwritable, match="No space left on device"):
        draft.write(b"x")
