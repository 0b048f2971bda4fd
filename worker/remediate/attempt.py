"""One attempt at a change: its steps are taken under claims, read back, and told in the journal.

An executor makes attempts at tasks, and an undo at taking one back. What an attempt promises, whatever stops it and wherever: it makes no call
without holding its claims, and none that a line in the journal, with the whole plan, was not written before; nor one whose record in CloudTrail
would not be known for ours (`model/own_call.py`).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from worker.aws import AccountClosedError, Accounts, explain, request_id
from worker.model import Expectation, Intention, JournalEntry, awaited_key, call_key
from worker.modes import Mode, Modes
from worker.remediate import guards
from worker.remediate.guards import Identity
from worker.remediate.halt import Halt
from worker.remediate.steps import Clients, Plan, Refusal, Step, take
from worker.remediate.tasks import TaskMessage
from worker.settings import Settings
from worker.state.store import Claim, Store

AWS_CALLS = ("sts:GetCallerIdentity",)

LEASE = timedelta(minutes=5)
"""Renewed before every call, and longer than a call with all its tries (5 times 35 s, and pauses), so no two workers are ever both at work."""
LINGER = timedelta(seconds=30)
"""How long after a change a claim that lingers still holds: what the next one to win it looks at must show the change."""
SETTLING_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between looks at what IAM and EC2 do not show everywhere at once."""


class StoppedError(Exception):
    """The work cannot go on, for a reason that is ours and not a client's error."""


class HaltedError(StoppedError):
    """The global stop is on. The text says which switch it is."""


class BusyError(StoppedError):
    """Somebody else is at work on what must be done one by one."""


FAILURES = (ClientError, BotoCoreError, AccountClosedError, OSError, TimeoutError, StoppedError)
"""What ends an attempt as failed."""


def reason(error: BaseException) -> str:
    """One of `FAILURES` in words."""
    return str(error) if isinstance(error, StoppedError) else explain(error).text


