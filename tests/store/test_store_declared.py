"""A transaction under a permit ends with its block, whenever whoever reads is stopped."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from fhirgw.access.permit import operations
from fhirgw.store.database import Connection, declared, direct

PERMIT = operations("Z99")


class Late:
    """A connection on which a statement that begins so is done, and who asked was stopped before the answer came."""

    def __init__(self, connection: Connection, begins: str) -> None:
        self._connection, self._begins = connection, begins

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def execute(self, statement: str) -> str:
        told = await self._connection.execute(statement)
        if statement.startswith(self._begins):
            raise asyncio.CancelledError
        return str(told)


@pytest.mark.parametrize(("begins", "left"), [("BEGIN", True), ("ROLLBACK", False)])
async def test_who_is_stopped_leaves_no_transaction(engine: AsyncEngine, begins: str, left: bool) -> None:
    async with direct(engine) as connection:
        with pytest.raises(asyncio.CancelledError):
            async with declared(Late(connection, begins), PERMIT):  # type: ignore[arg-type]
                assert begins == "ROLLBACK"
        assert connection.is_closed() is not left
        assert left is False or not connection.is_in_transaction()
    async with direct(engine) as connection:
        assert await connection.fetchval("SHOW transaction_read_only") == "off"
        async with declared(connection, PERMIT):
            assert await connection.fetchval("SHOW transaction_read_only") == "on"
