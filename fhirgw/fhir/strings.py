"""How text is compared in a string search: without case, accents, or the difference between spaces.

https://hl7.org/fhir/R4/search.html#string
"""

from __future__ import annotations

import re
import unicodedata

CONTROL = re.compile(r"[\x00-\x1f\x7f]")
POSTCODES = ("address-postalcode",)
"""Parameters whose values are compared without any space: people write SS1 1AA both ways."""


def normalise(text: str, parameter: str = "") -> str:
    """`  Zoë  O'Brien` as `zoe o'brien`; the same for what is stored and what is asked."""
    if not text.isprintable():  # what parts the cells of a COPY is no part of anybody's name
        text = CONTROL.sub(" ", text)
    if not text.isascii():
        decomposed = unicodedata.normalize("NFKD", text.casefold())
        text = "".join(each for each in decomposed if not unicodedata.combining(each))
    return ("" if parameter in POSTCODES else " ").join(text.casefold().split())
