"""FHIR packages: what is read of an official one, and how hostile ones are refused."""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from fhirgw import packages
from fhirgw.app import create_app
from fhirgw.fhir import profile
from fhirgw.fhir.issue import FhirError
from fhirgw.settings import Settings
from fhirgw.terminology import definitions, membership
from fhirgw.validation import package, validate
from tests.validation.right import GONE, PATIENT, concept, spoilt

URL = "https://elsewhere.example"
MANIFEST = {"name": "elsewhere.profiles", "version": "1.0.0", "fhirVersions": ["4.0.1"]}
PROFILE = {
    "resourceType": "StructureDefinition",
    "url": f"{URL}/StructureDefinition/Married",
    "name": "Married",
    "status": "active",
    "kind": "resource",
    "abstract": False,
    "type": "Patient",
    "baseDefinition": "https://fhir.hl7.org.uk/StructureDefinition/UKCore-Patient",
    "derivation": "constraint",
    "differential": {
        "element": [
            {"path": "Patient"},
            {
                "path": "Patient.maritalStatus",
                "min": 1,
                "binding": {"strength": "required", "valueSet": f"{URL}/ValueSet/married"},
            },
        ]
    },
}
VALUE_SET = {
    "resourceType": "ValueSet",
    "url": f"{URL}/ValueSet/married",
    "status": "active",
    "compose": {
        "include": [{"system": "http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "concept": [{"code": "M"}]}]
    },
}


def packed(files: dict[str, Any], *members: tarfile.TarInfo) -> bytes:
    """A .tgz of these files, and of members besides."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in files.items():
            body = content if isinstance(content, bytes) else orjson.dumps(content)
            member = tarfile.TarInfo(name)
            member.size = len(body)
            archive.addfile(member, io.BytesIO(body))
        for member in members:
            archive.addfile(member)
    return written.getvalue()


GOOD = {"package/package.json": MANIFEST, "package/a.json": PROFILE, "package/b.json": VALUE_SET}


@pytest.fixture
def taken_back() -> Iterator[None]:
    """Forgets what a test made known to the whole process."""
    yield
    profile.drop()
    definitions._added.clear()
    definitions.carry([])


def refusal(content: bytes) -> tuple[str, str]:
    with pytest.raises(FhirError) as caught:
        package.read(content)
    return caught.value.issues[0].code, caught.value.issues[0].diagnostics


def test_what_is_in_a_package() -> None:
    found = package.read(packed(GOOD | {"package/other/x.json": b"{", "package/.index.json": {"files": []}}))
    assert (found.title, found.count("StructureDefinition"), found.count("ValueSet")) == (
        "elsewhere.profiles#1.0.0",
        1,
        1,
    )


def test_r4s_own_package_can_be_read(data: Path) -> None:
    found = package.read((data / "r4" / "hl7.fhir.r4.core-4.0.1.tgz").read_bytes())
    assert found.title == "hl7.fhir.r4.core#4.0.1" and found.count("StructureDefinition") > 600


@pytest.mark.usefixtures("taken_back")
def test_what_was_added_is_validated_by(tmp_path: Path) -> None:
    file = tmp_path / "x.tgz"
    file.write_bytes(packed(GOOD))
    url = PROFILE["url"]
    assert [each.code for each in validate(PATIENT, [url])] == ["not-found"]
    packages.add(tmp_path / "data", file)
    assert [each.code for each in validate(PATIENT, [url])] == ["not-found"]  # kept, and known from the next start
    assert [each.title for each in packages.load(tmp_path / "data")] == ["elsewhere.profiles#1.0.0"]
    assert validate(PATIENT, [url]) == []
    assert membership(f"{URL}/ValueSet/married", None, "M") is True
    for changes, expected in (
        ({"maritalStatus": GONE}, ("required", "Patient.maritalStatus")),
        ({"maritalStatus": concept("http://terminology.hl7.org/CodeSystem/v3-MaritalStatus", "S")},
         ("code-invalid", "Patient.maritalStatus")),
        ({"identifier[0].value": GONE}, ("required", "Patient.identifier[0].value")),
    ):  # fmt: skip
        found = validate(spoilt(PATIENT, changes), [url])
        assert expected in [(each.code, each.expression) for each in found if each.severity == "error"]


RUNAWAY = """
import sys, time
from pathlib import Path
from fhirgw import packages
from fhirgw.validation import validate
packages.load(Path(sys.argv[1]))
patient = {"resourceType": "Patient", "name": [{"family": sys.argv[3]}]}
for each in validate(patient, [sys.argv[2]]):
    print(each.severity, each.diagnostics)
"""


@pytest.mark.parametrize(
    ("pattern", "family", "said"),
    [
        ("^(a+)+$", "a" * 50_000 + "!", "error inv-9"),
        ("^(a|aa)+$", "a" * 50_000 + "!", "error inv-9"),
        ("^(a+)+$", "a" * 50_000, ""),  # the control
        ("^(?=a)a+$", "aaa", "warning inv-9 could not be judged"),
    ],
)
def test_no_pattern_of_a_package_runs_away(tmp_path: Path, pattern: str, family: str, said: str) -> None:
    """In a process of its own, which is stopped where it does not come to an end."""
    rule = {"key": "inv-9", "severity": "error", "human": "x", "expression": f"name.family.all(matches('{pattern}'))"}
    strict = {**PROFILE, "differential": {"element": [{"path": "Patient", "constraint": [rule]}]}}
    file = tmp_path / "x.tgz"
    file.write_bytes(packed(GOOD | {"package/profile.json": strict}))
    packages.add(tmp_path / "data", file)
    made = [sys.executable, "-c", RUNAWAY, str(tmp_path / "data"), str(PROFILE["url"]), family]
    done = subprocess.run(made, capture_output=True, text=True, check=True, timeout=120)
    told = [line for line in done.stdout.splitlines() if "inv-9" in line]
    assert [line.startswith(said) for line in told] == ([True] if said else [])


def test_one_replaces_another_of_its_name_and_goes(tmp_path: Path) -> None:
    for version in ("1.0.0", "2.0.0"):
        file = tmp_path / f"{version}.tgz"
        file.write_bytes(packed(GOOD | {"package/package.json": MANIFEST | {"version": version}}))
        packages.add(tmp_path / "data", file)
    assert [each.version for each in packages.listed(tmp_path / "data")] == ["2.0.0"]
    assert packages.remove(tmp_path / "data", "elsewhere.profiles") is True
    assert packages.remove(tmp_path / "data", "elsewhere.profiles") is False
    assert packages.listed(tmp_path / "data") == [] == list((tmp_path / "data" / "packages").iterdir())


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"", "structure", "is no .tgz"),
        (b"no package", "structure", "is no .tgz"),
        (gzip.compress(b"no tar" * 1000), "structure", "is no .tgz"),
        (packed(GOOD)[:-200], "structure", "is no .tgz"),
        (packed({"package/a.json": PROFILE}), "structure", "has no package/package.json"),
        (packed({"package/package.json": b"{"}), "structure", "package.json is not JSON"),
        (packed({"package/package.json": []}), "structure", "package.json is not a JSON object"),
        (packed({"package/package.json": {"name": "../x", "version": "1"}}), "value", "no usable name"),
        (packed({"package/package.json": {"name": "x"}}), "value", "no usable name"),
        (packed({"package/package.json": MANIFEST | {"fhirVersions": ["5.0.0"]}}), "not-supported", "another version"),
        (
            packed(
                {"package/package.json": {**MANIFEST, "fhirVersions": [], "dependencies": {"hl7.fhir.r5.core": "5"}}}
            ),
            "not-supported",
            "another version",
        ),
        (packed(GOOD | {"package/../../x.json": {}}), "security", "leads out"),
        (packed(GOOD | {"/etc/x.json": {}}), "security", "leads out"),
        (packed(GOOD | {"package\\..\\x.json": {}}), "security", "leads out"),
        (packed(GOOD, link("package/x.json", tarfile.SYMTYPE)), "security", "a link"),
        (packed(GOOD, link("package/x.json", tarfile.LNKTYPE)), "security", "a link"),
        (packed(GOOD, link("package/x.json", tarfile.CHRTYPE)), "security", "a link or a device"),
        (packed(GOOD | {"package/c.json": b"\xff"}), "structure", "c.json is not JSON"),
        (packed(GOOD | {"package/c.json": b"[" * 100_000}), "structure", "c.json is not JSON"),
        (packed(GOOD | {"package/c.json": PROFILE | {"differential": 7}}), "structure", "c.json is not a Structure"),
        (packed(GOOD | {"package/c.json": PROFILE | {"type": []}}), "structure", "c.json is not a Structure"),
        (packed(GOOD | {"package/c.json": VALUE_SET | {"compose": [1]}}), "structure", "c.json is not a ValueSet"),
    ],
    ids=lambda each: "packed" if isinstance(each, bytes) else None,  # gzip writes the time
)
def test_what_cannot_be_used_is_refused(content: bytes, code: str, said: str) -> None:
    found = refusal(content)
    assert found[0] == code and said in found[1]
    assert package.read(packed(GOOD)).definitions


@pytest.mark.parametrize("limit", ["LARGEST", "LARGEST_UNPACKED", "LARGEST_FILE", "MOST_FILES"])
def test_what_is_too_large_is_refused_before_it_is_read(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = packed(GOOD | {f"package/{at}.txt": b"x" for at in range(20)})
    assert package.read(content)
    monkeypatch.setattr(package, limit, {"MOST_FILES": 10, "LARGEST_FILE": 100}.get(limit, 500))
    assert refusal(content)[0] == "too-long"


def test_a_bomb_is_refused_while_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "LARGEST_UNPACKED", 1 << 20)
    bomb = packed(GOOD | {"package/c.txt": bytes(30 << 20)})
    assert len(bomb) < 100_000
    assert refusal(bomb) == ("too-long", "The package cannot be used. Unpacked it has over 1 MB: do not use it")


@pytest.mark.usefixtures("taken_back")
async def test_a_server_knows_what_was_added_when_it_starts(database: str, tmp_path: Path) -> None:
    file = tmp_path / "x.tgz"
    file.write_bytes(packed(GOOD))
    packages.add(tmp_path / "data", file)
    app = create_app(Settings(database_url=database, data=tmp_path / "data"))
    assert profile.profile(str(PROFILE["url"])) is None
    async with app.router.lifespan_context(app):
        assert profile.profile(str(PROFILE["url"])) is not None
