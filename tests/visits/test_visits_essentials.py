"""What a care provider sees of somebody it looks after, over HTTP: each essential, no more, and nothing afterwards.

The council's own system, which sees all of it, is the positive control of every refusal.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from fhirgw.access.label import RESTRICTED
from fhirgw.access.permit import Permit, operations
from fhirgw.access.relationship import KINDS, LATE_VISITS
from fhirgw.access.scope import Scope
from fhirgw.fhir.dates import LONDON
from fhirgw.fhir.issue import Resource
from fhirgw.store.basis import founded
from fhirgw.store.database import statement
from fhirgw.store.explain import explain
from fhirgw.store.schema import resource
from fhirgw.store.schema import visit as table
from fhirgw.store.visibility import values, visible
from tests.gateway import ICS, Gateway
from tests.put import connected, put
from tests.visits.visiting import COUNCIL, KESTREL, A, care, visit

OURS = "https://fhirgw.uk/fhir"
RECORD_CLASS = f"{OURS}/CodeSystem/record-class"
HERS = {"reference": f"Patient/{A}"}


def text(told: str) -> Resource:
    return {"text": told}


def labelled(name: str) -> Resource:
    return {"meta": {"security": [{"system": RECORD_CLASS, "code": name}]}}


CONTINGENCY = {"url": f"{OURS}/StructureDefinition/ext-contingency-plan", "valueBoolean": True}
ACTIONS = {"url": f"{OURS}/StructureDefinition/ext-contingency-actions", "valueString": "Ring the daughter"}
DETAIL = {"url": f"{OURS}/StructureDefinition/ext-access-detail", "valueString": "By the door, 4711"}
SAID = {"resourceType": "QuestionnaireResponse", "status": "completed", "subject": HERS}
WARNING = {"resourceType": "Flag", "subject": HERS, "status": "active"}
PLAN = {"resourceType": "CarePlan", "status": "active", "intent": "plan", "subject": HERS}
ESSENTIAL: dict[str, Resource] = {
    "the package": {"resourceType": "EpisodeOfCare", "id": "care-a"},
    "its lines": {
        "resourceType": "ServiceRequest",
        "id": "line-a",
        "status": "active",
        "intent": "order",
        "subject": HERS,
        "code": text("Homecare, 30 minutes"),
    },
    "access notes": {**WARNING, "id": "access", "code": text("Key safe"), "extension": [DETAIL], **labelled("entry")},
    "a warning to those who visit": {**WARNING, "id": "dog", "code": text("Dog"), **labelled("third-party")},
    "allergies": {"resourceType": "AllergyIntolerance", "id": "allergy", "patient": HERS, "code": text("Penicillin")},
    "about me": {**SAID, "id": "about-me", "questionnaire": f"{OURS}/Questionnaire/about-me"},
    "the contingency plan": {**PLAN, "id": "contingency", "extension": [CONTINGENCY, ACTIONS]},
    "a goal": {
        "resourceType": "Goal",
        "id": "goal",
        "lifecycleStatus": "active",
        "subject": HERS,
        "description": text("To walk to the shop"),
    },
    "contacts": {"resourceType": "RelatedPerson", "id": "daughter", "patient": HERS},
}
ASSESSED = {"status": "completed", "subject": HERS}
HIDDEN: dict[str, Resource] = {
    "the financial assessment": {"resourceType": "QuestionnaireResponse", "id": "finance", **ASSESSED},
    "another questionnaire's answers": {**SAID, "id": "answers", "questionnaire": f"{OURS}/Questionnaire/other"},
    "a diagnosis": {"resourceType": "Condition", "id": "stroke", "subject": HERS, "code": text("Stroke")},
    "a contact with the council": {
        "resourceType": "ServiceRequest",
        "id": "contact",
        "status": "active",
        "intent": "plan",
        "subject": HERS,
    },
    "what she decided on sharing": {"resourceType": "Consent", "id": "consent", "status": "inactive", "patient": HERS},
    "eligibility": {"resourceType": "Observation", "id": "eligible", "status": "final", "subject": HERS, "code": {}},
    "safeguarding": {**WARNING, "id": "abuse", "code": text("Financial abuse"), **labelled("safeguarding")},
    "a family's secret": {**PLAN, "id": "secret", "note": [{"text": "Adopted"}], **labelled("sealed")},
    "an assessment's task": {
        "resourceType": "Task",
        "id": "assessed",
        "status": "completed",
        "intent": "order",
        "for": HERS,
        "code": text("Financial assessment"),
    },
    "another's documents": {"resourceType": "DocumentReference", "id": "letter", "status": "current", "subject": HERS},
}
NOTES = {"resourceType": "Encounter", "status": "finished", "class": {}, "subject": HERS}
ESSENTIAL["its notes of a visit"] = {**NOTES, "id": "ours", "serviceProvider": {"reference": "Organization/kestrel"}}
BOOKED = {
    "resourceType": "Appointment",
    "status": "booked",
    "start": "2026-12-01T09:00:00Z",
    "end": "2026-12-01T10:00:00Z",
}


def booked(id: str, *others: str) -> Resource:
    """An appointment of hers, as the council keeps it, with others who take part."""
    actors = [HERS, *({"reference": each} for each in others)]
    return {**BOOKED, "id": id, "participant": [{"actor": each, "status": "accepted"} for each in actors]}


ESSENTIAL["an appointment that it takes part in"] = booked("review", "Organization/kestrel")
HIDDEN["the council's own appointment"] = booked("strategy")
HIDDEN["an appointment with another"] = booked("hairdresser", "Organization/heron")
SAID = (ESSENTIAL["its notes of a visit"], {"serviceProvider": {"reference": "Organization/heron"}})
ANOTHERS: dict[str, Resource] = {
    "another's notes of a visit": {**NOTES, "id": "theirs", **SAID[1]},
    "notes of nobody knows whom": {**NOTES, "id": "whose"},
}
"""Of what is essential, that of visits which it did not make."""


ALERT = """
WITH made AS (
    INSERT INTO fhirgw.resource (type, id, version, updated, patient, origin, controller, tokens, body, transaction)
    VALUES ('Task', 'alert', 1, now(), $1, 'gateway:alerts', 'Z99', '{}', '{}', pg_current_xact_id()) RETURNING id)
