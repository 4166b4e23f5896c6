"""What a care provider is told afterwards of what it sent: its own, in its own words, and nobody else's."""

import csv
import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from fhirgw.store import submissions
from fhirgw.store.registration import Registration
from tests.gateway import Gateway
from tests.put import connected, put
from tests.visits.reckoned import line
from tests.visits.visiting import COUNCIL, MR_B, NOBODY, READER, A, care, visit

PUSH, SUBMISSIONS = "/homecare/visits", "/homecare/submissions"
PUSHER = Registration("pusher", "K01", "system/Appointment.cu system/Encounter.cu", sector="care-provider")
BAD = {"planned": {"start": "2026-03-30T07:30", "end": "2026-03-29T08:00"}}


def pushed(client: httpx.Client, rows: Any, query: str = "") -> Any:
    answer = client.post(f"{PUSH}{query}", json=rows)
    assert answer.status_code in (200, 422), answer.text
    return answer.json()


def got(client: httpx.Client, address: str, status: int = 200) -> Any:
    answer = client.get(address)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_visit_is_told_in_the_words_of_its_care_provider(kestrel: httpx.Client) -> None:
    row = visit("s1", observations=[{"name": "Temperature", "value": 36.50, "unit": "Cel"}])
    receipt = pushed(kestrel, row)["receipts"][0]
    found = got(kestrel, f"{PUSH}/s1")
    assert (found["state"], found["id"], found["said"]) == ("allocated", receipt["id"], 1)
    assert found["outcome"] == {"code": "delivered", "minutes": 29, "late": 1, "strength": 3}
    assert found["held"]["planned"] == {"start": "2026-03-30T07:30:00+01:00", "end": "2026-03-30T08:00:00+01:00"}
    assert found["held"].keys() == row.keys() - {"visit", "version", "changed"}
    assert [each["column"] for each in found["missing"]] == ["line.order"]


def test_nothing_is_told_that_it_did_not_send(kestrel: httpx.Client, gateway: Gateway) -> None:
    pushed(kestrel, visit("s2"))
    text = kestrel.get(f"{PUSH}/s2").text
    assert "1940-03-01" in gateway.http.get(f"/fhir/Patient/{A}").text, "somebody knows it"
    assert "1940" not in text


def test_numbers_are_told_digit_for_digit(kestrel: httpx.Client) -> None:
    body = json.dumps(visit("s3", observations=[{"name": "Temperature", "value": 0}])).replace('": 0}', '": 36.50}')
    assert kestrel.post(PUSH, content=body, headers={"content-type": "application/json"}).status_code == 200
    assert '"value":36.50' in kestrel.get(f"{PUSH}/s3").text


def test_another_care_providers_visit_is_not_there(kestrel: httpx.Client, heron: httpx.Client) -> None:
    pushed(kestrel, visit("s4"))
    assert got(kestrel, f"{PUSH}/s4")["state"] == "allocated"
    others, nobodys = (heron.get(f"{PUSH}/{name}") for name in ("s4", "never"))
    assert (others.status_code, others.content) == (nobodys.status_code, nobodys.content)
    assert others.status_code == 404


@pytest.mark.parametrize("name", ["a%00b", "a%20b", "%ff", "x" * 65, "", "a/b", "..%2f..", "%27"])
def test_what_is_no_id_is_the_id_of_nothing(kestrel: httpx.Client, name: str) -> None:
    assert kestrel.get(f"{PUSH}/{name}").status_code == 404


def test_an_id_may_have_strokes_and_colons(kestrel: httpx.Client) -> None:
    pushed(kestrel, visit("2026/03:s9"))
    assert got(kestrel, f"{PUSH}/2026/03:s9")["state"] == "allocated"


def test_a_visit_in_nobodys_record_says_what_to_mend(kestrel: httpx.Client) -> None:
    pushed(kestrel, visit("s5", person={"nhsNumber": NOBODY}))
    pushed(kestrel, visit("s6", person={"nhsNumber": MR_B}))
    found = [got(kestrel, f"{PUSH}/{name}") for name in ("s5", "s6")]
    assert [(each["state"], "id" in each) for each in found] == [("unallocated", False)] * 2
    assert [each["missing"][0]["reason"] for each in found] == ["unallocated"] * 2
    pushed(kestrel, visit("s5", version=2))
    assert got(kestrel, f"{PUSH}/s5")["state"] == "allocated"


