"""Open AWS clients, bounded in number: the one used longest ago is closed when there are too many.

A client of EC2 takes more than a megabyte, and facts ask every region of every account. Whoever was given a client may be using it for a call, so
one that was handed out within `BUSY_SECONDS`, which is longer than any call takes, is not closed; then there are more than the bound for a while.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

BUSY_SECONDS = 120.0

Key = tuple[str, str | None, str | None]
"""Service, account and region."""


@dataclass(slots=True)
class _Open:
    client: Any
    context: AbstractAsyncContextManager[Any]
    used_at: float


class OpenClients:
    """Clients by service, account and region. With `most` None none is closed before the end."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._open: OrderedDict[Key, _Open] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    async def get(self, key: Key, make: Callable[[], Awaitable[AbstractAsyncContextManager[Any]]]) -> Any:
        """The client of a key, made where there is none. Two must not ask for the same key at once. Raises what making one raises."""
        now = asyncio.get_running_loop().time()
        one = self._open.pop(key, None)
        if one is None:
            context = await make()
            one = _Open(await context.__aenter__(), context, now)
        one.used_at = now
        self._open[key] = one
        await self._close_idle(now)
        return one.client

    async def _close_idle(self, now: float) -> None:
        while self._most is not None and len(self._open) > self._most:
            key, oldest = next(iter(self._open.items()))
            if now - oldest.used_at < BUSY_SECONDS:
                return
            del self._open[key]
            await oldest.context.__aexit__(None, None, None)

    async def close(self) -> None:
        """Close all, the last opened first."""
        while self._open:
            _, last = self._open.popitem()
            await last.context.__aexit__(None, None, None)