@dataclass(frozen=True, slots=True)
class Means:
    """What attempts are made with. `modes` are those of tasks that nobody asked for by hand; `owner` names the process.

    `halt` is asked before every call that changes something; within `confirming` CloudTrail is to tell of each (0: that is not asked).
    """

    store: Store
    accounts: Accounts
    modes: Modes
    clock: Callable[[], datetime]
    owner: str
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    halt: Halt = field(kw_only=True)
    confirming: timedelta = field(default=timedelta(hours=1), kw_only=True)
    secret: Callable[[int], str] = field(default=secrets.token_hex, kw_only=True)

    @classmethod
    def of(
        cls,
        settings: Settings,
        store: Store,
        accounts: Accounts,
        clock: Callable[[], datetime],
        owner: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> Self:
        """What the settings say that they are."""
        confirming = timedelta(seconds=settings.confirm_seconds)
        return cls(store, accounts, settings.modes, clock, owner, sleep, halt=Halt(settings, accounts, clock), confirming=confirming)

    async def identity(self, account: str | None) -> Identity:
        """Who we are in an account, None being our own. Raises one of `FAILURES`."""
        found = guards.identity(await self._arn(account))
        base = found if account is None else guards.identity(await self._arn(None))
        # Where our own account is entered by a role, we are both in it.
        return found if base == found or base.account != found.account else replace(found, base=(base.kind, base.name))

    async def _arn(self, account: str | None) -> str:
        sts = await self.accounts.client("sts", account)
        return str((await sts.get_caller_identity())["Arn"])


@dataclass(slots=True)
class Attempt:
    """An attempt in hand: what holds its claims, what is planned, and what has been done so far.

    `approver` is who said yes to it: an ARN, or several with why. `lingering` are those of its claims that hold on for a while after a change.
    """

    means: Means
    task: TaskMessage
    planned: Callable[[Clients], Awaitable[Plan | Refusal]]
    own: Identity
    claimant: str
    held: tuple[str, ...] = ()
    lingering: tuple[str, ...] = ()
    approver: str | tuple[Mapping[str, str], ...] | None = None
    plan: Plan | None = None
    request_ids: list[str | None] = field(default_factory=list)
    refused: str | None = None

    @property
    def mode(self) -> Mode:
        """The mode that holds for the task."""
        return self.means.modes.of(self.task.action.name, self.task.target.account)

    async def claim(self, *keys: str) -> Claim:
        """Claim all of the keys, in their order, or none; `refused` is then the one that was not to be had."""
        for number, key in enumerate(keys):
            answer = await self.means.store.claim(key, self.claimant, self.means.clock(), LEASE)
            if answer is not Claim.WON:
                for won in reversed(keys[:number]):
                    await self.means.store.release(won, self.claimant)
                self.refused = key
                return answer
        self.held = keys
        return Claim.WON

    async def hold_too(self, key: str) -> None:
        """Claim one more key, which lingers: for what may be done to one after the other only. Raises `BusyError` where another has it."""
        if key in self.held:
            return
        if await self.means.store.claim(key, self.claimant, self.means.clock(), LEASE) is not Claim.WON:
            raise BusyError(f"another worker has {key}, or had it within {LINGER.total_seconds():g} s: try again")
        self.held, self.lingering = (*self.held, key), (*self.lingering, key)

    async def release(self) -> None:
        """Give back what is claimed and not settled."""
        for key in reversed(self.held):
            if key in self.lingering and self.request_ids:
                await self.means.store.claim(key, self.claimant, self.means.clock(), LINGER)
            else:
                await self.means.store.release(key, self.claimant)

    @property
    def clients(self) -> Clients:
        """What may be asked now."""
        return Clients(self.means.accounts, self.task.target.account, self.means.store.journal, self.means.clock())

    async def look(self) -> Plan | Refusal:
        """What is to be done, from live state."""
        found = await self.planned(self.clients)
        if self.plan is None and isinstance(found, Plan):
            self.plan = found
        return found

    async def carry_out(self, plan: Plan) -> Mapping[str, Any]:
        """Take the steps and read back; answers the state after. Raises one of `FAILURES`, before a step `HaltedError` where there is a stop."""
        for step in plan.steps:
            if step.irreversible:
                # Live state may have moved since the plan was made, and this is the last moment to see it.
                self._hold_to(step, await self.look())
            await self.call(step)
        return await self._verified()

    async def call(self, step: Step) -> Mapping[str, Any]:
        """Take one step; answers what AWS does. Raises as `carry_out` does."""
        for wait in (*SETTLING_WAITS, None):
            try:
                answer = await self._called(step)
            except ClientError as error:
                if wait is None or explain(error).code not in step.settling:
                    raise
                await self.means.sleep(wait)
            else:
                self.request_ids.append(request_id(answer))
                return answer
        raise AssertionError("the last try either answers or raises")

    def _hold_to(self, step: Step, again: Plan | Refusal) -> None:
        if isinstance(again, Refusal) or step.parameters not in [one.parameters for one in again.steps]:
            raise StoppedError(f"live state no longer asks for it: {step.says}")

    async def _called(self, step: Step) -> Mapping[str, Any]:
        means, task = self.means, self.task
        now, account = means.clock(), task.target.account
        intention = Intention.of(task.action.name, task.id, means.secret(16), now, account, step.service, step.api, step.parameters)
        await means.store.settle([intention.key], self.claimant, now)
        # Right before the call, for the store may have taken its time.
        await self._renew()
        halted = await means.halt.reason()
        if halted is not None:
            raise HaltedError(halted)
        tries: list[str | None] = []
        try:
            answer = await take(step, self.clients, intention.agent, tries)
        except ClientError as error:
            await self._note(intention, request_id(error.response), tries, refused=True)
            raise
        except BotoCoreError:
            await self._note(intention, None, [*tries, None], refused=True)
            raise
        await self._note(intention, request_id(answer), tries, refused=False)
        return answer

    async def _note(self, intention: Intention, answered: str | None, tries: Sequence[str | None], *, refused: bool) -> None:
        """Write down the request ids of a call and of its tries before. A try that got no answer has one too, and is then known by the intention alone."""
        means, now = self.means, self.means.clock()
        known = dict.fromkeys(one for one in (*tries, answered) if one is not None)
        spent = [call_key(one) for one in known if one != answered]
        if answered is not None and None not in tries:
            spent.append(intention.spent)
        # CloudTrail tells of a refused call too, but not of each: of one that was throttled it may not.
        if answered is not None and means.confirming and not refused:
            told = (answered, self.task.id, self.task.action.name, intention.account, intention.api)
            await means.store.expect(
                Expectation(*told, due_at=now + means.confirming), self.claimant, now, spent=[*spent, awaited_key(answered)]
            )
        elif known:
            await means.store.settle([*map(call_key, known), *spent], self.claimant, now)

    async def _verified(self) -> Mapping[str, Any]:
        left: Sequence[str] = ()
        for wait in (*SETTLING_WAITS, None):
            await self._renew()
            again = await self.look()
            if isinstance(again, Plan) and not again.steps:
                return again.state
            left = [again.says] if isinstance(again, Refusal) else [step.says for step in again.steps]
            if wait is not None:
                await self.means.sleep(wait)
        raise StoppedError(f"not verified: reading back still shows {'; '.join(left[:5])}")

    async def _renew(self) -> None:
        for key in self.held:
            if await self.means.store.claim(key, self.claimant, self.means.clock(), LEASE) is not Claim.WON:
                raise StoppedError("another worker has taken the task over, because our lease ended")

    async def begin(self) -> None:
        """Journal the start: from now on the task counts as begun, whatever becomes of it."""
        await self.journal("started", None)
        await self.settle(self.task.begun)

    async def left(self) -> Mapping[str, Any] | None:
        """The state that an attempt left that did not come to its end; None where it cannot be seen."""
        try:
            return (await self.look()).state
        except FAILURES:
            return None

    async def settle(self, key: str) -> None:
        """Mark what `key` stands for as done for good."""
        await self.means.store.settle([key], self.claimant, self.means.clock())

    async def journal(
        self, outcome: str, reason: str | None, before: Mapping[str, Any] | None = None, after: Mapping[str, Any] | None = None
    ) -> None:
        """Append a line. `before` is the state where there is no plan to tell it."""
        body = {
            "task": self.task.as_dict(),
            "mode": self.mode.value,
            "reason": reason,
            "plan": None if self.plan is None else [step.as_dict() for step in self.plan.steps],
            "effects": [] if self.plan is None else list(self.plan.effects),
            "before": before if self.plan is None else self.plan.state,
            "after": after,
            "request_ids": list(self.request_ids),
            "executor": {"arn": self.own.arn, "account": self.own.account, "owner": self.claimant},
            "approver": list(self.approver) if isinstance(self.approver, tuple) else self.approver,
        }
        await self.means.store.append(JournalEntry(self.task.id, self.means.clock(), outcome, body))
