"""The `tasks` commands: what waits for people and what the store's journal tells of tasks, an answer to what waits, and an undo to its end.

In go the settings, the environment and the two ends of a terminal. Only an answer and an undo ask AWS for anything, unless the state is kept there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TextIO

from rich.console import Console

from worker import addresses
from worker.aws import Accounts, session
from worker.deciding import AskedWronglyError, Ballot, NotDoneError
from worker.model import Answer
from worker.remediate import export
from worker.remediate.archive import Archive
from worker.remediate.attempt import FAILURES, Means, reason
from worker.remediate.guards import Limits
from worker.remediate.history import History, audit, histories, seen
from worker.remediate.scopes import check_scopes
from worker.remediate.steps import Plan, Refusal
from worker.remediate.undo import Ending, Undo
from worker.settings import Settings
from worker.state.opening import open_store
from worker.state.store import Store
from worker.tasks_view import asked, shown, tasks_table, told, waiting_table

AGREED = "undo"
"""What somebody who agrees types. A bare `y` is typed too fast."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where the commands are worked. Each prints its result to `people`, and raises `StoreError` beside what it says itself."""

    settings: Settings
    environment: Mapping[str, str]
    clock: Callable[[], datetime]
    people: Console
    stdin: TextIO

    async def list(self, *, waiting: bool) -> None:
        """What waits for people, and every other task in the journal."""
        async with self._opened() as (_, store):
            approvals = await store.approvals()
            found = [] if waiting else await histories(store.journal(), "")
        if approvals:
            self.people.print(waiting_table(approvals, self.clock()))
        elif waiting:
            self.people.print("nothing waits for anybody to agree to it")
        held = {one.id for one in approvals}
        rest = [one for one in found if one.id not in held]
        if approvals and rest:
            self.people.print()
        if rest:
            self.people.print(tasks_table(rest))
        elif not waiting and not approvals:
            self.people.print("the journal tells of no task")

    async def show(self, begins: str) -> None:
        """One task. Raises `AskedWronglyError`."""
        async with self._opened() as (_, store):
            history = await self._one(store, begins)
            known = await seen(history.request_ids, store)
            approval = await store.approval(history.id)
        for line in told(history, known):
            self.people.print(line, soft_wrap=True)
        for line in () if approval is None else asked(approval, self.clock()):
            self.people.print(line, soft_wrap=True)

    async def answer(self, begins: str, answer: str, why: str | None, *, agreed: bool) -> None:
        """Say yes or no to a task that waits. Raises `AskedWronglyError` and `NotDoneError`."""
        async with self._opened() as (accounts, store):
            found = [one for one in await store.approvals() if one.id.startswith(begins)]
            if len(found) != 1:
                raise AskedWronglyError(_unclear(begins, "waits", [(one.id, one.task) for one in found]))
            await Ballot(self._means(store, accounts), self.people, self.stdin).cast(found[0], Answer(answer), why, agreed=agreed)

    async def undo(self, begins: str, *, agreed: bool) -> None:
        """Undo a task once its plan was shown and agreed to, now or beforehand. Raises `AskedWronglyError` and `NotDoneError`."""
        if not agreed and not self.stdin.isatty():
            raise AskedWronglyError("there is no terminal to be asked at: give --yes to agree to the undo beforehand")
        mending = Accounts(session(self.environment), self.settings, mending=True)
        async with self._opened() as (_, store), mending as accounts:
            history = await self._one(store, begins)
            try:
                ending = await self._undone(history, self._means(store, accounts), agreed=agreed)
            except FAILURES as error:
                ending = Ending("failed", reason(error))
        if ending.outcome != "undone":
            raise NotDoneError(f"not undone: {ending.reason}")
        self.people.print("undone")

    async def verify(self, known: str | None, exported: str | None = None) -> None:
        """The whole journal, and where `exported` says so what was exported of it: to there, or with "" to where the settings say.

        Raises `AskedWronglyError`, and `NotDoneError` where it is not as it was written or exported, or holds no line with the hash `known`.
        """
        async with self._opened() as (accounts, store):
            found = await audit(store.journal(), known)
            if found.fault is not None:
                raise NotDoneError(f"the journal is not whole: {found.fault}")
            told = f"{found.count} lines, all as they were written; the last one's hash is {found.head or 'none'}"
            if exported is not None:
                told += "\n" + await self._checked(self._archive(accounts, exported), store)
        self.people.print(told, soft_wrap=True)

    async def export(self, place: str | None) -> None:
        """Export what is new of the journal, to where the settings say unless it is said here. Raises `AskedWronglyError` and `NotDoneError`."""
        async with self._opened() as (accounts, store):
            archive = self._archive(accounts, place or "")
            retain = timedelta(days=self.settings.journal_retain_days)
            try:
                count = await export.Export(store, archive, retain, self.clock).once()
            except export.FAILURES as error:
                raise NotDoneError(f"not exported: {error}") from error
        self.people.print(f"{count} new lines exported to {archive.place}", soft_wrap=True)

    async def _checked(self, archive: Archive, store: Store) -> str:
        try:
            first, found = await export.check(archive, store)
        except export.FAILURES as error:
            raise NotDoneError(f"the export cannot be trusted or read: {error}") from error
        if found.fault is not None:
            raise NotDoneError(f"the journal is not what was exported to {archive.place}: {found.fault}")
        since = f"; those before line {first} are no longer there" if first > 1 else ""
        return f"{found.agreeing} lines are as they were exported to {archive.place}{since}; {found.beyond} are not exported yet"

    def _archive(self, accounts: Accounts, place: str) -> Archive:
        try:
            where = addresses.place(place) if place else self.settings.journal_export
        except ValueError as error:
            raise AskedWronglyError(str(error)) from None
        if where is None:
            raise AskedWronglyError("say where the export is, as s3://BUCKET/PREFIX, or set TRAILMEND_JOURNAL_EXPORT")
        return Archive(accounts, where, self.settings.journal_lock)

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
        raise AskedWronglyError(_unclear(begins, "is in the journal", [(one.id, one.task) for one in found]))

    def _means(self, store: Store, accounts: Accounts) -> Means:
        check_scopes(self.settings)
        confirming = timedelta(seconds=self.settings.confirm_seconds)
        owner = f"{socket.gethostname()}:{os.getpid()}"
        return Means(store, accounts, self.settings.modes, self.clock, owner, confirming=confirming)

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[tuple[Accounts, Store]]:
        async with Accounts(session(self.environment), self.settings) as accounts:
            store = await open_store(self.settings.state, accounts)
            try:
                yield accounts, store
            finally:
                await store.close()


def _unclear(begins: str, where: str, found: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Why a beginning of an id is none, with what it may be."""
    why = "may be any of these" if found else f"is no id of a task that {where}, nor the beginning of one"
    return "\n  ".join([f"'{begins}' {why}", *(f"{number}  {task['action']} {task['target']['name']}" for number, task in found)])
