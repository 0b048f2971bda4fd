"""Bytes in flight stay within their number, and everybody who waits for some gets them in turn."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import PATIENCE_SECONDS
from worker.budget import Budget


async def holder(budget: Budget, size: int, letting_go: asyncio.Event, order: list[int]) -> None:
    async with budget.hold(size):
        order.append(size)
        assert 0 <= budget.taken <= budget.total
        await letting_go.wait()


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_asked_first_is_served_first():
    """A small one does not pass a large one that waits: else the large one would wait for ever."""
    order: list[int] = []
    budget, gone = Budget(10), asyncio.Event()
    tasks = [asyncio.create_task(holder(budget, size, gone, order)) for size in (6, 8, 1)]
    await settled()
    assert (order, budget.taken) == ([6], 6)
    gone.set()
    await asyncio.gather(*tasks)
    assert (order, budget.taken) == ([6, 8, 1], 0)


async def test_more_than_there_is_waits_for_all_of_it():
    """One that is larger than the whole budget goes alone."""
    order: list[int] = []
    budget, gone = Budget(10), asyncio.Event()
    tasks = [asyncio.create_task(holder(budget, size, gone, order)) for size in (3, 50)]
    await settled()
    assert order == [3]
    gone.set()
    await asyncio.gather(*tasks)
    assert (order, budget.taken) == ([3, 50], 0)


async def test_who_waited_behind_one_that_gave_up_goes():
    """A cancelled waiter takes nothing with it, and blocks nobody."""
    order: list[int] = []
    budget, gone = Budget(10), asyncio.Event()
    first, second, third = [asyncio.create_task(holder(budget, size, gone, order)) for size in (6, 8, 2)]
    await settled()
    second.cancel()
    await settled()
    assert order == [6, 2]
    gone.set()
    await asyncio.gather(first, third)
    assert budget.taken == 0


@given(st.lists(st.tuples(st.integers(0, 15), st.sampled_from(["finish", "cancel", "cancel late"])), max_size=12))
def test_nothing_is_lost_or_made_however_holders_come_and_go(comers):
    """Whatever is held, let go of or given up: in the end all of the budget is free, and everybody who stayed was served."""

    async def life() -> None:
        order: list[int] = []
        budget, gone = Budget(10), asyncio.Event()
        tasks = [asyncio.create_task(holder(budget, size, gone, order)) for size, _ in comers]
        for task, (_, fate) in zip(tasks, comers, strict=True):
            if fate == "cancel":
                await settled()
                task.cancel()
        gone.set()
        for task, (_, fate) in zip(tasks, comers, strict=True):
            if fate == "cancel late":
                await asyncio.sleep(0)
                task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await asyncio.wait_for(task, PATIENCE_SECONDS)
        assert budget.taken == 0
        async with asyncio.timeout(PATIENCE_SECONDS), budget.hold(10):
            pass

    asyncio.run(life())
