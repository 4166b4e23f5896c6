"""POST [base]: a transaction, all of it or nothing, in the order that R4 gives its entries.

First what goes, then what comes: conditions are looked up, ids given, the Bundle's own names replaced by them wherever
they stand, and everything is written together, by one statement a type. What is read is read last, in the same
transaction. The answer has the entries in the order of the request. https://hl7.org/fhir/R4/http.html#transaction
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import Response

from fhirgw.access.permit import Permit
from fhirgw.api import bundled, conditions, received
from fhirgw.api.audit import entry
from fhirgw.api.batch import accessed, batch
from fhirgw.api.change import KINDS, change_of
from fhirgw.api.context import base, bases, permitted
from fhirgw.api.writers import preferred, writers, written
from fhirgw.fhir.entries import Entry, Names, entries, renamed, resolved
from fhirgw.fhir.entries import conditions as conditional_references
from fhirgw.fhir.index import index
from fhirgw.fhir.issue import FhirError, Issue
from fhirgw.fhir.leaves import telling
from fhirgw.store.audit import Auditor
from fhirgw.store.database import Connection
from fhirgw.store.replay import Answer
from fhirgw.store.writing import VERBS, Change, Written, apply, at, new_id

ROUTE = "/fhir"


async def bundle(request: Request) -> Response:
    """POST [base]: a Bundle of type transaction or batch"""
    here, address = writers(request), base(request)
    body, given = await received.resource(request, here.longest)
    if given.get("resourceType") != "Bundle" or given.get("type") not in ("transaction", "batch"):
        told = "What is posted to the base is a Bundle of type transaction or batch; a resource goes to its own type"
        raise FhirError(Issue("invalid", told))
    if "implicitRules" in given:
        told = "Rules that change what a Bundle means are not understood here: send it without them"
        raise FhirError(Issue("not-supported", told, "Bundle.implicitRules"))
    entry(request).interaction = str(given["type"])
    if given["type"] == "batch":
        return await batch(request, given)
    asked = entries(given, here.entries, address)
    for each in asked:
        if not each.reads:
            with at(each.place):
                permitted(request).require(VERBS[KINDS[each.method]], each.kind)

    async def work(connection: Connection, permit: Permit, moment: datetime) -> Answer:
        return await _Transaction(request, connection, permit, moment, address).done(asked)

    return await written(request, ROUTE, "transaction", body, work)


class _Transaction:
    """One transaction on its way: what its entries are called, and what became of them (None: nothing to do)."""

    def __init__(
        self, request: Request, connection: Connection, permit: Permit, moment: datetime, address: str
    ) -> None:
        self.request, self.connection, self.permit = request, connection, permit
        self.moment, self.base = moment, address
        self.names = Names(address)
        self.results: dict[int, Written | None] = {}

    async def done(self, asked: Sequence[Entry]) -> Answer:
        """The answer, when all is done."""
        writing = [each for each in asked if not each.reads]
        _distinct((each, (each.kind, each.id)) for each in writing if each.id)
        _distinct((each, (each.kind, each.condition)) for each in writing if each.condition is not None)
        await self._phase([each for each in writing if each.method == "DELETE"])
        await self._phase([each for each in writing if each.method != "DELETE"])
        results = {each: self.results[each.number] for each in writing}
        _distinct((each, (done.type, done.id)) for each, done in results.items() if done is not None)
        about = tuple((done.type, done.id, done.person) for done in results.values() if done)
        return (await self._answer(asked))._replace(about=about)

    async def _answer(self, asked: Sequence[Entry]) -> Answer:
        wish = preferred(self.request) or "minimal"
        told: list[bundled.Told] = []
        for each in asked:
            if each.reads:
                with at(each.place):
                    told.append(await self._read(each))
            else:
                told.append(bundled.responded(self.results[each.number], self.base, wish))
        kept = [{"response": each["response"]} for each in told]
        kind = "transaction-response"
        return Answer(200, {}, bundled.answered(kind, told), kept=bundled.answered(kind, kept))

    async def _read(self, asked: Entry) -> bundled.Told:
        """What an entry reads. One that is refused is in the audit by itself: of the rest nothing was done or told."""
        try:
            return await bundled.read(self.request, asked, self.connection)
        except FhirError as error:
            auditor = cast(Auditor, self.request.app.state.auditor)
            await auditor.record(accessed(self.request, asked, error.status))
            raise

    async def _phase(self, asked: Sequence[Entry]) -> None:
        """Conditions, ids, names, and then the changes together; last those that refer to what the Bundle brings by a
        search for it.
        """
        changes: dict[int, Change] = {}
        own = bases(self.request)
        for each in sorted(asked, key=lambda each: (each.kind, each.condition or "")):
            # Those with a condition wait for whoever has the same, so everybody takes them in one order.
            with at(each.place):
                made = await change_of(self.connection, self.permit, each, own)
                if isinstance(made, Change):
                    changes[each.number] = made
                else:
                    self.results[each.number] = made
                if isinstance(made, Written) or (isinstance(made, Change) and made.id):
                    self._call(each, f"{made.type}/{made.id}")
        coming = [each for each in asked if each.number in changes and each.method in ("POST", "PUT")]
        missing = await self._missing(coming)
        for patients in (True, False):
            for each in coming:
                if (each.kind == "Patient") is patients:
                    self._identify(each, changes)
        later = [each for each in coming if missing and not missing.isdisjoint(conditional_references([each]))]
        then = {each.number: changes.pop(each.number) for each in later}
        await self._apply(coming, changes)
        if later:
            for kind, _ in await self._missing(later):
                told = f"A conditional reference finds no {kind}: create it in the same Bundle, or name it by its id"
                raise FhirError(Issue("not-found", told), status=412)
            await self._apply(later, then)

    async def _apply(self, coming: Sequence[Entry], changes: dict[int, Change]) -> None:
        """Makes the changes, by the numbers of their entries, each with its references resolved."""
        for each in coming:
            if each.number in changes:
                with at(each.place):
                    changes[each.number] = changes[each.number]._replace(given=resolved(each, self.names))
        done = await apply(self.connection, self.permit, list(changes.values()), self.moment)
        self.results |= dict(zip(changes, done, strict=True))

    async def _missing(self, coming: Sequence[Entry]) -> set[tuple[str, str]]:
        """Looks for what conditional references lead to; those that lead to nothing, yet. Raises FhirError (412) where
        one leads to several.
        """
        missing = conditional_references(coming) - self.names.found.keys()
        for kind, criteria in sorted(missing):
            id = await conditions.found(self.connection, self.permit, kind, criteria, self.base)
            if id is not None:
                self.names.found[kind, criteria] = id
        return missing - self.names.found.keys()

    def _identify(self, asked: Entry, changes: dict[int, Change]) -> None:
        """Gives what is created its id: in the place of the person it is about, who has theirs already."""
        change = changes[asked.number]
        if not change.id:
            with at(asked.place):
                made = change._replace(id=new_id(self._person(asked)))
                self._call(asked, f"{made.type}/{made.id}")
            changes[asked.number] = made

    def _person(self, asked: Entry) -> str | None:
        """Whose record it will be in, as far as it can be told; whether it is sound is judged later."""
        told = telling(asked.kind) & asked.given.keys() if asked.kind != "Patient" else ()
        if not told:
            return None
        saying = {"resourceType": asked.kind, **{name: asked.given[name] for name in told}}
        try:
            return index(renamed(asked, saying, self.names)).patient
        except FhirError:
            return None

    def _call(self, asked: Entry, reference: str) -> None:
        if asked.full_url and not self.names.call(asked.full_url, reference):
            raise FhirError(Issue("invalid", "Two entries have one fullUrl", f"{asked.place}.fullUrl"))


def _distinct(named: Iterable[tuple[Entry, Any]]) -> None:
    """Raises FhirError(invalid) where two entries are about the same. https://hl7.org/fhir/R4/http.html#trules"""
    known: set[Any] = set()
    for asked, name in named:
        if name in known:
            raise FhirError(Issue("invalid", "Two entries of a transaction are about the same resource", asked.place))
        known.add(name)
