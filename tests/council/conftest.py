"""Two councils made once: one as it is used, with its faults, and one without, for the laws that faults break."""

import pytest

from fhirgw.council.council import Council
from fhirgw.council.generate import generate

ADULTS = 850
"""A twentieth of the county."""


@pytest.fixture(scope="session")
def council() -> Council:
    return generate(ADULTS, seed=1)


@pytest.fixture(scope="session")
def faultless() -> Council:
    return generate(ADULTS, seed=1, faults=False)
