"""Visits over HTTP: who may send them, what they are told, and that sending twice is sending once."""

import asyncio
import gzip
import json
import socket
from typing import Any
from uuid import uuid4

import httpx
import pytest

from fhirgw.store.registration import Registration
from tests.gateway import Gateway
from tests.put import connected
from tests.visits.visiting import COUNCIL, COUNCILS, HERON, MR_B, NOBODY, READER, A, visit

PUSH = "/homecare/visits"


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


@pytest.mark.parametrize(
    "broken",
    [
        '{"visit": "w2", "notes": [{"text": "a\\u0000b"}]}',
        '{"visit": "w2", "visit": "w4"}',
        '{"visit": "w2", "observations": [{"name": "T", "value": NaN}]}',
        f'{{"visit": "w2", "version": {"1" * 50}}}',
    ],
)
def test_a_row_that_is_not_as_json_should_be_is_refused_alone(kestrel: httpx.Client, broken: str) -> None:
    """Also with the mark of UTF-8 that programs for Windows write first; a list that is cut off is refused whole."""
    rows = [json.dumps(visit(f"w{at}")) for at in (1, 3)]
    marked = f"\ufeff[ {rows[0]} ,\n{broken}, {rows[1]}]".encode()
    whole = kestrel.post(PUSH, content=marked, headers={"content-type": "application/json"})
    assert [each["status"] == "refused" for each in whole.json()["receipts"]] == [False, True, False]
    lines = kestrel.post(
        PUSH,
        content=marked[:3] + f"{rows[0]}\n{broken}\n{rows[1]}".encode(),
        headers={"content-type": "application/x-ndjson"},
    )
    assert [each["status"] for each in lines.json()["receipts"]] == ["unchanged", "refused", "unchanged"]
    cut = kestrel.post(PUSH, content=marked[:-1], headers={"content-type": "application/json"})
    assert (cut.status_code, cut.json()["issue"][0]["code"]) == (400, "structure")
    many = kestrel.post(PUSH, content=b"[" + b"NaN," * 10_001 + b"1]", headers={"content-type": "application/json"})
    assert many.status_code == 413


def test_a_large_batch_is_told_row_by_row(kestrel: httpx.Client) -> None:
    rows = [visit(f"n{at}", **({"version": -1} if at % 100 == 0 else {})) for at in range(1000)]
    told = pushed(kestrel, rows)
    assert (told["stored"], told["refused"]) == (990, 10)
    assert [each["row"] for each in told["receipts"]] == list(range(1, 1001))
    assert [each["visit"] for each in told["receipts"] if each["status"] == "refused"] == [
        "n0",
        *(f"n{n}00" for n in range(1, 10)),
    ]


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


def test_to_send_visits_needs_no_more_than_to_write_them(gateway: Gateway) -> None:
    app = Registration("app", "K01", "system/Appointment.cu system/Encounter.cu", sector="care-provider")
    with gateway.client(app) as client:
        assert client.post(PUSH, json=visit("narrow")).json()["unallocated"] == 0
        assert client.get("/fhir/Encounter").status_code == 403


@pytest.mark.parametrize(
    "registered",
    [COUNCIL, READER, Registration("half", "K01", "system/Encounter.cu", sector="care-provider")],
    ids=lambda each: each.id,
)
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


def sent(client: httpx.Client, kind: str, body: bytes, query: str = "", **headers: str) -> httpx.Response:
    return client.post(f"{PUSH}{query}", content=body, headers={"content-type": kind, **headers})


SHEET = "Call;NHS;Day;From;To;Staff no.;In;Out;Login\r\n{}\r\n"
ROTA = SHEET.format("s1;9990000018;30/03/26;07:30;08:00;C1;07:31;08:01;Tag\r\ns2;9990000019;30/03/26;9:30;10;C1;;;Tag")


