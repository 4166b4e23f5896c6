"""NHS numbers for people who do not exist: from the 999 range kept for tests, valid to modulus 11, none twice.

https://www.datadictionary.nhs.uk/attributes/nhs_number.html
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

_STEMS = 1_000_000
_STRIDE = 7_919
"""Coprime to the number of stems: striding through them meets each once, and neighbours do not look alike."""


def check_digit(stem: str) -> int:
    """The tenth digit for nine; 10 if there is none, and the stem is not used."""
    return -sum(int(digit) * weight for digit, weight in zip(stem, range(10, 1, -1), strict=True)) % 11


def issue(rng: Random) -> Iterator[str]:
    """Numbers, about 900,000 of them, beginning anywhere."""
    start = rng.randrange(_STEMS)
    for turn in range(_STEMS):
        stem = f"999{(start + turn * _STRIDE) % _STEMS:06}"
        if (digit := check_digit(stem)) < 10:
            yield f"{stem}{digit}"


def spoiled(number: str) -> str:
    """The number with its last digit one too high, so that it fails modulus 11."""
    return f"{number[:9]}{(int(number[9]) + 1) % 10}"
