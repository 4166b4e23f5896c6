"""The interactions over HTTP, as https://hl7.org/fhir/R4/http.html has them."""

import json
import re
import socket
from typing import Any

import httpx
import pytest

from fhirgw.fhir.canonical import encode
from tests.api.conftest import OBSERVATIONS, OTHERS, PERSON
from tests.gateway import Gateway
from tests.put import stamped

FHIR_JSON = "application/fhir+json; charset=utf-8"
ADVICE = "Some information may be withheld under the sharing rules of the organisations that hold it"


def outcome(answer: httpx.Response) -> list[dict[str, Any]]:
    """The issues of an answer that must be an OperationOutcome."""
    assert answer.headers["content-type"] == FHIR_JSON
    found = answer.json()
    assert found["resourceType"] == "OperationOutcome"
    issues: list[dict[str, Any]] = found["issue"]
    assert all({"severity", "code", "diagnostics"} <= issue.keys() for issue in issues)
    return issues


def entries(bundle: dict[str, Any], mode: str = "match") -> list[str]:
    """What is in a searchset with that mode, as Type/id."""
    found = [each["resource"] for each in bundle["entry"] if each["search"]["mode"] == mode]
    return [f"{each['resourceType']}/{each['id']}" for each in found]


def link(bundle: dict[str, Any], relation: str) -> str | None:
    return {each["relation"]: each["url"] for each in bundle["link"]}.get(relation)


def test_read_answers_with_the_stored_bytes(gateway: Gateway) -> None:
    answer = gateway.http.get("/fhir/Patient/p1")
    assert answer.status_code == 200
    assert answer.content == encode(stamped(PERSON))
    assert answer.headers["content-type"] == FHIR_JSON
    assert answer.headers["etag"] == 'W/"1"'
    assert answer.headers["last-modified"] == "Fri, 02 Jan 2026 03:04:05 GMT"
    assert answer.headers["cache-control"] == "private, no-cache"


