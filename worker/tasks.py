"""The `tasks` commands: what the store's journal tells of tasks, and an undo from there to its end.

In go the settings, the environment and the two ends of a terminal. Only an undo asks AWS for anything, unless the state is kept there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TextIO

from rich.console import Console

from worker.aws import Accounts, session
from worker.remediate.attempt import FAILURES, Means, reason
from worker.remediate.guards import Limits
from worker.remediate.halt import Halt
from worker.remediate.history import History, audit, histories
from worker.remediate.steps import Plan, Refusal
from worker.remediate.undo import Ending, Undo
from worker.settings import Settings
from worker.state.opening import open_store
from worker.state.store import Store
from worker.tasks_view import shown, tasks_table, told

AGREED = "undo"
"""What somebody who agrees types. A bare `y` is typed too fast."""


class AskedWronglyError(Exception):
    """What was asked for cannot be made out. The text says why."""


class NotDoneError(Exception):
    """The command did not do what it is for. The text says why."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where the commands are worked. Each prints its result to `people`, and raises `StoreError` beside what it says itself."""

    settings: Settings
    environment: Mapping[str, str]
    clock: Callable[[], datetime]
    people: Console
    stdin: TextIO

    async def list(self) -> None:
        """Every task in the journal."""
        async with self._opened() as (_, store):
            found = await histories(store.journal(), "")
        self.people.print(tasks_table(found) if found else "the journal tells of no task")

    async def show(self, begins: str) -> None:
        """One task. Raises `AskedWronglyError`."""
        async with self._opened() as (_, store):
            history = await self._one(store, begins)
        for line in told(history):
            self.people.print(line, soft_wrap=True)

    async def undo(self, begins: str, *, agreed: bool) -> None:
        """Undo a task once its plan was shown and agreed to, now or beforehand. Raises `AskedWronglyError` and `NotDoneError`."""
        if not agreed and not self.stdin.isatty():
            raise AskedWronglyError("there is no terminal to be asked at: give --yes to agree to the undo beforehand")
        async with self._opened() as (accounts, store):
            history = await self._one(store, begins)
            owner = f"{socket.gethostname()}:{os.getpid()}"
            halt = Halt(self.settings, accounts, self.clock)
            means = Means(store, accounts, self.settings.remediation_mode, self.clock, owner, halt=halt)
            try:
                ending = await self._undone(history, means, agreed=agreed)
            except FAILURES as error:
                ending = Ending("failed", reason(error))
        if ending.outcome != "undone":
            raise NotDoneError(f"not undone: {ending.reason}")
        self.people.print("undone")

    async def verify(self, known: str | None) -> None:
        """The whole journal. Raises `NotDoneError` where it is not as it was written, or holds no line with the hash `known`."""
        async with self._opened() as (_, store):
            found = await audit(store.journal(), known)
        if found.fault is not None:
            raise NotDoneError(f"the journal is not whole: {found.fault}")
        self.people.print(f"{found.count} lines, all as they were written; the last one's hash is {found.head or 'none'}", soft_wrap=True)

    async def _undone(self, history: History, means: Means, *, agreed: bool) -> Ending:
        undo = await Undo.of(history, means, Limits.of(self.settings))
        if isinstance(undo, str):
            return Ending("refused", undo)
        plan = await undo.prospect()
        if isinstance(plan, Refusal):
            return Ending("refused", f"{plan.reason}: {plan.says}")
        if not self._agreed(history, plan, agreed=agreed):
            return Ending("left", "nobody agreed to it, and nothing was changed")
        return await undo.carry_out(plan.steps)

    def _agreed(self, history: History, plan: Plan, *, agreed: bool) -> bool:
        for line in shown(history, plan.steps):
            self.people.print(line, soft_wrap=True)
        if agreed:
            return True
        self.people.print(f"Type '{AGREED}' to have it done: ", end="")
        return self.stdin.readline().strip() == AGREED

    async def _one(self, store: Store, begins: str) -> History:
        found = await histories(store.journal(), begins)
        if len(found) == 1:
            return found[0]
        why = "may be any of these" if found else "is no id of a task in the journal, nor the beginning of one"
        others = (f"{one.id}  {one.task['action']} {one.task['target']['name']}" for one in found)
        raise AskedWronglyError("\n  ".join([f"'{begins}' {why}", *others]))

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[Accounts, Store]]:
        async with Accounts(session(self.environment), self.settings) as accounts:
            store = await open_store(self.settings.state, accounts)
            try:
                yield accounts, store
            finally:
                await store.close()
