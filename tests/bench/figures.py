"""Measuring: several rounds, each with its floor, so that a busy moment of the machine strikes both alike."""

from __future__ import annotations

import gc
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

ROUNDS = int(os.environ.get("ROUNDS", "5"))


@dataclass
class Figure:
    """A rate or ratio, measured several times. `target`: what it should reach."""

    name: str
    unit: str
    target: str = ""
    values: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle value."""
        return statistics.median(self.values)

    def line(self) -> str:
        """The figure for people."""
        low, high = min(self.values), max(self.values)
        spread = f"min {shown(low)}  median {shown(self.median)}  max {shown(high)}"
        return f"{self.name:<52} {spread} {self.unit:<14} {self.target}"

    def as_json(self) -> dict[str, Any]:
        """The figure for machines."""
        return {
            "name": self.name,
            "unit": self.unit,
            "target": self.target,
            "min": min(self.values),
            "median": self.median,
            "max": max(self.values),
            "rounds": self.values,
        }


def shown(value: float) -> str:
    """Four digits are as many as a shared machine gives."""
    return f"{value:>10,.0f}" if value >= 100 else f"{value:>10.3f}"


def seconds(work: Callable[[], object]) -> float:
    """How long the work takes, with no garbage collection in between."""
    gc.collect()
    gc.disable()
    try:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun
    finally:
        gc.enable()


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {"cores": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}
