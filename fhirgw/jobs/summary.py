"""What a sync did, in numbers a person can add up: rows in, resources out, and why the rest stayed behind."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Counts:
    """One table. `read` and `refused` (by reason) count rows; the others resources, of which a row may make several."""

    read: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def written(self) -> int:
        """The versions this run made."""
        return self.created + self.updated + self.deleted

    def as_json(self) -> dict[str, Any]:
        """The counts by name."""
        return {
            "read": self.read,
            "created": self.created,
            "updated": self.updated,
            "unchanged": self.unchanged,
            "deleted": self.deleted,
            "refused": dict(sorted(self.refused.items())),
        }


@dataclass(slots=True)
class SyncSummary:
    """A finished sync. `resources` counts what the system's rows stand for now, by type; `warnings` are for people.

    `unshared` are keys of people who are shared with nobody outside, because a row about that was refused; `nobodys`
    counts such rows that name nobody who is held, so that nothing follows from them.
    """

    system: str
    run: int
    tables: dict[str, Counts] = field(default_factory=dict)
    resources: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    unshared: set[str] = field(default_factory=set)
    nobodys: int = 0
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """The rows read from all tables."""
        return sum(counts.read for counts in self.tables.values())

    @property
    def written(self) -> int:
        """The versions written."""
        return sum(counts.written for counts in self.tables.values())

    @property
    def refused(self) -> int:
        """The rows refused."""
        return sum(sum(counts.refused.values()) for counts in self.tables.values())

    def untold(self) -> list[str]:
        """What people have to be told about refused rows of consent."""
        told = []
        if people := len(self.unshared):
            who = "1 person is" if people == 1 else f"{people:,} people are"
            told.append(
                f"{who} shared with nobody outside the controller: a row about sharing their record was refused, and"
                " may be a dissent. Correct it at its source"
            )
        if self.nobodys:
            rows = (
                "1 refused row about sharing names"
                if self.nobodys == 1
                else f"{self.nobodys:,} refused rows about sharing name"
            )
            told.append(f"{rows} nobody who is held, so that nothing follows from it: find out whom it is about")
        return told

    def as_json(self) -> dict[str, Any]:
        """The whole summary, for machines."""
        return {
            "system": self.system,
            "run": self.run,
            "tables": {name: counts.as_json() for name, counts in self.tables.items()},
            "resources": dict(sorted(self.resources.items())),
            "written": self.written,
            "unread": {"people_not_shared": len(self.unshared), "rows_of_nobody": self.nobodys},
            "warnings": self.warnings,
            "seconds": round(self.seconds, 3),
        }
