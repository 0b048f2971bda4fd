"""The edge of `trailmend sweep`: accounts are opened, a progress bar moves, the plan is shown and agreed to, and the sweep runs to its end."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TextIO

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from worker.aws import session
from worker.model import stable_id
from worker.modes import Mode
from worker.remediate.attempt import FAILURES, Means, reason
from worker.remediate.guards import Limits
from worker.remediate.sentry import Sentry
from worker.settings import Settings
from worker.state.opening import open_store
from worker.sweep.pace import PacedAccounts
from worker.sweep.sweep import Survey, Sweep
from worker.sweep.swept import PASSWORD_POLICY
from worker.sweep.view import UNCHANGEABLE, endings_told, row_as_dict, survey_told, unread_as_dict
from worker.sweep.wants import Choice
from worker.terminal import AskedWronglyError, NotDoneError, ask, finishing

AGREED = "sweep"
"""What somebody who agrees types. A bare `y` is typed too fast."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What to sweep. Without `accounts` it is our own; `every` is that and those of the settings. `agreed` is beforehand."""

    accounts: Sequence[str]
    every: bool
    users: Sequence[str]
    choice: Choice
    form: str
    apply: bool
    agreed: bool


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sweep is run: results go to `stdout`, everything about the work to `about`."""

    settings: Settings
    environment: Mapping[str, str]
    clock: Callable[[], datetime]
    stdin: TextIO
    stdout: TextIO
    people: Console
    about: Console

    async def run(self, asked: Asked) -> None:
        """Sweep. Raises `AskedWronglyError` before anything is read, `NotDoneError` where something failed, and `StoreError`."""
        self._hold_to(asked)
        async with PacedAccounts(session(self.environment), self.settings) as accounts:
            store = await open_store(self.settings.state, accounts)
            try:
                owner = f"{socket.gethostname()}:{os.getpid()}"
                means = Means.of(self.settings, store, accounts, self.clock, owner)
                await self._run(asked, means)
            except FAILURES as error:
                raise NotDoneError(f"nobody knows who we are: {reason(error)}") from error
            finally:
                await store.close()

    def _hold_to(self, asked: Asked) -> None:
        if asked.every and asked.accounts:
            raise AskedWronglyError("--all-accounts names every account already: leave --account away")
        if asked.users and asked.choice.actions == {PASSWORD_POLICY}:
            raise AskedWronglyError(f"{PASSWORD_POLICY} is about the account and no user of it: leave --user away")
        if asked.agreed and not asked.apply:
            raise AskedWronglyError("--yes agrees to nothing without --apply")
        modes = self.settings.modes
        if asked.apply and all(modes.anywhere(action) == {Mode.OFF} for action in asked.choice.actions):
            raise AskedWronglyError(
                "the mode is off in every account (TRAILMEND_REMEDIATION_MODE, TRAILMEND_REMEDIATION_MODES): nothing may be changed"
            )
        if asked.apply and not asked.agreed and not self.stdin.isatty():
            raise AskedWronglyError("there is no terminal to be asked at: give --yes to agree to the plan beforehand")

    async def _run(self, asked: Asked, means: Means) -> None:
        own = await means.identity(None)
        every = (own.account, *self.settings.accounts) if asked.every else (asked.accounts or (own.account,))
        # A later sweep may act on the same user again, and so its tasks are others.
        run = stable_id("sweep", means.owner, self.clock().isoformat())
        limits = Limits.of(self.settings)
        sweep = Sweep(means, limits, asked.choice, run, own.arn, Sentry(limits))
        with self._progress("looking") as told:
            survey = await replace(sweep, **told).survey(list(dict.fromkeys(every)), asked.users)
        self._show(asked, survey)
        if asked.apply and survey.planned:
            await self._apply(asked, sweep, survey)
        if survey.unread:
            raise NotDoneError(f"{len(survey.unread)} could not be looked at")

    async def _apply(self, asked: Asked, sweep: Sweep, survey: Survey) -> None:
        if not asked.agreed and ask(f"Type '{AGREED}' to have it done: ", self.stdin, self.about) != AGREED:
            raise NotDoneError("nobody agreed to it, and nothing was changed")
        stop = asyncio.Event()
        with self._progress("mending") as told, finishing(stop):
            rows = await replace(sweep, **told).carry_out(survey, stop)
        if asked.form == "jsonl":
            self._write(map(row_as_dict, rows))
        else:
            for line in endings_told(rows):
                self.people.print(line, soft_wrap=True)
        failed = sum(not row.done for row in rows)
        if failed:
            raise NotDoneError(f"{failed} of {len(rows)} were not done")

    def _show(self, asked: Asked, survey: Survey) -> None:
        if asked.form == "jsonl":
            remarks = [{"kind": "remark", "account": account, "says": UNCHANGEABLE} for account in survey.unchangeable]
            self._write([*map(row_as_dict, survey.rows), *remarks, *map(unread_as_dict, survey.unread)])
            return
        for line in survey_told(survey):
            self.people.print(line)

    def _write(self, values: Iterable[Mapping[str, Any]]) -> None:
        for value in values:
            self.stdout.write(orjson.dumps(value).decode() + "\n")
        self.stdout.flush()

    @contextmanager
    def _progress(self, what: str) -> Iterator[dict[str, Any]]:
        columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self.about, disable=not self.about.is_terminal, transient=True) as progress:
            bar = progress.add_task(what, total=None)

            def expected(count: int) -> None:
                progress.update(bar, total=(progress.tasks[bar].total or 0) + count)

            yield {"expected": expected, "advanced": lambda: progress.advance(bar)}
