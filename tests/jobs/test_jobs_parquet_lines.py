"""Resources in Parquet: every row once, with its number, whoever wrote the file; and what is no such file, told."""

from __future__ import annotations

import json
import random
import resource
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fhirgw.jobs.lines import LINES, Batch, Unreadable, batches

TEXTS = [json.dumps({"n": n, "note": "é" * (n % 7)}, ensure_ascii=False) for n in range(3 * LINES + 7)]
NUMBERED = [(at, text.encode()) for at, text in enumerate(TEXTS, 1)]


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


def written(folder: Path, columns: dict[str, Any], **how: Any) -> Path:
    path = folder / "x.parquet"
    pq.write_table(pa.table(columns), path, **how)
    return path


@pytest.mark.parametrize(
    ("columns", "how"),
    [
        ({"resource": TEXTS}, {}),
        ({"id": ["x"] * len(TEXTS), "resource": TEXTS, "size": [1] * len(TEXTS)}, {"row_group_size": 100}),
        ({"value": TEXTS[::-1], "body": TEXTS}, {"compression": "none", "use_dictionary": False}),
        ({"anything": TEXTS}, {"compression": "zstd", "data_page_version": "2.0", "data_page_size": 500}),
        ({"body": pa.array([each.encode() for each in TEXTS])}, {"compression": "gzip", "write_page_checksum": True}),
        ({"resource": pa.array(TEXTS, pa.large_string())}, {"compression": "brotli"}),
        ({"resource": pa.array(TEXTS, pa.json_())}, {"compression": "lz4"}),
        ({"resource": pa.array(TEXTS).dictionary_encode()}, {"version": "1.0"}),
    ],
    ids=["plain", "among others", "two", "pages", "bytes", "large", "JSON", "dictionary"],
)
def test_every_row_comes_once_with_its_number_whoever_wrote_it(tmp_path: Path, columns: Any, how: Any) -> None:
    found, failure = read(written(tmp_path, columns, **how))
    assert (numbered(found), failure, len(found) > 2) == (NUMBERED, "", True)
    assert (found[-1].place, found[-1].line) == (len(TEXTS), len(TEXTS) + 1)


@pytest.mark.parametrize("size", [99, 500, 10_000])
def test_whoever_goes_on_at_a_row_reads_the_rest(tmp_path: Path, size: int) -> None:
    path = written(tmp_path, {"resource": TEXTS}, row_group_size=size)
    for place in (0, 98, 99, 100, 500, len(TEXTS) - 1, len(TEXTS)):
        rest, failure = read(path, place=place, line=place + 1)
        assert (numbered(rest), failure) == (NUMBERED[place:], "")
    gone, failure = read(path, place=len(TEXTS) + 1, line=1)
    assert (numbered(gone), failure.partition(":")[0]) == ([], "It is shorter than it was when it was begun")


def test_rows_that_hold_no_resource_are_told_by_number(tmp_path: Path) -> None:
    texts = ["{}", None, "", " {} ", "x" * 1001, '{"a":\n1}']
    (batch,), failure = read(written(tmp_path, {"resource": texts}))
    assert (batch.lines, failure) == ([(1, b"{}"), (4, b"{}"), (6, b'{"a":\n1}')], "")
    assert [(number, issue.code) for number, issue in batch.refused] == [(2, "required"), (5, "too-long")]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"a": TEXTS[:1], "b": TEXTS[:1]}, "It has no column resource, body or value, and more than one of another"),
        ({"resource": [1]}, "Its column of resources is not of text"),
        ({"resource": [{"id": "x"}]}, "Its column of resources is not of text"),
        ({"resource": [["x"]]}, "Its column of resources is not of text"),
        ({"n": [1.5]}, "Its column of resources is not of text"),
        ({"resource": pa.array([b"12345678"], pa.binary(8))}, "Its column of resources is not of text"),
    ],
)
def test_a_table_of_something_else_is_not_read(tmp_path: Path, columns: Any, told: str) -> None:
    found, failure = read(written(tmp_path, columns))
    assert (numbered(found), failure[: len(told)]) == ([], told)


def test_a_name_and_what_is_in_the_file_are_one(tmp_path: Path) -> None:
    whole = written(tmp_path, {"resource": TEXTS}).read_bytes()
    (tmp_path / "x.ndjson").write_bytes(whole)
    assert read(tmp_path / "x.ndjson")[1].startswith("It is no NDJSON but Parquet: name it .parquet")
    (tmp_path / "x.parquet").write_bytes(b"{}\n")
    assert read(tmp_path / "x.parquet")[1].startswith("By its name it is Parquet, and it is not")
    assert read(tmp_path / "none.parquet")[1] == "It cannot be read (No such file or directory)"


def test_a_file_that_is_cut_off_or_spoilt_is_told_and_harms_nobody(tmp_path: Path) -> None:
    how = {"row_group_size": 400, "write_page_checksum": True, "use_dictionary": False, "compression": "none"}
    path = written(tmp_path, {"resource": TEXTS}, **how)
    whole, chance = path.read_bytes(), random.Random(7)
    for cut in (4, 5, 12, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert read(path)[1].startswith("After row 0 it is not what Parquet holds, or ends before that does"), cut
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    found, failure = read(path)
    lines = numbered(found)
    assert 400 <= len(lines) < len(TEXTS) and lines == NUMBERED[: len(lines)]
    assert failure.startswith(f"After row {len(lines):,} it is not what Parquet holds")
    for _ in range(300):
        spoilt = bytearray(whole)
        for _ in range(chance.randint(1, 5)):  # most of them in the footer
            spoilt[chance.randrange(chance.choice((4, len(whole) - 600)), len(whole))] = chance.getrandbits(8)
        path.write_bytes(spoilt)
        read(path)  # whatever it is, it is read or told, and nothing else is raised
    path.write_bytes(whole)
    assert numbered(read(path)[0]) == NUMBERED


def test_what_is_small_and_would_be_large_takes_little_memory(tmp_path: Path) -> None:
    """A page of 129 MB of nothing; a value of a megabyte that six hundred rows have: a few kB of file each."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"resource": ["z" * (129 << 20)]}), path, compression="zstd")
    wrote = max(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    found, failure = read(path)
    assert (numbered(found), path.stat().st_size < 50_000) == ([], True)
    assert failure.startswith("A page of its row group 1 has more than 128 MB unpacked: write it with smaller ones")
    places = pa.array([0] * 600, pa.int32())
    path = written(tmp_path, {"resource": pa.DictionaryArray.from_arrays(places, pa.array(["z" * 1_000_000]))})
    assert path.stat().st_size < 100_000
    count = sum(len(each) for each in batches(path, 999_999))
    assert count == 600
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - wrote) / 1024
    assert grown < 200, f"{grown:.0f} MB"
