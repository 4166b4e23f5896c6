"""`fhirgw load`: what is taken from NDJSON and found by searches, what is refused and how that is told, and twice."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import time
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhirgw.settings import Settings
from fhirgw.store.registration import Registration
from tests.api.test_api_dissent import dissent
from tests.cli.conftest import Command, Ended, started
from tests.gateway import serving
from tests.put import connected, put

Resource = dict[str, Any]
TABLES = ("resource", "history", "search_string", "search_number", "search_span", "identifier", "lineage", "change")
ANN: Resource = {
    "resourceType": "Patient",
    "id": "ann",
    "identifier": [{"system": "https://fhir.nhs.uk/Id/nhs-number", "value": "9990000018"}],
    "name": [{"family": "Quillfeather"}],
}
WEIGHT = (
    '{"status":"final","resourceType":"Observation","id":"w1","code":{"text":"Weight"},'
    '"subject":{"reference":"Patient/ann"},"valueQuantity":{"value":71.10,"unit":"kg"}}'
)
SAFE = "Quillfeather", "9990000018", "71.10"
"""What no message may tell."""


def line(resource: Resource) -> bytes:
    return json.dumps(resource).encode() + b"\n"


def flag(id: str, person: str = "ann", **more: Any) -> Resource:
    subject = {"reference": f"Patient/{person}"}
    return {"resourceType": "Flag", "id": id, "status": "active", "code": {"text": "x"}, "subject": subject, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files: the first refers to what comes in the second, which is packed."""
    made = tmp_path / "in"
    made.mkdir()
    (made / "Observation.ndjson").write_text(WEIGHT + "\n")
    (made / "Patient.ndjson.gz").write_bytes(gzip.compress(line(ANN)))
    return made


def kept(url: str, *tables: str) -> list[Any]:
    """What is in the tables."""

    async def asked() -> list[Any]:
        connection = await connected(url)
        try:
            names = tables or TABLES
            return [list(map(tuple, await connection.fetch(f"SELECT * FROM fhirgw.{name}"))) for name in names]
        finally:
            await connection.close()

    return [sorted(rows, key=str) for rows in asyncio.run(asked())]


def column(url: str, query: str) -> list[Any]:
    async def asked() -> list[Any]:
        connection = await connected(url)
        try:
            return [row[0] for row in await connection.fetch(query)]
        finally:
            await connection.close()

    return asyncio.run(asked())


def counts(ended: Ended) -> list[tuple[int, ...]]:
    """Created, updated, unchanged, refused and references to nowhere, file by file."""
    names = ("created", "updated", "unchanged", "refused", "nowhere")
    return [tuple(each[name] for name in names) for each in json.loads(ended.out)["files"]]


def errors(tmp_path: Path) -> list[tuple[str, str, str]]:
    """Severity, code and words of each issue that was told, and whether any of it is somebody's."""
    text = (tmp_path / "data" / "errors" / "load.ndjson").read_text()
    assert not [each for each in SAFE if each in text]
    told = [json.loads(each) for each in text.splitlines()]
    assert all(each["resourceType"] == "OperationOutcome" for each in told)
    return [(i["severity"], i["code"], i["diagnostics"]) for each in told for i in each["issue"]]


def test_what_is_loaded_is_served_as_it_was_and_found(command: Command, database: str, folder: Path) -> None:
    ended = command("load", str(folder), "--json", FHIRGW_DATABASE_URL=database, FHIRGW_CONTROLLER="Z99")
    assert (ended.code, counts(ended)) == (0, [(1, 0, 0, 0, 0)] * 2)
    with serving(Settings(database_url=database, controller="Z99")) as gateway:
        served = gateway.http.get("/fhir/Observation/w1").text
        assert '"value":71.10,' in served
        found = json.loads(served, parse_float=Decimal)
        assert found.pop("meta")["versionId"] == "1"
        assert found == json.loads(WEIGHT, parse_float=Decimal)
        for query in ("Observation?subject=Patient/ann", "Patient?family=quill", "Observation?value-quantity=71.1"):
            assert _ids(gateway.http, query) == ["ann" if query.startswith("P") else "w1"], query
        assert _ids(gateway.http, "Observation?value-quantity=71.2") == []
    assert column(database, "SELECT DISTINCT origin FROM fhirgw.resource") == ["load:files"]
    events = [json.loads(body) for body in column(database, "SELECT body FROM fhirgw.audited")]
    assert ["import" in json.dumps(each) for each in events].count(True) == 1


