"""The duty desk's screen: a page, its script and its style, the same for everybody; what it shows it asks for itself.

Nothing is loaded from elsewhere, nothing is written into the page here, and no script but that one runs on it.
https://www.w3.org/TR/CSP3/
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.api.open import opened

FOLDER = Path(__file__).parent / "desk"
SIGN_IN = FOLDER / "sign_in.js"
"""What signs in by a key file, in this page and that of uploads: a part of the script of either."""
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'; require-trusted-types-for 'script'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


@cache
def _file(kind: str) -> bytes:
    before = SIGN_IN.read_bytes() if kind == "js" else b""
    return before + (FOLDER / f"desk.{kind}").read_bytes()


def _route(path: str, kind: str) -> Route:
    async def served(request: Request) -> Response:
        return Response(_file(kind), headers={**HEADERS, "content-type": f"{KINDS[kind]}; charset=utf-8"})

    return opened(path, served)


def routes() -> list[Route]:
    """The page and what it is made of."""
    return [_route(f"/homecare/desk{'' if kind == 'html' else f'.{kind}'}", kind) for kind in KINDS]
