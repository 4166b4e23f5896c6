"""What the council's records say that visits are held against: package lines, their providers, stays in hospital.

All of it under the permit. A care provider is shown its own lines alone, while it has a tie to the person; what others
were commissioned to do is in the record, and not in its ledger. So is what others told of stays in hospital.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Integer, Text, and_, any_, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, JSON, TIMESTAMP

from fhirgw.access.permit import Permit
from fhirgw.fhir import tokens
from fhirgw.fhir.canonical import decode
from fhirgw.fhir.nhs import ODS_ORGANISATION
from fhirgw.store.database import Connection, once
from fhirgw.store.schema import history, resource
from fhirgw.store.visibility import body, shape, values, visible
from fhirgw.store.visit_facts import asked
from fhirgw.visits.line import COMPONENTS, HELD, STATUSES, Line, line, suspended

ORDER = [tokens.code("intent", "order")]
STATUS = [tokens.code("status", each) for each in STATUSES]
ON_HOLD = tokens.code("status", HELD)
NOTICE = [*tokens.coding("code", "https://fhirgw.uk/fhir/CodeSystem/task-code", "discharge-notice")[:1]]
GONE = ("cancelled", "entered-in-error", "rejected")
TOKENS = ARRAY(BigInteger)
TEXTS = ARRAY(Text)


def components(named: Iterable[str]) -> list[int]:
    """The tokens of services whose lines are visits."""
    return [tokens.coding("code", COMPONENTS, each)[0] for each in named]


async def people_of_lines(
    connection: Connection, permit: Permit, services: Sequence[int], given: dict[str, Any], own: Sequence[int]
) -> list[str]:
    """Who has such a line, after `given["after"]`, in the order of their ids. `own`: by whom; of anybody if none."""
    made = once(("line people", shape(permit), bool(own), "since" in given), lambda: _people(permit, own, given))
    told = values(permit) | given | {"services": services, "own": list(own)}
    return [row["patient"] for row in await connection.fetch(made.sql, *made.arguments(told))]


async def lines(
    connection: Connection, permit: Permit, services: Sequence[int], people: Sequence[str], own: Sequence[int]
) -> list[Line]:
    """The lines of people, with when they were suspended, in the order of their ids."""
    told = values(permit) | {"services": services, "own": list(own), "people": list(people)}
    made = once(("lines", shape(permit), bool(own)), lambda: _lines(permit, own))
    rows = await connection.fetch(made.sql, *made.arguments(told))
    found = {row["id"]: line(decode(row["body"]), row["patient"]) for row in rows}
    changed = {row["id"]: (row["updated"], found[row["id"]].status == HELD) for row in rows if row["version"] > 1}
    past: dict[str, list[tuple[datetime, bool]]] = {id: [] for id in changed}
    if changed:
        before = once(("line versions", shape(permit)), lambda: _versions(permit))
        for row in await connection.fetch(before.sql, *before.arguments(values(permit) | {"ids": list(changed)})):
            past[row["id"]].append((row["updated"], row["held"]))
    for row in rows:
        now = row["updated"], found[row["id"]].status == HELD
        found[row["id"]] = replace(found[row["id"]], held=suspended([*past.get(row["id"], ()), now]))
    return list(found.values())


async def discharges(connection: Connection, permit: Permit, people: Sequence[str]) -> dict[str, list[date]]:
    """The days of discharge from hospital that notices name, by person."""
    made = once(("discharges", shape(permit)), lambda: _discharges(permit))
    told: dict[str, list[date]] = {}
    for row in await connection.fetch(made.sql, *made.arguments(values(permit) | {"people": list(people)})):
        try:
            told.setdefault(row["patient"], []).append(date.fromisoformat((row["day"] or "")[:10]))
        except ValueError:  # a month, or nothing: no day on which anybody came home
            continue
    return told


async def ods_codes(connection: Connection, directory: Permit, parties: Iterable[str]) -> dict[str, str]:
    """The ODS codes of organisations, by what lines call them: `Organization/…`, or the code as `system|value`."""
    named = sorted(set(parties))
    known = {each: each.partition("|")[2] for each in named if each.startswith(f"{ODS_ORGANISATION}|")}
    ids = [each.partition("/")[2] for each in named if each.startswith("Organization/")]
    made = once(("organisations", shape(directory)), lambda: _organisations(directory, by_id=True))
    for row in await connection.fetch(made.sql, *made.arguments(values(directory) | {"ids": ids})):
        if code := _ods(row["body"]):
            known[f"Organization/{row['id']}"] = code
    return known


async def performing(connection: Connection, directory: Permit, code: str) -> list[int]:
    """The tokens by which lines name the organisation of an ODS code as their performer."""
    sought = list(tokens.identifier("identifier", ODS_ORGANISATION, code)[:1])
    made = once(("organisations of", shape(directory)), lambda: _organisations(directory, by_id=False))
    rows = await connection.fetch(made.sql, *made.arguments(values(directory) | {"codes": sought}))
    references = [tokens.plain_reference("performer", f"Organization/{row['id']}") for row in rows]
    return [*references, tokens.logical("performer", ODS_ORGANISATION, code)]


def _ods(text: str) -> str | None:
    listed = decode(text).get("identifier", ())
    return next((each["value"] for each in listed if each.get("system") == ODS_ORGANISATION and "value" in each), None)


def _is_line(own: Sequence[int]) -> ColumnElement[bool]:
    performed = [resource.c.tokens.overlap(asked("own", TOKENS))] if own else []
    return and_(
        resource.c.type == literal("ServiceRequest", Text, literal_execute=True),
        resource.c.tokens.overlap(literal(ORDER, TOKENS)),
        resource.c.tokens.overlap(literal(STATUS, TOKENS)),
        resource.c.tokens.overlap(asked("services", TOKENS)),
        *performed,
    )


def _people(permit: Permit, own: Sequence[int], given: dict[str, Any]) -> Any:
    since = [resource.c.updated > asked("since", TIMESTAMP(timezone=True))] if "since" in given else []
    return (
        select(resource.c.patient)
        .distinct()
        .where(
            _is_line(own),
            visible(permit, "s", "ServiceRequest", resource),
            resource.c.patient > asked("after", Text),
            *since,
        )
        .order_by(resource.c.patient)
        .limit(asked("count", Integer))
    )


def _lines(permit: Permit, own: Sequence[int]) -> Any:
    told = resource.c.patient, resource.c.id, resource.c.version, resource.c.updated, body(permit, "ServiceRequest")
    concerned = resource.c.patient == any_(asked("people", TEXTS))
    return (
        select(*told)
        .where(_is_line(own), visible(permit, "s", "ServiceRequest", resource), concerned)
        .order_by(resource.c.id)
    )


def _versions(permit: Permit) -> Any:
    held = history.c.tokens.contains(literal([ON_HOLD], TOKENS)).label("held")
    return (
        select(history.c.id, history.c.updated, held)
        .where(
            history.c.type == literal("ServiceRequest", Text),
            history.c.id == any_(asked("ids", TEXTS)),
            ~history.c.deleted,
            visible(permit, "s", "ServiceRequest", history),
        )
        .order_by(history.c.id, history.c.version)
    )


def _discharges(permit: Permit) -> Any:
    named = body(permit, "Task").cast(JSON)
    return select(resource.c.patient, named[("restriction", "period", "end")].astext.label("day")).where(
        resource.c.type == literal("Task", Text, literal_execute=True),
        resource.c.patient == any_(asked("people", TEXTS)),
        resource.c.tokens.overlap(literal(NOTICE, TOKENS)),
        ~resource.c.tokens.overlap(literal([tokens.code("status", each) for each in GONE], TOKENS)),
        visible(permit, "s", "Task"),
    )


def _organisations(directory: Permit, *, by_id: bool) -> Any:
    sought = resource.c.id == any_(asked("ids", TEXTS)) if by_id else resource.c.tokens.overlap(asked("codes", TOKENS))
    kind = resource.c.type == literal("Organization", Text, literal_execute=True)
    shown = visible(directory, "r", "Organization")
    return select(resource.c.id, body(directory, "Organization")).where(kind, sought, shown)
