"""What a search for a code, an identifier, a reference or a uri is looked up by: 64-bit tokens.

A token is the first 8 bytes of the SHA-256 of a short text, as a signed big-endian integer, so that one
`bigint[]` column with one index answers every such parameter. The texts, with `p` the parameter's name:

| value | texts |
|---|---|
| coding, identifier: system s, code c | `p\\|s\\|c` (both), `p\\|\\|c` (any system), `p\\|s\\|` (any code) |
| the same without a system | `p\\|\\|c`, and `p\\| \\|c` (no system) |
| code, boolean, contact | `p\\|\\|c` |
| reference | `p\\|Type/id`, or the absolute url or canonical: `p\\|url` |
| reference by identifier | `p:identifier\\|s\\|v` |
| uri | `p\\|uri`; of a url also itself and each url above it, `p:below\\|url` |
| string, as it is spelt (for `:exact`) | `p:exact\\|text` |

The same in SQL, of a text t:
`('x' || left(encode(sha256(convert_to(t, 'UTF8')), 'hex'), 16))::bit(64)::bigint`
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import islice
from struct import Struct

from fhirgw.fhir.hashes import sha256

_first_eight_bytes = Struct(">q").unpack_from

DEEPEST = 16
"""Steps of a url's path that it is found below. Whoever sends a longer one need not be kept ever more tokens for."""
SLASH = re.compile("/")

NO_SYSTEM = " "
"""Stands where the system would, for a value that has none: no uri is a space."""


def token(text: str) -> int:
    """The token of a text: a signed 64-bit integer."""
    number: int = _first_eight_bytes(sha256(text.encode()).digest())[0]
    return number


def coding(parameter: str, system: str | None, code: str | None) -> tuple[int, ...]:
    """The tokens under which a coding is found."""
    return identifier(parameter, system, code)


def identifier(parameter: str, system: str | None, value: str | None) -> tuple[int, ...]:
    """The tokens under which an identifier is found; nothing for one with neither system nor value."""
    if system and value:
        whole, bare = f"{parameter}|{system}|{value}".encode(), f"{parameter}||{value}".encode()
        return (
            *_first_eight_bytes(sha256(whole).digest()),
            *_first_eight_bytes(sha256(bare).digest()),
            system_only(parameter, system),
        )
    if value:
        return token(f"{parameter}||{value}"), token(f"{parameter}|{NO_SYSTEM}|{value}")
    return (system_only(parameter, system),) if system else ()


@lru_cache(maxsize=4_096)
def system_only(parameter: str, system: str) -> int:
    """The token for any code of a system."""
    return token(f"{parameter}|{system}|")


def code(parameter: str, value: str) -> int:
    """The token of a bare code: its system is implied by the element."""
    return token(f"{parameter}||{value}")


def logical(parameter: str, system: str, value: str) -> int:
    """The token of a reference that names its target by an identifier. Its exact form only: people carry many."""
    return token(f"{parameter}:identifier|{system}|{value}")


def contact(parameter: str, value: str) -> int:
    """The token of a telephone number or e-mail address, however it is spaced or capitalised.

    https://hl7.org/fhir/R4/search.html#token leaves punctuation to the server.
    """
    return token(f"{parameter}||{contact_key(value)}")


def contact_key(value: str) -> str:
    """`07700 900-123` and `(07700) 900123` are one; so are `A@B.uk` and `a@b.uk`."""
    folded = value.casefold().strip()
    return folded if "@" in folded else folded.translate(_PUNCTUATION)


_PUNCTUATION = str.maketrans("", "", " ()-.\u00a0\u2011\u2013")


def plain_reference(parameter: str, target: str) -> int:
    """The token of a reference to `target`: `Type/id`, or an absolute url."""
    return token(f"{parameter}|{target}")


def referring(names: tuple[str, ...], target: str | None, system: str | None, value: str | None) -> tuple[int, ...]:
    """All the tokens of a reference, for the parameters that look at it."""
    made = [plain_reference(name, target) for name in names] if target else []
    if system is not None and value is not None:
        made += [logical(name, system, value) for name in names]
    return tuple(made)


def uri(parameter: str, value: str) -> int:
    """The token of a uri, compared exactly."""
    return token(f"{parameter}|{value}")


def within(parameter: str, url: str) -> tuple[int, ...]:
    """The tokens under which a url is found as below another, or as that: the first DEEPEST urls on its path.

    A urn has none: it has no path.
    """
    start = url.find("://") + 3
    if start < 3:
        return ()
    ends = [at.start() for at in islice(SLASH.finditer(url, start), DEEPEST)]
    tops = dict.fromkeys((*(url[:end] for end in ends), *(() if len(ends) == DEEPEST else (url,))))
    return tuple(below(parameter, each) for each in tops)


def below(parameter: str, url: str) -> int:
    """The token of what is a url, or below it; without a slash at its end."""
    return token(f"{parameter}:below|{url}")


def exact(parameter: str, text: str) -> int:
    """The token of a string as it is spelt, case and accents in."""
    return token(f"{parameter}:exact|{text}")
