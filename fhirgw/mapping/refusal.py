"""Why a value was refused: a rule and a remedy, never the value itself.

A row that cannot be mapped without guessing is refused as a whole; what is wrong with it is told by column, so that
the people who own the row can mend it. The value is described by its class only ("10 digits", "text of 3 characters"):
the message travels to files and logs where personal data must not be.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fhirgw.fhir.issue import FhirError, Issue


class Refusal(ValueError):
    """A codec's answer to a value it does not know: `rule` says what must hold, `remedy` what to do."""

    def __init__(self, reason: str, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.reason = reason
        self.rule = rule
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with one row: its place (table, key, column), what kind of value was there, rule and remedy."""

    table: str
    key: str
    column: str
    reason: str
    value_class: str
    rule: str
    remedy: str

    def as_json(self) -> dict[str, str]:
        """The line of the errors file."""
        return {name: getattr(self, name) for name in self.__slots__}


class RefusedRow(FhirError):
    """A row no resource was made of; `faults` holds all that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults = list(dict.fromkeys(faults))  # a column may feed two fields
        super().__init__(
            *(
                Issue("value", f"{fault.table} {fault.key}, column {fault.column}: {fault.rule}. {fault.remedy}")
                for fault in faults
            ),
            status=422,
        )


def value_class(value: object) -> str:
    """What kind of value it is, without saying it: enough to recognise a pattern of mistakes.

    >>> value_class("9434765918")
    '10 digits'
    """
    if value is None or value == "":
        return "blank"
    if not isinstance(value, str):
        return type(value).__name__
    if value.isspace():
        return f"{len(value)} spaces"
    if value.isdigit():
        return f"{len(value)} digits"
    shape = re.sub(r"[0-9]", "9", re.sub(r"[^\W\d_]", "a", value))
    if len(shape) <= 24 and "9" in shape:
        return f"shape {shape}"
    return f"text of {len(value)} characters"
