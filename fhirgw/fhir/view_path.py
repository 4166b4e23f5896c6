"""FHIRPath as the columns of a view are written in it: the subset that SQL on FHIR calls shareable, as plain functions.

A path is compiled once, against the elements of R4: a misspelt element, a choice without ofType and a function that is
not of the subset are told when a view is loaded, and never found out by a column that stays empty.
https://build.fhir.org/ig/FHIR/sql-on-fhir-v2/StructureDefinition-ShareableViewDefinition.html

Long, because operators and functions are a table each of small functions, and the parser stands beside what it makes.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, DecimalException
from functools import partial
from typing import Any

from fhirgw.fhir.dates import span
from fhirgw.fhir.elements import children, is_primitive, is_resource, kind
from fhirgw.fhir.issue import FhirError
from fhirgw.fhir.references import LOCAL

Run = Callable[[Any], list[Any]]
"""What a path finds from where it stands: a resource, or what is inside one."""

TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^'\\]|\\.)*')|(?P<moment>@[\dT:+.Z-]+)|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<constant>%\w+)|(?P<name>\$this\b|[A-Za-z_]\w*)|(?P<sign><=|>=|!=|[-=<>+*/().,\[\]]))"
)
ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}
MOMENTS = ("date", "dateTime", "instant")
LEVELS = (("or",), ("and",), ("=", "!="), ("<", "<=", ">", ">="), ("+", "-"), ("*", "/"))
"""Operators, those that bind least first. https://hl7.org/fhirpath/N1/#operator-precedence"""


class ViewError(ValueError):
    """Why a view cannot be used, in words for whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A compiled path: what it finds, of which type (None: of any), and whether that may be several.

    `choices` are the JSON names of an element of many types that no ofType has narrowed yet. `member`: it is this
    element of where one stands, and nothing else; `literal`: it is this text. Most comparisons are of these, and fast.
    """

    run: Run
    type: str | None
    many: bool
    choices: tuple[str, ...] = ()
    before: Run | None = None
    member: str = ""
    literal: str | None = None


def compiled(text: Any, context: str | None, constants: Mapping[str, Any] | None = None) -> Found:
    """The path, from a type of R4 or what is inside one. Raises ViewError."""
    if not isinstance(text, str) or not text.strip():
        raise ViewError("a path is text, and not empty")
    return _Parser(text, context, constants or {}).whole()


