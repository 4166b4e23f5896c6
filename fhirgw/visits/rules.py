"""The words that may be said of visits, and the tolerances what came of them is derived by: data, in mappings/homecare.

`fhirgw check` and the tests read the same file, so a council's own tolerances are judged before they count.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

FILE = "homecare/rules.yaml"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Share(_Strict):
    """Shorter or longer than planned: by a share of it, and by so many minutes at least."""

    share: PositiveFloat
    minutes: NonNegativeInt


class Tolerances(_Strict):
    """Minutes; `radius` in metres."""

    late: NonNegativeInt
    early: NonNegativeInt
    missed: NonNegativeInt
    checkout: NonNegativeInt
    short: Share
    long: Share
    apart: NonNegativeInt
    radius: NonNegativeInt


class Outcome(_Strict):
    """`made`: whether a carer was there; None where nobody can tell."""

    made: bool | None
    display: str


class Alert(_Strict):
    """What is told of at once. `after` names the tolerance from which it is so, `minutes` are the most it may be.

    `types`: of visits; none are all. `critical`: those unless they can wait, and whatever cannot. `priority`:
    https://hl7.org/fhir/R4/valueset-request-priority.html
    """

    cause: Literal["not-started", "alone", "no-checkout", "silent"]
    after: Literal["late", "missed", "apart", "checkout"] = "late"
    minutes: PositiveInt | None = None
    types: tuple[str, ...] = ()
    critical: bool = False
    priority: Literal["routine", "urgent", "asap", "stat"]
    display: str

    @model_validator(mode="after")
    def _timed(self) -> Self:
        if self.cause == "silent" and self.minutes is None:
            raise ValueError("of a silent care provider it is to be said after how many minutes")
        return self

    def concerns(self, planned: Mapping[str, Any]) -> bool:
        """Whether it is told of a visit that was planned so."""
        if self.cause == "silent":
            return False
        named = not self.types or planned.get("type") in self.types
        critical = planned.get("timeCritical", named)
        return bool(critical) if self.critical else named


class Rung(_Strict):
    """Who is to act, so many `minutes` after an alert was raised; `raise_` is by how many steps it is more urgent."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_alias=True)

    rung: str
    minutes: NonNegativeInt
    raise_: NonNegativeInt = Field(alias="raise")
    party: Literal["provider", "council"]
    display: str


class Rules(_Strict):
    """`tolerances` by type of visit; `verification`: the strength of each method, 0 to 3. `ladder` begins at 0.

    `away`: the strength that is left of any of them farther from the person's home than `radius`.
    `commissioned`: the services whose package lines are visits, by their component; `team`: carers of a usual team.
    """

    tolerances: dict[str, Tolerances]
    verification: dict[str, int]
    away: NonNegativeInt
    outcomes: dict[str, Outcome]
    tasks: tuple[str, ...] = Field(min_length=1)
    support: tuple[str, ...] = Field(min_length=1)
    commissioned: tuple[str, ...] = Field(min_length=1)
    team: PositiveInt
    alerts: dict[str, Alert]
    ladder: tuple[Rung, ...] = Field(min_length=1)

    @field_validator("ladder")
    @classmethod
    def _climbs(cls, ladder: tuple[Rung, ...]) -> tuple[Rung, ...]:
        minutes = [each.minutes for each in ladder]
        if minutes[0] != 0 or any(one >= other for one, other in pairwise(minutes)):
            raise ValueError("the first rung is at 0 minutes, and each is later than the one before")
        return ladder

    def tolerance(self, kind: str | None) -> Tolerances:
        """What holds for a type of visit."""
        return self.tolerances.get(kind or "default", self.tolerances["default"])


def rules(folder: Path) -> Rules:
    """The rules in the folder of mappings. Raises ValueError (of pydantic) for what is none."""
    given = yaml.safe_load((folder / FILE).read_text())
    default = given["tolerances"]["default"]
    given["tolerances"] = {kind: {**default, **own} for kind, own in given["tolerances"].items()}
    return Rules.model_validate(given)
