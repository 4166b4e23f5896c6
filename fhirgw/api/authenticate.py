"""Who asks: from the bearer token of a request to the Permit that every path that reads is given.

The token says who; the database says, in one statement and at every request, whether that still holds and what they
are known by. Whatever is not known permits nothing; what cannot be asked is a 503.
https://www.rfc-editor.org/rfc/rfc6750#section-3

Long, because each element of a Permit has a function of its own that says where it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

from starlette.requests import Request

from fhirgw.access import jose
from fhirgw.access.label import EVERY, SEALED
from fhirgw.access.permit import Asking, Permit
from fhirgw.access.purpose import GRANTED, Purpose
from fhirgw.access.scope import Scope, granted
from fhirgw.access.token import Bearer, readable
from fhirgw.api.audit import entry
from fhirgw.api.headers import header
from fhirgw.api.jwks import Unfetched
from fhirgw.api.limits import CHARGE, Limits, Quota
from fhirgw.api.shared import Shared
from fhirgw.api.verifier import Verifier
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.store.database import Connection
from fhirgw.store.registration import ODS_CODE, RATE, Asker, Caller, Registration, caller, callers, opened_glass

HEADERS = "fhirgw.headers"
"""Where in a request's scope the headers are that its answer is to have."""

ROLES = "fhirgw.roles"
"""Where in a request's scope the caller's roles are."""

BREAK_GLASS = b"x-break-glass"
CASE = b"x-safeguarding-case"
SECTOR = "https://fhirgw.uk/fhir/CodeSystem/consent-sharing|{}"
"""The party that a consent to sharing with a whole sector names."""

MOST = 10_000
"""Permits kept."""

Connect = Callable[[], AbstractAsyncContextManager[Connection]]


class Refusal(FhirError):
    """A refusal with the headers that belong to it."""

    def __init__(self, issue: Issue, headers: dict[str, str], status: int | None = None) -> None:
        super().__init__(issue, status=status)
        self.headers = headers


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """A permit, with what it was made of: as long as that is the same, so is the permit."""

    bearer: Bearer
    known: Caller
    permit: Permit