def _ids(http: httpx.Client, query: str) -> list[str]:
    bundle = http.get(f"/fhir/{query}").json()
    return [each["resource"]["id"] for each in bundle["entry"] if each["search"]["mode"] == "match"]


def test_loaded_again_it_writes_nothing(command: Command, database: str, folder: Path) -> None:
    first = command("load", str(folder), "--json", FHIRGW_DATABASE_URL=database)
    before = kept(database)
    again = command("load", str(folder), "--json", FHIRGW_DATABASE_URL=database)
    assert (counts(first), counts(again)) == ([(1, 0, 0, 0, 0)] * 2, [(0, 0, 1, 0, 0)] * 2)
    spelt = json.dumps(json.loads(WEIGHT, parse_float=str), indent=None).replace('"71.10"', "71.10")
    (folder / "Observation.ndjson").write_text(spelt + "\n")  # the same, spelt with other blanks
    other = command("load", str(folder), "--json", FHIRGW_DATABASE_URL=database)
    assert counts(other) == [(0, 0, 1, 0, 0)] * 2
    after = kept(database)
    assert after[:6] == before[:6]
    assert after[7] == before[7]
    assert kept(database, "import_job", "import_input", "import_error", "import_reference") == [[], [], [], []]


def test_a_line_that_changed_is_a_new_version(command: Command, database: str, folder: Path) -> None:
    command("load", str(folder), FHIRGW_DATABASE_URL=database)
    other = {**ANN, "name": [{"family": "Other"}]}
    (folder / "Patient.ndjson.gz").write_bytes(gzip.compress(line(other)))
    ended = command("load", str(folder), "--json", FHIRGW_DATABASE_URL=database)
    assert counts(ended) == [(0, 0, 1, 0, 0), (0, 1, 0, 0, 0)]
    (body,) = column(database, "SELECT body FROM fhirgw.resource WHERE type = 'Patient'")
    assert (json.loads(body)["name"], json.loads(body)["meta"]["versionId"]) == (other["name"], "2")
    assert len(column(database, "SELECT body FROM fhirgw.history WHERE type = 'Patient'")) == 1


def test_the_first_line_about_a_resource_counts_and_again_nothing_is_written(
    command: Command, database: str, tmp_path: Path
) -> None:
    first, other = tmp_path / "a.ndjson", tmp_path / "b.ndjson"
    first.write_bytes(line(flag("f1")) + line(flag("f1", status="inactive")) + line(flag("f1")) + line(ANN))
    other.write_bytes(line(flag("f1", status="inactive")))
    ended = command("load", str(first), str(other), "--json", FHIRGW_DATABASE_URL=database)
    assert counts(ended) == [(2, 0, 1, 1, 0), (0, 0, 0, 1, 0)]
    assert {(code, words.partition(": ")[2][:29]) for _, code, words in errors(tmp_path)} == {
        ("duplicate", "It was written since this imp")
    }
    before = kept(database)
    again = command("load", str(first), str(other), "--json", FHIRGW_DATABASE_URL=database)
    assert counts(again) == [(0, 0, 3, 1, 0), (0, 0, 0, 1, 0)]
    assert kept(database)[:6] == before[:6]
    alone = command("load", str(other), "--json", FHIRGW_DATABASE_URL=database)
    assert counts(alone) == [(0, 1, 0, 0, 0)]  # in an import of its own it is the first


WRONG = [
    (b'{"resourceType":"Patient","id":"x","gender":"male\\u0000"}', "invalid", "control character (NUL, say)"),
    (b'{"resourceType":"Patient","id":"x","id":"y"}', "structure", "A property stands twice"),
    (b'{"resourceType":"Patient"', "structure", "The body is not JSON, or was broken off"),
    (b'{"a":' * 65 + b"1" + b"}" * 65, "structure", "The body is nested more than 64 deep"),
    (b'{"resourceType":"Patient",}', "structure", "The body is not JSON"),
    (b'{"resourceType":"Patient","id":"\xff"}', "structure", "invalid UTF-8"),
    (b'{"resourceType":"Patient"}', "required", "Each resource has an id"),
    (b'{"resourceType":"Patient","id":"x","gender":"odd"}', "code-invalid", ""),
    (b'{"resourceType":"Patient","id":"x","birthDate":"2001-02-30"}', "value", ""),
    (b'{"resourceType":"Patient","id":"x","meta":[]}', "structure", "An element has the wrong shape"),
    (b'{"resourceType":"Basic","id":"x"}', "not-supported", "No type that is taken here"),
    (b'{"resourceType":"AuditEvent","id":"x"}', "not-supported", "No type that is taken here"),
    (b'{"resourceType":["Patient"],"id":"x"}', "not-supported", "No type that is taken here"),
    (b"17", "structure", "not a JSON object"),
    (b'{"resourceType":"Patient","id":"x","multipleBirthInteger":1e99}', "value", "exponent"),
]
"""Lines that are refused, each with the code of its issue and what is said."""


