"""Lists of people (Group): who sees one, which of its members, and the export of their records.

https://hl7.org/fhir/R4/group.html, https://hl7.org/fhir/uv/bulkdata/group.html
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from fhirgw.store.registration import Registration
from tests.api.test_api_dissent import dissent
from tests.api.writing import CLEARED, PEOPLE, PORTAL, observation
from tests.conftest import NewDatabase
from tests.gateway import Gateway
from tests.put import made, put

ASYNC = {"prefer": "respond-async", "accept": "application/fhir+json"}
FILTER = "http://hl7.org/fhir/uv/bulkdata/StructureDefinition/member-filter"
LISTS = Registration("lists-alone", "Z99", "system/Group.rs", rate=1_000_000)
NO_LISTS = Registration("no-lists", "Z99", "system/Patient.rs", rate=1_000_000)
PERSON = Registration("own", "Z99", "patient/*.rs", purposes=("person",), patient="cared-for", rate=1_000_000)


def member(id: str, kind: str = "Patient", **elements: Any) -> dict[str, Any]:
    return {"entity": {"reference": f"{kind}/{id}"}, **elements}


def group(id: str, *members: dict[str, Any], **elements: Any) -> dict[str, Any]:
    return made("Group", id, type="person", actual=True, **({"member": [*members]} if members else {}), **elements)


def defined(id: str, *searches: str, **elements: Any) -> dict[str, Any]:
    filters = [
        {"url": FILTER, "valueExpression": {"language": "application/x-fhir-query", "expression": each}}
        for each in searches
    ]
    return made("Group", id, type="person", actual=False, modifierExtension=filters, **elements)


MANAGED = {"managingEntity": {"reference": "Organization/provider"}}
THREE = [member("cared-for"), member("dissenting"), member("stranger"), member("gone-away", inactive=True)]
OTHERS = [made("Patient", each, birthDate="1970-01-01") for each in ("dissenting", "gone-away", "unlisted")]
SEEN = [
    {**observation(each), "id": f"weight-{each}"}
    for each in ("cared-for", "dissenting", "stranger", "gone-away", "unlisted")
]
GROUPS = (
    group("frail", *THREE, name="Frail", quantity=3, **MANAGED),
    group("strangers", member("stranger"), name="Others"),
    group("nobody", name="Empty"),
    defined("weighed", "Observation?status=final", "Patient?birthdate=lt1965", **MANAGED),
    defined("either", "Patient?birthdate=1950-03-01", "Patient?birthdate=1960-03-01"),
    made("Group", "undefined", type="person", actual=False),
)
REFUSES = {**dissent(), "id": "refuses", "patient": {"reference": "Patient/dissenting"}, "performer": []}


@pytest.fixture(scope="module")
async def module_database(new_database: NewDatabase) -> AsyncIterator[str]:
    async with new_database() as url:
        await put(url, *PEOPLE, *OTHERS, *SEEN, *GROUPS, REFUSES)
        yield url


def members(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["entity"]["reference"] for each in answer.json().get("member", [])]


def found(client: httpx.Client, search: str) -> list[str]:
    answer = client.get(f"/fhir/{search}")
    assert answer.status_code == 200, answer.text
    entries = answer.json().get("entry", [])
    ids = [each["resource"]["id"] for each in entries if each["search"]["mode"] == "match"]
    assert answer.json()["total"] == len(ids)
    return sorted(ids)


def audited(auditor: httpx.Client) -> tuple[set[str], bool]:
    """Whose records the newest AuditEvent of another's says were in an answer, with which lists; or everybody's."""
    answer = auditor.get("/fhir/AuditEvent?_count=20")
    assert answer.status_code == 200, answer.text
    for entry in answer.json()["entry"]:
        event = entry["resource"]
        if event["agent"][0]["who"]["identifier"]["value"] != "auditor":
            break
    named = [each for each in event["entity"] if each.get("what", {}).get("reference", "").startswith("Patient/")]
    assert all({"type": "Group", "valueString": "frail"} in each["detail"] for each in named)
    everybody = [each for each in event["entity"] if each.get("description") == "everybody"]
    return {each["what"]["reference"].removeprefix("Patient/") for each in named}, bool(everybody)


def kick_off(client: httpx.Client, path: str, *given: tuple[str, Any]) -> httpx.Response:
    if not given:
        return client.get(f"/fhir/{path}", headers=ASYNC)
    body = {"resourceType": "Parameters", "parameter": [{"name": name, **value} for name, value in given]}
    return client.post(f"/fhir/{path}", json=body, headers=ASYNC)


def manifest(client: httpx.Client, started: httpx.Response) -> dict[str, Any]:
    assert started.status_code == 202, started.text
    for _ in range(2400):
        answer = client.get(started.headers["content-location"])
        if answer.status_code not in (202, 429):  # a machine that is busy is asked often
            assert answer.status_code == 200, answer.text
            told: dict[str, Any] = answer.json()
            return told
        time.sleep(0.05)
    pytest.fail("the export did not end")


def lines(client: httpx.Client, files: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [orjson.loads(line) for each in files for line in client.get(each["url"]).content.splitlines()]


def exported(client: httpx.Client, path: str, *given: tuple[str, Any]) -> set[str]:
    return {each["id"] for each in lines(client, manifest(client, kick_off(client, path, *given))["output"])}


def diagnostics(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    return str(answer.json()["issue"][0]["diagnostics"])


def test_who_sees_all_members_is_served_the_list_as_it_is_stored(council: httpx.Client) -> None:
    told = council.get("/fhir/Group/frail").json()
    assert told["member"] == THREE and told["quantity"] == 3


def test_a_member_who_is_hidden_is_left_out(gateway: Gateway, provider: httpx.Client) -> None:
    """Wherever a list is read; and what counts them, or tells of them in words."""
    shown = ["Patient/cared-for", "Patient/stranger", "Patient/gone-away"]
    assert members(gateway.http.get("/fhir/Group/frail")) == shown
    assert "quantity" not in gateway.http.get("/fhir/Group/frail").json()
    assert members(gateway.http.get("/fhir/Group/frail/_history/1")) == shown
    assert members(provider.get("/fhir/Group/frail")) == ["Patient/cared-for"]
    for path in ("Group?_id=frail", "Group/frail/_history", "Group/_history", "_history", "?_type=Group,Patient"):
        text = provider.get(f"/fhir/{path}").text
        assert "cared-for" in text and "dissenting" not in text and "stranger" not in text
    assert "dissenting" not in gateway.http.get("/fhir/Group?_count=50").text


def test_who_has_a_list_already_is_told_whom_it_is_without(gateway: Gateway, council: httpx.Client) -> None:
    """Somebody on it may have dissented since: its version is the same, what is served of it is not."""
    for path in ("Group/frail", "Group/frail/_history/1"):
        seen = council.get(f"/fhir/{path}")
        assert "dissenting" in seen.text
        for header, value in (("if-none-match", "etag"), ("if-modified-since", "last-modified")):
            again = gateway.http.get(f"/fhir/{path}", headers={header: seen.headers[value]})
            assert again.status_code == 200 and "dissenting" not in again.text
    person = council.get("/fhir/Patient/stranger")
    same = council.get("/fhir/Patient/stranger", headers={"if-none-match": person.headers["etag"]})
    assert same.status_code == 304


def test_a_list_is_seen_by_its_controller_and_who_manages_it(gateway: Gateway, provider: httpx.Client) -> None:
    assert found(gateway.http, "Group") == sorted(each["id"] for each in GROUPS)
    assert found(provider, "Group") == ["frail", "weighed"]
    hidden, absent = provider.get("/fhir/Group/strangers"), provider.get("/fhir/Group/never")
    assert hidden.status_code == absent.status_code == 404
    assert hidden.json()["issue"] == absent.json()["issue"]
    with gateway.client(PERSON) as person, gateway.client(NO_LISTS) as without:
        assert person.get("/fhir/Group/frail").status_code == 404
        assert without.get("/fhir/Group/frail").status_code == 403


def test_who_is_on_a_list_that_is_read_was_looked_at(
    gateway: Gateway, provider: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those whom the reader was told of, and nobody else; of very many nobody counts whom."""
    registered = Registration("auditor", "Z99", "system/AuditEvent.rs", rate=1_000_000)
    shown = {"cared-for", "stranger", "gone-away"}
    with gateway.client(registered) as auditor:
        for path in ("Group/frail", "Group/frail/_history/1", "Group/frail/_history", "Group?_id=frail"):
            for client, names in ((gateway.http, shown), (provider, {"cared-for"})):
                assert client.get(f"/fhir/{path}").status_code == 200
                assert audited(auditor) == (names, False)
        assert provider.get("/fhir/Group/strangers").status_code == 404
        assert audited(auditor) == (set(), False)
        monkeypatch.setattr("fhirgw.api.audit.MOST_NAMED", 2)
        assert gateway.http.get("/fhir/Group/frail").status_code == 200
        assert audited(auditor) == (set(), True)


