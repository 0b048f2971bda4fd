"""What signals mean to a long-running process of ours.

A first SIGTERM or SIGINT asks it to drain; a second ends it at once. SIGHUP has the rules read again.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable


def listen(stop: asyncio.Event, hangup: asyncio.Event | None, at_once: Callable[[], None]) -> None:
    """Set `stop` and `hangup` as signals ask; `at_once` is what is left to do before an end at once. To be called in the running loop."""

    def told(number: int) -> None:
        if stop.is_set():
            at_once()
            os._exit(128 + number)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told, number)
    if hangup is not None:
        loop.add_signal_handler(signal.SIGHUP, hangup.set)
