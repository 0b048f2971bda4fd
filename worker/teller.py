"""One finding, from its claim to its dispatched tasks: told once, whoever finds it and how often, and once more when its facts are complete.

In go findings; each is claimed in the store, enriched, planned, handed over to the sinks of its level and its tasks to theirs, and settled. One whose
rule wants something known that is not is settled untold, and counted; where that could only not be asked in passing it is waited for, and
told if that goes on. What a sink does not take the outbox does (`dispatch/outbox.py`). A finding that could not be handed over whole is given
back, and what was handed over of it is remembered, so that the next try does only the rest.

A finding whose facts could not all be had in time is told as it is, and marked as awaiting them; whoever sees it again (its message is left to come
back) investigates again, and tells an update of the same id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

import orjson
import structlog

from worker.dispatch import wire
from worker.dispatch.outbox import Outbox, Sink
from worker.dispatch.plan import Plan, plan
from worker.model import EnrichedFinding, Finding, Level, Outgoing, Task, stable_id
from worker.observe.metrics import Metrics
from worker.state.store import Claim, Store, StoreError

LAST_DELIVERY_SECONDS = 10.0
"""How long a stop waits for a delivery that has begun, so that what a sink took is also settled."""
FINDINGS_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Told:
    """How telling went. `busy`: one is in another worker's hands. `awaited`: one was told without facts that may be had later."""

    busy: bool = False
    awaited: bool = False

    def __or__(self, other: Told) -> Told:
        return Told(self.busy or other.busy, self.awaited or other.awaited)


@dataclass(frozen=True)
class Teller:
    """Tells findings. `lease` is how long one may take before another worker may try."""

    investigate: Callable[[Finding], Awaitable[EnrichedFinding]]
    store: Store
    outbox: Outbox
    finding_sinks: Callable[[Level], Sequence[Sink]]
    task_sinks: Sequence[Sink]
    metrics: Metrics
    clock: Callable[[], datetime]
    owner: str
    lease: timedelta
    task_keys: Sequence[bytes] = field(default=(), repr=False)
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary, init=False, repr=False)

    async def tell(self, findings: Sequence[Finding], faults: list[str], *, last: bool = False) -> Told:
        """Dispatch every finding; what keeps one from it is added to the faults. `last`: facts that are pending now are waited for no longer."""
        if not findings:
            return Told()
        at_once = asyncio.Semaphore(FINDINGS_AT_ONCE)
        told = Told()

        async def one(finding: Finding) -> None:
            nonlocal told
            # Copies of one event come by in several objects at once: within this process they wait for each other here.
            lock = self._locks.setdefault(finding.id, asyncio.Lock())
            async with at_once, lock:
                with structlog.contextvars.bound_contextvars(finding_id=finding.id):
                    try:
                        mine = await self._tell_once(finding, faults, last=last)
                        told = told | mine
                    except StoreError as error:
                        faults.append("store")
                        self.metrics.fault("tell", "store", detail=str(error))
                    except Exception as error:  # noqa: BLE001  # whatever it is, it is this finding's alone
                        faults.append("unexpected")
                        self.metrics.fault("tell", "unexpected", detail=f"{type(error).__name__}: {error}", exc_info=error)

        async with asyncio.TaskGroup() as group:
            for finding in findings:
                group.create_task(one(finding))
        return told

    async def _tell_once(self, finding: Finding, faults: list[str], *, last: bool) -> Told:
        first = await self._told(finding, 0, faults, last=last)
        if first is not None:
            return first
        if await self.store.settled([_awaiting(finding)]):
            update = await self._told(finding, 1, faults, last=last)
            if update is not None:
                return update
        self.metrics.duplicate(finding.id)
        return Told()

    async def _told(self, finding: Finding, update: int, faults: list[str], *, last: bool) -> Told | None:
        """Claim, investigate and deliver; None where that was done before."""
        key = _claimed(finding, update)
        claim = await self.store.claim(key, self.owner, self.clock(), self.lease)
        if claim is not Claim.WON:
            return Told(busy=True) if claim is Claim.BUSY else None
        done = False
        try:
            found = replace(await self.investigate(finding), update=update)
            if not last and (found.in_doubt if update == 0 else found.pending):
                return Told(awaited=True)
            # What is in doubt to the last is told: better a word too many than a word that nobody ever hears.
            if update == 0 and (lacking := found.lacking) is not None and not found.in_doubt:
                await self.store.settle([key], self.owner, self.clock())
                done = True
                self.metrics.untold(finding.rule.id, lacking, finding.id)
                return Told()
            planned = plan(found)
            # Whoever took longer than the lease may have lost the claim; nobody is told twice.
            if await self.store.claim(key, self.owner, self.clock(), self.lease) is not Claim.WON:
                return Told(busy=True)
            awaited = bool(found.pending) and not last
            delivering = asyncio.ensure_future(self._deliver(found, planned, [*([_awaiting(finding)] if awaited else []), key]))
            try:
                done = await asyncio.shield(delivering)
            except asyncio.CancelledError:
                # Stopped between a sink's word and ours: what was taken is settled before we go.
                done = await asyncio.wait_for(delivering, LAST_DELIVERY_SECONDS)
                raise
        finally:
            if not done:
                await asyncio.shield(self.store.release(key, self.owner))
        if not done:
            faults.append("delivery")
            return Told()
        self.metrics.finding(found, self.clock())
        for withheld in planned.withheld if update == 0 else ():
            self.metrics.withheld(withheld, finding.id)
        return Told(awaited=awaited)

    async def _deliver(self, found: EnrichedFinding, planned: Plan, keys: Sequence[str]) -> bool:
        """Hand the finding over to the sinks of its level and its tasks to theirs, but for what was before, and settle its keys.

        Answers whether everybody has everything.
        """
        group = stable_id(found.finding.record.account or "")
        body = orjson.dumps(wire.finding_as_dict(found, planned), default=str)
        item = _claimed(found.finding, found.update)
        # A queue that drops second copies of an id must take the update.
        outgoing_id = found.finding.id if found.update == 0 else stable_id(item)
        whole = [(sink, item, Outgoing(outgoing_id, group, body)) for sink in self.finding_sinks(found.level)]
        tasks: dict[str, Task] = {}
        for task in planned.tasks if self.task_sinks else ():
            group = stable_id(task.target.account, task.target.type, task.target.name)
            body = wire.task_body(task, self.clock(), self.task_keys)
            whole += [(sink, task.id, Outgoing(task.id, group, body, "task")) for sink in self.task_sinks]
            tasks[task.id] = task
        before = await self.store.settled([_delivery(sink, item) for sink, item, _ in whole])
        left = [one for one in whole if _delivery(one[0], one[1]) not in before]
        # All at once: one after another, sinks that hang would outlast the lease.
        handed = await asyncio.gather(*(self.outbox.hand_over(*one) for one in left), return_exceptions=True)
        for (sink, item, _), done in zip(left, handed, strict=True):
            if done is True and item in tasks and sink is self.task_sinks[0]:
                self.metrics.task(tasks[item])
        for done in handed:
            if isinstance(done, BaseException):
                raise done
        complete = all(handed)
        if complete:
            await self.store.settle(keys, self.owner, self.clock())
        return complete


def _claimed(finding: Finding, update: int) -> str:
    return finding.id if update == 0 else f"update {update}|{finding.id}"


def _awaiting(finding: Finding) -> str:
    return f"awaiting|{finding.id}"


def _delivery(sink: Sink, item: str) -> str:
    return f"{sink.key}|{item}"
