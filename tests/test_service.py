"""The life of a worker: it holds what it has, never takes more than it can hold, and stops without losing anything."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from tests.fakes import MemoryQueue, metrics, sample
from worker.model import Message, Verdict
from worker.service import Service

pytestmark = pytest.mark.virtual_time

DELETE = Verdict(delete=True)


def make(
    queue: MemoryQueue,
    work: Callable[[Message], Awaitable[Verdict]],
    concurrency: int = 4,
    grace_seconds: float = 5.0,
    gate: Callable[[], Awaitable[str | None]] | None = None,
) -> Service:
    return Service(
        queue,
        work,
        concurrency=concurrency,
        grace_seconds=grace_seconds,
        metrics=metrics(),
        clock=lambda: datetime.now(UTC),
        chance=random.Random(7),
        gate=gate,
    )


@asynccontextmanager
async def running(service: Service):
    """The service at work; yields what stops it, and waits for it to end."""
    stop = asyncio.Event()
    life = asyncio.create_task(service.run(stop))
    try:
        yield stop
    finally:
        stop.set()
        async with asyncio.timeout(20):
            await life


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


async def test_every_message_is_worked_once_and_deleted():
    """A hundred messages, four hands: each is worked, each deleted, in batches."""
    queue, worked = MemoryQueue(), []
    for number in range(100):
        await queue.put(str(number))

    async def work(message: Message) -> Verdict:
        worked.append(message.body)
        return DELETE

    service = make(queue, work)
    async with running(service):
        await until(lambda: not queue.held)
    assert sorted(worked, key=int) == [str(number) for number in range(100)]
    assert sample(service._metrics, "messages_in_hand", queue="main") == 0


async def test_no_more_is_asked_for_than_there_are_hands():
    """With three hands, no receive asks for four, and never are more than three at work."""
    queue, at_work, most = MemoryQueue(), 0, 0
    for number in range(30):
        await queue.put(str(number))

    async def work(_: Message) -> Verdict:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await asyncio.sleep(0.002)
        at_work -= 1
        return DELETE

    async with running(make(queue, work, concurrency=3)):
        await until(lambda: not queue.held)
    assert most <= 3
    assert max(queue.asked_for) <= 3


async def test_a_message_is_held_for_as_long_as_its_work_takes():
    """Work that takes three times the visibility timeout is not delivered to anybody else."""
    queue, received = MemoryQueue(visibility_seconds=1), []
    await queue.put("slow")

    async def work(message: Message) -> Verdict:
        received.append(message.receives)
        await asyncio.sleep(3)
        return DELETE

    async with running(make(queue, work)):
        await until(lambda: not queue.held)
    assert received == [1]


async def test_a_message_that_is_left_comes_back_when_it_is_asked_back():
    """Left messages are not deleted; after the asked pause they come again, and at last are redriven."""
    queue, receives = MemoryQueue(most_receives=3), []
    await queue.put("bad")

    async def work(message: Message) -> Verdict:
        receives.append(message.receives)
        return Verdict(delete=False, reason="not-gzip", retry_after_seconds=0)

    service = make(queue, work)
    async with running(service):
        await until(lambda: bool(queue.dead))
    assert (receives, queue.deleted, queue.dead) == ([1, 2, 3], [], ["bad"])
    assert sample(service._metrics, "messages_left_total", reason="not-gzip") == 3


async def test_work_that_raises_is_a_counted_fault_and_stops_nobody():
    """A defect in the work of one message leaves it, is counted, and the next message is worked."""
    queue, worked = MemoryQueue(visibility_seconds=30), []
    await queue.put("defect")
    await queue.put("good")

    async def work(message: Message) -> Verdict:
        if message.body == "defect":
            raise KeyError("a defect")
        worked.append(message.body)
        return DELETE

    service = make(queue, work, concurrency=1)
    async with running(service):
        await until(lambda: bool(worked))
    assert sample(service._metrics, "faults_total", stage="worker", reason="unexpected") == 1
    assert [held.body for held in queue.held.values()] == ["defect"]


async def test_a_stop_finishes_what_is_in_hand_and_receives_nothing_more():
    """What was begun is finished and deleted; what was not received stays where it is."""
    queue, begun, finish = MemoryQueue(), asyncio.Event(), asyncio.Event()
    for number in range(5):
        await queue.put(str(number))

    async def work(_: Message) -> Verdict:
        begun.set()
        await finish.wait()
        return DELETE

    async with running(make(queue, work, concurrency=1)) as stop:
        await begun.wait()
        stop.set()
        await asyncio.sleep(0.05)
        finish.set()
    assert len(queue.deleted) == 1
    assert len(queue.held) == 4
    assert all(held.receives == 0 for held in queue.held.values())


async def test_what_outlasts_the_grace_is_given_back():
    """Work that does not end in time is cancelled, and its message is visible again at once."""
    queue, begun = MemoryQueue(visibility_seconds=600), asyncio.Event()
    await queue.put("endless")

    async def work(_: Message) -> Verdict:
        begun.set()
        await asyncio.Event().wait()
        return DELETE

    service = make(queue, work, grace_seconds=0.1)
    async with running(service) as stop:
        await begun.wait()
        stop.set()
    (held,) = queue.held.values()
    assert held.visible_at <= asyncio.get_running_loop().time()
    assert sample(service._metrics, "messages_returned_total", queue="main") == 1


async def test_a_stop_does_not_wait_for_a_long_poll():
    """An idle worker ends within a second or so, not after twenty."""
    queue = MemoryQueue()
    loop = asyncio.get_running_loop()
    async with running(make(queue, lambda _: asyncio.sleep(0, DELETE))) as stop:
        await until(lambda: bool(queue.asked_for))
        began = loop.time()
        stop.set()
    assert loop.time() - began < 5


async def test_failing_receives_are_counted_and_tried_again():
    """A queue that cannot be reached makes the worker unready, not dead; when it is back, work goes on."""
    queue = MemoryQueue(failing=OSError("no route"))
    await queue.put("later")
    service = make(queue, lambda _: asyncio.sleep(0, DELETE))
    async with running(service):
        await until(lambda: sample(service._metrics, "receive_errors_total", queue="main") >= 1)
        assert service.faults()
        queue.failing = None
        await until(lambda: not queue.held)
        assert service.faults() == []


async def test_leaving_every_message_is_no_progress():
    """A worker whose every message is left is not ready, and its progress stands still."""
    queue, now = MemoryQueue(visibility_seconds=600, most_receives=10**6), datetime(2026, 11, 23, tzinfo=UTC)
    await queue.put("x")
    service = make(queue, lambda _: asyncio.sleep(0, Verdict(delete=False, reason="store", retry_after_seconds=0)))
    service._clock = lambda: now
    async with running(service):
        await until(lambda: sample(service._metrics, "messages_left_total", reason="store") >= 2)
        assert sample(service._metrics, "last_progress_timestamp_seconds", queue="main") == 0
        now = datetime(2026, 11, 23, 0, 2, tzinfo=UTC)
        assert any("every message has been left" in fault for fault in service.faults())


async def test_a_message_left_for_something_more_is_progress():
    """Its work is done; the worker stays ready."""
    queue, now = MemoryQueue(visibility_seconds=600, most_receives=10**6), datetime(2026, 11, 23, tzinfo=UTC)
    await queue.put("x")
    awaited = Verdict(delete=False, reason="facts-awaited", retry_after_seconds=0, progress=True)
    service = make(queue, lambda _: asyncio.sleep(0, awaited))
    service._clock = lambda: now
    async with running(service):
        await until(lambda: sample(service._metrics, "messages_left_total", reason="facts-awaited") >= 2)
        now = datetime(2026, 11, 23, 0, 2, tzinfo=UTC)
        await until(lambda: sample(service._metrics, "last_progress_timestamp_seconds", queue="main") == now.timestamp())
        assert service.faults() == []


@pytest.mark.parametrize("stuck", [False, True])
async def test_it_is_ready_only_while_work_moves_forward(stuck):
    """Ready after a first receive; not ready when all hands have been busy for longer than the visibility timeout."""
    queue, now = MemoryQueue(visibility_seconds=60), datetime(2026, 11, 23, tzinfo=UTC)
    await queue.put("x")
    begun = asyncio.Event()

    async def work(_: Message) -> Verdict:
        begun.set()
        await asyncio.Event().wait()
        return DELETE

    service = make(queue, work, concurrency=1, grace_seconds=0)
    service._clock = lambda: now
    assert service.faults()
    async with running(service):
        await begun.wait()
        assert service.faults() == []
        if stuck:
            now = datetime(2026, 11, 23, 0, 5, tzinfo=UTC)
            assert any("every hand is busy" in fault for fault in service.faults())
    assert service.faults() == ["stopping"]


def by_the_loop() -> Callable[[], datetime]:
    """The loop's own time, as a date."""
    loop = asyncio.get_running_loop()
    return lambda: datetime(2026, 11, 23, tzinfo=UTC) + timedelta(seconds=loop.time())


