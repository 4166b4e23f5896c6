"""Bulk import over HTTP: journeys of a whole import, who may import, from where, and what goes wrong on the way."""

from __future__ import annotations

import gzip
import io
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fhirgw.settings import Settings
from tests.api.writing import CLEARED, COUNCIL, FINAL, OWN_APP, PEOPLE, PORTAL, PROVIDER, observation
from tests.conftest import NewDatabase
from tests.gateway import Gateway, serving
from tests.put import put

ASYNC = {"prefer": "respond-async", "content-type": "application/fhir+json"}
Resource = dict[str, Any]
ANN: Resource = {"resourceType": "Patient", "id": "ann", "name": [{"family": "Quillfeather"}]}
SEALED = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "V"}]}


class Elsewhere(BaseHTTPRequestHandler):
    """A server that files are fetched from; `files` by path."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        self.send_response(302 if path == "/moved" else 200 if path in self.files or path == "/drip" else 404)
        if path == "/moved":
            self.send_header("location", "/there.ndjson")
        self.end_headers()
        if path in self.files:
            self.wfile.write(self.files[path])
        if path == "/drip":
            with suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b"x")
                    time.sleep(0.05)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("imported")


@pytest.fixture(scope="module")
async def database(new_database: NewDatabase) -> Any:
    async with new_database() as url:
        await put(url, *PEOPLE)
        yield url


@pytest.fixture(scope="module")
def gateway(database: str, folder: Path, elsewhere: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    data = tmp_path_factory.mktemp("data")
    where = {"import_folder": folder, "import_origins": elsewhere, "import_gigabytes": 1e-4}
    with serving(Settings(database_url=database, data=data, controller="Z99", longest_body=50_000, **where)) as made:
        yield made


def asked_for(*inputs: tuple[str, str], **more: str) -> Resource:
    """The Parameters of an import."""
    listed: list[Resource] = [{"name": name, "valueUri": value} for name, value in more.items()]
    for kind, url in inputs:
        parts = [{"name": "type", "valueCode": kind}, {"name": "url", "valueUri": url}]
        listed.append({"name": "input", "part": parts})
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": "inputFormat", "valueCode": "application/fhir+ndjson"}, *listed],
    }


def kick_off(client: httpx.Client, *inputs: tuple[str, str], **more: str) -> httpx.Response:
    return client.post("/fhir/$import", headers=ASYNC, json=asked_for(*inputs, **more))


def ended(client: httpx.Client, asked: httpx.Response) -> Resource:
    """What came of an import."""
    assert asked.status_code == 202, asked.text
    for _ in range(2400):
        answer = client.get(asked.headers["content-location"])
        if answer.status_code not in (202, 429):  # a machine that is busy is asked often
            assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
            return dict(answer.json())
        time.sleep(0.05)
    pytest.fail("the import did not end")


def counts(manifest: Resource) -> list[tuple[str, int, int, int, int]]:
    names = ("created", "updated", "unchanged", "refused")
    return [(each["type"], *(each[name] for name in names)) for each in manifest["output"]]  # type: ignore[misc]


def told(client: httpx.Client, manifest: Resource) -> list[str]:
    """The words of all that was wrong."""
    found = []
    for each in manifest["error"]:
        lines = client.get(each["url"]).text.splitlines()
        assert (each["type"], each["count"]) == ("OperationOutcome", len(lines))
        found += [issue["diagnostics"] for line in lines for issue in json.loads(line)["issue"]]
    return found


def issue(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    (found,) = answer.json()["issue"]
    return f"{found['code']}: {found['diagnostics']}"


def lines(*resources: Resource) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in resources)


def test_a_whole_import(council: httpx.Client, gateway: Gateway, elsewhere: str, folder: Path) -> None:
    weight = observation("ann", id="w1", valueQuantity={"value": 71.5, "unit": "kg"})
    weight["subject"] = {"reference": "https://theirs.example/fhir/Patient/ann"}
    (folder / "o.ndjson").write_bytes(
        lines(weight, observation("nobody", id="w2"), {**weight, "id": "w3", "status": "x"})
    )
    Elsewhere.files["/p.gz"] = gzip.compress(lines(ANN))
    inputs = ("Observation", f"file://{folder}/o.ndjson"), ("Patient", f"{elsewhere}/p.gz?signed=secret")
    asked = kick_off(council, *inputs, inputSource="https://theirs.example/fhir")
    assert (asked.status_code, asked.content) == (202, b"")
    first = council.get(asked.headers["content-location"])
    assert first.status_code == 202
    assert "of 2 inputs" in first.headers["x-progress"]
    assert int(first.headers["retry-after"]) >= 1
    manifest = ended(council, asked)
    assert (manifest["request"], manifest["requiresAccessToken"]) == (f"{gateway.base}/$import", True)
    assert counts(manifest) == [("Observation", 2, 0, 0, 1), ("Patient", 1, 0, 0, 0)]
    assert [each["inputUrl"] for each in manifest["output"]] == [url for _, url in inputs]
    wrong, nowhere = told(council, manifest)
    assert wrong.startswith("o.ndjson, line 3: ")
    assert nowhere == (
        "o.ndjson, line 2: It refers to a Patient that is not here (id nobody):"
        " it was taken as it is; send that too, or correct the reference"
    )
    found = council.get("/fhir/Observation?subject=Patient/ann").json()["entry"]
    assert [each["resource"]["id"] for each in found if each["search"]["mode"] == "match"] == ["w1"]
    assert counts(ended(council, kick_off(council, *inputs, inputSource="https://theirs.example/fhir"))) == [
        ("Observation", 0, 0, 2, 1),
        ("Patient", 0, 0, 1, 0),
    ]


def test_parquet_is_imported_by_its_name(council: httpx.Client, elsewhere: str) -> None:
    rows = [json.dumps({"resourceType": "Patient", "id": f"q{n}"}) for n in range(3)]
    made = io.BytesIO()
    pq.write_table(pa.table({"id": ["a", "b", "c", "d"], "resource": [*rows, '{"resourceType":"Patient"}']}), made)
    Elsewhere.files["/p.parquet"] = Elsewhere.files["/p.ndjson"] = made.getvalue()
    parquet = {"name": "inputFormat", "valueCode": "application/vnd.apache.parquet"}

    def kicked(name: str, *formats: Resource) -> httpx.Response:
        body = asked_for(("Patient", f"{elsewhere}/{name}?signed=secret"))
        body["parameter"] = [*(formats or body["parameter"][:1]), *body["parameter"][1:]]
        return council.post("/fhir/$import", headers=ASYNC, json=body)

    done = ended(council, kicked("p.parquet", parquet))
    assert counts(done) == [("Patient", 3, 0, 0, 1)]
    assert [each.partition(": ")[0] for each in told(council, done)] == ["p.parquet, row 4"]
    for answer in (kicked("p.ndjson", parquet), kicked("p.parquet")):
        assert issue(answer, 400) == (
            "invalid: input.url: the path of a Parquet file ends in .parquet, and that of no NDJSON does"
        )
    spoilt = ended(council, kicked("p.ndjson"))
    assert told(council, spoilt)[0].startswith("p.ndjson, line 1: It is no NDJSON but Parquet: name it .parquet")


def test_what_was_asked_for_is_the_asker_s_alone(council: httpx.Client, gateway: Gateway, folder: Path) -> None:
    (folder / "bad.ndjson").write_bytes(b"{}\n")
    asked = kick_off(council, ("Patient", f"file://{folder}/bad.ndjson"))
    manifest = ended(council, asked)
    addresses = asked.headers["content-location"], manifest["error"][0]["url"]
    with gateway.client(CLEARED) as other:
        for each in addresses:
            assert issue(other.get(each), 404) == "not-found: There is no such import"
    assert issue(council.get(addresses[1] + "x"), 404) == "not-found: There is no such import"
    assert [council.get(each).status_code for each in addresses] == [200, 200]
    assert council.delete(addresses[0]).status_code == 202
    for each in addresses:
        assert issue(council.get(each), 404) == "not-found: There is no such import"


def test_only_the_council_s_own_systems_import(gateway: Gateway, folder: Path, council: httpx.Client) -> None:
    (folder / "fine.ndjson").write_bytes(lines({**ANN, "id": "fine"}))
    fine = ("Patient", f"file://{folder}/fine.ndjson")
    for registered, purpose in ((PROVIDER, None), (PORTAL, None), (OWN_APP, "person")):
        with gateway.client(registered, purpose) as client:
            assert issue(kick_off(client, fine), 403).startswith(
                "forbidden: Only the controlling council's own systems"
            )
            assert client.post("/fhir/$import", content=b"{").status_code == 403  # before it is read
    assert gateway.http.get("/fhir/Patient/fine").status_code == 404
    assert council.post("/fhir/$import", content=b"{").status_code == 400
    assert counts(ended(council, kick_off(council, fine))) == [("Patient", 1, 0, 0, 0)]
    assert gateway.http.get("/fhir/Patient/fine").status_code == 200


def test_a_scope_without_the_type_imports_none_of_it(gateway: Gateway, folder: Path) -> None:
    with gateway.client(COUNCIL, scope="system/Observation.cruds system/Patient.rs") as client:
        refused = kick_off(client, ("Patient", f"file://{folder}/fine.ndjson"))
        assert issue(refused, 403).startswith("forbidden: No scope of this token allows create on Patient: ")
    with gateway.client(COUNCIL, scope="system/Observation.cruds?status=final system/Patient.rs") as client:
        (folder / "final.ndjson").write_bytes(
            lines(observation(id="final"), {**observation(id="preliminary"), "status": "preliminary"})
        )
        manifest = ended(client, kick_off(client, ("Observation", f"file://{folder}/final.ndjson")))
        assert counts(manifest) == [("Observation", 1, 0, 0, 1)]
        assert told(client, manifest)[0].partition(": ")[2].startswith("No scope of the import's token covers this")
    assert FINAL.scopes.startswith("system/Observation.cruds?status=final")


RESTRICTED = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]}
HOME = {"address": [{"postalCode": "ZZ99 3WZ"}]}


@pytest.mark.parametrize(("id", "label"), [("sealed", SEALED), ("restricted-too", RESTRICTED)])
def test_nothing_is_hidden_from_who_imports_it_nor_opened(
    gateway: Gateway, council: httpx.Client, folder: Path, id: str, label: Resource
) -> None:
    url, patient = f"file://{folder}/{id}.ndjson", {**ANN, **HOME, "id": id}
    (folder / f"{id}.ndjson").write_bytes(lines({**patient, "meta": label}))
    manifest = ended(council, kick_off(council, ("Patient", url)))
    assert (counts(manifest), "would hide it" in told(council, manifest)[0]) == ([("Patient", 0, 0, 0, 1)], True)

    def shown() -> bool:
        return "ZZ99" in gateway.http.get(f"/fhir/Patient/{id}").text

    with gateway.client(CLEARED) as cleared:
        assert counts(ended(cleared, kick_off(cleared, ("Patient", url)))) == [("Patient", 1, 0, 0, 0)]
        assert "ZZ99" in cleared.get(f"/fhir/Patient/{id}").text
        assert not shown()
        (folder / f"{id}.ndjson").write_bytes(lines(patient))
        for there in (True, False):
            again = ended(cleared, kick_off(cleared, ("Patient", url)))
            assert (counts(again), "security label" in told(cleared, again)[0]) == ([("Patient", 0, 0, 0, 1)], True)
            assert not shown()
            if there:  # nor by deleting it first
                assert cleared.delete(f"/fhir/Patient/{id}").status_code in (200, 204)
        (folder / f"{id}.ndjson").write_bytes(lines({**patient, "meta": label, "active": True}))
        assert counts(ended(cleared, kick_off(cleared, ("Patient", url)))) == [("Patient", 1, 0, 0, 0)]
        assert "ZZ99" in cleared.get(f"/fhir/Patient/{id}").text


def test_an_id_that_others_have_is_taken_whether_they_can_be_seen_or_not(
    gateway: Gateway, council: httpx.Client, folder: Path
) -> None:
    """Byte for byte the same of what another system brought, and of what the caller may not see."""
    (folder / "taken.ndjson").write_bytes(
        lines({**ANN, "id": "stranger"}, {**ANN, "id": "sealed"}, {**ANN, "id": "nobody-has-it"})
    )
    manifest = ended(council, kick_off(council, ("Patient", f"file://{folder}/taken.ndjson")))
    assert counts(manifest) == [("Patient", 1, 0, 0, 2)]
    one, other = (each.partition(": ")[2] for each in told(council, manifest))
    assert one == other
    assert "The id is taken" in one


def test_an_ods_code_is_one_organisation_s(gateway: Gateway, council: httpx.Client, folder: Path) -> None:
    """Callers are known by it: who had another's would be taken for them. As of a write, so of an import."""

    def organisation(id: str, *codes: str) -> Resource:
        listed = [{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": each} for each in codes]
        return {"resourceType": "Organization", "id": id, "name": id, "identifier": listed}

    def taken(*given: Resource) -> list[int]:
        (folder / "organisations.ndjson").write_bytes(lines(*given))
        manifest = ended(council, kick_off(council, ("Organization", f"file://{folder}/organisations.ndjson")))
        words = told(council, manifest)
        assert all("Another Organization has this ODS code" in each for each in words)
        return [int(each.partition("line ")[2].partition(":")[0]) for each in words]

    first = [organisation("its", "X01"), organisation("again", "X01"), organisation("provider-too", "P01")]
    assert taken(*first, organisation("other", "X02"), organisation("yet-another", "X09")) == [2, 3]
    assert taken(organisation("its", "X01", "X03"), organisation("other", "X02", "X01")) == [2]
    assert taken(organisation("again", "X04")) == []


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("file:///etc/passwd", "forbidden: input.url: nothing is imported from there."),
        ("file://{folder}/../x.ndjson", "forbidden: input.url: nothing is imported from there."),
        ("file://{folder}/%2e%2e/x.ndjson", "forbidden: input.url: nothing is imported from there."),
        ("file://elsewhere{folder}/x.ndjson", "forbidden: input.url: nothing is imported from there."),
        ("file://{folder}/link.ndjson", "forbidden: input.url: nothing is imported from there."),
        ("https://files.example/x.ndjson", "forbidden: input.url: nothing is imported from there."),
        ("http://127.0.0.1:1/x.ndjson", "forbidden: input.url: nothing is imported from there."),
        ("{elsewhere}.files.example/x", "value: input.url: not an address"),
        ("http://169.254.169.254/latest", "value: input.url: not an address"),
        ("http://user@127.0.0.1/x", "value: input.url: not an address"),
        ("{elsewhere}/x#y", "value: input.url: not an address"),
        ("ftp://x/y", "value: input.url: not an address"),
        ("relative", "value: input.url: not an address"),
    ],
)
def test_nothing_is_imported_from_anywhere_else(
    council: httpx.Client, folder: Path, elsewhere: str, url: str, told: str
) -> None:
    link = folder / "link.ndjson"
    if not link.is_symlink():
        link.symlink_to("/etc/passwd")
    before = list(Elsewhere.asked)
    answer = kick_off(council, ("Patient", url.format(folder=folder, elsewhere=elsewhere)))
    assert issue(answer, 403 if told.startswith("forbidden") else 400).startswith(told)
    assert Elsewhere.asked == before


