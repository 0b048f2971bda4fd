"""The executor: from a message on the task queue to a change in AWS that was guarded, verified and journaled.

    read -> guard -> claim -> plan from live state -> guard again -> journal the start -> take each step -> verify -> journal -> settle

A message that is no task goes to the quarantine. While there is a stop, nothing is done at all, not even that.

What it promises, whatever stops it and wherever: a task has at most one effect, and no change is made that the journal does not tell of. A line
`started`, with the plan, is written before the first call, so a store that cannot be written stops the work while nothing has changed. A
task taken up again is planned again, and finds only what is still to do. The outcome is in the journal before the message is deleted.

In mode approve, and where the breaker has tripped, people are asked before the start is journaled: the whole task then stands in the store as an
approval, and the message is deleted. What they agreed to goes the same way once more, all guards and a plan from live state included; where that has
a step that nobody was shown, they are asked again.
"""

from __future__ import annotations

import asyncio
import itertools
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from worker.aws import Accounts
from worker.model import Approval, Message, Verdict
from worker.modes import Mode
from worker.observe.metrics import Metrics
from worker.remediate import approvals, guards, support
from worker.remediate.actions import ACTIONS
from worker.remediate.attempt import FAILURES, LEASE, Attempt, BusyError, HaltedError, Means, reason
from worker.remediate.breaker import Breaker
from worker.remediate.guards import Identity, Judgement, Limits, Stance
from worker.remediate.quarantine import Quarantine
from worker.remediate.sentry import Sentry
from worker.remediate.steps import Plan, Refusal
from worker.remediate.tasks import TaskMessage, TaskReader, TaskRefusedError
from worker.settings import Settings
from worker.state.store import Claim, Store, StoreError

BUSY_SECONDS = 60.0
DIED_SECONDS = LEASE.total_seconds() + 30
"""After so long the claims of a process that died are free."""


