"""No request makes a 500: requests that schemathesis makes of our own OpenAPI description, and JSON in the shape of
FHIR that Hypothesis makes, to every address that takes a resource.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhirgw.access.label import EVERY
from fhirgw.fhir.elements import Element, children, is_primitive
from fhirgw.fhir.parameters import HELD
from fhirgw.store.registration import Registration
from tests.gateway import Gateway

BOUNDED = settings(
    max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
SLOW = ("/$export", "/Patient/$export", "/$export-status/{job}", "/$export-file/{job}/{name}")
"""Jobs, which have tests of their own; and what ends other tests' tokens."""


@pytest.fixture(scope="module")
def council(gateway: Gateway) -> Iterator[httpx.Client]:
    """Who may write: whatever comes gets as far as it can."""
    scopes = "system/*.cruds system/AuditEvent.rs"
    registered = Registration("fuzz", "Z99", scopes, sector="council", clearance=EVERY, rate=1_000_000)
    with gateway.client(registered) as client:
        yield client


@pytest.fixture(scope="module")
def operations(gateway: Gateway) -> list[Any]:
    """What the description describes, as schemathesis understands it."""
    schema = schemathesis.openapi.from_dict(gateway.http.get("/fhir/openapi.json").json())
    found = [each.ok() for each in schema.get_all_operations()]
    found = [each for each in found if not each.path.startswith("/homecare")]  # tests/visits/test_visits_openapi.py
    return [each for each in found if each.path not in SLOW and not each.path.startswith("/oauth")]


def sound(answer: httpx.Response, method: str) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and method.upper() != "HEAD":
        assert answer.json()["resourceType"] == "OperationOutcome"
        assert answer.headers["content-type"].startswith("application/fhir+json")


def test_every_operation_is_understood(operations: list[Any]) -> None:
    assert len(operations) > 50
    assert {"GET", "POST", "PUT", "PATCH", "DELETE"} == {each.method.upper() for each in operations}


@BOUNDED
@given(data=st.data())
def test_requests_of_the_description(council: httpx.Client, operations: list[Any], data: st.DataObject) -> None:
    operation = data.draw(st.sampled_from(operations))
    case = data.draw(operation.as_strategy())
    made = case.as_transport_kwargs(base_url=f"{council.base_url}/fhir")
    sent = {"data": made["data"]} if "data" in made else {"content": json.dumps(made["json"])} if "json" in made else {}
    kind = {name: value for name, value in made["headers"].items() if name.lower() in ("accept", "content-type")}
    sound(council.request(made["method"], made["url"], params=made["params"], headers=kind, **sent), made["method"])


# JSON in the shape of FHIR: right names with wrong values, wrong names with right ones

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    st.sampled_from(
        (
            *("2025-02-30", "2025-01-01", "2025-01-01T10:00:00Z", "9999-12-31T23:59:60Z", "0000", "urn:uuid:x", "#x"),
            *("Patient/p1", "Patient/", "http://[", "final", "active", "\u0000", "\ud7ff", "<div>x</div>", "a" * 70),
        )
    ),
)


def value_of(element: Element, depth: int) -> st.SearchStrategy[Any]:
    """Mostly what belongs there, sometimes something else."""
    if depth > 3 or is_primitive(element.type):
        one: st.SearchStrategy[Any] = SCALARS
    else:
        one = st.one_of(object_of(element.inner, depth + 1), SCALARS)
    return st.one_of(st.lists(one, max_size=2), one) if element.is_list else st.one_of(one, st.lists(one, max_size=1))


def object_of(context: str, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    known = children(context)
    names = sorted(known)
    if not names:
        return st.just({})

    @st.composite
    def made(draw: st.DrawFn) -> dict[str, Any]:
        picked = draw(st.lists(st.sampled_from(names), max_size=4, unique=True))
        found = {name: draw(st.deferred(lambda name=name: value_of(known[name], depth))) for name in picked}
        if draw(st.integers(0, 9)) == 0:
            found[draw(st.text(max_size=5))] = draw(SCALARS)
        return found

    return made()


TYPES = st.sampled_from(sorted({*HELD} - {"AuditEvent"}))
RESOURCES = TYPES.flatmap(lambda kind: object_of(kind, 0).map(lambda found: {**found, "resourceType": kind}))
PLACES = ("/{kind}", "/{kind}/$validate", "/Patient/$match", "/{kind}/p1", "/{kind}?identifier=x", "")


@BOUNDED
@given(resource=RESOURCES, place=st.sampled_from(PLACES), wrapped=st.booleans())
def test_json_in_the_shape_of_fhir(council: httpx.Client, resource: dict[str, Any], place: str, wrapped: bool) -> None:
    kind = resource["resourceType"]
    method = "PUT" if place.endswith(("/p1", "=x")) else "POST"
    sent: Any = resource
    if wrapped and "$" in place:
        sent = {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": resource}]}
    if not place:
        entry = {"resource": resource, "request": {"method": "POST", "url": kind}}
        sent = {"resourceType": "Bundle", "type": "batch" if wrapped else "transaction", "entry": [entry]}
    headers = {"content-type": "application/fhir+json", "if-match": 'W/"1"'}
    body = json.dumps(sent).encode()
    sound(council.request(method, f"/fhir{place.format(kind=kind)}", content=body, headers=headers), method)
