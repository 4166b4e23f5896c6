"""What values come to, worked out where first asked for and remembered while there is room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LIMIT = 1 << 14
"""Values a table remembers: a large council's codes and days, the names and people of some batches, in a few MB."""


class Table(dict[Any, Any]):
    """`table[value]` is what `work_out` makes of it. It forgets everything when it is full.

    A dict, because its look-up is the hot path of a bulk load: a third of the cost of `functools.lru_cache`.
    """

    __slots__ = ("work_out",)

    def __init__(self, work_out: Callable[[Any], Any]) -> None:
        super().__init__()
        self.work_out = work_out

    def __missing__(self, value: Any) -> Any:
        made = self.work_out(value)
        if len(self) >= LIMIT:
            self.clear()
        self[value] = made
        return made
