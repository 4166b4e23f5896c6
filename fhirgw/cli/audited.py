"""What commands do is audited like everything else: one AuditEvent, in the transaction of what was done."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime

from fhirgw.access.audit_event import Access, Seen
from fhirgw.access.permit import operations
from fhirgw.store.audit import record_now
from fhirgw.store.database import Connection

ROUTE = "fhirgw {}"


async def audited(
    connection: Connection,
    controller: str,
    operation: str,
    *,
    seen: Iterable[Seen] = (),
    application: str = "",
    asked: str | None = None,
    refused: bool = False,
) -> None:
    """Records what whoever runs the gateway has done: `operation` as in fhirgw.access.audit_event.OPERATION.

    `seen` is what they were shown or have changed, `application` the registration that is about, `asked` an instance
    they named. In the transaction of the connection, as the last thing in it: no other process can record till it ends.
    """
    access = Access(
        "operation",
        ROUTE.format(operation.replace("-", " ", 1)),
        datetime.now(UTC),
        str(uuid.uuid4()),
        status=400 if refused else 200,
        operation=operation,
        permit=operations(controller),
        seen=tuple(seen),
        application=application,
        asked=asked,
    )
    await record_now(connection, access)


def patients(ids: Iterable[str]) -> list[Seen]:
    """Records of these people, as what was seen."""
    return [Seen("Patient", each, each) for each in ids]
