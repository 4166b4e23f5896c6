"""A small system of record as CSV files, to be changed and synced as tests need it."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

from fhirgw.access.permit import Permit
from fhirgw.jobs.export_jobs import ExportJobs
from fhirgw.jobs.summary import SyncSummary
from fhirgw.jobs.sync import sync
from fhirgw.mapping.load import SystemDefinition, load
from fhirgw.store.database import Engine
from fhirgw.store.export_job import Job
from fhirgw.systems.csv import CsvSystem
from tests.put import connected

SYSTEM = """\
system: {name}
title: A system of record for tests
controller: Z9C01
namespace: https://fhirgw.uk/Id/{name}
schema: {name}
"""
CODES = "gender: {concept: administrative-gender, codes: {M: male, F: female}}\n"
CONCEPT = """\
concept: administrative-gender
title: Administrative gender
system: http://hl7.org/fhir/administrative-gender
source: R4 (A)
codes: {male: Male, female: Female}
"""
PERSON = """\
table: person
key: person_id
resource: Patient
fields:
  - {{column: person_id, path: "identifier.where(system = 'https://fhirgw.uk/Id/{name}/person').value"}}
  - column: nhs_number
    path: "identifier.where(system = 'https://fhir.nhs.uk/Id/nhs-number').value"
    codec: nhs_number
  - {{column: surname, path: "name.where(use = 'official').family"}}
  - {{column: born, path: birthDate, codec: date}}
  - {{column: gender, path: gender, codes: gender}}
children:
  - table: phone
    parent: person_id
    key: phone_id
    path: telecom
    fields:
      - {{column: phone_id, path: id}}
      - {{column: number, path: value}}
"""
FLAG = """\
table: alert
key: alert_id
resource: Flag
person: person_id
constants:
  - {{path: status, value: active}}
fields:
  - {{column: alert_id, path: "identifier.where(system = 'https://fhirgw.uk/Id/{name}/flag').value"}}
  - {{column: person_id, path: subject, reference: person}}
  - {{column: words, path: code.text}}
  - {{column: started, path: period.start, codec: local_datetime}}
  - {{column: ended, path: period.end, codec: date}}
checks:
  - {{order: [started, ended]}}
"""
TABLES = {
    "person": [
        ["person_id", "nhs_number", "surname", "born", "gender"],
        ["1", "9990000018", "Ashby", "1940-02-01", "F"],
        ["2", "", "Birch", "1951-12-31", "M"],
        ["3", "9000000009", "Cole", "1938-07-07", "M"],
    ],
    "phone": [["phone_id", "person_id", "number"], ["10", "1", "01632 960001"], ["11", "1", "07700 900001"]],
    "alert": [
        ["alert_id", "person_id", "words", "started", "ended"],
        ["100", "1", "Dog on the premises", "2025-01-02 10:00:00", ""],
        ["101", "3", "Two to visit", "2025-06-02 10:00:00", "2025-07-01"],
    ],
}
CUT_OFF = 'alert_id,person_id,words,started,ended\n1,1,"open'
Rows = dict[str, list[list[str]]]


async def done(jobs: ExportJobs, id: str, permit: Permit) -> Job:
    """The export, once it has ended."""
    for _ in range(6000):
        if (job := await jobs.status(permit, id)).state != "running":
            return job
        await asyncio.sleep(0.02)
    raise AssertionError("the export did not end")


class World:
    """A system of record as CSV files, and the gateway it is synced into. `more`: mappings by name, as text."""

    def __init__(
        self, folder: Path, engine: Engine, url: str, name: str = "toy", more: dict[str, str] | None = None
    ) -> None:
        self.more = more or {}
        self.folder, self.engine, self.url, self.name = folder / name, engine, url, name
        self.tables: Rows = json.loads(json.dumps(TABLES))
        self.errors = folder / f"{name}-errors.ndjson"
        self.definition = self._definition(folder / f"{name}-mappings")

    def _definition(self, mappings: Path) -> SystemDefinition:
        for name, text in {
            f"{self.name}/system.yaml": SYSTEM,
            f"{self.name}/codes.yaml": CODES.replace("{", "{{").replace("}", "}}"),
            f"{self.name}/person.yaml": PERSON,
            f"{self.name}/flag.yaml": FLAG,
            **{f"{self.name}/{name}.yaml": text for name, text in self.more.items()},
            "concepts/administrative-gender.yaml": CONCEPT.replace("{", "{{").replace("}", "}}"),
        }.items():
            (mappings / name).parent.mkdir(parents=True, exist_ok=True)
            (mappings / name).write_text(text.format(name=self.name))
        return load(mappings).systems[self.name]

    def write(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for table, rows in self.tables.items():
            with (self.folder / f"{table}.csv").open("w", newline="") as file:
                csv.writer(file, lineterminator="\n").writerows(rows)

    async def sync(self, **options: Any) -> SyncSummary:
        self.write()
        async with CsvSystem(self.name, self.folder) as system:
            return await sync(self.engine, self.definition, system, errors=self.errors, **options)

    def faults(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.errors.read_text().splitlines()]

    async def ask(self, query: str, *arguments: Any) -> list[Any]:
        connection = await connected(self.url)
        try:
            return [tuple(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    async def bodies(self, resource_type: str) -> list[Any]:
        rows = await self.ask("SELECT body FROM fhirgw.resource WHERE type = $1", resource_type)
        return sorted((json.loads(body) for (body,) in rows), key=lambda each: str(each["identifier"]))

    async def state(self) -> list[Any]:
        """Everything that is kept, but the book of runs."""
        return [
            await self.ask(f"SELECT * FROM fhirgw.{table} ORDER BY 1, 2, 3")
            for table in ("resource", "history", "search_string", "change", "lineage", "identifier")
        ]
