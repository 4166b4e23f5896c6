"""NDJSON as it comes: every line once, with its number and its place, however it is packed, wherever it breaks off."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from fhirgw.jobs.lines import LINES, Batch, Unreadable, batches

TEXTS = [b'{"n":%d}' % n for n in range(3 * LINES)]
WHOLE = b"\n".join(TEXTS) + b"\n"


def read(path: Path, longest: int = 1000, place: int = 0, line: int = 1) -> tuple[list[Batch], str]:
    """The batches, and why there are no more."""
    found: list[Batch] = []
    try:
        found.extend(batches(path, longest, place, line))
    except Unreadable as error:
        return found, str(error)
    return found, ""


def numbered(found: list[Batch]) -> list[tuple[int, bytes]]:
    return [line for batch in found for line in batch.lines]


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "data",
    [
        WHOLE,
        WHOLE.rstrip(),
        b"\xef\xbb\xbf" + WHOLE,
        WHOLE.replace(b"\n", b"\r\n"),
        gzip.compress(WHOLE, mtime=0),
        gzip.compress(WHOLE[:999], mtime=0) + gzip.compress(WHOLE[999:], mtime=0) + bytes(512),
    ],
    ids=["plain", "no last newline", "BOM", "CRLF", "gzip", "gzip in two members, padded"],
)
def test_every_line_comes_once_with_its_number(tmp_path: Path, data: bytes) -> None:
    found, failure = read(written(tmp_path / "x.ndjson", data))
    assert numbered(found) == list(enumerate(TEXTS, 1))
    assert (failure, len(found) > 2) == ("", True)


@pytest.mark.parametrize("packed", [False, True])
def test_whoever_goes_on_at_a_place_reads_the_rest(tmp_path: Path, packed: bool) -> None:
    path = written(tmp_path / "x.ndjson", gzip.compress(WHOLE) if packed else WHOLE)
    first = next(batches(path, 1000))
    rest, failure = read(path, place=first.place, line=first.line)
    assert [*numbered([first]), *numbered(rest)] == list(enumerate(TEXTS, 1))
    assert failure == ""
    gone, failure = read(written(path, path.read_bytes()[:0] + b"{}\n"), place=first.place, line=first.line)
    assert (numbered(gone), failure.partition(":")[0]) == ([], "It is shorter than it was when it was begun")


def test_blank_lines_are_counted_and_say_nothing(tmp_path: Path) -> None:
    found, _ = read(written(tmp_path / "x.ndjson", b"\n{}\n  \n\r\n{}"))
    assert numbered(found) == [(2, b"{}"), (5, b"{}")]


def test_a_line_that_is_too_long_is_told_and_passed_over_in_little_memory(tmp_path: Path) -> None:
    path = written(tmp_path / "x.ndjson", b'{"a":1}\n"' + b"x" * 50_000_000 + b'"\n{"b":2}\n')
    found, failure = read(path, longest=16_000_000)
    (refused,) = [each for batch in found for each in batch.refused]
    assert (numbered(found), failure) == ([(1, b'{"a":1}'), (3, b'{"b":2}')], "")
    assert refused[0] == 2
    assert refused[1].code == "too-long"
    assert "16,000,000 bytes" in refused[1].diagnostics
    assert found[-1].place == path.stat().st_size


def test_a_line_without_an_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few kilobytes, packed, would keep a worker for hours; what precedes it is taken."""
    monkeypatch.setattr("fhirgw.jobs.lines.ENDLESS", 3_000_000)
    for size, whole in ((2_000_000, True), (9_000_000, False)):
        bomb = gzip.compress(b'{"a":1}\n' + b"x" * size + b'\n{"b":2}\n')
        found, failure = read(written(tmp_path / "x.ndjson.gz", bomb), longest=1_000_000)
        assert numbered(found) == ([(1, b'{"a":1}'), (3, b'{"b":2}')] if whole else [(1, b'{"a":1}')])
        assert failure.startswith("" if whole else "It has a line of over 3,000,000 bytes")
        assert bool(failure) is not whole


def test_what_precedes_the_break_is_read_wherever_gzip_breaks_off(tmp_path: Path) -> None:
    chance = random.Random(5)
    texts = [b'{"n":%d}' % chance.getrandbits(64) for _ in range(900)]
    whole = gzip.compress(b"\n".join(texts))
    for cut in [1, 2, 10, 18, *chance.sample(range(18, len(whole)), 20), len(whole) - 8, len(whole) - 1]:
        found, failure = read(written(tmp_path / "x.ndjson", whole[:cut]))
        lines = numbered(found)
        if cut == 1:  # nothing says yet that it is gzip: it is a line, and no JSON
            assert lines == [(1, whole[:1])]
            continue
        assert lines == list(enumerate(texts, 1))[: len(lines)]
        assert failure.startswith(f"After line {len(lines):,} it is not what gzip packs, or ends before that does")
    assert len(lines) >= 899  # of the last, all but the checksum is there
    assert read(written(tmp_path / "x.ndjson", whole))[1] == ""


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("x.ndjson", b"PAR1\x15\x04", "It is no NDJSON but Parquet"),
        ("x.ndjson", b"PK\x03\x04xx", "It is no NDJSON but a ZIP archive: unpack it"),
        ("x.ndjson", "{}".encode("utf-16"), "It is no NDJSON but in UTF-16"),
        ("x.ndjson", b"[{}]", "It is no NDJSON but a JSON list"),
        ("x.ndjson", b"<html>", "It is no NDJSON but XML or HTML"),
        ("x.ndjson", b'{\n  "resourceType": "Patient"\n}', "It is no NDJSON but JSON over several lines"),
        ("x.ndjson.gz", gzip.compress(b"PAR1", mtime=0), "It is no NDJSON but Parquet"),
        ("x.ndjson.gz", b'{"a":1}\n', "By its name it is packed by gzip, and it is not"),
    ],
)
def test_a_file_that_is_not_what_it_says_is_not_read(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    found, failure = read(written(tmp_path / name, data))
    assert (numbered(found), failure[: len(told)]) == ([], told)


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    assert read(written(tmp_path / "x.ndjson", b""))[1] == ""


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert read(tmp_path / "none")[1] == "It cannot be read (No such file or directory)"
