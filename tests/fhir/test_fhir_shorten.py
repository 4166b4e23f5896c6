"""Parts of resources, and JSON laid out: what is left out is said, what is kept is kept digit for digit."""

from __future__ import annotations

import json
import runpy
import tarfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.parameters import HELD
from fhirgw.fhir.pretty import LONGEST, pretty
from fhirgw.fhir.shorten import SUBSETTED, Shape, _in_summary, _stem, children, shape
from tests.fhir.conftest import REPOSITORY

BODY = (
    '{"resourceType":"Observation","id":"o","meta":{"versionId":"3","tag":[{"code":"x"}]},"language":"en",'
    '"text":{"status":"generated","div":"<div>a</div>"},"extension":[{"url":"u","valueString":"e"}],'
    '"modifierExtension":[{"url":"m","valueBoolean":true}],"status":"final","_status":{"id":"s"},'
    '"code":{"text":"c","coding":[{"code":"1","userSelected":true}]},'
    '"valueQuantity":{"value":1.10,"unit":"g","extension":[{"url":"q","valueCode":"z"}]},'
    '"note":[{"text":"n"}],"component":[{"code":{"text":"k"},"valueInteger":2,"dataAbsentReason":{"text":"d"}}]}'
)
TAGGED = '"meta":{"versionId":"3","tag":[{"code":"x"},' + json.dumps(SUBSETTED, separators=(",", ":")) + "]}"


def test_a_summary_is_what_r4_marks_for_one() -> None:
    assert Shape("true").of(BODY) == (
        '{"resourceType":"Observation","id":"o",' + TAGGED + ',"modifierExtension":[{"url":"m","valueBoolean":true}],'
        '"status":"final","_status":{"id":"s"},"code":{"text":"c","coding":[{"code":"1","userSelected":true}]},'
        '"valueQuantity":{"value":1.10,"unit":"g"},'
        '"component":[{"code":{"text":"k"},"valueInteger":2}]}'
    )


def test_data_is_all_but_the_narrative() -> None:
    kept = BODY.replace('"text":{"status":"generated","div":"<div>a</div>"},', "")
    assert Shape("data").of(BODY) == kept.replace('"meta":{"versionId":"3","tag":[{"code":"x"}]}', TAGGED)


def test_text_is_the_narrative_and_what_must_be_there() -> None:
    found = json.loads(Shape("text").of(BODY))
    assert list(found) == ["resourceType", "id", "meta", "text", "status", "_status", "code"]


def test_elements_are_those_asked_for_and_what_must_be_there() -> None:
    asked = shape([("_elements", "value,Observation.note")], "Observation")
    found = json.loads(asked.of(BODY), parse_float=Decimal)
    assert list(found) == ["resourceType", "id", "meta", "status", "_status", "code", "valueQuantity", "note"]
    assert str(found["valueQuantity"]["value"]) == "1.10"
    assert found["meta"]["tag"][-1] == SUBSETTED


def test_the_whole_is_the_stored_text_itself() -> None:
    for asked in (shape([]), shape([("_summary", "false"), ("_format", "json")]), Shape("count")):
        assert asked.of(BODY) is BODY


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ([("_summary", "some")], "_summary is one of true, text, data, count, false"),
        ([("_elements", "statis")], "did you mean status?"),
        ([("_elements", "")], "_elements names top-level elements"),
        ([("_elements", "status"), ("_summary", "true")], "exclude each other"),
    ],
)
def test_what_there_is_not_is_refused(pairs: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(FhirError) as refused:
        shape(pairs, "Observation")
    assert words in str(refused.value)
    assert refused.value.status == 400


def test_the_table_is_what_the_script_derives(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY / "profiles"))
    runpy.run_path(str(REPOSITORY / "profiles" / "derive_summary.py"))["main"](data, tmp_path)
    kept = REPOSITORY / "fhirgw" / "fhir" / "facts" / "summary.json"
    assert (tmp_path / "summary.json").read_bytes() == kept.read_bytes()


def test_the_top_level_of_a_summary_is_the_standards_own(data: Path) -> None:
    """Against the package itself, read anew: what is marked, what must be there, what is above something marked."""
    with tarfile.open(data / "r4" / "hl7.fhir.r4.core-4.0.1.tgz") as archive:
        for kind in HELD:
            content = archive.extractfile(f"package/StructureDefinition-{kind}.json")
            assert content is not None
            expected = {
                path.split(".")[1].removesuffix("[x]")
                for each in json.load(content)["snapshot"]["element"]
                if (path := each["path"]).count(".")
                and (each.get("isSummary") or (path.count(".") == 1 and each["min"]))
                and not (path.count(".") > 1 and path.endswith(".modifierExtension"))
            }
            kept = {_stem(kind, name) for name in children(kind) if _in_summary(kind, name)}
            assert kept - {"modifierExtension"} == expected - {"modifierExtension"}, kind


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(value=st.dictionaries(st.text(max_size=5), JSON, max_size=5))
def test_laid_out_it_says_the_same(value: dict[str, Any]) -> None:
    laid_out = pretty(json.dumps(value, ensure_ascii=False).encode())
    assert json.loads(laid_out) == value
    assert laid_out.decode() == json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def test_laid_out_numbers_stay_as_they_were_spelt() -> None:
    assert pretty(b'{"a":1.10,"b":[1e-7,-0],"c":[],"d":{}}') == (
        b'{\n  "a": 1.10,\n  "b": [\n    1e-7,\n    -0\n  ],\n  "c": [],\n  "d": {}\n}\n'
    )


def test_what_nobody_reads_is_not_laid_out() -> None:
    long = b'{"a":"' + b"x" * LONGEST + b'"}'
    assert pretty(long) is long