def test_what_cannot_be_fetched_or_read_is_told_and_the_rest_is_taken(
    council: httpx.Client, folder: Path, elsewhere: str
) -> None:
    Elsewhere.files |= {"/there.ndjson": lines(ANN), "/large": b"x" * 200_000, "/cut": gzip.compress(lines(ANN))[:20]}
    Elsewhere.files["/long"] = lines({**ANN, "name": [{"family": "x" * 60_000}]}, ANN)
    names = ["missing", "moved", "large", "cut", "long", "there.ndjson"]
    inputs = [("Patient", f"{elsewhere}/{name}") for name in names]
    manifest = ended(council, kick_off(council, *inputs, ("Flag", f"file://{folder}/none.ndjson")))
    assert [each[1:] for each in counts(manifest)[:4]] == [(0, 0, 0, 0)] * 4
    assert [sum(each[1:4]) for each in counts(manifest)[4:]] == [1, 1, 0]
    assert [each.partition(": ")[2] for each in told(council, manifest)] == [
        "Its address answers 404, and redirects are not followed",
        "Its address answers 302, and redirects are not followed",
        "It is longer than 100,000 bytes (FHIRGW_IMPORT_GIGABYTES): divide it",
        "After line 0 it is not what gzip packs, or ends before that does: send it whole,"
        " what was taken is not taken twice",
        "A line has at most 50,000 bytes (FHIRGW_LONGEST_BODY): write a smaller resource",
        "It cannot be read (No such file or directory)",
    ]


