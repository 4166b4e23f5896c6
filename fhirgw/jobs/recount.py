"""Whether a pseudonymised export still tells of enough people, when some have been taken out of it.

Counted as at first: of each table, or type, as of the job's snapshot, by what the permit shows now. A part of enough
people is enough, so that most often one part is read. See fhirgw.jobs.conclusion, for the same at the end of an export.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from fhirgw.fhir.pseudonym import Pseudonymiser, rules
from fhirgw.jobs.forms import Form, form_of
from fhirgw.jobs.projects import Projects
from fhirgw.store import ledger
from fhirgw.store.copied import Line
from fhirgw.store.database import Connection
from fhirgw.store.export import Stretch, copy_part
from fhirgw.store.export_job import Job

Table = tuple[str, str]
"""A type, and a view of it, which is '' where it is written as NDJSON."""


def table_of(told: dict[str, Any]) -> Table:
    """Which table a file of a manifest is of."""
    return told["type"], told.get("view", "")


async def too_few(connection: Connection, job: Job, tables: Collection[Table], projects: Projects) -> list[Table]:
    """Those of the tables that tell of fewer people than are enough. Raises FhirError."""
    return [each for each in sorted(tables) if not await _enough(connection, job, *each, projects)]


async def _enough(connection: Connection, job: Job, kind: str, view: str, projects: Projects) -> bool:
    assert job.snapshot is not None  # it has files
    for low, high in await ledger.stretches(connection, job.id, kind, view):
        pseudonyms = projects.of(job)
        assert pseudonyms is not None
        counting = _Counting(form_of(job.asked, kind, view, pseudonyms), pseudonyms)
        stretch = Stretch(kind, low, high)
        await copy_part(connection, job.permit, stretch, job.asked, job.snapshot, counting.sink, job.effective)
        if counting.enough():
            return True
    return False


class _Counting:
    """Has a part made once more, for whom it counts, and keeps nothing of it."""

    def __init__(self, form: Form, pseudonyms: Pseudonymiser) -> None:
        self._form, self._pseudonyms = form, pseudonyms
        self._refused: Exception | None = None
        form.begin()

    async def sink(self, lines: list[Line]) -> None:
        """What COPY writes to. It never raises: asyncpg would not come back from that."""
        if self._refused is None and len(self._pseudonyms.persons) < rules().smallest:
            try:
                self._form.add(list(map(bytes, lines)))
            except Exception as error:
                self._refused = error

    def enough(self) -> bool:
        """Whether it was of enough people. Raises what was refused."""
        if self._refused is not None:
            raise self._refused
        return len(self._pseudonyms.persons) >= rules().smallest
