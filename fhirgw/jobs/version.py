"""The versions that rows come to: bodies as they will be served, and all they will be found by."""

from __future__ import annotations

from datetime import datetime

from fhirgw.fhir.canonical import decode
from fhirgw.fhir.issue import Resource
from fhirgw.fhir.nhs import NHS_NUMBER
from fhirgw.jobs.table import Candidate
from fhirgw.mapping.mapping import Field, Mapping, Row
from fhirgw.mapping.refusal import Fault, Refusal, RefusedRow
from fhirgw.store.incoming import made_of
from fhirgw.store.load import Incoming, Kept


def incoming(
    candidate: Candidate, resource: Resource, kind: str, version: int, moment: datetime, origin: str, controller: str
) -> Incoming:
    """The version to be written of a row."""
    made = made_of(resource, kind, version, moment, origin, controller)
    return made._replace(key=candidate.key, digest=candidate.digest)


def onto(candidate: Candidate, kept: Kept, origin: str) -> Resource | None:
    """The resource a changed row makes of what is held; None where it makes no difference.

    To a Patient whom another system brought, a system only adds its own numbers: who brings a person describes them.
    RefusedRow where it no longer says what it was led there by.
    """
    held = decode(kept.body)
    if kept.origin != origin:
        return _joined(candidate, held)
    made = candidate.mapping.to_fhir(candidate.row, onto=held)
    return None if made == held else made


def _joined(candidate: Candidate, held: Resource) -> Resource | None:
    """Another system's Patient with this system's numbers; None where it has them."""
    mapping, theirs = candidate.mapping, held.get("identifier", [])
    claim = claimed(mapping, candidate.row)
    numbers = [each.get("value") for each in theirs if each.get("system") == NHS_NUMBER]
    if claim is None or [claim[0]] != numbers or claim[1] != held.get("birthDate"):
        rule = "the row was led to another system's Patient by NHS number and date of birth, and now says otherwise"
        remedy = "Find out which is right: parting two records is for people to decide"
        raise RefusedRow([Fault(mapping.table, candidate.key, mapping.key, "identity", "changed", rule, remedy)])
    mine = [each for each in candidate.resource.get("identifier", ()) if each.get("system") != NHS_NUMBER]
    systems = {each.get("system") for each in mine}
    made = [*(each for each in theirs if each.get("system") not in systems), *mine]
    return None if made == theirs else {**held, "identifier": made}


def parted(held: Resource, namespace: str) -> Resource:
    """Another system's Patient without the numbers of this one, which has forgotten them."""
    theirs = [each for each in held["identifier"] if not str(each.get("system", "")).startswith(f"{namespace}/")]
    return {**held, "identifier": theirs}


def claimed(mapping: Mapping, row: Row) -> tuple[str, str] | None:
    """The NHS number and date of birth a row of people says, if it says both and soundly."""
    said: list[str] = []
    for wanted in (_number_field(mapping), _birth_field(mapping)):
        cell = row.get(wanted.column) if wanted else None
        if wanted is None or cell is None:
            return None
        try:
            said.append(wanted.leaf.write(cell, None, None))
        except Refusal:
            return None
    return said[0], said[1]


def _number_field(mapping: Mapping) -> Field | None:
    for each in mapping.fields:
        holder = each.path.containers[-1].create() if each.path.containers else {}
        if holder.get("system") == NHS_NUMBER and each.path.leaf and each.path.leaf.name == "value":
            return each
    return None


def _birth_field(mapping: Mapping) -> Field | None:
    return next((each for each in mapping.fields if each.path.text == "birthDate"), None)
