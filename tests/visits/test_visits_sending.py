"""Two visits at once, a council's system that sends for many, a request twice at once, a file full of mistakes."""

import asyncio
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from fhirgw.store.registration import Registration
from tests.gateway import Gateway
from tests.visits.test_visits_crash import until, waiting
from tests.visits.visiting import COUNCIL, HERON, MR_B, SCOPES, A, B, visit

PUSH = "/homecare/visits"
MONITOR = Registration("monitor", "Z99", SCOPES, sector="council", rate=1_000_000, roles=("homecare",))
"""The council's own system, which many care providers send to."""


@pytest.fixture(scope="module")
def monitor(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client(MONITOR) as client:
        yield client


def receipts(client: httpx.Client, *rows: Any) -> list[Any]:
    answer = client.post(PUSH, json=list(rows))
    assert answer.status_code == 200, answer.text
    told: list[Any] = answer.json()["receipts"]
    return told


def stay(id: str, carer: str, start: str, end: str, **more: Any) -> Any:
    made = {"carer": carer, "start": f"2026-03-29T{start}:00", "end": f"2026-03-29T{end}:00", "method": "manual"}
    return visit(id, planned=None, carers=[made], **more)


def overlaps(receipt: Any) -> list[str]:
    return [each["rule"] for each in receipt.get("issues", ()) if each["reason"] == "overlap"]


def test_a_carer_at_two_visits_is_told_across_batches(kestrel: httpx.Client) -> None:
    first, other = stay("o1", "X1", "08:00", "08:30"), stay("o2", "X1", "08:20", "08:50")
    assert not overlaps(receipts(kestrel, first)[0])
    (later,) = receipts(kestrel, other)
    assert later["status"] == "stored", "both are kept"
    assert overlaps(later) == ["a carer is at two visits at once, at this one and at o1"]
    assert overlaps(receipts(kestrel, first)[0]) == ["a carer is at two visits at once, at this one and at o2"]
    assert "o1" in overlaps(kestrel.post(PUSH, json=other).json()["receipts"][0])[0], "sent alone, too"
    status = kestrel.get(f"{PUSH}/o1").json()
    assert overlaps(status) == ["a carer is at two visits at once, at this one and at o2"], "though o2 came after it"
    apart = [stay("o3", "X1", "08:50", "09:10"), stay("o4", "X2", "08:00", "08:50"), stay("o5", "X1", "07:00", "08:00")]
    assert not any(map(overlaps, receipts(kestrel, *apart)))
    assert not overlaps(kestrel.get(f"{PUSH}/o3").json())
    receipts(kestrel, stay("o2", "X1", "08:30", "08:50", version=2))
    assert not overlaps(kestrel.get(f"{PUSH}/o1").json()), "it was corrected"


def test_who_corrects_the_times_is_told_no_more(kestrel: httpx.Client) -> None:
    assert not overlaps(receipts(kestrel, stay("c1", "Y1", "08:00", "08:30"))[0])
    assert overlaps(receipts(kestrel, stay("c2", "Y1", "08:10", "08:40"))[0])
    assert not overlaps(receipts(kestrel, stay("c2", "Y1", "08:30", "09:00", version=2))[0])
    assert not overlaps(receipts(kestrel, stay("c1", "Y1", "08:00", "08:30"))[0])
    assert not overlaps(receipts(kestrel, stay("c2", "Y1", "08:10", "08:40"))[0]), "that one holds no more"
    mistake = stay("c3", "Y1", "08:00", "09:00", outcome={"code": "entered-in-error"})
    assert not overlaps(receipts(kestrel, mistake)[0])


def test_another_care_provider_s_carers_are_others(gateway: Gateway, kestrel: httpx.Client) -> None:
    assert not overlaps(receipts(kestrel, stay("p1", "Z1", "08:00", "08:30"))[0])
    with gateway.client(HERON) as heron:
        person = {"nhsNumber": MR_B}
        assert not overlaps(receipts(heron, stay("p1", "Z1", "08:00", "08:30", person=person))[0])
    assert overlaps(receipts(kestrel, stay("p2", "Z1", "08:00", "08:30"))[0])


def test_within_a_batch_what_moves_does_not_meet_what_it_was(kestrel: httpx.Client) -> None:
    receipts(kestrel, stay("m1", "W1", "08:00", "08:30"), stay("m2", "W1", "09:00", "09:30"))
    swapped = [stay("m1", "W1", "09:00", "09:30", version=2), stay("m2", "W1", "08:00", "08:30", version=2)]
    assert not any(map(overlaps, receipts(kestrel, *swapped)))
    both = [stay("m1", "W1", "09:00", "09:30", version=3), stay("m2", "W1", "09:10", "09:40", version=3)]
    assert all(map(overlaps, receipts(kestrel, *both)))


def test_the_council_s_system_sends_for_many(gateway: Gateway, monitor: httpx.Client, kestrel: httpx.Client) -> None:
    rows = [
        visit("e1", provider="K01"),
        visit("e1", provider="H01", person={"nhsNumber": MR_B}),
        visit("e2", provider="H01"),
        visit("e3"),
        visit("e4", provider="NOBODY1"),
        visit("e5", provider="K01", version=-1),
    ]
    told = receipts(monitor, *rows)
    assert [each["status"] for each in told] == ["stored", "stored", "stored", "refused", "refused", "refused"]
    assert [each["row"] for each in told] == [1, 2, 3, 4, 5, 6]
    assert [each.get("id", "none")[:3] for each in told] == [A[:3], B[:3], *["non"] * 4]
    assert told[2]["issues"][0]["reason"] == "unallocated", "Heron does not look after Mrs A"
    assert [each["issues"][0]["column"] for each in told[3:]] == ["provider", "provider", "version"]
    assert [each["issues"][0]["reason"] for each in told[3:5]] == ["required", "unknown"]
    assert receipts(kestrel, visit("e1"))[0]["status"] == "unchanged", "as if the care provider had sent it"
    with gateway.client(HERON) as heron:
        assert receipts(heron, visit("e1", person={"nhsNumber": MR_B}))[0]["status"] == "unchanged"
    alone = monitor.post(PUSH, json=visit("e6", provider="K01"))
    assert (alone.status_code, alone.json()["stored"]) == (200, 1)
    assert monitor.post(PUSH, json=visit("e7")).status_code == 422
    bundle = monitor.post(
        PUSH, json={"resourceType": "Bundle", "entry": []}, headers={"content-type": "application/fhir+json"}
    )
    assert bundle.status_code == 400


def test_nobody_else_names_another(gateway: Gateway, kestrel: httpx.Client) -> None:
    """Whether the other is there or not, it is one answer."""
    other, nobody = receipts(kestrel, visit("n1", provider="H01"), visit("n2", provider="NOBODY1"))
    assert other | {"row": 0, "visit": ""} == nobody | {"row": 0, "visit": ""}
    assert (other["status"], other["issues"][0]["column"]) == ("refused", "provider")
    with gateway.client(COUNCIL) as plain:
        assert plain.post(PUSH, json=[visit("n3", provider="K01")]).status_code == 403, "it has not the role"
    elsewhere = Registration("elsewhere", "Y99", SCOPES, sector="council", roles=("homecare",))
    with gateway.client(elsewhere) as council:
        assert council.post(PUSH, json=[visit("n3", provider="K01")]).status_code == 403, "it controls nothing here"


async def test_the_same_request_twice_at_once(
    gateway: Gateway, kestrel: httpx.Client, connection: asyncpg.Connection
) -> None:
    headers = {"authorization": kestrel.headers["authorization"], "x-request-id": str(uuid4())}
    receipts(kestrel, visit("twice"))
    body = [visit("twice", version=2, tasks=None)]
    async with httpx.AsyncClient(base_url=gateway.root, headers=headers, timeout=60) as client:
        held = connection.transaction()
        await held.start()
        await connection.execute("SELECT FROM fhirgw.visit WHERE visit = 'twice' FOR UPDATE")
        first = asyncio.create_task(client.post(PUSH, json=body))
        await until(connection, lambda: waiting(connection))
        second = await client.post(PUSH, json=body)
        assert second.status_code == 409
        assert second.json()["resourceType"] == "OperationOutcome"
        await held.rollback()
        assert (await first).json()["stored"] == 1
        assert (await client.post(PUSH, json=body)).content == (await first).content


def test_a_file_full_of_mistakes_is_told_row_by_row(kestrel: httpx.Client) -> None:
    """As a spreadsheet saves it: semicolons, Windows-1252; each mistake with its column, and the good row is kept."""
    lines = {
        "g1;9990000018;30/03/2026;07:30;08:00;G1;07:31;07:58;née Smith": None,
        "g2;9990000019;30/03/2026;07:30;08:00;G1;;;": "NHS number",
        "g3;9990000069;30/03/2026;07:30;08:00;G1;;;": "NHS number",
        "g4;9990000018;03/04/25;07:30;08:00;G1;;;": "Date",
        "g5;9990000018;31/02/2026;07:30;08:00;G1;;;": "Date",
        "g6;9990000018;29/03/2026;01:30;02:00;G1;;;": "Date, Planned start",
        "g7;9990000018;30/03/2099;07:30;08:00;G1;07:31;07:58;": "Date, Arrived",
        ";9990000018;30/03/2026;07:30;08:00;G1;;;": "Visit",
        "g9;9990000018;30/03/2026;07:30": "",
    }
    header = "Visit;NHS number;Date;Planned start;Planned end;Carer;Arrived;Left;Notes"
    body = "\r\n".join([header, *lines]).encode("cp1252")
    answer = kestrel.post(f"{PUSH}?layout=homecare", content=body, headers={"content-type": "text/csv"})
    told = answer.json()["receipts"]
    assert [each["row"] for each in told] == list(range(2, 2 + len(lines)))
    assert [each.get("issues", [{"column": None}])[0]["column"] for each in told] == list(lines.values())
    assert [each["status"] for each in told] == ["stored", "refused", "stored", *["refused"] * 6]
    assert all(issue["rule"] and issue["remedy"] for each in told for issue in each.get("issues", ()))
    assert "9990000019" not in answer.text
    merged = b"Visit;;;Planned;;;;;\r\n;NHS number;Date;Planned start;Planned end;;;;\r\n"
    whole = kestrel.post(f"{PUSH}?layout=homecare", content=merged, headers={"content-type": "text/csv"})
    assert whole.status_code == 400
    assert "merged" in whole.text
    above = kestrel.post(f"{PUSH}?layout=homecare", content=merged + body, headers={"content-type": "text/csv"}).json()
    assert [each["row"] for each in above["receipts"]] == list(range(4, 4 + len(lines)))
    assert above["unchanged"] == 2
