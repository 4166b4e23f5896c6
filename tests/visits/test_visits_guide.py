"""The guide for care providers says what is so: its examples are sent in its order, and are answered as it shows."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fhirgw.api.visit_guide import WORDS, text
from fhirgw.fhir.issue import Resource
from fhirgw.visits.layout import layouts
from fhirgw.visits.reading import Reader
from fhirgw.visits.rules import rules as words
from tests.gateway import Gateway
from tests.visits.reckoned import line
from tests.visits.test_visits_refused import FAULTS
from tests.visits.visiting import HERON, B

MAPPINGS = Path(__file__).parents[2] / "mappings"
GUIDE = (MAPPINGS / "homecare/README.md").read_text()
FENCED = re.compile(r"^```(\w+) ([^\n]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TYPES = {"csv": "text/csv", "json": "application/json", "ndjson": "application/x-ndjson", "http": ""}
ANYTHING = "…"
TOLD = re.compile(r"`([^`]+)`")


class Example(NamedTuple):
    kind: str
    method: str
    address: str
    body: str
    status: int
    answer: Any


def examples() -> list[Example]:
    """Each request of the guide, with the answer that stands after it."""
    blocks = FENCED.findall(GUIDE)
    found = []
    for (kind, request, body), (_, answer, told) in zip(blocks[::2], blocks[1::2], strict=True):
        assert answer.startswith("answer "), answer
        method, address = request.split()
        found.append(Example(kind, method, address, body, int(answer.split()[1]), json.loads(told)))
    return found


@pytest.fixture(scope="module")
def besides() -> tuple[Resource, ...]:
    return (line("line-b", B, "heron", "L1"),)


def same(told: Any, shown: Any) -> bool:
    """Whether it is as shown: `…` stands for any text."""
    if shown == ANYTHING:
        return isinstance(told, str) and bool(told)
    if isinstance(shown, dict) and isinstance(told, dict):
        return told.keys() == shown.keys() and all(same(told[name], shown[name]) for name in shown)
    if isinstance(shown, list) and isinstance(told, list):
        return len(told) == len(shown) and all(map(same, told, shown))
    return bool(told == shown)


def test_the_examples_are_answered_as_shown(gateway: Gateway) -> None:
    with gateway.client(HERON) as client:
        for each in examples():
            headers = {"content-type": TYPES[each.kind]} if each.body else {}
            answer = client.request(each.method, each.address, content=each.body, headers=headers)
            assert answer.status_code == each.status, answer.text
            assert same(answer.json(), each.answer), json.dumps(answer.json(), indent=1, ensure_ascii=False)
    assert len(examples()) > 7


def test_a_wrong_example_would_be_found() -> None:
    assert same({"a": ["x", 1]}, {"a": ["…", 1]})
    for told in ({"a": ["x", 2]}, {"a": ["x"]}, {"a": ["", 1]}, {}, {"a": ["x", 1], "b": 1}, []):
        assert not same(told, {"a": ["…", 1]})


def rows(heading: str) -> list[list[str]]:
    table = GUIDE.partition(f"| {heading} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [re.findall(r"`([^`]+)`", line.split("|")[1]) for line in table]


def test_the_columns_are_those_of_the_standard_spreadsheet() -> None:
    layout = layouts(MAPPINGS, Reader(words(MAPPINGS)).shapes)["homecare"]
    assert {name for row in rows("column") for name in row} == set(layout.columns)


def test_each_reason_is_explained() -> None:
    explained = {name for row in rows("reason") for name in row}
    assert {reason for _, _, reason in FAULTS.values()} <= explained
    assert {"closed", "ambiguous", "date", "time"} <= explained


def test_the_lists_of_words_are_those_that_rows_are_read_by() -> None:
    """As they stand in the file, which is what people read; and none is missing."""
    assert text() == GUIDE
    known = words(MAPPINGS)
    listed = {
        name for row in re.findall(r"^\| .*$", WORDS.search(GUIDE)[0], re.MULTILINE) for name in TOLD.findall(row)
    }
    assert {*known.outcomes, *known.verification, *known.tasks, *known.support} <= listed


def test_the_page_is_the_guide(gateway: Gateway) -> None:
    with gateway.stranger() as stranger:
        answer, sheet = stranger.get("/homecare/guide"), stranger.get("/homecare/visits.csv")
    rules = dict(each.split(" ", 1) for each in answer.headers["content-security-policy"].split("; "))
    assert rules["default-src"] == "'none'" and "script-src" not in rules
    told = re.sub(r"<[^>]*>", " ", answer.text)
    for each in (
        "nfc-tag",
        "partially-completed",
        "self-administered",
        "cancelled-by-person-short-notice",
        "V2,999 000 0050",
    ):
        assert each in told, each
    anchors = set(re.findall('id="([^"]*)"', answer.text))
    links = re.findall('href="([^"]*)"', answer.text)
    assert links and {each.removeprefix("#") for each in links} <= anchors, "each leads to a place on the page"
    assert answer.text.count("<th>") == 0 and "](" not in told
    layout = layouts(MAPPINGS, Reader(words(MAPPINGS)).shapes)["homecare"]
    assert sheet.text.strip().split(",") == list(layout.columns)


def test_the_words_for_outcomes_are_those_of_the_standard_spreadsheet() -> None:
    layout = layouts(MAPPINGS, Reader(words(MAPPINGS)).shapes)["homecare"]
    line = next(each for each in GUIDE.splitlines() if each.startswith("| `Outcome`"))
    assert all(word in line for word in layout.fields["outcome.code"].codes or {})
