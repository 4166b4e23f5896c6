"""Relationships, directives and delegations as rows, each written and ended with the resource it rests on.

They are staged beside their resources, as text: fields apart by one control character, rules by another; no value holds
one. So what decides who sees a record changes in the transaction that changes the record.

But for what a Patient's labels say (restricted, sealed): it outlasts the Patient, for what is left of the record, or is
brought for it later. A source that drops a person drops the rest of them at another time, if at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fhirgw.access.label import TELLING
from fhirgw.access.relationship import NARROWED, OWN
from fhirgw.store.basis import LISTS
from fhirgw.store.database import Connection

RULE, FIELD, ITEM = "\x03", "\x04", "\x05"
TABLES = ("relationship", "directive", "delegation")
ANY = "\x06"
"""Stands for a field that says nothing: an empty one would be lost between two others."""


def lines(rules: Sequence[tuple[Any, ...]]) -> str:
    """Rules as one cell of the staging table, without the person: that is the resource's."""
    return RULE.join(FIELD.join(map(_spelt, rule[1:])) for rule in rules) if rules else ""


def _spelt(value: Any) -> str:
    if value is None:
        return ANY
    if isinstance(value, datetime):
        return value.isoformat()
    return ITEM.join(value) if isinstance(value, tuple) else str(value)


def _field(at: int, kind: str = "text") -> str:
    part = rf"nullif(f[{at}], E'\x06')"
    return rf"string_to_array({part}, E'\x05')" if kind == "text[]" else f"{part}::{kind}"


def _period(at: int) -> str:
    starts, ends = (_field(at + offset, "timestamptz") for offset in (0, 1))
    return f"coalesce({starts}, '-infinity'), coalesce({ends}, 'infinity')"


def _made(column: str) -> str:
    return (
        rf"FROM stage s, unnest(string_to_array(s.{column}, E'\x03')) AS line,"
        r" LATERAL (SELECT string_to_array(line, E'\x04')) AS split (f) WHERE s.patient IS NOT NULL"
    )


MADE = f"""
tied AS (
    INSERT INTO fhirgw.relationship (person, party, kind, starts, ends, type, id)
    SELECT s.patient, f[1], f[2], {_period(3)}, s.type, s.id {_made("ties")}
), acting AS (
    INSERT INTO fhirgw.delegation (person, delegate, kind, kinds, starts, ends, type, id)
    SELECT s.patient, f[1], f[2], {_field(3, "text[]")}, {_period(4)}, s.type, s.id {_made("delegations")}
), told AS (
    INSERT INTO fhirgw.narrowed (person) SELECT DISTINCT patient FROM stage
    WHERE directives <> '' AND patient IS NOT NULL
)
INSERT INTO fhirgw.directive
    (person, effect, party, purpose, kinds, classes, starts, ends, weight, decided, type, id)
SELECT s.patient, f[1], {_field(2)}, {_field(3)}, {_field(4, "text[]")}, f[5]::smallint, {_period(6)},
    f[8]::smallint, f[9], s.type, s.id {_made("directives")}
"""


LABELS = "t.effect IN ('restrict', 'seal')"
"""Of directives, those that a Patient's labels make."""

RETURNED = f"""
DELETE FROM fhirgw.directive t USING stage s
WHERE s.kind = 'create' AND s.type = 'Patient' AND t.type = 'Patient' AND t.id = s.id AND {LABELS}"""
"""Who is there again is as their labels say now."""


def ended(gone: str, *besides: str, kept: str = "false") -> str:
    """The steps of a statement that end what rests on the resources a step of it removed, but for directives `kept`.

    Who loses a relationship or a consent may be seen by fewer: what was exported of them is looked through again, as of
    those whom the queries `besides` give.
    """
    steps = [
        f"no_{table} AS (DELETE FROM fhirgw.{table} t USING {gone} r WHERE t.id = r.id AND t.type = r.type"
        f"{f' AND NOT ({kept})' if table == 'directive' else ''} RETURNING t.person)"
        for table in TABLES
    ]
    lost = " UNION ".join([*(f"SELECT person FROM no_{table}" for table in TABLES), *besides])
    return ", ".join([*steps, f"told AS (INSERT INTO fhirgw.narrowed (person) {lost})"])


_LABELLED = "SELECT coalesce(patient, id) FROM stage WHERE kind = 'update' AND (labels <> 0 OR redacted IS NOT NULL)"
"""What is in nobody's record (a refuge, a list) is noted by its own id."""

TURNING = ("Patient", *OWN, *NARROWED, *TELLING, *LISTS)
"""Types of which what a version says decides who sees it, beside its labels: whose visit it is, who is told of."""

_TURNED = f"""
SELECT coalesce(s.patient, s.id) FROM stage s JOIN fhirgw.history h ON (h.type, h.id) = (s.type, s.id)
WHERE s.kind = 'update' AND s.type = ANY ('{{{",".join(TURNING)}}}') AND h.version = s.version - 1
    AND (h.tokens, h.origin, h.also) IS DISTINCT FROM (s.tokens, s.origin, s.also)"""

RENEWED = f"""
changed AS (SELECT type, id FROM stage WHERE kind = 'update'), {ended("changed", _LABELLED, _TURNED)} SELECT 1
"""


async def write(
    connection: Connection,
    *,
    renewed: bool,
    any_made: bool,
    back: bool = False,
    source: str = "",
    lists: Sequence[Any] = (),
) -> None:
    """The rules that rest on what is staged, instead of those that did.

    `back`: Patients are created, who may have been here before.
    `source` is a step that makes `stage` of the parameters `lists`, where there is no such table.
    """
    before = f"WITH {source}, " if source else "WITH "
    if back:
        await connection.execute((f"WITH {source} " if source else "") + RETURNED, *lists)
    if renewed:
        await connection.execute(before + RENEWED, *lists)
    if any_made:
        await connection.execute(before + MADE, *lists)
