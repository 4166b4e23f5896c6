"""How each made-up system of record spells values: the conventions that its tables share, as data."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Convention:
    """Formats of keys (by kind of record), dates and times (strftime), flags, lists; PostgreSQL type by form."""

    system: str
    key: Mapping[str, str]
    date: str
    moment: str
    time: str
    flag: tuple[str, str]
    separator: str
    types: Mapping[str, str]

    def type_of(self, style: str) -> str:
        """PostgreSQL type of a column written in this style."""
        return self.types.get(style, "text")


MEADOW = Convention(
    system="meadow",
    key=defaultdict(lambda: "{}"),
    date="%Y-%m-%d",
    moment="%Y-%m-%d %H:%M:%S",
    time="%H:%M:%S",
    flag=("N", "Y"),
    separator=" ",
    types={
        "key": "integer",
        "parent": "integer",
        "serial": "integer",
        "integer": "integer",
        "decimal": "numeric(6,2)",
        "date": "date",
        "moment": "timestamp",
    },
)
"""Typed throughout: the database's own text of each value is what the extract writes."""

HARBOUR = Convention(
    system="harbour",
    key={
        "organisation": "ORG-{:05}",
        "team": "TM-{:03}",
        "location": "PR-{:05}",
        "worker": "ST-{:05}",
        "role": "SP-{:05}",
        "person": "P-{:06}",
        "relationship": "REL/{:06}",
        "register": "RG/{:06}",
        "contact": "REF/{:06}",
        "assessment": "ASM/{:06}",
        "support_reason": "PSR/{:06}",
        "plan": "PLN/{:06}",
        "goal": "GL/{:06}",
        "line": "PKG/{:06}",
        "reablement": "RBL/{:06}",
        "review": "RVW/{:06}",
        "alert": "ALT/{:06}",
        "allergy": "ALG/{:06}",
        "access_note": "ACC/{:06}",
        "about_me": "ABM/{:06}",
        "equipment": "EQP/{:06}",
        "technology": "TEL/{:06}",
        "consent": "CON/{:06}",
        "delegate": "DEL/{:06}",
    },
    date="%d/%m/%Y",
    moment="%d/%m/%Y %H:%M",
    time="%H:%M",
    flag=("No", "Yes"),
    separator=", ",
    types={"integer": "integer", "decimal": "numeric(6,2)"},
)
"""Dates and times are text, as in many an older product: the database cannot help with them, and does not try."""
