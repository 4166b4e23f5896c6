"""Who has no token gets nothing: from the route table, so that a new route cannot forget."""

import re

import pytest

import fhirgw.api.open
from fhirgw.app import create_app
from fhirgw.settings import Settings
from tests.gateway import Gateway

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
