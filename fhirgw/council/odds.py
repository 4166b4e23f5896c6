"""Choosing by weight: the made-up council's shares are tables of outcome and weight, dealt by a seeded generator."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Mapping, Sequence
from itertools import accumulate
from random import Random
from typing import Generic, TypeVar

T = TypeVar("T")


class Odds(Generic[T]):
    """Outcomes with their weights, which need not add up to anything."""

    __slots__ = ("bounds", "outcomes", "total")

    def __init__(self, weights: Mapping[T, float]) -> None:
        self.outcomes = tuple(weights)
        self.bounds = tuple(accumulate(weights.values()))
        self.total = self.bounds[-1]

    def deal(self, rng: Random) -> T:
        """One outcome."""
        return self.outcomes[min(bisect(self.bounds, rng.random() * self.total), len(self.outcomes) - 1)]


def pick(rng: Random, items: Sequence[T]) -> T:
    """Any one of the items, each as likely; quicker than `Random.choice`, and the same on every Python."""
    return items[int(rng.random() * len(items))]


def between(rng: Random, low: int, high: int) -> int:
    """A whole number from `low` to `high`, both included."""
    return low + int(rng.random() * (high - low + 1))
