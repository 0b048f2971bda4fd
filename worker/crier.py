"""Who is to agree gets to know: each task that waits is told once to every sink, and once more where it is asked again.

In go what waits in the store, beside the executor that put it there; each is handed over to the sinks through the outbox, so that one that is down neither
blocks nor loses. Told again after a crash rather than never; of several executors one tells.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import orjson

from worker.dispatch import wire
from worker.dispatch.outbox import PUT_SECONDS, Outbox, Sink
from worker.model import Approval, Delivery, Outgoing, stable_id
from worker.observe.metrics import Metrics
from worker.remediate.approvals import Standing, standing
from worker.state.store import Claim, Store, StoreError

LOOK_EVERY_SECONDS = 3.0
LEASE = timedelta(seconds=2 * PUT_SECONDS)
"""All sinks are told at once, and none may take longer than the outbox lets it."""


class Crier:
    """Tells what waits. One a process; `owner` names it."""

    def __init__(
        self, sinks: Sequence[Sink], outbox: Outbox, store: Store, metrics: Metrics, clock: Callable[[], datetime], owner: str
    ) -> None:
        self._sinks = sinks
        self._outbox = outbox
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._owner = owner
        self._told: set[str] = set()

    async def watch(self) -> None:
        """Tell until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            try:
                await self.tell()
            except StoreError as error:
                self._metrics.fault("approvals", "store", detail=str(error))
            except Exception as error:  # noqa: BLE001  # a defect of ours must not take the messages in hand down with it
                self._metrics.fault("approvals", "unexpected", detail=f"{type(error).__name__}: {error}", exc_info=error)

    async def tell(self) -> None:
        """Tell what waits and was not told. Raises `StoreError`."""
        waiting = [one for one in await self._store.approvals() if standing(one, self._clock()) is Standing.WAITING]
        self._told &= {_item(one) for one in waiting}
        for approval in waiting:
            if _item(approval) not in self._told:
                await self._tell(approval)

    async def _tell(self, approval: Approval) -> None:
        item = _item(approval)
        claim = await self._store.claim(item, self._owner, self._clock(), LEASE)
        if claim is Claim.SETTLED:
            self._told.add(item)
        if claim is not Claim.WON:
            return
        target = approval.task["target"]
        body = orjson.dumps(wire.approval_as_dict(approval))
        outgoing = Outgoing(stable_id(item), stable_id(target["account"], target["type"], target["name"]), body, "approval")
        keys = {sink.key: Delivery(sink.key, sink.kind, item, outgoing, approval.asked_at, approval.asked_at).key for sink in self._sinks}
        before = await self._store.settled(list(keys.values()))
        left = [sink for sink in self._sinks if keys[sink.key] not in before]
        if all(await asyncio.gather(*(self._outbox.hand_over(sink, item, outgoing) for sink in left))):
            await self._store.settle([item], self._owner, self._clock())
            self._told.add(item)
        else:
            await self._store.release(item, self._owner)


def _item(approval: Approval) -> str:
    return f"asked|{approval.id}|{approval.asked_at.isoformat()}"
