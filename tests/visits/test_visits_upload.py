"""The page to send a spreadsheet by: it loads nothing, runs nothing but its own, and everything in it has a name.

What its script does in a browser: tests/visits/browser.
"""

import re
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha256
from html.parser import HTMLParser

import httpx
import pytest

from fhirgw.app import create_app
from fhirgw.settings import Settings


class Page(HTMLParser):
    """Its elements, each with its attributes; and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.code: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in self.CDATA_CONTENT_ELEMENTS:
            self.code.append((self.elements[-1][0], data))


@pytest.fixture(scope="module")
async def answer() -> AsyncIterator[httpx.Response]:
    app = httpx.ASGITransport(create_app(Settings()))  # not started: the page needs no database
    async with httpx.AsyncClient(transport=app, base_url="http://gateway.example") as client:
        yield await client.get("/homecare/upload")


def test_nothing_runs_but_what_it_names(answer: httpx.Response) -> None:
    rules = dict(each.split(" ", 1) for each in answer.headers["content-security-policy"].split("; "))
    assert rules["default-src"] == rules["form-action"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["connect-src"] == "'self'"
    code = [each for each in Page(answer.text).code if each[1].strip()]
    assert {tag for tag, _ in code} == {"script", "style"}
    for tag in ("script", "style"):
        digests = [b64encode(sha256(text.encode()).digest()).decode() for each, text in code if each == tag]
        assert rules[f"{tag}-src"] == " ".join(f"'sha256-{each}'" for each in digests)
    assert answer.headers["cache-control"] == "no-store"


def test_it_loads_nothing_and_writes_no_markup(answer: httpx.Response) -> None:
    page = Page(answer.text)
    for _, attributes in page.elements:
        assert not {"src", "style", "action"} & set(attributes)
        assert not [each for each in attributes if each.startswith("on")]
    assert {tag for tag, attributes in page.elements if "href" in attributes} == {"a"}
    script = "".join(text for tag, text in page.code if tag == "script")
    assert "crypto.subtle.sign" in script, "what signs in stands in it"
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|localStorage|cookie|https?:", script)


def test_everything_has_a_name(answer: httpx.Response) -> None:
    page = Page(answer.text)
    named = {attributes["for"] for tag, attributes in page.elements if tag == "label"}
    assert named == {attributes["id"] for tag, attributes in page.elements if tag == "input"}
    told = {attributes.get("aria-describedby") for tag, attributes in page.elements if tag == "input"}
    assert told == {attributes.get("id") for _, attributes in page.elements if attributes.get("class") == "hint"}
    assert ("html", {"lang": "en-GB"}) in page.elements
    assert {"main", "h1", "title"} <= {tag for tag, _ in page.elements}
    assert {attributes.get("role") for _, attributes in page.elements} >= {"status", "alert"}


def test_the_script_finds_what_it_looks_for(answer: httpx.Response) -> None:
    ids = {attributes["id"] for _, attributes in Page(answer.text).elements if "id" in attributes}
    assert set(re.findall(r'at\("(\w+)"\)', answer.text)) == {each for each in ids if not each.endswith("-hint")}
    routes = {getattr(each, "path", "") for each in create_app(Settings()).routes}
    assert 'fetch("/homecare/visits?"' in answer.text
    assert {"/homecare/visits", *re.findall('href="([^"]*)"', answer.text)} <= routes
    assert "/homecare/submissions/{submission}/receipts.csv" in routes
