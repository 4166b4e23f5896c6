"""Deleting what an origin brought, because that origin says that it is no more; nobody else's, whoever says so.

In the caller's transaction, with history, as everything is deleted; what it was made of is forgotten with it, so that
the same line, sent again later, makes it anew. Said twice, it is done once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from fhirgw.store import identity, lineage, load, write
from fhirgw.store.database import Connection

HELD = """
SELECT id, patient, origin = $3 AS theirs FROM fhirgw.resource WHERE type = $1 AND id = ANY ($2)
ORDER BY id FOR UPDATE"""


@dataclass(slots=True)
class Retracted:
    """What became of resources of a type that are to go, by id.

    `gone`, each with whose record it was in; `others`: another brought them; `kept`: Patients who are in use yet. The
    rest were not here.
    """

    gone: dict[str, str | None] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


async def retract(connection: Connection, origin: str, kind: str, ids: Sequence[str], moment: datetime) -> Retracted:
    """Deletes those of the resources that the origin brought. A Patient stays while there is more in the record, or
    another system knows the same person.
    """
    found = Retracted()
    for id, person, theirs in await connection.fetch(HELD, kind, list(ids), origin):
        if not theirs:
            found.others.append(id)
        elif kind == "Patient" and (await write.in_use(connection, id) or await identity.met(connection, id)):
            found.kept.append(id)
        else:
            found.gone[id] = person
    if found.gone:
        await load.leave(connection, origin, kind, list(found.gone), moment)
        await lineage.retrace(connection, origin, kind, [(id, lineage.GONE) for id in found.gone])
    return found