@pytest.mark.parametrize("concurrency", [4, 20])
async def test_an_empty_queue_is_no_jam(concurrency):
    """After its last message a worker waits for more, for as long as it takes, and is ready all the while."""
    queue = MemoryQueue()
    await queue.put("x")
    service = make(queue, lambda _: asyncio.sleep(0, DELETE), concurrency)
    service._clock = by_the_loop()
    async with running(service):
        await until(lambda: not queue.held)
        for _ in range(60):
            await asyncio.sleep(5)
            assert service.faults() == []


async def test_while_all_hands_are_at_work_nobody_is_blamed_for_receiving_nothing():
    """A worker with long work is ready for as long as it may take."""
    queue = MemoryQueue(visibility_seconds=300)
    for number in range(4):
        await queue.put(str(number))
    service = make(queue, lambda _: asyncio.sleep(200, DELETE), concurrency=4, grace_seconds=300)
    service._clock = by_the_loop()
    async with running(service) as stop:
        await until(lambda: service._free == 0)
        for _ in range(38):
            await asyncio.sleep(5)
            assert service.faults() == []
        stop.set()
        await asyncio.sleep(15)


async def test_a_queue_that_gives_more_than_was_asked_for_is_asked_for_no_less_than_one():
    """Its messages are worked all the same."""

    class Generous(MemoryQueue):
        async def receive(self, most: int) -> list[Message]:
            self.asked_for.append(most)
            return await MemoryQueue.receive(self, 10)

    queue = Generous()
    for number in range(30):
        await queue.put(str(number))
    service = make(queue, lambda _: asyncio.sleep(1, DELETE), concurrency=4)
    async with running(service):
        await until(lambda: not queue.held)
        assert min(queue.asked_for) >= 1
        await until(lambda: service._free in {0, 4})