class _Parser:
    """Reads one path from left to right; what it makes of it are functions, never a tree."""

    def __init__(self, text: str, context: str | None, constants: Mapping[str, Any]) -> None:
        self._text, self._context, self._constants = text, context, constants
        self._tokens, self._at = list(_tokens(text)), 0

    def whole(self) -> Found:
        found = self._operation(0)
        if self._next()[0]:
            raise ViewError(f"{self._text}: it cannot be read from {self._next()[1]!r} on")
        return found

    def _next(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "")

    def _take(self, sign: str = "") -> tuple[str, str]:
        found = self._next()
        if not found[0] or (sign and found[1] != sign):
            raise ViewError(f"{self._text}: {f'{sign!r} is missing' if sign else 'it breaks off'}")
        self._at += 1
        return found

    def _operation(self, level: int) -> Found:
        if level == len(LEVELS):
            return self._signed()
        left = self._operation(level + 1)
        while self._next()[1] in LEVELS[level] and self._next()[0] != "text":
            sign = self._take()[1]
            left = _operated(sign, left, self._operation(level + 1))
        return left

    def _signed(self) -> Found:
        if self._next()[1] == "-" and self._next()[0] == "sign":
            self._take()
            return _operated("-", Found(lambda item: [0], "integer", False), self._invoked())
        return self._invoked()

    def _invoked(self) -> Found:
        found = self._term()
        while self._next()[0] == "sign" and self._next()[1] in ".[":
            if self._take()[1] == "[":
                found = _at(found, self._index())
                self._take("]")
            else:
                found = self._member(found)
        return found

    def _index(self) -> int:
        given, text = self._take()
        value = self._constant(text) if given == "constant" else int(text) if text.isdecimal() else None
        if not isinstance(value, int) or isinstance(value, bool):
            raise ViewError(f"{self._text}: in brackets stands an integer")
        return value

    def _constant(self, text: str) -> Any:
        if text[1:] not in self._constants:
            raise ViewError(f"{self._text}: there is no constant {text}")
        return self._constants[text[1:]]

    def _term(self) -> Found:
        given, text = self._take()
        if given == "sign" and text == "(":
            found = self._operation(0)
            self._take(")")
            return found
        if given in LITERALS:
            return LITERALS[given](text)
        if given == "constant":
            return _literal(self._constant(text))
        if text in ("true", "false"):
            return _literal(text == "true")
        if given != "name":
            raise ViewError(f"{self._text}: {text!r} cannot stand there")
        self._at -= 1
        this = Found(_here, self._context, False)
        if text == "$this":
            self._at += 1
            return this
        if text == self._context and is_resource(text):  # `Patient.name`, from a Patient
            self._at += 1
            return this
        return self._member(this)

    def _member(self, source: Found) -> Found:
        given, name = self._take()
        if given != "name":
            raise ViewError(f"{self._text}: an element or a function is named after a point")
        if self._next() != ("sign", "("):
            return _stepped(source, name, self._text)
        self._take("(")
        if name not in FUNCTIONS:
            raise ViewError(f"{self._text}: there is no {name}() here: {', '.join(sorted(FUNCTIONS))}")
        given_type = name in ("ofType", "getReferenceKey")
        inner = None
        if self._next()[1] != ")":
            inner = self._take()[1] if given_type else self._inside(source)
        self._take(")")
        return FUNCTIONS[name](source, inner)

    def _inside(self, source: Found) -> Found:
        """An argument, which is about each of what it is asked of."""
        outer, self._context = self._context, source.type
        try:
            return self._operation(0)
        finally:
            self._context = outer


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(text.rstrip()):
        match = TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise ViewError(f"{text}: it cannot be read from {text[at:].strip()!r} on")
        found.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return found


def _literal(value: Any, type: str | None = None) -> Found:
    named = {bool: "boolean", int: "integer", Decimal: "decimal", str: "string"}
    literal = value if isinstance(value, str) and type is None else None
    return Found(lambda item: [value], type or named.get(value.__class__), False, literal=literal)


def _text(quoted: str) -> Found:
    return _literal(re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[1]), quoted[1:-1]))


LITERALS: dict[str, Callable[[str], Found]] = {
    "text": _text,
    "moment": lambda text: _literal(text[1:], "dateTime" if "T" in text else "date"),
    "number": lambda text: _literal(Decimal(text) if "." in text else int(text)),
}


def _stepped(source: Found, name: str, text: str) -> Found:
    """One element down."""
    if source.type is None:
        if source.choices:
            raise ViewError(f"{text}: say ofType() before .{name}, for it may be of many types")
        return Found(_down(source.run, name), None, True)
    known = children(source.type)
    if name in known and not known[name].choices:
        element = known[name]
        member = name if source.run is _here and not element.is_list else ""
        return Found(_down(source.run, name), element.inner, source.many or element.is_list, member=member)
    choices = next((each.choices for each in known.values() if each.choices and _stem(each.choices) == name), ())
    if not choices:
        raise ViewError(f"{text}: {source.type} has no element {name}")
    run = source.run
    found: Run = lambda item: [value for each in choices for value in _down(run, each)(item)]  # noqa: E731
    return Found(found, None, source.many, choices, run)


def _stem(choices: tuple[str, ...]) -> str:
    """`value` of valueString, valueBoolean, …: what all their names begin with."""
    first = min(choices, key=len)
    return next(
        (first[:end] for end in range(len(first), 0, -1) if all(_begins(each, first[:end]) for each in choices)), first
    )


