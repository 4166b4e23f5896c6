"""What of Consents does not hold as it is written, as far as what is held here bears on it too: an actor nobody is."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from fhirgw.access.doubt import actors, doubts
from fhirgw.fhir.issue import Issue, Resource
from fhirgw.fhir.nhs import ODS_ORGANISATION
from fhirgw.store import ods
from fhirgw.store.database import Connection

Key = TypeVar("Key")
NOBODY = "Nobody who is known here is called so: it holds for nobody until somebody is. Correct it if it is a slip"


async def doubtful(
    connection: Connection, consents: Mapping[Key, Resource], nowhere: Collection[str] = ()
) -> dict[Key, tuple[Issue, ...]]:
    """The issues of each of the Consents that has any. `nowhere` are references that lead to nothing.

    Whether an organisation is held is no secret: its code is public, and so is who has one here.
    """
    named = {key: list(actors(each)) if each.get("status") == "active" else [] for key, each in consents.items()}
    codes = {_code(party) for each in named.values() for _, party in each} - {None}
    unknown = await ods.unheld(connection, {code for code in codes if code})
    strange = {*nowhere, *(f"{ODS_ORGANISATION}|{each}" for each in unknown)}
    found = {}
    for key, each in consents.items():
        unmet = [Issue("not-found", NOBODY, place, "warning") for place, party in named[key] if party in strange]
        if issues := (*doubts(each), *unmet):
            found[key] = issues
    return found


def _code(party: str) -> str | None:
    system, _, code = party.partition("|")
    return code if system == ODS_ORGANISATION else None