def test_head_answers_as_get_without_the_body(gateway: Gateway) -> None:
    whole, head = gateway.http.get("/fhir/Patient/p1"), gateway.http.head("/fhir/Patient/p1")
    assert head.content == b""
    same = ("content-length", "content-type", "etag", "last-modified")
    assert [head.headers[name] for name in same] == [whole.headers[name] for name in same]
    assert gateway.http.head("/fhir/Patient/nobody").status_code == 404


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": 'W/"1"'}, 304),
        ({"If-None-Match": 'W/"7", W/"1"'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"1"'}, 304),  # compared weakly: RFC 9110, 13.1.2
        ({"If-None-Match": '"2"'}, 200),
        ({"If-None-Match": 'W/"2"'}, 200),
        ({"If-Modified-Since": "Fri, 02 Jan 2026 03:04:05 GMT"}, 304),
        ({"If-Modified-Since": "Fri, 02 Jan 2026 03:04:04 GMT"}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-None-Match": 'W/"2"', "If-Modified-Since": "Fri, 02 Jan 2026 03:04:05 GMT"}, 200),
    ],
)
def test_a_caller_who_has_it_is_not_sent_it_again(gateway: Gateway, headers: dict[str, str], status: int) -> None:
    answer = gateway.http.get("/fhir/Patient/p1", headers=headers)
    assert answer.status_code == status
    assert answer.headers["etag"] == 'W/"1"'
    assert bool(answer.content) is (status == 200)


def test_versions_stay_where_they_were(gateway: Gateway) -> None:
    now = gateway.http.get("/fhir/Organization/changed")
    assert (now.headers["etag"], now.json()["active"]) == ('W/"2"', True)
    then = gateway.http.get("/fhir/Organization/changed/_history/1")
    assert (then.headers["etag"], "active" in then.json()) == ('W/"1"', False)
    assert gateway.http.get("/fhir/Organization/changed/_history/2").content == now.content


def test_history_tells_how_it_came_to_be(gateway: Gateway) -> None:
    changed = gateway.http.get("/fhir/Organization/changed/_history").json()
    assert (changed["type"], changed["total"]) == ("history", 2)
    assert [each["request"] for each in changed["entry"]] == [
        {"method": "PUT", "url": "Organization/changed"},
        {"method": "POST", "url": "Organization"},
    ]
    assert [each["response"]["etag"] for each in changed["entry"]] == ['W/"2"', 'W/"1"']
    gone = gateway.http.get("/fhir/Organization/gone/_history").json()
    assert [each["request"]["method"] for each in gone["entry"]] == ["DELETE", "POST"]
    assert ["resource" in each for each in gone["entry"]] == [False, True]


def test_a_search_is_a_searchset_with_its_advice(gateway: Gateway) -> None:
    answer = gateway.http.get("/fhir/Patient", params={"identifier": f"{PERSON['identifier'][0]['system']}|9000000009"})
    found = answer.json()
    assert (found["resourceType"], found["type"], found["total"]) == ("Bundle", "searchset", 1)
    match, advice = found["entry"]
    assert match["fullUrl"] == f"{gateway.base}/Patient/p1"
    assert match["resource"] == stamped(PERSON)
    assert match["search"] == {"mode": "match"}
    assert advice["search"] == {"mode": "outcome"}
    assert [issue["diagnostics"] for issue in advice["resource"]["issue"]] == [ADVICE]
    assert encode(stamped(PERSON)) in answer.content
    nothing = gateway.http.get("/fhir/Patient?identifier=nobody").json()
    assert (nothing["total"], nothing["entry"]) == (0, [advice])


def test_the_next_links_lead_through_every_match(gateway: Gateway) -> None:
    address: str | None = f"{gateway.base}/Patient?gender=female,male&_sort=-_id&_count=7"
    seen: list[str] = []
    while address:
        page = gateway.http.get(address).json()
        assert page["total"] == len(OTHERS)
        again = gateway.http.get(link(page, "self") or "").json()
        assert (again["entry"], again["total"]) == (page["entry"], page["total"])
        seen += entries(page)
        address = link(page, "next")
    assert seen == [f"Patient/{each['id']}" for each in reversed(OTHERS)]


def test_a_search_by_post_is_the_same_search(gateway: Gateway) -> None:
    by_get = gateway.http.get("/fhir/Patient?family=canary&_revinclude=Observation:subject&_count=3")
    by_post = gateway.http.post(
        "/fhir/Patient/_search?_count=3", data={"family": "canary", "_revinclude": "Observation:subject"}
    )
    assert by_post.status_code == 200
    assert by_post.json()["entry"] == by_get.json()["entry"]
    assert entries(by_post.json(), "include") == [f"Observation/{each['id']}" for each in OBSERVATIONS]


def test_a_search_by_post_is_a_form_or_nothing(gateway: Gateway) -> None:
    nothing = gateway.http.post("/fhir/Patient/_search?_id=p1,q00")
    assert entries(nothing.json()) == ["Patient/p1", "Patient/q00"]
    other = gateway.http.post("/fhir/Patient/_search?_id=p1", json={"family": "canary"})
    assert (other.status_code, "application/x-www-form-urlencoded" in outcome(other)[0]["diagnostics"]) == (415, True)


@pytest.mark.parametrize("mode", ["full", "normative"])
def test_metadata_is_all_there_is_whichever_part_is_asked_for(gateway: Gateway, mode: str) -> None:
    assert gateway.http.get(f"/fhir/metadata?mode={mode}").json() == gateway.http.get("/fhir/metadata").json()


def test_includes_come_along_as_such(gateway: Gateway) -> None:
    found = gateway.http.get("/fhir/Patient?_id=p1&_include=Patient:organization").json()
    assert (entries(found), entries(found, "include"), found["total"]) == (["Patient/p1"], ["Organization/o1"], 1)


def test_a_count_is_a_total_and_no_matches(gateway: Gateway) -> None:
    for asked in ("_summary=count", "_count=0"):
        found = gateway.http.get(f"/fhir/Observation?patient=p1&{asked}").json()
        assert found["total"] == len(OBSERVATIONS)
        (advice,) = found["entry"]  # a count says less than a list that something may be withheld
        assert advice["search"]["mode"] == "outcome"
        assert "may be withheld" in advice["resource"]["issue"][0]["diagnostics"]


@pytest.mark.parametrize("prefer", ["respond-async;x, handling=lenient", 'return=minimal; Handling="lenient"'])
def test_leniency_leaves_out_and_says_so(gateway: Gateway, prefer: str) -> None:
    headers = {"Prefer": prefer}
    found = gateway.http.get("/fhir/Patient?famly=x&_id=p1", headers=headers).json()
    assert entries(found) == ["Patient/p1"]
    (told,) = (each["resource"]["issue"] for each in found["entry"] if each["search"]["mode"] == "outcome")
    assert [(issue["severity"], issue["code"]) for issue in told] == [
        ("information", "informational"),
        ("warning", "invalid"),
    ]
    assert "famly" not in (link(found, "self") or "")


def test_everything_is_the_whole_record(gateway: Gateway) -> None:
    found = gateway.http.get("/fhir/Patient/p1/$everything").json()
    assert sorted(entries(found)) == sorted(
        ["Patient/p1", "Organization/o1", *(f"Observation/{each['id']}" for each in OBSERVATIONS)]
    )
    seen, address = [], f"{gateway.base}/Patient/p1/$everything?_count=4&_type=Observation,Organization"
    while address:
        page = gateway.http.get(address).json()
        seen += entries(page)
        address = link(page, "next")
    assert seen == [*(f"Observation/{each['id']}" for each in OBSERVATIONS), "Organization/o1"]
    assert entries(gateway.http.get("/fhir/Patient/p1/$everything?_since=2027-01-01T00:00:00Z").json()) == []


REFUSED = [
    ("GET", "/fhir/Patient/nobody", 404, "not-found", "There is no such Patient"),
    ("GET", "/fhir/Patient/no_id", 404, "not-found", "There is no such Patient"),
    ("GET", f"/fhir/Patient/{'x' * 65}", 404, "not-found", "There is no such Patient"),
    ("GET", "/fhir/Patient/nobody/_history", 404, "not-found", "There is no such Patient"),
    ("GET", "/fhir/Patient/p1/_history/9", 404, "not-found", "There is no such Patient"),
    ("GET", "/fhir/Patient/p1/_history/x", 404, "not-found", "There is no such Patient"),
    ("GET", "/fhir/Patient/p1/_history/99999999999", 404, "not-found", "There is no such Patient"),
    ("GET", "/fhir/Patient/nobody/$everything", 404, "not-found", "There is no such Patient"),
    ("GET", "/fhir/Organization/gone", 410, "deleted", "has been deleted"),
    ("GET", "/fhir/Organization/gone/_history/2", 410, "deleted", "has been deleted"),
    ("GET", "/fhir/Patent", 404, "not-supported", "did you mean Patient?"),
    ("GET", "/fhir/Patent/p1", 404, "not-supported", "did you mean Patient?"),
    ("GET", "/fhir/%00", 404, "not-supported", "are not held here"),
    ("GET", "/fhir?name=x", 400, "invalid", "name"),
    ("GET", "/fhir/Patient/p1//", 404, "not-found", "nothing at this address"),
    ("GET", "/fhir/Patent/", 404, "not-supported", "did you mean Patient?"),
    ("GET", "/elsewhere", 404, "not-found", "nothing at this address"),
    ("GET", "/fhir/Patient?famly=x", 400, "invalid", "did you mean family?"),
    ("GET", "/fhir/Patient?name=%00", 400, "invalid", "NUL"),
    ("GET", "/fhir/Patient?_cursor=AAAA", 400, "invalid", "_cursor is not one of this search"),
    ("GET", "/fhir/Patient?_format=xml", 406, "not-supported", "Only JSON"),
    ("GET", "/fhir/Patient/p1?_format=application/fhir%2Bxml", 406, "not-supported", "Only JSON"),
    ("GET", "/fhir/Patient?" + "name=x&" * 200, 400, "too-costly", "More than"),
    ("GET", "/fhir/Patient/p1/$everything?from=2020", 400, "not-supported", "takes _type, _since, start, end and"),
    ("GET", "/fhir/Patient/p1/$everything?_type=Patent", 400, "invalid", "_type is malformed"),
    ("GET", "/fhir/Patient/p1/$everything?_count=0", 400, "invalid", "_count is malformed"),
    ("GET", "/fhir/Patient/p1/$everything?_since=soon", 400, "value", "Not a date"),
    ("GET", "/fhir/Patient/p1/$everything?_cursor=x", 400, "invalid", "_cursor is not one of this operation"),
    ("GET", "/fhir/metadata?mode=everything", 400, "invalid", "mode is one of full, normative, terminology"),
    ("DELETE", "/fhir/Patient/p1/_history", 405, "not-supported", "DELETE is not supported here"),
    ("DELETE", "/fhir/Patient/p1", 403, "forbidden", "No scope of this token allows delete on Patient"),
    ("POST", "/fhir/Patient", 403, "forbidden", "No scope of this token allows create on Patient"),
    ("GET", "/fhir/Patient/_search", 405, "not-supported", "these are: OPTIONS, POST"),
    ("TRACE", "/fhir/Patient/p1", 405, "not-supported", "TRACE is not supported here"),
    ("PROPFIND", "/fhir/metadata", 405, "not-supported", "these are: GET, HEAD, OPTIONS"),
    ("GET", "/fhir/Medication", 404, "not-supported", "the CapabilityStatement lists them"),
]


@pytest.mark.parametrize(("method", "path", "status", "code", "words"), REFUSED, ids=lambda value: str(value)[:50])
def test_every_refusal_is_an_outcome(
    gateway: Gateway, method: str, path: str, status: int, code: str, words: str
) -> None:
    answer = gateway.http.request(method, path)
    assert answer.status_code == status
    (issue,) = outcome(answer)
    assert (issue["severity"], issue["code"]) == ("error", code)
    assert words in issue["diagnostics"]
    if status == 405:
        assert method not in answer.headers["allow"]
        assert "OPTIONS" in answer.headers["allow"]


@pytest.mark.parametrize("path", ["", "/metadata", "/Patient", "/Patient/p1", "/Patient/p1/_history"])
def test_an_address_may_end_with_a_slash(gateway: Gateway, path: str) -> None:
    with_it = gateway.http.get(f"/fhir{path}/")
    assert (with_it.status_code, with_it.content) == (200, gateway.http.get(f"/fhir{path}").content)


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (b"FROB /fhir/Patient HTTP/1.1", b"501", "not-supported"),
        (b"get /fhir/Patient HTTP/1.1", b"501", "not-supported"),
        (b"GET /fhir/Patient HTTP/1.1\r\nA: \0", b"400", "structure"),
        (b"GET /fhir/Patient FTP/1.1", b"400", "structure"),
        (b"GET /fhir/Patient HTTP/1.1", b"401", "login"),
    ],
)
def test_what_is_no_request_is_refused_with_an_outcome_too(
    gateway: Gateway, sent: bytes, status: bytes, code: str
) -> None:
    url = httpx.URL(gateway.root)
    with socket.create_connection((url.host, url.port or 80), timeout=30) as connection:
        connection.sendall(sent + b"\r\nHost: gateway\r\nConnection: close\r\n\r\n")
        head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert b"content-type: application/fhir+json" in head.lower()
    assert json.loads(body)["issue"][0]["code"] == code


