"""Which tasks were ever begun, as the journal tells: those with a line `started`.

The journal is read once, and from then on only what was added to it, so that asking about each of thousands of tasks costs one reading.
"""

from __future__ import annotations

import asyncio

from worker.state.store import Store


class Begun:
    """What has begun. One a process; may be asked any number of times at once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ids: set[str] = set()
        self._read = 0
        self._reading = asyncio.Lock()

    async def has(self, task_id: str) -> bool:
        """Whether a task was begun; sees every line that was appended before it is asked. Raises `StoreError`."""
        async with self._reading:
            async for entry, _, _ in self._store.journal(self._read):
                self._read += 1
                if entry.outcome == "started":
                    self._ids.add(entry.task_id)
        return task_id in self._ids
