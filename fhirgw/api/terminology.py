"""The terminology operations over HTTP: GET with parameters, or POST of a Parameters resource; of types and instances.

What is not carried here is asked elsewhere (fhirgw.api.elsewhere). Nobody's record is in any answer.
https://hl7.org/fhir/R4/terminology-service.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.api import asked, definitions
from fhirgw.api.answer import answer, interactions
from fhirgw.api.audit import entry
from fhirgw.api.context import base, context
from fhirgw.api.elsewhere import Pairs, answered, judged
from fhirgw.api.terminology_server import TerminologyServer
from fhirgw.fhir.canonical import decode, encode
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.terminology.coded import Coded
from fhirgw.terminology.coded import asked as asked_about
from fhirgw.terminology.definitions import NotHeld, carry
from fhirgw.terminology.expand import expand
from fhirgw.terminology.inputs import PRESENTATION, Inputs, from_pairs, from_parameters
from fhirgw.terminology.lookup import lookup, subsumes
from fhirgw.terminology.operations import (
    EXPANSION,
    LOOK_UP,
    SUBSUME,
    TRANSLATION,
    VALIDATE_IN_SET,
    VALIDATE_IN_SYSTEM,
    Operation,
)
from fhirgw.terminology.statement import statement
from fhirgw.terminology.translate import translate
from fhirgw.terminology.validate_code import in_set, in_system
from fhirgw.validation import validate

LONGEST = 256 * 1024
"""Bytes of a Parameters resource."""
JSON = ("application/fhir+json", "application/json", "text/json")
"""What a body may be."""
FLAGS = ("activeOnly", "excludeNested", "excludeNotForUI")


@dataclass
class Terminology:
    """Made by the composition root. `more` gives definitions to be carried besides, once somebody first asks."""

    more: Callable[[], Iterable[Resource]]
    server: TerminologyServer | None = None
    _once: asyncio.Lock = field(default_factory=asyncio.Lock)
    _carried: bool = False

    async def ready(self) -> None:
        """Everything is carried that is to be."""
        if self._carried:
            return
        async with self._once:
            if not self._carried:
                carry(await asyncio.to_thread(lambda: list(self.more())))
                self._carried = True


async def look_up(request: Request) -> Response:
    """CodeSystem/$lookup"""
    inputs = await _inputs(request, LOOK_UP)
    try:
        return answer(encode(lookup(inputs)))
    except NotHeld as absent:
        coded = asked_about(inputs)[0]
        given = [*_code(coded, "system"), *(("property", each) for each in inputs.texts("property"))]
        return answer(encode(await answered(_terminology(request).server, LOOK_UP, given, absent)))


async def subsume(request: Request) -> Response:
    """CodeSystem/$subsumes, CodeSystem/[id]/$subsumes"""
    inputs = await _inputs(request, SUBSUME)
    return answer(encode(subsumes(inputs, _instance(request, "CodeSystem"))))


async def validate_in_system(request: Request) -> Response:
    """CodeSystem/$validate-code, CodeSystem/[id]/$validate-code"""
    inputs = await _inputs(request, VALIDATE_IN_SYSTEM)
    system = _instance(request, "CodeSystem")
    url = system or inputs.text("url")
    verdict = await judged(
        _terminology(request).server,
        VALIDATE_IN_SYSTEM,
        lambda: in_system(inputs, system),
        lambda: [_code(each, "url") for each in asked_about(inputs, system=url, named="url")],
    )
    return answer(encode(verdict.as_fhir()))


async def validate_in_set(request: Request) -> Response:
    """ValueSet/$validate-code, ValueSet/[id]/$validate-code"""
    inputs = await _inputs(request, VALIDATE_IN_SET)
    value_set = _instance(request, "ValueSet")
    named = [("url", value_set or inputs.text("url") or ""), *_texts(inputs, ("valueSetVersion",))]
    verdict = await judged(
        _terminology(request).server,
        VALIDATE_IN_SET,
        lambda: in_set(inputs, value_set),
        lambda: [[*named, *_code(each, "system", "systemVersion")] for each in asked_about(inputs)],
    )
    return answer(encode(verdict.as_fhir()))


async def expansion(request: Request) -> Response:
    """ValueSet/$expand, ValueSet/[id]/$expand"""
    inputs = await _inputs(request, EXPANSION)
    value_set = _instance(request, "ValueSet")
    try:
        return answer(encode(expand(inputs, datetime.now(UTC).isoformat(timespec="seconds"), value_set)))
    except NotHeld as absent:
        given = [("url", value_set or inputs.text("url") or ""), *_texts(inputs, ("valueSetVersion", "filter"))]
        given += [(name, str(inputs.number(name))) for name in ("offset", "count") if name in inputs]
        given += [(name, str(inputs.flag(name)).lower()) for name in FLAGS if name in inputs]
        return answer(encode(await answered(_terminology(request).server, EXPANSION, given, absent)))


async def translation(request: Request) -> Response:
    """ConceptMap/$translate, ConceptMap/[id]/$translate"""
    inputs = await _inputs(request, TRANSLATION)
    return answer(encode(translate(inputs, _instance(request, "ConceptMap"))))


def routes() -> list[Route]:
    """The operations, and the definitions they are about."""
    both = (
        (SUBSUME, subsume),
        (VALIDATE_IN_SYSTEM, validate_in_system),
        (VALIDATE_IN_SET, validate_in_set),
        (EXPANSION, expansion),
        (TRANSLATION, translation),
    )
    return [
        *definitions.routes(),
        interactions(f"/fhir/{LOOK_UP.type}/${LOOK_UP.name}", GET=look_up, POST=look_up),
        *(
            interactions(f"/fhir/{place}/${each.name}", GET=handler, POST=handler)
            for each, handler in both
            for place in (each.type, f"{each.type}/{{id:name}}")
        ),
    ]


def capabilities(request: Request) -> bytes:
    """The TerminologyCapabilities: GET [base]/metadata?mode=terminology"""
    here = context(request)
    return encode(statement(here.version, base(request), here.started))


def _terminology(request: Request) -> Terminology:
    return cast(Terminology, request.app.state.terminology)


async def _inputs(request: Request, operation: Operation) -> Inputs:
    """What is asked. Raises FhirError naming what is wrong with it."""
    await _terminology(request).ready()
    takes = operation.of_instance if "id" in request.path_params else operation.takes
    name = f"${operation.name}"
    pairs = asked.pairs(request)
    if request.method != "POST":
        return from_pairs(name, takes, pairs)
    if any(each[0] not in PRESENTATION for each in pairs):
        raise FhirError(Issue("invalid", f"A POST of {name} has its parameters in its body, a Parameters resource"))
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in JSON:
        raise FhirError(Issue("not-supported", f"The body is sent as {JSON[0]}"), status=415)
    body = decode(await asked.body(request, LONGEST, "A Parameters resource"))
    inputs = from_parameters(name, takes, body)
    entry(request).asked(each for each in takes if each in inputs)
    if sent := inputs.resource("valueSet"):
        _check(sent)
    return inputs


def _check(sent: Resource) -> None:
    """Raises FhirError for a value set that is not sound FHIR."""
    if faults := [each for each in validate(sent) if each.severity in ("error", "fatal")]:
        raise FhirError(*faults, status=400)


def _instance(request: Request, kind: str) -> str | None:
    """The url of the definition that the address names by its id. Raises FhirError(not-found)."""
    id = request.path_params.get("id")
    return None if id is None else str(definitions.identified(kind, id)["url"])


def _code(coded: Coded, named: str, version: str = "version") -> Pairs:
    """A code as pairs; never the display, which the caller wrote."""
    return [(named, coded.system), ("code", coded.code), *([(version, coded.version)] if coded.version else [])]


def _texts(inputs: Inputs, names: Iterable[str]) -> Pairs:
    return [(name, found) for name in names if (found := inputs.text(name))]
