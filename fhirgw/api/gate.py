"""The gate every request passes: its caller's permit, and what else must hold before anything is read with it."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.requests import Request

from fhirgw.access.permit import Permit
from fhirgw.access.purpose import Purpose
from fhirgw.api.audit import entry
from fhirgw.api.authenticate import HEADERS, Connect, Gatekeeper, Made
from fhirgw.api.break_glass import banner
from fhirgw.store.opt_out import check_fresh


@dataclass(frozen=True, slots=True)
class Gate:
    """`await gate(request)`. `opt_out_days`: how old the list of national data opt-outs may be."""

    gatekeeper: Gatekeeper
    connect: Connect
    opt_out_days: float

    async def __call__(self, request: Request) -> Permit:
        """The caller's permit. Raises FhirError: 401, 403, 429, and 503 where whom to leave out cannot be told."""
        permit = entry(request).permit = await self.gatekeeper.permit(request)
        if permit.purpose in (Purpose.PLANNING, Purpose.RESEARCH):
            async with self.connect() as connection:
                await check_fresh(connection, self.opt_out_days)
        if permit.purpose == Purpose.EMERGENCY:
            request.scope[HEADERS] = request.scope.get(HEADERS, {}) | banner(permit)
        return permit

    async def assumed(self, request: Request) -> Made | None:
        """The caller's permit, if its standing still holds, which is to be asked. Raises Refusal (401, 429)."""
        made = await self.gatekeeper.assumed(request)
        return None if made is None or made.permit.purpose in (Purpose.PLANNING, Purpose.RESEARCH) else made
