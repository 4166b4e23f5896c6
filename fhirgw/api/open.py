"""What opens without an access token, and why: everything else answers 401.

Nothing here depends on a record. A route that is not `interactions` (fhirgw.api.answer) is made here, and one that is
not in the list cannot be.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PAGE = "a browser opens it by its address, with no header; it shows nothing until somebody gives it a token"

OPEN = {
    "/": "says what this is, and where to ask",
    "/health/live": "whoever keeps the process running asks whether it does",
    "/health/ready": "a balancer asks whether it can serve; says why not, and nothing of what is in it",
    "/fhir/metadata": "the CapabilityStatement, by which an application finds out how to ask",
    "/fhir/.well-known/smart-configuration": "where SMART's endpoints are",
    "/fhir/.well-known/jwks.json": "public keys: whoever gets a notification verifies it by them, and has no token",
    "/fhir/oauth/token": "where a token comes from; the assertion is judged",
    "/homecare/desk": PAGE,
    "/homecare/desk.css": "how the desk's page looks",
    "/homecare/desk.js": "what the desk's page asks, with the token that it is given",
    "/homecare/upload": PAGE,
    "/homecare/guide": "how to send visits: who is to send them reads it before there is any token",
    "/homecare/visits.csv": "an empty spreadsheet",
}
"""Each path with the reason."""


def opened(path: str, endpoint: Callable[[Request], Awaitable[Response]], **options: list[str]) -> Route:
    """A route that opens without a token. Raises KeyError for one that was not agreed to."""
    assert OPEN[path]
    return Route(path, endpoint, **options)  # type: ignore[arg-type]