def test_lines_that_are_wrong_are_told_and_the_others_are_taken(
    command: Command, database: str, tmp_path: Path
) -> None:
    file = tmp_path / "mixed.ndjson"
    file.write_bytes(line(ANN) + b"".join(text + b"\n" + line(flag(f"f{n}")) for n, (text, *_) in enumerate(WRONG)))
    ended = command("load", str(file), "--json", FHIRGW_DATABASE_URL=database)
    assert (ended.code, counts(ended)) == (0, [(1 + len(WRONG), 0, 0, len(WRONG), 0)])
    first = {words.partition(": ")[0]: (severity, code, words) for severity, code, words in reversed(errors(tmp_path))}
    assert [first[f"mixed.ndjson, line {2 + 2 * n}"][:2] for n in range(len(WRONG))] == [
        ("error", code) for _, code, _ in WRONG
    ]
    for n, (_, _, told) in enumerate(WRONG):
        assert told in first[f"mixed.ndjson, line {2 + 2 * n}"][2]


def test_a_file_that_breaks_off_loses_nothing_and_is_told(command: Command, database: str, tmp_path: Path) -> None:
    lines = [line(flag(f"f{n:04}")) for n in range(700)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.ndjson").write_bytes(line(ANN))
    cut = tmp_path / "in" / "b.ndjson.gz"
    cut.write_bytes(gzip.compress(b"".join(lines))[:-30])
    (tmp_path / "in" / "c.ndjson").write_bytes(line(flag("last")))
    (tmp_path / "in" / "d.ndjson").write_bytes(b"PAR1")
    ended = command("load", str(tmp_path / "in"), "--json", FHIRGW_DATABASE_URL=database)
    assert ended.code == 3
    taken = counts(ended)[1][0]
    assert counts(ended) == [(1, 0, 0, 0, 0), (taken, 0, 0, 0, 0), (1, 0, 0, 0, 0), (0, 0, 0, 0, 0)]
    assert 0 < taken < 700
    assert sorted(column(database, "SELECT id FROM fhirgw.resource WHERE type = 'Flag'")) == [
        *(f"f{n:04}" for n in range(taken)),
        "last",
    ]
    assert [words.partition(": ")[0] for _, _, words in errors(tmp_path)] == [
        f"b.ndjson.gz, line {taken + 1}",
        "d.ndjson, line 1",
    ]
    cut.write_bytes(gzip.compress(b"".join(lines)))
    (tmp_path / "in" / "d.ndjson").unlink()
    whole = command("load", str(tmp_path / "in"), "--json", FHIRGW_DATABASE_URL=database)
    assert (whole.code, counts(whole)[1]) == (0, (700 - taken, 0, taken, 0, 0))


def test_references_to_nowhere_are_kept_and_told_at_the_end(command: Command, database: str, tmp_path: Path) -> None:
    file = tmp_path / "a.ndjson"
    known = flag("f3", author={"reference": "Patient/f"})
    file.write_bytes(line(flag("f1", "nobody")) + line(flag("f2", "nobody")) + line(known) + line(ANN))
    ended = command("load", str(file), "--json", FHIRGW_DATABASE_URL=database)
    assert (ended.code, counts(ended)) == (0, [(4, 0, 0, 0, 2)])
    assert [
        (severity, code, words.partition(": It refers to a ")[::2]) for severity, code, words in errors(tmp_path)
    ] == [
        ("warning", "not-found", ("a.ndjson, line 1", _nowhere("nobody"))),
        ("warning", "not-found", ("a.ndjson, line 3", _nowhere("f"))),
    ]
    assert len(column(database, "SELECT id FROM fhirgw.resource WHERE type = 'Flag'")) == 3


def test_an_nhs_number_in_place_of_an_id_is_not_told(command: Command, database: str, tmp_path: Path) -> None:
    file = tmp_path / "a.ndjson"
    file.write_bytes(line(flag("f1", "9000000009")) + line(flag("f2", "9000000008")))
    command("load", str(file), FHIRGW_DATABASE_URL=database)
    one, other = (words.partition("Patient that is not here ")[2] for _, _, words in errors(tmp_path))
    assert one.startswith("(its id is an NHS number): it was taken")
    assert other.startswith("(id 9000000008): it was taken")  # which is none


def _nowhere(id: str) -> str:
    return f"Patient that is not here (id {id}): it was taken as it is; send that too, or correct the reference"


def test_what_others_brought_is_not_changed_by_a_load(command: Command, database: str, folder: Path) -> None:
    asyncio.run(put(database, {**ANN, "name": [{"family": "Brought by another"}]}))
    before = kept(database, "resource")[0]
    ended = command("load", str(folder / "Patient.ndjson.gz"), "--json", FHIRGW_DATABASE_URL=database)
    assert (ended.code, counts(ended)) == (0, [(0, 0, 0, 1, 0)])
    assert kept(database, "resource")[0] == before
    ours = command("load", str(folder), "--json", "--from", "x", FHIRGW_DATABASE_URL=database)
    assert counts(ours) == [(1, 0, 0, 0, 0), (0, 0, 0, 1, 0)]
    theirs = command("load", str(folder / "Observation.ndjson"), "--json", "--from", "y", FHIRGW_DATABASE_URL=database)
    assert counts(theirs) == [(0, 0, 1, 0, 0)]  # it says the same


def test_whose_records_are_loaded_is_said(command: Command, database: str, folder: Path) -> None:
    """Those of an organisation that is known to control records here: it has them, and the council has not."""
    given = {"FHIRGW_DATABASE_URL": database, "FHIRGW_OTHER_CONTROLLERS": "RX1 RAB"}
    for_rab = ("load", str(folder), "--controller", "RAB", "--json")
    unknown = command(*for_rab, FHIRGW_DATABASE_URL=database)
    assert (unknown.code, "FHIRGW_OTHER_CONTROLLERS names who does" in unknown.err) == (2, True)
    assert column(database, "SELECT count(*) FROM fhirgw.resource") == [0]
    assert counts(command(*for_rab, **given)) == [(1, 0, 0, 0, 0)] * 2
    assert column(database, "SELECT DISTINCT controller FROM fhirgw.resource") == ["RAB"]
    assert counts(command(*for_rab, **given)) == [(0, 0, 1, 0, 0)] * 2
    (folder / "Observation.ndjson").write_text(WEIGHT.replace("71.10", "72.0") + "\n")
    ours = command("load", str(folder), "--json", **given)
    assert counts(ours) == [(0, 0, 0, 1, 0), (0, 0, 1, 0, 0)]  # what is another's stays it, and as it is
    assert column(database, "SELECT DISTINCT controller FROM fhirgw.resource") == ["RAB"]
    assert counts(command(*for_rab, **given)) == [(0, 1, 0, 0, 0), (0, 0, 1, 0, 0)]
    organisations = [Registration(f"of-{code}", code, "system/*.rs") for code in ("RAB", "RX1", "Z99")]
    for others, seen in (("RX1 RAB", [200, 404, 404]), ("RX1", [404, 404, 404])):
        with serving(Settings(database_url=database, controller="Z99", other_controllers=others)) as gateway:
            for each, status in zip(organisations, seen, strict=True):
                with gateway.client(each) as client:
                    assert client.get("/fhir/Patient/ann").status_code == status, (others, each.id)


def deciding(person: str) -> list[Resource]:
    """What decides who sees a person's record, and who is a member of staff."""
    of = {"reference": f"Patient/{person}"}
    safeguarding = {"system": "https://fhirgw.uk/fhir/CodeSystem/record-class", "code": "safeguarding"}
    organisation = {"reference": f"Organization/org-{person}"}
    return [
        {"resourceType": "EpisodeOfCare", "id": "e", "status": "active", "patient": of}
        | {"managingOrganization": {"reference": "Organization/theirs"}},
        {**dissent(), "id": "c", "patient": of, "performer": [of]},
        flag("f", person, meta={"security": [safeguarding]}),
        {"resourceType": "PractitionerRole", "id": "r", "practitioner": {"reference": "Practitioner/theirs"}}
        | {"organization": organisation},
    ]


def test_a_load_decides_who_sees_its_own_people_alone(command: Command, database: str, tmp_path: Path) -> None:
    """Another server's files open no record of ours, of who is here or is to come, to whoever runs that server."""
    ours = [{**ANN, "id": "ours", "identifier": []}, {"resourceType": "Organization", "id": "org-ours", "name": "x"}]
    asyncio.run(put(database, *ours))
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "A.ndjson").write_bytes(line({"resourceType": "Organization", "id": "org-ann", "name": "x"}))
    (theirs / "Patient.ndjson").write_bytes(line(ANN))
    opening = "forbidden", "It decides who may see a record of somebody whom others brought, or nobody yet"
    for person, refused in (("ours", 4), ("to-come", 3), ("ann", 0)):
        (theirs / "B.ndjson").write_bytes(b"".join(map(line, [*deciding(person), flag("g", person)])))
        ended = command("load", str(theirs), "--json", "--from", "them", FHIRGW_DATABASE_URL=database)
        told = [(code, text.partition(": ")[2]) for severity, code, text in errors(tmp_path) if severity == "error"]
        assert [each[3] for each in counts(ended)] == [0, refused, 0]
        assert [(code, text[: len(opening[1])]) for code, text in told[:3]] == [opening] * min(refused, 3)
        assert ["member of staff" in text for _, text in told[3:]] == [True] * (refused - 3)
        ties = column(database, "SELECT person FROM fhirgw.relationship WHERE party = 'Organization/theirs'")
        assert ties == (["ann"] if person == "ann" else [])
        asyncio.run(_forget(database, "EpisodeOfCare", "Consent", "Flag", "PractitionerRole"))


