"""What stands between the teller and the sinks: a sink that is down neither blocks nor loses.

In goes one finding or task for one sink. It is put there at once, within a bound of time. What the sink does not take goes into the
outbox in the state store, counts as handed over, and is put there again and again, later and later, until the sink takes it or a week has gone by: that
is told loudly. After a few failures in a row a sink is shut: what is for it goes into the outbox untried, and only now and then is one tried.

What a sink took is settled, and so is what the outbox took: neither is put there a second time when its message comes back. A process that dies
between a sink's word and ours does put it there again, with the same id. Order is not promised.
Of a fleet, whoever puts a delivery off has it to itself until it is due again, which is longer than a sink may take.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from worker.model import Delivery, Outgoing
from worker.observe.metrics import Metrics
from worker.state.store import Store, StoreError

PUT_SECONDS = 20.0
"""How long a sink may take for one item, its own tries included."""
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=5)
"""Between the tries of one delivery: doubled each time from the first to the longest. Longer than a sink may take."""
SHUT_AFTER = 3
"""Failures in a row. One alone may be the item's own fault."""
SHUT_FOR = timedelta(seconds=15)
KEPT_FOR = timedelta(days=7)
"""Nobody acts on older news, and by then the alert on the outbox has been up for a week."""
DRAIN_EVERY_SECONDS = 5.0
MEASURE_EVERY_SECONDS = 30.0
PAGE = 50


class Sink(Protocol):
    """Where findings or tasks go. `kind` labels the metric; `key` tells this sink from every other, across restarts, and holds no secret."""

    kind: str
    key: str

    async def put(self, items: Sequence[Outgoing]) -> Mapping[str, str]:
        """Take the items; answers the ids of those that were not taken, each with why. Does not raise for what the outside does."""


class Outbox:
    """Hands over to sinks. One a process; `sinks` are all that it is to drain for."""

    def __init__(self, sinks: Sequence[Sink], store: Store, metrics: Metrics, clock: Callable[[], datetime], owner: str) -> None:
        self._sinks = {sink.key: sink for sink in sinks}
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._owner = owner
        self._failures: Counter[str] = Counter()
        self._shut_until: dict[str, datetime] = {}
        self._kinds = {sink.kind for sink in sinks}

    async def hand_over(self, sink: Sink, item: str, outgoing: Outgoing) -> bool:
        """Put one item on a sink, or else into the outbox; answers whether either has it. Raises `StoreError` where what was taken cannot be settled."""
        now = self._clock()
        delivery = Delivery(sink.key, sink.kind, item, outgoing, now, now)
        refusal = "it failed before, and is not tried just now" if self._is_shut(sink, now) else await self._put(sink, outgoing)
        if refusal is None:
            await self._store.settle([delivery.key], self._owner, self._clock())
            self._metrics.delivered(sink.kind, "ok")
            return True
        try:
            await self._store.post(delivery, self._owner, self._clock())
        except StoreError as error:
            self._metrics.delivered(sink.kind, "failed", item=item, error=refusal, outbox=str(error))
            return False
        self._metrics.delivered(sink.kind, "posted", item=item, error=refusal)
        return True

    async def watch(self) -> None:
        """Drain and measure until cancelled: each sink by itself, so that none waits for another."""
        async with asyncio.TaskGroup() as group:
            for sink in self._sinks.values():
                group.create_task(self._watch(sink))
            while True:
                await self.measure()
                await asyncio.sleep(MEASURE_EVERY_SECONDS)

    async def _watch(self, sink: Sink) -> None:
        while True:
            await asyncio.sleep(DRAIN_EVERY_SECONDS)
            await self.drain(sink)

    async def drain(self, sink: Sink) -> None:
        """Put on a sink what waits for it and is due, until it refuses one."""
        try:
            while due := await self._store.posted(sink.key, self._clock(), PAGE):
                for delivery in due:
                    if self._is_shut(sink, self._clock()) or not await self._try_again(sink, delivery):
                        return
        except StoreError as error:
            self._metrics.fault("outbox", "store", detail=str(error))
        except Exception as error:  # noqa: BLE001  # a defect of ours must not take the messages in hand down with it
            self._metrics.fault("outbox", "unexpected", detail=f"{type(error).__name__}: {error}", exc_info=error)

    async def _try_again(self, sink: Sink, delivery: Delivery) -> bool:
        now = self._clock()
        held = await self._store.postpone(delivery, now + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(delivery.attempts, 10)))
        if held is None:
            return True  # another worker has it
        refusal = await self._put(sink, held.outgoing)
        if refusal is None:
            await self._store.unpost(held)
            self._metrics.retried(sink.kind, "ok", item=held.item)
            return True
        if now - held.posted_at > KEPT_FOR:
            await self._give_up(held, refusal)
        else:
            self._metrics.retried(sink.kind, "failed", item=held.item, attempts=held.attempts, error=refusal)
        return False

    async def _give_up(self, delivery: Delivery, refusal: str) -> None:
        await self._store.unpost(delivery)
        outgoing = delivery.outgoing
        self._metrics.retried(
            delivery.kind, "abandoned", item=delivery.item, id=outgoing.id, what=outgoing.what, attempts=delivery.attempts, error=refusal
        )

    async def measure(self) -> None:
        """Tell how much waits and since when, and give up what is old and for a sink that there is no longer."""
        now = self._clock()
        counts, ages = Counter[str](), Counter[str]()
        try:
            for backlog in await self._store.backlogs():
                counts[backlog.kind] += backlog.count
                ages[backlog.kind] = max(ages[backlog.kind], int((now - backlog.oldest).total_seconds()))
                if backlog.sink not in self._sinks and now - backlog.oldest > KEPT_FOR:
                    for delivery in await self._store.posted(backlog.sink, now, PAGE):
                        held = await self._store.postpone(delivery, now + LONGEST_PAUSE) if now - delivery.posted_at > KEPT_FOR else None
                        if held is not None:
                            await self._give_up(held, "no sink of this worker's settings takes it")
        except StoreError as error:
            self._metrics.fault("outbox", "store", detail=str(error))
            return
        self._kinds |= counts.keys()  # so that one whose last delivery another worker took is seen to be empty
        for kind in self._kinds:
            self._metrics.outbox(kind, counts[kind], ages[kind])

    # Sinks.

    async def _put(self, sink: Sink, outgoing: Outgoing) -> str | None:
        """None where the sink took it, else why not."""
        refusal: str | None
        try:
            async with asyncio.timeout(PUT_SECONDS):
                refusal = (await sink.put([outgoing])).get(outgoing.id)
        except TimeoutError:
            refusal = f"it did not answer within {PUT_SECONDS:g} s"
        if refusal is None:
            self._failures.pop(sink.key, None)
            self._shut_until.pop(sink.key, None)
        else:
            self._failures[sink.key] += 1
            self._shut_until[sink.key] = self._clock() + SHUT_FOR
        return refusal

    def _is_shut(self, sink: Sink, now: datetime) -> bool:
        if self._failures[sink.key] < SHUT_AFTER:
            return False
        if now < self._shut_until[sink.key]:
            return True
        self._shut_until[sink.key] = now + SHUT_FOR  # for everybody else, while whoever asks tries it
        return False