def _begins(name: str, stem: str) -> bool:
    return name.startswith(stem) and name[len(stem) : len(stem) + 1].isupper()


def _here(item: Any) -> list[Any]:
    return [item]


def _down(source: Run, name: str) -> Run:
    if source is _here:
        return partial(_inside, name)

    def run(item: Any) -> list[Any]:
        found: list[Any] = []
        for node in source(item):
            value = node.get(name) if isinstance(node, dict) else None
            if isinstance(value, list):
                found += [each for each in value if each is not None]
            elif value is not None:
                found.append(value)
        return found

    return run


def _inside(name: str, item: Any) -> list[Any]:
    value = item.get(name) if isinstance(item, dict) else None
    if isinstance(value, list):
        return [each for each in value if each is not None]
    return [] if value is None else [value]


def _at(source: Found, index: int) -> Found:
    run = source.run
    return _narrowed(source, lambda item: run(item)[index : index + 1], many=False)


def _narrowed(source: Found, run: Run, many: bool) -> Found:
    """Some of what the source finds."""
    return replace(source, run=run, many=many, member="", literal=None)


def _truth(found: list[Any]) -> bool | None:
    """What a collection says as a condition: nothing if it is empty; a single value that is no boolean says yes."""
    if not found:
        return None
    return found[0] if found[0] is False else True


def _said(value: bool | None) -> list[Any]:
    return [] if value is None else [value]


def _and(left: list[Any], right: list[Any]) -> list[Any]:
    a, b = _truth(left), _truth(right)
    return [False] if a is False or b is False else [] if a is None or b is None else [True]


def _or(left: list[Any], right: list[Any]) -> list[Any]:
    a, b = _truth(left), _truth(right)
    return [True] if a or b else [] if a is None or b is None else [False]


def _same(left: list[Any], right: list[Any]) -> bool | None:
    if not left or not right:
        return None
    alike = (isinstance(a, bool) is isinstance(b, bool) and a == b for a, b in zip(left, right, strict=False))
    return len(left) == len(right) and all(alike)


def _is(name: str, text: str, item: Any) -> list[Any]:
    """Whether an element is a text: `_same`, without lists."""
    value = item.get(name) if isinstance(item, dict) else None
    return [] if value is None else [value == text]


def _unlike(left: list[Any], right: list[Any]) -> bool | None:
    same = _same(left, right)
    return None if same is None else not same


def _ordered(compare: Callable[[Any, Any], bool], moments: bool) -> Callable[[list[Any], list[Any]], list[Any]]:
    def run(left: list[Any], right: list[Any]) -> list[Any]:
        if len(left) != 1 or len(right) != 1:
            return []
        try:
            return _said(_moments(compare, left[0], right[0]) if moments else compare(left[0], right[0]))
        except (TypeError, FhirError):
            return []

    return run


def _moments(compare: Callable[[Any, Any], bool], left: str, right: str) -> bool | None:
    """Nothing where one is too vague for an answer: whether 2024-03-01 is before 2024-03."""
    (low, high), (first, last) = span(left), span(right)
    if (low, high) == (first, last):
        return compare(0, 0)
    return compare(0, 1) if high <= first else compare(1, 0) if last <= low else None


def _reckoned(reckon: Callable[[Any, Any], Any]) -> Callable[[list[Any], list[Any]], list[Any]]:
    def run(left: list[Any], right: list[Any]) -> list[Any]:
        try:
            return [reckon(left[0], right[0])] if len(left) == len(right) == 1 else []
        except (TypeError, DecimalException, ZeroDivisionError):
            return []

    return run


ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
RECKONED: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: Decimal(a) / Decimal(b),
}
SAID: dict[str, Callable[[list[Any], list[Any]], list[Any]]] = {
    "and": _and,
    "or": _or,
    "=": lambda left, right: _said(_same(left, right)),
    "!=": lambda left, right: _said(_unlike(left, right)),
}