def test_whose_scopes_show_nobody_sees_no_members(gateway: Gateway) -> None:
    with gateway.client(LISTS) as lists:
        assert members(lists.get("/fhir/Group/frail")) == []


@pytest.mark.parametrize(
    ("search", "by_council", "by_provider"),
    [
        ("Group?member=Patient/cared-for", ["frail"], ["frail"]),
        ("Group?member=Patient/stranger", ["frail", "strangers"], []),
        ("Group?member=Patient/dissenting", ["frail"], []),
        ("Group?member=Patient/cared-for,Patient/stranger", ["frail", "strangers"], ["frail"]),
        ("Group?member.birthdate=1960-03-01", ["frail", "strangers"], []),
        ("Group?member:missing=true", ["either", "nobody", "undefined", "weighed"], ["weighed"]),
        ("Group?_id=strangers,frail&member:missing=false", ["frail", "strangers"], ["frail"]),
        ("Group?managing-entity=Organization/provider", ["frail", "weighed"], ["frail", "weighed"]),
        ("Patient?_has:Group:member:_id=frail", ["cared-for", "dissenting", "gone-away", "stranger"], ["cared-for"]),
    ],
)
def test_a_list_is_found_by_the_members_that_are_shown(
    council: httpx.Client, provider: httpx.Client, search: str, by_council: list[str], by_provider: list[str]
) -> None:
    assert found(council, search) == by_council
    assert found(provider, search) == by_provider


