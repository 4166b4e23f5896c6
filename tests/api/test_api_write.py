"""The interactions that write, over HTTP, as https://hl7.org/fhir/R4/http.html has them."""

import asyncio
import gzip
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhirgw.api.together import MOST
from fhirgw.fhir.canonical import encode
from tests.api.writing import CLEARED, FINAL, OWN_APP, PEOPLE, PORTAL, observation
from tests.conftest import NewDatabase
from tests.gateway import Gateway
from tests.put import connected, put

JSON = {"content-type": "application/fhir+json"}
PATCH = {"content-type": "application/json-patch+json"}


@pytest.fixture(scope="module")
async def module_database(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        await put(url, *PEOPLE)
        yield url


@pytest.fixture(scope="module")
def configured() -> dict[str, Any]:
    return {"longest_body": 200_000}


def sent(client: httpx.Client, method: str, path: str, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else encode(body) if isinstance(body, dict) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request(method, path, content=content, headers={**JSON, **names})


def created(client: httpx.Client, resource: dict[str, Any] | None = None) -> httpx.Response:
    answer = sent(client, "POST", f"/fhir/{(resource or observation())['resourceType']}", resource or observation())
    assert answer.status_code == 201, answer.text
    return answer


def issue(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The first issue of a refusal, which must have the status."""
    assert answer.status_code == status, answer.text
    found = answer.json()
    assert found["resourceType"] == "OperationOutcome"
    first: dict[str, Any] = found["issue"][0]
    return first


def test_create_answers_with_what_was_stored(council: httpx.Client, gateway: Gateway) -> None:
    given = {**observation(), "valueQuantity": {"value": 1.0}, "id": "mine", "meta": {"versionId": "9"}}
    text = encode(given).replace(b'"value":1.0', b'"value":1.10')
    answer = sent(council, "POST", "/fhir/Observation", text)
    assert answer.status_code == 201
    id = answer.json()["id"]
    assert id != "mine"
    assert answer.headers["location"] == f"{gateway.base}/Observation/{id}/_history/1"
    assert answer.headers["etag"] == 'W/"1"'
    assert b'"value":1.10' in answer.content
    read = council.get(f"/fhir/Observation/{id}")
    assert read.content == answer.content
    assert read.headers["last-modified"] == answer.headers["last-modified"]
    assert read.json()["meta"].keys() == {"versionId", "lastUpdated"}
    found = council.get(f"/fhir/Observation?patient=cared-for&_id={id}").json()
    assert [each["resource"]["id"] for each in found["entry"] if each["search"]["mode"] == "match"] == [id]


def test_update_makes_the_next_version_and_keeps_the_one_before(council: httpx.Client) -> None:
    first = created(council)
    id = first.json()["id"]
    changed = {**first.json(), "status": "amended"}
    second = sent(council, "PUT", f"/fhir/Observation/{id}", changed, if_match='W/"1"')
    assert (second.status_code, second.headers["etag"], second.json()["status"]) == (200, 'W/"2"', "amended")
    assert council.get(f"/fhir/Observation/{id}/_history/1").content == first.content
    assert council.get(f"/fhir/Observation/{id}").content == second.content
    same = sent(council, "PUT", f"/fhir/Observation/{id}", changed, if_match='W/"2"')
    assert (same.status_code, same.headers["etag"], same.content) == (200, 'W/"2"', second.content)


def test_a_change_says_which_version_it_means(council: httpx.Client) -> None:
    given = created(council).json()
    path = f"/fhir/Observation/{given['id']}"
    changed = {**given, "status": "amended"}
    unversioned = {name: value for name, value in changed.items() if name != "meta"}
    patch = [{"op": "replace", "path": "/status", "value": "amended"}]
    for method, body, headers in (("PUT", unversioned, {}), ("PATCH", patch, PATCH), ("DELETE", {}, {})):
        if method != "DELETE":
            assert issue(sent(council, method, path, body, **headers_of(headers)), 428)["code"] == "required"
        stale = sent(council, method, path, body, **headers_of(headers), if_match='W/"7"')
        assert issue(stale, 412)["code"] == "conflict"
        for malformed in ("1", "W/1", "", 'W/"1'):
            told = issue(sent(council, method, path, body, **headers_of(headers), if_match=malformed), 400)
            assert 'W/"1"' in told["diagnostics"]
    assert council.get(path).headers["etag"] == 'W/"1"'
    assert sent(council, "PUT", path, unversioned, if_match='W/"1"').status_code == 200


def test_the_body_says_which_version_it_was_read_as(council: httpx.Client) -> None:
    given = created(council).json()
    path = f"/fhir/Observation/{given['id']}"
    amended = sent(council, "PUT", path, {**given, "status": "amended"})
    assert (amended.status_code, amended.headers["etag"]) == (200, 'W/"2"')
    assert issue(sent(council, "PUT", path, {**given, "status": "corrected"}), 412)["code"] == "conflict"
    odd = {**given, "meta": {"versionId": "the first"}}
    assert issue(sent(council, "PUT", path, odd), 428)["code"] == "required"
    assert sent(council, "PUT", path, {**given, "status": "final"}, if_match='"2"').headers["etag"] == 'W/"3"'
    assert sent(council, "PUT", path, {**given, "status": "amended"}, if_match="*").headers["etag"] == 'W/"4"'
    assert issue(sent(council, "DELETE", path, {}, if_match='W/"none of ours"'), 400)
    assert issue(sent(council, "DELETE", path, {}, if_match='W/"abc"'), 412)
    assert sent(council, "DELETE", path, {}).status_code == 204


def headers_of(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("-", "_"): value for name, value in headers.items()}


def test_patch_changes_what_it_names_and_keeps_the_digits(council: httpx.Client) -> None:
    body = encode({**observation(), "valueQuantity": {"value": 0}}).replace(b'"value":0', b'"value":2.50')
    path = f"/fhir/Observation/{sent(council, 'POST', '/fhir/Observation', body).json()['id']}"
    patch = [
        {"op": "replace", "path": "/status", "value": "amended"},
        {"op": "test", "path": "/code/text", "value": "Weight"},
    ]
    answer = sent(council, "PATCH", path, patch, **headers_of(PATCH), if_match='W/"1"')
    assert (answer.status_code, answer.json()["status"], answer.headers["etag"]) == (200, "amended", 'W/"2"')
    assert b'"value":2.50' in answer.content


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        ({"op": "replace", "path": "/id", "value": "x"}, 403),
        ({"op": "replace", "path": "", "value": {}}, 403),
        ({"op": "add", "path": "/meta/security", "value": []}, 403),
        ({"op": "add", "path": "/nothing", "value": 1}, 422),
        ({"op": "move", "from": "/id", "path": "/note"}, 403),
        ({"op": "remove", "path": "/valueString"}, 422),
        ({"op": "test", "path": "/status", "value": "draft"}, 422),
        ({"op": "remove", "path": "/status"}, 422),
        ({"op": "replace", "path": "/status", "value": "no such status"}, 422),
        ({"op": "burn", "path": "/status"}, 400),
        ({"op": "add", "path": "/status"}, 400),
        ({"op": "add", "path": "status", "value": 1}, 400),
        ("remove", 400),
    ],
)
def test_patch_is_refused_where_it_may_not_or_cannot(council: httpx.Client, operation: Any, status: int) -> None:
    path = f"/fhir/Observation/{created(council).json()['id']}"
    issue(sent(council, "PATCH", path, [operation], **headers_of(PATCH), if_match='W/"1"'), status)
    assert council.get(path).headers["etag"] == 'W/"1"'


def test_a_patch_is_told_which_paths_there_are(council: httpx.Client) -> None:
    path = f"/fhir/Observation/{created(council).json()['id']}"
    for wrong, status, words in (
        ("/statsu", 422, "did you mean /status"),
        ("/id", 403, "/[element of Observation]"),
        ("/meta/x", 403, "Only"),
    ):
        operation = [{"op": "add", "path": wrong, "value": "x"}]
        refused = issue(sent(council, "PATCH", path, operation, **headers_of(PATCH), if_match="*"), status)
        told = refused["diagnostics"]
        assert words in told and "statsu" not in told


def test_a_patch_that_doubles_itself_is_stopped(council: httpx.Client) -> None:
    given = created(council, {**observation(), "note": [{"text": "x" * 1000}]})
    doubling = [
        {"op": "copy", "from": "/note", "path": "/component"},
        *([{"op": "copy", "from": "/component", "path": "/component/-"}] * 30),
    ]
    path = f"/fhir/Observation/{given.json()['id']}"
    assert (
        issue(sent(council, "PATCH", path, doubling, **headers_of(PATCH), if_match='W/"1"'), 400)["code"]
        == "too-costly"
    )


def test_what_is_deleted_is_gone_but_for_its_history(council: httpx.Client) -> None:
    given = created(council).json()
    path = f"/fhir/Observation/{given['id']}"
    answer = sent(council, "DELETE", path, {}, if_match='W/"1"')
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (204, b"", 'W/"2"')
    assert sent(council, "DELETE", path, {}).status_code == 204
    assert issue(council.get(path), 410)["code"] == "deleted"
    assert issue(sent(council, "PUT", path, given, if_match='W/"2"'), 410)["code"] == "deleted"
    assert council.get(f"{path}/_history/1").status_code == 200
    found = council.get(f"/fhir/Observation?_id={given['id']}").json()
    assert [each for each in found["entry"] if each["search"]["mode"] == "match"] == []


def test_ids_are_the_gateways_to_give(council: httpx.Client, provider: httpx.Client) -> None:
    """What cannot be seen answers as what does not exist."""
    hidden = created(council, observation("stranger")).json()
    for client, id in ((council, "nobody"), (provider, "nobody"), (provider, hidden["id"])):
        given = {**observation(), "id": id}
        answer = sent(client, "PUT", f"/fhir/Observation/{id}", given, if_match='W/"1"')
        assert issue(answer, 405)["code"] == "not-supported"
        assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    absent, unseen = (
        [
            sent(
                provider,
                method,
                f"/fhir/Observation/{id}",
                [{"op": "remove", "path": "/note"}],
                **headers_of(PATCH),
                if_match='W/"1"',
            )
            for method in ("PUT", "PATCH", "DELETE")
        ]
        for id in ("nobody", hidden["id"])
    )
    assert [(each.status_code, each.content) for each in absent[1:]] == [
        (each.status_code, each.content) for each in unseen[1:]
    ]
    assert [each.status_code for each in absent[1:]] == [404, 404]
    assert council.get(f"/fhir/Observation/{hidden['id']}").headers["etag"] == 'W/"1"'


@pytest.mark.parametrize(
    ("prefer", "size"),
    [
        ("return=minimal", 0),
        ("return=representation", 1),
        ("return=OperationOutcome", 1),
        ("x", 1),
        ('handling=strict; return="minimal"', 0),
        ("return=minimal, return=representation", 0),
    ],
)
def test_prefer_says_what_comes_back(council: httpx.Client, prefer: str, size: int) -> None:
    answer = sent(council, "POST", "/fhir/Observation", observation(), prefer=prefer)
    assert (answer.status_code, bool(answer.content)) == (201, bool(size))
    if size:
        kind = "OperationOutcome" if prefer.endswith("Outcome") else "Observation"
        assert answer.json()["resourceType"] == kind


MALFORMED: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "no JSON": (b"<xml/>", 400),
    "a list": (b"[]", 400),
    "another type": (b'{"resourceType":"Patient"}', 400),
    "no type": (b"{}", 400),
    "invalid UTF-8": (b'{"resourceType":"Observation","a":"\xff"}', 400),
    "NUL": (b'{"resourceType":"Observation","a":"\\u0000"}', 400),
    "a lone surrogate": (b'{"resourceType":"Observation","a":"\\ud800"}', 400),
    "a lone surrogate in a name": (b'{"resourceType":"Observation","\\udfff":1}', 400),
    "a control character": (b'{"resourceType":"Observation","a":"\\u0003"}', 400),
    "a key twice": (b'{"resourceType":"Observation","code":{"text":"a","text":"b"}}', 400),
    "a key twice, spelt otherwise": (b'{"resourceType":"Observation","code":{"text":"a","\\u0074ext":"b"}}', 400),
    "too deep": (b'{"resourceType":"Observation","a":' + b"[" * 64 + b"]" * 64 + b"}", 400),
    "too many digits": (b'{"resourceType":"Observation","a":1.' + b"1" * 41 + b"}", 400),
    "too great an exponent": (b'{"resourceType":"Observation","a":1e33}', 400),
    "not a number": (b'{"resourceType":"Observation","a":NaN}', 400),
    "an id that is none": (b'{"resourceType":"Observation","id":"a b"}', 400),
    "a date that does not exist": (encode(observation(effectiveDateTime="2026-02-30")), 400),
    "an element nobody knows": (encode(observation(colour="scarlet")), 422),
    "a wrong shape": (encode(observation(category={"text": "x"})), 422),
    "a code that is none": (encode({**observation(), "status": "done"}), 422),
    "too long": (encode(observation(note=[{"text": "x" * 200_000}])), 413),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_what_comes_in_is_scanned(council: httpx.Client, fault: str) -> None:
    body, status = MALFORMED[fault]
    answer = sent(council, "POST", "/fhir/Observation", body)
    issue(answer, status)
    assert "scarlet" not in answer.text


SOUND: dict[str, bytes] = {
    "an escaped backslash before u0000": encode(observation(note=[{"text": "\\u0000"}])),
    "a pair of surrogates": encode(observation()).replace(b"Weight", b"\\ud83d\\ude00"),
    "tabs and line ends": encode(observation(note=[{"text": "a\tb\r\nc"}])),
    "digits enough": encode({**observation(), "valueQuantity": {"value": 7}}).replace(
        b":7}", b":1." + b"1" * 17 + b"}"
    ),
    "an extension of somebody's": encode(observation(extension=[{"url": "http://example.org/x", "valueString": "y"}])),
}


@pytest.mark.parametrize("sound", SOUND)
def test_what_only_looks_odd_is_stored_as_it_is(council: httpx.Client, sound: str) -> None:
    answer = sent(council, "POST", "/fhir/Observation", SOUND[sound])
    assert answer.status_code == 201, answer.text
    stored, given = answer.json(), json.loads(SOUND[sound])
    assert {name: value for name, value in stored.items() if name not in ("id", "meta")} == given


def test_types_and_packing_of_bodies(council: httpx.Client) -> None:
    body = encode(observation())
    for kind in ("application/xml", "application/fhir+xml", "text/plain", "application/fhir+json; charset=latin-1", ""):
        assert council.post("/fhir/Observation", content=body, headers={"content-type": kind}).status_code == 415
    for kind in ("application/json", "application/fhir+json; charset=UTF-8; fhirVersion=4.0"):
        assert council.post("/fhir/Observation", content=body, headers={"content-type": kind}).status_code == 201
    packed = {**JSON, "content-encoding": "gzip"}
    assert council.post("/fhir/Observation", content=gzip.compress(body), headers=packed).status_code == 201
    bomb = gzip.compress(b" " * 50_000_000)
    assert len(bomb) < 60_000
    assert council.post("/fhir/Observation", content=bomb, headers=packed).status_code == 413
    assert council.post("/fhir/Observation", content=body, headers=packed).status_code == 400
    assert council.post("/fhir/Observation", content=gzip.compress(body)[:-9], headers=packed).status_code == 400
    assert (
        council.post("/fhir/Observation", content=body, headers={**JSON, "content-encoding": "br"}).status_code == 415
    )
    wrong = council.patch("/fhir/Observation/x", content=b"[]", headers=JSON)
    assert (wrong.status_code, wrong.headers["accept-patch"]) == (415, "application/json-patch+json")


def test_a_body_without_a_length_is_cut_off(council: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b" " * 10_000

    assert council.post("/fhir/Observation", content=endless(), headers=JSON).status_code == 413


def test_a_reference_to_what_cannot_be_seen_is_one_to_nothing(council: httpx.Client, provider: httpx.Client) -> None:
    told = []
    for name in ("stranger", "nobody"):
        answer = sent(provider, "POST", "/fhir/Observation", observation(name))
        assert issue(answer, 422)["code"] == "not-found"
        told.append(answer.content)
    assert told[0] == told[1]
    assert issue(answer, 422)["expression"] == ["Observation.subject"]
    created(provider)
    for name in ("stranger", "nobody"):  # the council sends its own records as they are
        created(council, observation(name))
    created(council, observation(performer=[{"reference": "https://elsewhere.example/fhir/Practitioner/1"}]))


def test_conditional_create(council: httpx.Client) -> None:
    identifier = {"system": "https://example.org/ids", "value": str(uuid.uuid4())}
    given = observation(identifier=[identifier])
    condition = f"identifier={identifier['system']}|{identifier['value']}"
    first = sent(council, "POST", "/fhir/Observation", given, if_none_exist=condition)
    again = sent(council, "POST", "/fhir/Observation", given, if_none_exist=condition)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.content == first.content
    created(council, given)
    assert (
        issue(sent(council, "POST", "/fhir/Observation", given, if_none_exist=condition), 412)["code"] == "processing"
    )
    assert issue(sent(council, "POST", "/fhir/Observation", given, if_none_exist="colour=red"), 400)
    assert issue(sent(council, "POST", "/fhir/Observation", given, if_none_exist=""), 400)


async def test_of_many_conditional_creates_at_once_one_creates(gateway: Gateway, council: httpx.Client) -> None:
    value = str(uuid.uuid4())
    given = observation(identifier=[{"system": "https://example.org/ids", "value": value}])
    headers = {**JSON, "if-none-exist": f"identifier=https://example.org/ids|{value}"}
    async with httpx.AsyncClient(headers={**council.headers}, base_url=gateway.root, timeout=120) as client:
        posts = (client.post("/fhir/Observation", content=encode(given), headers=headers) for _ in range(12))
        answers = await asyncio.gather(*posts)
    assert sorted(each.status_code for each in answers) == [200] * 11 + [201]
    assert len({each.json()["id"] for each in answers}) == 1


def test_conditional_update_patch_and_delete(council: httpx.Client) -> None:
    value = str(uuid.uuid4())
    where = f"/fhir/Observation?identifier=https://example.org/ids|{value}"
    given = observation(identifier=[{"system": "https://example.org/ids", "value": value}])
    made = sent(council, "PUT", where, given)
    assert made.status_code == 201
    assert issue(sent(council, "PUT", where, {**given, "id": "another"}), 400)
    second = sent(council, "PUT", where, {**given, "status": "amended"})
    assert (second.status_code, second.headers["etag"], second.json()["id"]) == (200, 'W/"2"', made.json()["id"])
    assert issue(sent(council, "PUT", where, given, if_match='W/"1"'), 412)
    patch = [{"op": "replace", "path": "/status", "value": "final"}]
    third = sent(council, "PATCH", where, patch, **headers_of(PATCH))
    assert (third.status_code, third.headers["etag"]) == (200, 'W/"3"')
    assert sent(council, "DELETE", where, {}).status_code == 204
    assert council.get(f"/fhir/Observation/{made.json()['id']}").status_code == 410
    assert sent(council, "DELETE", where, {}).status_code == 204
    assert issue(sent(council, "PATCH", where, patch, **headers_of(PATCH)), 404)
    assert issue(sent(council, "PUT", where, {**given, "id": "mine"}), 405)
    assert issue(sent(council, "DELETE", "/fhir/Observation", {}), 400)
    created(council, given)
    created(council, given)
    assert issue(sent(council, "DELETE", where, {}), 412)


def test_a_request_sent_again_has_its_effect_once(council: httpx.Client, provider: httpx.Client) -> None:
    id = str(uuid.uuid4())
    first = sent(council, "POST", "/fhir/Observation", observation(), x_request_id=id)
    again = sent(council, "POST", "/fhir/Observation", observation(), x_request_id=id)
    same = ("location", "etag", "last-modified")
    assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
    assert [again.headers[name] for name in same] == [first.headers[name] for name in same]
    assert again.headers["x-request-id"] == id
    other = sent(council, "POST", "/fhir/Observation", observation(note=[{"text": "x"}]), x_request_id=id)
    assert issue(other, 422)["code"] == "duplicate"
    theirs = sent(provider, "POST", "/fhir/Observation", observation(), x_request_id=id)
    assert theirs.status_code == 201
    assert theirs.json()["id"] != first.json()["id"]
    assert issue(sent(council, "POST", "/fhir/Observation", observation(), x_request_id="not-a-uuid"), 400)
    path = f"/fhir/Observation/{first.json()['id']}"
    id = str(uuid.uuid4())
    gone = [sent(council, "DELETE", path, {}, if_match='W/"1"', x_request_id=id) for _ in range(2)]
    assert [each.status_code for each in gone] == [204, 204]
    assert gone[0].headers["etag"] == gone[1].headers["etag"]


async def test_of_many_sent_at_once_one_has_an_effect(gateway: Gateway, council: httpx.Client) -> None:
    value = str(uuid.uuid4())
    given = encode(observation(identifier=[{"system": "https://example.org/once", "value": value}]))
    headers = {**JSON, "x-request-id": str(uuid.uuid4())}
    async with httpx.AsyncClient(headers={**council.headers}, base_url=gateway.root, timeout=120) as client:
        posts = (client.post("/fhir/Observation", content=given, headers=headers) for _ in range(12))
        answers = await asyncio.gather(*posts)
        found = await client.get("/fhir/Observation", params={"identifier": f"https://example.org/once|{value}"})
    statuses = {each.status_code for each in answers}
    assert 201 in statuses
    assert statuses <= {201, 409}
    assert all("retry-after" in each.headers for each in answers if each.status_code == 409)
    assert len([each for each in found.json()["entry"] if each["search"]["mode"] == "match"]) == 1


async def test_creates_at_once_are_each_answered_for_themselves(
    gateway: Gateway, council: httpx.Client, module_database: str
) -> None:
    """Those that wait together are written together; one that is refused spoils nobody's."""
    bodies = [observation(note=[{"text": f"number {n}"}]) for n in range(MOST + 36)]  # more than share one transaction
    spoilt = 20
    bodies[spoilt]["status"] = "no such status"
    async with httpx.AsyncClient(headers={**council.headers}, base_url=gateway.root, timeout=120) as client:
        posts = (client.post("/fhir/Observation", content=encode(each), headers=JSON) for each in bodies)
        answers = await asyncio.gather(*posts)
    assert [each.status_code for each in answers] == [422 if n == spoilt else 201 for n in range(len(bodies))]
    made = [each.json() for each in answers if each.status_code == 201]
    assert [each["note"][0]["text"] for each in made] == [f"number {n}" for n in range(len(bodies)) if n != spoilt]
    connection = await connected(module_database)
    audited = "SELECT count(*) FROM fhirgw.audited WHERE body LIKE '%' || $1 || '%'"
    assert [await connection.fetchval(audited, each["id"]) for each in made] == [1] * len(made)
    stored = await connection.fetch(
        "SELECT id FROM fhirgw.resource WHERE type = 'Observation' AND body LIKE '%number %'"
    )
    shared = await connection.fetchval(
        "SELECT count(DISTINCT transaction) FROM fhirgw.change WHERE id = ANY ($1)", [each["id"] for each in made]
    )
    await connection.close()
    assert {each["id"] for each in stored} == {each["id"] for each in made}
    assert shared < len(made)  # the control: some were together


async def test_answers_are_kept_for_a_day(council: httpx.Client, module_database: str) -> None:
    id = str(uuid.uuid4())
    first = sent(council, "POST", "/fhir/Observation", observation(), x_request_id=id)
    connection = await connected(module_database)
    await connection.execute("UPDATE fhirgw.replay SET stored = stored - interval '25 hours' WHERE request = $1", id)
    await connection.close()
    second = sent(council, "POST", "/fhir/Observation", observation(), x_request_id=id)
    assert second.json()["id"] != first.json()["id"]


async def test_a_write_is_in_the_audit_with_what_it_wrote(council: httpx.Client, module_database: str) -> None:
    given = created(council).json()
    connection = await connected(module_database)
    rows = await connection.fetch("SELECT body FROM fhirgw.audited WHERE body LIKE $1", f"%{given['id']}%")
    await connection.close()
    (event,) = [json.loads(each["body"]) for each in rows]
    assert (event["subtype"][0]["code"], event["action"], event["outcome"]) == ("create", "C", "0")


def test_the_controller_changes_what_it_holds_and_others_what_they_brought(
    council: httpx.Client, provider: httpx.Client
) -> None:
    said = {"resourceType": "Communication", "status": "completed", "subject": {"reference": "Patient/cared-for"}}
    theirs, ours, again = (created(client, said).json() for client in (provider, council, provider))
    for client, brought, status in ((council, theirs, 200), (provider, ours, 403), (provider, again, 200)):
        changed = {**brought, "note": [{"text": "on the phone"}]}
        answer = sent(client, "PUT", f"/fhir/Communication/{brought['id']}", changed, if_match='W/"1"')
        assert answer.status_code == status, answer.text
    path = "/fhir/Communication/{}"
    assert sent(provider, "DELETE", path.format(again["id"]), {}, if_match='W/"2"').status_code == 204
    assert sent(provider, "DELETE", path.format(ours["id"]), {}, if_match='W/"1"').status_code == 403


def test_nobody_empowers_themselves(gateway: Gateway, council: httpx.Client, provider: httpx.Client) -> None:
    care = {
        "resourceType": "EpisodeOfCare",
        "status": "active",
        "patient": {"reference": "Patient/cared-for"},
        "managingOrganization": {"reference": "Organization/provider"},
    }
    with gateway.client(PORTAL) as portal:
        for client in (provider, portal):
            assert issue(sent(client, "POST", "/fhir/EpisodeOfCare", care), 403)["code"] == "forbidden"
            labelled = observation(meta={"security": [{"code": "R"}]})
            assert issue(sent(client, "POST", "/fhir/Observation", labelled), 403)["code"] == "forbidden"
        created(portal)
    stranger = {**care, "patient": {"reference": "Patient/stranger"}}
    assert provider.get("/fhir/Patient/stranger").status_code == 404
    granted = created(council, stranger).json()
    assert provider.get("/fhir/Patient/stranger").status_code == 200
    path = f"/fhir/EpisodeOfCare/{granted['id']}"
    assert issue(sent(provider, "DELETE", path, {}, if_match='W/"1"'), 403)
    ended = {**granted, "status": "cancelled"}
    assert sent(council, "PUT", path, ended, if_match='W/"1"').status_code == 200
    assert provider.get("/fhir/Patient/stranger").status_code == 404


def test_a_persons_dissent_holds_from_the_next_request(gateway: Gateway, provider: httpx.Client) -> None:
    consent = {
        "resourceType": "Consent",
        "status": "active",
        "scope": {
            "coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]
        },
        "category": [{"coding": [{"system": "http://loinc.org", "code": "59284-0"}]}],
        "patient": {"reference": "Patient/cared-for"},
        "policyRule": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "OPTOUT"}]},
    }
    assert provider.get("/fhir/Patient/cared-for").status_code == 200
    with gateway.client(OWN_APP, "person") as person:
        made = created(person, consent).json()
        assert provider.get("/fhir/Patient/cared-for").status_code == 404
        path = f"/fhir/Consent/{made['id']}"
        assert sent(person, "PUT", path, {**made, "status": "inactive"}, if_match='W/"1"').status_code == 200
        assert provider.get("/fhir/Patient/cared-for").status_code == 200
        others = {**consent, "patient": {"reference": "Patient/stranger"}}
        assert issue(sent(person, "POST", "/fhir/Consent", others), 422)["code"] == "not-found"
        nobodys = {**consent, "patient": {"display": "me"}}
        assert issue(sent(person, "POST", "/fhir/Consent", nobodys), 403)
        assert issue(sent(person, "POST", "/fhir/Observation", observation()), 403)


