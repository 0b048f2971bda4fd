"""The loop closed: which records tell of our own calls, and whether CloudTrail has told of each.

In go records that say they are ours (`model/own_call.py`); out come those that are, because the executor wrote their calls down. Each call that it
expects to see is confirmed by the first record of it, or counted as unconfirmed when its time is over: by whichever process, and once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
        claimed = {one: told for one in sorted(by_id.keys() - ours) if (told := Intention.claimed_by(by_id[one])) is not None}
        if claimed:
            ours |= await self._intended(claimed)
        if lost := [call_key(one) for one in claimed if one not in ours]:
            # Its answer may have been written down since the first look, and the token spent with it.
            known = await self.store.settled(lost)
            ours |= {one for one in claimed if call_key(one) in known}
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

    async def _intended(self, claimed: Mapping[str, Intention]) -> frozenset[str]:
        """Those of unknown request ids whose records are of calls that were intended and never answered; of several of one call the first."""
        known = await self.store.settled([key for one in claimed.values() for key in (one.key, one.spent)])
        open_yet = {request_id: one for request_id, one in claimed.items() if one.key in known and one.spent not in known}
        return frozenset([request_id for request_id, one in open_yet.items() if await self._won(one, request_id)])

    async def _won(self, intention: Intention, request_id: str) -> bool:
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
