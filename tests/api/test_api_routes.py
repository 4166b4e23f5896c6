"""Who has no token gets nothing: from the route table, so that a new route cannot forget."""

import re
import socket
from collections.abc import Iterator

import httpx
import pytest

import fhirgw.api.open
from fhirgw.app import create_app
from fhirgw.settings import Settings
from fhirgw.store.registration import Registration
from tests.api.conftest import CANARY
from tests.gateway import Gateway

NARROW = Registration("narrow", "Z99", "system/Organization.rds", rate=1_000_000)
"""May see no person."""
OPEN = {
    *("/", "/health/live", "/health/ready", "/fhir/metadata", "/fhir/.well-known/smart-configuration"),
    *("/fhir/oauth/token", "/fhir/.well-known/jwks.json"),
    *(
        "/homecare/upload",
        "/homecare/guide",
        "/homecare/visits.csv",
        "/homecare/desk",
        "/homecare/desk.css",
        "/homecare/desk.js",
    ),
}
"""By hand: who adds to what opens (fhirgw.api.open) says so here too."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
FILLED = {"type": "Patient", "id": "p1", "vid": "1", "job": "d" * 32, "name": "Patient.ndjson"} | {
    "submission": "0b8d5f34-6c6b-4a6e-9a0b-0f6f2f8f3c11",
    "visit": "V1",
}
ROUTES = sorted(
    re.sub(r"{(\w+)(:\w+)?}", lambda match: FILLED[match[1]], route.path)  # type: ignore[attr-defined]
    for route in create_app(Settings()).routes
)
WHEN = re.compile(r'"date": *"[^"]+"')
"""Of the CapabilityStatement."""
UNKNOWN = ["/fhir", "/fhir/", "/fhir/Nothing/x/y/z", "/fhir/$nothing", "/fhir/Patient/p1/$nothing", "/fhir/oauth/none"]


def test_what_is_open_is_what_was_agreed() -> None:
    assert set(ROUTES) >= OPEN == fhirgw.api.open.OPEN.keys()


@pytest.mark.parametrize("path", [*(each for each in ROUTES if each not in OPEN), *UNKNOWN])
def test_every_route_wants_a_token(gateway: Gateway, path: str) -> None:
    with gateway.stranger() as stranger:
        for method in METHODS:
            answer = stranger.request(method, path)
            assert (method, answer.status_code) == (method, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            if method != "HEAD":
                assert answer.json()["issue"][0]["code"] == "login"
            forged = stranger.request(method, path, headers={"authorization": "Bearer a.b.c"})
            assert (method, forged.status_code) == (method, 401)
            with gateway.http.stream(method, path) as known:  # one of them never ends
                assert (method, known.status_code == 401) == (method, False)


@pytest.mark.parametrize("path", sorted(OPEN - {"/fhir/oauth/token"}))
def test_what_is_open_answers_strangers(gateway: Gateway, path: str) -> None:
    with gateway.stranger() as stranger:
        answer = stranger.get(path)
        assert answer.status_code == 200
        known = gateway.http.get(path)  # a token changes nothing: what is open holds nobody's data
        assert WHEN.sub("", known.text) == WHEN.sub("", answer.text)


def test_a_stranger_gets_no_token(gateway: Gateway) -> None:
    with gateway.stranger() as stranger:
        for path in ("token", "introspect", "revoke"):
            answer = stranger.post(f"/fhir/oauth/{path}", data={"token": "x", "grant_type": "client_credentials"})
            assert answer.status_code in (400, 401)
            assert "access_token" not in answer.text
            assert "active" not in answer.text or answer.status_code == 401


@pytest.fixture(scope="module")
def narrow(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client(NARROW) as client:
        yield client


def raw(gateway: Gateway, line: str, token: str | None) -> bytes:
    """The answer to a request line as it is: no library that knows better puts it right."""
    host, port = gateway.root.removeprefix("http://").split(":")
    headers = [f"Host: {host}:{port}", "Connection: close", *([f"Authorization: {token}"] if token else [])]
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall("\r\n".join([f"{line} HTTP/1.1", *headers, "", ""]).encode())
        return b"".join(iter(lambda: connection.recv(65_536), b""))


SPELT = [
    *("/fhir/Patient/p1", "/fhir/Patient%2fp1", "/fhir/%50atient/p%31", "/fhir/Patient/p1?", "/fhir/Patient?_id=p1"),
    *("/fhir/Patient/p1/", "/fhir/Patient/?_id=p1"),
]
TRICKS = [
    *("/fhir//Patient/p1", "//fhir/Patient/p1", "/fhir/Patient/p1//", "/fhir/Patient/p1;x=1", "/fhir/patient/p1"),
    *("/FHIR/Patient/p1", "/fhir/./Patient/p1", "/fhir/metadata/../Patient/p1", "/fhir/metadata/..;/Patient/p1"),
    *("/fhir/metadata%2f..%2fPatient%2fp1", "/health/live/../../fhir/Patient/p1", "/fhir\\Patient\\p1", "*"),
    *("/fhir/Patient/p1%00", "/fhir/Patient/p1%0a", "/fhir/Patient/p\uff11", "/fhir/Patient/p1/_history/\uff11"),
    *("/fhir/Patient/p%EF%BC%91", "/fhir/Patient/p1/_history/%EF%BC%91", "/fhir/Patient/p1/_history/01"),
]
"""Addresses that something between us and a caller, or we, could take for another."""


@pytest.mark.parametrize("path", [*SPELT, *TRICKS])
def test_an_address_is_the_same_to_the_gate_and_to_the_route(gateway: Gateway, narrow: httpx.Client, path: str) -> None:
    for token in (None, narrow.headers["authorization"]):
        told = raw(gateway, f"GET {path}", token)
        assert int(told[9:12]) in (400, 401, 403, 404)
        assert CANARY["family"].encode() not in told
    whole = raw(gateway, f"GET {path}", gateway.http.headers["authorization"])
    assert (CANARY["family"].encode() in whole) is (path in SPELT)


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL"])
def test_no_header_makes_another_request_of_one(gateway: Gateway, narrow: httpx.Client, name: str) -> None:
    given = {name: "/fhir/metadata" if name.endswith("URL") else "DELETE"}
    with gateway.stranger() as stranger:
        assert stranger.get("/fhir/Patient/p1", headers=given).status_code == 401
    path = "/fhir/Organization/o1"
    assert narrow.post(path, headers=given).status_code == 405
    assert [narrow.get(path, headers=given).json()["id"] for _ in range(2)] == ["o1", "o1"]
    found = narrow.post("/fhir/Organization/_search", headers=given, data={"_id": "o1"})
    assert [each["resource"]["id"] for each in found.json()["entry"] if "fullUrl" in each] == ["o1"]


@pytest.mark.parametrize(
    "header", ["X-Forwarded-Host: evil.test", "Forwarded: host=evil.test", "X-Forwarded-Prefix: /e"]
)
def test_no_header_makes_links_lead_elsewhere(gateway: Gateway, header: str) -> None:
    name, _, value = header.partition(": ")
    told = gateway.http.get("/fhir/Patient?_id=p1", headers={name: value}).json()
    assert {each["url"] for each in told["link"]} == {f"{gateway.base}/Patient?_id=p1"}
    configured = gateway.http.get("/fhir/.well-known/smart-configuration", headers={name: value}).json()
    assert configured["token_endpoint"] == f"{gateway.base}/oauth/token"