def test_what_is_withheld_is_not_written_over(gateway: Gateway, council: httpx.Client) -> None:
    path = "/fhir/Patient/restricted"
    seen = council.get(path).json()
    assert "address" not in seen
    changed = {**seen, "gender": "female"}
    assert "withheld" in issue(sent(council, "PUT", path, changed, if_match='W/"1"'), 403)["diagnostics"]
    patch = [{"op": "add", "path": "/gender", "value": "female"}]
    assert issue(sent(council, "PATCH", path, patch, **headers_of(PATCH), if_match='W/"1"'), 403)
    with gateway.client(CLEARED) as cleared:
        assert "address" in cleared.get(path).json()
        answer = sent(cleared, "PATCH", path, patch, **headers_of(PATCH), if_match='W/"1"')
        assert (answer.status_code, "address" in answer.json()) == (200, True)
    assert "address" not in council.get(path).json()
    assert council.get("/fhir/Patient?address-postalcode=ZZ99&_id=restricted&_summary=count").json()["total"] == 0


def test_what_is_written_fits_the_scope(gateway: Gateway, council: httpx.Client) -> None:
    with gateway.client(FINAL) as final:
        given = created(final).json()
        assert issue(sent(final, "POST", "/fhir/Observation", {**observation(), "status": "amended"}), 403)
        path = f"/fhir/Observation/{given['id']}"
        assert issue(sent(final, "PUT", path, {**given, "status": "amended"}, if_match='W/"1"'), 403)
        assert issue(sent(final, "POST", "/fhir/Flag", {"resourceType": "Flag"}), 403)
        assert sent(council, "PUT", path, {**given, "status": "amended"}, if_match='W/"1"').status_code == 200
        assert issue(sent(final, "PUT", path, {**given, "note": []}, if_match='W/"2"'), 405)


