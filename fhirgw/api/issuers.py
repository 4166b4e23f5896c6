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
from fhirgw.mapping.positions import Positioned


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
            positioned = Positioned(path)
        except OSError as error:
            raise _fault(path, 1, f"it cannot be read ({error.strerror})") from None
        except (ValueError, yaml.YAMLError) as error:
            line = getattr(getattr(error, "problem_mark", None), "line", 0) + 1
            raise _fault(path, line, "it is no YAML: see how a list of issuers is written in k8s/README.md") from None
        if not isinstance(positioned.data, list):
            raise _fault(path, 1, "it is not a list of issuers: begin each with `- issuer:`")
        for line, key in positioned.repeated:
            raise _fault(path, line, f"the key {key} is there twice: remove one")
        made = cls([_declared(positioned, at, key_sets.loopback) for at in range(len(positioned.data))], key_sets)
        if len(made._issuers) != len(positioned.data):
            raise _fault(path, 1, "an issuer is listed twice: remove one")
        return made

    def find(self, issuer: object) -> Issuer | None:
        """The issuer whose tokens have that `iss`."""
        return self._issuers.get(issuer) if isinstance(issuer, str) else None

    async def keys(self, issuer: Issuer, *, eager: bool = False) -> Sequence[jose.Key]:
        """The keys it signs with; `eager`: one that may be new is looked for. Raises Unfetched."""
        if issuer.jwks_url is None:
            return self._inline[issuer.issuer]
        return await self._key_sets.keys(issuer.jwks_url, eager=eager)


def _declared(file: Positioned, at: int, loopback: bool) -> Issuer:
    try:
        made = Issuer.model_validate(file.data[at])
        if made.jwks_url is not None:
            check_address(made.jwks_url, loopback=loopback)
        elif not jose.public_keys(made.jwks):
            raise jose.Untrusted("it holds no key to verify with: give the issuer's public keys")
    except ValidationError as error:
        each = error.errors()[0]
        key = ".".join(map(str, each["loc"]))
        rule = each["msg"].removeprefix("Value error, ")
        told = f"{key}: {rule}" if key else rule
        raise _fault(file.file, file.line((at, *each["loc"])), f"issuer {at + 1}: {told}") from None
    except (Unfetched, jose.Untrusted) as error:
        key = "jwks_url" if isinstance(error, Unfetched) else "jwks"
        raise _fault(file.file, file.line((at, key)), f"issuer {at + 1}: {key}: {error}") from None
    return made


def _fault(path: Path, line: int, fault: str) -> FhirError:
    return FhirError(Issue("invalid", f"{path}:{line}: {fault}"))