class Gatekeeper:
    """`await gatekeeper.permit(request)`. `connect` gives connections that may read reference data and identifiers.

    Who asks too often is not looked up again: the registrations that have asked are known, with their rates. Those who
    ask at the same time are looked up together; the permit is made anew when what it is made of changes.
    `controllers`: whose records these are, the gateway's own council first.
    """

    def __init__(self, verifier: Verifier, connect: Connect, limits: Limits, controllers: Sequence[str]) -> None:
        self.verifier, self.connect, self.limits = verifier, connect, limits
        self._controllers = controllers
        self._registered: dict[str, Registration | None] = {}
        self._made: dict[Asker, Made] = {}
        self._callers: Shared[Asker | None, Asker, Caller] = Shared(self._known)

    async def permit(self, request: Request) -> Permit:
        """The caller's permit. Raises Refusal (401, 429) or FhirError (403, 503); the audit is told who gets none."""
        bearer = await self.bearer(request)
        known = None
        try:
            known = await self._counted(request, bearer)
            return await self._permit(request, bearer, known)
        except Exception:  # refused, or not to be asked about now
            entry(request).asking = _asking(bearer, self._registered.get(_key(bearer)), known)
            raise

    async def _counted(self, request: Request, bearer: Bearer) -> Caller:
        """What is known of who asks, once this request is counted. Raises Refusal(429)."""
        key, asker = _key(bearer), _asker(bearer)
        if met := key in self._registered:
            self._count(request, bearer)
        # What another issuer says is asked of alone: should it be refused, it is for nobody else.
        known = await self._callers(None if asker.impersonal and asker.jti else asker, asker)
        self._registered[key] = known.registration
        if not met:
            self._count(request, bearer)
        return known

    async def _permit(self, request: Request, bearer: Bearer, known: Caller) -> Permit:
        _check_valid(bearer, known)
        asker = _asker(bearer)
        request.scope[ROLES] = roles = _roles(bearer, known)
        if grant := header(request, BREAK_GLASS):
            async with self.connect() as connection:
                return self._among(await _emergency(connection, grant, bearer, known, roles))
        if case := _case(request, known, bearer, roles):
            return self._among(_permit(bearer, known, case))
        made = self._made.get(asker)
        if made is None or made.bearer is not bearer or made.known is not known:
            made = self._made[asker] = Made(bearer, known, self._among(_permit(bearer, known, None)))
        return made.permit

    async def assumed(self, request: Request) -> Made | None:
        """The permit of an application's request before, if it still has its standing: that is the caller's to ask.

        None where more is to be asked. Raises Refusal (401, 429).
        """
        bearer = await self.bearer(request)
        made = self._made.get(_asker(bearer))
        if made is None or made.bearer is not bearer or made.known.standing is None:
            return None
        if header(request, BREAK_GLASS) or header(request, CASE):
            return None
        try:
            self._count(request, bearer)
        except Refusal:
            entry(request).asking = _asking(bearer, made.known.registration, made.known)
            raise
        request.scope[ROLES] = _roles(bearer, made.known)
        return made

    def _among(self, permit: Permit) -> Permit:
        return permit.among(self._controllers[0], self._controllers[1:])

    async def _known(self, one: Asker | None, askers: Sequence[Asker]) -> list[Caller]:
        """What is known of `one` who asks, or of many applications, now: the same object while it is the same."""
        asking = [one] if one else list(dict.fromkeys(askers))
        async with self.connect() as connection:
            found = [await caller(connection, one)] if one else await callers(connection, asking)
        known = dict(zip(asking, map(self._same, asking, found), strict=True))
        return [known[each] for each in askers]

    def _same(self, asker: Asker, known: Caller) -> Caller:
        made = self._made.get(asker)
        if made and made.known == known:
            return made.known
        if len(self._made) >= MOST:
            self._made.clear()
        return known

    async def bearer(self, request: Request) -> Bearer:
        """What the request's token says, if it is one. Raises Refusal (401)."""
        text = _token(request)
        try:
            return await self.verifier.bearer(text)
        except jose.Untrusted as error:
            unauthorised(f"The access token is not valid: {error}", "invalid_token")
        except Unfetched as error:
            raise FhirError(Issue("transient", f"The token cannot be verified now: {error}")) from None

    def _count(self, request: Request, bearer: Bearer) -> None:
        """An application of our own has its rate for itself; people of another issuer have theirs each."""
        if CHARGE in request.scope:
            return  # counted when its permit was assumed
        registration = self._registered[_key(bearer)]
        rate = registration.rate if registration else RATE
        person = bearer.sds_user or bearer.nhs_number or bearer.patient or bearer.organisation
        self.count(request, str(bearer.registration) if bearer.own else f"{bearer.issuer} {person}", rate)

    def count(self, request: Request, key: str, rate: int) -> None:
        """One request more of `key`, which may send `rate` a minute; its answer says so. Raises Refusal(429)."""
        quota = self.limits.take(key, rate)
        request.scope[HEADERS] = headers = quota.headers()
        request.scope[CHARGE] = lambda more: headers.update(self.limits.charge(key, rate, more).headers())
        if quota.wait:
            raise throttled(quota, headers)


def throttled(quota: Quota, headers: dict[str, str]) -> Refusal:
    """The refusal of a request too many."""
    told = f"More than {quota.rate} requests a minute: ask again in {headers['retry-after']} seconds"
    return Refusal(Issue("throttled", told), headers)


def unauthorised(diagnostics: str, error: str | None = None) -> NoReturn:
    """Raises the 401. https://www.rfc-editor.org/rfc/rfc6750#section-3.1: without a token no error is named."""
    challenge = 'Bearer realm="fhirgw"'
    if error:
        challenge += f', error="{error}", error_description="{diagnostics}"'
    raise Refusal(Issue("login", diagnostics), {"www-authenticate": challenge})


def _token(request: Request) -> str:
    given: list[bytes] = [value for name, value in request.scope["headers"] if name == b"authorization"]
    if not given:
        unauthorised("An access token is needed: send Authorization: Bearer, and get one at the token endpoint")
    scheme, _, text = given[0].decode("latin-1").partition(" ")
    if len(given) > 1 or scheme.lower() != "bearer" or not text.strip():
        unauthorised("One Authorization header is needed, of the scheme Bearer", "invalid_request")
    return text.strip()


def _key(bearer: Bearer) -> str:
    """What its registration is known by."""
    return bearer.registration or bearer.issuer


