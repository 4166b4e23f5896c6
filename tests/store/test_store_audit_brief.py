"""Brief AuditEvents: what they have in common is kept once; what is read, and verified, is every byte of each."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import orjson
import pytest

from fhirgw.access.audit_event import Access, Seen, event
from fhirgw.access.audit_facets import facets
from fhirgw.access.audit_read import whole
from fhirgw.fhir.canonical import encode
from fhirgw.store.audit import Auditor, append_brief, record_now
from fhirgw.store.audit_chain import verify
from fhirgw.store.audit_forms import Forms
from fhirgw.store.looked import listed
from tests.store.test_store_audit import ANNE, BERT, CARE, access, forged

PATIENT = Access(
    *("read", "/fhir/{type}/{id}", access(1).moment, "r1"),
    type="Patient",
    asked=f"Patient/{ANNE}",
    seen=(Seen("Patient", ANNE, ANNE),),
    permit=CARE,
)
GOAL = replace(PATIENT, type="Goal", asked="Goal/g1", seen=(Seen("Goal", "g1", BERT),))
FOUND = Access(
    *("search-type", "/fhir/{type}", access(1).moment, "r1"),
    type="Goal",
    parameters=("patient", "_sort"),
    permit=CARE,
    seen=(Seen("Goal", "g1", ANNE), Seen("Goal", "g2", BERT), Seen("Organization", "o1", None)),
)
NOTHING = replace(FOUND, seen=())
REFUSED = replace(PATIENT, status=404, seen=())
KINDS = [PATIENT, GOAL, FOUND, NOTHING, REFUSED]


@pytest.fixture
async def connection(database: str) -> AsyncIterator[asyncpg.Connection]:
    made = await asyncpg.connect(database)
    yield made
    await made.close()


async def read_and_found(url: str, times: int = 3) -> None:
    """Each kind of access, so many times, by two processes' worth of auditors."""
    async with Auditor(url) as one, Auditor(url) as other:
        for number in range(times):
            asked = [replace(each, request=f"r{number}") for each in KINDS]
            await asyncio.gather(*(auditor.record(each) for each in asked for auditor in (one, other)))


async def test_forms_are_kept_with_the_rows_that_rest_on_them_or_not_at_all(connection: asyncpg.Connection) -> None:
    forms = Forms()
    made = [replace(FOUND, request=f"r{number}") for number in range(4)]
    transaction = connection.transaction()
    await transaction.start()
    await append_brief(connection, made, forms)
    await transaction.rollback()
    forms.doubt()
    assert not await connection.fetchval("SELECT count(*) FROM fhirgw.audit_form")
    async with connection.transaction():
        await append_brief(connection, made, forms)
    assert await connection.fetchval("SELECT count(*) FROM fhirgw.audit_form") == 1
    brief = await connection.fetch("SELECT body FROM fhirgw.audit WHERE body LIKE '~%' ORDER BY sequence")
    bodies = [each.body for each in await listed(connection, count=10)]
    assert (len(brief), len(bodies)) == (4, 4)
    assert sorted(body.count(f'"r{number}"') for body in bodies for number in range(4)) == [0] * 12 + [1] * 4
    assert all(orjson.loads(body)["resourceType"] == "AuditEvent" for body in bodies)


async def test_what_is_read_is_the_event_made_whole(database: str, connection: asyncpg.Connection) -> None:
    await read_and_found(database)
    bodies = [each.body for each in await listed(connection, count=100)]
    assert len(bodies) == 2 * 3 * len(KINDS)
    wanted = [replace(each, request=f"r{number}") for each in KINDS for number in range(3)]
    for body in bodies:
        id = orjson.loads(body)["id"]
        assert body in {encode(event(each, id)).decode() for each in wanted}
    assert (await verify(connection)).sound


async def test_from_the_second_of_a_kind_on_a_tenth_is_stored(database: str, connection: asyncpg.Connection) -> None:
    """The first may be the only one ever: it is whole. So is what is written with what it is about, and a refusal."""
    await read_and_found(database)
    await record_now(connection, PATIENT)
    stored = [row[0] for row in await connection.fetch("SELECT body FROM fhirgw.audit ORDER BY sequence")]
    brief = [each for each in stored if each.startswith("~")]
    assert len(brief) == 2 * (2 + 2 + 5)  # a search that finds nothing has the form of those that do
    assert await connection.fetchval("SELECT count(*) FROM fhirgw.audit_form") == 3
    short = min(map(len, brief))
    assert short < 0.12 * len(stored[-1])
    assert sum(map(len, brief)) < 0.25 * sum(len(each.body) for each in await listed(connection, count=len(brief)))


async def test_a_brief_row_is_found_by_what_it_says(database: str, connection: asyncpg.Connection) -> None:
    await read_and_found(database, times=2)
    for row in await connection.fetch("SELECT * FROM fhirgw.audited"):
        found = facets(orjson.loads(row["body"]))
        assert (row["recorded"], tuple(row["persons"]), *tuple(row)[3:7]) == tuple(found)
    assert len(await listed(connection, person=BERT, count=100)) == 2 * 2 * 2


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE fhirgw.audit_form SET pieces = pieces",
        "DELETE FROM fhirgw.audit_form",
        "TRUNCATE fhirgw.audit_form",
    ],
)
async def test_forms_are_only_ever_added(database: str, connection: asyncpg.Connection, statement: str) -> None:
    await read_and_found(database, times=2)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only ever added to"):
        await connection.execute(statement)


async def test_a_form_is_under_its_own_digest(database: str, connection: asyncpg.Connection) -> None:
    await read_and_found(database, times=2)
    copied = "INSERT INTO fhirgw.audit_form SELECT {}, pieces, holes FROM fhirgw.audit_form"
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute(copied.format("md5(key)"))
    await connection.execute(copied.format("key") + " ON CONFLICT DO NOTHING")  # the control


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE fhirgw.audit_form SET pieces[2] = replace(pieces[2], 'rest', 'read')",
        "UPDATE fhirgw.audit_form SET pieces = array_replace(pieces, pieces[1], pieces[1] || ' ')",
        "DELETE FROM fhirgw.audit_form",
    ],
)
async def test_a_form_that_was_changed_is_found(database: str, connection: asyncpg.Connection, statement: str) -> None:
    await read_and_found(database, times=2)
    assert (await verify(connection)).sound
    await connection.execute("ALTER TABLE fhirgw.audit_form DISABLE TRIGGER USER, DROP CONSTRAINT audit_form_key")
    await connection.execute(statement)
    first = await connection.fetchval("SELECT min(sequence) FROM fhirgw.audit WHERE body LIKE '~%'")
    found = await verify(connection)
    assert (found.broken, found.why) == (first, "its body is no AuditEvent of the gateway's")


async def test_a_brief_body_that_was_changed_is_found(database: str, connection: asyncpg.Connection) -> None:
    await read_and_found(database, times=2)
    first = await connection.fetchval("SELECT min(sequence) FROM fhirgw.audit WHERE body LIKE '~%'")
    await forged(connection, f"UPDATE fhirgw.audit SET body = replace(body, '2026', '2025') WHERE sequence = {first}")
    found = await verify(connection)
    assert (found.broken, found.why) == (first, "its digest does not fit its body and the row before it")


def test_what_is_not_brief_is_what_it_is() -> None:
    assert whole('{"a":1}', {}) == '{"a":1}'
    with pytest.raises(KeyError):
        whole("~0\n1", {})
