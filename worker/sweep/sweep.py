"""A sweep from its plan to its end: every user of an account is looked at, what is wanted is planned, and on agreement done.

Two steps, `survey` and `carry_out`. The first changes nothing. The second does each row of the first through an `Errand`: planned once more right before it
acts, nothing done that was not shown, journaled, read back, undone one by one. A user who cannot be read or mended spoils nobody else. One that
was cut short, by Ctrl-C or by death, can be begun anew: what is done already is not wanted again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from worker.aws import explain
from worker.model import JournalEntry, Target, stable_id
from worker.remediate.actions import ACTIONS
from worker.remediate.attempt import FAILURES, LEASE, LINGER, Means, reason
from worker.remediate.errand import Errand, Prospect
from worker.remediate.guards import Identity, Limits
from worker.remediate.keys import owner_arn
from worker.remediate.sentry import Sentry
from worker.remediate.steps import Clients, Plan, Refusal, Step
from worker.remediate.tasks import TaskMessage
from worker.remediate.undo import Ending
from worker.state.store import StoreError
from worker.sweep.once import Once
from worker.sweep.past import Past
from worker.sweep.states import mfa_devices, state_of, users_of
from worker.sweep.swept import MFA, PASSWORD_POLICY, PASSWORD_RESET, UNUSED_KEYS
from worker.sweep.wants import Choice, Passwords, Want, of_account, of_user

AWS_CALLS = ("iam:GetUser",)
"""Of those whom `--user` names."""

T = TypeVar("T")

AT_ONCE = 8
"""Users worked at the same time. Most of their time goes into waiting for the pace of calls."""
FRUITLESS = LEASE // LINGER + 2
"""Rounds in a row in which all was busy, after which it stays so: what somebody held who has died could be had by then."""
DONE = ("applied", "already-done")
RULE = "sweep"
"""The id of the rule that a task of a sweep names, for no finding asked for it."""
_ACTIONS = {action.name: action for action in ACTIONS}


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is wanted, what would be done about it, and at last what became of it."""

    want: Want
    errand: Errand
    prospect: Prospect
    ending: Ending | None = None

    @property
    def steps(self) -> Sequence[Step]:
        """What would be called."""
        return () if self.prospect.plan is None else self.prospect.plan.steps

    @property
    def done(self) -> bool:
        """Whether live state is as wanted now."""
        return self.ending is not None and self.ending.outcome in DONE


@dataclass(frozen=True, slots=True)
class Unread:
    """What could not be looked at: a user, or with None the account's policy, its users or all of it; `why` tells which."""

    account: str
    user: str | None
    why: str


