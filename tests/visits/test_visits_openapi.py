"""The OpenAPI description of /homecare is true: of its routes, of what may be sent, and of what is answered."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from fhirgw.api.answer import Interactions
from fhirgw.api.openapi import description
from tests.gateway import Gateway
from tests.visits.visiting import COUNCIL, KESTREL, A, visit

BOUNDED = settings(
    max_examples=50, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
ENDLESS = "/homecare/alerts/stream"


@pytest.fixture(scope="module")
def document(gateway: Gateway) -> Any:
    found = gateway.http.get("/fhir/openapi.json").json()
    assert found == json.loads(json.dumps(description(gateway.app.routes, found["info"]["version"], gateway.base)))
    return found


@pytest.fixture(scope="module")
def clients(gateway: Gateway) -> Iterator[dict[str, httpx.Client]]:
    with gateway.client(KESTREL) as kestrel, gateway.client(COUNCIL) as council:
        yield {"care provider": kestrel, "council": council}


def judge(document: Any, schema: Any) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": document["components"]})


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, each in document["paths"].items():
        if path.startswith("/homecare"):
            for method in each.keys() - {"servers"}:
                yield path, method, each[method]


def test_it_has_every_route_and_no_other(document: Any, gateway: Gateway) -> None:
    routes = {
        (each.path.replace(":path}", "}"), method.lower())
        for each in gateway.app.routes
        if isinstance(each, Interactions) and each.path.startswith("/homecare")
        for method in each.handlers
        if method != "HEAD"
    }
    told = {(path, method) for path, method, _ in operations(document)}
    assert told == routes and len(told) > 10
    assert all(document["paths"][path]["servers"] == [{"url": gateway.root}] for path, _ in told)
    names = [one["operationId"] for each in document["paths"].values() for one in each.values() if "operationId" in one]
    assert len(names) == len(set(names))


def test_what_it_shows_is_as_it_says(document: Any) -> None:
    """Examples of what is sent and of what is answered, each by its schema."""
    shown = 0
    for _, _, each in operations(document):
        for content in each.get("requestBody", {}).get("content", {}).values():
            judge(document, content["schema"]).validate(content["example"])
            shown += 1
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
        if "example" in schema:
            judge(document, schema).validate(schema["example"])
            shown += 1
    assert shown >= 8
    with pytest.raises(ValidationError):
        judge(document, {"$ref": "#/components/schemas/Visit"}).validate({"visit": "A-1", "task": {"tsk": "T1"}})


def test_what_it_shows_may_be_sent(document: Any, clients: dict[str, httpx.Client]) -> None:
    push = document["paths"]["/homecare/visits"]["post"]
    for kind, content in push["requestBody"]["content"].items():
        example = content["example"]
        body = example if isinstance(example, str) else json.dumps(example)
        query = {"layout": "homecare"} if kind == "text/csv" else {}  # Kestrel has one of its own
        headers = {"content-type": kind}
        answer = clients["care provider"].post("/homecare/visits", params=query, content=body, headers=headers)
        assert answer.status_code == 200 and answer.json()["stored"] == 1, f"{kind}: {answer.text}"


def agrees(document: Any, operation: Any, answer: httpx.Response) -> None:
    """That the answer is of a type and a shape that the description has for its status."""
    told = operation["responses"].get(str(answer.status_code), operation["responses"]["default"])
    kind = answer.headers["content-type"].partition(";")[0]
    assert answer.status_code < 500 and (answer.status_code == 200 or answer.status_code >= 400), answer.text
    assert kind in told["content"], (answer.status_code, kind, answer.text)
    if kind.endswith("json"):
        judge(document, told["content"][kind]["schema"]).validate(answer.json())


def test_each_question_is_answered_as_it_says(document: Any, clients: dict[str, httpx.Client]) -> None:
    """With something in each answer: what is right, and what was refused."""
    kestrel = clients["care provider"]
    sent = kestrel.post(
        "/homecare/visits", json=[visit("O1"), visit("O2", planned={"start": "2026-03-30T07:30"})]
    ).json()
    alone = kestrel.post("/homecare/visits", json=visit("O2", planned={"start": "2026-03-30T07:30"}))
    agrees(document, document["paths"]["/homecare/visits"]["post"], alone)
    assert alone.status_code == 422
    places = {"visit": "O1", "submission": sent["submission"], "id": "none"}
    query = {"/homecare/ledger": "?week=2026-W14", "/homecare/ledger/visits": f"?week=2026-W14&person={A}"}
    statuses = []
    for path, method, operation in operations(document):
        for client in clients.values() if (method, path) != ("get", ENDLESS) else ():
            answer = client.request(method, path.format(**places) + query.get(path, ""))
            agrees(document, operation, answer)
            statuses.append(answer.status_code)
    assert statuses.count(200) > 12 and {*statuses} <= {200, 400, 403, 404, 415}, statuses


@pytest.fixture(scope="module")
def understood(document: Any) -> list[Any]:
    """The operations as schemathesis understands them, each with what it would send."""
    paths = {path: each for path, each in document["paths"].items() if path.startswith("/homecare") and path != ENDLESS}
    whole = schemathesis.openapi.from_dict({**document, "paths": paths})
    return [(each.ok(), each.ok().as_strategy()) for each in whole.get_all_operations()]


@BOUNDED
@given(data=st.data())
def test_whatever_is_sent_is_answered_as_it_says(
    document: Any, understood: list[Any], clients: dict[str, httpx.Client], data: st.DataObject
) -> None:
    operation, cases = data.draw(st.sampled_from(understood))
    client = data.draw(st.sampled_from(sorted(clients)))
    case = data.draw(cases)
    made = case.as_transport_kwargs(base_url=str(clients[client].base_url))
    body = json.dumps(made["json"]) if "json" in made else made.get("data")
    headers = {
        name: value for name, value in made["headers"].items() if name.lower() in ("content-type", "x-request-id")
    }
    answer = clients[client].request(made["method"], made["url"], params=made["params"], headers=headers, content=body)
    agrees(document, document["paths"][operation.path][operation.method.lower()], answer)
