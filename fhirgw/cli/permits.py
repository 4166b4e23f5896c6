"""Permits of registered applications, for commands that show or copy what those may see."""

from __future__ import annotations

from fhirgw.access.permit import Permit, directory
from fhirgw.api.authenticate import as_registered
from fhirgw.cli.running import CommandError
from fhirgw.settings import Settings
from fhirgw.store import registration as registrations
from fhirgw.store.database import Engine, declared, direct


async def permit_of(engine: Engine, given: Settings, name: str, purpose: str | None = None) -> Permit:
    """What the application may do with all it is registered for. Raises CommandError, FhirError."""
    async with direct(engine) as connection:
        found = await registrations.find(connection, name)
        if found is None:
            raise CommandError(f"There is no application {name!r}: `fhirgw app list` names them.", 2)
        async with declared(connection, directory(given.controller)):
            return await as_registered(connection, found, purpose)