def _asking(bearer: Bearer, found: Registration | None, known: Caller | None) -> Asking:
    """Who asks, by a token that was verified: as much as is known of one who gets no permit for it."""
    purposes = bearer.purposes or (found.purposes if found else ())
    staff, patients = (known.practitioners, known.patients) if known else ((), ())
    return Asking(
        registration=_key(bearer),
        organisation=bearer.organisation or (found.organisation if found else ""),
        purpose=purposes[0] if purposes and purposes[0] in GRANTED else "",
        practitioner=bearer.practitioner or next(iter(staff), None),
        patient=bearer.patient or (patients[0] if len(patients) == 1 else None),
        delegate=found.delegate if found and bearer.own else bearer.delegate,
    )


def _asker(bearer: Bearer) -> Asker:
    return Asker(
        bearer.registration, bearer.jti, bearer.organisation, bearer.practitioner, bearer.sds_user, bearer.nhs_number
    )


def _check_valid(bearer: Bearer, known: Caller) -> None:
    """Raises the 401 for a token that no longer holds, whatever it says itself."""
    registration = known.registration
    if bearer.registration is not None and (registration is None or not registration.active):
        unauthorised("The application is not registered, or no longer active", "invalid_token")
    if not known.valid:
        unauthorised("The access token was revoked", "invalid_token")
    if not bearer.own or registration is None:
        return
    if (bearer.patient, bearer.practitioner) != (registration.patient, registration.practitioner):
        unauthorised("The application is registered for another than it was: get another token", "invalid_token")


def _permit(bearer: Bearer, known: Caller, case: str | None) -> Permit:
    registration = known.registration
    purpose = Purpose.SAFEGUARDING if case else _purpose(bearer, known)
    scopes = _scopes(bearer, known)
    veiled = registration is not None and registration.pseudonyms
    delegate = registration.delegate if registration and bearer.own else bearer.delegate
    return Permit(
        organisation=_organisation(bearer, known),
        purpose=purpose,
        scopes=() if veiled else scopes,
        patient=_patient(bearer, known),
        practitioner=_practitioner(bearer, known),
        parties=_parties(bearer, known, delegate),
        clearance=_clearance(bearer, known),
        delegate=delegate,
        case=case,
        agreement=_agreement(purpose, known),
        pseudonymous=scopes if veiled else (),
        registration=_name(bearer, known),
    )


async def _emergency(
    connection: Connection, grant: str, bearer: Bearer, known: Caller, roles: frozenset[str]
) -> Permit:
    """The permit of a practitioner who has broken the glass: one person's record, by the grant that says so.

    In an emergency every class is open but what is sealed.
    """
    scopes = tuple(each for each in _scopes(bearer, known) if each.context == "user")
    practitioner = _practitioner(bearer, known)
    lacking = unmet("break-glass" in roles, practitioner is not None and bool(scopes))
    if practitioner is None or lacking:
        raise _forbidden(lacking)
    found = await opened_glass(connection, grant, known.practitioners)
    if found is None:
        raise _forbidden("There is no such grant in force for this practitioner: ask for one, with the reason")
    patient, practitioner = found
    return Permit(
        organisation=_organisation(bearer, known),
        purpose=Purpose.EMERGENCY,
        scopes=scopes,
        patient=patient,
        practitioner=practitioner,
        parties=_parties(bearer, known, None),
        clearance=EVERY & ~SEALED,
        grant=grant,
        registration=_name(bearer, known),
    )


def unmet(role: bool, in_person: bool) -> str:
    """What break-glass lacks, and what to do about it; empty if that is nothing."""
    needs = [] if role else ["the role (its application is registered with --role break-glass, or its issuer says so)"]
    needs += [] if in_person else ["a user scope of the practitioner who asks (as user/*.rs)"]
    return f"Break-glass needs {' and '.join(needs)}" if needs else ""


def _case(request: Request, known: Caller, bearer: Bearer, roles: frozenset[str]) -> str | None:
    case = header(request, CASE)
    if case and "safeguarding" not in roles:
        raise _forbidden(
            "To name a safeguarding case needs the role: the application is registered with --role safeguarding"
        )
    if case and Purpose.SAFEGUARDING not in _purposes(bearer, known):
        raise _forbidden(
            "To name a safeguarding case needs an application registered for safeguarding: --purpose safeguarding"
        )
    return case or None


