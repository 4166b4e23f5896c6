"""A resource as a version to be written: its body as it will be served, and all it will be found and judged by.

One making for whatever a resource comes from, a row of a system of record or a request: so ties, directives, labels and
what is withheld follow every write.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache

from fhirgw.access.consent import delegations, directives
from fhirgw.access.label import also, labels, redacted
from fhirgw.access.relationship import ties
from fhirgw.fhir.canonical import encode
from fhirgw.fhir.index import Index, index
from fhirgw.fhir.issue import Resource
from fhirgw.store.load import Incoming

LONGEST_KEY = 200
KEY = re.compile(rf"[^\x00-\x1f\x7f\ud800-\udfff]{{1,{LONGEST_KEY}}}").fullmatch
"""What may be a key: it is staged, indexed and made into identifiers as it is."""

_NO_SPAN = (None, None)


def made_of(
    resource: Resource,
    kind: str,
    version: int,
    moment: datetime,
    origin: str,
    controller: str | None,
    found: Index | None = None,
    key: str = "",
    digest: bytes = b"",
) -> Incoming:
    """The version to be written; `kind` is create or update. Its meta gets the version and the moment.

    `found` is what it is found by, where that is known already; `key` and `digest` are the source's.
    Raises FhirError for an element of the wrong shape, and for a date that does not exist.
    """
    meta = resource.setdefault("meta", {})
    meta["versionId"] = str(version)
    meta["lastUpdated"] = instant(moment)
    found = found or index(resource)
    held = list(_identifiers(resource)) if resource["resourceType"] == "Patient" else []
    return Incoming(
        *(kind, key, digest, resource["resourceType"], resource["id"], version, moment),
        *(found.patient, origin, controller or "", found.tokens),
        dates=tuple([end for span in found.dates for end in (span or _NO_SPAN)]),
        body=encode(resource).decode(),
        params=[param for param, value in found.strings if value],
        strings=[value for _, value in found.strings if value],
        systems=[system for system, _ in held],
        identifiers=[value for _, value in held],
        labels=labels(resource),
        also=also(resource),
        redacted=encode(without).decode() if (without := redacted(resource)) else None,
        ties=ties(resource),
        directives=directives(resource),
        delegations=delegations(resource),
        present=found.present,
        numbers=found.numbers,
        spans=found.spans,
    )


@lru_cache(maxsize=8)
def instant(moment: datetime) -> str:
    """A FHIR instant to the millisecond. Cached: a batch is of one moment."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _identifiers(resource: Resource) -> Iterator[tuple[str, str]]:
    """The identifiers that can lead to a Patient: whole ones, of printable text."""
    for each in resource.get("identifier", ()):
        system, value = each.get("system"), each.get("value")
        if system and value and KEY(system) and KEY(value):
            yield system, value
