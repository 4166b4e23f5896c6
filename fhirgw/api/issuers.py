"""The issuers elsewhere that whoever runs the gateway trusts, read from a file once, and their keys as they are now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from fhirgw.access import jose
from fhirgw.access.issuer import Issuer
from fhirgw.api.jwks import KeySets, Unfetched, check_address
from fhirgw.fhir.issue import FhirError, Issue


class Issuers:
    """Issuers by the `iss` of their tokens."""

    def __init__(self, declared: Sequence[Issuer] = (), key_sets: KeySets | None = None) -> None:
        self._key_sets = key_sets or KeySets()
        self._issuers = {each.issuer: each for each in declared}
        self._inline = {each.issuer: jose.public_keys(each.jwks) for each in declared if each.jwks}
        self._key_sets.vouched |= {each.jwks_url for each in declared if each.internal and each.jwks_url}

    @classmethod
    def read(cls, path: Path | None, key_sets: KeySets) -> Issuers:
        """The issuers a YAML or JSON file lists. Raises FhirError(invalid) that tells what is wrong with which."""
        if path is None:
            return cls((), key_sets)
        try:
            listed = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise _fault(path, f"it cannot be read ({type(error).__name__})") from None
        if not isinstance(listed, list):
            raise _fault(path, "it is not a list of issuers")
        made = cls([_declared(path, at, each, key_sets.loopback) for at, each in enumerate(listed, 1)], key_sets)
        if len(made._issuers) != len(listed):
            raise _fault(path, "an issuer is listed twice")
        return made

    def find(self, issuer: object) -> Issuer | None:
        """The issuer whose tokens have that `iss`."""
        return self._issuers.get(issuer) if isinstance(issuer, str) else None

    async def keys(self, issuer: Issuer, *, eager: bool = False) -> Sequence[jose.Key]:
        """The keys it signs with; `eager`: one that may be new is looked for. Raises Unfetched."""
        if issuer.jwks_url is None:
            return self._inline[issuer.issuer]
        return await self._key_sets.keys(issuer.jwks_url, eager=eager)


def _declared(path: Path, at: int, value: object, loopback: bool) -> Issuer:
    try:
        made = Issuer.model_validate(value)
        if made.jwks_url is not None:
            check_address(made.jwks_url, loopback=loopback)
        elif not jose.public_keys(made.jwks):
            raise jose.Untrusted("jwks: it holds no key to verify with")
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}".lstrip(": ") for each in error.errors())
        raise _fault(path, f"issuer {at}: {told}") from None
    except (Unfetched, jose.Untrusted) as error:
        raise _fault(path, f"issuer {at}: {error}") from None
    return made


def _fault(path: Path, fault: str) -> FhirError:
    return FhirError(Issue("invalid", f"{path}: {fault}"))