async def _forget(url: str, *types: str) -> None:
    connection = await connected(url)
    try:
        for table in ("resource", "lineage", "relationship", "directive"):
            await connection.execute(f"DELETE FROM fhirgw.{table} WHERE type = ANY ($1)", list(types))
    finally:
        await connection.close()


@pytest.mark.parametrize("code", ["V", "R"])
def test_a_load_takes_no_label_away(command: Command, database: str, tmp_path: Path, code: str) -> None:
    """Sealed; and restricted, which of a Patient keeps their whereabouts alone."""
    file, sealed = (
        tmp_path / "a.ndjson",
        {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": code},
    )
    file.write_bytes(line({**ANN, "meta": {"security": [sealed]}}))
    command("load", str(file), FHIRGW_DATABASE_URL=database)
    file.write_bytes(line(ANN))
    ended = command("load", str(file), "--json", FHIRGW_DATABASE_URL=database)
    assert counts(ended) == [(0, 0, 0, 1, 0)]
    assert "security label" in errors(tmp_path)[0][2]
    file.write_bytes(line({**ANN, "meta": {"security": [sealed]}, "active": True}))
    assert counts(command("load", str(file), "--json", FHIRGW_DATABASE_URL=database)) == [(0, 1, 0, 0, 0)]


def test_addresses_below_a_base_are_references_to_what_is_loaded(
    command: Command, database: str, tmp_path: Path
) -> None:
    file = tmp_path / "a.ndjson"
    file.write_bytes(
        line(flag("f1") | {"subject": {"reference": "https://theirs.example/fhir/Patient/ann"}}) + line(ANN)
    )
    ended = command("load", str(file), "--json", "--base", "https://theirs.example/fhir", FHIRGW_DATABASE_URL=database)
    assert counts(ended) == [(2, 0, 0, 0, 0)]
    assert column(database, "SELECT patient FROM fhirgw.resource WHERE type = 'Flag'") == ["ann"]


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["load", "nowhere.ndjson"], 3, "nowhere.ndjson: no NDJSON is here."),
        (["load"], 2, "Missing argument"),
        (["load", ".", "--from", ""], 2, "--from names who brings them"),
    ],
)
def test_what_cannot_be_loaded_is_told(command: Command, arguments: list[str], code: int, told: str) -> None:
    ended = command(*arguments)
    assert (ended.code, ended.out) == (code, "")
    assert told in ended.err


