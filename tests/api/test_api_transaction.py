"""Batches and transactions, as https://hl7.org/fhir/R4/http.html#transaction has them."""

import base64
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from fhirgw.fhir.canonical import encode
from fhirgw.store.writing import MOST_TOLD
from tests.api.writing import PEOPLE, PROVIDER, observation
from tests.conftest import NewDatabase
from tests.gateway import Gateway
from tests.put import connected, made, put

MOST = 60
ABSENT = "0f0f0f0f-0000-4000-8000-000000000000"
JSON = "application/fhir+json"


def organisation(code: str, **elements: Any) -> dict[str, Any]:
    """An Organization that has an ODS code."""
    identified = [{"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": code}]
    return {"resourceType": "Organization", "name": "A provider of care", "identifier": identified, **elements}


TWICE = [{**organisation("C1C01"), "id": id} for id in ("meadow-c1", "harbour-c1")]
"""What two systems of record brought."""


@pytest.fixture(scope="module")
async def module_database(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        await put(url, *PEOPLE, *TWICE)
        yield url


@pytest.fixture(scope="module")
def configured() -> dict[str, Any]:
    return {"entries": MOST}


def entry(method: str, url: str, resource: Any = None, full: str | None = None, **request: str) -> dict[str, Any]:
    made = {"fullUrl": full, "resource": resource, "request": {"method": method, "url": url, **request}}
    return {name: value for name, value in made.items() if value is not None}


def sent(client: httpx.Client, *entries: Any, kind: str = "transaction", **headers: str) -> httpx.Response:
    body = encode({"resourceType": "Bundle", "type": kind, "entry": list(entries)})
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post("/fhir", content=body, headers={"content-type": "application/fhir+json", **names})


def done(answer: httpx.Response) -> list[dict[str, Any]]:
    """The entries of a transaction that was done."""
    assert answer.status_code == 200, answer.text
    bundle = answer.json()
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "transaction-response")
    entries: list[dict[str, Any]] = bundle["entry"]
    return entries


def statuses(entries: list[dict[str, Any]]) -> list[str]:
    return [each["response"]["status"][:3] for each in entries]


def address(answered: dict[str, Any]) -> str:
    """`Type/id` of what an entry made."""
    return "/".join(answered["response"]["location"].split("/")[-4:-2])


def created(client: httpx.Client, **elements: Any) -> str:
    (answered,) = done(sent(client, entry("POST", "Observation", observation(**elements))))
    return address(answered)