@dataclass(slots=True)
class Survey:
    """What a sweep saw: rows by account, the account's own first, then by user; and how many users it looked at.

    `unchangeable` are the accounts that would be left with users who must choose a new password under a policy that does not let them.
    """

    rows: list[Row] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    users: int = 0
    unchangeable: list[str] = field(default_factory=list)

    @property
    def planned(self) -> list[Row]:
        """Those that would be done."""
        return [row for row in self.rows if row.prospect.verdict == "planned"]


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep. `run` is its id, `approver` the ARN of whoever asks for it; `expected` and `advanced` tell how much there is to do and that one is done."""

    means: Means
    limits: Limits
    choice: Choice
    run: str
    approver: str
    sentry: Sentry
    expected: Callable[[int], None] = lambda _: None
    advanced: Callable[[], None] = lambda: None
    past: Past = field(default_factory=Past)

    async def survey(self, accounts: Sequence[str], names: Sequence[str] = ()) -> Survey:
        """Look at all users of the accounts, or at those named and then not at the accounts' own policies. Raises `StoreError`."""
        survey = Survey()
        await self.past.read(self.means.store.journal())
        for account in accounts:
            try:
                await self._survey_account(survey, account, names)
            except FAILURES as error:
                survey.unread.append(Unread(account, None, reason(error)))
        return survey

    async def _survey_account(self, survey: Survey, account: str, names: Sequence[str]) -> None:
        own = await self.means.identity(account)
        passwords: Passwords | None = None
        changeable = True
        try:
            row = await self._row(of_account(account), own, self.means)
            # Also where a guard speaks against changing it.
            plan = row.prospect.plan or await row.errand.planned(Clients(self.means.accounts, account, self.past.lines, self.means.clock()))
            passwords = self.past.passwords(account, weak=isinstance(plan, Plan) and bool(plan.steps))
            changeable = isinstance(plan, Plan) and _may_change(plan)
            if row.prospect.verdict != "as-wanted" and PASSWORD_POLICY in self.choice.actions and not names:
                survey.rows.append(row)
        except FAILURES as error:
            if {PASSWORD_POLICY, PASSWORD_RESET} & self.choice.actions:
                survey.unread.append(Unread(account, None, f"the password policy: {reason(error)}"))
        if self.choice.actions <= {PASSWORD_POLICY}:
            return
        iam = await self.means.accounts.client("iam", account)
        users = await _named(iam, names, account, survey.unread) if names else await users_of(iam)
        self.expected(len(users))
        rows: dict[int, list[Row]] = {}

        async def look(number: int) -> None:
            name, arn = users[number]
            try:
                once: Any = Once(self.means.accounts)
                state = await state_of(await once.client("iam", account), account, name, arn)
                wanted = of_user(state, passwords, self.choice, self.means.clock())
                looking = replace(self.means, accounts=once)
                rows[number] = [await self._row(want, own, looking) for want in wanted]
            except FAILURES as error:
                if explain(error).kind != "gone":  # deleted since the list was made
                    survey.unread.append(Unread(account, name, reason(error)))
            self.advanced()

        await _each(range(len(users)), look)
        survey.users += len(users)
        seen = [row for number in sorted(rows) for row in rows[number] if row.prospect.verdict != "as-wanted"]
        survey.rows += seen
        if not changeable and any(row.want.action == PASSWORD_RESET and row.prospect.verdict == "planned" for row in seen):
            survey.unchangeable.append(account)

    async def _row(self, want: Want, own: Identity, looking: Means) -> Row:
        task = self._task(want)
        errand = Errand(self.means, self.limits, task, _planned(task, self.past), own, self.approver, self.sentry)
        return Row(want, errand, await replace(errand, means=looking).prospect())

    def _task(self, want: Want) -> TaskMessage:
        """As if a finding had asked for it, so that the journal tells of it and an undo reads it like any other."""
        target, now = want.target, self.means.clock()
        finding = stable_id("sweep", self.run, want.action, target.account, target.type, target.name)
        return TaskMessage(
            stable_id("task", finding, want.action, target.type, target.account, target.name),
            _ACTIONS[want.action],
            target,
            want.params,
            {
                "id": finding,
                "rule": {"id": RULE, "title": f"Sweep: {want.because}", "level": "medium"},
                "event": {
                    "id": self.run,
                    "name": "Sweep",
                    "source": "trailmend",
                    "time": now.isoformat(),
                    "region": None,
                    "account": target.account,
                    "error_code": None,
                },
                "actor": {"type": "Operator", "arn": self.approver, "name": None, "account": None},
                "subject": {"type": target.type, "name": target.name, "arn": target.arn},
            },
            now,
        )

    async def carry_out(self, survey: Survey, stop: asyncio.Event) -> list[Row]:
        """Do what is planned; each row with its ending. Once `stop` is set no further one is begun. Raises `StoreError` before anything is done.

        What is busy is tried again once the others are done: administrators of an account are acted on one after the other, half a minute apart.
        """
        await self.past.read(self.means.store.journal())
        rows = survey.planned
        self.expected(len(rows))
        endings: dict[str, Ending] = {}

        def busy(row: Row) -> bool:
            return endings[row.errand.task.id].outcome == "busy"

        async def work(some: Sequence[Row]) -> None:
            for row in some:
                endings[row.errand.task.id] = await self._done(row, stop, unraised)
                if not busy(row):
                    self.advanced()

        async def rounds(left: Sequence[Sequence[Row]]) -> None:
            fruitless = 0
            while True:
                await _each(left, work)
                again = [rows for some in left if (rows := [row for row in some if busy(row)])]
                fruitless = fruitless + 1 if sum(map(len, again)) == sum(map(len, left)) else 0
                left = again
                if not left or fruitless == FRUITLESS:
                    break
                await self._pause(stop)

        unraised: set[str] = set()
        policies = [row for row in rows if row.want.action == PASSWORD_POLICY]
        await rounds([policies])
        unraised |= {row.want.target.account for row in policies if endings[row.errand.task.id].outcome not in DONE}
        # A user's rows one after the other: two tasks on one target exclude each other.
        users: dict[Target, list[Row]] = {}
        for row in rows:
            if row.want.action != PASSWORD_POLICY:
                users.setdefault(row.want.target, []).append(row)
        await rounds(list(users.values()))
        return [replace(row, ending=endings[row.errand.task.id]) for row in rows]

    async def _pause(self, stop: asyncio.Event) -> None:
        """Until what lingers has ended, or the sweep is to stop."""
        waits = [asyncio.ensure_future(self.means.sleep(LINGER.total_seconds())), asyncio.create_task(stop.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()

    async def _done(self, row: Row, stop: asyncio.Event, unraised: Collection[str]) -> Ending:
        if stop.is_set():
            return Ending("left", "the sweep was stopped before it: run it again for the rest")
        if row.want.action == PASSWORD_RESET and row.want.target.account in unraised:
            return Ending("left", "the password policy was not raised, and a new password would fall under it as it is")
        if row.want.action == UNUSED_KEYS:
            # What is made inactive now has not been so for days, and its user's next row asks for that.
            task = row.errand.task
            body = {"task": task.as_dict(), "plan": [step.as_dict() for step in row.steps]}
            self.past.note(JournalEntry(task.id, self.means.clock(), "started", body))
        try:
            return await row.errand.carry_out(row.steps)
        except StoreError as error:
            # Without a store nothing may be done.
            stop.set()
            return Ending("failed", str(error))
        except FAILURES as error:
            return Ending("failed", reason(error))


def _may_change(plan: Plan) -> bool:
    """Whether the password policy lets users change their own passwords, and would still."""
    policy = plan.steps[0].parameters if plan.steps else plan.state["policy"]
    return bool(policy["AllowUsersToChangePassword"])


async def _named(iam: Any, names: Sequence[str], account: str, unread: list[Unread]) -> list[tuple[str, str]]:
    users: list[tuple[str, str]] = []
    for name in dict.fromkeys(names):
        try:
            arn = await owner_arn(iam, name)
        except FAILURES as error:
            unread.append(Unread(account, name, reason(error)))
            continue
        if isinstance(arn, Refusal):
            unread.append(Unread(account, name, arn.says))
        else:
            users.append((name, arn))
    return users


async def _each(things: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Work all of them, `AT_ONCE` at a time."""
    left = iter(things)

    async def hand() -> None:
        for one in left:
            await work(one)

    async with asyncio.TaskGroup() as hands:
        for _ in range(AT_ONCE):
            hands.create_task(hand())


def _planned(task: TaskMessage, past: Past) -> Callable[[Clients], Awaitable[Plan | Refusal]]:
    """The plan of the action; and what the sweep alone decides, asked again: that there is no MFA device yet."""

    async def planned(clients: Clients) -> Plan | Refusal:
        plan = await task.action.plan(task, replace(clients, journal=past.lines))
        if task.action.name == MFA and isinstance(plan, Plan) and plan.steps:
            devices = await mfa_devices(await clients.get("iam"), task.target.name)
            if devices:
                return Plan((), {**plan.state, "mfa_devices": devices}, plan.touches)
        return plan

    return planned