def test_nobody_is_waited_for_for_ever(
    council: httpx.Client, folder: Path, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that sends a byte now and then, and a pipe that nobody writes to."""
    monkeypatch.setattr("fhirgw.jobs.sources.LASTS", 0.3)
    os.mkfifo(folder / "pipe.ndjson")
    inputs = [("Patient", f"{elsewhere}/drip"), ("Patient", f"file://{folder}/pipe.ndjson")]
    manifest = ended(council, kick_off(council, *inputs))
    assert [each.partition(": ")[2] for each in told(council, manifest)] == [
        "Its address cannot be reached (TimeoutError): offer it again",
        "It is no file: offer what is in it as one",
    ]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"resourceType": "Patient"}, "structure: An import is asked for by a Parameters resource"),
        ({"resourceType": "Parameters"}, "not-supported: inputFormat: NDJSON and Parquet are taken"),
        ({"resourceType": "Parameters", "parameter": 7}, "structure: parameter is a list"),
        (asked_for(), "invalid: input: 1 to 1000 of these"),
        (
            asked_for(("Patint", "file:///x")),
            "not-supported: input.type: no type this gateway holds: did you mean Patient",
        ),
        (
            asked_for(("Patient", "file:///x"), inputs="x"),
            "not-supported: The parameter 'inputs' is not supported: did",
        ),
        (asked_for(("Patient", "file:///x"), inputSource="x"), "invalid: inputSource: the FHIR base"),
        (
            asked_for(("Patient", "file:///x"), inputFormat="y"),
            "not-supported: inputFormat: NDJSON and Parquet are taken",
        ),
        (
            {"resourceType": "Parameters", "parameter": [{"name": "inputFormat", "valueCode": "application/fhir+xml"}]},
            "not-supported: inputFormat: NDJSON and Parquet are taken",
        ),
        ({"resourceType": "Parameters", "parameter": [7]}, "structure: Each parameter has a name"),
        (
            {
                "resourceType": "Parameters",
                "parameter": [
                    {"name": "inputFormat", "valueCode": "ndjson"},
                    {"name": "input", "part": [{"name": "type", "valueCode": "Patient"}]},
                ],
            },
            "invalid: input: each has a part type and a part url",
        ),
    ],
)
def test_what_is_not_understood_is_refused(council: httpx.Client, body: Resource, told: str) -> None:
    answer = council.post("/fhir/$import", headers=ASYNC, json=body)
    assert issue(answer, 400).startswith(told)


def test_the_headers_are_needed(council: httpx.Client) -> None:
    body = asked_for(("Patient", "file:///x"))
    plain = council.post("/fhir/$import", headers={"content-type": "application/fhir+json"}, json=body)
    assert issue(plain, 400).startswith("invalid: Prefer: respond-async is needed")
    other = council.post("/fhir/$import", headers={**ASYNC, "content-type": "text/plain"}, json=body)
    assert issue(other, 415).startswith("not-supported: Send the body as application/fhir+json")
    assert council.get("/fhir/$import").status_code == 405


def test_an_import_is_in_the_audit(council: httpx.Client, gateway: Gateway, folder: Path) -> None:
    auditor = COUNCIL.__class__("auditor", "Z99", "system/AuditEvent.rs", rate=1_000_000)
    ended(council, kick_off(council, ("Patient", f"file://{folder}/fine.ndjson")))
    with gateway.client(auditor) as client:
        found = client.get("/fhir/AuditEvent?subtype=import&_count=50")
    assert found.status_code == 200, found.text
    assert found.json()["entry"]
    assert "secret" not in found.text
