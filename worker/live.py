"""The long-running roles in their processes: the loop, standard streams and the end.

A role runs alone in its process, or as one of several under a parent (`parent.py`).
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from worker.app import World
from worker.observe import logs
from worker.observe.output import Output
from worker.settings import Settings
from worker.signals import listen

Role = Callable[[Settings, World, asyncio.Event], Awaitable[None]]
LOCK = "output.lock"


def alone(role: Role, settings: Settings, *, hangup: bool) -> int:
    """Run a role in this process. Raises what keeps it from beginning; does not return once it has lived."""
    world = _world(settings, Output(sys.stdout.fileno()), Output(sys.stderr.fileno()))
    return _loop(_life(lambda stop: role(settings, world, stop), world.hangup if hangup else None))


def child(role: Role, settings: Settings, number: int, socket: Path) -> int:
    """Run a role as one of several: it listens on a socket, shares the standard streams line by line, and drains when its parent is gone."""
    lock = socket.parent / LOCK
    world = _world(settings, Output(sys.stdout.fileno(), lock), Output(sys.stderr.fileno(), lock), number, socket)

    async def life(stop: asyncio.Event) -> None:
        loop, parent = asyncio.get_running_loop(), sys.stdin.fileno()

        def gone() -> None:
            loop.remove_reader(parent)  # an end is there to be read for ever, and the loop would do nothing else
            stop.set()

        loop.add_reader(parent, gone)  # it has nothing to say but its end
        await role(settings, world, stop)

    return _loop(_life(life, world.hangup))


def _world(settings: Settings, stdout: Output, stderr: Output, number: int | None = None, socket: Path | None = None) -> World:
    log = logs.configure(settings.log_level, stderr)
    return World(
        environment=os.environ,
        clock=lambda: datetime.now(UTC),
        chance=random.Random(),  # noqa: S311  # spreads retries, guards nothing
        owner=str(uuid.uuid4()),
        stdout=stdout,
        log=log if number is None else log.bind(process=number),
        socket=socket,
    )


async def _life(role: Callable[[asyncio.Event], Awaitable[None]], hangup: asyncio.Event | None) -> int:
    stop = asyncio.Event()
    listen(stop, hangup, lambda: None)
    await role(stop)
    # All is closed and given back. A thread that still reads some huge object would hold up the end of the interpreter; nobody needs it.
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)


def _loop(life: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(life)
