"""Executors that live and die as processes do: each in a process of its own, killed by the system at a call that was chosen.

The processes come from a fork server that has loaded everything, so that a life costs little more than its calls.
"""

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from aiobotocore.session import get_session
from botocore.session import get_session as get_plain_session

from tests import fakes
from tests.remediate.world import Wire, WiredAccounts
from worker.aws import Accounts
from worker.model import Message
from worker.remediate.executor import Executor
from worker.settings import Settings
from worker.state.sqlite import SqliteStore

_loader = get_plain_session().get_component("data_loader")
for _service in ("ec2", "iam", "sts"):
    _loader.load_service_model(_service, "service-2")


@dataclass(frozen=True)
class Life:
    """One process: what it is given, and where it is killed (`Wire`). The calls that AWS answered, of all lives, are lines of the file `calls`."""

    body: str
    settings: Settings
    state: Path
    calls: Path
    now: datetime
    environment: Mapping[str, str]
    die_before: int | None = None
    die_after: int | None = None

    def lived(self) -> int | None:
        """The exit status: 0 where the message was to be deleted, 1 where it was not, -9 where the process was killed."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        process = context.Process(target=_live, args=(self,))
        process.start()
        process.join(60)
        return process.exitcode


class _Calls(list[str]):
    """The calls of all lives before and of this one, each on the disk at once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.read_text().split() if path.exists() else [])
        self._path = path

    def append(self, name: str) -> None:
        super().append(name)
        with self._path.open("a") as file:
            file.write(f"{name}\n")


def _live(life: Life) -> None:
    os.environ.clear()
    os.environ.update(life.environment)
    raise SystemExit(asyncio.run(_handled(life)))


async def _handled(life: Life) -> int:
    wire = Wire(_Calls(life.calls), life.die_before, life.die_after, die=lambda: os.kill(os.getpid(), signal.SIGKILL))
    session = get_session()
    session.register_component("data_loader", _loader)
    store = await SqliteStore.open(str(life.state))
    async with Accounts(session, life.settings) as accounts:
        wired: Any = WiredAccounts(accounts, wire)
        executor = Executor(store, wired, life.settings, fakes.metrics(), lambda: life.now, f"process-{os.getpid()}", _at_once)
        verdict = await executor.handle(Message("m", life.body, "receipt"))
    await store.close()
    return 0 if verdict.delete else 1


async def _at_once(_: float) -> None:
    await asyncio.sleep(0)