async def test_a_line_that_is_not_the_persons_is_told(kestrel: httpx.Client, gateway: Gateway, places: str) -> None:
    await put(places, line("line-a", A, "kestrel", "L-1"), line("line-b", A, "heron", "L-2"))
    for order, reasons in (("L-1", []), ("line-a", []), ("L-2", ["line"]), ("L-3", ["line"])):
        pushed(kestrel, visit(f"of-{order}", line={"order": order}, carers=None))
        found = got(kestrel, f"{PUSH}/of-{order}")
        assert [each["reason"] for each in found.get("issues", ())] == reasons, order
        assert found["state"] == "allocated"
    narrow = Registration("lines", "K01", "system/Encounter.rs system/Appointment.cu", sector="care-provider")
    with gateway.client(narrow) as client:
        found = got(client, f"{PUSH}/of-L-3")
        assert "held" in found and "issues" not in found, "it may see the visit, and no line"


def test_a_visit_that_was_refused_says_why_until_it_is_taken(kestrel: httpx.Client) -> None:
    assert pushed(kestrel, visit("s7", **BAD))["refused"] == 1
    found = got(kestrel, f"{PUSH}/s7")
    assert found["state"] == "refused"
    assert found["refused"]["receipts"][0]["issues"][0]["column"] == "planned.end"
    pushed(kestrel, visit("s7"))
    assert "refused" not in got(kestrel, f"{PUSH}/s7")
    pushed(kestrel, [visit("s7", version=2, **BAD)])
    found = got(kestrel, f"{PUSH}/s7")
    assert (found["state"], found["refused"]["receipts"][0]["status"]) == ("allocated", "refused")


async def test_what_it_said_is_shown_while_it_may_see_it(gateway: Gateway, kestrel: httpx.Client, places: str) -> None:
    pushed(kestrel, visit("s8"))
    assert "held" in got(kestrel, f"{PUSH}/s8"), "the package runs"
    with gateway.client(PUSHER) as pusher:
        assert got(pusher, f"{PUSH}/s8").keys() == {"visit", "state", "id", "said", "received", "changed", "withheld"}
    narrow = Registration("narrow", "K01", "system/Encounter.rs?status=finished", sector="care-provider")
    with gateway.client(narrow) as client:
        assert "withheld" in got(client, f"{PUSH}/s8")
    connection = await connected(places)
    try:
        ending = "UPDATE fhirgw.relationship SET ends = now() - interval '1 day' WHERE person = $1 RETURNING ends"
        assert await connection.fetchval(ending, A)
        found = got(kestrel, f"{PUSH}/s8")
        assert (found["state"], "held" in found, "outcome" in found) == ("allocated", False, False)
    finally:
        await connection.execute("UPDATE fhirgw.relationship SET ends = 'infinity' WHERE person = $1", A)
        await connection.close()


def test_a_submission_is_found_again_with_what_to_mend(kestrel: httpx.Client, heron: httpx.Client) -> None:
    rows = [visit("b1", carers=[]), visit("b2", **BAD), visit("b3", person={"nhsNumber": NOBODY}, carers=[])]
    sent = pushed(kestrel, rows, "?file=week-13")
    address = f"{SUBMISSIONS}/{sent['submission']}"
    newest = got(kestrel, SUBMISSIONS)["submissions"][0]
    counts = {name: newest[name] for name in submissions.COUNTS}
    assert counts == {"stored": 2, "unchanged": 0, "superseded": 0, "refused": 1, "unallocated": 1}
    assert (newest["way"], newest["file"], newest["mend"], newest["receipts"]) == ("json", "week-13", 2, address)
    found = got(kestrel, address)
    assert found["receipts"] == sent["receipts"][1:], "those that are to be mended, as they were told"
    pages = [got(kestrel, f"{address}?_count=1"), got(kestrel, f"{address}?_count=1&_cursor=1")]
    assert [each for page in pages for each in page["receipts"]] == found["receipts"]
    assert (pages[0]["next"], "next" in pages[1]) == (f"{address}?_count=1&_cursor=1", False)
    for each in (address, f"{address}/receipts.csv", f"{SUBMISSIONS}/{uuid4()}", f"{SUBMISSIONS}/x"):
        assert heron.get(each).status_code == 404


def test_what_is_to_be_mended_opens_in_a_spreadsheet(kestrel: httpx.Client) -> None:
    body = "Call;NHS;Day;From;To\n=1+1;9990000018;30/03/26;07:30;08:00\nc2;9990000018;30/03/26;07:30;7\n"
    sent = kestrel.post(PUSH, content=body.encode("cp1252"), headers={"content-type": "text/csv"}).json()
    answer = kestrel.get(f"{SUBMISSIONS}/{sent['submission']}/receipts.csv")
    assert answer.content.startswith(b"\xef\xbb\xbfRow,Visit,Status,Column,Reason")
    lines = list(csv.reader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))
    assert [line[:5] for line in lines[1:]] == [
        ["2", "", "refused", "Call", "id"],
        ["3", "c2", "refused", "To", "time"],
    ]
    assert all(not cell.startswith(("=", "+", "-", "@")) for line in lines for cell in line)
    assert "attachment" in answer.headers["content-disposition"]
    assert got(kestrel, SUBMISSIONS)["submissions"][0]["way"] == "csv"


