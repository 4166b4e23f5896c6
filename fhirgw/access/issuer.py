"""Issuers elsewhere (Keycloak, NHS CIS2, NHS login): whose tokens are taken, and what their claims mean here.

Each is declared by whoever runs the gateway. A claim that is declared must be there: a token that does not say which
practitioner is asking must not pass for an application that asks for a whole organisation.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fhirgw.access import jose
from fhirgw.access.label import CLASSES
from fhirgw.access.purpose import GRANTED, Purpose
from fhirgw.access.scope import Scope, granted, scopes
from fhirgw.access.token import Bearer, check_times
from fhirgw.access.unread import SECTORS
from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.nhs import is_nhs_number, is_ods_code

LEEWAY = 5.0
ALGORITHMS = (*jose.RSA, *jose.CURVES)
IDENTITY = ("nonce", "at_hash", "c_hash", "s_hash")
"""Claims of an ID token, which says who signed in and is not for us: https://openid.net/specs/openid-connect-core-1_0.html"""

Told = Literal["organisation", "sector", "sds_user", "nhs_number", "patient", "delegate", "roles", "purpose", "scope"]
LAUNCHABLE = tuple(each for each in GRANTED if each not in (Purpose.EMERGENCY, Purpose.OPERATIONS))


class Issuer(BaseModel):
    """One issuer, as its declaration spells it.

    `claims` names the claim that tells each thing (`realm_access.roles` is a claim inside another), `fixed` tells it
    where no claim does. `organisations` are the ODS codes it may speak for; none: any. `scopes` is the most a token of
    this issuer may have. `require` are claims with the values they must have, such as Keycloak's `typ: Bearer`; `types`
    the `typ` headers of its access tokens. `roles` maps its roles to ours, `clearance` its roles to classes of record.
    `registration` is one of ours, by which all its tokens can be shut out at once. `internal`: its keys are on a
    private network.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field(min_length=1)
    audience: str = Field(min_length=1)
    scopes: str
    jwks: dict[str, Any] | None = None
    jwks_url: str | None = None
    internal: bool = False
    algorithms: tuple[str, ...] = ("RS256", "PS256", "ES256")
    types: tuple[str, ...] = ("at+jwt", "application/at+jwt")
    require: dict[str, str | bool | int] = {}
    claims: dict[Told, str] = {}
    fixed: dict[Literal["organisation", "sector", "delegate"], str] = {}
    organisations: tuple[str, ...] = ()
    purposes: tuple[Purpose, ...] = (Purpose.DIRECT_CARE,)
    roles: dict[str, str] = {}
    clearance: dict[str, tuple[str, ...]] = {}
    registration: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Issuer:
        faults = list(self._faults())
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _faults(self) -> Iterator[str]:
        if ":" not in self.issuer:
            yield "issuer: it is an address, as https://login.example: an application could have any other name"
        if (self.jwks is None) == (self.jwks_url is None):
            yield "either jwks or jwks_url is needed"
        if not self.algorithms or set(self.algorithms) - set(ALGORITHMS):
            yield f"algorithms: choose from {', '.join(ALGORITHMS)}"
        if not self.purposes or set(self.purposes) - set(LAUNCHABLE):
            yield f"purposes: choose from {', '.join(LAUNCHABLE)}"
        if unknown := {name for names in self.clearance.values() for name in names} - set(CLASSES):
            yield f"clearance: there is no class {', '.join(sorted(unknown))}"
        if {"sds_user", "nhs_number"} <= self.claims.keys():
            yield "claims: sds_user tells of a practitioner and nhs_number of a person: two issuers"
        if (sector := self.fixed.get("sector")) is not None and sector not in SECTORS:
            yield f"fixed.sector: choose from {', '.join(SECTORS)}"
        if not all(map(is_ods_code, (*self.organisations, self.fixed.get("organisation", "AAA")))):
            yield "organisations and fixed.organisation are ODS codes: capital letters and digits"
        if not {"organisation"} & {*self.claims, *self.fixed}:
            yield "organisation: say by claims or fixed which organisation is asking"
        try:
            if not scopes(self.scopes):
                yield "scopes: there is none"
        except FhirError as error:
            yield f"scopes: {error}"

    @cached_property
    def most(self) -> tuple[Scope, ...]:
        """The most a token of this issuer may have."""
        return scopes(self.scopes)

    def bearer(self, token: jose.Unverified, now: float) -> Bearer:
        """What a token of this issuer says; who signed it is checked elsewhere. Raises jose.Untrusted."""
        self._check(token, now)
        said = {name: _value(token.claims, path) for name, path in self.claims.items()}
        if missing := sorted(name for name, value in said.items() if not _tells(name, value)):
            raise jose.Untrusted(f"it does not tell its {', '.join(missing)}")
        text = {name: value for name, value in said.items() if isinstance(value, str)}
        roles = _listed(said.get("roles") or [])
        return Bearer(
            issuer=self.issuer,
            registration=self.registration,
            scopes=self._scopes(said),
            expires=token.claims["exp"],
            purposes=self._purposes(text.get("purpose")),
            patient=text.get("patient"),
            organisation=self._organisation(text.get("organisation")),
            sector=_sector(text.get("sector") or self.fixed.get("sector", SECTORS[0])),
            sds_user=text.get("sds_user"),
            nhs_number=_nhs_number(text.get("nhs_number")),
            delegate=text.get("delegate") or self.fixed.get("delegate"),
            roles=tuple(self.roles[each] for each in roles if each in self.roles),
            clearance=_bits(name for each in roles for name in self.clearance.get(each, ())),
        )

    def _check(self, token: jose.Unverified, now: float) -> None:
        if token.header.get("typ") not in self.types or any(name in token.claims for name in IDENTITY):
            raise jose.Untrusted("it is not an access token")
        audience = token.claims.get("aud")
        if self.audience not in (audience if isinstance(audience, list) else [audience]):
            raise jose.Untrusted("it is for another audience")
        if any(_value(token.claims, name) != value for name, value in self.require.items()):
            raise jose.Untrusted("a claim that its issuer is declared with is missing, or another")
        check_times(token.claims, now, LEEWAY)

    def _organisation(self, told: str | None) -> str | None:
        """The ODS code of who asks: of those that the issuer may speak for, where it does not speak for all."""
        if told is None:
            return self.fixed.get("organisation")
        if not is_ods_code(told) or told not in (self.organisations or [told]):
            raise jose.Untrusted("its organisation is not one its issuer may speak for")
        return told

    def _scopes(self, said: dict[Told, Any]) -> tuple[Scope, ...]:
        """Of the token's scopes those that are SMART's, within the most there may be."""
        if "scope" not in self.claims:
            return self.most
        spelt = said["scope"].split() if isinstance(said["scope"], str) else _listed(said["scope"])
        asked = []
        for each in spelt:
            try:
                asked.append(Scope.parse(each))
            except FhirError:
                continue
        return granted(asked, self.most)

    def _purposes(self, asked: str | None) -> tuple[str, ...]:
        if asked is None:
            return tuple(each.value for each in self.purposes)
        if asked not in self.purposes:
            raise jose.Untrusted("its purpose is not one its issuer may give")
        return (asked,)


def _tells(name: Told, value: Any) -> bool:
    """Whether a claim says what it is declared to. Who has no roles is allowed no more; whoever has a number for an id
    would pass for who has none.
    """
    if name == "scope":
        return value not in (None, "", [])
    return name == "roles" or (isinstance(value, str) and bool(value.strip()))


def _value(said: jose.Claims, path: str) -> Any:
    """A claim by its name, or by its way through others: `realm_access.roles`."""
    if path in said:
        return said[path]
    value: Any = said
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _listed(value: Any) -> list[str]:
    return [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)]


def _bits(names: Iterator[str]) -> int:
    found = 0
    for name in names:
        found |= CLASSES[name]
    return found


def _sector(value: str) -> str:
    """Consents deny by sector: whoever is of none that they know would be denied by none."""
    if value not in SECTORS:
        raise jose.Untrusted(f"its sector is none of {', '.join(SECTORS)}")
    return value


def _nhs_number(value: str | None) -> str | None:
    if value is not None and not is_nhs_number(value):
        raise jose.Untrusted("its NHS number is none")
    return value
