"""What people and machines see: progress and messages on stderr, results on stdout.

On a terminal, bars with a rate and the time left, and tables with lines; elsewhere plain lines, no control codes and
nothing cut off; with `--json`, one JSON document on stdout and nothing else there.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Console as Terminal
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

EVERY = 30.0
"""Seconds between two lines about what is going on, where it is no terminal that they go to."""


class Stage:
    """Something that takes a while: `done` of `total` (None: nobody knows) units, the first `unit`s it counts."""

    def __init__(self, name: str, unit: str, show: Callable[[Stage], None]) -> None:
        self.name, self.unit, self._show = name, unit, show
        self.done = 0
        self.total: int | None = None
        self.detail = ""
        self._parts: dict[str, int] = {}
        self._began = time.monotonic()
        self._ended: float | None = None

    def update(self, done: int, total: int | None = None) -> None:
        """How far it is."""
        self.done, self.total = done, total or self.total
        self._show(self)

    def part(self, name: str, done: int) -> None:
        """How far it is with one of its parts, the one it is at."""
        self._parts[name], self.detail = done, name
        self.update(sum(self._parts.values()))

    def end(self) -> None:
        """Stops the clock."""
        self._ended = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it took, or has taken so far."""
        return (self._ended or time.monotonic()) - self._began

    @property
    def rate(self) -> float:
        """Units a second, over the whole of it."""
        return self.done / max(self.seconds, 1e-6)

    def __str__(self) -> str:
        of = f" of {self.total:,}" if self.total else ""
        return f"{self.done:,}{of} {self.unit}, {self.rate:,.0f}/s" if self.done else ""

    def as_json(self) -> dict[str, Any]:
        """The stage in a summary."""
        return {"name": self.name, "seconds": round(self.seconds, 3), "rate": round(self.rate, 1), "unit": self.unit}


class Console:
    """`json`: the result is for a machine, so stdout is kept for it."""

    def __init__(self, json: bool = False) -> None:
        self.json = json
        self.stages: list[Stage] = []
        self._out, self._err = Terminal(), Terminal(stderr=True)

    @contextmanager
    def stage(self, name: str, unit: str = "rows") -> Iterator[Stage]:
        """Shows something going on; the clock runs while the block does."""
        with _bar(self._err) if self._err.is_terminal else _lines(self.note) as show:
            stage = Stage(name, unit, show)
            show(stage)
            try:
                yield stage
            finally:
                stage.end()
        self.stages.append(stage)
        self.note(f"{name}: {stage.seconds:.1f} s{', ' if stage.done else ''}{stage}")

    def note(self, line: str) -> None:
        """A line about what is going on; for people."""
        if self._err.is_terminal:
            self._err.print(line, markup=False, highlight=False, soft_wrap=True)
        elif not self.json:
            print(line, file=sys.stderr, flush=True)

    def line(self, text: str = "") -> None:
        """A line of the result; for people."""
        if not self.json:
            self._out.print(text, markup=False, highlight=False, soft_wrap=True)

    def table(self, title: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table of the result, numbers to the right; nothing where there are no rows."""
        if self.json or not rows:
            return
        right = [isinstance(cell, int) for cell in rows[0]]
        written = [[f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
        self.line()
        if self._out.is_terminal:
            table = Table(title=title, title_justify="left")
            for name, number in zip(names, right, strict=True):
                table.add_column(name, justify="right" if number else "left", overflow="fold")
            for row in written:
                table.add_row(*map(Text, row))
            self._out.print(table)
        else:
            self.line(title)
            for line in _aligned([list(names), *written], right):
                self.line(line)

    def document(self, value: object) -> None:
        """The result for a machine."""
        if self.json:
            options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
            sys.stdout.buffer.write(orjson.dumps(value, option=options))
            sys.stdout.buffer.flush()


def _aligned(rows: list[list[str]], right: list[bool]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = zip(row, widths, right, strict=True)
        yield "  ".join(cell.rjust(width) if number else cell.ljust(width) for cell, width, number in cells).rstrip()


@contextmanager
def _lines(note: Callable[[str], None]) -> Iterator[Callable[[Stage], None]]:
    """A line now and then: where nobody watches a bar, a log has to say that it goes on."""
    told = time.monotonic()

    def show(stage: Stage) -> None:
        nonlocal told
        if (now := time.monotonic()) - told >= EVERY:
            told = now
            left = f", {(stage.total - stage.done) / stage.rate:,.0f} s left" if stage.total and stage.done else ""
            said = f", {stage}" if stage.done else ""
            note(f"{stage.name} {stage.detail}".rstrip() + f": {stage.seconds:,.0f} s{said}{left}")

    yield show


@contextmanager
def _bar(terminal: Terminal) -> Iterator[Callable[[Stage], None]]:
    """A bar that is there while the stage is."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counted]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=terminal, transient=True) as progress:
        task = progress.add_task("", total=None, counted="")

        def show(stage: Stage) -> None:
            title = f"{stage.name} {stage.detail}".rstrip()
            progress.update(task, description=title, completed=stage.done, total=stage.total, counted=str(stage))

        yield show