INSERT INTO fhirgw.visit_alert (id, key, kind, again, provider, controller, patient, since, raised)
SELECT id, gen_random_uuid(), 'visit-not-started', 0, 'K01', 'Z99', $1, now(), now() FROM made"""


def address(resource: Resource) -> str:
    return f"/fhir/{resource['resourceType']}/{resource['id']}"


@pytest.fixture(scope="module")
def besides() -> tuple[Resource, ...]:
    given = {**ESSENTIAL, **HIDDEN, **ANOTHERS}
    return tuple(each for each in given.values() if each["id"] != "care-a")


def found(client: httpx.Client, resource: Resource) -> tuple[int, int]:
    """The status of reading it, and how often a search finds it."""
    query = f"/fhir/{resource['resourceType']}?_id={resource['id']}"
    return client.get(address(resource)).status_code, client.get(query).json()["total"]


@pytest.mark.parametrize("name", ESSENTIAL)
def test_each_essential_is_seen(name: str, kestrel: httpx.Client, heron: httpx.Client) -> None:
    assert found(kestrel, ESSENTIAL[name]) == (200, 1)
    assert found(heron, ESSENTIAL[name]) == (404, 0), "who does not look after her sees nothing"


@pytest.mark.parametrize("name", HIDDEN)
def test_what_is_not_essential_is_not(name: str, kestrel: httpx.Client, gateway: Gateway) -> None:
    if name not in ("safeguarding", "a family's secret"):  # for which the council's system has no clearance either
        assert found(gateway.http, HIDDEN[name]) == (200, 1)
    assert found(kestrel, HIDDEN[name]) == (404, 0)


async def test_what_is_sealed_or_of_safeguarding_is_there(places: str) -> None:
    connection = await connected(places)
    try:
        for name in ("safeguarding", "a family's secret"):
            each = HIDDEN[name]
            there = "SELECT labels FROM fhirgw.resource WHERE type = $1 AND id = $2"
            assert await connection.fetchval(there, each["resourceType"], each["id"]) != 0
    finally:
        await connection.close()


@pytest.mark.parametrize("name", ANOTHERS)
def test_what_is_anothers_is_not_seen(name: str, kestrel: httpx.Client, gateway: Gateway) -> None:
    assert found(gateway.http, ANOTHERS[name]) == (200, 1)
    assert found(kestrel, ANOTHERS[name]) == (404, 0)


def test_what_it_writes_itself_is_seen(kestrel: httpx.Client, gateway: Gateway) -> None:
    """Whoever brought it, where nothing in it says so."""
    written = {"resourceType": "Encounter", "status": "finished", "class": {"code": "HH"}, "subject": HERS}
    writers = [replace(each, id=f"{each.id}-writing", scopes="system/*.cruds") for each in (KESTREL, ICS)]
    made = []
    for each in writers:
        with gateway.client(each) as writer:
            made.append(writer.post("/fhir/Encounter", json=written).json())
    assert [found(kestrel, each) for each in made] == [(200, 1), (404, 0)]
    assert [found(gateway.http, each) for each in made] == [(200, 1), (200, 1)]
    history = [kestrel.get(f"{address(each)}/_history").status_code for each in made]
    assert history == [200, 404]


def test_what_is_said_to_be_anothers_after_all_is_gone(kestrel: httpx.Client, gateway: Gateway) -> None:
    """With every version of it; what the council deletes was there to its provider, whose it was to the end."""
    ours, theirs = ({**NOTES, "class": {"code": "HH"}, "serviceProvider": each["serviceProvider"]} for each in SAID)
    with gateway.client(COUNCIL) as council:
        made, deleted = (council.post("/fhir/Encounter", json=ours).json() for _ in range(2))
        assert found(kestrel, made) == (200, 1)
        corrected = {**theirs, "id": made["id"], "meta": made["meta"]}
        assert council.put(address(made), json=corrected).status_code == 200
        assert council.delete(address(deleted)).status_code == 204
        versions = ["", "/_history", "/_history/1", "/_history/2"]
        told = [[each.get(address(made) + path).status_code for path in versions] for each in (kestrel, council)]
        assert told == [[404] * 4, [200] * 4]
        assert made["id"] not in kestrel.get("/fhir/_history?_count=1000").text
        assert made["id"] in council.get("/fhir/_history?_count=1000").text
        assert [each.get(address(deleted)).status_code for each in (kestrel, council)] == [410, 410]


async def test_an_explanation_counts_its_own_visits_and_alerts(places: str, kestrel: httpx.Client) -> None:
    """As reading does, type by type; and says so."""
    sent(kestrel, "explained")
    connection = await connected(places)
    try:
        async with connection.transaction():
            await connection.execute(ALERT, A)
            parties = ("Organization/kestrel",)
            asker = Permit("K01", "direct-care", (Scope.parse("system/*.rs"),), parties=parties, controls=False)
            explained = await explain(connection, operations("Z99"), asker, A, ("Encounter", "Task", "Observation"), 7)
            seen = {each.type: (each.seen, each.held) for each in explained}
            own = statement(select(func.count()).select_from(table).where(visible(asker, "r", "Encounter", table)))
            visits = await connection.fetchval(own.sql, *own.arguments(values(asker)))
            raise _Undone
    except _Undone:
        pass
    finally:
        await connection.close()
    counts = (told(kestrel, f"/fhir/{each}?patient=Patient/{A}&_summary=count") for each in ("Encounter", "Task"))
    encounters, tasks = (each.json()["total"] for each in counts)
    assert visits and seen["Encounter"][0] == encounters < seen["Encounter"][1]
    assert seen["Task"][0] == tasks + 1 < seen["Task"][1], "the alert, which was undone"
    for each in explained:
        assert each.decision == ("none" if each.type == "Observation" else "some")
        assert any(why.allows and "its own visits" in why.text for why in each.reasons) == (each.decision == "some")
        assert any(not why.allows and "its own visits" in why.text for why in each.reasons)


async def test_how_to_get_in_is_for_who_comes_and_for_the_council(places: str) -> None:
    """Warnings to staff, which the same parties see, are the control."""
    connection = await connected(places)
    try:
        for kind in KINDS:
            await connection.execute(
                "INSERT INTO fhirgw.relationship (person, party, kind, starts, ends, type, id)"
                " VALUES ($1, $2, $3, '-infinity', 'infinity', 'CareTeam', 'each')",
                *(A, f"Organization/of-{kind}", kind),
            )
        seen = {kind: await _flags(connection, f"Organization/of-{kind}") for kind in KINDS}
    finally:
        await connection.execute("DELETE FROM fhirgw.relationship WHERE id = 'each'")
        await connection.close()
    assert {kind for kind, flags in seen.items() if "dog" in flags} == {*KINDS} - {"late-visits"}
    assert {kind for kind, flags in seen.items() if "access" in flags} == {"council", "worker", "team", "care-provider"}


async def test_of_visits_a_care_provider_sees_those_it_made(places: str, kestrel: httpx.Client) -> None:
    """Two look after her; the council sees what both did. Judged in the condition that every read has inside."""
    sent(kestrel, "mine")
    connection = await connected(places)
    try:
        async with connection.transaction():
            await connection.execute(
                "INSERT INTO fhirgw.relationship (person, party, kind, starts, ends, type, id)"
                " VALUES ($1, 'Organization/heron', 'care-provider', '-infinity', 'infinity', 'EpisodeOfCare', 'both')",
                A,
            )
            await connection.execute(
                "INSERT INTO fhirgw.visit (key, version, source_version, changed, updated, provider, visit, patient,"
                " controller, digest, parts) VALUES (gen_random_uuid(), 1, 1, now(), now(), 'H01', 'theirs', $1, 'Z99',"
                " '', '{}')",
                A,
            )
            seen = [await _seen(connection, *who) for who in (("K01", "kestrel"), ("H01", "heron"), ("X01", "other"))]
            council = await _seen(connection, "Z99", "council", controls=True)
            raise _Undone
    except _Undone:
        pass
    finally:
        await connection.close()
    assert ["theirs" in each for each in seen] == [False, True, False]
    assert ["mine" in each for each in seen] == [True, False, False]
    assert {"mine", "theirs"} <= council


async def test_of_visits_as_fhir_too(places: str, kestrel: httpx.Client, heron: httpx.Client) -> None:
    """Heron looks after her as well: it sees her package, and not what Kestrel did."""
    mine = {"resourceType": "Encounter", "id": sent(kestrel, "fhir")["id"]}
    connection = await connected(places)
    try:
        await connection.execute(
            "INSERT INTO fhirgw.relationship (person, party, kind, starts, ends, type, id)"
            " VALUES ($1, 'Organization/heron', 'care-provider', '-infinity', 'infinity', 'EpisodeOfCare', 'both')",
            A,
        )
        assert found(heron, ESSENTIAL["the package"]) == (200, 1)
        assert [found(each, mine) for each in (kestrel, heron)] == [(200, 1), (404, 0)]
        task = f"/fhir/Task?encounter=Encounter/{mine['id']}"
        assert [told(each, task).json()["total"] for each in (kestrel, heron)] == [1, 0]
    finally:
        await connection.execute("DELETE FROM fhirgw.relationship WHERE id = 'both'")
        await connection.close()


async def _flags(connection: Any, party: str) -> set[str]:
    """The warnings and access notes that a party sees, of the type by itself and among all types."""
    permit = Permit("X01", "direct-care", (Scope.parse("system/*.rs"),), parties=(party,))
    found = []
    for kind in ("Flag", None):
        chosen = select(resource.c.id).where(resource.c.type == "Flag", visible(permit, "r", kind))
        made = statement(chosen)
        found.append({row[0] for row in await connection.fetch(made.sql, *made.arguments(values(permit)))})
    assert found[0] == found[1]
    return found[0]


class _Undone(Exception):
    """Ends a transaction of which nothing is kept."""


async def _seen(connection: Any, code: str, party: str, controls: bool = False) -> set[str]:
    """The visits that an organisation sees: nothing but their basis decides here."""
    scopes = (Scope.parse("system/*.rs"),)
    permit = Permit(code, "direct-care", scopes, parties=(f"Organization/{party}",), controls=controls)
    made = statement(select(table.c.visit).where(visible(permit, "r", "Encounter", table)))
    found = {row[0] for row in await connection.fetch(made.sql, *made.arguments(values(permit)))}
    kept = statement(select(table.c.visit).where(founded(permit, "Encounter", table)))
    assert found == {row[0] for row in await connection.fetch(kept.sql, *kept.arguments(values(permit)))}
    return found


def sent(client: httpx.Client, id: str, **parts: Any) -> Any:
    return client.post("/homecare/visits", json=[visit(id, **parts)]).json()["receipts"][0]


def told(client: httpx.Client, path: str) -> httpx.Response:
    return client.get(path)


async def test_it_ends_with_the_package(kestrel: httpx.Client, gateway: Gateway, places: str) -> None:
    """The day after, nothing of it is seen, what it sent among it; visits may still be sent, for four weeks."""
    mine = {"resourceType": "Encounter", "id": sent(kestrel, "e1")["id"]}
    everything = [*ESSENTIAL.values(), {"resourceType": "Patient", "id": A}]
    assert all(found(kestrel, each) == (200, 1) for each in everything)
    assert "held" in told(kestrel, "/homecare/visits/e1").json()
    await _ended(places, timedelta(days=1))
    assert [each for each in everything if found(kestrel, each) != (404, 0)] == []
    assert told(kestrel, address(mine)).status_code == 404
    left = told(kestrel, "/homecare/visits/e1").json()
    assert (left["state"], "held" in left, "outcome" in left) == ("allocated", False, False)
    assert [each for each in everything if found(gateway.http, each) != (200, 1)] == [], "it is still there"
    assert sent(kestrel, "e2")["status"] == "stored", "late visits are taken"
    assert sent(kestrel, "e1")["status"] == "unchanged"
    await _ended(places, LATE_VISITS + timedelta(days=1))
    refused = sent(kestrel, "e1", version=2)
    assert (refused["status"], refused["issues"][0]["reason"]) == ("refused", "closed")


async def _ended(url: str, ago: timedelta) -> None:
    """The package ended so long ago: the ties that it makes, as a load would leave them."""
    end = datetime.now(LONDON) - ago
    connection = await connected(url)
    try:
        for kind, starts, ends in (("care-provider", None, end), ("late-visits", end, end + LATE_VISITS)):
            await connection.execute("DELETE FROM fhirgw.relationship WHERE person = $1 AND kind = $2", *(A, kind))
            await connection.execute(
                "INSERT INTO fhirgw.relationship (person, party, kind, starts, ends, type, id)"
                " VALUES ($1, 'Organization/kestrel', $2, coalesce($3::timestamptz, '-infinity'), $4,"
                " 'EpisodeOfCare', 'care-a')",
                *(A, kind, starts, ends),
            )
    finally:
        await connection.close()


async def test_who_visits_somebody_whose_whereabouts_are_restricted_is_cleared_for_it(
    kestrel: httpx.Client, gateway: Gateway, places: str
) -> None:
    """How to get in is of no use without where, and the package tells where: all of it together, or none of it.

    Of whom a care provider visits so it has an application with clearance (`fhirgw app add --clear restricted`); any
    other of its own sends visits, and is shown nothing.
    """
    hidden = "d4e00000-0000-5000-8000-000000000004"
    whose = {"reference": f"Patient/{hidden}"}
    where = {"address": [{"postalCode": "ZZ99 3WZ"}], **labelled("restricted")}
    person: Resource = {"resourceType": "Patient", "id": hidden, "birthDate": "1990-03-01", **where}
    access = {**ESSENTIAL["access notes"], "id": "hidden-access", "subject": whose}
    package = care("hidden-care", hidden, "Organization/kestrel")
    await put(places, person, access, package)
    assert sent(kestrel, "hidden", person={"id": hidden})["status"] == "stored"
    with gateway.client(replace(KESTREL, id="kestrel-cleared", clearance=RESTRICTED)) as cleared:
        assert [found(cleared, each) for each in (access, package)] == [(200, 1)] * 2
        assert told(cleared, address(person)).json()["address"] == person["address"]
    assert [found(kestrel, each) for each in (access, package)] == [(404, 0)] * 2
    assert "address" not in told(kestrel, address(person)).json()
