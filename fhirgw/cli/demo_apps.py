"""The applications of the demonstration, each with its key in the data folder: who sees what, to be tried."""

from __future__ import annotations

from fhirgw.access.permit import operations
from fhirgw.cli.apps import ensured
from fhirgw.cli.permits import permit_of
from fhirgw.settings import Settings
from fhirgw.store.database import Engine, declared, direct
from fhirgw.store.examples import Example, example, provider
from fhirgw.store.registration import Registration

ICS, BULK, PROVIDER, PERSON = "demo-ics", "demo-bulk", "demo-provider", "demo-person"
PROVIDER_SCOPE = "system/*.rs system/Appointment.cu system/Encounter.cu"
"""A care provider reads what its carers need, and sends visits."""
DESK, DESK_SCOPE = "demo-desk", "system/Task.rus system/Patient.r"
"""The council's duty desk: it sees alerts and takes them in hand, and the names of those they are about."""
PLENTY = 1_000_000
"""Requests a minute: whoever tries things out is not to be held up."""


async def applications(engine: Engine, given: Settings, controller: str) -> list[Registration]:
    """Registers them; twice is once."""
    shared = Registration(ICS, controller, "system/*.rs", name="Shared care record", rate=PLENTY)
    bulk = Registration(BULK, controller, "system/*.rs", name="Nightly bulk copy", rate=PLENTY)
    desk = Registration(DESK, controller, DESK_SCOPE, name="Duty desk", sector="council", rate=PLENTY)
    made = [await _kept(engine, given, each) for each in (shared, bulk, desk)]
    async with direct(engine) as connection, declared(connection, operations(given.controller)):
        delivering = await provider(connection)
    if delivering:
        carers = Registration(PROVIDER, delivering, PROVIDER_SCOPE, sector="care-provider", rate=PLENTY)
        made.append(await _kept(engine, given, carers))
    if found := await somebody(engine, given):
        person = Registration(PERSON, controller, "patient/*.rs", purposes=("person",), patient=found.patient)
        made.append(await _kept(engine, given, person))
    return made


async def somebody(engine: Engine, given: Settings) -> Example | None:
    """A person whom the shared care record may see, with much on record."""
    permit = await permit_of(engine, given, ICS)
    async with direct(engine) as connection, declared(connection, permit):
        return await example(connection, permit)


async def _kept(engine: Engine, given: Settings, wanted: Registration) -> Registration:
    async with direct(engine) as connection:
        return await ensured(connection, given, wanted)
