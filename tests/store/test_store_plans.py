"""Plans: each shape of search goes through its index, in a store large enough for PostgreSQL to mind, with half of
the records at one provider. Judged by what the statements sent are planned as, never by time."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir import tokens
from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.query import Query
from fhirgw.store import cursor, history, include, rendered, resources
from fhirgw.store.database import Connection
from fhirgw.store.matching import Way
from fhirgw.store.search import COUNTED, search, walked
from tests.conftest import NewDatabase
from tests.put import connected, reading

EVERYTHING = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))

TOKEN = "('x' || left(encode(sha256(convert_to({}, 'UTF8')), 'hex'), 16))::bit(64)::bigint"


def filled(kind: str, one: str, few: str, many: str) -> str:
    """`one` is a token of one each, `few` of some, `many` of half of them; texts as in fhirgw.fhir.tokens."""
    texts = (f"'{one}' || n", f"'{few}' || n / 6", f"'{many}' || CASE WHEN n % 2 = 0 THEN 0 ELSE n % 300 END")
    array = ", ".join(TOKEN.format(each) for each in texts)
    return f"""
    INSERT INTO fhirgw.resource
        (type, id, version, updated, patient, origin, controller, tokens, date1_low, date1_high, body)
    SELECT '{kind}', md5('{kind}' || n), 1, '2026-01-01'::timestamptz + n * interval '1 minute',
        CASE '{kind}' WHEN 'Patient' THEN NULL ELSE (n / 6)::text END, 'test', 'Z99',
        ARRAY[{array}], '2020-01-01'::timestamptz + n * interval '1 hour',
        '2020-01-01'::timestamptz + (n + 1) * interval '1 hour', repeat('x', 300)
    FROM generate_series(1, 20000) n"""


class Explained:
    """A connection that notes the plan of whatever is asked of it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.plans: list[str] = []

    async def fetch(self, sql: str, *arguments: Any) -> Any:
        await self._note(sql, arguments)
        return await self.connection.fetch(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        await self._note(sql, arguments)
        return await self.connection.fetchval(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: Any) -> Any:
        await self._note(sql, arguments)
        return await self.connection.fetchrow(sql, *arguments)

    async def _note(self, sql: str, arguments: Any) -> None:
        if sql in (cursor.KEY, rendered.SIZE):
            return
        rows = await self.connection.fetch(f"EXPLAIN {sql}", *arguments)
        self.plans.append("\n".join(row[0] for row in rows))


@pytest.fixture(scope="module")
async def large_url(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        yield url


@pytest.fixture(scope="module")
async def large(large_url: str) -> AsyncIterator[Connection]:
    connection = await connected(large_url)
    try:
        await connection.execute(filled("Patient", "identifier|s|", "general-practitioner|Organization/", "gender||"))
        await connection.execute(filled("Observation", "identifier|s|", "subject|Patient/", "performer|Organization/"))
        await connection.execute(
            "INSERT INTO fhirgw.search_string SELECT 'Patient', md5('Patient' || n), 'family', 'smith' || n"
            " FROM generate_series(1, 20000) n"
        )
        await connection.execute(filled("Encounter", "identifier|s|", "subject|Patient/", "participant|Practitioner/"))
        await connection.execute(
            "INSERT INTO fhirgw.search_number SELECT 'Observation', md5('Observation' || n), 'valueQuantity', n, n"
            " FROM generate_series(1, 20000) n"
        )
        await connection.execute(
            "INSERT INTO fhirgw.search_span SELECT 'Encounter', md5('Encounter' || n), 'location-period',"
            " '2020-01-01'::timestamptz + n * interval '1 hour',"
            " '2020-01-01'::timestamptz + (n + 1) * interval '1 hour'"
            " FROM generate_series(1, 20000) n"
        )
        await connection.execute("UPDATE fhirgw.resource SET body = '{}'")
        await connection.execute(
            "INSERT INTO fhirgw.history (type, id, version, updated, origin, body, superseded)"
            " SELECT CASE WHEN n % 100 = 0 THEN 'Patient' ELSE 'Observation' END, md5('Observation' || n % 5000), n,"
            " '2026-01-01'::timestamptz + n * interval '1 minute', 'test', '{}', '3'::xid8"
            " FROM generate_series(1, 20000) n"
        )
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
    async with reading(large_url) as pool, pool.acquire() as reader:
        yield reader


def test_the_filling_spells_tokens_as_the_index_does() -> None:
    assert tokens.identifier("identifier", "s", "7")[0] == tokens.token("identifier|s|7")
    assert tokens.plain_reference("subject", "Patient/7") == tokens.token("subject|Patient/7")


TOKENS, DATES = "resource_observation_tokens_idx", "resource_observation_date1_low_idx"
UPDATED, PATIENT = "resource_observation_updated_idx", "resource_observation_patient_idx"
SHAPES = [
    ("Patient", [("identifier", "s|77")], "resource_patient_tokens_idx", 1),
    ("Patient", [("family", "smith77")], "search_string_by_value", 111),
    ("Patient", [("_id", "c4ca4238a0b923820dcc509a6f75849b")], "resource_patient_pkey", 0),
    ("Observation", [("subject", "Patient/77")], PATIENT, 6),
    (
        "Observation",
        [("subject", "Patient/77"), ("date", "ge2020"), ("_sort", "-date")],
        PATIENT,
        6,
    ),
    (
        "Observation",
        [("performer", "Organization/3"), ("_sort", "-_lastUpdated")],
        TOKENS,
        67,
    ),
    (
        "Observation",
        [("performer", "Organization/0"), ("_sort", "-_lastUpdated")],
        "resource_observation_updated_idx",
        10000,
    ),
    ("Observation", [("performer", "Organization/0"), ("_sort", "-date")], DATES, 10000),
    ("Observation", [("date", "2020-03-01"), ("_sort", "date")], DATES, 24),
    ("Observation", [("_sort", "-date")], DATES, 20000),
    ("Observation", [], "resource_observation_pkey", 20000),
    ("Patient", [("_sort", "family")], "search_string_by_value", 20000),
    ("Patient", [("_sort", "-family")], "search_string_by_value", 20000),
    ("Patient", [("identifier", "s|77"), ("_sort", "family")], "resource_patient_tokens_idx", 1),
    ("Observation", [("_source:below", "https://x.uk/one")], TOKENS, 0),
    ("Observation", [("value-quantity", "77")], "search_number_by_value", 1),
    ("Observation", [("value-quantity", "gt19990")], "search_number_by_high", 10),
    ("Observation", [("value-quantity", "lt10")], "search_number_by_value", 9),
    ("Observation", [("subject", "Patient/77"), ("value-quantity", "gt1")], PATIENT, 6),
    ("Observation", [("subject", "Patient/77"), ("value-quantity:missing", "true")], PATIENT, 6),
    ("Observation", [("subject", "Patient/77"), ("code:text", "x")], PATIENT, 0),
    ("Encounter", [("location-period", "2020-03-01")], "search_span_by_value", 24),
]


@pytest.mark.parametrize(("kind", "pairs", "index", "total"), SHAPES, ids=lambda value: str(value)[:60])
async def test_each_shape_goes_through_its_index(
    large: Connection, kind: str, pairs: list[tuple[str, str]], index: str, total: int
) -> None:
    explained = Explained(large)
    found = await search(explained, EVERYTHING, Query.parse(kind, [*pairs, ("_count", "20")]))
    assert found.total == (total if total <= COUNTED else None)
    assert index in explained.plans[0]
    assert "Seq Scan on resource" not in explained.plans[0]
    if found.next:
        explained.plans.clear()
        await search(explained, EVERYTHING, Query.parse(kind, [*pairs, ("_count", "20"), ("_cursor", found.next)]))
        assert index in explained.plans[0]
        assert "Seq Scan on resource" not in explained.plans[0]


async def test_what_is_walked_is_read_along_the_ids_by_a_plan_that_suits_every_code(large: Connection) -> None:
    """Planned without its values, the same search would be looked for by its code, and all that has it sorted."""
    explained = Explained(large)
    query = Query.parse("Observation", [("performer", "Organization/0"), ("_total", "none"), ("_count", "20")])
    await large.execute("SET plan_cache_mode = force_generic_plan")
    try:
        found = await walked(explained, EVERYTHING, query, Way.ALONG)
    finally:
        await large.execute("RESET plan_cache_mode")
    assert found is not None
    assert "resource_observation_pkey" in explained.plans[0]
    assert "Sort" not in explained.plans[0] and TOKENS not in explained.plans[0]
    plain = await search(large, EVERYTHING, query)
    assert len(found.matches) == 20
    assert (found.matches, found.total) == (plain.matches, plain.total)
    with pytest.raises(FhirError, match="No scope"):
        await walked(large, replace(EVERYTHING, scopes=(Scope.parse("system/Patient.rs"),)), query, Way.ALONG)
    following = await search(large, EVERYTHING, replace(query, cursor=found.next))
    assert following.matches == (await search(large, EVERYTHING, replace(query, cursor=plain.next))).matches


async def test_who_may_see_what_few_have_is_asked_when_it_is_in_order(large: Connection) -> None:
    explained = Explained(large)
    query = Query.parse("Observation", [("performer", "Organization/1"), ("_total", "none"), ("_count", "20")])
    ordered = await walked(explained, EVERYTHING, query, Way.ORDER)
    judged, _, put_in_order = explained.plans[0].partition("Sort Key")
    assert "Subquery Scan on ordered" in judged and TOKENS in put_in_order
    assert "ordered.labels" in explained.plans[0] and "resource.labels" not in explained.plans[0]
    assert ordered is not None and len(ordered.matches) == 20
    assert ordered.matches == (await search(large, EVERYTHING, query)).matches


async def test_a_chain_is_looked_up_before_it_is_searched_for(large: Connection) -> None:
    explained = Explained(large)
    asked = Query.parse("Observation", [("subject:Patient.identifier", "s|77")])
    await search(explained, EVERYTHING, asked)
    assert "resource_patient_tokens_idx" in explained.plans[0]
    assert TOKENS in explained.plans[1]


async def test_what_others_wrote_meanwhile_is_looked_for_by_when(large: Connection) -> None:
    """A later page reads the current rows as the first did, and of history what ended since: by index."""
    asked = [("performer", "Organization/0"), ("_sort", "-_lastUpdated"), ("_count", "20")]
    found = await search(large, EVERYTHING, Query.parse("Observation", asked))
    explained = Explained(large)
    await search(explained, EVERYTHING, Query.parse("Observation", [*asked, ("_cursor", found.next or "")]))
    assert UPDATED in explained.plans[0]
    assert "Seq Scan on history" not in explained.plans[0]


@pytest.mark.parametrize("kind", ["Observation", "Patient", None])
@pytest.mark.parametrize("since", [None, datetime(2026, 1, 3, tzinfo=UTC)], ids=["all", "since"])
async def test_what_changed_last_is_read_by_when(large: Connection, kind: str | None, since: datetime | None) -> None:
    """The first page and the next: no more of either table than a page, and nothing sorted whole."""
    asked = history.Asked(kind, since=since, count=20)
    times: list[datetime] = []
    for _ in range(2):
        explained = Explained(large)
        page = await history.changes(explained, EVERYTHING, asked)
        assert len(page.versions) == 20
        assert page.next is not None
        times += [each.updated for each in page.versions]
        (plan,) = [each for each in explained.plans if "history" in each]
        along = {"Patient": ("by_type",), "Observation": ("by_type", "by_updated"), None: ("by_updated",)}[kind]
        assert any(f"history_{each}" in plan for each in along), "most are Observations': either will do"
        assert "Seq Scan on history" not in plan
        assert "Seq Scan on resource_observation" not in plan
        assert "updated_idx" in plan
        asked = replace(asked, cursor=page.next)
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("kind", "pair", "first", "second"),
    [
        ("Patient", ("_has:Observation:subject:identifier", "s|77"), TOKENS, "resource_patient_pkey"),
        ("Observation", ("subject:Patient._has:Observation:subject:identifier", "s|77"), TOKENS, "patient_pkey"),
        (
            "Observation",
            ("subject:Patient.general-practitioner:Organization.identifier", "s|1"),
            "organization",
            "patient",
        ),
    ],
)
async def test_steps_go_through_their_indexes(
    large: Connection, kind: str, pair: tuple[str, str], first: str, second: str
) -> None:
    explained = Explained(large)
    await search(explained, EVERYTHING, Query.parse(kind, [pair]))
    assert first in explained.plans[0]
    assert second in explained.plans[1]
    for plan in explained.plans:
        assert "Seq Scan on resource_patient" not in plan and "Seq Scan on resource_observation" not in plan


async def test_what_refers_to_one_is_not_looked_for_along_the_ids(large: Connection) -> None:
    """In a million, a plan for any values would walk them; here it would if there were no other way."""
    asked = Query.parse("Organization", [("_id", "none"), ("_revinclude", "Patient:general-practitioner")])
    plans = []
    for other in ("on", "off"):
        await large.execute(f"SET enable_bitmapscan = {other}; SET enable_seqscan = {other}")
        try:
            explained = Explained(large)
            along, _ = await include.included(explained, EVERYTHING, asked, [include.Found("Organization", "7", "{}")])
        finally:
            await large.execute("RESET enable_bitmapscan; RESET enable_seqscan")
        assert len(along) == 6
        plans += explained.plans
    assert "resource_patient_tokens_idx" in plans[0]
    assert all("Sort Key" in each for each in plans), "none is in the order of an index"


async def test_a_read_touches_one_partition(large: Connection) -> None:
    explained = Explained(large)
    id = await large.fetchval("SELECT md5('Patient1')")
    await resources.read(explained, EVERYTHING, "Patient", id)
    assert "Index Scan using resource_patient_pkey" in explained.plans[0]
    assert "Append" not in explained.plans[0]


async def test_a_search_is_planned_for_its_own_values_and_a_read_once(large: Connection, large_url: str) -> None:
    """A plan for a code half of the records have would read all of them for a rare one, and a plan is kept."""
    plans = "SELECT sum(custom_plans)::int, sum(generic_plans)::int FROM pg_prepared_statements WHERE statement LIKE $1"
    async with reading(large_url, replan=True) as searchers, searchers.acquire() as connection:
        for number in range(20):
            asked = Query.parse("Observation", [("performer", f"Organization/{number}"), ("_sort", "-_lastUpdated")])
            await search(connection, EVERYTHING, asked)
        custom, generic = await connection.fetchrow(plans, "%resource.tokens%")
        assert custom >= 20
        assert generic == 0
    async with reading(large_url) as pool, pool.acquire() as connection:
        for _ in range(20):
            await resources.read(connection, EVERYTHING, "Patient", await large.fetchval("SELECT md5('Patient1')"))
        custom, generic = await connection.fetchrow(plans, "%resource.id = %")
        assert custom < generic