SORTED = {"tag": [{"system": "https://fhirgw.uk/tests", "code": "sorted"}]}


def in_order(client: httpx.Client, search: str) -> list[str]:
    """The ids of all matches, page by page."""
    ids, address = [], f"/fhir/{search}&_count=1"
    while address:
        answer = client.get(address)
        assert answer.status_code == 200, answer.text
        entries = answer.json().get("entry", [])
        ids += [each["resource"]["id"] for each in entries if each["search"]["mode"] == "match"]
        address = next((each["url"] for each in answer.json()["link"] if each["relation"] == "next"), "")
    return ids


def test_a_list_is_sorted_by_the_members_that_are_shown(council: httpx.Client, provider: httpx.Client) -> None:
    """One that shows nobody stands where an empty one would: by its id, among those at the end."""
    listed = {"a": ["stranger"], "b": [], "c": ["cared-for"], "d": ["cared-for", "stranger"], "e": ["dissenting"]}
    made = {
        name: council.post("/fhir/Group", json=group("x", *map(member, ids), meta=SORTED, **MANAGED)).json()["id"]
        for name, ids in listed.items()
    }
    names = {id: name for name, id in made.items()}

    def order(client: httpx.Client, sort: str) -> list[str]:
        return [names[id] for id in in_order(client, f"Group?_tag=sorted&_sort={sort}")]

    by_id = sorted(made, key=lambda name: made[name])
    first, last, nobody = ([each for each in by_id if each in some] for some in ("cd", "ad", "abe"))
    assert order(council, "member") == [*first, "e", "a", "b"]
    assert order(council, "-member") == [*last, "e", "c", "b"]
    assert order(provider, "member") == order(provider, "-member") == [*first, *nobody]
    for id in made.values():
        assert council.delete(f"/fhir/Group/{id}").status_code in (200, 204)