def refused(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    issue: dict[str, Any] = answer.json()["issue"][0]
    return issue


async def versions(url: str) -> int:
    connection = await connected(url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM fhirgw.change"))
    finally:
        await connection.close()


def urn() -> str:
    return f"urn:uuid:{uuid.uuid4()}"


def test_names_are_resolved_wherever_they_stand(council: httpx.Client, gateway: Gateway) -> None:
    """A person, their episode and observations that name one another, in a circle too, by urn and by address."""
    person, weight, other = urn(), urn(), "https://elsewhere.example/fhir/Observation/7"
    narrative = f'<div xmlns="http://www.w3.org/1999/xhtml"><a href="{weight}">weight</a></div>'
    answered = done(
        sent(
            council,
            entry(
                "POST",
                "Observation",
                observation(subject={"reference": person}, derivedFrom=[{"reference": other}]),
                weight,
            ),
            entry(
                "POST",
                "Observation",
                observation(
                    subject={"reference": person},
                    hasMember=[{"reference": weight}],
                    text={"status": "generated", "div": narrative},
                ),
                other,
            ),
            entry("POST", "Patient", made("Patient", "ignored", birthDate="1970"), person),
            entry(
                "POST",
                "Observation",
                observation(subject={"reference": person}, derivedFrom=[{"reference": "Observation/7"}]),
                "https://elsewhere.example/fhir/Observation/9",
            ),
        )
    )
    assert statuses(answered) == ["201"] * 4
    first, second, patient, third = map(address, answered)
    stored = [council.get(f"/fhir/{each}").json() for each in (first, second, third)]
    assert {each["subject"]["reference"] for each in stored} == {patient}
    assert stored[0]["derivedFrom"][0]["reference"] == second
    assert stored[1]["hasMember"][0]["reference"] == first
    assert f'href="{first}"' in stored[1]["text"]["div"]
    assert stored[2]["derivedFrom"][0]["reference"] == second
    assert {each.split("/")[1][:3] for each in (first, second, third)} == {patient.split("/")[1][:3]}
    assert answered[0]["response"]["etag"] == 'W/"1"'
    assert answered[0]["response"]["location"] == f"{gateway.base}/{first}/_history/1"


def test_conditional_references_are_resolved_last(council: httpx.Client) -> None:
    """R4's fifth step: they find what the same Bundle creates. Of what is refused nothing stays."""
    number = str(uuid.uuid4())
    asked = f"Patient?identifier=urn:x|{number}"
    weight = entry("POST", "Observation", observation(subject={"reference": asked}))
    other, person = (made("Patient", "new", identifier=[{"system": "urn:x", "value": each}]) for each in ("0", number))
    nothing = refused(sent(council, weight, entry("POST", "Patient", other)), 412)
    assert "finds no Patient" in nothing["diagnostics"]
    assert council.get("/fhir/Patient?identifier=urn:x|0").json()["total"] == 0
    first, second, third = done(sent(council, weight, entry("POST", "Patient", person), weight))
    for each in (first, third):
        assert council.get(f"/fhir/{address(each)}").json()["subject"] == {"reference": address(second)}


def test_the_order_is_r4s_and_the_answers_are_in_the_requests(council: httpx.Client) -> None:
    gone, kept = created(council), created(council)
    changed = {**council.get(f"/fhir/{kept}").json(), "status": "amended"}
    answered = done(
        sent(
            council,
            entry("GET", kept),
            entry("GET", "Observation?_id=" + kept.split("/")[1]),
            entry("HEAD", kept),
            entry("PUT", kept, changed, ifMatch='W/"1"'),
            entry("POST", "Observation", observation()),
            entry("DELETE", gone, ifMatch='W/"1"'),
        )
    )
    assert statuses(answered) == ["200", "200", "200", "200", "201", "204"]
    assert (answered[0]["resource"]["status"], answered[0]["response"]["etag"]) == ("amended", 'W/"2"')
    assert answered[1]["resource"]["entry"][0]["resource"]["status"] == "amended"
    assert "resource" not in answered[2]
    assert council.get(f"/fhir/{gone}").status_code == 410


def test_patches_and_conditions_in_a_transaction(council: httpx.Client) -> None:
    value = str(uuid.uuid4())
    identifier = [{"system": "https://example.org/t", "value": value}]
    where = f"identifier=https://example.org/t|{value}"
    mine = urn()
    first = done(sent(council, entry("POST", "Observation", observation(identifier=identifier), ifNoneExist=where)))
    patch = base64.b64encode(json.dumps([{"op": "replace", "path": "/status", "value": "amended"}]).encode()).decode()
    binary = {"resourceType": "Binary", "contentType": "application/json-patch+json", "data": patch}
    again = done(
        sent(
            council,
            entry("POST", "Observation", observation(identifier=identifier), mine, ifNoneExist=where),
            entry("POST", "Observation", observation(derivedFrom=[{"reference": mine}])),
            entry("POST", "Observation", observation(derivedFrom=[{"reference": f"Observation?{where}"}])),
        )
    )
    assert statuses(first + again) == ["201", "200", "201", "201"]
    for each in again[1:]:
        assert council.get(f"/fhir/{address(each)}").json()["derivedFrom"][0]["reference"] == address(first[0])
    patched = done(
        sent(council, entry("PATCH", address(first[0]), binary, ifMatch='W/"1"'), prefer="return=representation")
    )
    assert (statuses(patched), patched[0]["resource"]["status"]) == (["200"], "amended")
    assert statuses(done(sent(council, entry("DELETE", f"Observation?{where}")))) == ["204"]
    assert statuses(done(sent(council, entry("DELETE", f"Observation?{where}")))) == ["204"]
    lost = sent(council, entry("POST", "Observation", observation(derivedFrom=[{"reference": f"Observation?{where}"}])))
    refused(lost, 412)
    made_anew = done(sent(council, entry("PUT", f"Observation?{where}", observation(identifier=identifier))))
    assert statuses(made_anew) == ["201"]


PROBLEMS: dict[str, tuple[list[Any], int]] = {
    "an invalid resource": ([entry("POST", "Observation", {**observation(), "status": "x"})], 422),
    "a name nobody has": ([entry("POST", "Observation", observation(derivedFrom=[{"reference": urn()}]))], 400),
    "no version": ([entry("PUT", "Patient/stranger", made("Patient", "stranger"))], 428),
    "an old version": ([entry("DELETE", "Patient/stranger", ifMatch='W/"9"')], 412),
    "an old version in the body": (
        [entry("PUT", "Patient/stranger", made("Patient", "stranger", meta={"versionId": "9"}))],
        412,
    ),
    "no entity tag": ([entry("DELETE", "Patient/stranger", ifMatch="1")], 400),
    "what is not there": ([entry("DELETE", "Patient/nobody", ifMatch='W/"1"')], 404),
    "to make an id": ([entry("PUT", "Observation/mine", {**observation(), "id": "mine"}, ifMatch='W/"1"')], 405),
    "the same twice": (
        [
            entry("DELETE", "Patient/stranger", ifMatch='W/"1"'),
            entry("PUT", "Patient/stranger", made("Patient", "stranger"), ifMatch='W/"1"'),
        ],
        400,
    ),
    "one name twice": (
        [
            entry("POST", "Observation", observation(), "urn:uuid:1"),
            entry("POST", "Observation", observation(), "urn:uuid:1"),
        ],
        400,
    ),
    "to read what is not there": ([entry("GET", "Patient/nobody")], 404),
    "to read nowhere": ([entry("GET", "Patient/x/y/z/w")], 404),
    "no request": ([{"resource": observation()}], 400),
    "no resource": ([entry("POST", "Observation")], 400),
    "a type in a wrong place": ([entry("POST", "Patient", observation())], 400),
    "a method nobody knows": ([entry("BURN", "Patient")], 400),
    "a type not held": ([entry("POST", "Bundle", {"resourceType": "Bundle"})], 400),
    "no patch": (
        [entry("PATCH", "Patient/stranger", {"resourceType": "Binary", "contentType": "x"}, ifMatch='W/"1"')],
        400,
    ),
    "too many": ([entry("GET", "Patient/stranger")] * (MOST + 1), 413),
    "the audit": ([entry("POST", "AuditEvent", made("AuditEvent", "x"))], 403),
}


@pytest.mark.parametrize("problem", PROBLEMS)
async def test_all_or_nothing(council: httpx.Client, module_database: str, problem: str) -> None:
    entries, status = PROBLEMS[problem]
    before = await versions(module_database)
    answer = sent(
        council, entry("POST", "Observation", observation()), *entries, entry("POST", "Observation", observation())
    )
    issue = refused(answer, status)
    assert await versions(module_database) == before
    if problem not in ("too many", "a type not held", "the audit"):
        assert "Bundle.entry[" in issue["expression"][0]
    created(council)
    assert await versions(module_database) == before + 1


def test_every_fault_of_a_transaction_is_told_at_once(council: httpx.Client) -> None:
    wrong = {**observation(), "status": "x"}
    bundle = [observation(), wrong, observation(), {"resourceType": "Observation", "status": "final"}]
    answer = sent(council, *[entry("POST", "Observation", each) for each in bundle])
    assert answer.status_code == 422
    told = [each["expression"] for each in answer.json()["issue"] if each["severity"] == "error"]
    assert told == [["Bundle.entry[1].resource.status"], ["Bundle.entry[3].resource.code"]]
    two = entry("POST", "Observation", {"resourceType": "Observation", "subject": observation()["subject"]})
    many = [each for each in sent(council, *[two] * MOST).json()["issue"] if "Observation needs" in each["diagnostics"]]
    assert len(many) == MOST_TOLD < 2 * MOST


@pytest.mark.parametrize("kind", ["transaction", "batch"])
def test_a_bundle_of_nothing_is_answered_with_nothing(council: httpx.Client, kind: str) -> None:
    """No element of FHIR's JSON is an empty list."""
    assert sent(council, kind=kind).json() == {"resourceType": "Bundle", "type": f"{kind}-response"}


def test_a_batch_does_each_by_itself(council: httpx.Client, provider: httpx.Client) -> None:
    answer = sent(
        provider,
        entry("POST", "Observation", observation()),
        entry("POST", "Observation", {**observation(), "status": "x"}),
        entry("POST", "Observation", observation("stranger")),
        entry("GET", "Patient/stranger"),
        entry("GET", "Patient/cared-for"),
        entry("POST", "Observation", observation(derivedFrom=[{"reference": urn()}])),
        entry("POST", "Patient", {"resourceType": "Patient"}),
        {"request": {}},
        entry("DELETE", "Observation/nobody", ifMatch='W/"1"'),
        kind="batch",
    )
    assert (answer.status_code, answer.json()["type"]) == (200, "batch-response")
    entries = answer.json()["entry"]
    assert statuses(entries) == ["201", "422", "422", "404", "200", "400", "403", "400", "404"]
    assert entries[4]["resource"]["id"] == "cared-for"
    outcomes = [each["response"].get("outcome", {}).get("resourceType") for each in entries]
    assert outcomes == [None, *["OperationOutcome"] * 3, None, *["OperationOutcome"] * 4]
    assert council.get(f"/fhir/{address(entries[0])}").status_code == 200


def test_a_reference_to_nothing_undoes_it_all(provider: httpx.Client) -> None:
    for name in ("stranger", "nobody"):
        issue = refused(
            sent(provider, *[entry("POST", "Observation", observation(each)) for each in ("cared-for", name)]), 422
        )
        assert issue["expression"] == ["Bundle.entry[1].resource.subject"]
    done(sent(provider, entry("POST", "Observation", observation())))


@pytest.mark.parametrize("kind", ["transaction", "batch"])
def test_a_bundle_sent_again_has_its_effect_once(council: httpx.Client, kind: str) -> None:
    id = str(uuid.uuid4())
    asked = [
        entry("POST", "Observation", observation()),
        entry("POST", "Observation", {**observation(), "status": "amended"}),
    ]
    first, again = (sent(council, *asked, kind=kind, x_request_id=id) for _ in range(2))
    assert (first.status_code, again.status_code, again.content) == (200, 200, first.content)
    other = sent(council, *asked[::-1], kind=kind, x_request_id=id)
    assert other.status_code == 422 if kind == "transaction" else statuses(other.json()["entry"]) == ["422", "422"]


async def test_each_entry_is_in_the_audit(council: httpx.Client, module_database: str) -> None:
    made_here = [address(each) for each in done(sent(council, *[entry("POST", "Observation", observation())] * 3))]
    batched = sent(council, entry("POST", "Observation", observation()), entry("DELETE", "Patient/x"), kind="batch")
    connection = await connected(module_database)
    rows = [
        json.loads(each["body"]) for each in await connection.fetch("SELECT body FROM fhirgw.audited ORDER BY sequence")
    ]
    await connection.close()
    told = [each["subtype"][0]["code"] for each in rows]
    assert told[-4:] == ["transaction", "create", "delete", "batch"]
    assert [each["outcome"] for each in rows[-4:]] == ["0", "0", "4", "0"]
    assert all(each.split("/")[1] in json.dumps(rows[-4]) for each in made_here)
    assert address(batched.json()["entry"][0]).split("/")[1] in json.dumps(rows[-3])


async def test_a_read_that_a_transaction_fails_by_is_in_the_audit(council: httpx.Client, module_database: str) -> None:
    asked = [entry("GET", each) for each in ("Patient/cared-for", f"Patient/{ABSENT}", "Patient/stranger")]
    answer = sent(council, entry("POST", "Observation", observation()), *asked)
    assert answer.status_code == 404
    connection = await connected(module_database)
    found = await connection.fetch("SELECT body FROM fhirgw.audited ORDER BY sequence DESC LIMIT 2")
    await connection.close()
    whole, read = [json.loads(each["body"]) for each in found]
    assert [(each["subtype"][0]["code"], each["outcome"]) for each in (whole, read)] == [
        ("transaction", "4"),
        ("read", "4"),
    ]
    named = [each["what"]["reference"] for each in read["entity"] if "reference" in each.get("what", {})]
    assert named == [f"Patient/{ABSENT}"]
    assert "cared-for" not in json.dumps([whole, read])  # nothing of it was told


def test_what_is_no_bundle_of_ours_is_refused(council: httpx.Client) -> None:
    refused(sent(council, kind="document"), 400)
    refused(
        council.post("/fhir", content=b'{"resourceType":"Patient"}', headers={"content-type": "application/json"}), 400
    )
    assert done_empty(sent(council))


def done_empty(answer: httpx.Response) -> bool:
    return answer.status_code == 200 and answer.json()["type"] == "transaction-response"


def posted(client: httpx.Client, resource: dict[str, Any], **headers: str) -> httpx.Response:
    return client.post("/fhir/Organization", content=encode(resource), headers={"content-type": JSON, **headers})


def test_an_ods_code_is_one_organisation_s(council: httpx.Client) -> None:
    first = posted(council, organisation("A1A01"))
    assert first.status_code == 201
    again = posted(council, organisation("A1A01"))
    assert (again.status_code, again.json()["issue"][0]["expression"]) == (409, ["Organization.identifier"])
    found = posted(council, organisation("A1A01"), **{"if-none-exist": "identifier=A1A01"})
    assert (found.status_code, found.json()["id"]) == (200, first.json()["id"])
    other = posted(council, organisation("A1A02")).json()
    address = f"/fhir/Organization/{other['id']}"
    taken = council.put(address, content=encode({**other, **organisation("A1A01")}), headers={"content-type": JSON})
    assert taken.status_code == 409
    renamed = council.put(address, content=encode({**other, "name": "Renamed"}), headers={"content-type": JSON})
    assert (renamed.status_code, renamed.json()["name"]) == (200, "Renamed")
    free = council.put(
        address, content=encode({**renamed.json(), **organisation("A1A03")}), headers={"content-type": JSON}
    )
    assert free.status_code == 200
    assert posted(council, organisation("A1A02")).status_code == 201  # let go of, it is free
    assert council.delete(f"/fhir/Organization/{first.json()['id']}").status_code == 204
    assert posted(council, organisation("A1A01")).status_code == 201


def test_an_ods_code_is_one_organisation_s_within_a_bundle_too(council: httpx.Client) -> None:
    both = [entry("POST", "Organization", organisation("B1B01")) for _ in range(2)]
    refused = sent(council, *both)
    assert (refused.status_code, refused.json()["issue"][0]["code"]) == (409, "conflict")
    assert refused.json()["issue"][0]["expression"] == ["Bundle.entry[0].resource.identifier"]
    apart = [entry("POST", "Organization", organisation(code)) for code in ("B1B01", "B1B02")]
    assert sent(council, *apart).status_code == 200
    each = sent(council, *both, entry("POST", "Organization", organisation("B1B03")), kind="batch").json()["entry"]
    assert [one["response"]["status"][:3] for one in each] == ["409", "409", "201"]


def test_what_systems_of_record_brought_twice_can_still_be_changed(council: httpx.Client) -> None:
    held = council.get("/fhir/Organization/harbour-c1").json()
    changed = encode({**held, "name": "Corrected"})
    answer = council.put("/fhir/Organization/harbour-c1", content=changed, headers={"content-type": JSON})
    assert (answer.status_code, answer.json()["name"]) == (200, "Corrected")
    assert posted(council, organisation("C1C01")).status_code == 409


READ = {
    "Patient?_id=cared-for&_include=Patient:organization": "Bundle",
    "Patient/cared-for/_history": "Bundle",
    "Patient/cared-for/$everything": "Bundle",
    "Patient/cared-for/$summary": "Bundle",
    "Patient/cared-for/$validate": "OperationOutcome",
    "Patient/cared-for/$meta": "Parameters",
    "_history?_count=1": "Bundle",
    "ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/administrative-gender": "ValueSet",
    "CodeSystem/$lookup?system=http://hl7.org/fhir/administrative-gender&code=male": "Parameters",
    "?_type=Patient&_id=cared-for": "Bundle",
    "metadata": "CapabilityStatement",
}


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_searches_and_operations_are_asked_by_get(council: httpx.Client, kind: str) -> None:
    answer = sent(council, *(entry("GET", each) for each in READ), kind=kind)
    assert answer.status_code == 200
    told = {url: each["resource"]["resourceType"] for url, each in zip(READ, answer.json()["entry"], strict=True)}
    assert told == READ
    alone = council.get("/fhir/Patient/cared-for/$summary").json()
    within = answer.json()["entry"][list(READ).index("Patient/cared-for/$summary")]["resource"]
    assert [each["resource"]["resourceType"] for each in within["entry"]] == [
        each["resource"]["resourceType"] for each in alone["entry"]
    ]


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_operations_that_read_are_asked_by_post(council: httpx.Client, gateway: Gateway, kind: str) -> None:
    born = {"resourceType": "Patient", "birthDate": "1940-02-03", "name": [{"family": "Nobody-Of-That-Name"}]}
    looked = {"name": "code", "valueCode": "male"}
    system = {"name": "system", "valueUri": "http://hl7.org/fhir/administrative-gender"}
    answer = sent(
        council,
        entry("POST", "Patient/$match", born),
        entry("POST", "Patient/$validate", {"resourceType": "Patient", "gender": "nonsense"}),
        entry("POST", "CodeSystem/$lookup", {"resourceType": "Parameters", "parameter": [looked, system]}),
        entry("POST", "Observation", observation()),
        kind=kind,
    )
    assert answer.status_code == 200, answer.text
    matched, judged, found, made = answer.json()["entry"]
    assert (matched["resource"]["type"], matched["response"]["status"]) == ("searchset", "200 OK")
    assert {each["severity"] for each in judged["resource"]["issue"]} >= {"error"}
    assert {"name": "display", "valueString": "Male"} in found["resource"]["parameter"]
    assert made["response"]["status"] == "201 Created"
    with gateway.client(PROVIDER) as other:
        alone = other.post("/fhir/Patient/$match", json=born).status_code
        assert (
            sent(other, entry("POST", "Patient/$match", born), kind="batch")
            .json()["entry"][0]["response"]["status"]
            .startswith(str(alone))
        )


@pytest.mark.parametrize(
    ("method", "url", "status", "told"),
    [
        ("POST", "Nothing/$match", 404, "nothing to read"),
        ("POST", "Patient/$match", 400, "Send the Patient"),
        ("POST", "Patient/_search", 400, "asked in a Bundle by GET"),
        ("POST", "Patient/cared-for/$everything", 400, "asked in a Bundle by GET"),
        ("GET", "openapi.json", 400, "no resource"),
        ("GET", "$export", 400, "respond-async"),
        ("GET", "Patient/cared-for/$who-looked", 403, "auditors"),
        ("GET", "Patient/cared-for/$nonsense", 404, "nothing to read"),
        ("GET", "oauth/token", 404, "nothing to read"),
    ],
)
def test_what_a_bundle_does_not_ask(council: httpx.Client, method: str, url: str, status: int, told: str) -> None:
    answer = sent(council, entry(method, url, {"resourceType": "Parameters"}), kind="batch").json()
    response = answer["entry"][0]["response"]
    assert response["status"].startswith(str(status))
    assert told in response["outcome"]["issue"][0]["diagnostics"]
