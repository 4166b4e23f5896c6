"""What a request writes, as SQL: the statements of a load (fhirgw.store.load), of lists instead of a staged table.

One statement a type, however many resources: their history, what they are found by, the rules that rest on them and the
change log go with them, in the caller's transaction. Lineage stays as it is: a row of a system of record that did not
change since is not taken again, and one that did is mapped onto what was written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache, partial
from typing import Any, NamedTuple

import asyncpg
from sqlalchemy import Select, Text, any_, bindparam, literal, null, select, true, union_all
from sqlalchemy.dialects.postgresql import ARRAY

from fhirgw.access.permit import Permit, operations
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store import audit, load, rules, visibility
from fhirgw.store.basis import LISTS
from fhirgw.store.database import Connection, once
from fhirgw.store.load import Incoming
from fhirgw.store.schema import among, resource
from fhirgw.store.schema import held as tables
from fhirgw.store.visibility import visible

COLLISIONS = (
    *(asyncpg.UniqueViolationError, asyncpg.SerializationError, asyncpg.DeadlockDetectedError),
    asyncpg.LockNotAvailableError,
)
"""Errors of two who write the same."""
REFUSED = (asyncpg.DataError, asyncpg.ProgramLimitExceededError, asyncpg.CheckViolationError)
"""Errors of a value that no column or index holds."""

VISITED = "SELECT EXISTS (SELECT FROM fhirgw.visit WHERE patient = $1)"

DELETE = f"""
WITH gone AS (SELECT id, version FROM unnest($3::text[], $4::int[]) AS given (id, version)), {load.REMOVED}"""


class Held(NamedTuple):
    """A current version that the caller may change: `entire` is false where part of it is withheld from them.

    `readable`: a scope lets them read it too. `whole` is all of a list, whatever of it they are shown.
    """

    id: str
    body: str
    version: int
    updated: datetime
    origin: str
    controller: str | None
    person: str | None
    entire: bool
    readable: bool = True
    whole: str | None = None


def conflict() -> FhirError:
    """The answer for what others wrote meanwhile."""
    return FhirError(Issue("conflict", "Others wrote the same meanwhile: nothing of this was kept, send it again"))


async def held(
    connection: Connection, permit: Permit, verb: str, resource_type: str, ids: Sequence[str]
) -> dict[str, Held]:
    """The current versions that a scope lets the permit change (`verb` u or d), kept from others until the end."""
    shape = ("held", verb, resource_type, visibility.shape(permit))
    made = once(shape, partial(_held, permit, verb, resource_type))
    rows = await connection.fetch(made.sql, *made.arguments(visibility.values(permit) | {"ids": list(ids)}))
    found = (Held(*each) for each in rows)
    return {each.id: each if each.whole is None else each._replace(entire=each.body == each.whole) for each in found}


async def seen(connection: Connection, permit: Permit, resource_type: str, ids: Sequence[str]) -> dict[str, str | None]:
    """Those of the ids that the permit may read, each with who controls it."""
    if not permit.covering("r", resource_type):
        return {}
    made = once(("seen", resource_type, visibility.shape(permit)), partial(_seen, permit, resource_type))
    rows = await connection.fetch(made.sql, *made.arguments(visibility.values(permit) | {"ids": list(ids)}))
    return dict(map(tuple, rows))


async def in_use(connection: Connection, patient: str) -> bool:
    """Whether there is more in a Patient's record than the Patient, whoever may see it: none of it is to be left."""
    made = once(("in use",), _in_use)
    found = await connection.fetchval(made.sql, *made.arguments({"person": patient}))
    return found is not None or bool(await connection.fetchval(VISITED, patient))