def test_a_resource_stays_in_one_record(council: httpx.Client) -> None:
    given = created(council).json()
    moved = {**given, "subject": {"reference": "Patient/stranger"}}
    assert issue(sent(council, "PUT", f"/fhir/Observation/{given['id']}", moved, if_match='W/"1"'), 422)


def test_a_person_with_a_record_is_not_deleted(council: httpx.Client) -> None:
    person = created(council, {"resourceType": "Patient", "birthDate": "1970-01-01"}).json()["id"]
    path = f"/fhir/Patient/{person}"
    inside = created(council, observation(person)).json()["id"]
    assert inside[:3] == person[:3]
    assert issue(sent(council, "DELETE", path, {}, if_match='W/"1"'), 409)["code"] == "conflict"
    assert sent(council, "DELETE", f"/fhir/Observation/{inside}", {}, if_match='W/"1"').status_code == 204
    assert sent(council, "DELETE", path, {}, if_match='W/"1"').status_code == 204


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
ELEMENTS = st.dictionaries(
    st.sampled_from(
        [
            "status",
            "code",
            "subject",
            "category",
            "meta",
            "id",
            "identifier",
            "note",
            "valueQuantity",
            "contained",
            "extension",
            "text",
            "effectiveDateTime",
            "component",
        ]
    ),
    JSONS
    | st.fixed_dictionaries({"reference": st.text(max_size=12)})
    | st.lists(st.fixed_dictionaries({"text": JSONS}), max_size=2),
    max_size=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["Observation", "Patient", "Consent", "Task", "Bundle", "Provenance"]), elements=ELEMENTS)
