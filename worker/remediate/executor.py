"""The executor: from a message on the task queue to a change in AWS that was guarded, verified and journaled.

    read -> guard -> claim -> plan from live state -> guard again -> journal the start -> take each step -> verify -> journal -> settle

What it promises, whatever stops it and wherever: a task has at most one effect, and no change is made that the journal does not tell of. A line
`started`, with the plan, is written before the first call, so a store that cannot be written stops the work while nothing has changed. A
task taken up again is planned again, and finds only what is still to do. The outcome is in the journal before the message is deleted.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from worker.aws import AccountClosedError, Accounts, explain
from worker.model import JournalEntry, Message, Verdict
from worker.observe.metrics import Metrics
from worker.remediate import guards
from worker.remediate.actions import ACTIONS
from worker.remediate.guards import Identity, Judgement, Limits, Stance
from worker.remediate.steps import Clients, Plan, Refusal, Step, take
from worker.remediate.tasks import TaskMessage, TaskReader, TaskRefusedError
from worker.settings import Mode, Settings
from worker.state.store import Claim, Store, StoreError

LEASE = timedelta(minutes=5)
"""Renewed before every call, and longer than a call with all its retries (4 times 35 s), so no two workers are ever both at work."""
BUSY_SECONDS = 60.0
SETTLING_WAITS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds between looks at what IAM and EC2 do not show everywhere at once."""


class _StoppedError(Exception):
    """The work cannot go on, for a reason that is ours and not a client's error."""


_FAILURES = (ClientError, BotoCoreError, AccountClosedError, OSError, TimeoutError, _StoppedError)


@dataclass(slots=True)
class _Work:
    """One task in hand: what holds its claims, and what has been done so far."""

    task: TaskMessage
    judgement: Judgement
    own: Identity
    claimant: str
    held: tuple[str, ...]
    plan: Plan | None = None
    request_ids: list[str | None] = field(default_factory=list)


