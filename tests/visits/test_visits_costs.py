"""What reading visits costs those who do not ask for any: nothing; and a search that would render them all: refused."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.parameters import HELD
from fhirgw.fhir.query import Query
from fhirgw.store import rendered
from fhirgw.store.matching import Matching
from fhirgw.store.schema import RENDERED, both, history, resource
from fhirgw.store.search import search
from tests.conftest import NewDatabase
from tests.put import reading
from tests.visits.visiting import A, county

EVERYTHING = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))


@pytest.fixture(scope="module")
async def connection(new_database: NewDatabase) -> AsyncIterator[asyncpg.Connection]:
    async with new_database() as url:
        await county(url)
        async with reading(url) as pool, pool.acquire() as connection:
            yield connection


def tables(search: str) -> set[str]:
    """The tables that a search reads."""
    kind, _, rest = search.partition("?")
    query = Query.parse(kind, [(name, value) for name, _, value in (each.partition("=") for each in rest.split("&"))])
    return {each.name for each in Matching.of(EVERYTHING, kind, query.criteria).tables}


@pytest.mark.parametrize("kind", [each for each in HELD if each not in RENDERED])
def test_what_visits_are_not_rendered_as_is_asked_for_as_before(kind: str) -> None:
    """By the statement that there was before there were visits: so it is planned, and costs, the same."""
    assert both(kind) == (resource, history)


@pytest.mark.parametrize(
    "search",
    [
        "Observation?category=vital-signs",
        "Observation?value-string=x",
        "Task?status=in-progress",
        "Task?code=review",
        "Task?intent=plan",
        "Task?owner=PractitionerRole/1",
        "Encounter?type=1",
        "Encounter?practitioner=Practitioner/1",
        "Appointment?status=waitlist",
        "Provenance?target=ServiceRequest/1",
        "Provenance?agent=Practitioner/1",
        "Provenance?signature-type=1",
    ],
)
def test_what_no_visit_can_meet_leaves_them_out(search: str) -> None:
    assert tables(search) == {"resource"}


@pytest.mark.parametrize(
    "search",
    [
        "Observation?code=http://loinc.org|29463-7",
        "Observation?code-value-quantity=29463-7$gt5",
        "MedicationAdministration?code=1",
        "Encounter?based-on=ServiceRequest/1",
        "Encounter?service-provider=Organization/1",
        "Provenance?target=Encounter/1",
        "Provenance?target=Encounter/1,ServiceRequest/1",
        "Provenance?agent=Organization/1",
        "Provenance?agent:identifier=https://fhirgw.uk/Id/K01/carer|M1",
        "Observation?value-quantity=5",
        "Observation?status=final",
        "Observation?code:not=1",
        "Observation?category:missing=true",
        "Observation?code:text=temperature",
        "Task?status=in-progress,completed",
        "Task?owner:identifier=https://fhirgw.uk/Id/K01/carer|C1",
        "Encounter?practitioner:identifier=https://fhirgw.uk/Id/K01/carer|C1",
        "Appointment?status:not=waitlist",
        f"Encounter?patient=Patient/{A}",
    ],
)
def test_what_a_visit_may_meet_does_not(search: str) -> None:
    kind = search.partition("?")[0]
    assert tables(search) == {"resource", f"visit_{kind.lower()}"}


@pytest.mark.parametrize(
    ("search_for", "bound"),
    [
        ("Encounter?status=finished", f"Encounter?status=finished&patient={A}"),
        ("Task?status=completed", "Task?status=completed&encounter=Encounter/a1b00000-0000-5000-8000-00000000000f"),
        ("Appointment?service-type:text=x", "Appointment?service-type:text=x&date=2026-03-30"),
        ("Observation?value-quantity=5", "Observation?value-quantity=5&_lastUpdated=gt2026-01-01"),
        ("Encounter?class=HH", "Encounter?class=HH&identifier=K01.V1"),
        ("Encounter?class=HH", "Encounter?based-on=ServiceRequest/1"),
        ("Observation?value-quantity=5", "Observation?code=29463-7"),
        ("Observation?value-quantity=5", "Observation?code-value-quantity=29463-7$gt5"),
        ("Encounter?status=finished", "Encounter"),
        ("Provenance?agent=Organization/1", "Provenance?agent=Organization/1&target=Encounter/1"),
        ("Provenance?agent=Organization/1", "Provenance?target=Task/1"),
    ],
)
async def test_a_search_that_would_render_every_visit_is_refused(
    connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, search_for: str, bound: str
) -> None:
    async def found(asked: str) -> None:
        kind, _, rest = asked.partition("?")
        pairs = [each.partition("=") for each in rest.split("&") if each]
        await search(connection, EVERYTHING, Query.parse(kind, [(name, value) for name, _, value in pairs]))

    await found(search_for)
    monkeypatch.setattr(rendered, "MANY", -1)
    await found(bound)
    with pytest.raises(FhirError) as refused:
        await found(search_for)
    assert refused.value.issues[0].code == "too-costly"
