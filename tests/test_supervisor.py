"""Several processes are started, watched, started anew and ended as one."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp
import pytest
import structlog
from aiohttp import web
from structlog.testing import LogCapture

from tests.conftest import PATIENCE_SECONDS, free_port
from worker import supervisor as supervisor_module
from worker.settings import Settings
from worker.supervisor import Supervisor
from worker.variables import HttpAddress

CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from prometheus_client import CollectorRegistry, Counter
from worker.observe.http import serving

async def main(number, socket, mode):
    if mode.startswith("refuse"):
        sys.exit(int(mode[6:]))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if mode == "beginning":
        Path(socket + ".pid").write_text(str(os.getpid()))
        while not Path(socket + ".on").exists():
            await asyncio.sleep(0.05)
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        loop.add_signal_handler(signal.SIGTERM, stop.set)
    registry = CollectorRegistry()
    Counter("work", "Work.", registry=registry).inc(10)
    hangups = Counter("hangups", "Hangups.", registry=registry)
    loop.add_signal_handler(signal.SIGHUP, hangups.inc)
    async with serving(Path(socket), registry, lambda: ["no queue"] if mode == "unready" else []):
        Path(socket + ".pid").write_text(str(os.getpid()))
        if mode == "hang":
            while not Path(socket + ".on").exists():
                await asyncio.sleep(0.05)
            import time; time.sleep(600)
        await stop.wait()

asyncio.run(main(*sys.argv[1:]))
"""


class House:
    """A supervisor over children that do what `modes` says."""

    def __init__(self, *modes: str, grace: float = PATIENCE_SECONDS) -> None:
        self.port = free_port()
        self.events = LogCapture()
        log = structlog.wrap_logger(None, processors=[self.events])
        self.modes = list(modes)
        self.made = Supervisor(
            Settings(http_address=HttpAddress("127.0.0.1", self.port), grace_seconds=grace),
            len(modes),
            {**os.environ, "PYTHONPATH": "."},
            random.Random(1),
            log,
            lambda number, socket: [sys.executable, "-c", CHILD, str(number), str(socket), self.modes[number - 1]],
        )
        self.stop, self.hangup = asyncio.Event(), asyncio.Event()

    async def __aenter__(self) -> Self:
        self.running = asyncio.create_task(self.made.run(self.stop, self.hangup))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        await self.running

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}/{path}") as answer:
            return answer.status, await answer.text()

    async def count(self, name: str = "work") -> float:
        lines = (await self.get("metrics"))[1].splitlines()
        return float(next((line.split()[1] for line in lines if line.startswith(f"{name}_total ")), "0"))

    async def begun(self, number: int) -> bool:
        return self.mark(number, "pid").exists()

    def mark(self, number: int, name: str) -> Path:
        socket = self.made.children[number - 1].socket
        return socket.with_name(f"{socket.name}.{name}")

    def names(self) -> list[Any]:
        return [entry["event"] for entry in self.events.entries]

    def pids(self) -> list[int]:
        return [child.process.pid for child in self.made.children if child.process is not None]