def _purposes(bearer: Bearer, known: Caller) -> tuple[str, ...]:
    """What the application may ask for at all: by its registration, or else by its token's issuer."""
    return known.registration.purposes if known.registration else bearer.purposes or ()


def _name(bearer: Bearer, known: Caller) -> str:
    return known.registration.id if known.registration else bearer.issuer


def _roles(bearer: Bearer, known: Caller) -> frozenset[str]:
    """An application's roles are its registration's; a person's are what their issuer says of them."""
    own = known.registration.roles if known.registration and bearer.own else ()
    return frozenset((*own, *bearer.roles))


def _organisation(bearer: Bearer, known: Caller) -> str:
    return bearer.organisation or (known.registration.organisation if known.registration else "")


def _purpose(bearer: Bearer, known: Caller) -> Purpose:
    """The token's purpose, if the registration still has it; the first of several that both have."""
    allowed = _purposes(bearer, known)
    for each in bearer.purposes or allowed:
        if each in allowed:
            return Purpose(each)
    raise _forbidden("The application may no longer ask for the purpose of this token")


def _scopes(bearer: Bearer, known: Caller) -> tuple[Scope, ...]:
    """What the token has, within what is registered now."""
    if known.registration is None:
        return bearer.scopes
    return _within(bearer.scopes, known.registration.scopes)


@lru_cache(maxsize=1000)
def _within(scopes: tuple[Scope, ...], registered: str) -> tuple[Scope, ...]:
    return granted(scopes, readable(registered))


def _patient(bearer: Bearer, known: Caller) -> str | None:
    """The patient of the token. A person told by an NHS number is the one Patient who has it, or nobody."""
    if bearer.nhs_number is None:
        return bearer.patient
    if len(known.patients) != 1:
        raise _forbidden("No record can be told to be that of the person of this token")
    return known.patients[0]


def _practitioner(bearer: Bearer, known: Caller) -> str | None:
    """The practitioner of the token. One who is not known permits nothing, rather than what nobody would see."""
    if bearer.practitioner is None and bearer.sds_user is None:
        return None
    if not known.practitioners:
        raise _forbidden("The practitioner of this token is not known here, or no longer active")
    return known.practitioners[0]


def _parties(bearer: Bearer, known: Caller, delegate: str | None) -> tuple[str, ...]:
    """By what records and consents name whoever asks. A delegate asks as family, not as the application's council."""
    if delegate:
        return delegate, SECTOR.format("family")
    sector = known.registration.sector if known.registration and bearer.own else bearer.sector
    organisation = _organisation(bearer, known)
    return tuple(dict.fromkeys((f"{ODS_CODE}|{organisation}", *known.parties, SECTOR.format(sector))))


def _clearance(bearer: Bearer, known: Caller) -> int:
    if bearer.clearance is not None:
        return bearer.clearance
    return known.registration.clearance if known.registration else 0


def _agreement(purpose: Purpose, known: Caller) -> str | None:
    if known.registration is None or not known.registration.agreement:
        return None
    if not known.agreed and purpose in (Purpose.PLANNING, Purpose.RESEARCH):
        raise _forbidden("The agreement that this purpose rests on has ended")
    return known.registration.agreement


def _forbidden(diagnostics: str) -> FhirError:
    return FhirError(Issue("forbidden", diagnostics))


async def as_registered(
    connection: Connection,
    found: Registration,
    purpose: str | None = None,
    *,
    patient: str | None = None,
    practitioner: str | None = None,
    scopes: str | None = None,
) -> Permit:
    """The permit an application has with all that it is registered for, for whoever runs the gateway to look through;
    or with no more of that than `scopes`, for what it asked with them once.

    With a patient or practitioner it is as another issuer's token for them would have it. Raises FhirError (403) for a
    purpose it is not registered for, Refusal (401) for one that is stopped.
    """
    bearer = Bearer(
        issuer="",
        registration=found.id,
        scopes=readable(found.scopes if scopes is None else scopes),
        expires=0,
        purposes=(purpose,) if purpose else None,
        patient=patient or found.patient,
        practitioner=practitioner or found.practitioner,
        sector=found.sector,
        delegate=found.delegate,
        own=not (patient or practitioner),
    )
    known = await caller(connection, _asker(bearer))
    _check_valid(bearer, known)
    return _permit(bearer, known, None)
