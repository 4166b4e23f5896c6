"""Questions that wait at the same time share a statement: what each costs besides its row is paid once for all.

Nobody waits for company, and nobody is given an answer that was begun before they asked: who comes while one is being
answered is in the next. So an answer is as fresh as if each had asked alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

MOST = 64
"""Questions of one statement."""

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Shared(Generic[Key, Item, Answer]):
    """`await shared(key, item)`: `ask(key, items)` gives an answer for each item, in their order.

    What `ask` raises, all who were in it are told. One who goes away leaves the others their answer.
    """

    def __init__(self, ask: Callable[[Key, Sequence[Item]], Awaitable[Sequence[Answer]]], most: int = MOST) -> None:
        self._ask, self._most = ask, most
        self._waiting: dict[Key, list[tuple[Item, asyncio.Future[Answer]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def __call__(self, key: Key, item: Item) -> Answer:
        """The answer for the item."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Answer] = loop.create_future()
        waiting = self._waiting.get(key)
        if waiting is None:
            # It begins when those have asked whose requests have come.
            self._waiting[key] = [(item, told)]
            task = loop.create_task(self._answer(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            waiting.append((item, told))
        return await told

    async def _answer(self, key: Key) -> None:
        """Asks until nobody waits under the key."""
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        try:
            await asyncio.sleep(
                0
            )  # for those who are at the socket already: an eighth less CPU a search, of 16 at once
            while waiting := self._waiting[key]:
                batch, self._waiting[key] = waiting[: self._most], waiting[self._most :]
                try:
                    answers = await self._ask(key, [item for item, _ in batch])
                except Exception as error:
                    _fail(batch, error)
                else:
                    for (_, told), answer in zip(batch, answers, strict=True):
                        if not told.done():  # its request may have gone away
                            told.set_result(answer)
        except BaseException:
            _fail([*batch, *self._waiting[key]], ConnectionAbortedError("the gateway is stopping"))
            raise
        finally:
            del self._waiting[key]


def _fail(batch: Sequence[tuple[object, asyncio.Future[Answer]]], error: Exception) -> None:
    for _, told in batch:
        if not told.done():
            told.set_exception(error)