def test_submissions_are_listed_page_by_page(kestrel: httpx.Client) -> None:
    for name in ("p1", "p2", "p3"):
        pushed(kestrel, [visit(name)])
    whole = [each["submission"] for each in got(kestrel, f"{SUBMISSIONS}?_count=1000")["submissions"]]
    found: list[str] = []
    address = f"{SUBMISSIONS}?_count=2"
    while address:
        page = got(kestrel, address)
        found += [each["submission"] for each in page["submissions"]]
        address = page.get("next", "")
    assert found == whole
    assert len(set(found)) == len(found) > 3


def test_visits_that_come_one_by_one_are_a_submission_an_hour(heron: httpx.Client) -> None:
    for name in ("h1", "h1", "h2"):
        pushed(heron, visit(name, person={"nhsNumber": MR_B}))
    pushed(heron, visit("h3", **BAD))
    singles = [each for each in got(heron, SUBMISSIONS)["submissions"] if each["way"] == "single"]
    assert 1 <= len(singles) <= 2, "an hour may have ended meanwhile"
    sums = [sum(each[name] for each in singles) for name in ("stored", "unchanged", "refused")]
    assert sums == [2, 1, 1]


def test_lines_that_come_in_pieces_are_one_submission(kestrel: httpx.Client) -> None:
    lines = "\n".join(json.dumps(visit(f"l{at}", carers=[], **(BAD if at == 600 else {}))) for at in range(601))
    sent = kestrel.post(PUSH, content=lines, headers={"content-type": "application/x-ndjson"}).json()
    found = got(kestrel, f"{SUBMISSIONS}/{sent['submission']}")
    assert (found["way"], found["stored"], found["refused"]) == ("lines", 600, 1)
    assert found["receipts"] == [sent["receipts"][600]]


def test_a_request_sent_again_is_one_submission(kestrel: httpx.Client) -> None:
    id = str(uuid4())
    for _ in range(2):
        assert kestrel.post(PUSH, json=[visit("r1")], headers={"x-request-id": id}).json()["submission"] == id
    assert got(kestrel, f"{SUBMISSIONS}/{id}")["stored"] == 1


@pytest.mark.parametrize("address", [f"{PUSH}/s1", SUBMISSIONS, f"{SUBMISSIONS}/00000000-0000-4000-8000-000000000000"])
def test_it_is_told_to_care_providers_alone(gateway: Gateway, address: str) -> None:
    with gateway.stranger() as stranger:
        assert stranger.get(address).status_code == 401
    nothing = Registration("nothing", "K01", "system/Flag.rs", sector="care-provider")
    for registered in (COUNCIL, nothing):
        with gateway.client(registered) as client:
            assert client.get(address).status_code == 403
    with gateway.client(READER) as reader:
        assert reader.get(address).status_code in (200, 404)


@pytest.mark.parametrize(
    "query", ["_count=0", "_count=x", "_cursor=x", "_cursor=20260101T000000.0_x", "page=2", "_count=1&_count=2"]
)
def test_what_is_asked_wrongly_is_said(kestrel: httpx.Client, query: str) -> None:
    answer = kestrel.get(f"{SUBMISSIONS}?{query}")
    assert (answer.status_code, answer.json()["resourceType"]) == (400, "OperationOutcome")


def test_looking_is_audited_as_the_persons(gateway: Gateway, kestrel: httpx.Client) -> None:
    made = pushed(kestrel, visit("a1"))["receipts"][0]["id"]
    answer = kestrel.get(f"{PUSH}/a1", headers={"x-request-id": str(uuid4())})
    with gateway.client(Registration("auditor", "Z99", "system/AuditEvent.rs", sector="council")) as auditor:
        found = auditor.get("/fhir/AuditEvent", params={"patient": f"Patient/{A}", "_count": "5"}).json()
    texts = [json.dumps(each) for each in found["entry"]]
    assert any(made in each and answer.headers["x-request-id"] in each for each in texts)


