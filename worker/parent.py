"""The parent of several workers, as a process.

It imports none of what a worker is made of: its children wait for it to begin, and its memory comes on top of theirs.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from worker.observe import logs
from worker.observe.output import Output
from worker.settings import Settings
from worker.signals import listen
from worker.supervisor import Supervisor


def several(settings: Settings, count: int) -> int:
    """Run so many workers; answers the exit status. Raises `ListenError`."""
    log = logs.configure(settings.log_level, Output(sys.stderr.fileno()))
    chance = random.Random()  # noqa: S311  # spreads restarts, guards nothing

    def command(number: int, socket: Path) -> list[str]:
        return [sys.executable, "-m", "worker", "run", "--process", str(number), "--socket", str(socket)]

    async def life() -> int:
        supervisor = Supervisor(settings, count, os.environ, chance, log, command)
        stop, hangup = asyncio.Event(), asyncio.Event()
        listen(stop, hangup, supervisor.end_at_once)
        return await supervisor.run(stop, hangup)

    return asyncio.run(life())
