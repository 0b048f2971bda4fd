"""The loop closed: which records tell of our own calls, and whether CloudTrail has told of each.

In go records that say they are ours (`model/own_call.py`); out come those that are, because the executor wrote their calls down. Each call that it
expects to see is confirmed by the first record of it, or counted as unconfirmed when its time is over: by whichever process, and once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from worker.model import Expectation, Intention, Record, call_key
from worker.observe.metrics import Metrics
from worker.state.store import Claim, Store, StoreError

LOOK_EVERY_SECONDS = 60.0
MOST_OVERDUE = 1_000
LEASE = timedelta(days=1)
"""How long a record may take from being taken for an intended call to being settled so; nobody else's is taken for it meanwhile."""


@dataclass(frozen=True, slots=True)
class OwnRecords:
    """Knows our own records. `owner` names the process."""

    store: Store
    metrics: Metrics
    clock: Callable[[], datetime]
    owner: str
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def among(self, records: Sequence[Record]) -> frozenset[str]:
        """The request ids of those that are ours; their calls are confirmed. Raises `StoreError`, and then may be asked again."""
        by_id = {request_id: one for one in records if (request_id := one.text("requestID")) is not None}
        known = await self.store.settled([call_key(request_id) for request_id in by_id])
        ours = {request_id for request_id in by_id if call_key(request_id) in known}
        for request_id in sorted(by_id.keys() - ours):
            intention = Intention.claimed_by(by_id[request_id])
            if intention is not None and await self._is_intended(intention, request_id):
                ours.add(request_id)
        for call in await self.store.expected(sorted(ours)) if ours else ():
            await self._confirm(call)
        for record in records:
            request_id = record.text("requestID")
            self.metrics.own_record(known=request_id in ours, event_name=record.name, request_id=request_id, account=record.account)
        return frozenset(ours)

    async def watch(self) -> None:
        """Count what is overdue as unconfirmed, now and then, until cancelled."""
        while True:
            await self.sleep(LOOK_EVERY_SECONDS)
            try:
                await self.miss()
            except StoreError as error:
                self.metrics.fault("confirm", "store", detail=str(error))
            except Exception as error:  # noqa: BLE001  # a defect of ours must not take the messages in hand down with it
                self.metrics.fault("confirm", "unexpected", detail=f"{type(error).__name__}: {error}", exc_info=error)

    async def miss(self) -> None:
        """Count what is overdue as unconfirmed. Raises `StoreError`."""
        for call in await self.store.overdue(self.clock(), MOST_OVERDUE):
            if await self.store.miss(call):
                self._tell(call, "unconfirmed")

    async def _is_intended(self, intention: Intention, request_id: str) -> bool:
        """Whether a record of an unknown request id is of a call that was intended and never answered; of several the first one is."""
        if await self.store.settled([intention.key, intention.spent]) != {intention.key}:
            return False
        # Claimed in the name of the request id, so that the same record may come again, and no other.
        if await self.store.claim(intention.spent, request_id, self.clock(), LEASE) is not Claim.WON:
            return False
        await self.store.settle([call_key(request_id), intention.spent], request_id, self.clock())
        self.metrics.remediation_confirmed(
            intention.action, "confirmed", task_id=intention.task_id, request_id=request_id, hint="its answer never reached us"
        )
        return True

    async def _confirm(self, call: Expectation) -> None:
        if await self.store.confirm(call):
            self._tell(call, "late" if call.missed else "confirmed")
            return
        # It was confirmed by another, or missed since it was read.
        for again in await self.store.expected([call.request_id]):
            if await self.store.confirm(again):
                self._tell(again, "late" if again.missed else "confirmed")

    def _tell(self, call: Expectation, outcome: str) -> None:
        self.metrics.remediation_confirmed(
            call.action, outcome, task_id=call.task_id, request_id=call.request_id, api=call.api, account=call.account
        )