def test_the_council_alone_writes_lists(gateway: Gateway, council: httpx.Client, provider: httpx.Client) -> None:
    made = council.post("/fhir/Group", json=group("", member("stranger"), name="Made") | {"id": "x"})
    assert made.status_code == 201, made.text
    place = f"/fhir/Group/{made.json()['id']}"
    more = {**made.json(), "member": [member("stranger"), member("cared-for")]}
    changed = council.put(place, json=more, headers={"if-match": made.headers["etag"]})
    assert members(changed) == ["Patient/stranger", "Patient/cared-for"]
    with gateway.client(PORTAL) as portal:
        assert "council" in diagnostics(portal.post("/fhir/Group", json=group("x", member("stranger"))), 403)
    assert provider.post("/fhir/Group", json=group("x", member("cared-for"))).status_code == 403
    searches = "Patient?birthdate=1960-03-01&_has:Group:member:_id=frail", "EpisodeOfCare?organization.identifier=none"
    by_search = council.post("/fhir/Group", json=defined("x", searches[0]))
    by_surgery = council.post("/fhir/Group", json=defined("x", searches[1]))
    assert council.delete(f"/fhir/Group/{by_surgery.json()['id']}").status_code in (200, 204)
    assert exported(council, f"Group/{by_search.json()['id']}/$export?_type=Patient") == {"stranger"}
    for each in (place, f"/fhir/Group/{by_search.json()['id']}"):
        assert council.delete(each).status_code in (200, 204)
        assert council.get(each).status_code == 410


def test_a_list_that_names_somebody_who_is_gone_can_be_changed(council: httpx.Client) -> None:
    """The council's systems change what they see of it; whom they do not see, there or not, stays in it."""
    gone = council.post("/fhir/Patient", json=made("Patient", "x")).json()["id"]
    sent = group("x", member("stranger"), member(gone), name="Before", quantity=2)
    id = council.post("/fhir/Group", json=sent).json()["id"]
    assert council.delete(f"/fhir/Patient/{gone}").status_code in (200, 204)
    seen = council.get(f"/fhir/Group/{id}")
    assert members(seen) == ["Patient/stranger"]
    again = council.put(f"/fhir/Group/{id}", json=seen.json(), headers={"if-match": seen.headers["etag"]})
    assert (again.status_code, again.headers["etag"]) == (200, seen.headers["etag"])  # it says what is there
    more = {**seen.json(), "name": "After", "member": [member("cared-for"), member("stranger")]}
    changed = council.put(f"/fhir/Group/{id}", json=more, headers={"if-match": seen.headers["etag"]})
    assert members(changed) == ["Patient/cared-for", "Patient/stranger"] == members(council.get(f"/fhir/Group/{id}"))
    assert gone not in changed.text
    fewer = [{"op": "remove", "path": "/member/0"}]
    patched = {"content-type": "application/json-patch+json", "if-match": "*"}
    assert members(council.patch(f"/fhir/Group/{id}", json=fewer, headers=patched)) == ["Patient/stranger"]
    assert council.put(f"/fhir/Patient/{gone}", json=made("Patient", gone), headers={"if-match": "*"}).status_code > 400
    assert council.delete(f"/fhir/Group/{id}").status_code in (200, 204)