@dataclass(frozen=True, slots=True)
class _Work:
    """One task in hand. Telling does not use up the right to act, so what was told is settled under a key of its own.

    `agreed` is what people have said yes to, if they were asked; `begun` says that some of its calls may have been made before.
    """

    attempt: Attempt
    judgement: Judgement
    done: str
    told: str
    agreed: Approval | None = None
    begun: bool = False


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
        self._means = Means.of(settings, store, accounts, clock, owner, sleep)
        self._limits = Limits.of(settings)
        self._sentry = Sentry(self._limits)
        self._breaker = Breaker(store, settings.breaker_limit)
        self._time_limit = timedelta(seconds=settings.approval_seconds)
        self._two_approvers = settings.two_approvers
        self._metrics = metrics
        self._quarantine = quarantine
        self._reader = TaskReader(ACTIONS, settings.task_keys)
        self._numbers = itertools.count()
        self._identities: dict[str | None, Identity] = {}

    async def handle(self, message: Message) -> Verdict:
        """Work a message to its end. Its verdict's reason, where it is left, is task-refused, busy, stopped, failed or store."""
        if await self.halted() is not None:
            return Verdict(delete=False, reason="stopped", retry_after_seconds=BUSY_SECONDS)
        return await self._within_store(None, lambda: self._handled(message))

    async def _handled(self, message: Message) -> Verdict:
        try:
            task = await self._received(message)
        except TaskRefusedError as refused:
            return await self._refused(message, refused)
        if self._means.modes.of(task.action.name, task.target.account) is Mode.OFF:
            # One that died half way is left for the day when it may be brought to its end.
            half_done = await self._means.store.settled([task.claim, task.begun]) == {task.begun}
            return Verdict(delete=False, reason="off") if half_done else self._ended(task, "off")
        return await self._within_store(task, lambda: self._claimed(task, None, message.receives))

    async def carry_out(self, approval: Approval) -> Verdict:
        """Work what people have agreed to. Reasons where it was not brought to an end are those of `handle`, and off."""
        if await self.halted() is not None:
            return Verdict(delete=False, reason="stopped")
        return await self._taken_up(approval, "approved", lambda task: self._claimed(task, approval))

    async def close(self, approval: Approval, outcome: str) -> Verdict:
        """Journal that what waits was rejected or has expired, for good. Reasons as of `carry_out`."""
        return await self._taken_up(approval, outcome, lambda task: self._closed(approval, task, outcome))

    async def _taken_up(self, approval: Approval, outcome: str, work: Callable[[TaskMessage], Awaitable[Verdict]]) -> Verdict:
        try:
            task = self._reader.take_up(approval.task)
        except TaskRefusedError as refused:
            self._metrics.task_refused(refused.reason, task_id=approval.id, detail=str(refused))
            if outcome != "approved":
                # Of another version, or written by somebody else: no line of a task can be made of it.
                await self._means.store.withdraw(approval)
            return Verdict(delete=False, reason="task-refused")
        if self._means.modes.of(task.action.name, task.target.account) is Mode.OFF:
            return Verdict(delete=False, reason="off")

        async def finished() -> Verdict:
            verdict = await work(task)
            # Also where another executor settled it, and died before it could take it away.
            if await self._means.store.settled([task.claim]):
                await self._means.store.withdraw(approval)
                self._metrics.approvals.ended(outcome, task_id=task.id, action=task.action.name)
            return verdict

        return await self._within_store(task, finished)

    async def _within_store(self, task: TaskMessage | None, work: Callable[[], Awaitable[Verdict]]) -> Verdict:
        try:
            return await work()
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

    async def _claimed(self, task: TaskMessage, agreed: Approval | None, receives: int = 1) -> Verdict:
        try:
            own = await self._identity(task.target.account)
        except FAILURES as error:
            self._metrics.remediated(task.action.name, "failed", task_id=task.id, detail=reason(error))
            return Verdict(delete=False, reason="failed")
        known = await self._means.store.settled([task.claim, task.begun])
        # What people have agreed to does not age as a task on a queue does, for the approval has a time limit of its own; and what was begun is
        # to be brought to its end, however late.
        now, begun = self._means.clock(), task.begun in known
        mode, made, happened = self._means.modes.of(task.action.name, task.target.account), task.created_at, task.happened_at
        if agreed is not None:
            mode = Mode.AUTO
        if agreed is not None or begun:
            made, happened = now, None
        judgement = guards.judge(task.target, task.params, task.finding, made, now, own, self._limits.under(mode), happened)
        attempt = self._attempt(task, own, agreed)
        work = _Work(attempt, judgement, task.claim, f"{task.claim}:told", agreed, begun)
        if task.claim in known:
            return self._ended(task, "duplicate")
        # Two findings may ask for two things of one target; each must see what the other did.
        keys = {Stance.ACT: (work.done, task.lock), Stance.ASK: (work.done,)}.get(judgement.stance, (work.told,))
        keys = keys if agreed is None else (work.done, task.lock)
        claim = await attempt.claim(*keys)
        if claim is Claim.SETTLED:
            return self._ended(task, "duplicate")
        if claim is Claim.BUSY:
            return _busy(task, receives, died=attempt.refused == work.done)
        verdict = await self._brought_to_an_end(work, receives)
        await attempt.release()
        return verdict

    async def _brought_to_an_end(self, work: _Work, receives: int) -> Verdict:
        attempt, task = work.attempt, work.attempt.task
        try:
            return await self._waits_otherwise(task, work.agreed) or await self._worked(work)
        except BusyError:
            return _busy(task, receives, died=False)
        except FAILURES as error:
            outcome = "stopped" if isinstance(error, HaltedError) else "failed"
            await attempt.journal(outcome, reason(error), after=await attempt.left())
            self._metrics.remediated(task.action.name, outcome, task_id=task.id, detail=reason(error))
            return Verdict(delete=False, reason=outcome)
        except StoreError:
            raise
        except Exception as error:
            # A defect of ours, or an answer that nobody has thought of: the journal tells how it ended, and the service counts it.
            await attempt.journal("failed", f"{type(error).__name__}: {error}")
            await attempt.release()
            raise

    async def _waits_otherwise(self, task: TaskMessage, agreed: Approval | None) -> Verdict | None:
        """What becomes of a task that waits for people already, or of what they agreed to where that is not how it waits any more."""
        waiting = await self._means.store.approval(task.id)
        if waiting == agreed:
            return None
        # Somebody has answered it or asked it again since it was looked at: it is to be looked at once more.
        return self._ended(task, "duplicate") if agreed is None else Verdict(delete=False, reason="busy")

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
        verdict = await self._put_to_people(work, plan)
        if verdict is not None:
            return verdict
        await attempt.begin()
        after = await attempt.carry_out(plan)
        return await self._settled(work, "applied", None, after=after)

    async def _put_to_people(self, work: _Work, plan: Plan) -> Verdict | None:
        """What keeps the executor from acting by itself, or goes beyond what was agreed to; None where it may act."""
        task = work.attempt.task
        if work.agreed is not None:
            unseen = [step.says for step in plan.steps if not step.is_among(work.agreed.steps)]
            if unseen:
                return await self._asked(work, plan, f"live state asks for more than was shown: {'; '.join(unseen)}")
            # A no may have been given while it was planned, and this is the last moment to heed it.
            return await self._waits_otherwise(task, work.agreed)
        if work.judgement.stance is Stance.ASK:
            return await self._asked(work, plan, f"{work.judgement.reason}: {work.judgement.says}")
        lost = guards.judge_loss(self._limits) if plan.irreversible else None
        if lost is not None:
            return await self._held(work, lost)
        if not await self._breaker.admits(task, self._means.clock()):
            self._metrics.approvals.breaker_tripped(task.action.name, task_id=task.id, account=task.target.account)
            return await self._asked(work, plan, f"breaker: {self._breaker.says}")
        return None

    async def _asked(self, work: _Work, plan: Plan, why: str) -> Verdict:
        """Have the task wait for people. Journaled first: what waits and no line tells of would be asked about in vain."""
        task, now = work.attempt.task, self._means.clock()
        answered = await self._waits_otherwise(task, work.agreed)
        if answered is not None:
            return answered
        needed = 2 if any(scope.covers(task.action.name, task.target.account) for scope in self._two_approvers) else 1
        executors = ((await self._identity(None)).arn, work.attempt.own.arn)
        steps = tuple(step.as_dict() for step in plan.steps)
        approval = Approval(
            task.as_dict(), now, now + self._time_limit, needed, steps, plan.effects, task.action.undoing, tuple(dict.fromkeys(executors))
        )
        outcome = "waiting" if work.agreed is None else "asked-again"
        await work.attempt.journal(outcome, why)
        await self._means.store.ask(approval, work.agreed)
        self._metrics.approvals.asked(outcome, task_id=task.id, action=task.action.name)
        return self._ended(task, outcome, why)

    async def _closed(self, approval: Approval, task: TaskMessage, outcome: str) -> Verdict:
        try:
            attempt = self._attempt(task, await self._identity(None), approval)
        except FAILURES as error:
            self._metrics.remediated(task.action.name, "failed", task_id=task.id, detail=reason(error))
            return Verdict(delete=False, reason="failed")
        claim = await attempt.claim(task.claim)
        if claim is Claim.BUSY:
            return Verdict(delete=False, reason="busy")
        if claim is Claim.SETTLED:
            return self._ended(task, "duplicate")
        verdict = await self._waits_otherwise(task, approval)
        if verdict is not None:
            await attempt.release()
            return verdict
        # A try may have died half way: with the state that it left, what it did can be undone. Of all others nothing is asked.
        left: Mapping[str, Any] | None = None
        try:
            if await self._means.store.settled([task.begun]):
                left = (await attempt.look()).state
        except FAILURES as error:
            # Told later rather than without that state, for what is settled is told no more.
            self._metrics.remediated(task.action.name, "failed", task_id=task.id, detail=reason(error))
            await attempt.release()
            return Verdict(delete=False, reason="failed")
        await attempt.journal(outcome, None, after=left)
        await attempt.settle(task.claim)
        return self._ended(task, outcome)

    def _attempt(self, task: TaskMessage, own: Identity, agreed: Approval | None) -> Attempt:
        # Claims are told apart by this delivery, not by the process: it may hold the same message twice.
        claimant = f"{self._means.owner}:{next(self._numbers)}"
        people = None if agreed is None else approvals.people(agreed.decisions)
        return Attempt(self._means, task, lambda clients: task.action.plan(task, clients), own, claimant, approver=people)

    async def _held(self, work: _Work, judgement: Judgement) -> Verdict:
        outcome = {Stance.REFUSE: "refused", Stance.EXEMPT: "exempt"}.get(judgement.stance, "shadowed")
        if outcome == "shadowed" and await self._means.store.settled([work.told]):
            return self._ended(work.attempt.task, "duplicate")
        return await self._settled(work, outcome, f"{judgement.reason}: {judgement.says}")

    async def _settled(
        self, work: _Work, outcome: str, reason: str | None, before: Mapping[str, Any] | None = None, after: Mapping[str, Any] | None = None
    ) -> Verdict:
        if work.begun and after is None:
            # With the state that it left, what was done of it can be undone.
            after = (await work.attempt.look()).state
        await work.attempt.journal(outcome, reason, before, after)
        await work.attempt.settle(work.told if outcome == "shadowed" else work.attempt.held[0])
        return self._ended(work.attempt.task, outcome, reason)

    def _ended(self, task: TaskMessage, outcome: str, reason: str | None = None) -> Verdict:
        self._metrics.remediated(task.action.name, outcome, task_id=task.id, target=task.target.name, detail=reason)
        return Verdict(delete=True)

    async def _identity(self, account: str | None) -> Identity:
        if account not in self._identities:
            self._identities[account] = await self._means.identity(account)
        return self._identities[account]


def _busy(task: TaskMessage, receives: int, *, died: bool) -> Verdict:
    """To be received again when its claims may be free; `died` is for a task that somebody is at work on, or died at.

    A queue allows few receives. Of many that want one thing in turn each waits longer every time, and not all equally long.
    """
    spread = 1 + zlib.crc32(f"{task.id} {receives}".encode()) / 2**32
    seconds = DIED_SECONDS if died else BUSY_SECONDS * 2 ** min(receives - 1, 6) * spread
    return Verdict(delete=False, reason="busy", retry_after_seconds=seconds)
