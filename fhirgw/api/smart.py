"""SMART over HTTP: where the endpoints are, tokens for assertions, what a token is, and taking one back.

https://hl7.org/fhir/smart-app-launch/STU2.2/conformance.html, https://www.rfc-editor.org/rfc/rfc7662 (introspection),
https://www.rfc-editor.org/rfc/rfc7009 (revocation)

Long by a line or two: four endpoints, and how each refuses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fhirgw.access import assertion, jose
from fhirgw.access.assertion import OAuthError
from fhirgw.access.scope import BY_NAME, granted
from fhirgw.access.token import Bearer, readable
from fhirgw.api.answer import FORM, interactions
from fhirgw.api.audit import entry
from fhirgw.api.authenticate import HEADERS, Connect, Gatekeeper, Refusal, unauthorised
from fhirgw.api.context import base, context
from fhirgw.api.exchange import GRANT, Exchange
from fhirgw.api.issuers import Issuers
from fhirgw.api.jwks import KeySets, Unfetched
from fhirgw.api.keys import Keyring
from fhirgw.api.limits import Limits, Quota
from fhirgw.api.open import opened
from fhirgw.api.verifier import Verifier
from fhirgw.store import registration as registrations
from fhirgw.store.registration import Registration

LOOPBACK = ("localhost", "127.0.0.1", "::1")
LONGEST = 65_536
MOST_FIELDS = 20
NO_STORE = {"cache-control": "no-store", "pragma": "no-cache"}
VERBS = ("cruds", "rs", "cud", "read", "write", "*")
"""What may be done with all types together, in v2's spelling and in v1's; and letter by letter, and type by type."""
SCOPES = (
    *(f"{context}/*.{verbs}" for context in ("system", "patient", "user") for verbs in VERBS),
    *(f"system/{each}.{verbs}" for each in BY_NAME for verbs in ("r", "rs", "read")),
)

Form = dict[str, str]


@dataclass(frozen=True, slots=True)
class Smart:
    """What answers here. `connect` gives connections that may write."""

    gatekeeper: Gatekeeper
    exchange: Exchange
    connect: Connect
    keyring: Keyring


def assembled(
    keys: Path,
    issuers: Path | None,
    connect: Connect,
    reference: Connect,
    controllers: Sequence[str],
    *,
    loopback: bool = False,
    processes: int = 1,
) -> Smart:
    """All of it, from settings. `reference` gives connections that read reference data. Raises FhirError."""
    key_sets, keyring = KeySets(loopback), Keyring(keys)
    verifier = Verifier(keyring, Issuers.read(issuers, key_sets))
    asked, issued = Limits(processes=processes), Limits(processes=processes)
    gatekeeper = Gatekeeper(verifier, reference, asked, controllers)
    return Smart(gatekeeper, Exchange(keyring, key_sets, issued), connect, keyring)


def smart(request: Request) -> Smart:
    """That of the app that got the request."""
    return cast(Smart, request.app.state.smart)


def token_endpoint(request: Request) -> str:
    """The address that an assertion is for: the settings', or this machine's as the caller named it.

    Never a name that only the caller vouches for: an assertion made for another server would count here under it.
    Raises OAuthError.
    """
    here = (*LOOPBACK, (request.scope.get("server") or ("",))[0])
    if not context(request).base_url and request.url.hostname not in here:
        told = "the gateway does not know itself by that name: its operators have to set FHIRGW_BASE_URL"
        raise OAuthError("invalid_client", told)
    return f"{base(request)}/oauth/token"


async def configuration(request: Request) -> Response:
    """GET [base]/.well-known/smart-configuration"""
    address = base(request)
    signing = {"private_key_jwt": list(assertion.ALGORITHMS)}
    return JSONResponse(
        {
            "token_endpoint": f"{address}/oauth/token",
            "jwks_uri": f"{address}/.well-known/jwks.json",
            "token_endpoint_auth_methods_supported": [*signing],
            "token_endpoint_auth_signing_alg_values_supported": signing["private_key_jwt"],
            "grant_types_supported": [GRANT],
            "scopes_supported": list(SCOPES),
            "introspection_endpoint": f"{address}/oauth/introspect",
            "introspection_endpoint_auth_methods_supported": [*signing],
            "revocation_endpoint": f"{address}/oauth/revoke",
            "revocation_endpoint_auth_methods_supported": [*signing],
            "code_challenge_methods_supported": ["S256"],
            "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
        },
        headers={"cache-control": "public, max-age=300"},
    )


async def published(request: Request) -> Response:
    """GET [base]/.well-known/jwks.json: the keys that the gateway's own signatures are verified with"""
    keys = [each.as_dict(private=False) for each in smart(request).keyring.verifying()]
    return JSONResponse({"keys": keys}, headers={"cache-control": "public, max-age=300"})


async def token(request: Request) -> Response:
    """POST [base]/oauth/token"""
    here = smart(request)
    form = await _form(request)
    if "authorization" in request.headers:
        raise OAuthError("invalid_request", "An application is known by its client_assertion: send no Authorization")

    def tell(found: Registration, quota: Quota) -> None:
        entry(request).registration = found.id
        request.scope[HEADERS] = quota.headers()

    async with here.connect() as connection:
        answered = await here.exchange.token(connection, form, token_endpoint(request), tell)
    return JSONResponse(answered, headers=NO_STORE)