def test_whom_the_writer_of_a_list_does_not_see_stays_in_it(gateway: Gateway, council: httpx.Client) -> None:
    safeguarding = {"security": [{"system": "https://fhirgw.uk/fhir/CodeSystem/record-class", "code": "safeguarding"}]}
    with gateway.client(CLEARED) as cleared:
        hidden = cleared.post("/fhir/Patient", json=made("Patient", "x", meta=safeguarding)).json()["id"]
        id = cleared.post("/fhir/Group", json=group("x", member("stranger"), member(hidden))).json()["id"]
        seen = council.get(f"/fhir/Group/{id}")
        assert members(seen) == ["Patient/stranger"]
        more = {**seen.json(), "member": [member("cared-for")]}
        changed = council.put(f"/fhir/Group/{id}", json=more, headers={"if-match": "*"})
        assert members(changed) == ["Patient/cared-for"]
        assert members(cleared.get(f"/fhir/Group/{id}")) == ["Patient/cared-for", f"Patient/{hidden}"]
        assert cleared.delete(f"/fhir/Group/{id}").status_code in (200, 204)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (group("x", {"entity": {"identifier": {"system": "urn:s", "value": "9000000009"}}}), "A member is a reference"),
        (group("x", {"entity": {"reference": "https://elsewhere.example/fhir/Patient/1"}}), "A member is a reference"),
        (group("x", {"entity": {"reference": "Substance/1"}}), "A member is a reference"),
        (defined("x", "Observation?colour=red"), "member-filter: "),
        (defined("x", "Observation?_sort=date"), "member-filter: "),
        (defined("x", "Organization?name=x"), "A member-filter is of Patient"),
        (defined("x", "Patient"), "member-filter: "),
        (defined("x", "Patient?_id=stranger"), "A member-filter is of what people have in common, and _id says"),
        (defined("x", "Patient?identifier=9000000009"), "A member-filter is of what people have in common"),
        (defined("x", "Observation?patient=stranger"), "A member-filter is of what people have in common"),
        (
            defined("x", "Observation?subject:Patient.family:exact=B"),
            "A member-filter is of what people have in common",
        ),
        (defined("x", "Patient?_has:Observation:subject:_id=w"), "A member-filter is of what people have in common"),
    ],
)
def test_a_list_that_nobody_could_resolve_is_refused(council: httpx.Client, wrong: dict[str, Any], told: str) -> None:
    assert diagnostics(council.post("/fhir/Group", json=wrong), 422).startswith(told)


def test_an_export_of_a_groups_members(gateway: Gateway, council: httpx.Client, provider: httpx.Client) -> None:
    people = "Group/frail/$export?_type=Patient,Observation"
    every = {"cared-for", "dissenting", "stranger"}
    assert exported(council, people) == every | {f"weight-{each}" for each in every}
    shown = every - {"dissenting"}
    assert exported(gateway.http, people) == shown | {f"weight-{each}" for each in shown}
    assert exported(provider, people) == {"cared-for"}  # a provider sees no observations
    whole = manifest(provider, kick_off(provider, "Group/frail/$export"))["output"]
    assert [each["type"] for each in whole] == ["EpisodeOfCare", "Patient"]
    assert manifest(council, kick_off(council, "Group/nobody/$export"))["output"] == []


def table(client: httpx.Client, path: str) -> dict[str, set[str]]:
    """The ids in each file of CSV, by its name."""
    files = manifest(client, kick_off(client, path))["output"]
    texts = {each["url"].rpartition("/")[2]: client.get(each["url"]).text for each in files}
    return {name: {row["id"] for row in csv.DictReader(io.StringIO(text))} for name, text in texts.items()}


