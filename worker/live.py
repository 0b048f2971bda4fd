"""The long-running roles in their processes: the loop, signals, standard streams and the end. The only file that is the process.

A first SIGTERM or SIGINT asks a role to drain; a second ends the process at once. SIGHUP has the rules read again. A role runs alone in its process, or as one
of several under a supervisor.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from worker.app import World
from worker.cpus import usable
from worker.observe import logs
from worker.observe.output import Output
from worker.settings import Settings
from worker.supervisor import Supervisor

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
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)  # it has nothing to say but its end
        await role(settings, world, stop)

    return _loop(_life(life, world.hangup))


def several(settings: Settings, count: int) -> int:
    """Run so many workers. Raises `ListenError`."""
    log = logs.configure(settings.log_level, Output(sys.stderr.fileno()))
    chance = random.Random()  # noqa: S311  # spreads restarts, guards nothing

    def command(number: int, socket: Path) -> list[str]:
        return [sys.executable, "-m", "worker", "run", "--process", str(number), "--socket", str(socket)]

    async def life() -> int:
        supervisor = Supervisor(settings, count, os.environ, chance, log, command)
        stop, hangup = asyncio.Event(), asyncio.Event()
        _listen(stop, hangup, lambda: supervisor.signal_all(signal.SIGKILL))
        return await supervisor.run(stop, hangup)

    return asyncio.run(life())


def processors() -> int:
    """Whole processors that this process may use, by its affinity and its container's limit."""
    return usable(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, _text_of)


def _text_of(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


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
    _listen(stop, hangup, lambda: None)
    await role(stop)
    # All is closed and given back. A thread that still reads some huge object would hold up the end of the interpreter; nobody needs it.
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(0)


def _listen(stop: asyncio.Event, hangup: asyncio.Event | None, at_once: Callable[[], None]) -> None:
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


def _loop(life: Coroutine[Any, Any, int]) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(life)