def _operated(sign: str, left: Found, right: Found) -> Found:
    type = "boolean"
    if sign in RECKONED:
        work = _reckoned(RECKONED[sign])
        type = "decimal" if sign == "/" or "decimal" in (left.type, right.type) else left.type or ""
    elif sign in ORDERS:
        work = _ordered(ORDERS[sign], left.type in MOMENTS or right.type in MOMENTS)
    elif sign == "=" and left.member and right.literal is not None:
        return Found(partial(_is, left.member, right.literal), "boolean", False)
    else:
        work = SAID[sign]
    a, b = left.run, right.run
    return Found(lambda item: work(a(item), b(item)), type or None, False)


def _where(source: Found, inner: Any) -> Found:
    run, test = source.run, _given(inner, "where").run
    return _narrowed(source, lambda item: [each for each in run(item) if _truth(test(each)) is True], source.many)


def _exists(source: Found, inner: Any) -> Found:
    run = (_where(source, inner) if inner else source).run
    return Found(lambda item: [bool(run(item))], "boolean", False)


def _empty(source: Found, inner: Any) -> Found:
    run = source.run
    return Found(lambda item: [not run(item)], "boolean", False)


def _not(source: Found, inner: Any) -> Found:
    run = source.run
    return Found(lambda item: [not each for each in _said(_truth(run(item)))], "boolean", False)


def _of_type(source: Found, wanted: Any) -> Found:
    if not isinstance(wanted, str) or kind(wanted) is None:
        raise ViewError(f"ofType({wanted or ''}): R4 has no such type")
    if source.choices and source.before is not None:
        name = next((each for each in source.choices if each.endswith(f"{wanted[0].upper()}{wanted[1:]}")), None)
        if name is None or name != _stem(source.choices) + wanted[0].upper() + wanted[1:]:
            raise ViewError(f"ofType({wanted}): it is one of {', '.join(source.choices)}")
        return Found(_down(source.before, name), wanted, source.many)
    if not is_resource(wanted):
        return replace(source, type=source.type or wanted)
    run = source.run
    return Found(
        lambda item: [each for each in run(item) if isinstance(each, dict) and each.get("resourceType") == wanted],
        wanted,
        source.many,
    )


def _extension(source: Found, inner: Any) -> Found:
    (url,) = _given(inner, "extension").run(None)
    run = _down(source.run, "extension")
    return Found(lambda item: [each for each in run(item) if each.get("url") == url], "Extension", True)


def _join(source: Found, inner: Any) -> Found:
    between = inner.run(None)[0] if inner else ""
    run = source.run
    return Found(lambda item: [between.join(str(each) for each in run(item))], "string", False)


def _resource_key(source: Found, inner: Any) -> Found:
    return Found(_down(source.run, "id"), "string", source.many)


def _reference_key(source: Found, wanted: Any) -> Found:
    """The id of what is referred to, or nothing where that is of another type than is asked for."""
    run = _down(source.run, "reference")

    def keys(item: Any) -> list[Any]:
        found = [LOCAL.fullmatch("/".join(each.split("/")[-2:])) for each in run(item)]
        return [each[2] for each in found if each and wanted in (None, each[1])]

    return Found(keys, "string", source.many)


def _given(inner: Any, name: str) -> Found:
    if not isinstance(inner, Found):
        raise ViewError(f"{name}() needs to be told what")
    return inner


FUNCTIONS: dict[str, Callable[[Found, Any], Found]] = {
    "where": _where,
    "exists": _exists,
    "empty": _empty,
    "not": _not,
    "first": lambda source, inner: _at(source, 0),
    "ofType": _of_type,
    "extension": _extension,
    "join": _join,
    "getResourceKey": _resource_key,
    "getReferenceKey": _reference_key,
}


def primitive(found: Found) -> bool:
    """Whether what is found can stand in a column, as far as that is known."""
    return found.type is None or is_primitive(found.type)