def test_tables_of_a_groups_members(gateway: Gateway, council: httpx.Client, provider: httpx.Client) -> None:
    every, as_csv = {"cared-for", "dissenting", "stranger"}, "_outputFormat=text/csv&_view=people,observations"
    weights = {f"weight-{each}" for each in every}
    assert table(council, f"Group/frail/$export?{as_csv}") == {"people.csv": every, "observations.csv": weights}
    shown = table(gateway.http, f"Group/frail/$export?{as_csv}")
    assert shown == {
        "people.csv": every - {"dissenting"},
        "observations.csv": weights - {"weight-dissenting"},
    }
    assert table(provider, f"Group/frail/$export?{as_csv}") == {"people.csv": {"cared-for"}}
    assert table(council, f"Group/weighed/$export?{as_csv}")["people.csv"] == {"cared-for", "stranger"}


def test_an_export_of_who_meets_a_definition(council: httpx.Client, provider: httpx.Client) -> None:
    assert exported(council, "Group/weighed/$export?_type=Patient") == {"cared-for", "stranger"}
    assert exported(council, "Group/either/$export?_type=Patient") == {"cared-for", "stranger"}
    assert exported(provider, "Group/weighed/$export?_type=Patient") == set()  # whose weights it does not see
    assert diagnostics(kick_off(council, "Group/undefined/$export"), 400).startswith("This Group is a definition")


def test_a_group_that_is_hidden_is_not_there_to_export(gateway: Gateway, provider: httpx.Client) -> None:
    hidden, absent = (kick_off(provider, f"Group/{each}/$export") for each in ("strangers", "never"))
    assert hidden.status_code == absent.status_code == 404
    assert hidden.json()["issue"] == absent.json()["issue"]
    with gateway.client(NO_LISTS) as without:
        assert "No scope" in diagnostics(kick_off(without, "Group/frail/$export"), 403)
    with gateway.stranger() as stranger:
        assert stranger.get("/fhir/Group/frail/$export", headers=ASYNC).status_code == 401


def patient(id: str) -> tuple[str, Any]:
    return "patient", {"valueReference": {"reference": f"Patient/{id}"}}


def test_some_of_a_groups_members(gateway: Gateway, council: httpx.Client, provider: httpx.Client) -> None:
    kinds = ("_type", {"valueString": "Patient"})
    assert exported(council, "Group/frail/$export", kinds, patient("stranger")) == {"stranger"}
    assert exported(council, "Group/weighed/$export", kinds, patient("stranger")) == {"stranger"}
    refusals = [
        kick_off(council, "Group/frail/$export", patient("unlisted")),
        kick_off(council, "Group/weighed/$export", patient("unlisted")),
        kick_off(gateway.http, "Group/frail/$export", patient("dissenting")),
        kick_off(provider, "Group/frail/$export", patient("stranger")),
        kick_off(council, "Group/frail/$export", patient("never")),
    ]
    assert {diagnostics(each, 400) for each in refusals} == {
        "patient: not all of these are patients whom this export may be of"
    }
    by_get = kick_off(council, "Group/frail/$export?patient=Patient/stranger")
    assert "POST" in diagnostics(by_get, 400)


def deletions(client: httpx.Client, path: str) -> set[str]:
    told = manifest(client, kick_off(client, path))
    gone = lines(client, told["deleted"])
    assert {(each["resourceType"], each["type"]) for each in gone} <= {("Bundle", "transaction")}
    entries = [each["request"] for bundle in gone for each in bundle["entry"]]
    assert {each["method"] for each in entries} <= {"DELETE"}
    found = {each["url"] for each in entries}
    shown = {f"{each['resourceType']}/{each['id']}" for each in lines(client, told["output"])}
    assert not found & shown
    return found


def test_who_has_become_hidden_is_among_the_deletions(
    gateway: Gateway, council: httpx.Client, provider: httpx.Client
) -> None:
    since = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    asked = f"$export?_type=Patient,Observation&_since={since}"
    paths = [asked, f"Group/frail/{asked}", f"Group/either/{asked}"]
    assert deletions(gateway.http, asked) == set()
    stranger = {"reference": "Patient/stranger"}
    by_person = {**dissent(), "patient": stranger, "performer": [stranger]}
    made = council.post("/fhir/Consent", json=by_person)
    assert made.status_code == 201, made.text
    theirs = {"Patient/stranger", "Observation/weight-stranger"}
    assert [deletions(gateway.http, each) for each in paths] == [theirs] * 3
    assert deletions(gateway.http, f"Group/frail/$export?_since={since}&_type=Patient") == {"Patient/stranger"}
    assert deletions(council, paths[0]) == set()  # the council sees them still
    assert deletions(provider, paths[0]) == set()  # a provider never saw them
    later = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert deletions(gateway.http, asked.replace(since, later)) == set()
    assert council.delete(f"/fhir/Consent/{made.json()['id']}").status_code in (200, 204)