def test_killed_and_run_again_it_ends_as_if_nothing_had_been(command: Command, database: str, tmp_path: Path) -> None:
    """kill -9 of a load whose lines are judged in processes of their own: those end too, and the next goes on."""
    lines = [line(flag(f"f{n:05}")) for n in range(4500)] + [b'{"resourceType":"Flag"}\n', line(ANN)]
    file = tmp_path / "a.ndjson"
    file.write_bytes(b"".join(lines))
    environment = {"FHIRGW_DATABASE_URL": database, "FHIRGW_DATA": str(tmp_path / "data")}
    for fail, taken in (("lines taken", 0), ("group kept", 4000)):
        with started("load", str(file), "--processes", "1", FHIRGW_FAILPOINT=fail, **environment) as killed:
            killed.communicate(timeout=120)
        assert killed.returncode == -signal.SIGKILL
        until_alone(fail)
        assert len(column(database, "SELECT id FROM fhirgw.resource")) == taken
        assert column(database, "SELECT line FROM fhirgw.import_input") == [taken + 1]
    ended = command("load", str(file), "--json", FHIRGW_DATABASE_URL=database)
    assert (ended.code, counts(ended)) == (0, [(4501, 0, 0, 1, 0)])  # of all three together
    assert column(database, "SELECT max(version) FROM fhirgw.resource") == [1]
    assert sorted(column(database, "SELECT id FROM fhirgw.resource")) == ["ann", *(f"f{n:05}" for n in range(4500))]
    assert column(database, "SELECT count(*) FROM fhirgw.change") == [4501]
    assert [words.partition(": ")[0] for _, _, words in errors(tmp_path)] == ["a.ndjson, line 4501"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_of_its_processes_ends_it_without_a_complaint(
    database: str, tmp_path: Path, number: signal.Signals
) -> None:
    """As a terminal and `timeout` send it: processes that judge do not break off before the load does."""
    file = tmp_path / "a.ndjson"
    file.write_bytes(b"".join(line(flag(f"f{n:05}")) for n in range(40_000)))
    environment = {"FHIRGW_DATABASE_URL": database, "FHIRGW_DATA": str(tmp_path / "data")}
    with started("load", str(file), "--processes", "2", group=True, **environment) as process:
        deadline = time.monotonic() + 120
        while column(database, "SELECT coalesce(max(line), 0) FROM fhirgw.import_input") in ([0], [1]):
            assert time.monotonic() < deadline, "it never began"
            assert process.poll() is None
        os.killpg(process.pid, number)
        _, told = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert told.splitlines()[-1] == "Stopped: nothing half-written was kept."
    assert not [each for each in ("unheard", "Traceback", "Broken") if each in told]
    assert 0 < len(column(database, "SELECT id FROM fhirgw.resource")) < 40_000


def until_alone(fail: str) -> None:
    """Waits until no process is left that was begun by the load which was to die there."""
    deadline = time.monotonic() + 120
    while _judging(fail):
        assert time.monotonic() < deadline, "what judged lines has outlived who began it"
        time.sleep(0.05)


def _judging(fail: str) -> list[str]:
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"FHIRGW_FAILPOINT={fail}\0".encode() in (each / "environ").read_bytes():
                found.append(each.name)
    return found


def test_a_consent_that_does_not_hold_as_it_is_written_is_told(
    command: Command, database: str, folder: Path, tmp_path: Path
) -> None:
    mine = {**dissent(), "patient": {"reference": "Patient/ann"}, "performer": [{"reference": "Patient/ann"}]}
    doubtful = {**mine, "provision": {"type": "deny", "class": [{"system": "urn:x", "code": "Goal"}]}}
    nobodys = {name: value for name, value in mine.items() if name != "patient"}
    actor = {"identifier": {"system": "https://fhir.nhs.uk/Id/ods-organization-code", "value": "P10"}}
    role = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "PRCP"}]}
    strange = {**mine, "provision": {"type": "deny", "actor": [{"role": role, "reference": actor}]}}
    given = ({**each, "id": f"c{at}"} for at, each in enumerate((mine, doubtful, nobodys, strange), 1))
    command("load", str(folder), FHIRGW_DATABASE_URL=database)
    file = tmp_path / "Consent.ndjson"
    file.write_bytes(b"".join(map(line, given)))
    ended = command("load", str(file), "--json", FHIRGW_DATABASE_URL=database)
    assert counts(ended) == [(3, 0, 0, 1, 0)]
    told = [(severity, words.partition(": ")[0]) for severity, _, words in errors(tmp_path)]
    assert told == [
        ("warning", "Consent.ndjson, line 2"),
        ("error", "Consent.ndjson, line 3"),
        ("warning", "Consent.ndjson, line 4"),
    ]
