"""What an operation is sent: a resource by itself, or Parameters.

https://hl7.org/fhir/R4/operations.html
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response

from fhirgw.api import asked
from fhirgw.api.answer import Handler
from fhirgw.fhir.incoming import read
from fhirgw.fhir.issue import FhirError, Issue, Resource

JSON = ("application/fhir+json", "application/json", "text/json")
LONGEST = 1024 * 1024
"""Bytes of what an operation is sent."""


SIMPLE = (str, int, Decimal)


@dataclass(slots=True)
class Parameters:
    """`resource`: the one it is about, None where none was sent. `given`: the others, by name, in their order."""

    resource: Resource | None = None
    given: dict[str, list[Any]] = field(default_factory=dict)

    def one(self, name: str) -> Any:
        """The value of a parameter, None where it is not given. Raises FhirError(invalid) for several."""
        values = self.given.get(name, [])
        if len(values) > 1:
            raise FhirError(Issue("invalid", f"The parameter {name} may be given once"))
        return values[0] if values else None


def posted(handler: Handler) -> Handler:
    """The handler of a GET for a POST, whose Parameters (or none) stand as if they were in the address.

    https://hl7.org/fhir/R4/operations.html#request
    """

    async def handle(request: Request) -> Response:
        body = await asked.body(request, LONGEST, "What an operation is sent")
        if body.strip():
            _is_json(request)
            request.scope["query_string"] = _queried(request.scope["query_string"], read(body))
        return await handler(Request(request.scope, request.receive))

    return handle


def _queried(query: bytes, sent: Resource) -> bytes:
    """A query with the values of Parameters besides. Raises FhirError(invalid) for what is no simple value."""
    if sent.get("resourceType") != "Parameters":
        raise FhirError(Issue("invalid", "Send Parameters, or nothing", "resourceType"))
    pairs = []
    for at, each in enumerate(_list(sent)):
        values = [value for key, value in each.items() if key.startswith("value")]
        if not isinstance(each.get("name"), str) or len(values) != 1 or not isinstance(values[0], SIMPLE):
            told = "A parameter of this operation has a name and one simple value: valueString, valueInteger ..."
            raise FhirError(Issue("invalid", told, f"Parameters.parameter[{at}]"))
        pairs.append((each["name"], _text(values[0])))
    return b"&".join(filter(None, [query, urlencode(pairs).encode()]))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_json(request: Request) -> None:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in JSON:
        raise FhirError(Issue("not-supported", f"Send the body as {JSON[0]}"), status=415)


async def parameters(request: Request, names: tuple[str, ...]) -> Parameters:
    """What a POST sends, with the parameters of its address. Raises FhirError for any not among `names`; 415."""
    found = addressed(request, names)
    _is_json(request)
    sent = read(await asked.body(request, LONGEST, "What an operation is sent"))
    if sent.get("resourceType") != "Parameters":
        found.resource = sent
        return found
    for at, each in enumerate(_list(sent)):
        name, values = each.get("name"), [value for key, value in each.items() if key.startswith("value")]
        if name == "resource" and isinstance(each.get("resource"), dict):
            found.resource = each["resource"]
        elif name in names and len(values) == 1:
            found.given.setdefault(name, []).append(values[0])
        else:
            told = f"This operation takes {', '.join(('resource', *names))}, each with one value"
            raise FhirError(Issue("invalid", told, f"Parameters.parameter[{at}]"))
    return found


def addressed(request: Request, names: tuple[str, ...]) -> Parameters:
    """The parameters of the address alone. Raises FhirError(not-supported) for any not among `names`."""
    found = Parameters()
    for name, value in asked.pairs(request):
        if name in names:
            found.given.setdefault(name, []).append(value)
        elif name != "_format":
            raise FhirError(Issue("not-supported", f"This operation takes {', '.join(names) or 'no parameters'}"))
    return found


def _list(sent: Resource) -> list[dict[str, Any]]:
    given = sent.get("parameter", [])
    if isinstance(given, list) and all(isinstance(each, dict) for each in given):
        return given
    raise FhirError(Issue("structure", "Parameters.parameter is a list of parameters", "Parameters.parameter"))
