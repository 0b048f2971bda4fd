"""One finding, from its claim to its dispatched tasks: told once, whoever finds it and how often.

In go findings; each is claimed in the store, enriched, planned, put on every sink and its tasks on the task queue, and settled. One whose
rule wants something known that is not is settled untold, and counted. A finding
that could not be told whole is given back, and what a sink took of it is remembered, so that the next try puts only the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from weakref import WeakValueDictionary

import orjson
import structlog

from worker.dispatch import wire
from worker.dispatch.plan import Plan, plan
from worker.model import EnrichedFinding, Finding, Outgoing, Task, stable_id
from worker.observe.metrics import Metrics
from worker.state.store import Claim, Store, StoreError

LAST_DELIVERY_SECONDS = 10.0
"""How long a stop waits for a delivery that has begun, so that what a sink took is also settled."""
FINDINGS_AT_ONCE = 8


class Sink(Protocol):
    """Where findings or tasks go; see `dispatch/sinks.py`."""

    kind: str
    key: str

    async def put(self, items: Sequence[Outgoing]) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class Teller:
    """Tells findings. `lease` is how long one may take before another worker may try."""

    investigate: Callable[[Finding], Awaitable[EnrichedFinding]]
    store: Store
    finding_sinks: tuple[Sink, ...]
    task_sink: Sink | None
    metrics: Metrics
    clock: Callable[[], datetime]
    owner: str
    lease: timedelta
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary, init=False, repr=False)

    async def tell(self, findings: Sequence[Finding], faults: list[str]) -> bool:
        """Dispatch every finding; what keeps one from it is added to the faults. Answers whether one is in another worker's hands."""
        if not findings:
            return False
        at_once = asyncio.Semaphore(FINDINGS_AT_ONCE)
        busy = False

        async def one(finding: Finding) -> None:
            nonlocal busy
            # Copies of one event come by in several objects at once: within this process they wait for each other here.
            lock = self._locks.setdefault(finding.id, asyncio.Lock())
            async with at_once, lock:
                with structlog.contextvars.bound_contextvars(finding_id=finding.id):
                    try:
                        busy = await self._tell_once(finding, faults) or busy
                    except StoreError as error:
                        faults.append("store")
                        self.metrics.fault("tell", "store", detail=str(error))
                    except Exception as error:  # noqa: BLE001  # whatever it is, it is this finding's alone
                        faults.append("unexpected")
                        self.metrics.fault("tell", "unexpected", detail=f"{type(error).__name__}: {error}", exc_info=error)

        async with asyncio.TaskGroup() as group:
            for finding in findings:
                group.create_task(one(finding))
        return busy

    async def _tell_once(self, finding: Finding, faults: list[str]) -> bool:
        claim = await self.store.claim(finding.id, self.owner, self.clock(), self.lease)
        if claim is Claim.SETTLED:
            self.metrics.duplicate(finding.id)
            return False
        if claim is Claim.BUSY:
            return True
        told = False
        try:
            found = await self.investigate(finding)
            if (lacking := found.lacking) is not None:
                await self.store.settle([finding.id], self.owner, self.clock())
                told = True
                self.metrics.untold(finding.rule.id, lacking, finding.id)
                return False
            planned = plan(found)
            # Whoever took longer than the lease may have lost the claim; nobody is told twice.
            if await self.store.claim(finding.id, self.owner, self.clock(), self.lease) is not Claim.WON:
                return True
            delivering = asyncio.ensure_future(self._deliver(found, planned))
            try:
                told = await asyncio.shield(delivering)
            except asyncio.CancelledError:
                # Stopped between a sink's word and ours: what was taken is settled before we go.
                told = await asyncio.wait_for(delivering, LAST_DELIVERY_SECONDS)
                raise
        finally:
            if not told:
                await asyncio.shield(self.store.release(finding.id, self.owner))
        if not told:
            faults.append("delivery")
            return False
        self.metrics.finding(found, self.clock())
        for withheld in planned.withheld:
            self.metrics.withheld(withheld, finding.id)
        return False

    async def _deliver(self, found: EnrichedFinding, planned: Plan) -> bool:
        """Put the finding on every sink and its tasks on the task queue, but for what they took before, and settle it.

        Answers whether everybody has everything.
        """
        group = stable_id(found.finding.record.account or "")
        body = orjson.dumps(wire.finding_as_dict(found, planned), default=str)
        whole = [(sink, found.finding.id, Outgoing(found.finding.id, group, body)) for sink in self.finding_sinks]
        tasks: dict[str, Task] = {}
        if self.task_sink is not None:
            for task in planned.tasks:
                group = stable_id(task.target.account, task.target.type, task.target.name)
                body = orjson.dumps(wire.task_as_dict(task, self.clock()), default=str)
                whole.append((self.task_sink, task.id, Outgoing(task.id, group, body)))
                tasks[task.id] = task
        before = await self.store.settled([_delivery(sink, item) for sink, item, _ in whole])
        complete = True
        for sink, item, outgoing in whole:
            key = _delivery(sink, item)
            if key in before:
                continue
            failed = await sink.put([outgoing])
            if failed:
                complete = False
                self.metrics.delivered(sink.kind, "failed", item=item, error=failed[outgoing.id])
                continue
            await self.store.settle([key], self.owner, self.clock())
            self.metrics.delivered(sink.kind, "ok")
            if item in tasks and sink is self.task_sink:
                self.metrics.task(tasks[item])
        if complete:
            await self.store.settle([found.finding.id], self.owner, self.clock())
        return complete


def _delivery(sink: Sink, item: str) -> str:
    return f"{sink.key}|{item}"