def test_a_spreadsheet_of_ones_own(kestrel: httpx.Client) -> None:
    told = sent(kestrel, "text/csv; charset=windows-1252", ROTA.encode("cp1252")).json()
    assert [(each["row"], each["status"]) for each in told["receipts"]] == [(2, "stored"), (3, "refused")]
    assert {each["column"] for each in told["receipts"][1]["issues"]} == {"To"}
    mended = ROTA.replace("9990000019", "9990000018").replace(";10;", ";10:00;")
    told = sent(kestrel, "text/csv", mended.encode()).json()
    assert [each["status"] for each in told["receipts"]] == ["unchanged", "stored"]


def test_a_spreadsheet_of_a_layout_by_name(gateway: Gateway, kestrel: httpx.Client) -> None:
    header = "FileReference,OurRef,ServiceUserRef,VisitDate,StartTimeClaimed,DurationClaimed\n"
    body = (header + "F-1,c1,42,30/03/2026,07:30,30\n").encode()
    first = sent(kestrel, "text/csv", body, "?layout=abacus")
    assert first.json()["stored"] == 1, first.text
    again = sent(kestrel, "text/csv", body.replace(b"07:30", b"07:40"), "?layout=abacus")
    assert again.status_code == 409
    assert "A file with this reference was taken in" in again.text
    with gateway.client(HERON) as heron:
        assert sent(heron, "text/csv", body, "?layout=abacus").status_code == 200, "another's references are its own"
    near = sent(kestrel, "text/csv", body, "?layout=abacos")
    assert (near.status_code, "did you mean abacus?" in near.text) == (400, True)


def test_a_file_of_which_nothing_was_taken_may_come_again(kestrel: httpx.Client) -> None:
    assert kestrel.post(f"{PUSH}?file=F-2", json=[visit("no id")]).json()["refused"] == 1
    assert kestrel.post(f"{PUSH}?file=F-2", json=[visit("f2")]).json()["stored"] == 1
    assert kestrel.post(f"{PUSH}?file=F-2", json=[visit("f3")]).status_code == 409
    assert kestrel.post(f"{PUSH}?file=F-3", json=[visit("f3")]).json()["stored"] == 1


def test_lines_are_taken_in_as_they_come(kestrel: httpx.Client) -> None:
    lines = [json.dumps(visit(f"l{n}")).encode() for n in range(1100)]
    lines[700] = b"{broken"
    body = b"\n".join(lines)
    told = sent(kestrel, "application/x-ndjson", body).json()
    assert (told["stored"], told["refused"], len(told["receipts"])) == (1099, 1, 1100)
    assert told["receipts"][700]["row"] == 701
    id = str(uuid4())
    packed = {"content-encoding": "gzip", "x-request-id": id}
    again, repeated = (sent(kestrel, "application/x-ndjson", gzip.compress(body), **packed) for _ in range(2))
    assert again.json()["unchanged"] == 1099
    assert again.content == repeated.content


def test_what_came_before_a_line_that_never_ends_is_kept(kestrel: httpx.Client) -> None:
    lines = [json.dumps(visit(f"m{n}")).encode() for n in range(501)]
    answer = sent(kestrel, "application/x-ndjson", b"\n".join([*lines, b"x" * 70_000]))
    assert answer.status_code == 413
    told = sent(kestrel, "application/x-ndjson", b"\n".join(lines)).json()
    assert (told["unchanged"], told["stored"]) == (500, 1)


def test_a_bundle_of_fhir(kestrel: httpx.Client) -> None:
    person = {"type": "Patient", "identifier": {"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018"}}
    appointment = {
        "resourceType": "Appointment",
        "status": "booked",
        "identifier": [{"value": "b1"}],
        "start": "2026-03-30T07:30:00+01:00",
        "end": "2026-03-30T08:00:00+01:00",
        "participant": [{"actor": person}],
    }
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": appointment}]}
    told = sent(kestrel, "application/fhir+json", json.dumps(bundle).encode()).json()
    assert (told["stored"], told["unallocated"]) == (1, 0)
    own = {
        **bundle,
        "entry": [{"resource": {**appointment, "participant": [{"actor": {"reference": f"Patient/{A}"}}]}}],
    }
    assert sent(kestrel, "application/fhir+json", json.dumps(own).encode()).json()["unallocated"] == 0
    assert sent(kestrel, "application/fhir+json", b"[]").status_code == 400


