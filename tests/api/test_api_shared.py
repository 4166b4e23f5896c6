"""Questions that share a statement: as fresh as if asked alone, in order, and each told what became of it."""

import asyncio
from collections.abc import Sequence

import pytest

from fhirgw.api.shared import MOST, Shared


class Asked:
    """Answers each item with the number of the statement it was in; `gate` holds a statement up."""

    def __init__(self) -> None:
        self.batches: list[tuple[str, list[int]]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fault: BaseException | None = None

    async def __call__(self, key: str, items: Sequence[int]) -> list[tuple[int, int]]:
        self.batches.append((key, list(items)))
        number = len(self.batches)
        await self.gate.wait()
        fault, self.fault = self.fault, None
        if fault:
            raise fault
        return [(item, number) for item in items]


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_come_at_once_share_and_each_has_its_own_answer() -> None:
    asked = Asked()
    shared: Shared[str, int, tuple[int, int]] = Shared(asked)
    answers = await asyncio.gather(*(shared("a", each) for each in range(5)), shared("b", 9))
    assert answers == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (9, 2)]
    assert asked.batches == [("a", [0, 1, 2, 3, 4]), ("b", [9])]


async def test_who_comes_while_one_is_answered_is_in_the_next() -> None:
    asked = Asked()
    asked.gate.clear()
    shared: Shared[str, int, tuple[int, int]] = Shared(asked)
    first = asyncio.create_task(shared("a", 1))
    await turns()
    later = [asyncio.create_task(shared("a", each)) for each in (2, 3)]
    await turns()
    assert asked.batches == [("a", [1])]  # nobody is given an answer begun before they asked
    asked.gate.set()
    assert await asyncio.gather(first, *later) == [(1, 1), (2, 2), (3, 2)]
    assert await shared("a", 4) == (4, 3)  # and when all were answered, it begins anew


async def test_a_fault_is_everybodys_who_was_in_it_and_nobody_elses() -> None:
    asked = Asked()
    asked.gate.clear()
    asked.fault = ConnectionResetError("gone")
    shared: Shared[str, int, tuple[int, int]] = Shared(asked)
    failing = [asyncio.create_task(shared("a", each)) for each in (1, 2)]
    await turns()
    after = asyncio.create_task(shared("a", 3))
    await turns()
    asked.gate.set()
    await asyncio.wait(failing)
    assert [type(each.exception()) for each in failing] == [ConnectionResetError] * 2
    assert await after == (3, 2)


async def test_one_who_goes_away_leaves_the_others_their_answer() -> None:
    asked = Asked()
    asked.gate.clear()
    shared: Shared[str, int, tuple[int, int]] = Shared(asked)
    gone, stays = (asyncio.create_task(shared("a", each)) for each in (1, 2))
    await turns()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    asked.gate.set()
    assert await stays == (2, 1)


async def test_a_statement_has_so_many_and_no_more() -> None:
    asked = Asked()
    shared: Shared[str, int, tuple[int, int]] = Shared(asked)
    answers = await asyncio.gather(*(shared("a", each) for each in range(MOST + 1)))
    assert [number for _, number in answers] == [1] * MOST + [2]


async def test_when_the_loop_ends_nobody_is_left_waiting() -> None:
    asked = Asked()
    asked.gate.clear()
    asked.fault = asyncio.CancelledError()
    shared: Shared[str, int, tuple[int, int]] = Shared(asked)
    waiting = [asyncio.create_task(shared("a", each)) for each in (1, 2)]
    await turns()
    asked.gate.set()
    await asyncio.wait(waiting, timeout=5)
    assert [type(each.exception()) for each in waiting] == [ConnectionAbortedError] * 2
