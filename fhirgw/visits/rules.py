"""The words that may be said of visits, and the tolerances what came of them is derived by: data, in mappings/homecare.

`fhirgw check` and the tests read the same file, so a council's own tolerances are judged before they count.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat

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


class Rules(_Strict):
    """`tolerances` by type of visit; `verification`: the strength of each method, 0 to 3.

    `away`: the strength that is left of any of them farther from the person's home than `radius`.
    """

    tolerances: dict[str, Tolerances]
    verification: dict[str, int]
    away: NonNegativeInt
    outcomes: dict[str, Outcome]
    tasks: tuple[str, ...] = Field(min_length=1)
    support: tuple[str, ...] = Field(min_length=1)

    def tolerance(self, kind: str | None) -> Tolerances:
        """What holds for a type of visit."""
        return self.tolerances.get(kind or "default", self.tolerances["default"])


def rules(folder: Path) -> Rules:
    """The rules in the folder of mappings. Raises ValueError (of pydantic) for what is none."""
    given = yaml.safe_load((folder / FILE).read_text())
    default = given["tolerances"]["default"]
    given["tolerances"] = {kind: {**default, **own} for kind, own in given["tolerances"].items()}
    return Rules.model_validate(given)
