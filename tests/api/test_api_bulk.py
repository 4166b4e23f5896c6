"""Bulk export over HTTP, as https://hl7.org/fhir/uv/bulkdata/export.html has it: journeys of a whole export."""

import hashlib
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx
import orjson
import pytest

from fhirgw.fhir.canonical import encode
from tests.api.conftest import OBSERVATIONS, OTHERS, PERSON
from tests.gateway import Gateway
from tests.put import stamped

PLAIN = {"accept-encoding": "identity"}
ASYNC = {"prefer": "respond-async", "accept": "application/fhir+json"}


def kick_off(gateway: Gateway, path: str = "$export", headers: dict[str, str] = ASYNC) -> httpx.Response:
    return gateway.http.get(f"/fhir/{path}", headers=headers)


def polled(gateway: Gateway, address: str) -> httpx.Response:
    for _ in range(2400):
        answer = gateway.http.get(address)
        if answer.status_code not in (202, 429):  # a machine that is busy is asked often
            return answer
        time.sleep(0.05)
    pytest.fail("the export did not end")


def issue(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status
    assert answer.headers["content-type"].startswith("application/fhir+json")
    (found,) = answer.json()["issue"]
    return f"{found['code']}: {found['diagnostics']}"


def test_a_whole_export(gateway: Gateway) -> None:
    asked = kick_off(gateway, "$export?_type=Patient,Observation&_type=Goal&_outputFormat=application/fhir+ndjson")
    assert (asked.status_code, asked.content) == (202, b"")
    address = asked.headers["content-location"]
    assert address.startswith(f"{gateway.base}/$export-status/")
    first = gateway.http.get(address)
    assert first.status_code == 202
    assert int(first.headers["retry-after"]) >= 1
    assert "resources" in first.headers["x-progress"]
    assert first.headers["cache-control"] == "private, no-cache"
    done = polled(gateway, address)
    assert (done.status_code, done.headers["content-type"]) == (200, "application/json")
    assert parsedate_to_datetime(done.headers["expires"]) > datetime.now(UTC) + timedelta(hours=23)
    assert done.headers["cache-control"] == "private, no-cache"
    manifest = done.json()
    assert datetime.fromisoformat(manifest["transactionTime"]) <= datetime.now(UTC)
    assert manifest["request"] == (
        f"{gateway.base}/$export?_type=Patient,Observation&_type=Goal&_outputFormat=application/fhir+ndjson"
    )
    assert (manifest["requiresAccessToken"], manifest["error"]) == (True, [])
    assert [(each["type"], each["count"]) for each in manifest["output"]] == [("Observation", 7), ("Patient", 21)]
    files = {each["type"]: gateway.http.get(each["url"]) for each in manifest["output"]}
    assert {each.headers["content-type"] for each in files.values()} == {"application/fhir+ndjson"}
    assert set(files["Patient"].content.splitlines()) == {encode(stamped(each)) for each in (PERSON, *OTHERS)}
    assert set(files["Observation"].content.splitlines()) == {encode(stamped(each)) for each in OBSERVATIONS}


@pytest.mark.parametrize(
    ("form", "media"),
    [("text/csv", "text/csv; charset=utf-8; header=present"), ("parquet", "application/vnd.apache.parquet")],
)
def test_a_table(gateway: Gateway, form: str, media: str) -> None:
    asked = kick_off(gateway, f"$export?_outputFormat={form}&_view=people")
    manifest = polled(gateway, asked.headers["content-location"]).json()
    (told,) = manifest["output"]
    assert (told["type"], told["count"]) == ("Patient", 21)
    assert told["extension"] == {"view": "https://fhirgw.uk/fhir/ViewDefinition/people"}
    whole = gateway.http.get(told["url"], headers=PLAIN)
    assert whole.headers["content-type"] == media
    assert whole.headers["etag"] == f'"{hashlib.sha256(whole.content).hexdigest()}"'
    named = gateway.http.get(told["url"], headers={**PLAIN, "accept": media})
    assert (named.status_code, named.content) == (200, whole.content)
    piece = gateway.http.get(told["url"], headers={**PLAIN, "range": "bytes=2-9"})
    assert (piece.status_code, piece.content) == (206, whole.content[2:10])
    known = gateway.http.get(told["url"], headers={**PLAIN, "if-none-match": whole.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    assert gateway.http.get(told["url"], headers={**PLAIN, "if-none-match": "*"}).status_code == 304
    assert b",1950-03-01," in whole.content if form == "text/csv" else whole.content.endswith(b"PAR1")


def test_a_file_is_given_to_who_calls_its_form_by_any_of_its_names(gateway: Gateway) -> None:
    manifest = polled(gateway, kick_off(gateway, "$export?_type=Goal,Patient").headers["content-location"]).json()
    url = manifest["output"][0]["url"]
    taken = ("application/fhir+ndjson", "application/ndjson", "application/x-ndjson", "application/octet-stream")
    answers = [gateway.http.get(url, headers={"accept": each}) for each in taken]
    assert {(each.status_code, each.headers["content-type"]) for each in answers} == {(200, "application/fhir+ndjson")}
    assert issue(gateway.http.get(url, headers={"accept": "application/fhir+xml"}), 406).startswith(
        "not-supported: Only"
    )


def test_a_file_is_fetched_in_pieces(gateway: Gateway) -> None:
    manifest = polled(gateway, kick_off(gateway, "$export?_type=Patient").headers["content-location"]).json()
    url = manifest["output"][0]["url"]
    whole = gateway.http.get(url, headers={**PLAIN, "accept": "application/fhir+ndjson"})
    piece = gateway.http.get(url, headers={**PLAIN, "range": "bytes=5-9", "if-range": whole.headers["etag"]})
    assert (piece.status_code, piece.content) == (206, whole.content[5:10])
    assert len(whole.headers["etag"]) == 66


def test_an_export_of_patients_has_nothing_that_is_nobodys(gateway: Gateway) -> None:
    manifest = polled(gateway, kick_off(gateway, "Patient/$export").headers["content-location"]).json()
    assert [each["type"] for each in manifest["output"]] == ["Observation", "Patient"]
    everything = polled(gateway, kick_off(gateway).headers["content-location"]).json()
    assert [each["type"] for each in everything["output"]] == ["Observation", "Organization", "Patient"]


def test_only_what_changed_since(gateway: Gateway) -> None:
    asked = kick_off(gateway, "$export?_since=2026-01-15T00:00:00+00:00")
    manifest = polled(gateway, asked.headers["content-location"]).json()
    (found,) = manifest["output"]
    assert [orjson.loads(line)["id"] for line in gateway.http.get(found["url"]).content.splitlines()] == ["changed"]
    since = manifest["transactionTime"]
    later = polled(gateway, kick_off(gateway, f"$export?_since={since}").headers["content-location"]).json()
    assert later["output"] == []


def test_deleted_it_is_gone_with_its_files(gateway: Gateway) -> None:
    address = kick_off(gateway).headers["content-location"]
    url = polled(gateway, address).json()["output"][0]["url"]
    assert gateway.http.get(url).status_code == 200
    assert gateway.http.delete(address).status_code == 202
    for gone in (gateway.http.get(address), gateway.http.delete(address), gateway.http.get(url)):
        assert issue(gone, 404) == "not-found: There is no such export"


def test_nobody_has_asked_for_it(gateway: Gateway) -> None:
    never = gateway.http.get("/fhir/$export-status/0123456789abcdef0123456789abcdef")
    assert issue(never, 404) == "not-found: There is no such export"
    done = kick_off(gateway).headers["content-location"]
    polled(gateway, done)
    for name in ("Nothing.ndjson", "manifest.json", ".lock"):
        answer = gateway.http.get(f"{done.replace('status', 'file')}/{name}")
        assert issue(answer, 404) == "not-found: There is no such export"


@pytest.mark.parametrize("path", ["$export-status/%00", "$export-file/%00/x", "$export-file/" + "0" * 32 + "/%00"])
def test_what_can_be_no_job_is_not_there(gateway: Gateway, path: str) -> None:
    assert issue(gateway.http.get(f"/fhir/{path}"), 404) == "not-found: There is no such export"


@pytest.mark.parametrize("path", ["$export", "Patient/$export"])
def test_only_a_get_starts_an_export(gateway: Gateway, path: str) -> None:
    answer = gateway.http.head(f"/fhir/{path}", headers=ASYNC)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, OPTIONS, POST")
    assert "content-location" not in answer.headers


@pytest.mark.parametrize(
    "prefer", ["respond-async", "handling=lenient,respond-async", "Respond-Async , handling=strict"]
)
def test_the_header_is_read_as_a_list(gateway: Gateway, prefer: str) -> None:
    answer = kick_off(gateway, headers={**ASYNC, "prefer": prefer})
    assert answer.status_code == 202
    polled(gateway, answer.headers["content-location"])


REFUSED = {
    "$export?_typo=Patient": "not-supported: The parameter '_typo' is not supported: did you mean _type?",
    "$export?organizeOutputBy=Patient": "not-supported: organizeOutputBy: ask at [base]/Patient/$export or a Group's",
    "Patient/$export?organizeOutputBy=Encounter": "not-supported: organizeOutputBy: output is organised by Patient",
    "Patient/$export?organizeOutputBy=Patient&organizeOutputBy=Patient": "invalid: The parameter organizeOutputBy may",
    "Patient/$export?organizeOutputBy=Patient&includeAssociatedData=LatestProvenanceResources": "invalid: includeAsso",
    "$export?includeAssociatedData=LatestProvenance": "not-supported: includeAssociatedData: 'LatestProvenance' is not"
    " supported: did you mean LatestProvenanceResources?",
    "$export?includeAssociatedData=_custom": "not-supported: includeAssociatedData: '_custom' is not supported: there",
    "$export?allowPartialManifests=yes": "invalid: allowPartialManifests: this is true or false",
    "$export?nothing=x": "not-supported: The parameter 'nothing' is not supported: supported here: _elements, ",
    "$export?patient=Patient/p1": "not-supported: The parameter patient is for a POST of Parameters",
    "$export?_elements=Patient.birthdate": "invalid: _elements names top-level elements of the type",
    "$export?_until=2026-01-01": "invalid: _until: an instant with a time zone is needed",
    "$export?_since=2026-01-02T00:00:00Z&_until=2026-01-01T00:00:00Z": "invalid: _until: this moment is not after",
    "$export?_typeFilter=Observation": "invalid: _typeFilter: each is a type the gateway holds and a search of it",
    "$export?_typeFilter=Observation?code:in=http://x": "not-found: code:in: This ValueSet is not carried here",
    "$export?_typeFilter=Observation?_sort=date": "invalid: _typeFilter: _sort is about the answer of a search",
    "$export?_typeFilter=Observation?colour=x": "invalid: _typeFilter: Observation has no search parameter colour",
    "$export?_type=Goal&_typeFilter=Observation?status=final": "invalid: _typeFilter: Observation is not among",
    "$export?_type=Patiant": "not-supported: _type: 'Patiant' is no type this gateway holds: did you mean Patient?",
    "$export?_type=": "not-supported: _type: '' is no type this gateway holds",
    "$export?_outputFormat=text/html": "not-supported: _outputFormat: there are application/fhir+ndjson, ",
    "$export?_view=people": "invalid: _view: views are written as text/csv or application/vnd.apache.parquet",
    "$export?_outputFormat=csv&_view=poeple": "not-supported: There is no view 'poeple': assessments, care_technology",
    "$export?_outputFormat=csv&_view=people&_type=Task": "not-supported: No view of those asked for is of Task",
    "$export?_outputFormat=csv&_type=Organization": "not-supported: No view is of Organization: ask for it as NDJSON",
    "$export?_outputFormat=csv&_elements=id": "invalid: _elements: a view has the columns it has",
    "Patient/$export?_outputFormat=csv&organizeOutputBy=Patient": "invalid: organizeOutputBy: a table has no blocks",
    "Patient/$export?_outputFormat=parquet&organizeOutputBy=Patient": "invalid: organizeOutputBy: a table has no",
    "$export?_pseudonymise=falls&_typeFilter=Patient?identifier=9000000009": "invalid: _typeFilter: identifier"
    " asks more of Patient than is shown of it with pseudonyms, and would tell people: ask by ",
    "$export?_pseudonymise=falls&_typeFilter=Task?patient=p1": "invalid: _typeFilter: patient asks more of Task than",
    "$export?_pseudonymise=falls&_typeFilter=Patient?gender=male%26birthdate=1950": "invalid: _typeFilter: birthdate",
    "$export?_pseudonymise=falls&_until=2026-01-01T00:00:00Z": "invalid: _until: with pseudonyms it would tell when",
    "$export?_pseudonymise=falls&_typeFilter=Observation?subject:Patient.name=x": "invalid: _typeFilter: subject:Pati",
    "Patient/$export?_pseudonymise=falls&organizeOutputBy=Patient": "invalid: organizeOutputBy: a pseudonymised export"
    " comes by type",
    "$export?_outputFormat=csv&includeAssociatedData=LatestProvenanceResources": "invalid: includeAssociatedData: no"
    " view is of Provenance",
    "$export?_outputFormat=parquet&includeAssociatedData=RelevantProvenanceResources": "invalid: includeAssociatedData:"
    " no view is of Provenance",
    "$export?_pseudonymise=falls&includeAssociatedData=LatestProvenanceResources": "invalid: includeAssociatedData:"
    " there are no rules to pseudonymise Provenance by",
    "$export?_type=AuditEvent": "not-supported: _type: AuditEvent is not exported: search it",
    "Patient/$export?_type=Group": "not-supported: _type: Group is in nobody's record: ask for it at [base]/$export",
    "$export?_since=2026-01-01": "invalid: _since: an instant with a time zone is needed",
    "$export?_since=2026-02-30T00:00:00Z": "invalid: _since: there is no such moment",
    "$export?_since=0001-01-01T00:00:00%2B14:00": "invalid: _since: there is no such moment",
    "$export?_until=9999-12-31T23:59:59-14:00": "invalid: _until: there is no such moment",
    "$export?_elements=nonsense": "invalid: _elements: 'nonsense' is an element of no type this gateway holds",
    "$export?_since=2099-01-01T00:00:00Z": "invalid: _since: this moment is still to come",
    "$export?_since=2026-01-01T00:00:00Z&_since=2026-01-02T00:00:00Z": "invalid: The parameter _since may be given",
    "Patient/$export?_type=Organization": "not-supported: _type: Organization is in nobody's record: ask for it at",
}


@pytest.mark.parametrize("path", REFUSED)
def test_what_is_not_understood_is_refused(gateway: Gateway, path: str) -> None:
    assert issue(kick_off(gateway, path), 400).startswith(REFUSED[path])


def test_pseudonyms_are_for_research_and_planning(gateway: Gateway) -> None:
    refused = issue(kick_off(gateway, "$export?_pseudonymise=falls&_type=Patient"), 403)
    assert refused == "forbidden: Pseudonymised exports are for planning and research alone"


def test_the_headers_are_needed(gateway: Gateway) -> None:
    assert issue(kick_off(gateway, headers={}), 400).startswith("invalid: Prefer: respond-async is needed")
    bare = gateway.http.build_request("GET", "/fhir/$export", headers={"prefer": "respond-async"})
    del bare.headers["accept"]
    assert issue(gateway.http.send(bare), 400).startswith("invalid: Accept: application/fhir+json is needed")


@pytest.mark.parametrize("prefer", ["respond-async;wait=10", 'Respond-Async ; a="b", handling = "lenient"'])
def test_preferences_may_have_parameters(gateway: Gateway, prefer: str) -> None:
    """https://www.rfc-editor.org/rfc/rfc7240#section-2"""
    path = "$export?_type=Goal" + ("&colour=x" if "lenient" in prefer else "")
    answer = kick_off(gateway, path, headers=ASYNC | {"prefer": prefer})
    assert answer.status_code == 202, answer.text
    assert gateway.http.delete(answer.headers["content-location"]).status_code == 202
