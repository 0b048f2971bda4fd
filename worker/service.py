"""The life of a worker: receive, hold, work, delete, and on a stop drain. The work itself is handed in.

A poller asks for work only with hands free, and for no more than there are. From its receive until its delete a message is in hand and its visibility
is extended at half the timeout. A verdict of delete is carried out in batches; any other leaves the message where it is.
On `stop`: nothing more is received, what is in hand is finished within the grace, and the rest is given back to the queue.
Every task here is owned by the task group in `run`.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Protocol

import structlog

from worker.model import Message, Verdict
from worker.observe.metrics import Metrics

BATCH = 10
LINGER_SECONDS = 0.02
"""How long a finished message waits for others to share its delete with."""
LAST_RECEIVE_SECONDS = 1.0
"""How long a stop waits for a receive that is under way, so that messages already on their way are given back, not left invisible."""
LAST_DELETE_SECONDS = 5.0
GATE_SECONDS = 2.0
"""How often a gate that is shut is asked again."""
SILENCE_SECONDS = 60.0
"""A receive that has not come back for this long (three long polls) is not succeeding."""
LONGEST_BACKOFF_SECONDS = 30.0


class MessageQueue(Protocol):
    """What the service needs of a queue; `ingest/queue.py` is the real one. A failed receive raises; nothing else does."""

    name: str
    visibility_seconds: int

    async def receive(self, most: int) -> list[Message]: ...
    async def delete(self, messages: Sequence[Message]) -> frozenset[str]: ...
    async def extend(self, messages: Sequence[Message], seconds: int) -> None: ...
    async def depths(self) -> Mapping[str, Mapping[str, int]]: ...


class Service:
    """Consumes one queue with `concurrency` hands until told to stop.

    A `gate` answers why nothing is to be received just now, or None, and does not raise: what is not received uses up none of its receives.
    """

    def __init__(
        self,
        queue: MessageQueue,
        work: Callable[[Message], Awaitable[Verdict]],
        *,
        concurrency: int,
        grace_seconds: float,
        metrics: Metrics,
        clock: Callable[[], datetime],
        chance: random.Random,
        gate: Callable[[], Awaitable[str | None]] | None = None,
    ) -> None:
        self._queue = queue
        self._work = work
        self._concurrency = concurrency
        self._grace_seconds = grace_seconds
        self._metrics = metrics
        self._clock = clock
        self._chance = chance
        self._free = concurrency
        self._freed = asyncio.Event()
        # By receipt, not by id: a message whose visibility ran out may be in two hands at once.
        self._in_hand: dict[str, tuple[Message, float]] = {}
        self._hands: set[asyncio.Task[None]] = set()
        self._done: asyncio.Queue[Message] = asyncio.Queue()
        self._unworked: list[Message] = []  # what came with the stop
        self._last_receive: datetime | None = None
        self._last_progress: datetime | None = None
        self._left_since: datetime | None = None
        self._stopping = False
        self._gate = gate
        self._shut: str | None = None
        metrics.queues.in_hand(queue.name, lambda: len(self._in_hand))

    async def run(self, stop: asyncio.Event, *, depth_interval_seconds: float = 15.0) -> None:
        """Work until `stop` is set, then drain. Returns when nothing is in hand."""
        async with asyncio.TaskGroup() as group:
            keepers = [
                group.create_task(self._hold(), name="hold"),
                group.create_task(self._delete(), name="delete"),
                group.create_task(self._watch_depths(depth_interval_seconds), name="depths"),
            ]
            pollers = [
                group.create_task(self._poll(group, stop), name=f"poll-{number}") for number in range(math.ceil(self._concurrency / BATCH))
            ]
            await stop.wait()
            self._stopping = True
            self._metrics.life("stopping", queue=self._queue.name, in_hand=len(self._in_hand))
            self._freed.set()
            _, receiving = await asyncio.wait(pollers, timeout=LAST_RECEIVE_SECONDS)
            for poller in receiving:
                poller.cancel()
            if receiving:
                await asyncio.wait(receiving)
            await self._give_back(self._unworked)
            await self._drain()
            for keeper in keepers:
                keeper.cancel()
        self._metrics.life("stopped", queue=self._queue.name)

    def faults(self) -> list[str]:
        """Why the service is not ready; empty when receives succeed and work moves forward."""
        now = self._clock()
        if self._stopping:
            return ["stopping"]
        if self._shut is not None:
            return []  # on purpose, and told by `notes`
        if self._last_receive is None:
            return [f"nothing has been received from the {self._queue.name} queue yet"]
        faults = []
        silent = (now - self._last_receive).total_seconds()
        if silent > SILENCE_SECONDS and len(self._hands) < self._concurrency:
            faults.append(f"no receive from the {self._queue.name} queue has succeeded for {silent:.0f} s")
        stuck = (now - (self._last_progress or self._last_receive)).total_seconds()
        if self._free <= 0 and stuck > max(self._queue.visibility_seconds, SILENCE_SECONDS):
            faults.append(f"every hand is busy and no message has been finished for {stuck:.0f} s")
        if self._left_since is not None and (now - self._left_since).total_seconds() > SILENCE_SECONDS:
            faults.append(f"for {(now - self._left_since).total_seconds():.0f} s every message has been left, and none finished")
        return faults

    def notes(self) -> list[str]:
        """What whoever asks for readiness should know beside."""
        return [] if self._shut is None else [f"nothing is received from the {self._queue.name} queue: {self._shut}"]

    # Receiving.

    async def _poll(self, group: asyncio.TaskGroup, stop: asyncio.Event) -> None:
        failures = 0
        while True:
            await self._opened(stop)
            taken = await self._take_hands(stop)
            if not taken:
                return
            # It may have been shut in the long time that the hands were busy.
            if self._gate is not None and await self._gate() is not None:
                self._give_hands(taken)
                continue
            try:
                messages = await self._receive(taken)
                failures = 0
            except Exception as error:  # noqa: BLE001  # whatever the edge raised, polling goes on
                self._metrics.queues.receive_failed(self._queue.name, str(error))
                messages = []
                failures += 1
            self._give_hands(taken - len(messages))
            if stop.is_set():
                self._unworked += messages
                return
            for message in messages:
                hand = group.create_task(self._hand(message), name=f"hand-{message.id}")
                self._hands.add(hand)
                hand.add_done_callback(self._hands.discard)
            if failures:
                pause = min(LONGEST_BACKOFF_SECONDS, 0.5 * 2**failures) * self._chance.uniform(0.5, 1)
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), pause)

    async def _opened(self, stop: asyncio.Event) -> None:
        """Wait until the gate is open, or it is time to stop."""
        while self._gate is not None and not stop.is_set():
            self._shut, before = await self._gate(), self._shut
            if self._shut is None:
                if before is not None:
                    # What did not go on meanwhile was not meant to.
                    self._last_receive, self._last_progress, self._left_since = self._clock(), None, None
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), GATE_SECONDS)

    async def _take_hands(self, stop: asyncio.Event) -> int:
        """As many free hands as a batch can use, at least one; 0 when it is time to stop."""
        while self._free <= 0 and not stop.is_set():  # less than none where a queue gave more than it was asked for
            self._freed.clear()
            await self._freed.wait()
        if stop.is_set():
            return 0
        taken = min(self._free, BATCH)
        self._free -= taken
        return taken

    def _give_hands(self, count: int) -> None:
        self._free += count
        self._freed.set()

    async def _receive(self, most: int) -> list[Message]:
        messages = await self._queue.receive(most)
        now = self._clock()
        self._last_receive = now
        self._metrics.queues.received(self._queue.name, len(messages), now)
        if not messages:
            self._last_progress, self._left_since = now, None
        loop = asyncio.get_running_loop()
        for message in messages:
            self._in_hand[message.receipt] = (message, loop.time())
            if message.sent_at is not None and message.receives == 1:
                self._metrics.queues.waited(self._queue.name, (now - message.sent_at).total_seconds())
        return messages

    # Working.

    async def _hand(self, message: Message) -> None:
        verdict: Verdict | None = None
        structlog.contextvars.bind_contextvars(message_id=message.id)
        try:
            verdict = await self._work(message)
        except Exception as error:  # noqa: BLE001  # a defect of ours must not take the other hands down with it
            self._metrics.fault("worker", "unexpected", error=f"{type(error).__name__}: {error}", exc_info=error)
            verdict = Verdict(delete=False, reason="unexpected")
        finally:
            if verdict is not None and verdict.delete:
                self._done.put_nowait(message)
            elif verdict is not None:
                self._metrics.queues.left(verdict.reason or "unexpected", receives=message.receives)
                if verdict.retry_after_seconds is not None:
                    await self._queue.extend([message], math.ceil(verdict.retry_after_seconds))
                self._finish([message], progress=verdict.progress)
            self._give_hands(1)

    def _finish(self, messages: Sequence[Message], *, progress: bool) -> None:
        """Messages are no longer in hand; only what is done for good is progress."""
        finished = [self._in_hand.pop(message.receipt, None) for message in messages]
        if not any(finished):
            return
        now = self._clock()
        if progress:
            self._last_progress, self._left_since = now, None
            self._metrics.queues.progressed(self._queue.name, now)
        elif self._left_since is None:
            self._left_since = now

    # Holding and deleting.

    async def _hold(self) -> None:
        """Extend what is in hand at half its timeout."""
        half = self._queue.visibility_seconds / 2
        tick = half / 4
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(tick)
            due = [message for message, since in self._in_hand.values() if loop.time() - since >= half - tick]
            if due:
                await self._queue.extend(due, self._queue.visibility_seconds)
                for message in due:
                    if message.receipt in self._in_hand:
                        self._in_hand[message.receipt] = (message, loop.time())

    async def _delete(self) -> None:
        while True:
            batch = [await self._done.get()]
            await self._fill(batch)
            await self._queue.delete(batch)
            self._finish(batch, progress=True)
            for _ in batch:
                self._done.task_done()

    async def _fill(self, batch: list[Message]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while len(batch) < BATCH:
                    batch.append(await self._done.get())

    async def _watch_depths(self, interval_seconds: float) -> None:
        while True:
            for name, states in (await self._queue.depths()).items():
                self._metrics.queues.depth(name, states)
            await asyncio.sleep(interval_seconds)

    # Stopping.

    async def _drain(self) -> None:
        if self._hands:
            _, late = await asyncio.wait(self._hands, timeout=self._grace_seconds)
            for hand in late:
                hand.cancel()
            if late:
                await asyncio.wait(late)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_DELETE_SECONDS):
                await self._done.join()
        await self._give_back([message for message, _ in self._in_hand.values()])

    async def _give_back(self, messages: Sequence[Message]) -> None:
        if messages:
            await self._queue.extend(messages, 0)
            self._metrics.queues.returned(self._queue.name, len(messages))
            self._finish(messages, progress=False)