async def introspect(request: Request) -> Response:
    """POST [base]/oauth/introspect: what a token of one's own is; another's, and what is none, is not active."""
    here = smart(request)
    form = await _form(request)
    asking = await _asking(request, form)
    text = _named(form)
    try:
        found = await here.gatekeeper.verifier.bearer(text)
    except (jose.Untrusted, Unfetched):
        found = None
    whose = await _active(here, found) if found else None
    if found is None or whose is None or not (whose.id == asking.id or "introspect" in asking.roles):
        return JSONResponse({"active": False}, headers=NO_STORE)
    return JSONResponse(_introspected(found, whose), headers=NO_STORE)


async def revoke(request: Request) -> Response:
    """POST [base]/oauth/revoke: a token of one's own is none from now on; whatever else was sent is none already."""
    here = smart(request)
    form = await _form(request)
    asking = await _asserted(request, form)
    text = _named(form)
    try:
        found = await here.gatekeeper.verifier.bearer(text)
    except (jose.Untrusted, Unfetched):
        return Response(status_code=200, headers=NO_STORE)
    if found.jti is not None and found.registration == asking.id:
        async with here.connect() as connection:
            await registrations.revoke(connection, found.jti, asking.id)
    return Response(status_code=200, headers=NO_STORE)


def routes() -> list[Route]:
    """The endpoints."""
    return [
        opened("/fhir/.well-known/smart-configuration", configuration, methods=["GET", "HEAD"]),
        opened("/fhir/.well-known/jwks.json", published, methods=["GET", "HEAD"]),
        interactions("/fhir/oauth/token", POST=_oauth(token)),
        interactions("/fhir/oauth/introspect", asserted=True, POST=_oauth(introspect)),
        interactions("/fhir/oauth/revoke", asserted=True, POST=_oauth(revoke)),
    ]


def _oauth(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The handler, its refusals told as OAuth tells them."""

    async def answered(request: Request) -> Response:
        try:
            return await handler(request)
        except OAuthError as error:
            return _refused(error)
        except Refusal as error:  # of an access token sent in place of an assertion, or of a request too many
            known = "invalid_token" if "authorization" in request.headers else "invalid_client"
            known = "temporarily_unavailable" if error.status == 429 else known
            return _refused(OAuthError(known, str(error), error.status, error.headers))

    return answered


def _refused(error: OAuthError) -> Response:
    """One shape for every refusal of these endpoints: https://www.rfc-editor.org/rfc/rfc6749#section-5.2"""
    challenge = {"www-authenticate": 'Bearer realm="fhirgw"'} if error.status == 401 else {}
    told = {"error": error.error, "error_description": error.description}
    return JSONResponse(told, error.status, NO_STORE | challenge | error.headers)


async def _asking(request: Request, form: Form) -> Registration:
    """The registration that asks: by its access token, or by an assertion."""
    if "client_assertion" in form:
        return await _asserted(request, form)
    here = smart(request)
    bearer = await here.gatekeeper.bearer(request)
    found = await _active(here, bearer)
    if found is None:
        unauthorised("The access token is not one of this gateway's, or was revoked", "invalid_token")
    _counted(request, found)
    return found


async def _asserted(request: Request, form: Form) -> Registration:
    """The registration whose assertion the form holds, used up by this. Raises the 401 where it holds none."""
    if "client_assertion" not in form:
        unauthorised("Send a client assertion: client_assertion_type and client_assertion")
    here = smart(request)
    async with here.connect() as connection:
        found, given = await here.exchange.authenticated(connection, form, token_endpoint(request))
        _counted(request, found)
        await here.exchange.used(connection, given)
    return found


def _counted(request: Request, found: Registration) -> None:
    """The request is the registration's, in the audit and in its rate. Raises Refusal(429)."""
    entry(request).registration = found.id
    smart(request).gatekeeper.count(request, found.id, found.rate)


def _named(form: Form) -> str:
    """The token that is asked about. Raises OAuthError: https://www.rfc-editor.org/rfc/rfc7662#section-2.1"""
    if not form.get("token"):
        raise OAuthError("invalid_request", "token: say which")
    return form["token"]


async def _active(here: Smart, bearer: Bearer) -> Registration | None:
    """Whose token it is, if the gate would take it."""
    if bearer.jti is None or bearer.registration is None:
        return None
    async with here.connect() as connection:
        if not await registrations.alive(connection, bearer.jti, bearer.registration):
            return None
        found = await registrations.find(connection, bearer.registration)
    same = found and (found.patient, found.practitioner) == (bearer.patient, bearer.practitioner)
    return found if same else None


def _introspected(found: Bearer, whose: Registration) -> dict[str, Any]:
    known = {"patient": found.patient, "purpose": found.purposes and found.purposes[0]}
    return {
        "active": True,
        "scope": " ".join(map(str, granted(found.scopes, readable(whose.scopes)))),
        "client_id": found.registration,
        "sub": found.registration,
        "iss": found.issuer,
        "exp": int(found.expires),
        "token_type": "bearer",
        **{name: value for name, value in known.items() if value},
    }


async def _form(request: Request) -> Form:
    """The fields of the body, each once. Raises OAuthError(invalid_request)."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise OAuthError("invalid_request", f"Send the parameters as {FORM}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LONGEST:
            raise OAuthError("invalid_request", f"The request has more than {LONGEST} bytes")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_FIELDS)
    except ValueError:
        raise OAuthError("invalid_request", "The request is not a form, or has too many fields") from None
    if len({name for name, _ in pairs}) != len(pairs) or any("\0" in each for pair in pairs for each in pair):
        raise OAuthError("invalid_request", "A parameter is sent twice, or holds a NUL")
    return dict(pairs)
