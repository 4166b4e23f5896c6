"""No request makes a 500, and nothing about a person reaches a log."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from fhirgw.access.permit import Permit
from tests.api.conftest import CANARY
from tests.gateway import Gateway

WORDS = st.sampled_from(
    (
        *(
            "Patient",
            "Observation",
            "Patent",
            "p1",
            "nobody",
            "_history",
            "_search",
            "$everything",
            "$export",
            "metadata",
        ),
        *("1", "0", "..", ".", "~", "%2F", "%00", "%ff", "%E2%82", "$", "", "Patient|x"),
    )
)
NAMES = st.sampled_from(
    (
        *("name", "family:exact", "identifier", "birthdate", "_lastUpdated", "_id", "_sort", "_count", "_cursor"),
        *(
            "_include",
            "_revinclude",
            "_total",
            "_summary",
            "_format",
            "_elements",
            "_has:x:y:z",
            "subject:Patient.name",
        ),
        *("organization.name", "general-practitioner:Practitioner.name", "_type", "_since", "gender:not", ":", "."),
    )
)
VALUES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        (
            *(
                "ge2025",
                "2025-02-30",
                "0000",
                "9999-12-31T23:59:60Z",
                "ap0001-01-01",
                "eq9999",
                "|",
                "a|",
                "|b",
                "a|b|c",
            ),
            *("-_id,_lastUpdated", "birthdate,-birthdate,birthdate", "999999999999", "-1", "0", "\\", "\\,", ",,,"),
            *("Patient:organization", "Observation:subject", "Observation:*", "*", "json", "accurate", "count"),
            *("W10", "AAAAAAAAAAAAWzEsWyIiXV0", "\ud7ff\U0010ffff", "'; DROP TABLE x; --", "%", "_", "\u0000"),
        )
    ),
)


@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(("GET", "GET", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY")),
    path=st.lists(WORDS, max_size=5).map(lambda words: "/fhir/" + "/".join(words)),
    pairs=st.lists(st.tuples(NAMES, VALUES), max_size=4),
    headers=st.dictionaries(
        st.sampled_from(("Accept", "Prefer", "If-None-Match", "If-Modified-Since", "Content-Type", "Range")),
        st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=15),
        max_size=3,
    ),
    body=st.binary(max_size=60),
)
@example("GET", "/fhir/Patient", [("_cursor", "\u00e9")], {}, b"")
@example("GET", "/fhir/Patient", [("_lastUpdated", "ap0001-01-01"), ("_lastUpdated", "ap9999-12-31")], {}, b"")
@example("POST", "/fhir/Patient/_search", [], {"Content-Type": "application/x-www-form-urlencoded"}, b"\xff=\xfe&%")
def test_no_request_makes_a_500(
    gateway: Gateway, method: str, path: str, pairs: Any, headers: dict[str, str], body: bytes
) -> None:
    answer = gateway.http.request(method, path, params=pairs, headers=headers, content=body)
    assert answer.status_code < 500
    if answer.status_code >= 400 and method != "HEAD":
        assert answer.json()["resourceType"] == "OperationOutcome"
        assert answer.headers["content-type"].startswith("application/fhir+json")


@pytest.fixture
def failing(gateway: Gateway) -> Iterator[Gateway]:
    """The same gateway, in which something nobody foresaw goes wrong, with a person's data in its message."""

    async def fail(request: Request) -> Permit:
        raise ValueError(f"{CANARY} {request.url}")

    known = gateway.app.state.context
    gateway.app.state.context = replace(known, gate=fail, assumed=fail)
    yield gateway
    gateway.app.state.context = known


def test_what_nobody_foresaw_is_logged_without_anybody(failing: Gateway, capfd: pytest.CaptureFixture[str]) -> None:
    answer = failing.http.get(f"/fhir/Patient?identifier={CANARY['number']}&family={CANARY['family']}")
    assert answer.status_code == 500
    (issue,) = answer.json()["issue"]
    assert issue["code"] == "exception"
    logged = capfd.readouterr()
    (line,) = [json.loads(each) for each in logged.out.splitlines() if each.startswith("{")]
    assert line["route"] == "/fhir/{type}"
    assert line["error"] == "ValueError"
    assert line["reference"] in issue["diagnostics"]
    for canary in CANARY.values():
        assert canary not in logged.out + logged.err + answer.text


def test_a_search_leaves_no_trace_of_whom_it_was_for(gateway: Gateway, capfd: pytest.CaptureFixture[str]) -> None:
    found = gateway.http.get(f"/fhir/Patient?identifier={CANARY['number']}")
    assert CANARY["family"] in found.text  # the control: it was about the person
    gateway.http.get(f"/fhir/Patient?birthdate={CANARY['number']}&{CANARY['family']}={CANARY['postcode']}")
    logged = capfd.readouterr()
    for canary in CANARY.values():
        assert canary not in logged.out + logged.err