@pytest.mark.parametrize(
    ("kind", "body", "headers", "status"),
    [
        ("application/json", b"[", {}, 400),
        ("application/json", b'{"visit": "V1", "visit": "V2"}', {}, 400),
        ("application/json", b"[" + b"{}," * 10_000 + b"{}]", {}, 413),
        ("application/json", gzip.compress(b"[" + b" " * 20_000_000 + b"]"), {"content-encoding": "gzip"}, 413),
        ("application/x-ndjson", gzip.compress(b"x" * 200_000), {"content-encoding": "gzip"}, 413),
        ("application/json", b"\x1f\x8b nothing", {"content-encoding": "gzip"}, 400),
        ("application/json", b"[]", {"content-encoding": "br"}, 415),
        ("application/xml", b"<visit/>", {}, 415),
        ("text/csv", b"A,B\n1,2\n", {}, 400),
        ("application/json", b"[]", {}, 200),
    ],
)
def test_a_body_that_is_wrong_as_a_whole(
    kestrel: httpx.Client, kind: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = sent(kestrel, kind, body, **headers)
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert answer.json()["resourceType"] == "OperationOutcome"


XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@pytest.mark.parametrize(
    ("kind", "body", "status", "words"),
    [
        (XLSX, b"PK\x03\x04", 415, "save the sheet with the visits as CSV UTF-8"),
        ("text/csv", b"PK\x03\x04", 400, "save the sheet with the visits as CSV UTF-8"),
        ("text/csv", b"x" * 17_000_000, 413, "a week of the spreadsheet at a time, each with the row of headings"),
        ("application/json", b"[" + b" " * 17_000_000 + b"]", 413, "At most 16 MB are taken at once"),
    ],
)
def test_what_is_too_long_or_a_workbook_is_told_in_words_that_people_know(
    kestrel: httpx.Client, kind: str, body: bytes, status: int, words: str
) -> None:
    answer = sent(kestrel, kind, body)
    told = answer.json()["issue"][0]["diagnostics"]
    assert (answer.status_code, words in told) == (status, True), told
    assert "16777216" not in told


def test_a_gigabyte_is_refused_before_it_comes(gateway: Gateway, kestrel: httpx.Client) -> None:
    head = f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {1 << 30}\r\n"
    host, port = gateway.root.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=120) as wire:
        wire.sendall(f"{head}Authorization: {kestrel.headers['authorization']}\r\n\r\n[".encode())
        assert wire.recv(12) == b"HTTP/1.1 413"


async def test_visits_that_come_one_by_one_share_commits(gateway: Gateway, kestrel: httpx.Client, places: str) -> None:
    """Each is told of its own, each is in the audit; one that is wrong is refused alone."""
    rows = [visit(f"t{n}", **({"version": "x"} if n == 7 else {})) for n in range(60)]
    headers = {"authorization": kestrel.headers["authorization"]}
    async with httpx.AsyncClient(base_url=gateway.root, headers=headers, timeout=120) as client:
        answers = await asyncio.gather(*(client.post(PUSH, json=each) for each in rows))
    assert [each.status_code for each in answers] == [422 if n == 7 else 200 for n in range(60)]
    told = [each.json()["receipts"][0] for each in answers]
    assert [each["visit"] for each in told] == [each["visit"] for each in rows]
    connection = await connected(places)
    try:
        query = "SELECT count(DISTINCT transaction) FROM fhirgw.visit WHERE visit ~ '^t[0-9]+$'"
        assert 0 < await connection.fetchval(query) < 59
        query = "SELECT count(*) FROM fhirgw.audited WHERE body LIKE '%' || $1 || '%'"
        for each in (*told[:7], told[-1]):
            assert await connection.fetchval(query, each["id"]) == 1
        query = "SELECT sum((body LIKE '~%')::int) FROM fhirgw.audit WHERE body LIKE '%' || $1 || '%'"
        assert await connection.fetchval(query, told[-1]["id"]) == 1, "what all have in common is kept once"
    finally:
        await connection.close()
