"""The identifiers that the NHS, councils and SNOMED CT use, by their shape and check digits.

Each `is_...` takes the value as it is stored: no spaces, upper case. A true answer says well-formed, never
real.
"""

from __future__ import annotations

import re
from operator import mul

NHS_NUMBER = "https://fhir.nhs.uk/Id/nhs-number"
ODS_ORGANISATION = "https://fhir.nhs.uk/Id/ods-organization-code"
"""With a z, whatever the UK Core Organization guide says: this is what its profile fixes."""
ODS_SITE = "https://fhir.nhs.uk/Id/ods-site-code"
SNOMED_CT = "http://snomed.info/sct"

NO_NUMBER = "0000000000"
_WEIGHTS = range(10, 0, -1)
_ODS_CODE = re.compile(r"[A-Z0-9]{3,10}")
_UPRN = re.compile(r"[0-9]{1,12}")
_SNOMED_ID = re.compile(r"[1-9][0-9]{5,17}")
_POSTCODE = re.compile(
    r"(?:GIR 0AA|ZZ[0-9]{1,2} [0-9][A-Z]{2}"
    r"|[A-PR-UWYZ](?:[0-9]{1,2}|[A-HK-Y][0-9]|[A-HK-Y][0-9][0-9ABEHMNPRV-Y]|[0-9][A-HJKPS-UW])"
    r" [0-9][ABD-HJLNP-UW-Z]{2})"
)

_VERHOEFF_TIMES = (
    *((0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 4, 0, 6, 7, 8, 9, 5), (2, 3, 4, 0, 1, 7, 8, 9, 5, 6)),
    *((3, 4, 0, 1, 2, 8, 9, 5, 6, 7), (4, 0, 1, 2, 3, 9, 5, 6, 7, 8), (5, 9, 8, 7, 6, 0, 4, 3, 2, 1)),
    *((6, 5, 9, 8, 7, 1, 0, 4, 3, 2), (7, 6, 5, 9, 8, 2, 1, 0, 4, 3), (8, 7, 6, 5, 9, 3, 2, 1, 0, 4)),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)
_VERHOEFF_TURN = (
    *((0, 1, 2, 3, 4, 5, 6, 7, 8, 9), (1, 5, 7, 6, 2, 8, 3, 0, 9, 4), (5, 8, 0, 3, 7, 9, 6, 1, 4, 2)),
    *((8, 9, 1, 6, 0, 4, 3, 5, 2, 7), (9, 4, 5, 3, 1, 2, 6, 8, 7, 0), (4, 2, 8, 6, 5, 7, 3, 9, 0, 1)),
    *((2, 7, 9, 3, 8, 0, 6, 4, 1, 5), (7, 0, 4, 6, 9, 1, 3, 2, 5, 8)),
)


def is_nhs_number(value: str) -> bool:
    """Ten digits of which the last is the modulus 11 check of the others; a check of 10 makes no number.

    Ten noughts would pass: systems write them for "unknown", so they do not.
    https://www.datadictionary.nhs.uk/attributes/nhs_number.html
    """
    if len(value) != 10 or not (value.isascii() and value.isdigit()) or value == NO_NUMBER:
        return False
    # With weight 1 the check makes the sum a multiple of 11; that a digit's byte is 48 more adds 48 x 55, which is one.
    total: int = sum(map(mul, value.encode(), _WEIGHTS))
    return total % 11 == 0


def spaced(nhs_number: str) -> str:
    """As people read it: 900 000 0009."""
    return f"{nhs_number[:3]} {nhs_number[3:6]} {nhs_number[6:]}"


def unspaced(nhs_number: str) -> str:
    """As it is stored: what people write, without spaces and hyphens."""
    return re.sub(r"[\s\-]", "", nhs_number)


def is_ods_code(value: str) -> bool:
    """Three to ten capital letters and digits, as the Organisation Data Service gives out."""
    return _ODS_CODE.fullmatch(value) is not None


def is_uprn(value: str) -> bool:
    """One to twelve digits, kept as text: a Unique Property Reference Number is no quantity."""
    return _UPRN.fullmatch(value) is not None


def is_postcode(value: str) -> bool:
    """A postcode's shape with its one space, by BS 7666: SS1 1AA. It says nothing of whether mail arrives.

    ZZ is the NHS's own area for addresses without one (ZZ99 3VZ: no fixed abode), and that of made-up addresses.
    """
    return _POSTCODE.fullmatch(value) is not None


def is_snomed_id(value: str) -> bool:
    """6 to 18 digits whose partition is known and whose last digit is the Verhoeff check of the others.

    https://confluence.ihtsdotools.org/display/DOCRELFMT/6+SNOMED+CT+Identifiers
    """
    if not _SNOMED_ID.fullmatch(value) or value[-3:-1] not in ("00", "01", "02", "10", "11", "12"):
        return False
    check = 0
    for place, digit in enumerate(reversed(value)):
        check = _VERHOEFF_TIMES[check][_VERHOEFF_TURN[place % 8][int(digit)]]
    return check == 0