def all_gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await true():
            await asyncio.sleep(0.05)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(supervisor_module, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE_SECONDS", 0.2)


async def ready(house: House) -> bool:
    try:
        return (await house.get("readyz"))[0] == 200
    except aiohttp.ClientError:
        return False


async def test_two_are_one_and_end_as_one():
    """Ready when both are, their counts summed, and a stop drains both: the status is that of a good end."""
    async with House("work", "work") as house:
        await until(lambda: ready(house))
        assert await house.count() == 20
        pids = house.pids()
        house.stop.set()
        assert await house.running == 0
    assert all_gone(pids)


async def test_one_that_is_killed_is_started_again_and_its_counts_stay():
    """The metrics never fall, and say that it was started again; the log says by what it ended."""
    async with House("work", "work") as house:
        await until(lambda: ready(house))
        before = await house.count()
        first = house.pids()[0]
        os.kill(first, signal.SIGKILL)

        async def again() -> bool:
            assert await house.count() >= before
            return house.pids()[0] != first and await ready(house)

        await until(again)
        assert await house.count() == 30
        assert "trailmend_process_restarts_total 1.0" in (await house.get("metrics"))[1]
        (told,) = [entry for entry in house.events.entries if entry["event"] == "process_exited"]
        assert (told["process"], told["signal"]) == (1, "SIGKILL")


async def test_who_is_not_ready_is_named():
    """503, and each reason with the number of its process."""
    async with House("work", "unready") as house:

        async def told() -> bool:
            try:
                return (await house.get("readyz")) == (503, "process 2: no queue\n")
            except aiohttp.ClientError:
                return False

        await until(told)
        assert (await house.get("healthz"))[0] == 200


@pytest.mark.parametrize("status", [1, 2])
async def test_a_refusal_to_begin_ends_all_with_its_status(status):
    """Wrong settings do not become right by trying again; the other is ended too."""
    async with House("unready", f"refuse{status}") as house:
        assert await asyncio.wait_for(asyncio.shield(house.running), PATIENCE_SECONDS) == status
        assert "process_refused" in house.names()


async def test_one_whose_loop_hangs_is_killed_and_started_again(monkeypatch):
    """A process that is there but does not answer is no process."""
    patience = supervisor_module.SILENT_SECONDS
    monkeypatch.setattr(supervisor_module, "ANSWER_SECONDS", 0.3)
    async with House("hang") as house:
        await until(lambda: ready(house))
        house.modes[0] = "work"
        house.mark(1, "on").touch()
        monkeypatch.setattr(supervisor_module, "SILENT_SECONDS", 1.0)

        async def killed() -> bool:
            return "process_hangs" in house.names()

        await until(killed)
        monkeypatch.setattr(supervisor_module, "SILENT_SECONDS", patience)  # on a busy machine a child is longer than a second in beginning
        await until(lambda: ready(house))


async def test_one_that_does_not_drain_is_killed_in_the_end(monkeypatch):
    """After its grace and a margin; the status says that not all ended well."""
    monkeypatch.setattr(supervisor_module, "DRAIN_MARGIN_SECONDS", 0.3)
    async with House("work", "stubborn", grace=0.1) as house:
        await until(lambda: ready(house))
        pids = house.pids()
        house.stop.set()
        assert await asyncio.wait_for(asyncio.shield(house.running), PATIENCE_SECONDS) == 1
        assert "processes_killed" in house.names()
    assert all_gone(pids)


async def test_a_stop_before_they_have_begun_is_a_good_end():
    """A child that does not listen for signals yet ends by the signal itself, and has nothing in hand to lose."""
    async with House("beginning", "beginning") as house:
        await until(lambda: house.begun(1))
        await until(lambda: house.begun(2))
        house.stop.set()
        assert await asyncio.wait_for(asyncio.shield(house.running), PATIENCE_SECONDS) == 0
        assert "processes_killed" not in house.names()


async def test_a_stop_while_a_child_is_being_started_reaches_it(monkeypatch):
    """The others are asked before it is there; it is asked when it is."""
    exec_, asked = asyncio.create_subprocess_exec, asyncio.Event()

    async def slowly(*command: str, **more: Any) -> asyncio.subprocess.Process:
        process = await exec_(*command, **more)
        await asked.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)
    async with House("beginning") as house:
        await until(lambda: house.begun(1))
        house.stop.set()
        await asyncio.sleep(0)  # to the task that waits for the stop ...
        await asyncio.sleep(0)  # ... and to the one that then asks all
        await asyncio.sleep(0)
        asked.set()
        assert await asyncio.wait_for(asyncio.shield(house.running), PATIENCE_SECONDS) == 0


async def test_a_hangup_waits_for_a_child_that_does_not_listen_yet():
    """It would end by it. It gets it once it answers, and once only."""
    async with House("beginning", "work") as house:
        await until(lambda: house.begun(1))
        house.hangup.set()
        await asyncio.sleep(0.3)  # longer than it takes to look at all of them
        house.mark(1, "on").touch()
        await until(lambda: ready(house))

        async def both() -> bool:
            return await house.count("hangups") == 2

        await until(both)
        assert await house.count("hangups") == 2
        assert "process_exited" not in house.names()


async def test_a_start_that_fails_is_tried_again(monkeypatch):
    """No memory for a process just now is no reason to end those that run."""
    exec_, failures = asyncio.create_subprocess_exec, [OSError(12, "Cannot allocate memory")]

    async def poorly(*command: str, **more: Any) -> asyncio.subprocess.Process:
        if failures:
            raise failures.pop()
        return await exec_(*command, **more)

    monkeypatch.setattr(asyncio, "create_subprocess_exec", poorly)
    async with House("work", "work") as house:
        await until(lambda: ready(house))
        (told,) = [entry for entry in house.events.entries if entry["event"] == "process_not_started"]
        assert told["error"] == "[Errno 12] Cannot allocate memory"


async def test_an_older_answer_is_never_taken_after_a_newer_one():
    """A scrape and the parent's own look go on side by side; a counter that fell would read as begun anew, all of it counted again."""
    house = House("work")
    child = house.made.children[0]
    child.process = await asyncio.create_subprocess_exec("sleep", "60")
    counted, slow, asked = [0], asyncio.Event(), asyncio.Event()

    async def metrics(_: web.Request) -> web.Response:
        counted[0] += 10
        return web.Response(text=f"# TYPE work counter\nwork_total {counted[0]}\n")

    async def readyz(_: web.Request) -> web.Response:
        if not asked.is_set():
            asked.set()
            await slow.wait()
        return web.Response()

    application = web.Application()
    application.add_routes([web.get("/metrics", metrics), web.get("/readyz", readyz)])
    runner = web.AppRunner(application)
    await runner.setup()
    await web.UnixSite(runner, child.socket).start()
    try:
        older = asyncio.create_task(house.made._look_at(child))
        await asked.wait()
        newer = asyncio.create_task(house.made._look_at(child))
        await asyncio.wait([newer], timeout=0.3)
        slow.set()
        await asyncio.gather(older, newer)
        assert child.text.endswith("work_total 20\n")
    finally:
        child.process.kill()
        await child.process.wait()
        await runner.cleanup()
        house.made.end_at_once()
