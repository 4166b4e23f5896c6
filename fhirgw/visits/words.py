"""The words that a visit is told in, as tables of Markdown for whoever sends them: from what rows are read by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fhirgw.visits.layout import Layout
from fhirgw.visits.outcome import DERIVED, IN_PROGRESS, SCHEDULED
from fhirgw.visits.rules import Rules

STRENGTH = ("nothing", "somebody's word", "where a telephone said it was", "a thing that is at the place")
CAME = {True: "yes", False: "no", None: "either"}
WITHOUT = {
    SCHEDULED: "nobody has come yet, and need not have",
    IN_PROGRESS: "a carer has arrived, and not left",
    "delivered-short": "for much less time than was planned",
    "delivered-late": "later than the tolerance after the planned start",
    "delivered-early": "earlier than the tolerance before it",
    "delivered-long": "for much more time than was planned",
}
"""What a visit comes to by its times alone."""


def tables(rules: Rules, standard: Layout) -> str:
    """Markdown: outcomes, what times come to, verification, tasks, medicines. `standard`: the spreadsheet's layout."""
    outcome, how = (_cells(standard, path) for path in ("outcome.code", "carers[0].method"))
    said = (
        [f"`{code}`", outcome.get(code, ""), each.display, CAME[each.made]] for code, each in rules.outcomes.items()
    )
    derived = [SCHEDULED, IN_PROGRESS, *(code for code, _ in DERIVED if code not in rules.outcomes)]
    strong = ([f"`{code}`", how.get(code, ""), f"{n}: {STRENGTH[n]}"] for code, n in rules.verification.items())
    lists = (
        ["`tasks.outcome`", _listed(rules.tasks), "`reason`, but for `completed`"],
        ["`medication.outcome`", _listed(rules.support), ""],
    )
    return "\n\n".join(
        (
            _table(("`outcome.code`", "in the spreadsheet", "what it means", "a carer was there"), said),
            "Nobody need say what follows from the times; these are told and never sent:",
            _table(("comes to", "where"), ([f"`{code}`", WITHOUT[code]] for code in derived)),
            _table(("`carers.method`, `endMethod`", "in the spreadsheet", "how strong, and by what"), strong),
            _table(("field", "one of", "wants besides"), lists),
        )
    )


def _cells(layout: Layout, path: str) -> dict[str, str]:
    """What a spreadsheet says for each word of a field."""
    return {str(code): cell for cell, code in (layout.fields[path].codes or {}).items()}


def _listed(words: Sequence[str]) -> str:
    return ", ".join(f"`{each}`" for each in words)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(_lines([header, ["---"] * len(header), *rows]))


def _lines(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for each in rows:
        yield f"| {' | '.join(each)} |".replace("|  |", "| |")
