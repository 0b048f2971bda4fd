"""Several workers as one: a parent that starts them, watches them, starts anew what ends, passes signals on and answers for all of them.

The parent listens where a single worker would; each child listens on a socket of its own in a private folder. A child that ends is started again, later
and later if it keeps ending; one whose loop has not answered for a minute is killed first. If none ever became ready and one ends by its own
decision (wrong settings, a fault in a rule, no queue), the parent ends with its status: there is nothing to be had from trying again. If the parent is
killed, the children's standard input ends, and they drain and go. A stop that comes before a child has begun is a good end for it: it holds nothing.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from structlog.typing import FilteringBoundLogger

from worker.observe.aggregate import Totals, registry_of
from worker.observe.http import serving
from worker.settings import Settings

LOOK_SECONDS = 2.0
"""How often a child is asked how it is and what it has counted: so much of its counting is lost if it is killed."""
ANSWER_SECONDS = 1.5
SILENT_SECONDS = 60.0
"""A child that has not answered for this long hangs."""
DRAIN_MARGIN_SECONDS = 15.0
"""What a child may take beyond its grace to end."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
SETTLED_SECONDS = 60.0
"""A child that lived this long starts anew without a pause to its account."""
GOOD_ENDS = frozenset({0, -signal.SIGTERM})
"""Drained, or stopped before it listened for the signal."""
MOST_FOLDER_CHARACTERS = 60
RESTARTS = "trailmend_process_restarts_total"


