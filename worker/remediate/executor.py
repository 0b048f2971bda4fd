"""The executor: from a message on the task queue to a change in AWS that was guarded, verified and journaled.

    read -> guard -> claim -> plan from live state -> guard again -> journal the start -> take each step -> verify -> journal -> settle

A message that is no task goes to the quarantine. While there is a stop, nothing is done at all, not even that.

What it promises, whatever stops it and wherever: a task has at most one effect, and no change is made that the journal does not tell of. A line
`started`, with the plan, is written before the first call, so a store that cannot be written stops the work while nothing has changed. A
task taken up again is planned again, and finds only what is still to do. The outcome is in the journal before the message is deleted.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker.aws import Accounts
from worker.model import Message, Verdict
from worker.modes import Mode
from worker.observe.metrics import Metrics
from worker.remediate import guards, support
from worker.remediate.actions import ACTIONS
from worker.remediate.attempt import FAILURES, Attempt, BusyError, HaltedError, Means, reason
from worker.remediate.guards import Identity, Judgement, Limits, Stance
from worker.remediate.halt import Halt
from worker.remediate.quarantine import Quarantine
from worker.remediate.sentry import Sentry
from worker.remediate.steps import Refusal
from worker.remediate.tasks import TaskMessage, TaskReader, TaskRefusedError
from worker.settings import Settings
from worker.state.store import Claim, Store, StoreError

BUSY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Work:
    """One task in hand. Telling does not use up the right to act, so what was told is settled under a key of its own."""

    attempt: Attempt
    judgement: Judgement
    done: str
    told: str


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
        *,
        quarantine: Quarantine | None = None,
    ) -> None:
        self._means = Means(store, accounts, settings.remediation_mode, clock, owner, sleep, halt=Halt(settings, accounts, clock))
        self._limits = Limits.of(settings)
        self._sentry = Sentry(self._limits)
        self._metrics = metrics
        self._quarantine = quarantine
        self._reader = TaskReader(ACTIONS, settings.task_keys)
        self._numbers = itertools.count()
        self._identities: dict[str, Identity] = {}

    async def handle(self, message: Message) -> Verdict:
        """Work a message to its end. Its verdict's reason, where it is left, is task-refused, busy, stopped, failed or store."""
        if await self.halted() is not None:
            return Verdict(delete=False, reason="stopped", retry_after_seconds=BUSY_SECONDS)
        task: TaskMessage | None = None
        try:
            task = await self._received(message)
            if self._means.mode is Mode.OFF:
                return self._ended(task, "off")
            return await self._claimed(task)
        except TaskRefusedError as refused:
            return await self._refused(message, refused)
        except StoreError as error:
            # Nothing is given back: if a call is on its way to AWS, the lease keeps others off until it has landed.
            self._metrics.fault("remediate", "store", task_id=None if task is None else task.id, detail=str(error))
            return Verdict(delete=False, reason="store")

    async def halted(self) -> str | None:
        """Why nothing is worked just now, or None. Does not raise."""
        why = await self._means.halt.reason()
        self._metrics.remediation_stopped(why)
        return why

    async def _received(self, message: Message) -> TaskMessage:
        task = self._reader.receive(message.body)
        if task.action.name in support.HOLDING:
            memory = await self._means.store.recall(task.target.account, task.target.name)
            strange = support.remembered(task.action.name, task.target, task.params, memory)
            if strange is not None:
                raise TaskRefusedError("role-not-remembered", strange)
        return task

    async def _refused(self, message: Message, refused: TaskRefusedError) -> Verdict:
        self._metrics.task_refused(refused.reason, message_id=message.id, detail=str(refused))
        why = "there is none" if self._quarantine is None else await self._quarantine.put(message, refused.reason, str(refused))
        self._metrics.task_quarantined(why, message_id=message.id)
        return Verdict(delete=True) if why is None else Verdict(delete=False, reason="task-refused")

    async def _claimed(self, task: TaskMessage) -> Verdict:
        try:
            own = await self._identity(task.target.account)
        except FAILURES as error:
            self._metrics.remediated(task.action.name, "failed", task_id=task.id, detail=reason(error))
            return Verdict(delete=False, reason="failed")
        now = self._means.clock()
        judgement = guards.judge(task.target, task.params, task.finding, task.created_at, now, own, self._limits, task.happened_at)
        # Claims are told apart by this delivery, not by the process: it may hold the same message twice.
        claimant = f"{self._means.owner}:{next(self._numbers)}"
        attempt = Attempt(self._means, task, lambda clients: task.action.plan(task, clients), own, claimant)
        work = _Work(attempt, judgement, task.claim, f"{task.claim}:told")
        if await self._means.store.settled([work.done]):
            return self._ended(task, "duplicate")
        # Two findings may ask for two things of one target; each must see what the other did.
        keys = (work.done, task.lock) if judgement.stance is Stance.ACT else (work.told,)
        claim = await attempt.claim(*keys)
        if claim is Claim.SETTLED:
            return self._ended(task, "duplicate")
        if claim is Claim.BUSY:
            return Verdict(delete=False, reason="busy", retry_after_seconds=BUSY_SECONDS)
        try:
            verdict = await self._worked(work)
        except BusyError:
            verdict = Verdict(delete=False, reason="busy", retry_after_seconds=BUSY_SECONDS)
        except FAILURES as error:
            outcome = "stopped" if isinstance(error, HaltedError) else "failed"
            await attempt.journal(outcome, reason(error))
            self._metrics.remediated(task.action.name, outcome, task_id=task.id, detail=reason(error))
            verdict = Verdict(delete=False, reason=outcome)
        await attempt.release()
        return verdict

    async def _worked(self, work: _Work) -> Verdict:
        attempt = work.attempt
        if work.judgement.stance in (Stance.REFUSE, Stance.EXEMPT):
            return await self._held(work, work.judgement)
        plan = await attempt.look()
        if isinstance(plan, Refusal):
            return await self._settled(work, "refused", f"{plan.reason}: {plan.says}", before=plan.state)
        touched = guards.judge_touched(plan.touches, attempt.own, self._limits)
        if touched is not None:
            return await self._held(work, touched)
        if not plan.steps:
            return await self._settled(work, "already-done", None, after=plan.state)
        live = await self._sentry.judge(attempt, plan, acting=work.judgement.stance is Stance.ACT)
        if live is not None:
            return await self._held(work, live)
        if work.judgement.stance is Stance.TELL:
            return await self._held(work, work.judgement)
        lost = guards.judge_loss(self._limits) if plan.irreversible else None
        if lost is not None:
            return await self._held(work, lost)
        await attempt.journal("started", None)
        after = await attempt.carry_out(plan)
        return await self._settled(work, "applied", None, after=after)

    async def _held(self, work: _Work, judgement: Judgement) -> Verdict:
        outcome = {Stance.REFUSE: "refused", Stance.EXEMPT: "exempt"}.get(judgement.stance, "shadowed")
        if outcome == "shadowed" and await self._means.store.settled([work.told]):
            return self._ended(work.attempt.task, "duplicate")
        return await self._settled(work, outcome, f"{judgement.reason}: {judgement.says}")

    async def _settled(
        self, work: _Work, outcome: str, reason: str | None, before: Mapping[str, Any] | None = None, after: Mapping[str, Any] | None = None
    ) -> Verdict:
        await work.attempt.journal(outcome, reason, before, after)
        await work.attempt.settle(work.told if outcome == "shadowed" else work.attempt.held[0])
        return self._ended(work.attempt.task, outcome, reason)

    def _ended(self, task: TaskMessage, outcome: str, reason: str | None = None) -> Verdict:
        self._metrics.remediated(task.action.name, outcome, task_id=task.id, target=task.target.name, detail=reason)
        return Verdict(delete=True)

    async def _identity(self, account: str) -> Identity:
        if account not in self._identities:
            self._identities[account] = await self._means.identity(account)
        return self._identities[account]
