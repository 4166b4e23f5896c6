"""What a line of an import makes of what is held: a new resource, a new version, nothing; or why it may not.

A line changes what its own origin brought and nothing else, takes no security label away, and moves nothing to another
person's record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from fhirgw.access.label import RESTRICTED, labels, opened, restricted
from fhirgw.access.writing import covered
from fhirgw.fhir.canonical import decode
from fhirgw.fhir.index import index
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.jobs.line import Judged, Terms, resource_of, version_of
from fhirgw.store import identity
from fhirgw.store.database import Connection
from fhirgw.store.import_job import Job
from fhirgw.store.load import Kept, Staged, staged
from fhirgw.store.write import Held
from fhirgw.store.writing import MILLISECOND, same

TAKEN = Issue("conflict", "The id is taken, by what others brought or what was deleted: give the resource another")
TWICE = Issue(
    "duplicate", "It was written since this import began, by an earlier line or by others: say it in one line"
)
MET = Issue("conflict", "Systems of record know this person too: correct it there, or by a PUT", "Patient")
LIFTED = Issue("forbidden", "What is held has a security label that this lacks, and no import takes one away: send it")
MOVED = Issue("invariant", "A resource stays in one person's record: give it another id")
UNCOVERED = Issue("forbidden", "No scope of the import's token covers this resource: it is constrained to others")
HIDING = Issue("forbidden", "Its label (meta.security) would hide it from the application that imports it")


class Unchanged(NamedTuple):
    """What is held says the same; `digest`: to be noted, so that the line is known next time."""

    id: str
    digest: bytes | None


@dataclass(frozen=True, slots=True)
class Onto:
    """For the lines of one import; `now` is the database's time, to the millisecond."""

    job: Job
    terms: Terms
    now: Callable[[], datetime]

    def new(self, judged: Judged, text: bytes, last: int, before: str | None) -> Staged:
        """What is not there; `last` is its last version, if it once was, and `before` what that said, if this origin
        brought it.
        """
        assert judged.version is not None
        if not last:
            return judged.version
        if before is None:
            raise FhirError(TAKEN)
        after = resource_of(text, self.terms)
        if _classes(decode(before)) & ~_classes(after):
            raise FhirError(LIFTED)
        return staged(version_of(after, "create", last + 1, self.now(), self.terms, judged.digest))

    async def onto(
        self, writer: Connection, judged: Judged, text: bytes, kept: Kept, held: Held | None
    ) -> Staged | Unchanged:
        """What a line makes of what is there. Raises FhirError."""
        before, after = decode(kept.body), resource_of(text, self.terms)
        mine = kept.origin == self.job.origin
        if not self.job.operator and (held is None or not held.entire):
            raise FhirError(TAKEN)
        if same(before, after):
            return Unchanged(after["id"], judged.digest if mine else None)
        if not mine:
            raise FhirError(TAKEN)
        if _updated(before) >= self.job.created.replace(microsecond=self.job.created.microsecond // 1000 * 1000):
            raise FhirError(TWICE)
        if after["resourceType"] == "Patient" and await identity.met(writer, after["id"]):
            raise FhirError(MET)
        if _classes(before) & ~_classes(after):
            raise FhirError(LIFTED)
        moment = max(self.now(), _updated(before) + MILLISECOND)
        made = version_of(after, "update", kept.version + 1, moment, self.terms, judged.digest)
        if made.patient != index(before).patient:
            raise FhirError(MOVED)
        return staged(made._replace(controller=kept.controller or ""))

    def allowed(self, made: Staged) -> Staged:
        """What is to be written, if the permit lets it. Raises FhirError."""
        permit, verb = self.job.permit, "c" if made.kind == "create" else "u"
        if not self.job.operator:
            if not covered(permit, verb, made.type, made.tokens, made.patient):
                raise FhirError(UNCOVERED)
            hides = made.labels | (RESTRICTED if made.redacts else 0)
            if hides & ~opened(permit, made.type):
                raise FhirError(HIDING)
        return made


def _classes(resource: Resource) -> int:
    """What its labels keep from others; of a Patient also where they live, which is no class of the row."""
    return labels(resource) | (RESTRICTED if restricted(resource) else 0)


def _updated(resource: Resource) -> datetime:
    return datetime.fromisoformat(resource["meta"]["lastUpdated"])
