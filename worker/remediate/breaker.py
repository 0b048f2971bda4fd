"""The breaker: how many tasks of one action in one account the executor does by itself within any hour.

There are so many slots for each action in each account, and each is a claim in the state store with a lease of an hour that is never settled: all
processes share them, and whatever dies leaves them as they are. A task takes one right before its first call. Where none is free
the breaker has tripped, and people are asked instead.
"""

from __future__ import annotations

import zlib
from datetime import datetime, timedelta

from worker.remediate.tasks import TaskMessage
from worker.state.store import Claim, Store

HOUR = timedelta(hours=1)


class Breaker:
    """Admits `limit` tasks an hour."""

    def __init__(self, store: Store, limit: int) -> None:
        self._store = store
        self._limit = limit

    async def admits(self, task: TaskMessage, now: datetime) -> bool:
        """Whether a task has a slot, its own from before or a free one, which is its own then. Raises `StoreError`."""
        # Each begins to look at a place of its own, where it most likely finds what it had before a crash, and nobody else.
        first = zlib.crc32(task.id.encode())
        for number in range(self._limit):
            slot = f"breaker:{task.action.name}:{task.target.account}:{(first + number) % self._limit}"
            if await self._store.claim(slot, task.id, now, HOUR) is Claim.WON:
                return True
        return False

    @property
    def says(self) -> str:
        """Why people are asked, in words."""
        return f"{self._limit} tasks of this action were begun in this account within the hour (TRAILMEND_BREAKER_LIMIT)"