@pytest.mark.parametrize("path", ["/", "/health/live"])
def test_a_page_is_only_looked_at(gateway: Gateway, path: str) -> None:
    answer = gateway.http.request("DELETE", path)
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert outcome(answer)[0]["code"] == "not-supported"


@pytest.mark.parametrize("host", ['evil.example/"><script>', "a b", "a@b", "a?b", "a:b", "", "a/b", "[::1", "a:123456"])
@pytest.mark.parametrize("path", ["/", "/fhir/metadata", "/fhir/Patient", "/fhir/Organization/o1/_history"])
def test_an_address_that_is_none_is_in_no_link(gateway: Gateway, host: str, path: str) -> None:
    answer = gateway.http.get(path, headers={"Host": host})
    assert answer.status_code == 400
    assert "evil" not in answer.text


@pytest.mark.parametrize("host", ["gateway.example", "gateway:8080", "10.0.0.1:80", "[::1]:8080", "a_b-c.d"])
def test_links_are_made_of_the_address_that_was_used(gateway: Gateway, host: str) -> None:
    found = gateway.http.get("/fhir/Patient?_id=p1", headers={"Host": host}).json()
    assert found["entry"][0]["fullUrl"] == f"http://{host}/fhir/Patient/p1"


def test_every_fault_of_a_search_is_told_at_once(gateway: Gateway) -> None:
    issues = outcome(gateway.http.get("/fhir/Patient?famly=x&birthdate=1950-02-30&_count=many"))
    assert [re.sub(r".*(famly|birthdate|_count).*", r"\1", issue["diagnostics"]) for issue in issues] == [
        *("famly", "birthdate", "_count")
    ]