def test_no_body_makes_a_500(council: httpx.Client, kind: str, elements: dict[str, Any]) -> None:
    body = json.dumps({**observation(), **elements, "resourceType": kind}).encode()
    answer = sent(council, "POST", f"/fhir/{kind}" if kind != "Bundle" else "/fhir", body)
    assert answer.status_code < 500, (body, answer.text)
    assert re.match(r"application/fhir\+json", answer.headers["content-type"])


PATHS = st.sampled_from(
    [
        "/status",
        "/status/x",
        "/code/text",
        "/note/-",
        "/note/0",
        "/note/-1",
        "/note/01",
        "/meta/tag",
        "/~2",
        "/",
        "x",
        "",
    ]
)
OPERATIONS = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "replace", "test", "remove", "move", "copy"]) | JSONS},
    optional={"path": PATHS | JSONS, "from": PATHS | JSONS, "value": JSONS},
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "fullUrl": st.sampled_from(["urn:uuid:1", "http://x/fhir/Observation/1", ""]) | JSONS,
        "resource": st.just(observation()) | ELEMENTS.map(lambda found: {**observation(), **found}) | JSONS,
        "request": st.fixed_dictionaries(
            {},
            optional={
                "method": st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "GET", "HEAD", "TRACE"]) | JSONS,
                "url": st.sampled_from(
                    [
                        "Observation",
                        "Observation/x",
                        "Observation?status=final",
                        "Patient/cared-for",
                        "metadata",
                        "/",
                        "?",
                    ]
                )
                | st.text(max_size=20),
                "ifMatch": st.sampled_from(['W/"1"', "*", ""]) | JSONS,
                "ifNoneExist": st.sampled_from(["status=final", "colour=red", "?"]) | JSONS,
                "ifNoneMatch": st.just('W/"1"') | JSONS,
            },
        ),
    },
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=st.lists(OPERATIONS, max_size=3) | JSONS)
def test_no_patch_makes_a_500(council: httpx.Client, operations: Any) -> None:
    path = f"/fhir/Observation/{created(council, observation(note=[{'text': 'x'}])).json()['id']}"
    body = json.dumps(operations).encode()
    answer = sent(council, "PATCH", path, body, **headers_of(PATCH), if_match='W/"1"')
    assert answer.status_code < 500, (body, answer.text)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(["transaction", "batch"]), entries=st.lists(ENTRIES, max_size=3) | JSONS)
def test_no_bundle_makes_a_500(council: httpx.Client, kind: str, entries: Any) -> None:
    body = json.dumps({"resourceType": "Bundle", "type": kind, "entry": entries}).encode()
    answer = sent(council, "POST", "/fhir", body)
    assert answer.status_code < 500, (body, answer.text)
    if answer.status_code == 200:
        assert all(int(each["response"]["status"][:3]) < 500 for each in answer.json().get("entry", ()))