async def test_what_was_sent_is_forgotten_in_time(kestrel: httpx.Client, places: str) -> None:
    kept, old = (pushed(kestrel, [visit(name)])["submission"] for name in ("f1", "f2"))
    connection = await connected(places)
    try:
        before = datetime.now(UTC) - timedelta(days=submissions.DAYS, minutes=1)
        await connection.execute("UPDATE fhirgw.submission SET received = $1 WHERE submission = $2", before, old)
        await submissions.sweep(connection)
    finally:
        await connection.close()
    assert got(kestrel, f"{SUBMISSIONS}/{kept}")["stored"] == 1
    got(kestrel, f"{SUBMISSIONS}/{old}", 404)


QUALITY = "/homecare/quality?week=2026-W20"


def test_a_score_is_told_with_what_to_do_first(heron: httpx.Client, gateway: Gateway, kestrel: httpx.Client) -> None:
    mr_b = {"person": {"nhsNumber": MR_B}, "line": {"order": "L1"}}
    day = {"planned": {"start": "2026-05-13T07:30", "end": "2026-05-13T08:00"}}
    carer = {"carer": "C1", "start": "2026-05-13T07:30", "end": "2026-05-13T08:00", "method": "manual"}
    pushed(heron, [visit("q1", **mr_b, **day, carers=[carer]), visit("q2", person={"nhsNumber": NOBODY}, **day)])
    pushed(heron, visit("q1", version=2, **mr_b, **day, carers=[{**carer, "end": "2026-05-13T08:10"}]))
    found = got(heron, QUALITY)
    counts = {each["measure"]: (each["count"], each["of"]) for each in found["measures"]}
    assert counts == {
        "late": (2, 2),
        "unallocated": (1, 2),
        "incomplete": (1, 2),
        "manual": (1, 2),
        "corrected": (1, 2),
        "refused": (0, 0),
    }
    assert (found["provider"], found["score"]) == ("H01", 100 - round(25 + 12.5 + 10 + 5 + 2.5))
    assert found["measures"][0]["measure"] == "late", "what costs most is first"
    assert found["next"][0].startswith("Send every day")
    pushed(kestrel, [visit("q3")])
    with gateway.client(COUNCIL) as council:
        all_of_them = got(council, QUALITY)
        assert [each["provider"] for each in all_of_them["providers"]] == ["H01", "K01"]
        assert all_of_them["providers"][0] == {name: value for name, value in found.items() if name != "week"}
        first = got(council, f"{QUALITY}&_count=1")
        assert [each["provider"] for each in got(council, first["next"])["providers"]] == ["K01"]
        assert got(council, f"{QUALITY}&provider=H01")["providers"] == first["providers"]
        assert council.get(f"{QUALITY}&provider=%27").status_code == 400


async def test_who_is_sealed_is_not_counted_for_who_may_not_see_them(
    heron: httpx.Client, gateway: Gateway, places: str
) -> None:
    """The ledger leaves them out: how many they are is not to be had by taking one from the other."""
    person = "c3d00000-0000-5000-8000-000000000003"
    secret = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}
    sealed = {"resourceType": "Patient", "id": person, "meta": {"security": [secret]}}
    await put(places, sealed, care("care-c", person, "Organization/heron"))
    day = {"planned": {"start": "2026-05-20T07:30", "end": "2026-05-20T08:00"}}
    hidden, shown = visit("s1", person={"id": person}, **day), visit("s2", person={"nhsNumber": MR_B}, **day)
    assert pushed(heron, [hidden, shown, visit("s3", person={"nhsNumber": NOBODY}, **day)])["stored"] == 3
    week, cleared = QUALITY.replace("W20", "W21"), Registration("cleared", "Z99", "system/*.rs", sector="council")
    some = Registration("finished", "Z99", "system/Encounter.rs?status=finished", sector="council")
    with gateway.client(COUNCIL) as council, gateway.client(replace(cleared, clearance=15)) as all_of_it:
        (without,), (whole,) = (got(each, f"{week}&provider=H01")["providers"] for each in (council, all_of_it))
        assert (without["visits"], whole["visits"], got(heron, week)["visits"]) == (2, 3, 3)
    with gateway.client(some) as client:
        assert client.get(week).status_code == 403, "a scope of some shows no count of all"


def test_no_care_provider_sees_anothers_score(heron: httpx.Client, gateway: Gateway) -> None:
    assert heron.get(f"{QUALITY}&provider=K01").status_code == 403
    assert heron.get(f"{QUALITY}&provider=H01").json() == heron.get(QUALITY).json()
    assert "K01" not in heron.get(QUALITY).text
    assert heron.get("/homecare/quality?week=soon").status_code == 400
    other = Registration("other-council", "Z98", "system/*.cruds", sector="council")
    with gateway.client(other) as client, gateway.client(COUNCIL) as council:
        assert client.get(QUALITY).status_code == 403
        assert council.get(QUALITY).status_code == 200