def test_a_form_too_long_is_refused_while_it_arrives(gateway: Gateway) -> None:
    answer = gateway.http.post("/fhir/Patient/_search", data={"name": "x" * 70_000})
    assert answer.status_code == 413
    assert outcome(answer)[0]["code"] == "too-long"


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        *(("application/fhir+json", 200), ("application/json;q=0.9, text/html", 200), ("*/*", 200)),
        *(("text/html, application/*;q=0.1", 200), ("application/fhir+xml", 406), ("text/html", 406)),
    ],
)
def test_json_is_what_there_is(gateway: Gateway, accept: str, status: int) -> None:
    assert gateway.http.get("/fhir/Patient/p1", headers={"Accept": accept}).status_code == status
    apart = [("Accept", each.strip()) for each in accept.split(",")]
    assert gateway.http.get("/fhir/Patient/p1", headers=apart).status_code == status
    forced = gateway.http.get("/fhir/Patient/p1?_format=json", headers={"Accept": accept})
    assert forced.status_code == 200


def test_options_say_what_is_allowed(gateway: Gateway) -> None:
    answer = gateway.http.request("OPTIONS", "/fhir/Patient/p1")
    assert (answer.status_code, answer.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, PATCH, PUT")


def test_links_are_of_the_address_that_was_used(gateway: Gateway) -> None:
    answer = gateway.http.get("/fhir/Patient?_id=p1", headers={"Host": 'a"b\\c.example'})
    assert answer.status_code in (200, 400)
    if answer.status_code == 200:
        assert answer.json()["entry"][0]["fullUrl"].endswith("/fhir/Patient/p1")


def test_a_name_made_of_urls_own_characters_comes_back_in_the_links(gateway: Gateway) -> None:
    asked = {"name": "a&b=c#d %2B+é"}
    found = gateway.http.get("/fhir/Patient", params=asked).json()
    assert dict(httpx.URL(link(found, "self") or "").params) == asked