class Executor:
    """Works task messages. One instance a process; `handle` may run any number of times at once."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], datetime],
        owner: str,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._mode = settings.remediation_mode
        self._limits = Limits(settings.remediation_mode, settings.exempt_principals, timedelta(seconds=settings.max_task_age_seconds))
        self._metrics = metrics
        self._clock = clock
        self._owner = owner
        self._sleep = sleep
        self._reader = TaskReader(ACTIONS)
        self._numbers = itertools.count()
        self._identities: dict[str, Identity] = {}

    async def handle(self, message: Message) -> Verdict:
        """Work a message to its end. Its verdict's reason, where it is left, is task-refused, busy, failed or store."""
        try:
            task = self._reader.read(message.body)
        except TaskRefusedError as refused:
            self._metrics.task_refused(refused.reason, message_id=message.id, detail=str(refused))
            return Verdict(delete=False, reason="task-refused")
        if self._mode is Mode.OFF:
            return self._ended(task, "off")
        try:
            return await self._claimed(task)
        except StoreError as error:
            # Nothing is given back: if a call is on its way to AWS, the lease keeps others off until it has landed.
            self._metrics.fault("remediate", "store", task_id=task.id, detail=str(error))
            return Verdict(delete=False, reason="store")

    async def _claimed(self, task: TaskMessage) -> Verdict:
        try:
            own = await self._identity(task.target.account)
        except _FAILURES as error:
            self._metrics.remediated(task.action.name, "failed", task_id=task.id, detail=explain(error).text)
            return Verdict(delete=False, reason="failed")
        now = self._clock()
        judgement = guards.judge(task.target, task.params, task.finding, task.created_at, now, own, self._limits)
        # Telling does not use up the right to act: a task that was shadowed may be sent again once the mode is auto.
        done, told = f"remediate:{task.id}", f"remediate:{task.id}:told"
        if await self._store.settled([done]):
            return self._ended(task, "duplicate")
        acting = judgement.stance is Stance.ACT
        key = done if acting else told
        # Claims are told apart by this delivery, not by the process: it may hold the same message twice.
        claimant = f"{self._owner}:{next(self._numbers)}"
        claim = await self._store.claim(key, claimant, now, LEASE)
        if claim is Claim.SETTLED:
            return self._ended(task, "duplicate")
        if claim is Claim.BUSY:
            return Verdict(delete=False, reason="busy", retry_after_seconds=BUSY_SECONDS)
        held: tuple[str, ...] = (key,)
        if acting:
            # Two findings may ask for two things of one target; each must see what the other did.
            lock = f"target:{task.target.account}:{task.target.type}:{task.target.name}"
            if await self._store.claim(lock, claimant, now, LEASE) is not Claim.WON:
                await self._store.release(key, claimant)
                return Verdict(delete=False, reason="busy", retry_after_seconds=BUSY_SECONDS)
            held = (key, lock)
        work = _Work(task, judgement, own, claimant, held)
        try:
            verdict = await self._worked(work)
        except _FAILURES as error:
            text = str(error) if isinstance(error, _StoppedError) else explain(error).text
            await self._journal(work, "failed", text)
            self._metrics.remediated(task.action.name, "failed", task_id=task.id, detail=text)
            verdict = Verdict(delete=False, reason="failed")
        for one in reversed(held):
            await self._store.release(one, claimant)
        return verdict

    async def _worked(self, work: _Work) -> Verdict:
        stopped = await self._stopped_by(work, work.judgement)
        if stopped is not None:
            return stopped
        clients = Clients(self._accounts, work.task.target.account)
        plan = await work.task.action.plan(work.task, clients)
        if isinstance(plan, Refusal):
            return await self._settled(work, "refused", f"{plan.reason}: {plan.says}", before=plan.state)
        work.plan = plan
        stopped = await self._stopped_by(work, guards.judge_touched(plan.touches, work.own, self._limits))
        if stopped is not None:
            return stopped
        if not plan.steps:
            return await self._settled(work, "already-done", None, after=plan.state)
        if work.judgement.stance is Stance.TELL:
            return await self._settled(work, "shadowed", f"{work.judgement.reason}: {work.judgement.says}")
        await self._journal(work, "started", None)
        for step in plan.steps:
            work.request_ids.append(await self._taken(work, step, clients))
        after = await self._verified(work, clients)
        return await self._settled(work, "applied", None, after=after)

    async def _stopped_by(self, work: _Work, judgement: Judgement | None) -> Verdict | None:
        outcomes = {Stance.REFUSE: "refused", Stance.EXEMPT: "exempt"}
        outcome = None if judgement is None else outcomes.get(judgement.stance)
        if judgement is None or outcome is None:
            return None
        return await self._settled(work, outcome, f"{judgement.reason}: {judgement.says}")

    async def _taken(self, work: _Work, step: Step, clients: Clients) -> str | None:
        for wait in (*SETTLING_WAITS, None):
            await self._renew(work)
            try:
                return await take(step, clients)
            except ClientError as error:
                if wait is None or explain(error).code not in step.settling:
                    raise
            await self._sleep(wait)
        raise AssertionError("the last try either answers or raises")

    async def _verified(self, work: _Work, clients: Clients) -> Mapping[str, Any]:
        left: Sequence[str] = ()
        for wait in (*SETTLING_WAITS, None):
            await self._renew(work)
            again = await work.task.action.plan(work.task, clients)
            if isinstance(again, Plan) and not again.steps:
                return again.state
            left = [again.says] if isinstance(again, Refusal) else [step.says for step in again.steps]
            if wait is not None:
                await self._sleep(wait)
        raise _StoppedError(f"not verified: reading back still shows {'; '.join(left[:5])}")

    async def _renew(self, work: _Work) -> None:
        for key in work.held:
            if await self._store.claim(key, work.claimant, self._clock(), LEASE) is not Claim.WON:
                raise _StoppedError("another worker has taken the task over, because our lease ended")

    async def _settled(
        self, work: _Work, outcome: str, reason: str | None, before: Mapping[str, Any] | None = None, after: Mapping[str, Any] | None = None
    ) -> Verdict:
        await self._journal(work, outcome, reason, before, after)
        await self._store.settle([work.held[0]], work.claimant, self._clock())
        return self._ended(work.task, outcome, reason)

    async def _journal(
        self, work: _Work, outcome: str, reason: str | None, before: Mapping[str, Any] | None = None, after: Mapping[str, Any] | None = None
    ) -> None:
        body = {
            "task": work.task.as_dict(),
            "mode": self._mode.value,
            "reason": reason,
            "plan": None if work.plan is None else [step.as_dict() for step in work.plan.steps],
            "before": before if work.plan is None else work.plan.state,
            "after": after,
            "request_ids": list(work.request_ids),
            "executor": {"arn": work.own.arn, "account": work.own.account, "owner": work.claimant},
        }
        await self._store.append(JournalEntry(work.task.id, self._clock(), outcome, body))

    def _ended(self, task: TaskMessage, outcome: str, reason: str | None = None) -> Verdict:
        self._metrics.remediated(task.action.name, outcome, task_id=task.id, target=task.target.name, detail=reason)
        return Verdict(delete=True)

    async def _identity(self, account: str) -> Identity:
        if account not in self._identities:
            sts = await self._accounts.client("sts", account)
            self._identities[account] = guards.identity(str((await sts.get_caller_identity())["Arn"]))
        return self._identities[account]
