"""What goes on beside the task queue: tasks that wait for people are looked at every few seconds, and carried out or ended once that is decided.

Any number of executors may look at once: the claim of a task makes one of them the one. What fails is tried again, later and later. A stop waits
for what has begun, and what it cuts short is taken up like a task that died.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from worker.model import Approval
from worker.observe.metrics import Metrics
from worker.remediate.approvals import Standing, standing
from worker.remediate.executor import Executor
from worker.state.store import Store, StoreError

LOOK_EVERY_SECONDS = 5.0
FIRST_PAUSE, LONGEST_PAUSE = timedelta(minutes=1), timedelta(minutes=15)
"""Between the tries of one that was not brought to an end: doubled each time from the first to the longest."""
AT_ONCE = 8
"""However many are decided: each may be half a dozen calls of AWS, and IAM throttles by account."""
LAST_WORK_SECONDS = 4.0
"""How long a stop waits. The queue has had its grace (25 s) by then, and a container is killed after 30 s."""


class Waiting:
    """Sees to what waits. One a process."""

    def __init__(self, executor: Executor, store: Store, metrics: Metrics, clock: Callable[[], datetime]) -> None:
        self._executor = executor
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._hands = asyncio.Semaphore(AT_ONCE)
        self._stopping = False
        self._in_hand: dict[str, asyncio.Task[None]] = {}
        self._tries: dict[str, int] = {}
        self._not_before: dict[str, datetime] = {}

    async def watch(self) -> None:
        """Look until cancelled."""
        async with asyncio.TaskGroup() as group:
            try:
                while True:
                    await asyncio.sleep(LOOK_EVERY_SECONDS)
                    for approval in await self._found():
                        self._in_hand[approval.id] = group.create_task(self._in_turn(approval))
            except asyncio.CancelledError:
                self._stopping = True
                if self._in_hand:
                    await asyncio.wait(self._in_hand.values(), timeout=LAST_WORK_SECONDS)
                raise

    async def look(self) -> None:
        """Look once, and see to what is decided, one after another."""
        for approval in await self._decided():
            await self._see_to(approval)

    async def _found(self) -> Sequence[Approval]:
        try:
            return await self._decided()
        except Exception as error:  # noqa: BLE001  # a row that cannot be read must not take the messages in hand down with it
            self._metrics.fault("approvals", "unexpected", detail=f"{type(error).__name__}: {error}", exc_info=error)
            return ()

    async def _in_turn(self, approval: Approval) -> None:
        try:
            async with self._hands:
                if not self._stopping:
                    await self._see_to(approval)
        finally:
            self._in_hand.pop(approval.id, None)

    async def _decided(self) -> Sequence[Approval]:
        """What is not in hand, and whose time has come."""
        now = self._clock()
        try:
            waiting = await self._store.approvals()
        except StoreError as error:
            self._metrics.fault("approvals", "store", detail=str(error))
            return ()
        open_ones = [one for one in waiting if standing(one, now) is Standing.WAITING]
        expiring = sum((one.expires_at - now) * 4 < one.expires_at - one.asked_at for one in open_ones)
        self._metrics.approvals.waiting(len(open_ones), expiring)
        ids = {one.id for one in waiting}
        self._tries = {task_id: count for task_id, count in self._tries.items() if task_id in ids}
        self._not_before = {task_id: moment for task_id, moment in self._not_before.items() if task_id in ids}
        decided = (one for one in waiting if standing(one, now) is not Standing.WAITING)
        return [one for one in decided if one.id not in self._in_hand and self._not_before.get(one.id, now) <= now]

    async def _see_to(self, approval: Approval) -> None:
        try:
            stands = standing(approval, self._clock())
            carrying = self._executor.carry_out(approval) if stands is Standing.APPROVED else self._executor.close(approval, stands.value)
            verdict = await carrying
            if verdict.reason not in ("busy", "stopped") and await self._stands(approval):
                self._put_off(approval)
        except Exception as error:  # noqa: BLE001  # a defect of ours must not take the messages in hand down with it
            self._metrics.fault("approvals", "unexpected", detail=f"{type(error).__name__}: {error}", exc_info=error)
            self._put_off(approval)

    async def _stands(self, approval: Approval) -> bool:
        standing_now = await self._store.approval(approval.id)
        return standing_now is not None and standing_now.asked_at == approval.asked_at

    def _put_off(self, approval: Approval) -> None:
        tries = self._tries[approval.id] = self._tries.get(approval.id, 0) + 1
        self._not_before[approval.id] = self._clock() + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(tries - 1, 10))
