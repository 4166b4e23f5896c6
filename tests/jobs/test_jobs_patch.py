"""Lines that give way to others, each in its place, however the file comes in blocks."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhirgw.jobs.patch import Patch

IDS = st.text("0123abAB-.", min_size=1, max_size=4)
ROWS = st.dictionaries(IDS, st.sampled_from(["", "x" * 40, '{"id":"9"}', "naïve"]), max_size=20)


def line(id: str, text: str, plain: bool = True) -> bytes:
    """A body; or the same with its elements in an order that must be parsed."""
    body = {"resourceType": "Goal", "id": id, "text": text}
    return orjson.dumps(body if plain else dict(reversed(body.items())))


@given(ROWS, ROWS, st.sets(IDS), st.integers(0, 20), st.booleans())
def test_it_is_the_file_that_sorting_would_make(
    old: dict[str, str], new: dict[str, str], gone: set[str], size: int, plain: bool
) -> None:
    stale = sorted({*new, *gone})
    before = [line(id, old[id], plain) + b"\n" for id in sorted(old)]
    patch = Patch(stale, [line(id, new[id], plain) for id in sorted(new)])
    made = b""
    for at in range(0, len(before), size + 1):
        made += b"".join(patch.add(b"".join(before[at : at + size + 1])))
    made += patch.end()
    left = {id: text for id, text in old.items() if id not in stale} | new
    assert made == b"".join(line(id, left[id], plain) + b"\n" for id in sorted(left))
    assert patch.dropped == len(set(old) & set(stale))


def test_a_line_of_something_that_is_not_stale_is_refused() -> None:
    with pytest.raises(ValueError, match="not stale"):
        Patch(["a"], [line("b", "")])
