"""Read and search of the definitions carried: CodeSystem, ValueSet, ConceptMap and our StructureDefinitions.

They are of nobody, and the same for all who have a token. https://hl7.org/fhir/R4/http.html#search
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fhirgw.api import asked, bundle
from fhirgw.api.answer import answer, interactions
from fhirgw.api.context import base
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.shorten import Shape, shape
from fhirgw.terminology.definitions import KINDS, SEARCHED, by_id, carried

PAGE = 50
MOST = 500
TYPES = dict.fromkeys(SEARCHED, "token") | {"url": "uri", "name": "string", "title": "string"}
"""How each parameter is searched by."""
STATUS = "http://hl7.org/fhir/publication-status"
Passes = Callable[[Resource], bool]


def routes() -> list[Route]:
    """Read and search of each kind. The routes of resources leave these types alone."""
    return [route for kind in KINDS for route in _routes(kind)]


def _routes(kind: str) -> list[Route]:
    async def read(request: Request) -> Response:
        await ready(request)
        found = identified(kind, request.path_params["id"])
        part = shape(asked.pairs(request), kind)
        if part.summary == "count":
            raise FhirError(Issue("invalid", "_summary=count is for searches"))
        return answer(encode(_cut(part, found)))

    async def search(request: Request) -> Response:
        return await _searched(request, kind, asked.pairs(request))

    async def search_form(request: Request) -> Response:
        return await _searched(request, kind, await asked.search_pairs(request))

    return [
        interactions(f"/fhir/{kind}/{{id:name}}", GET=read),
        interactions(f"/fhir/{kind}", GET=search),
        interactions(f"/fhir/{kind}/_search", POST=search_form),
    ]


def identified(kind: str, id: str) -> Resource:
    """The definition of that id. Raises FhirError(not-found)."""
    found = by_id(kind, id)
    if found is None:
        raise FhirError(Issue("not-found", f"No {kind} of this id is carried here: GET [base]/{kind} lists them"))
    return found


async def ready(request: Request) -> None:
    """Waits until what the mappings define is carried too."""
    await request.app.state.terminology.ready()


async def _searched(request: Request, kind: str, pairs: asked.Pairs) -> Response:
    await ready(request)
    part = shape(pairs, kind)
    conditions, honoured, count, start, alone = _understood(pairs, asked.lenient(request))
    found = [each for each in carried(kind).values() if all(passes(each) for passes in conditions)]
    page = [] if alone else found[start : start + count]
    following = str(start + count) if not alone and start + count < len(found) else None
    address = f"{base(request)}/{kind}"
    links = asked.links(address, honoured, str(start) if start else None, following)
    if alone:
        return answer(bundle.counted(len(found), links))
    entries = [(kind, each["id"], encode(_cut(part, each)).decode(), "match") for each in page]
    return answer(bundle.searchset(base(request), entries, len(found), links))


def _cut(part: Shape, definition: Resource) -> Resource:
    return definition if part.whole else part.part(definition)


def _understood(pairs: asked.Pairs, lenient: bool) -> tuple[list[Passes], asked.Pairs, int, int, bool]:
    """The conditions, what was honoured, the page's size and start, whether only the total is wanted.

    Raises FhirError naming what is searched by.
    """
    conditions: list[Passes] = []
    honoured: asked.Pairs = []
    count, start, alone = PAGE, 0, False
    for name, value in pairs:
        plain, _, modifier = name.partition(":")
        match name:
            case "_count":
                count, alone = (0, True) if value == "0" else (asked.count(value, MOST), alone)
            case "_cursor" if value.isascii() and value.isdigit() and len(value) < 7:
                start = int(value)
                continue
            case "_summary":
                alone = alone or value == "count"
            case "_elements" | "_total" | "_totalMethod" | "_format":
                pass
            case _ if plain in TYPES and modifier in MODIFIERS[TYPES[plain]] and value:
                conditions.append(_condition(plain, modifier, value.split(",")))
            case _ if lenient:
                continue
            case _:
                raise FhirError(Issue("invalid", f"Definitions are searched by {', '.join(SEARCHED)}: {FORMS}"))
        honoured.append((name, value))
    return conditions, honoured, count, start, alone


MODIFIERS = {"token": ("",), "uri": ("", "below"), "string": ("", "exact", "contains")}
FORMS = "name and title with :exact or :contains, url with :below; and _count, _summary, _elements, _total"


def _condition(name: str, modifier: str, values: list[str]) -> Passes:
    key = name.removeprefix("_")
    return lambda definition: any(_matches(definition, key, modifier, value) for value in values)


def _matches(definition: Resource, key: str, modifier: str, wanted: str) -> bool:
    found = str(definition.get(key, ""))
    match TYPES.get(key, "token"):
        case "string" if modifier == "exact":
            return found == wanted
        case "string":
            folded, sought = found.casefold(), wanted.casefold()
            return sought in folded if modifier == "contains" else folded.startswith(sought)
        case "uri" if modifier == "below":
            return found == wanted or found.startswith(wanted.rstrip("/") + "/")
        case "uri":
            url, _, version = wanted.partition("|")
            return found == url and version in ("", definition.get("version"))
    return found == wanted.removeprefix(f"{STATUS}|" if key == "status" else "|").removeprefix("|")