def test_who_became_hidden_before_anybody_could_have_a_copy_is_not_told(
    gateway: Gateway, council: httpx.Client
) -> None:
    """Two providers look after somebody who then dissents; one of them has no application here until later."""
    made = []

    def create(kind: str, **elements: Any) -> str:
        answer = council.post(f"/fhir/{kind}", json={"resourceType": kind, **elements})
        assert answer.status_code == 201, answer.text
        made.append(f"{kind}/{answer.json()['id']}")
        return made[-1]

    stranger, codes = {"reference": "Patient/stranger"}, ("N01", "N02")
    for code in codes:
        system = "https://fhir.nhs.uk/Id/ods-organization-code"
        organisation = create("Organization", name=code, identifier=[{"system": system, "value": code}])
        care = {"managingOrganization": {"reference": organisation}}
        create("EpisodeOfCare", status="active", patient=stranger, period={"start": "2026-01-01"}, **care)
    old, new = (Registration(f"care-{each}", each, "system/*.rs", rate=1_000_000) for each in codes)
    with gateway.client(old) as before:
        assert before.get("/fhir/Patient/stranger").status_code == 200
        since = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        create("Consent", **{**dissent(), "patient": stranger, "performer": [stranger]})
        assert before.get("/fhir/Patient/stranger").status_code == 404
        with gateway.client(new) as later, gateway.client(replace(old, id="care-again")) as again:
            told = [deletions(each, f"$export?_type=Patient&_since={since}") for each in (before, later, again)]
    # Another application of the same organisation may have taken the copy over.
    assert told == [{"Patient/stranger"}, set(), {"Patient/stranger"}]
    for each in reversed(made):
        assert council.delete(f"/fhir/{each}").status_code in (200, 204)


def test_a_list_without_its_hidden_members_is_as_if_there_were_none(
    council: httpx.Client, provider: httpx.Client
) -> None:
    """Digit for digit and in the same order: what is left out leaves no trace."""
    elements: dict[str, Any] = {"name": "Twins", **MANAGED}
    value = {"code": {"text": "Weight"}, "valueQuantity": {"value": 1.0}, "exclude": False}
    bodies = [
        {**group("x", *listed), **elements, "characteristic": [value]}
        for listed in ([member("stranger"), member("cared-for"), member("dissenting")], [member("cared-for")])
    ]
    texts = [orjson.dumps(each).replace(b'"value":1.0', b'"value":1.10') for each in bodies]
    sent = {"content-type": "application/fhir+json"}
    made = [council.post("/fhir/Group", content=each, headers=sent) for each in texts]
    assert [each.status_code for each in made] == [201, 201], made[0].text
    ids = [each.json()["id"] for each in made]
    served = [provider.get(f"/fhir/Group/{id}").text for id in ids]
    assert all('"value":1.10' in each for each in served)
    bare = []
    for text, answer in zip(served, made, strict=True):
        stamps = (answer.json()["id"], answer.json()["meta"]["lastUpdated"])
        for stamp in stamps:
            text = text.replace(stamp, "…")
        bare.append(text)
    assert bare[0] == bare[1]
    changed = provider.put(f"/fhir/Group/{ids[0]}", content=served[0], headers={**sent, "if-match": "*"})
    assert changed.status_code == 403
    for id in ids:
        assert council.delete(f"/fhir/Group/{id}").status_code in (200, 204)
