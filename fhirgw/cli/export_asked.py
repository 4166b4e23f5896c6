"""What `fhirgw export run` is asked for, by the words of its options: judged as a kick-off over HTTP is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from fhirgw.api.kick_off import associated, check_together, check_types, element, organized
from fhirgw.cli.running import CommandError
from fhirgw.fhir.type_filter import filters, read
from fhirgw.store.export import Selection
from fhirgw.terminology.meant import check as check_codes

Types = Annotated[list[str], typer.Option("--type", help="Only this type; may be repeated.")]
Patients = Annotated[list[str], typer.Option("--patient", help="Only the record of this Patient's id.")]
People = Annotated[bool, typer.Option("--patients", help="Only what is in somebody's record.")]
Group = Annotated[
    str | None, typer.Option(help="Only the records of that Group's members; all of who has joined since.")
]
Since = Annotated[datetime | None, typer.Option(help="Only what changed after this moment, in UTC.")]
Until = Annotated[datetime | None, typer.Option(help="Only what changed before this moment, in UTC.")]
Filters = Annotated[
    list[str],
    typer.Option("--type-filter", "--filter", help="_typeFilter, as Observation?status=final; may be repeated."),
]
Elements = Annotated[
    list[str], typer.Option("--elements", help="Only these, as Patient.birthDate,status; and what is mandatory.")
]
Organized = Annotated[str | None, typer.Option("--organize-by", help="Patient: in blocks, a person's each.")]
Associated = Annotated[
    list[str],
    typer.Option("--associated", help="LatestProvenanceResources or RelevantProvenanceResources: with the rest."),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for, word for word."""

    types: list[str]
    patients: list[str]
    people: bool = False
    group: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    filters: list[str] | None = None
    elements: list[str] | None = None
    organized: str | None = None
    associated: list[str] | None = None

    def selection(self, **form: Any) -> Selection:
        """As an export takes it; `form`: how its files are. Raises CommandError, FhirError naming the parameter."""
        of_patients = self.people or bool(self.patients) or self.group is not None
        check_types(tuple(self.types), of_patients)
        if self.since and self.since.replace(tzinfo=UTC) > datetime.now(UTC):
            raise CommandError("--since: this moment is still to come.", 2)
        types = tuple(dict.fromkeys(self.types))
        made = Selection(
            types=types,
            patients=tuple(self.patients) if of_patients else None,
            since=self.since and self.since.replace(tzinfo=UTC),
            until=self.until and self.until.replace(tzinfo=UTC),
            filters=filters(self.filters) if self.filters else (),
            elements=tuple(element(each.strip()) for told in self.elements or () for each in told.split(",")),
            group=self.group,
            organized=self.organized is not None and organized(self.organized, of_patients),
            associated=associated(self.associated) if self.associated else None,
            **form,
        )
        for each in made.filters:
            check_codes(read(each).criteria)
        check_together(made)
        return replace(made, types=tuple(dict.fromkeys((*types, "Provenance")))) if made.associated and types else made
