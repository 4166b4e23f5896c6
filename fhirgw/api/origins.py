"""Web pages of other origins that may call the gateway from a browser: SMART applications that have no server.

None unless they are named (FHIRGW_CORS_ORIGINS). A page is let ask and read the answer; what it may see is its token's
business, as with every caller: no cookie is ever taken. https://fetch.spec.whatwg.org/#http-cors-protocol
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SENT = (
    *("Authorization", "Prefer", "If-Match", "If-None-Match", "If-None-Exist", "If-Modified-Since", "Range"),
    *("X-Request-ID", "X-Correlation-ID", "NHSD-End-User-Organisation-ODS", "X-Break-Glass", "X-Safeguarding-Case"),
)
"""Headers that a page may send, besides those that every page may."""
READ = (
    *("ETag", "Location", "Content-Location", "Last-Modified", "X-Request-ID", "X-Correlation-ID", "X-Progress"),
    *("Retry-After", "RateLimit", "RateLimit-Policy", "WWW-Authenticate", "Allow", "Expires", "Content-Length"),
    "X-Break-Glass-Banner",
)
"""Headers of answers that a page may read, besides those that every page may."""


def allowing(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """The app, for pages of these origins too; the app itself where there are none."""
    if not origins:
        return app
    return CORSMiddleware(app, allow_origins=origins, allow_methods=METHODS, allow_headers=SENT, expose_headers=READ)
