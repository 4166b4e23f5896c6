"""Files that appear all together or not at all."""

import fcntl
import hashlib
from pathlib import Path

import orjson
import pytest

from fhirgw.fhir.issue import FhirError
from fhirgw.jobs.files import MANIFEST, Draft, Publication, Unwritable, Written, publication


def names(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir() if not each.name.startswith(".")}


def publish(folder: Path, **files: bytes) -> None:
    with publication(folder) as made:
        put(made, **files)


def put(made: Publication, **files: bytes) -> None:
    """Writes `<name>.ndjson` for each, and publishes them."""
    for name, content in files.items():
        with Draft(made.drafts / f"{name}.ndjson") as draft:
            draft.write(content)
            draft.finish()
    urls = [f"{name}.ndjson" for name in files]
    made.publish(urls, {"output": [{"url": url} for url in urls]})


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
    assert (tmp_path / "a.ndjson").read_bytes() == b"old"
    assert not made.drafts.exists()


def test_a_newer_publication_replaces_an_older_one_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes(b"mine")
    publish(tmp_path, a=b"1", b=b"1")
    publish(tmp_path, b=b"2", c=b"2")
    assert names(tmp_path) == {"b.ndjson", "c.ndjson", "mine.txt", MANIFEST}
    assert (tmp_path / "b.ndjson").read_bytes() == b"2"
    assert {each.name for each in tmp_path.iterdir()} - names(tmp_path) == {".lock"}


def test_a_manifest_names_no_file_that_is_not_an_exports(tmp_path: Path) -> None:
    folder, victim = tmp_path / "folder", tmp_path / "victim.ndjson"
    (folder / "below").mkdir(parents=True)
    kept = (victim, folder / "mine.txt", folder / "below" / "a.ndjson")
    for path in kept:
        path.write_bytes(b"mine")
    (folder / "old.ndjson").write_bytes(b"")
    urls = [str(victim), "../victim.ndjson", "mine.txt", "below/a.ndjson", "", "a\0.ndjson", f"{'x' * 300}.ndjson"]
    listed = [{"url": url} for url in (*urls, "old.ndjson")]
    (folder / MANIFEST).write_bytes(orjson.dumps({"output": listed}))
    publish(folder, a=b"1")
    assert [path.read_bytes() for path in kept] == [b"mine"] * len(kept)
    assert names(folder) == {"a.ndjson", "below", "mine.txt", MANIFEST}


@pytest.mark.parametrize(
    "found", [b"not JSON", b"", b"[1]", b'"x"', b"{}", b'{"output": 7}', b'{"output": [7, {"url": 7}]}']
)
def test_a_manifest_that_is_none_of_ours_is_replaced(tmp_path: Path, found: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(found)
    publish(tmp_path, a=b"1")
    assert orjson.loads((tmp_path / MANIFEST).read_bytes()) == {"output": [{"url": "a.ndjson"}]}


@pytest.mark.parametrize("name", [MANIFEST, "Patient.ndjson"])
def test_a_folder_where_a_file_has_to_go_is_told_before_anything_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(Unwritable, match=rf"{name}: it cannot be written \(Is a directory\)"), publication(tmp_path):
        pytest.fail("it was let in")
    assert not (tmp_path / ".unfinished").exists()


def test_what_a_publication_left_that_was_killed_is_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, a=b"1", b=b"1")

    def killed(folder: Path, name: str, document: object, known: object = Publication._put) -> None:
        if name == MANIFEST:
            raise KeyboardInterrupt
        known(folder, name, document)  # type: ignore[operator]

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Publication, "_put", killed)
        publish(tmp_path, c=b"2", d=b"2")
    assert names(tmp_path) == {"c.ndjson", "d.ndjson"}
    publish(tmp_path, b=b"3")
    assert names(tmp_path) == {"b.ndjson", MANIFEST}


def test_a_lock_that_is_a_link_leads_nowhere(tmp_path: Path) -> None:
    folder, target = tmp_path / "folder", tmp_path / "target"
    folder.mkdir()
    target.write_bytes(b"mine")
    (folder / ".lock").symlink_to(target)
    with pytest.raises(Unwritable, match="symbolic link"):
        publish(folder, a=b"1")
    assert target.read_bytes() == b"mine"


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
