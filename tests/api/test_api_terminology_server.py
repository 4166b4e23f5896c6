"""A terminology server asked for what is not carried: a real one, on this machine, that writes down what it gets."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import SecretStr

from fhirgw.api import terminology_server
from fhirgw.api.terminology_server import TerminologyServer, Unanswered, connected, sendable
from fhirgw.settings import Settings
from tests.gateway import Gateway, serving

SNOMED = "http://snomed.info/sct"
DIABETES = "73211009"
CONDITIONS = "https://fhir.hl7.org.uk/ValueSet/UKCore-ConditionCode"
NHS_NUMBER = "9434765919"
YES = {
    "resourceType": "Parameters",
    "parameter": [
        {"name": "result", "valueBoolean": True},
        {"name": "display", "valueString": "Diabetes mellitus"},
        {"name": "somethingElse", "valueString": "not passed on"},
    ],
}


@dataclass
class Elsewhere:
    """`answer` is (status, body) of every request; None: it hangs up. `asked` are the requests it got."""

    root: str
    answer: tuple[int, Any] | None = (200, YES)
    held: threading.Event | None = None
    asked: list[tuple[str, dict[str, list[str]], str | None]] = field(default_factory=list)

    def names(self) -> list[str]:
        return [path for path, _, _ in self.asked]


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    found = Elsewhere("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            found.asked.append((parts.path, parse_qs(parts.query), self.headers.get("authorization")))
            if found.held:
                found.held.wait(120)
            if found.answer is None:
                self.connection.close()
                return
            status, body = found.answer
            text = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("location", "/elsewhere")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *args: Any) -> None:
            pass  # whoever is asked may hang up

    with Quiet(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found.root = f"http://127.0.0.1:{server.server_address[1]}/fhir"
        yield found
        server.shutdown()
        thread.join()


@pytest.fixture
def asking(module_database: str, tmp_path: Path, elsewhere: Elsewhere) -> Iterator[Gateway]:
    known = Settings(
        database_url=module_database,
        data=tmp_path,
        controller="Z99",
        terminology_url=elsewhere.root + "/",
        terminology_token=SecretStr("shibboleth"),
    )
    with serving(known) as gateway:
        yield gateway


def validated(gateway: Gateway, code: str = DIABETES, **more: str) -> dict[str, Any]:
    given = {"url": CONDITIONS, "system": SNOMED, "code": code, **more}
    answer = gateway.http.get("/fhir/ValueSet/$validate-code", params=given)
    assert answer.status_code == 200, answer.text
    return {each["name"]: each.get("valueBoolean", each.get("valueString")) for each in answer.json()["parameter"]}


def test_what_is_not_known_here_is_asked_once(asking: Gateway, elsewhere: Elsewhere) -> None:
    assert validated(asking) == {"result": True, "display": "Diabetes mellitus"}
    expected = {"url": [CONDITIONS], "system": [SNOMED], "code": [DIABETES]}
    assert elsewhere.asked == [("/fhir/ValueSet/$validate-code", expected, "Bearer shibboleth")]
    assert validated(asking, display="Whatever Mrs Canarybird said")["result"] is True
    assert len(elsewhere.asked) == 1
    found = asking.http.get("/fhir/CodeSystem/$validate-code", params={"url": SNOMED, "code": DIABETES}).json()
    assert found["parameter"][0]["valueBoolean"] is True
    assert elsewhere.names()[1:] == ["/fhir/CodeSystem/$validate-code"]


def test_what_is_known_here_is_not_asked(asking: Gateway, elsewhere: Elsewhere) -> None:
    assert validated(asking, "73211008")["result"] is False
    given = {"url": "http://hl7.org/fhir/ValueSet/administrative-gender"}
    assert asking.http.get("/fhir/ValueSet/$expand", params=given).status_code == 200
    assert elsewhere.asked == []


def test_its_other_answers(asking: Gateway, elsewhere: Elsewhere) -> None:
    meaning = {"resourceType": "Parameters", "parameter": [{"name": "display", "valueString": "Diabetes mellitus"}]}
    elsewhere.answer = (200, meaning)
    found = asking.http.get("/fhir/CodeSystem/$lookup", params={"system": SNOMED, "code": DIABETES})
    assert (found.status_code, found.json()) == (200, meaning)
    listed = {"resourceType": "ValueSet", "status": "active", "expansion": {"contains": [{"code": DIABETES}]}}
    elsewhere.answer = (200, listed)
    asked = {"url": CONDITIONS, "filter": "diabetes", "count": "10", "activeOnly": "true"}
    assert asking.http.get("/fhir/ValueSet/$expand", params=asked).json() == listed
    assert elsewhere.asked[-1][1] == {name: [value] for name, value in asked.items()}
    elsewhere.answer = (404, {"resourceType": "OperationOutcome"})
    assert (
        asking.http.get("/fhir/CodeSystem/$lookup", params={"system": SNOMED, "code": "138875005"}).status_code == 404
    )
    assert asking.http.get("/fhir/ValueSet/$expand", params={"url": "https://nowhere.uk/x"}).status_code == 404


def test_silence_is_not_a_failure(asking: Gateway, elsewhere: Elsewhere) -> None:
    elsewhere.answer = None
    unknown = validated(asking)
    assert unknown["result"] is False
    assert unknown["message"] == "Unknown, because the terminology server did not answer"
    once = len(elsewhere.asked)
    assert validated(asking, "138875005")["result"] is False
    assert len(elsewhere.asked) == once  # it is left alone for a while
    found = asking.http.get("/fhir/CodeSystem/$lookup", params={"system": SNOMED, "code": DIABETES})
    assert (found.status_code, found.json()["issue"][0]["code"]) == (503, "transient")
    given = {"url": "https://nowhere.uk/x", "system": SNOMED, "code": DIABETES}
    assert asking.http.get("/fhir/ValueSet/$validate-code", params=given).status_code == 200
    assert asking.http.get("/health/live").status_code == 200


@pytest.mark.parametrize(
    "parameters",
    [
        {"system": "https://fhir.nhs.uk/Id/nhs-number", "code": NHS_NUMBER},
        {"system": "https://nowhere.uk/x", "code": NHS_NUMBER},
        {"system": "https://nowhere.uk/x", "code": "Ada Canarybird"},
        {"system": "https://nowhere.uk/x", "code": "Ada"},
    ],
)
def test_what_may_be_about_somebody_stays_here(
    asking: Gateway, elsewhere: Elsewhere, parameters: dict[str, str]
) -> None:
    asking.http.get("/fhir/CodeSystem/$lookup", params=parameters)
    sent = [value for _, pairs, _ in elsewhere.asked for values in pairs.values() for value in values]
    assert NHS_NUMBER not in sent
    assert not any(" " in each for each in sent)
    assert bool(sent) is (parameters["code"] == "Ada")


def test_what_is_sent() -> None:
    assert sendable((("url", CONDITIONS), ("filter", "crohn's disease")))
    assert sendable((("system", SNOMED), ("code", DIABETES)))
    assert not sendable((("url", CONDITIONS), ("filter", "born 12 March")))
    assert not sendable((("url", CONDITIONS), ("display", "anything")))
    assert not sendable((("url", "https://example.org/\ud800"),))
    assert not sendable((("url", "https://fhir.nhs.uk/Id/nhs-number"), ("code", "x")))


async def test_its_bad_answers_are_none(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminology_server, "PAUSE", 0)
    for answer in (
        (500, {}),
        (302, b""),
        (401, {}),
        (200, b"<html>"),
        (200, b"[]"),
        (200, {"resourceType": "Patient"}),
        (200, b'"' + b"x" * terminology_server.LARGEST + b'"'),
    ):
        elsewhere.answer = answer
        async with connected(elsewhere.root, None) as server:
            with pytest.raises(Unanswered):
                await server.ask("CodeSystem/$lookup", [("code", "x")])
    assert set(elsewhere.names()) == {"/fhir/CodeSystem/$lookup"}


async def test_it_is_waited_for_no_longer_than_said(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers once it has been given up: whoever waited longer would be told."""
    monkeypatch.setattr(terminology_server, "SECONDS", 0.2)
    elsewhere.held = threading.Event()
    async with connected(elsewhere.root, None) as server:
        try:
            with pytest.raises(Unanswered):
                await server.ask("CodeSystem/$lookup", [("code", "x")])
            assert elsewhere.names() == ["/fhir/CodeSystem/$lookup"]
        finally:
            elsewhere.held.set()


async def test_answers_age_and_are_bounded(elsewhere: Elsewhere, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminology_server, "MOST", 3)

    async def asked(server: TerminologyServer, code: str) -> int:
        before = len(elsewhere.asked)
        await server.ask("CodeSystem/$lookup", [("code", code)])
        return len(elsewhere.asked) - before

    async with connected(elsewhere.root, None) as server:
        assert [await asked(server, each) for each in "abcabc"] == [1, 1, 1, 0, 0, 0]
        assert [await asked(server, each) for each in "dcba"] == [1, 0, 0, 1]
        monkeypatch.setattr(terminology_server, "KEPT", -1)
        assert await asked(server, "a") == 1


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="no FHIR base"):
        Settings(terminology_url="ftp://x")  # type: ignore[call-arg]
    assert Settings(terminology_url="").terminology_url is None  # type: ignore[call-arg]
