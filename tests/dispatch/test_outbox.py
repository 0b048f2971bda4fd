"""A sink that is down neither blocks nor loses: what it does not take waits in the outbox until it does, and comes once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from tests.fakes import NOON, MemorySink, metrics, sample
from worker.dispatch import outbox
from worker.dispatch.outbox import Outbox
from worker.model import Delivery, Outgoing
from worker.state.sqlite import SqliteStore
from worker.state.store import StoreError

pytestmark = pytest.mark.virtual_time


class House:
    """Outboxes of a fleet over one store, and a clock that is set by hand."""

    def __init__(self, store: SqliteStore) -> None:
        self.now = NOON
        self.store = store
        self.metrics = metrics()
        self.sink, self.other = MemorySink(key="sink"), MemorySink(kind="other", key="other")
        self.outbox = self.worker("one")

    def worker(self, owner: str) -> Outbox:
        return Outbox([self.sink, self.other], self.store, self.metrics, self.clock, owner)

    def clock(self) -> datetime:
        return self.now

    async def hand_over(self, *numbers: int) -> list[bool]:
        return [await self.outbox.hand_over(self.sink, f"item-{n}", Outgoing(f"id-{n}", "g", b"{}")) for n in numbers]

    def taken(self) -> list[str]:
        return [one.id for one in self.sink.taken]

    async def wait(self, minutes: float) -> None:
        self.now += timedelta(minutes=minutes)
        await self.outbox.drain(self.sink)

    async def waiting(self) -> int:
        return sum(backlog.count for backlog in await self.store.backlogs())


@pytest.fixture
async def house() -> AsyncIterator[House]:
    store = await SqliteStore.open(":memory:")
    yield House(store)
    await store.close()


async def test_what_a_sink_takes_never_sees_the_outbox(house):
    """It is settled, and that is all."""
    assert await house.hand_over(1) == [True]
    assert (house.taken(), await house.waiting()) == (["id-1"], 0)
    assert await house.store.settled(["sink|item-1"]) == {"sink|item-1"}


async def test_what_it_does_not_take_waits_and_comes_once(house):
    """Handed over all the same, tried again when it is due, and gone from the outbox when the sink has it."""
    house.sink.refuse_all = True
    assert await house.hand_over(1, 2) == [True, True]
    assert await house.store.settled(["sink|item-1", "sink|item-2"]) == {"sink|item-1", "sink|item-2"}
    await house.wait(1)
    assert (house.taken(), await house.waiting()) == ([], 2)
    house.sink.refuse_all = False
    await house.wait(6)
    await house.wait(6)
    assert (sorted(house.taken()), await house.waiting()) == (["id-1", "id-2"], 0)
    assert sample(house.metrics, "deliveries_total", sink="memory", outcome="posted") == 2
    assert sample(house.metrics, "outbox_retries_total", sink="memory", outcome="ok") == 2


async def test_tries_come_later_and_later_up_to_a_bound(house):
    """Each refusal doubles the pause, to five minutes."""
    house.sink.refuse_all = True
    await house.hand_over(1)
    tries = []
    for seconds in range(0, 3600, 5):
        house.now = NOON + timedelta(seconds=seconds)
        before = sample(house.metrics, "outbox_retries_total", sink="memory", outcome="failed")
        await house.outbox.drain(house.sink)
        tries += [seconds] * int(sample(house.metrics, "outbox_retries_total", sink="memory", outcome="failed") - before)
    pauses = [later - sooner for sooner, later in itertools.pairwise(tries)]
    assert pauses[:5] == [30, 60, 120, 240, 300]
    assert set(pauses[5:]) == {300}


async def test_a_sink_that_failed_thrice_is_not_asked_for_a_while(house):
    """So it blocks no message, however long it takes to refuse; then one try is made, and what it tells holds for all."""
    house.sink.refuse_all = True
    asked: list[str] = []
    put = house.sink.put

    async def counted(items):
        asked.extend(one.id for one in items)
        return await put(items)

    house.sink.put = counted
    assert await house.hand_over(*range(50)) == [True] * 50
    assert asked == ["id-0", "id-1", "id-2"]
    house.now += outbox.SHUT_FOR
    await asyncio.gather(*(house.outbox.hand_over(house.sink, f"more-{n}", Outgoing(f"more-{n}", "g", b"{}")) for n in range(10)))
    assert len(asked) == 4
    house.sink.refuse_all = False
    house.now += outbox.SHUT_FOR
    await house.wait(10)
    assert sorted(house.taken()) == sorted([f"id-{n}" for n in range(50)] + [f"more-{n}" for n in range(10)])
    assert await house.waiting() == 0
    assert await house.hand_over(99) == [True]
    assert house.taken()[-1] == "id-99"


async def test_a_sink_that_hangs_is_given_up_in_time(house, monkeypatch):
    """What it would take too long for waits in the outbox as well."""
    monkeypatch.setattr(outbox, "PUT_SECONDS", 0.02)

    async def hang(_):
        await asyncio.Event().wait()

    house.sink.put = hang
    assert await house.hand_over(1) == [True]
    assert await house.waiting() == 1


async def test_one_that_is_down_holds_up_no_other(house):
    """Each sink is drained by itself."""
    house.sink.refuse_all = house.other.refuse_all = True
    await house.hand_over(1)
    await house.outbox.hand_over(house.other, "item-1", Outgoing("id-1", "g", b"{}"))
    house.other.refuse_all = False
    house.now += timedelta(minutes=1)
    await asyncio.gather(house.outbox.drain(house.sink), house.outbox.drain(house.other))
    assert ([one.id for one in house.other.taken], house.taken()) == (["id-1"], [])


async def test_an_item_that_is_never_taken_holds_up_no_other(house):
    """The others pass it by while it waits for its next try."""
    house.sink.refusing = {"id-0"}
    house.sink.refuse_all = True
    await house.hand_over(*range(5))
    house.sink.refuse_all = False
    for _ in range(3):
        await house.wait(1)
    assert sorted(house.taken()) == [f"id-{n}" for n in range(1, 5)]


async def test_of_a_fleet_one_tries_at_a_time(house):
    """Ten workers that drain at the same moment put each item once."""
    house.sink.refuse_all = True
    await house.hand_over(*range(20))
    house.sink.refuse_all = False
    house.now += timedelta(minutes=1)
    await asyncio.gather(*(house.worker(f"w{n}").drain(house.sink) for n in range(10)))
    assert sorted(house.taken()) == sorted(f"id-{n}" for n in range(20))


async def test_a_worker_that_dies_with_it_in_hand_leaves_it_to_another(house):
    """It is due again after the pause, by which time a sink has long answered or been given up."""
    house.sink.refuse_all = True
    await house.hand_over(1)
    assert timedelta(seconds=outbox.PUT_SECONDS) < outbox.FIRST_PAUSE
    (held,) = await house.store.posted("sink", house.now, 9)
    assert await house.store.postpone(held, house.now + outbox.FIRST_PAUSE) is not None  # and then it died
    house.sink.refuse_all = False
    await house.worker("two").drain(house.sink)
    assert house.taken() == []
    house.now += outbox.FIRST_PAUSE
    await house.worker("two").drain(house.sink)
    assert house.taken() == ["id-1"]


async def test_what_the_store_does_not_take_either_is_not_handed_over(house, monkeypatch):
    """The message is then left, as it is without an outbox."""

    async def fail(*_):
        raise StoreError("disk full")

    house.sink.refuse_all = True
    monkeypatch.setattr(house.store, "post", fail)
    assert await house.hand_over(1) == [False]
    assert sample(house.metrics, "deliveries_total", sink="memory", outcome="failed") == 1
    assert await house.store.settled(["sink|item-1"]) == frozenset()


async def test_a_week_is_enough(house):
    """It is tried until then, given up loudly, and gone."""
    house.sink.refuse_all = True
    await house.hand_over(1)
    await house.wait(7 * 24 * 60)
    assert await house.waiting() == 1
    await house.wait(6)
    assert await house.waiting() == 0
    assert sample(house.metrics, "outbox_retries_total", sink="memory", outcome="abandoned") == 1


async def test_what_waits_is_measured_and_what_nobody_takes_any_more_given_up(house):
    """Depth and age by the sink's kind, 0 where nothing waits; a sink that was taken out of the settings keeps nothing for ever."""
    house.sink.refuse_all = True
    await house.hand_over(1, 2)
    await house.store.post(Delivery("gone", "webhook", "item", Outgoing("id", "g", b"{}"), NOON, NOON), "one", NOON)
    house.now += timedelta(minutes=3)
    await house.outbox.measure()
    depths = [sample(house.metrics, "outbox_deliveries", sink=kind) for kind in ("memory", "webhook", "other")]
    ages = [sample(house.metrics, "outbox_oldest_age_seconds", sink=kind) for kind in ("memory", "webhook", "other")]
    assert (depths, ages) == ([2, 1, 0], [180, 180, 0])
    house.now += outbox.KEPT_FOR
    for _ in range(2):
        await house.outbox.measure()
    assert sample(house.metrics, "outbox_retries_total", sink="webhook", outcome="abandoned") == 1
    assert sample(house.metrics, "outbox_deliveries", sink="webhook") == 0


async def test_it_watches_by_itself_and_a_broken_store_does_not_end_it(house, monkeypatch):
    """Faults are counted, and the next round goes on."""
    monkeypatch.setattr(outbox, "DRAIN_EVERY_SECONDS", 0.01)
    monkeypatch.setattr(outbox, "MEASURE_EVERY_SECONDS", 0.01)
    house.sink.refuse_all = True
    await house.hand_over(1)
    house.sink.refuse_all = False

    async def fail(*_):
        raise StoreError("busy")

    watching = asyncio.create_task(house.outbox.watch())
    with monkeypatch.context() as patch:
        patch.setattr(house.store, "posted", fail)
        patch.setattr(house.store, "backlogs", fail)
        async with asyncio.timeout(5):
            while sample(house.metrics, "faults_total", stage="outbox", reason="store") < 4:
                await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        while not house.taken():
            await asyncio.sleep(0.01)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
