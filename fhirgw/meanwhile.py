"""Work that goes on beside a block and ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


@asynccontextmanager
async def meanwhile(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Does the work, a task of this name, while the block runs; it is cancelled, and waited for, when the block ends.

    What it raises is lost: work that may fail says so itself.
    """
    task = asyncio.create_task(work, name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