async def alone(connection: Connection, condition: str) -> None:
    """Waits until nobody else writes on the same condition, and keeps others waiting until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 1))", condition)


async def write(connection: Connection, origin: str, incoming: Sequence[Incoming]) -> None:
    """Writes versions of resources of one type, and all that follows. Raises FhirError(conflict)."""
    news = all(each.kind == "create" for each in incoming)
    lists = load.columns(incoming)
    query = _create() if news else _merge(incoming[0].type)
    if await connection.fetchval(query, origin, *lists) != len(incoming):
        raise conflict()
    made, back = any(map(_rules, incoming)), any(map(_back, incoming))
    await rules.write(connection, renewed=not news, any_made=made, back=back, source=_HANDED, lists=lists)


async def create(connection: Connection, origin: str, incoming: Sequence[Incoming], rows: Sequence[audit.Row]) -> None:
    """Writes what is new, of any types, and its rows of the audit, by one statement: nothing in it is `ruling`."""
    await connection.execute(_audited(), origin, *load.columns(incoming), *audit.columns(rows))


def ruling(incoming: Iterable[Incoming]) -> bool:
    """Whether what is new decides who sees a record: more statements follow then."""
    return any(_rules(each) or _back(each) for each in incoming)


def _rules(each: Incoming) -> bool:
    return bool(each.ties or each.directives or each.delegations)


def _back(each: Incoming) -> bool:
    """Whether it is a Patient, who may have been here before."""
    return each.kind == "create" and each.type == "Patient"


async def remove(
    connection: Connection, origin: str, resource_type: str, versions: Mapping[str, int], moment: datetime
) -> None:
    """Deletes versions of one type, with history; `versions` by id. Raises FhirError(conflict)."""
    query = DELETE.format(type=resource_type, whose="r.version = g.version")
    gone = await connection.fetchval(query, origin, moment, list(versions), list(versions.values()))
    if gone != len(versions):
        raise conflict()


_HANDED = load.handed(1)
IDS = ARRAY(Text)


@cache
def _create() -> str:
    return f"WITH {load.handed(2)}, {load.CREATING}, {load.TOLD} {load.CREATED}"


@cache
def _audited() -> str:
    """Nothing counts what was created: an id that is there already is an error."""
    return f"WITH {load.handed(2)}, {load.CREATING}, {load.TOLD} SELECT {audit.appended(2 + len(load.STAGED))}"


@cache
def _merge(resource_type: str) -> str:
    return f"WITH {load.handed(2)}, {load.MERGING}, {load.TOLD} {load.MERGED}".replace("{type}", resource_type)


def _held(permit: Permit, verb: str, resource_type: str) -> Select[Any]:
    lists = resource_type in LISTS  # which are laid out once, and not again to be compared
    entire = (true() if lists else visibility.whole(permit, resource, resource_type)).label("entire")
    whole = visibility.body(operations(permit.organisation), resource_type) if lists else null().label("whole")
    readable = visibility.as_well(permit, "r", verb, resource_type).label("readable")
    columns = (resource.c.version, resource.c.updated, resource.c.origin, resource.c.controller, resource.c.patient)
    return (
        select(resource.c.id, visibility.body(permit, resource_type), *columns, entire, readable, whole)
        .where(*_named(resource_type), visible(permit, verb, resource_type))
        .order_by(resource.c.id)
        .with_for_update(of=resource)
    )


def _seen(permit: Permit, resource_type: str) -> Any:
    ids = bindparam("ids", type_=IDS, required=False)
    first, *others = (
        select(table.c.id, table.c.controller).where(
            table.c.type == literal(resource_type, Text, literal_execute=True),
            *among(table, ids),
            visible(permit, "r", resource_type, table),
        )
        for table in tables(resource_type)
    )
    return union_all(first, *others) if others else first


def _named(resource_type: str) -> tuple[Any, ...]:
    return (
        resource.c.type == literal(resource_type, Text, literal_execute=True),
        resource.c.id == any_(bindparam("ids", type_=IDS, required=False)),
    )


def _in_use() -> Select[Any]:
    person = bindparam("person", type_=Text, required=False)
    other = resource.c.type != literal("Patient", Text, literal_execute=True)
    return select(literal(1)).where(resource.c.patient == person, other).limit(1)
