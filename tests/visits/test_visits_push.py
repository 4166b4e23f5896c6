"""Visits over HTTP: who may send them, what they are told, and that sending twice is sending once."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from fhirgw.settings import Settings
from fhirgw.store.registration import Registration
from tests.conftest import NewDatabase
from tests.gateway import Gateway, serving
from tests.visits.visiting import COUNCIL, COUNCILS, HERON, KESTREL, MR_B, NOBODY, READER, A, county, visit

PUSH = "/homecare/visits"


@pytest.fixture(scope="module")
async def places(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        await county(url)
        yield url


@pytest.fixture(scope="module")
def gateway(places: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    data: Path = tmp_path_factory.mktemp("data")
    with serving(Settings(database_url=places, data=data, controller="Z99")) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def kestrel(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client(KESTREL) as client:
        yield client


def pushed(client: httpx.Client, rows: Any, **headers: str) -> Any:
    answer = client.post(PUSH, json=rows, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def test_one_visit_is_taken_and_told(kestrel: httpx.Client) -> None:
    told = pushed(kestrel, visit("one"))
    (receipt,) = told["receipts"]
    assert told == {"stored": 1, "unchanged": 0, "superseded": 0, "refused": 0, "unallocated": 0, "receipts": [receipt]}
    assert receipt == {"row": 1, "visit": "one", "status": "stored", "id": receipt["id"]}
    assert receipt["id"].startswith("a1b"), "it lives where the person does"


def test_good_rows_are_kept_when_others_fail(kestrel: httpx.Client) -> None:
    bad = visit("bad", planned={"start": "2026-03-30T07:30", "end": "2026-03-29T08:00"})
    told = pushed(kestrel, [visit("good-1"), bad, visit("good-2")])
    assert [each["status"] for each in told["receipts"]] == ["stored", "refused", "stored"]
    assert told["receipts"][1]["issues"] == [
        {
            "column": "planned.end",
            "reason": "order",
            "rule": "it ends before it starts",
            "remedy": "Correct the times; after midnight it is the next day's date",
        }
    ]
    again = pushed(kestrel, [visit("good-1"), visit("bad"), visit("good-2")])
    assert [each["status"] for each in again["receipts"]] == ["unchanged", "stored", "unchanged"]


def test_what_comes_late_is_superseded(kestrel: httpx.Client) -> None:
    corrected = visit("late", version=2, carers=[{"carer": "C2", "start": "2026-03-30T07:31"}])
    assert pushed(kestrel, corrected)["stored"] == 1
    assert pushed(kestrel, visit("late"))["superseded"] == 1
    assert pushed(kestrel, [corrected, visit("late")])["unchanged"] == 2


def test_a_visit_refused_alone_is_a_422(kestrel: httpx.Client) -> None:
    answer = kestrel.post(PUSH, json=visit("no id"))
    assert answer.status_code == 422
    assert answer.json()["receipts"][0]["issues"][0]["column"] == "visit"


def test_nobody_tells_who_is_there(kestrel: httpx.Client) -> None:
    """Somebody whom another looks after and somebody nobody knows are one answer: kept, in nobody's record."""
    others, nobodys = (
        pushed(kestrel, visit("whose", changed=f"2026-03-30T08:2{at}:00Z", person={"nhsNumber": number}))
        for at, number in enumerate((MR_B, NOBODY))
    )
    assert others == nobodys
    assert others["unallocated"] == 1
    assert others["receipts"][0]["issues"][0]["reason"] == "unallocated"
    own = pushed(kestrel, visit("whose", changed="2026-03-30T08:23:00Z", person={"number": "42", "system": COUNCILS}))
    assert own["unallocated"] == 0


def test_two_care_providers_visits_may_have_one_id(gateway: Gateway, kestrel: httpx.Client) -> None:
    first = pushed(kestrel, visit("shared"))["receipts"][0]
    with gateway.client(HERON) as heron:
        second = pushed(heron, visit("shared", person={"nhsNumber": MR_B}))["receipts"][0]
        assert (first["status"], second["status"]) == ("stored", "stored")
        assert first["id"] != second["id"]
        wrong = heron.post(PUSH, json=visit("shared", provider="K01"))
    assert wrong.json()["receipts"][0]["issues"][0]["column"] == "provider"
    assert pushed(kestrel, visit("shared", provider="K01"))["unchanged"] == 1


@pytest.mark.parametrize("registered", [COUNCIL, READER], ids=lambda each: each.id)
def test_who_makes_no_visits_sends_none(gateway: Gateway, registered: Any) -> None:
    with gateway.client(registered) as client:
        assert client.post(PUSH, json=visit()).status_code == 403


def test_a_request_sent_again_is_answered_again(kestrel: httpx.Client) -> None:
    id = str(uuid4())
    first = kestrel.post(PUSH, json=visit("again"), headers={"x-request-id": id})
    second = kestrel.post(PUSH, json=visit("again"), headers={"x-request-id": id})
    assert first.json()["receipts"][0]["status"] == "stored"
    assert first.content == second.content
    assert kestrel.post(PUSH, json=visit("other"), headers={"x-request-id": id}).status_code == 422


def test_it_is_audited_as_the_persons(gateway: Gateway, kestrel: httpx.Client) -> None:
    id = str(uuid4())
    made = pushed(kestrel, [visit("seen")], **{"x-request-id": id})["receipts"][0]["id"]
    with gateway.client(Registration("auditor", "Z99", "system/AuditEvent.rs", sector="council")) as auditor:
        found = auditor.get("/fhir/AuditEvent", params={"patient": f"Patient/{A}", "_count": "5"}).json()
    assert any(made in str(each) and id in str(each) for each in found["entry"])
