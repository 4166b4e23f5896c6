"""A line of NDJSON up to what is written of it: scanned, validated and indexed as a REST write is, once, by anybody.

Pure of the database, so that any number of processes can judge lines while another writes what they made. A line is
judged as if its resource were new, which most are; what is there already, is asked where it is written.
"""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import re
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from typing import NamedTuple

from fhirgw.access.doubt import check
from fhirgw.access.writing import NEVER
from fhirgw.fhir.incoming import read
from fhirgw.fhir.index import Index
from fhirgw.fhir.issue import FhirError, Issue, Resource
from fhirgw.fhir.parameters import HELD
from fhirgw.fhir.references import local, localised, referred
from fhirgw.store.incoming import made_of
from fhirgw.store.load import Incoming, Staged, staged
from fhirgw.store.writing import named, sound

ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
FRONT = re.compile(rb'\{\s*"resourceType"\s*:\s*"([A-Za-z]+)"\s*,\s*"id"\s*:\s*"([A-Za-z0-9\-.]{1,64})"')
"""How the lines of most servers begin: enough to ask whether just this line has been taken in before."""
REFERENCE = re.compile(
    rb'"reference"\s*:\s*"([A-Z][A-Za-z]{1,63})/([A-Za-z0-9\-.]{1,64})(?:/_history/[A-Za-z0-9\-.]{1,64})?"'
)
"""A reference that can lead to something held here, in a text without escapes: no name is within a string there."""
FOREIGN = re.compile(rb'"reference"\s*:\s*"(?:[./]|[^"]*//)')
"""One that may be an address below a base."""
Lines = Sequence[tuple[int, bytes]]
LARGE, MOST = 16_000_000, 4
"""Bytes from which on it is worth starting processes to judge lines; more of them than one writer keeps busy."""
LATE = ("fhirpathpy", "langcodes.data_dicts")
"""What validation imports where it is first met: half a second, which processes that judge need not spend each."""
GRACE = 1.0
"""Seconds for which a process that judges and is asked to end stays, so that whoever began it hears of it first."""
SELDOM = 100_000
"""Objects that come to stay before a process that judges looks for cycles: only refused lines leave any."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms lines are taken: who brings them, whose records they are, of which type (any, where it is empty).

    `bases` are addresses below which references are local ones.
    """

    origin: str
    controller: str
    type: str
    bases: tuple[str, ...]


class Judged(NamedTuple):
    """A line: what it is if it is sound, staged as a version to be created, or what is wrong with it.

    `references` are those of the resource that can lead to something held here, as (type, id).
    """

    number: int
    digest: bytes
    version: Staged | None
    issues: tuple[Issue, ...] = ()
    references: tuple[tuple[str, str], ...] = ()


def digest(text: bytes) -> bytes:
    """What tells a line from any other."""
    return hashlib.sha256(text).digest()


def judge(lines: Lines, terms: Terms, moment: datetime) -> list[Judged]:
    """Each of the lines, judged; `moment` is when their versions are of."""
    return [_judged(number, text, terms, moment) for number, text in lines]


def _judged(number: int, text: bytes, terms: Terms, moment: datetime) -> Judged:
    said = digest(text)
    try:
        resource = resource_of(text, terms)
        index = sound(resource)
        check(resource)
        version = version_of(resource, "create", 1, moment, terms, said, index)
        found = tuple(dict.fromkeys(_references(text, resource)))
        return Judged(number, said, staged(version), (), found)
    except FhirError as error:
        return Judged(number, said, None, error.issues)


def resource_of(text: bytes, terms: Terms) -> Resource:
    """The resource in a line, as it is to be held. Raises FhirError."""
    resource = read(text)
    kind, id = resource.get("resourceType"), resource.get("id")
    if kind not in HELD or kind in NEVER:
        told = "No type that is taken here: rest.resource in the CapabilityStatement lists those"
        raise FhirError(Issue("not-supported", told))
    if terms.type and kind != terms.type:
        told = f"This input was said to hold resources of type {terms.type}: put others into one of their own"
        raise FhirError(Issue("invalid", told, str(kind)))
    if not isinstance(id, str) or not ID.fullmatch(id):
        told = "Each resource has an id of 1 to 64 letters, digits, hyphens and full stops: others refer to it by that"
        raise FhirError(Issue("required", told, f"{kind}.id"))
    if not isinstance(resource.get("meta", {}), dict):
        raise FhirError(Issue("structure", "An element has the wrong shape", f"{kind}.meta"))
    foreign = terms.bases and (b"\\" in text or FOREIGN.search(text))
    return named(localised(resource, terms.bases) if foreign else resource, id)


def _references(text: bytes, resource: Resource) -> list[tuple[str, str]]:
    """What is referred to, as (type, id). Looked for in the text where that is sure: a fifth of all the work else."""
    if b"\\" in text or FOREIGN.search(text):
        return local(referred(resource))
    found = [(kind.decode(), id.decode()) for kind, id in REFERENCE.findall(text)]
    return [each for each in found if each[0] in HELD]


def version_of(
    resource: Resource, kind: str, version: int, moment: datetime, terms: Terms, said: bytes, found: Index | None = None
) -> Incoming:
    """The version to be written of a resource, from a line of the digest `said`. Raises FhirError."""
    try:
        return made_of(
            *(resource, kind, version, moment, terms.origin, terms.controller, found), key=resource["id"], digest=said
        )
    except (AttributeError, TypeError, KeyError):
        raise FhirError(Issue("structure", "An element has the wrong shape", resource["resourceType"])) from None


@contextmanager
def judges(processes: int, *, forked: bool = False) -> Iterator[Executor]:
    """Who judges lines: so many processes, or a thread of this one where that is none.

    `forked`: they are copies of this process, made at once, so that what it has imported (two seconds of work) is not
    imported again. For who has neither thread nor connection yet, which a copy would share.
    """
    if not processes:
        thread = ThreadPoolExecutor(1, thread_name_prefix="judge")
        try:
            yield thread
        finally:
            thread.shutdown(wait=False, cancel_futures=True)  # what it is at ends soon, and nobody waits for it
        return
    context = multiprocessing.get_context("fork" if forked else "forkserver")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_begun)
    if forked:
        for name in LATE:
            import_module(name)
        gc.freeze()  # a collection in a copy would write to every page that it shares
        pool.submit(int).result()
    else:
        context.set_forkserver_preload([__name__, *LATE])  # what is imported is imported once, for all of them
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def helpers(size: int) -> int:
    """How many processes are to judge the lines of so many bytes; none where there are few, or there may be none."""
    return min(os.cpu_count() or 1, MOST) if size >= LARGE and not multiprocessing.current_process().daemon else 0


def _begun() -> None:
    """Ends with whoever began it, even one that was killed; and keeps the collector from looking at what stays.

    A signal to all of a group is for whoever began it, who ends this one as well: who ended first would be missed.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os._exit(0)

        threading.Thread(target=follow, daemon=True).start()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _later)
    gc.collect()
    gc.freeze()
    gc.set_threshold(SELDOM)  # the usual 700 are a tenth of the work, and find nothing


def _later(number: int, _: object) -> None:
    time.sleep(GRACE)
    os._exit(128 + number)
