"""The guide for care providers as a page, `GET /homecare/guide`, and a spreadsheet to begin with.

The page is mappings/homecare/README.md and no other text; its lists of words are those of this gateway's own rules.
Nothing is loaded, and no script runs. The spreadsheet has the columns of the standard one, and nothing below them.
https://www.w3.org/TR/CSP3/
"""

from __future__ import annotations

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from html import escape
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from fhirgw import shipped
from fhirgw.api.open import opened
from fhirgw.fhir.csv_rows import written
from fhirgw.visits.field import shapes
from fhirgw.visits.layout import Layout, layouts
from fhirgw.visits.rules import rules
from fhirgw.visits.words import tables

GUIDE, EMPTY = "/homecare/guide", "/homecare/visits.csv"
FILE = "homecare/README.md"
WORDS = re.compile(r"(?<=<!-- words -->\n\n).*?(?=\n\n<!-- /words -->)", re.DOTALL)
"""Where the lists of words stand in the file."""
ELSEWHERE = re.compile(r"\[([^]]*)\]\((?!#)[^)]*\)")
"""Links to files beside it, which a reader of the page has not."""
STYLE = """
:root { color-scheme: light dark; }
body { font: 1.1em/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 52em; padding: 0 1em; }
:focus-visible { outline: 3px solid #1a5fb4; outline-offset: 2px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { border: 1px solid #888; padding: .3em .6em; text-align: left; vertical-align: top; }
pre { border: 1px solid #888; overflow-x: auto; padding: .6em; }
.request { font-weight: 600; margin-bottom: 0; }
"""
PAGE = """<!doctype html>
<html lang="en-GB">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sending homecare visits</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def text() -> str:
    """The file, with the words of the rules."""
    folder = shipped.path("mappings")
    words = tables(rules(folder), standard())
    return WORDS.sub(lambda _: words, (folder / FILE).read_text())


@cache
def standard() -> Layout:
    """The layout of the standard spreadsheet."""
    folder = shipped.path("mappings")
    return layouts(folder, shapes(rules(folder)))["homecare"]


@cache
def page() -> str:
    """The page."""
    marked = MarkdownIt("commonmark", {"html": False}).enable("table")
    marked.add_render_rule("fence", _example)
    tokens = marked.parse(re.sub(r"<!-- /?words -->\n", "", ELSEWHERE.sub(r"\1", text())))
    _anchor(tokens)
    body = marked.renderer.render(tokens, marked.options, {})
    body = body.replace("<th>", '<th scope="col">')
    body = body.replace("<table>", '<div class="wide" tabindex="0"><table>').replace("</table>", "</table></div>")
    return PAGE.format(style=STYLE, body=body)


def _example(renderer: object, tokens: list[Token], at: int, options: object, env: object) -> str:
    """A request or an answer under its own line."""
    told = tokens[at].info.partition(" ")[2]
    return f'<p class="request">{escape(told)}</p><pre tabindex="0"><code>{escape(tokens[at].content)}</code></pre>\n'


def _anchor(tokens: list[Token]) -> None:
    """Headings by which the page is linked to within itself."""
    for heading, inline in pairwise(tokens):
        if heading.type == "heading_open":
            heading.attrSet("id", re.sub(r"[^a-z0-9]+", "-", inline.content.lower()).strip("-"))


async def guide(request: Request) -> Response:
    """GET /homecare/guide"""
    digest = b64encode(sha256(STYLE.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    told = {"content-security-policy": policy, "referrer-policy": "no-referrer", "x-content-type-options": "nosniff"}
    return HTMLResponse(page(), headers=told | {"cache-control": "no-cache"})


async def empty(request: Request) -> Response:
    """GET /homecare/visits.csv"""
    told = {"content-type": "text/csv; charset=utf-8", "content-disposition": 'attachment; filename="visits.csv"'}
    return Response(written([standard().columns]), headers=told)


def routes() -> list[Route]:
    """The page, and the spreadsheet."""
    return [opened(GUIDE, guide), opened(EMPTY, empty)]
