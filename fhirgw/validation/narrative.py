"""Narrative as R4 allows it: well-formed XHTML of one div, of a few elements and attributes, and not blank.

https://hl7.org/fhir/R4/narrative.html#rules (txt-1, txt-2)
"""

from __future__ import annotations

import re
from html.entities import name2codepoint
from typing import Any
from xml.parsers.expat import ExpatError, ParserCreate

XHTML = "http://www.w3.org/1999/xhtml"
ELEMENTS = """
    a abbr acronym b big blockquote br caption cite code col colgroup dd dfn div dl dt em h1 h2 h3 h4 h5 h6 hr i img li
    map area ol p pre q samp small span strong sub sup table tbody td tfoot th thead tr tt ul var
"""
ATTRIBUTES = """
    title style class id lang xml:lang dir accesskey tabindex span width align valign char charoff abbr axis headers
    scope rowspan colspan border cellpadding cellspacing frame rules summary href name rel rev hreflang type charset
    src alt height ismap usemap longdesc shape coords nohref cite datetime compact start value noshade size
    xmlns xmlns:xsi nowrap bgcolor
"""
_ELEMENTS, _ATTRIBUTES = frozenset(ELEMENTS.split()), frozenset(ATTRIBUTES.split())
_ENTITY = re.compile(r"&([A-Za-z]+[0-9]*);")
_KEPT = ("lt", "gt", "amp", "quot", "apos")


def is_narrative(text: str) -> bool:
    """Whether a div keeps to the rules. Nothing is fetched or expanded: a declaration of any kind is refused."""
    if not text.lstrip().startswith("<div") or "<!DOCTYPE" in text or "<!ENTITY" in text or "<?" in text:
        return False
    seen = _Seen()
    try:
        seen.parser.Parse(_ENTITY.sub(_character, text), True)
    except (ExpatError, ValueError):
        return False
    return seen.allowed and seen.said


class _Seen:
    """What a parse came by."""

    def __init__(self) -> None:
        self.allowed = True
        self.said = False
        self.depth = 0
        self.parser = ParserCreate()
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self.depth == 0:
            self.allowed &= name == "div" and attributes.get("xmlns") == XHTML
        self.depth += 1
        self.allowed &= name in _ELEMENTS and attributes.keys() <= _ATTRIBUTES
        self.allowed &= not any(value.strip().lower().startswith("javascript:") for value in attributes.values())
        self.said |= name == "img"

    def end(self, name: str) -> None:
        self.depth -= 1

    def characters(self, text: str) -> None:
        self.said |= not text.isspace()


def _character(found: re.Match[str]) -> Any:
    name = found.group(1)
    return f"&#{name2codepoint[name]};" if name in name2codepoint and name not in _KEPT else found.group(0)
