"""The virtual time that other tests stand on: timers come in their order and cost nothing, threads are awaited truly."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

pytestmark = pytest.mark.virtual_time


async def test_timers_of_hours_come_in_their_order_and_at_their_times() -> None:
    """Three sleepers and a deadline; the clock shows for each what it slept."""
    loop, woken = asyncio.get_running_loop(), list[tuple[float, float]]()

    async def sleeper(seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((seconds, round(loop.time(), 6)))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5_400):
            await asyncio.gather(*(sleeper(seconds) for seconds in (7_200, 3_600, 0.25)))
    assert woken == [(0.25, 0.25), (3_600, 3_600)]


async def test_time_stands_still_while_something_computes() -> None:
    """However long a step of the loop takes, nothing else becomes late by it."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    time.sleep(0.05)  # noqa: ASYNC251  # this is the computing
    assert loop.time() == began


async def test_a_thread_is_awaited_truly() -> None:
    """A timer beside it does not come before its time, so a thread that ends first is first."""
    ended = threading.Event()
    work = asyncio.create_task(asyncio.to_thread(ended.wait))
    asyncio.get_running_loop().call_later(0.05, ended.set)
    async with asyncio.timeout(60):
        assert await work
