"""The operations that read: $everything, $summary, $validate, $match, $meta; and the definitions of our own."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhirgw.api import everything
from fhirgw.fhir.definitions import OPERATIONS
from fhirgw.settings import Settings
from fhirgw.store.registration import Registration
from fhirgw.validation import validate
from tests.api.conftest import NHS, UPDATED
from tests.api.test_api_fhir import entries, outcome
from tests.conftest import NewDatabase
from tests.gateway import Gateway, serving
from tests.put import made, put, supersede

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
MINE = {"reference": "Patient/ann"}
TEXT = 'Help <b>with</b> & "meals"'
ANN = made(
    "Patient",
    "ann",
    active=True,
    identifier=[{"system": NHS, "value": "9000000009"}],
    name=[{"use": "official", "family": "O'Brien", "given": ["Ann"]}],
    birthDate="1950-03-01",
    gender="female",
    address=[{"postalCode": "SS1 1AA"}],
    managingOrganization={"reference": "Organization/council"},
)
TWIN = made(
    "Patient",
    "twin",
    identifier=[{"system": "https://council.example/a|b,c", "value": "7|1,2"}],
    name=[{"family": "O'Brien", "given": ["Beth"]}],
    birthDate="1950-03-01",
    gender="female",
)
HIDDEN = made(
    "Patient",
    "hidden",
    meta={"security": [{"system": CONFIDENTIALITY, "code": "R"}]},
    name=[{"family": "Vane", "given": ["Hetty"]}],
    birthDate="1960-01-01",
    address=[{"postalCode": "LS1 1AA"}],
)
SHARED = [
    made("Organization", "council", name="A council"),
    made("PractitionerRole", "role", practitioner={"reference": "Practitioner/worker"}),
    made("Practitioner", "worker", name=[{"text": "A worker"}]),
]
RECORD = [
    made("Condition", "reason", subject=MINE, code={"text": TEXT}, recorder={"reference": "PractitionerRole/role"}),
    made("Condition", "wrong", subject=MINE, clinicalStatus={"coding": [{"code": "resolved"}]}),
    made("CarePlan", "plan", status="active", intent="plan", subject=MINE, goal=[{"reference": "Goal/goal"}]),
    made("CarePlan", "old", status="completed", intent="plan", subject=MINE, period={"end": "2020-01-01"}),
    made("Goal", "goal", lifecycleStatus="active", description={"text": "To cook"}, subject=MINE),
    made("EpisodeOfCare", "line", status="active", patient=MINE, type=[{"text": "Home care"}]),
    made("Flag", "dog", status="active", code={"text": "A dog"}, subject=MINE),
    made("RelatedPerson", "son", patient=MINE, name=[{"text": "A son"}]),
    made(
        "Task", "seen", status="completed", intent="plan", **{"for": MINE}, owner={"reference": "Practitioner/worker"}
    ),
    made(
        *("Observation", "early"),
        status="final",
        code={"text": "o"},
        subject=MINE,
        effectiveDateTime="2024-05-01",
    ),
    made(
        *("Observation", "late"),
        status="final",
        code={"text": "o"},
        subject=MINE,
        effectiveDateTime="2025-05-01",
    ),
]
TAGGED = made("Organization", "tagged", meta={"profile": ["https://example.org/p"], "tag": [{"code": "t"}]})


@pytest.fixture(scope="module")
async def database_url(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        await put(url, ANN, TWIN, HIDDEN, *SHARED, *RECORD, TAGGED, made("Organization", "gone"))
        await supersede(url, made("Organization", "gone"), None, 2, UPDATED)
        yield url


@pytest.fixture(scope="module")
def ward(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    data: Path = tmp_path_factory.mktemp("data")
    with serving(Settings(database_url=database_url, data=data, log="json", controller="Z99")) as gateway:
        yield gateway


def names(*resources: dict[str, Any]) -> list[str]:
    return [f"{each['resourceType']}/{each['id']}" for each in resources]


# $everything


@pytest.mark.parametrize(
    ("asked", "without"),
    [
        ("start=2025-01-01", {"Observation/early", "CarePlan/old"}),
        ("end=2024-12-31", {"Observation/late"}),
        ("start=2024-01-01&end=2024-12-31", {"Observation/late", "CarePlan/old"}),
        ("start=2024-05&end=2024-05", {"Observation/late", "CarePlan/old"}),
    ],
)
def test_a_stretch_of_care_keeps_what_says_no_date(ward: Gateway, asked: str, without: set[str]) -> None:
    whole = set(entries(ward.http.get("/fhir/Patient/ann/$everything").json()))
    assert whole == set(names(ANN, *RECORD, *SHARED))
    found = set(entries(ward.http.get(f"/fhir/Patient/ann/$everything?{asked}").json()))
    assert whole - found == without


def test_a_long_record_is_sent_as_it_is_read(ward: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ward.http.get("/fhir/Patient/ann/$everything")
    small = everything.Asked
    monkeypatch.setattr(everything, "Asked", lambda id: small(id, count=3))
    streamed = ward.http.get("/fhir/Patient/ann/$everything")
    assert streamed.headers["transfer-encoding"] == "chunked"
    assert streamed.headers["content-type"] == whole.headers["content-type"]
    assert streamed.json()["entry"] == whole.json()["entry"]
    assert streamed.json()["link"] == whole.json()["link"][:1]
    (advice,) = [each for each in streamed.json()["entry"] if each["search"]["mode"] == "outcome"]
    assert advice == whole.json()["entry"][-1]


def test_each_part_of_a_long_record_is_audited(ward: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = set(entries(ward.http.get("/fhir/Patient/ann/$everything").json()))
    small = everything.Asked
    monkeypatch.setattr(everything, "Asked", lambda id: small(id, count=4))
    answer = ward.http.get("/fhir/Patient/ann/$everything")
    with ward.client(Registration("auditor", "Z99", "system/AuditEvent.rs", rate=1_000_000)) as auditor:
        found = auditor.get("/fhir/AuditEvent?type=rest&_count=50").json()
    events = [each["resource"] for each in found["entry"] if each["search"]["mode"] == "match"]
    of_it = [each for each in events if answer.headers["x-request-id"] in str(each)]
    told = {
        f"{detail['type']}/{id}"
        for each in of_it
        for entity in each["entity"]
        for detail in entity.get("detail", ())
        for id in detail["valueString"].split()
    }
    assert len(of_it) == 4
    assert told == whole


def test_an_answer_cut_short_is_no_answer(ward: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    small, page = everything.Asked, everything._page
    monkeypatch.setattr(everything, "Asked", lambda id: small(id, count=3))

    async def fails(request: Any, wanted: Any) -> Any:
        if wanted.cursor:
            raise OSError("the database went away")
        return await page(request, wanted)

    monkeypatch.setattr(everything, "_page", fails)
    with pytest.raises(httpx.RemoteProtocolError):
        ward.http.get("/fhir/Patient/ann/$everything")
    monkeypatch.undo()
    assert ward.http.get("/fhir/Patient/ann/$everything").status_code == 200


# $summary


def summary(ward: Gateway) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    answer = ward.http.get("/fhir/Patient/ann/$summary")
    assert answer.status_code == 200
    bundle = answer.json()
    return bundle["entry"][0]["resource"], {each["fullUrl"]: each["resource"] for each in bundle["entry"]}


def test_a_summary_is_a_document_in_the_shape_of_an_ips(ward: Gateway) -> None:
    bundle = ward.http.get("/fhir/Patient/ann/$summary").json()
    assert (bundle["type"], bundle["identifier"]["system"]) == ("document", "urn:ietf:rfc:3986")
    assert bundle["timestamp"]
    composition, known = summary(ward)
    assert composition["resourceType"] == "Composition"
    assert composition["type"]["coding"][0]["code"] == "60591-5"
    assert known[composition["subject"]["reference"]]["id"] == "ann"
    assert known[composition["author"][0]["reference"]]["resourceType"] == "Device"
    assert [issue for each in (composition, bundle) for issue in validate(each) if issue.severity == "error"] == []


def test_its_sections_hold_what_is_so_and_say_why_they_are_empty(ward: Gateway) -> None:
    composition, known = summary(ward)
    held = {
        each["code"]["coding"][0]["code"]: [known[one["reference"]]["id"] for one in each.get("entry", ())]
        for each in composition["section"]
    }
    assert held == {
        "11450-4": ["reason"],
        "48765-2": [],
        "10160-0": [],
        "18776-5": ["plan", "goal"],
        "packages": ["line"],
        "104605-1": ["dog"],
        "contacts": ["son"],
        "assessments": ["seen"],
        "29762-2": ["early", "late"],
    }
    empty = {
        each["code"]["coding"][0]["code"]: each["emptyReason"] for each in composition["section"] if "entry" not in each
    }
    assert {each["coding"][0]["code"] for each in empty.values()} == {"unavailable"}
    assert empty.keys() == {"48765-2", "10160-0"}


def test_its_words_are_plain_text_in_safe_xhtml(ward: Gateway) -> None:
    composition, _ = summary(ward)
    problems = composition["section"][0]["text"]["div"]
    assert "Help &lt;b&gt;with&lt;/b&gt; &amp; &quot;meals&quot;" in problems
    for each in composition["section"]:
        assert set(re.findall(r"<(\w+)", each["text"]["div"])) == {"div", "ul", "li"}


def test_what_it_refers_to_is_in_it(ward: Gateway) -> None:
    _, known = summary(ward)
    named = {url.removeprefix(f"{ward.base}/") for url in known}
    referred = {
        match.removeprefix(f"{ward.base}/")
        for each in known.values()
        for match in re.findall(r"'reference': '([^']+)'", str(each))
    }
    assert "Practitioner/worker" in referred
    assert {each for each in referred if ward.http.get(f"/fhir/{each}").status_code == 200} <= named
    assert "CarePlan/old" not in named


def test_it_is_the_same_but_for_when_it_was_made(ward: Gateway) -> None:
    one, other = (ward.http.get("/fhir/Patient/ann/$summary") for _ in range(2))
    blank = re.compile(r'"(timestamp|date|value)":"(20\d\d-[^"]+Z|urn:uuid:[^"]+)"')
    assert blank.sub("", one.text) == blank.sub("", other.text)


def test_a_summary_is_of_what_the_caller_may_see(ward: Gateway) -> None:
    with ward.client(Registration("part", "Z99", "system/Patient.rs system/Flag.rs", rate=1_000_000)) as part:
        found = part.get("/fhir/Patient/ann/$summary").json()
    kinds = [each["resource"]["resourceType"] for each in found["entry"]]
    assert kinds == ["Composition", "Device", "Patient", "Flag"]
    assert ward.http.get("/fhir/Patient/nobody/$summary").status_code == 404


# $validate


def judged(answer: httpx.Response) -> list[tuple[str, str]]:
    assert answer.status_code == 200, answer.text
    return [(each["severity"], each.get("expression", [""])[0]) for each in outcome(answer)]


FAULTY = made("Patient", "ann", gender="girl", birthDate="1950-02-30")
SOUND = made(
    "Patient",
    "ann",
    gender="female",
    text={"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">a</div>'},
)


def parameters(**given: Any) -> dict[str, Any]:
    resource = [{"name": "resource", "resource": given.pop("resource")}] if "resource" in given else []
    rest = [{"name": name, f"value{_kind(value)}": value} for name, value in given.items()]
    return {"resourceType": "Parameters", "parameter": [*resource, *rest]}


def _kind(value: Any) -> str:
    return {bool: "Boolean", int: "Integer"}.get(type(value), "Code")


def test_what_is_wrong_is_told_and_what_is_right_too(ward: Gateway) -> None:
    for sent in (FAULTY, parameters(resource=FAULTY), parameters(resource=FAULTY, mode="create")):
        for path in ("Patient/$validate", "Patient/ann/$validate"):
            found = judged(ward.http.post(f"/fhir/{path}", json=sent))
            errors = {place for severity, place in found if severity == "error"}
            assert errors == {"Patient.gender", "Patient.birthDate"}
    assert [each[0] for each in judged(ward.http.post("/fhir/Patient/$validate", json=SOUND))] == ["information"]


def test_it_is_judged_by_the_address_too(ward: Gateway) -> None:
    other = judged(ward.http.post("/fhir/Observation/$validate", json=SOUND))
    assert other == [("error", "resourceType")]
    update = parameters(resource={**SOUND, "id": "bob"}, mode="update")
    assert ("error", "Patient.id") in judged(ward.http.post("/fhir/Patient/ann/$validate", json=update))


def test_a_profile_asked_for_is_judged_by(ward: Gateway) -> None:
    profile = "https://fhir.hl7.org.uk/StructureDefinition/UKCore-Patient"
    wrong = {**SOUND, "identifier": [{"system": NHS}]}
    assert [each[0] for each in judged(ward.http.post("/fhir/Patient/$validate", json=wrong))] == ["information"]
    for found in (
        ward.http.post("/fhir/Patient/$validate", json=parameters(resource=wrong, profile=profile)),
        ward.http.post(f"/fhir/Patient/$validate?profile={profile}", json=wrong),
    ):
        assert any(severity == "error" for severity, _ in judged(found))


def test_a_profile_that_nobody_knows_is_an_error_for_who_asks_by_it(ward: Gateway) -> None:
    """R4: "if … the server cannot validate against the nominated profile, the server SHALL return an error"."""
    nobodys = "https://nobody.example/StructureDefinition/none"
    for found in (
        ward.http.post("/fhir/Patient/$validate", json=parameters(resource=SOUND, profile=nobodys)),
        ward.http.get("/fhir/Patient/ann/$validate", params={"profile": nobodys}),
    ):
        assert ("error", "Patient.meta.profile") in judged(found)
    claimed = {**SOUND, "meta": {"profile": [nobodys]}}
    assert judged(ward.http.post("/fhir/Patient/$validate", json=claimed)) == [("warning", "Patient.meta.profile[0]")]


def test_what_is_stored_can_be_judged(ward: Gateway) -> None:
    assert all(severity != "error" for severity, _ in judged(ward.http.get("/fhir/Patient/ann/$validate")))
    assert ward.http.get("/fhir/Patient/nobody/$validate").status_code == 404
    assert ward.http.get("/fhir/Organization/gone/$validate").status_code == 410


def test_whether_it_may_be_deleted(ward: Gateway) -> None:
    asked = parameters(mode="delete")
    with ward.client(Registration("deleter", "Z99", "system/*.cruds", rate=1_000_000)) as deleter:
        assert judged(deleter.post("/fhir/Patient/ann/$validate", json=asked)) == [("information", "")]
        assert deleter.post("/fhir/Patient/nobody/$validate", json=asked).status_code == 404
    assert ward.http.post("/fhir/Patient/ann/$validate", json=asked).status_code == 403


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b'{"a":}', 400, "not JSON"),
        (b'{"a":1,"a":2}', 400, "stands twice"),
        (b"[]", 400, "not a JSON object"),
        (b'{"resourceType":"Parameters"}', 400, "Send the resource to validate"),
        (b'{"resourceType":"Parameters","parameter":{}}', 400, "list of parameters"),
        (b'{"resourceType":"Parameters","parameter":[{"name":"x","valueCode":"y"}]}', 400, "This operation takes"),
        (
            b'{"resourceType":"Parameters","parameter":[{"name":"mode","valueCode":"x"},{"name":"resource","resource":{}}]}',
            400,
            "mode is one of",
        ),
        (b" " * (1024 * 1024 + 1), 413, "at most"),
    ],
)
def test_what_an_operation_cannot_read_is_refused(ward: Gateway, body: bytes, status: int, words: str) -> None:
    answer = ward.http.post("/fhir/Patient/$validate", content=body, headers={"content-type": "application/fhir+json"})
    assert answer.status_code == status
    assert words in outcome(answer)[0]["diagnostics"]


def test_an_operation_is_sent_json(ward: Gateway) -> None:
    for path in ("Patient/$validate", "Patient/$match"):
        assert ward.http.post(f"/fhir/{path}", content=b"<a/>", headers={"content-type": "text/xml"}).status_code == 415


# $match


def matched(answer: httpx.Response) -> list[tuple[str, str, float]]:
    assert answer.status_code == 200, answer.text
    found = [each for each in answer.json()["entry"] if each["search"]["mode"] == "match"]
    assert answer.json()["total"] == len(found)
    return [
        (each["resource"]["id"], each["search"]["extension"][0]["valueCode"], each["search"]["score"]) for each in found
    ]


def person(**elements: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", **elements}


def test_a_person_is_found_by_what_few_share(ward: Gateway) -> None:
    by_number = person(
        identifier=[{"system": NHS, "value": "900 000 0009"}], birthDate="1950-03-01", name=[{"family": "o'brien"}]
    )
    assert matched(ward.http.post("/fhir/Patient/$match", json=by_number)) == [("ann", "certain", 1.0)]
    by_birth = person(birthDate="1950-03-01", name=[{"family": "O'Brien"}])
    both = [("ann", "probable", 0.99), ("twin", "probable", 0.99)]
    assert matched(ward.http.post("/fhir/Patient/$match", json=by_birth)) == both
    asked = parameters(resource=by_birth, onlyCertainMatches=True)
    assert matched(ward.http.post("/fhir/Patient/$match", json=asked)) == []
    asked = parameters(resource=by_number, onlyCertainMatches=True)
    assert matched(ward.http.post("/fhir/Patient/$match", json=asked)) == [("ann", "certain", 1.0)]
    asked = parameters(resource=by_birth, count=1)
    assert matched(ward.http.post("/fhir/Patient/$match", json=asked)) == both[:1]


def test_a_person_is_found_by_a_councils_own_number(ward: Gateway) -> None:
    asked = person(identifier=[{"system": "https://council.example/a|b,c", "value": "7|1,2"}])
    assert matched(ward.http.post("/fhir/Patient/$match", json=asked)) == [("twin", "probable", 0.99)]
    other = person(identifier=[{"system": "https://council.example/a", "value": "7|1,2"}])
    assert matched(ward.http.post("/fhir/Patient/$match", json=other)) == []
    known = {**asked, "birthDate": "1950-03-01", "name": [{"family": "O'Brien"}]}
    certain = parameters(resource=known, onlyCertainMatches=True)
    assert matched(ward.http.post("/fhir/Patient/$match", json=certain)) == [("twin", "certain", 1.0)]


def test_nobody_is_found_by_what_is_withheld_of_them(ward: Gateway) -> None:
    by_place = person(name=[{"family": "Vane"}], address=[{"postalCode": "LS1 1AA"}])
    assert matched(ward.http.post("/fhir/Patient/$match", json=by_place)) == []
    cleared = Registration("cleared", "Z99", "system/*.rs", clearance=1, rate=1_000_000)
    with ward.client(cleared) as knows:
        assert matched(knows.post("/fhir/Patient/$match", json=by_place)) == [("hidden", "probable", 0.99)]
    everything_of = {**HIDDEN, "identifier": []}
    with_place = matched(
        ward.http.post(
            "/fhir/Patient/$match", json=person(**{k: everything_of[k] for k in ("name", "birthDate", "address")})
        )
    )
    without = matched(ward.http.post("/fhir/Patient/$match", json=person(name=HIDDEN["name"], birthDate="1960-01-01")))
    assert [each[0] for each in with_place] == [each[0] for each in without] == ["hidden"]
    elsewhere = person(name=HIDDEN["name"], birthDate="1960-01-01", address=[{"postalCode": "ZZ1 1ZZ"}])
    assert matched(ward.http.post("/fhir/Patient/$match", json=elsewhere)) == with_place


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (person(gender="female"), 400, "Too little to look for"),
        (person(name=[{"family": "O'Brien"}]), 400, "Too little to look for"),
        (person(birthDate="1950-03-01"), 400, "Too little to look for"),
        (made("Observation", "o"), 400, "Send the Patient"),
        (person(name="x"), 400, "not a Patient"),
        (parameters(resource=person(birthDate="1950-03-01"), count=0), 400, "count is"),
        (parameters(resource=person(birthDate="1950-03-01"), onlyCertainMatches="yes"), 400, "onlyCertainMatches is"),
    ],
)
def test_what_cannot_be_matched_is_refused(ward: Gateway, sent: dict[str, Any], status: int, words: str) -> None:
    answer = ward.http.post("/fhir/Patient/$match", json=sent)
    assert answer.status_code == status
    assert words in outcome(answer)[0]["diagnostics"]


def test_a_match_takes_the_scope_to_search(ward: Gateway) -> None:
    with ward.client(Registration("reads", "Z99", "system/Patient.r", rate=1_000_000)) as reads:
        assert reads.post("/fhir/Patient/$match", json=ANN).status_code == 403


# $meta, definitions


def test_what_is_in_use(ward: Gateway) -> None:
    def meta(path: str) -> Any:
        (only,) = ward.http.get(f"/fhir/{path}").json().get("parameter", [{}])
        return only.get("valueMeta")

    tagged = {"profile": ["https://example.org/p"], "tag": [{"code": "t"}]}
    assert meta("Organization/$meta") == tagged
    assert meta("$meta") == tagged | {"security": [{"code": "R", "system": CONFIDENTIALITY}]}
    assert meta("Device/$meta") is None
    assert meta("Organization/tagged/$meta").items() >= tagged.items()
    assert ward.http.get("/fhir/Organization/nobody/$meta").status_code == 404
    with ward.client(Registration("flags", "Z99", "system/Flag.rs", rate=1_000_000)) as flags:
        assert flags.get("/fhir/$meta").json() == {"resourceType": "Parameters"}
        assert flags.get("/fhir/Organization/$meta").status_code == 403


@pytest.mark.parametrize("name", ["$meta-add", "$meta-delete", "$nothing"])
def test_what_there_is_not_is_told_to_be_missing(ward: Gateway, name: str) -> None:
    answer = ward.http.post(f"/fhir/Patient/ann/{name}", json=parameters())
    assert answer.status_code == 404
    assert ("PATCH" in outcome(answer)[0]["diagnostics"]) is name.startswith("$meta")


def test_our_own_operations_are_defined(ward: Gateway) -> None:
    for id, definition in OPERATIONS.items():
        assert ward.http.get(f"/fhir/OperationDefinition/{id}").json() == definition
        assert [each for each in validate(definition) if each.severity == "error"] == []
    found = ward.http.get(f"/fhir/OperationDefinition?url={OPERATIONS['Patient-explain']['url']}").json()
    assert entries(found) == ["OperationDefinition/Patient-explain"]
    assert ward.http.get("/fhir/OperationDefinition/none").status_code == 404
    assert ward.http.get("/fhir/OperationDefinition?name=x").status_code == 400