@dataclass(slots=True)
class Child:
    """One worker, as its parent sees it."""

    number: int
    socket: Path
    process: asyncio.subprocess.Process | None = None
    text: str = ""
    wrong: list[str] = field(default_factory=lambda: ["has not answered yet"])
    answered_at: float = 0.0
    started_at: float = 0.0
    pauses: int = 0
    hangup_due: bool = False
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Supervisor:
    """Runs `count` workers until `stop`. `command` starts one, given its number, its socket and its folder."""

    def __init__(
        self,
        settings: Settings,
        count: int,
        environment: Mapping[str, str],
        chance: random.Random,
        log: FilteringBoundLogger,
        command: Callable[[int, Path], list[str]],
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._chance = chance
        self._log = log
        self._command = command
        self._folder = tempfile.TemporaryDirectory(prefix="trailmend-", dir=_short_folder(environment))
        folder = Path(self._folder.name)
        self.children = [Child(number, folder / f"{number}.sock") for number in range(1, count + 1)]
        self.totals = Totals(lambda: [child.text for child in self.children if child.text])
        self._ever_ready = False
        self._status = 0
        self._over = asyncio.Event()

    async def run(self, stop: asyncio.Event, hangup: asyncio.Event) -> int:
        """Answers the status that the program is to end with. Raises `ListenError`."""
        with self._folder:
            async with serving(self._settings.http_address, registry_of(self.totals), self.faults, self._look_at_all) as address:
                self._log.info("supervising", processes=len(self.children), http=address)
                async with asyncio.TaskGroup() as group:
                    lives = [group.create_task(self._life(child, stop)) for child in self.children]
                    beside = [group.create_task(self._watch(child)) for child in self.children]
                    beside += [group.create_task(one) for one in (self._pass_hangups(hangup), self._pass_stop(stop), self._drain())]
                    await asyncio.wait(lives)
                    for task in beside:
                        task.cancel()
        return self._status

    def faults(self) -> list[str]:
        """Why not all of the workers are ready, each reason with the number of its process."""
        return [f"process {child.number}: {reason}" for child in self.children for reason in child.wrong]

    def signal_all(self, number: int) -> None:
        """Pass a signal on to every child there is."""
        for child in self.children:
            if child.process is not None and child.process.returncode is None:
                with suppress(ProcessLookupError):
                    child.process.send_signal(number)

    def end_at_once(self) -> None:
        """For a process that is to end without another turn of its loop."""
        self.signal_all(signal.SIGKILL)
        self._folder.cleanup()

    # A child's life.

    async def _life(self, child: Child, stop: asyncio.Event) -> None:
        while not (stop.is_set() or self._over.is_set()):
            try:
                process = await self._start(child)
            except OSError as error:  # no memory or no process to be had just now
                await self._pause(child, "process_not_started", error=str(error))
                continue
            if self._over.is_set():  # the others were asked to drain while this one was not there yet
                process.terminate()
            status = await process.wait()
            self._gone(child)
            if stop.is_set() or self._over.is_set():
                self._status = self._status or int(status not in GOOD_ENDS)
                return
            if not self._ever_ready and status > 0:
                self._log.error("process_refused", process=child.number, status=status)
                self._status = status
                self._over.set()
                return
            how = {"signal": signal.Signals(-status).name} if status < 0 else {"status": status}
            await self._pause(child, "process_exited", **how)

    async def _pause(self, child: Child, event: str, **why: object) -> None:
        """Longer and longer for one that keeps ending."""
        lived = _now() - child.started_at
        child.pauses = 1 if lived >= SETTLED_SECONDS else child.pauses + 1
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (child.pauses - 1)) * self._chance.uniform(0.5, 1)
        self._log.error(event, process=child.number, **why, lived_seconds=round(lived, 1), restart_in_seconds=round(pause, 1))
        self.totals.carry(f"# TYPE {RESTARTS} counter\n{RESTARTS} 1\n")
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), pause)

    async def _start(self, child: Child) -> asyncio.subprocess.Process:
        child.socket.unlink(missing_ok=True)
        child.started_at = child.answered_at = _now()
        child.hangup_due = False
        child.process = await asyncio.create_subprocess_exec(
            *self._command(child.number, child.socket),
            env=dict(self._environment),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C in the terminal is the parent's to pass on, once
        )
        return child.process

    def _gone(self, child: Child) -> None:
        """Its counters are carried on; its gauges go with it."""
        self.totals.carry(child.text)
        child.text, child.wrong = "", ["is not running"]

    # Looking after all.

    async def _watch(self, child: Child) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look_at(child)
            silent = _now() - child.answered_at
            if silent > SILENT_SECONDS and child.process is not None and child.process.returncode is None:
                self._log.error("process_hangs", process=child.number, silent_seconds=round(silent))
                child.process.kill()
                child.answered_at = _now()

    async def _look_at_all(self) -> None:
        await asyncio.gather(*(self._look_at(child) for child in self.children))

    async def _look_at(self, child: Child) -> None:
        """Ask a child what it has counted and whether it is ready: one at a time, so that no older answer is taken after a newer one."""
        async with child.asking:
            await self._ask(child)
        self._hang_up(child)

    async def _ask(self, child: Child) -> None:
        process = child.process
        if process is None or process.returncode is not None or not child.socket.exists():
            return
        try:
            timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(child.socket)), timeout=timeout) as session:
                async with session.get("http://child/metrics") as answer:
                    text = await answer.text()
                async with session.get("http://child/readyz") as answer:
                    wrong = [] if answer.status == 200 else (await answer.text()).splitlines()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            child.wrong = [f"does not answer ({type(error).__name__})"]
            return
        if child.process is process and process.returncode is None:
            child.text, child.wrong, child.answered_at = text, wrong, _now()
            self._ever_ready = self._ever_ready or not wrong

    async def _pass_hangups(self, hangup: asyncio.Event) -> None:
        while True:
            await hangup.wait()
            hangup.clear()
            for child in self.children:
                child.hangup_due = True
                self._hang_up(child)

    def _hang_up(self, child: Child) -> None:
        """Only to a child that has answered: before it listens for the signal, it would end by it."""
        if child.hangup_due and child.text and child.process is not None and child.process.returncode is None:
            child.hangup_due = False
            child.process.send_signal(signal.SIGHUP)

    async def _pass_stop(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._over.set()

    async def _drain(self) -> None:
        """When it is time to stop, or one has refused: ask all to drain, and end what does not within its grace."""
        await self._over.wait()
        self.signal_all(signal.SIGTERM)
        await asyncio.sleep(self._settings.grace_seconds + DRAIN_MARGIN_SECONDS)
        self._log.error("processes_killed", hint="they did not drain within TRAILMEND_GRACE_SECONDS and the time to end")
        self.signal_all(signal.SIGKILL)


def _short_folder(environment: Mapping[str, str]) -> str:
    """A folder for sockets: writable even where the root is not, and short, because a socket's path may have some hundred characters.

    https://man7.org/linux/man-pages/man7/unix.7.html: sun_path has 108 bytes.
    """
    candidates = [environment.get("TMPDIR", "/tmp"), "/tmp", "/dev/shm", "/run"]  # noqa: S108  # a private folder is made in it
    usable = [one for one in candidates if len(one) <= MOST_FOLDER_CHARACTERS and os.access(one, os.W_OK)]
    return usable[0] if usable else tempfile.gettempdir()


def _now() -> float:
    return asyncio.get_running_loop().time()
