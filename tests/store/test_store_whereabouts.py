"""Where a restricted person lives is kept wherever it stands: in their Patient, and in whom they care for's record."""

from dataclasses import replace
from typing import Any

import pytest

from fhirgw.access.permit import Permit
from fhirgw.access.scope import Scope
from fhirgw.fhir.query import Query
from fhirgw.store import withdrawal
from fhirgw.store.search import search
from tests.put import connected, put, reading

RESTRICTED = {"security": [{"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}]}
ADDRESS = [{"line": ["37 Cherry Gardens"], "postalCode": "ZZ6 7JF"}]
CARER = {"resourceType": "Patient", "id": "carer", "address": ADDRESS}
CARED_FOR = {"resourceType": "Patient", "id": "cared-for"}
RELATED: dict[str, Any] = {
    "resourceType": "RelatedPerson",
    "id": "r1",
    "extension": [
        {
            "url": "https://fhirgw.uk/fhir/StructureDefinition/ext-related-patient",
            "valueReference": {"reference": "Patient/carer"},
        }
    ],
    "patient": {"reference": "Patient/cared-for"},
    "address": ADDRESS,
}
ICS = Permit("Z99", "direct-care", (Scope.parse("system/*.rs"),))
CLEARED = replace(ICS, clearance=15)
HERSELF = Permit("Z99", "person", (Scope.parse("patient/*.rs"),), patient="cared-for")


@pytest.mark.parametrize("restricted", [True, False])
async def test_a_carers_address_is_kept_in_the_record_of_whom_they_care_for(database: str, restricted: bool) -> None:
    await put(database, {**CARER, "meta": RESTRICTED} if restricted else CARER, CARED_FOR, RELATED)
    async with reading(database) as pool, pool.acquire() as connection:
        for permit, seen in ((ICS, not restricted), (HERSELF, not restricted), (CLEARED, True)):
            for pairs in ([], [("address-postalcode", "ZZ6 7JF")], [("_id", "r1")]):
                page = await search(connection, permit, Query.parse("RelatedPerson", pairs))
                assert [each.id for each in page.matches] == (["r1"] if seen else [])


async def test_what_was_exported_of_who_is_restricted_since_is_to_go(database: str) -> None:
    await put(database, {**CARER, "meta": RESTRICTED}, CARED_FOR, RELATED)
    connection = await connected(database)
    try:
        for permit, gone in ((ICS, True), (CLEARED, False)):
            for kind, id in (("Patient", "carer"), ("RelatedPerson", "r1")):
                found = await withdrawal.withheld(connection, permit, kind, ["carer"])
                assert set(found) == ({id} if gone else set())
                shortened = [body for body in found.values() if body is not None]
                assert len(shortened) == (gone and kind == "Patient")  # they stay, without where they are
                assert not any(b"ZZ6 7JF" in body for body in shortened)
        assert await withdrawal.withheld(connection, ICS, "Patient", ["cared-for"]) == {}
    finally:
        await connection.close()