async def test_what_comes_with_the_stop_is_given_back_at_once():
    """Even where giving back takes longer than a receive may, and the work in hand longer still."""

    class Slow(MemoryQueue):
        async def receive(self, most: int) -> list[Message]:
            found = await MemoryQueue.receive(self, most if self.asked_for else 1)
            await asyncio.sleep(1.9 if len(self.asked_for) > 1 else 0)
            return found

        async def extend(self, messages: Sequence[Message], seconds: int) -> None:
            await asyncio.sleep(0.3)
            await MemoryQueue.extend(self, messages, seconds)
            given.append((seconds, len(messages), asyncio.get_running_loop().time()))

    given: list[tuple[int, int, float]] = []
    queue = Slow(visibility_seconds=120)
    for number in range(3):
        await queue.put(str(number))
    service = make(queue, lambda _: asyncio.sleep(10, DELETE), concurrency=4, grace_seconds=15)
    async with running(service) as stop:
        await asyncio.sleep(1)
        stopped = asyncio.get_running_loop().time()
        stop.set()
    assert [(seconds, count) for seconds, count, _ in given] == [(0, 2)]
    assert given[0][2] - stopped < 2


# The gate.


async def test_while_the_gate_is_shut_nothing_is_received(monkeypatch: pytest.MonkeyPatch) -> None:
    """No message loses a receive to a stop; readiness stays green and tells why; when the gate opens all is worked at its first receive."""
    monkeypatch.setattr("worker.service.GATE_SECONDS", 0.005)
    queue, worked, shut, asked = MemoryQueue(), [], "there is a stop", 0
    await queue.put("1")

    async def work(message: Message) -> Verdict:
        worked.append(message.receives)
        return DELETE

    async def gate() -> str | None:
        nonlocal asked
        asked += 1
        return shut or None

    service = make(queue, work, gate=gate)
    async with running(service):
        await until(lambda: asked > 5)
        assert (queue.asked_for, service.faults()) == ([], [])
        assert service.notes() == ["nothing is received from the main queue: there is a stop"]
        shut = ""
        await until(lambda: not queue.held)
        assert (worked, service.faults(), service.notes()) == ([1], [], [])


async def test_a_gate_that_is_shut_while_every_hand_is_busy_is_heeded() -> None:
    """It was open when the poller began to wait for a hand: nothing more is received, and the hand is free for when it opens."""
    queue, begun, go, shut = MemoryQueue(), asyncio.Event(), asyncio.Event(), ""
    await queue.put("1")
    await queue.put("2")

    async def work(_: Message) -> Verdict:
        begun.set()
        await go.wait()
        return DELETE

    async def gate() -> str | None:
        return shut or None

    service = make(queue, work, concurrency=1, gate=gate)
    async with running(service):
        await begun.wait()
        shut = "there is a stop"
        go.set()
        await until(lambda: bool(service.notes()))
        assert (queue.asked_for, service._free) == ([1], 1)


async def test_a_gate_that_is_shut_holds_up_no_stop() -> None:
    """Whoever ends the process does not wait for the gate."""

    async def work(_: Message) -> Verdict:
        return DELETE

    async def gate() -> str | None:
        return "there is a stop"

    queue = MemoryQueue()
    service = make(queue, work, concurrency=20, gate=gate)
    async with running(service):
        await until(lambda: bool(service.notes()))
    assert queue.asked_for == []


async def test_after_a_long_stop_the_time_of_it_is_not_held_against_anybody() -> None:
    """An hour in which nothing was received on purpose is no silence, nor a time in which everything was left."""
    now, shut = datetime(2026, 1, 1, tzinfo=UTC), "there is a stop"
    stop = asyncio.Event()

    async def gate() -> str | None:
        return shut or None

    async def work(_: Message) -> Verdict:
        return DELETE

    service = Service(
        MemoryQueue(), work, concurrency=1, grace_seconds=5.0, metrics=metrics(), clock=lambda: now, chance=random.Random(7), gate=gate
    )
    service._last_receive = service._left_since = now
    waiting = asyncio.create_task(service._opened(stop))
    await until(lambda: bool(service.notes()))
    now, shut = now.replace(hour=2), ""
    await waiting
    assert service.faults() == []
