"""What runs while *objects*, *cores*, *latency* and *start-up* are measured: the stub, workers and the plain loop, each a process of its own.

All of it lives in a temporary folder and on loopback, and is stopped by process id when the block is left. A worker is started as a user starts
it, `python -m worker run` with its settings in the environment, every duty on: the shipped rules, a state file, a task queue, metrics.
"""

from __future__ import annotations

import json
import os
import random
import re
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from benchmarks.answers import REGION
from benchmarks.traffic import Round, Traffic
from worker.local.children import Child, Children
from worker.local.stage import free_port

CORES = sorted(os.sched_getaffinity(0))
TICK = os.sysconf("SC_CLK_TCK")
START_SECONDS = 20.0
SOON_SECONDS, SELDOM_SECONDS = 0.02, 0.25
"""How often the stub is asked: while something starts, and while a round is on its clock, which whoever asks would disturb."""
TASKS = "q-tasks"


class BenchError(Exception):
    """A figure would mean nothing: something did not start, did not end or did other work than it was given."""


@dataclass(frozen=True, slots=True)
class Runner:
    """One consumer of a queue: a worker (with where it tells its metrics) or the plain loop."""

    child: Child
    queue: str
    metrics: str | None = None

    @property
    def cpu_seconds(self) -> float:
        """What it and the processes it started have used so far."""
        return sum(_ticks(process) for process in _family(self.child.process.pid)) / TICK


@dataclass(frozen=True, slots=True)
class Run:
    """A round on the stub's clock: from the offer, at `began`, until the last message was deleted or given back."""

    began: float
    seconds: float
    cpu_seconds: float
    stub_cpu_seconds: float


class Fleet:
    """The stub and whoever consumes its queues. `share` and `mendable` are the traffic's."""

    def __init__(self, share: float, *, mendable: bool = False, stub_core: int | None = None) -> None:
        self._temporary = TemporaryDirectory(prefix="trailmend-bench-")
        self._folder = Path(self._temporary.name)
        self._children = Children(self._folder, os.environ)
        self.endpoint = f"http://127.0.0.1:{free_port()}"
        self._stub_core = stub_core
        self.traffic = Traffic(self._folder, random.Random(4), share, mendable=mendable)  # noqa: S311  # draws records, guards nothing

    def __enter__(self) -> Self:
        stub = self._start("stub", "benchmarks.stub", self.endpoint.rpartition(":")[2], str(self.traffic.folder), self.traffic.account)
        _pin(stub, self._stub_core)
        self._until(lambda: self.told(TASKS), "the stub does not answer", stub)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._children.__exit__(kind, error, trace)
        finally:
            self._temporary.cleanup()

    def worker(self, name: str, queue: str, *, core: int | None = None, state: str = "state", processes: int = 1) -> Runner:
        """Start a worker and wait for its first receive."""
        port = free_port()
        variables = {
            "TRAILMEND_QUEUE_URL": self.url(queue),
            "TRAILMEND_TASK_QUEUE_URL": self.url(TASKS),
            "TRAILMEND_STATE": f"sqlite:///{self._folder / state}.db",
            "TRAILMEND_HTTP_ADDRESS": f"127.0.0.1:{port}",
            "TRAILMEND_LOG_LEVEL": "warning",
            "TRAILMEND_PROCESSES": str(processes),
        }
        before = self.told(queue)["requests"].get("ReceiveMessage", 0)
        child = self._start(name, "worker", "run", variables=variables)
        _pin(child, core)
        self._until(lambda: self.told(queue)["requests"].get("ReceiveMessage", 0) > before, f"{name} does not receive", child)
        return Runner(child, queue, f"http://127.0.0.1:{port}/metrics")

    def plain(self, queue: str, *, core: int | None = None) -> Runner:
        """Start the plain loop and wait for its first receive."""
        child = self._start("plain", "benchmarks.plain", self.url(queue))
        _pin(child, core)
        self._until(lambda: self.told(queue)["first_receive"], "the plain loop does not receive", child)
        return Runner(child, queue)

    def run(self, given: Round, *runners: Runner, per_second: float = 0.0, seconds: float = 30.0) -> Run:
        """Offer a round to a queue's consumers and wait until every message of it is deleted, or given back to come later."""
        queue = runners[0].queue
        before = sum(one.cpu_seconds for one in runners)
        self.offer(queue, given, per_second)
        self._until(
            lambda: self.told(queue)["seconds"] is not None, "not all messages were worked on", runners[0].child, seconds, SELDOM_SECONDS
        )
        after = sum(one.cpu_seconds for one in runners)
        told = self.told(queue)
        return Run(told["began"], told["seconds"], after - before, told["cpu_seconds"])

    def offer(self, queue: str, given: Round, per_second: float = 0.0) -> None:
        """Put a round's messages on a queue, all at once or at a pace."""
        self._asks("offer", queue=queue, file=str(given.file), per_second=str(per_second))

    def settle(self, runner: Runner, seconds: float = 60.0) -> int:
        """Wait until nothing is left on a queue; answers how many of its messages had to come a second time."""
        self._until(lambda: not self.told(runner.queue)["left"], "messages are left", runner.child, seconds)
        return int(self.told(runner.queue)["returned"])

    def told(self, queue: str) -> dict[str, Any]:
        """The stub's ledger of a queue."""
        told: dict[str, Any] = self._asks("told", queue=queue)
        return told

    def url(self, queue: str) -> str:
        """The queue's URL."""
        return f"{self.endpoint}/{self.traffic.account}/{queue}"

    def _start(self, name: str, *arguments: str, variables: Mapping[str, str] | None = None) -> Child:
        aws = {"AWS_ENDPOINT_URL": self.endpoint, "AWS_DEFAULT_REGION": REGION, "AWS_REGION": REGION}
        keys = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_EC2_METADATA_DISABLED": "true"}
        return self._children.start(name, *arguments, variables={**aws, **keys, **(variables or {})})

    def _asks(self, verb: str, **options: str) -> Any:
        with urllib.request.urlopen(f"{self.endpoint}/-/{verb}?{urlencode(options)}", timeout=10) as answer:  # noqa: S310  # loopback
            return json.load(answer)

    def _until(
        self, holds: Callable[[], object], otherwise: str, child: Child, seconds: float = START_SECONDS, pause: float = SOON_SECONDS
    ) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if holds():
                    return
            except OSError:
                pass  # not listening yet
            time.sleep(pause)
        raise BenchError(f"{otherwise} within {seconds:g} s; {child.name} said: {child.tail(5)[-2000:]}")


def counted(runner: Runner) -> dict[str, float]:
    """A worker's metrics, by name and labels."""
    with urllib.request.urlopen(str(runner.metrics), timeout=10) as answer:  # noqa: S310  # loopback
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def _pin(child: Child, core: int | None) -> None:
    if core is not None:
        os.sched_setaffinity(child.process.pid, {core})


def _family(process: int) -> list[int]:
    """A process and its descendants."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # ended meanwhile
    family = [process]
    for one in family:
        family += [child for child, parent in parents.items() if parent == one]
    return family


def _ticks(process: int) -> int:
    fields = re.sub(r".*\) ", "", Path(f"/proc/{process}/stat").read_text()).split()
    return int(fields[11]) + int(fields[12])
