"""A page to send a spreadsheet of visits by, for who has no program that does: `GET /homecare/upload`.

It holds nothing of anybody, loads nothing (what signs in stands in it, as in the desk) and keeps nothing: what it sends
and is told goes the way of every other sender. Its Content-Security-Policy lets its own scripts and style run, by their
digests, and talk to the gateway alone.
https://www.w3.org/TR/CSP3/
"""

from __future__ import annotations

import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from pathlib import Path

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from fhirgw.api.desk import SIGN_IN
from fhirgw.api.open import opened

UPLOAD = "/homecare/upload"
FILE = Path(__file__).with_name("visit_upload.html")
LOADED = '<script src="/homecare/sign-in.js"></script>'
"""Stands in the file for the script itself, so that its digest is allowed and no other script of ours."""


@cache
def page() -> tuple[str, str]:
    """The page, and its policy."""
    text = FILE.read_text().replace(LOADED, f"<script>{SIGN_IN.read_text()}</script>")
    allowed = {name: _digests(text, name) for name in ("script", "style")}
    rules = (
        *("default-src 'none'", f"script-src {allowed['script']}", f"style-src {allowed['style']}"),
        *("connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
    )
    return text, "; ".join(rules)


def _digests(text: str, name: str) -> str:
    """What stands between the tags of a name, as a policy names it."""
    found = re.findall(f"<{name}>(.*?)</{name}>", text, re.DOTALL)
    return " ".join(f"'sha256-{b64encode(sha256(each.encode()).digest()).decode()}'" for each in found)


async def upload(request: Request) -> Response:
    """GET /homecare/upload"""
    text, policy = page()
    told = {"content-security-policy": policy, "referrer-policy": "no-referrer", "x-content-type-options": "nosniff"}
    return HTMLResponse(text, headers=told | {"cache-control": "no-store"})


def routes() -> list[Route]:
    """The page."""
    return [opened(UPLOAD, upload)]
