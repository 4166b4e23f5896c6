"""Whether a code can be of its system at all, by shape and check digit: what can be said of systems nobody holds here.

SNOMED CT, dm+d and LOINC have check digits; languages, media types and units have a grammar. A true answer says
well-formed, never real. https://hl7.org/fhir/R4/terminologies-systems.html
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from fhirgw.fhir.nhs import (
    NHS_NUMBER,
    ODS_ORGANISATION,
    ODS_SITE,
    SNOMED_CT,
    is_nhs_number,
    is_ods_code,
    is_snomed_id,
)
from fhirgw.terminology.ucum import is_unit

DMD = "https://dmd.nhs.uk"
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
LANGUAGES = "urn:ietf:bcp:47"
MEDIA_TYPES = "urn:ietf:bcp:13"
FORMATS = ("xml", "json", "ttl")
MOST_KEPT = 4096
"""Answers remembered: a feed repeats a few hundred codes."""

_CODE = re.compile(r"[^\s\x00-\x1f]+(?: [^\s\x00-\x1f]+)*")
_LOINC = re.compile(r"([1-9][0-9]{0,7})-([0-9])")
_LOINC_PART = re.compile(r"L[PALG][1-9][0-9]{0,7}-[0-9]")
_LANGUAGE = re.compile(r"[A-Za-z0-9]{1,8}(?:-[A-Za-z0-9]{1,8})*")
_MEDIA_TYPE = re.compile(
    r"[\w!#$&^.+-]+/(?:[\w!#$&^.+-]+|\*)(?:\s*;\s*[\w!#$&^.+-]+=(?:[\w!#$&^.+:/-]+|\"[^\"]*\"))*", re.ASCII
)
_EXPRESSION = re.compile(r"[0-9]{6,18}(?![0-9])")
_TERM = re.compile(r"\|[^|]*\|")
_LITERAL = re.compile(r"\"[^\"]*\"|#-?[0-9.]+")
_OPERATORS = re.compile(r"(?:[\s:,+={}()]|===|<<<)*")


@lru_cache(maxsize=MOST_KEPT)
def shaped(system: str | None, code: str) -> bool | None:
    """Whether the code can be of the system: False where it cannot, None where nothing is known of its shape.

    Any code is refused that R4's datatype refuses: blank, or with spaces at an end or doubled.
    """
    if not _CODE.fullmatch(code):
        return False
    can_be = SHAPES.get(system or "")
    return None if can_be is None else can_be(code)


def reason(system: str, code: str) -> str:
    """Why `shaped` says no, without the code."""
    if not _CODE.fullmatch(code):
        return "It is blank, or has a space at an end or two together: no code has"
    return REASONS.get(system, "It does not have the shape of this system's codes")


def is_snomed_code(code: str) -> bool:
    """A concept's identifier (partition 00 or 10), or an expression of which each identifier is one.

    https://confluence.ihtsdotools.org/display/DOCRELFMT/6+SNOMED+CT+Identifiers
    """
    if code.isascii() and code.isdigit():
        return is_snomed_id(code) and code[-3:-1] in ("00", "10")
    bare = _LITERAL.sub("", _TERM.sub("", code))
    concepts = _EXPRESSION.findall(bare)
    return bool(concepts) and all(map(is_snomed_code, concepts)) and not _OPERATORS.sub("", _EXPRESSION.sub("", bare))


def is_loinc_code(code: str) -> bool:
    """Digits, a hyphen and their modulus 10 check.

    Parts, answers, lists and groups (LP, LA, LL, LG) are known by their form alone: their check is not of the digits.

    https://loinc.org/kb/users-guide/loinc-codes-and-check-digits/
    """
    found = _LOINC.fullmatch(code)
    if found is None:
        return _LOINC_PART.fullmatch(code) is not None
    total = 0
    for place, digit in enumerate(reversed(found[1])):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return (10 - total % 10) % 10 == int(found[2])


def is_language(code: str) -> bool:
    """A tag of BCP 47 whose subtags the IANA registry has. https://www.rfc-editor.org/rfc/rfc5646"""
    if _LANGUAGE.fullmatch(code) is None:
        return False
    from langcodes import tag_is_valid  # the whole registry, for who meets a language

    return bool(tag_is_valid(code))


def is_media_type(code: str) -> bool:
    """`type/subtype`, with parameters or without; or what R4 lets stand for one of its own formats.

    https://www.rfc-editor.org/rfc/rfc6838#section-4.2, https://hl7.org/fhir/R4/http.html#mime-type
    """
    return code in FORMATS or _MEDIA_TYPE.fullmatch(code) is not None


SHAPES: dict[str, Callable[[str], bool]] = {
    SNOMED_CT: is_snomed_code,
    DMD: is_snomed_code,
    LOINC: is_loinc_code,
    UCUM: is_unit,
    LANGUAGES: is_language,
    MEDIA_TYPES: is_media_type,
    NHS_NUMBER: is_nhs_number,
    ODS_ORGANISATION: is_ods_code,
    ODS_SITE: is_ods_code,
    "urn:iso:std:iso:3166": lambda code: re.fullmatch(r"[A-Z]{2,3}|[0-9]{3}", code) is not None,
    "urn:iso:std:iso:3166:-2": lambda code: re.fullmatch(r"[A-Z]{2}-[A-Z0-9]{1,3}", code) is not None,
    "urn:iso:std:iso:4217": lambda code: re.fullmatch(r"[A-Z]{3}", code) is not None,
}

_SCTID = "a SNOMED CT identifier of a concept has 6 to 18 digits, partition 00 or 10 and a Verhoeff check digit"
REASONS = {
    SNOMED_CT: f"It cannot be a SNOMED CT code: {_SCTID}",
    DMD: f"It cannot be a dm+d code: {_SCTID}",
    LOINC: "It cannot be a LOINC code: digits, a hyphen and their modulus 10 check digit",
    LANGUAGES: "It is no language tag of BCP 47 with subtags of the IANA registry",
    MEDIA_TYPES: "It is no media type: type/subtype",
    UCUM: "It is no unit of UCUM, whose codes are as mg, kg/m2, 10*9/L or {score}: case matters",
    NHS_NUMBER: "It is no NHS number: ten digits with a modulus 11 check",
}
