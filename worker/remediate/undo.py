"""Undoing a task, from what the journal tells of it alone: the state before is brought back, under the guards that its doing was under.

    journal -> guard -> plan from live state -> guard again -> shown and agreed to -> claim -> plan once more -> journal -> calls -> read back -> journal

Whatever stops it and wherever, it can be begun again: live state tells what is still to do. A task is undone once; where its target was
changed since by somebody else, the undo is refused and may be tried again. It is asked for by a person, so it is done in every mode but off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.modes import Mode
from worker.remediate import guards
from worker.remediate.actions import ACTIONS
from worker.remediate.attempt import FAILURES, Attempt, HaltedError, Means, reason
from worker.remediate.guards import Judgement, Limits, Stance
from worker.remediate.history import History
from worker.remediate.sentry import Sentry
from worker.remediate.steps import Clients, Done, Plan, Refusal, Step
from worker.remediate.tasks import TaskMessage, TaskReader, TaskRefusedError
from worker.state.store import Claim


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of an undo (`undone`) or an errand (`applied`), or why it was not done. `reason` is for people."""

    outcome: str
    reason: str | None = None


class Undo:
    """The undo of one task. `approver` is the ARN of whoever asked for it."""

    def __init__(self, means: Means, limits: Limits, task: TaskMessage, done: Done, approver: str) -> None:
        self._means = means
        self._limits = limits
        self._sentry = Sentry(limits)
        self._task = task
        self._done = done
        self._approver = approver

    @classmethod
    async def of(cls, history: History, means: Means, limits: Limits) -> Undo | str:
        """The undo of a task, or in words why there is none. Raises one of `FAILURES` where nobody knows who we are."""
        done = history.done()
        if isinstance(done, str):
            return done
        try:
            task = TaskReader(ACTIONS).take_up(history.task)
        except TaskRefusedError as refused:
            return f"the journal's task is none that could be worked: {refused}"
        return cls(means, limits, task, done, (await means.identity(None)).arn)

    async def prospect(self) -> Plan | Refusal:
        """What would be done, to be shown and agreed to. Raises one of `FAILURES`."""
        halted = await self._means.halt.reason()
        if halted is not None:
            return Refusal("stopped", halted)
        attempt = await self._attempt()
        judgement = self._judge(attempt)
        if judgement.stance in (Stance.REFUSE, Stance.EXEMPT):
            return Refusal(judgement.reason, judgement.says)
        plan = await attempt.look()
        if isinstance(plan, Refusal):
            return plan
        against = guards.judge_touched(plan.touches, attempt.own, self._limits) or await self._sentry.judge(attempt, plan, acting=False)
        return plan if against is None else Refusal(against.reason, against.says)

    async def carry_out(self, agreed: Sequence[Step]) -> Ending:
        """Do what was agreed to and nothing else. Raises `StoreError`, and one of `FAILURES` before anything is claimed."""
        halted = await self._means.halt.reason()
        if halted is not None:
            return Ending("stopped", halted)
        attempt = await self._attempt()
        if attempt.mode is Mode.OFF:
            return Ending("off", f"the mode of {self._task.action.name} in {self._task.target.account} is off")
        key = f"undo:{self._task.id}"
        claim = await attempt.claim(key, self._task.lock)
        if claim is not Claim.WON:
            again = (
                "it was undone already"
                if claim is Claim.SETTLED
                else "somebody is at work on its target, or died at it: try again in 5 minutes"
            )
            return Ending(claim.value, again)
        try:
            ending = await self._carried_out(attempt, agreed)
        except FAILURES as error:
            ending = Ending("undo-stopped" if isinstance(error, HaltedError) else "undo-failed", reason(error))
            await attempt.journal(ending.outcome, ending.reason)
        if ending.outcome == "undone":
            await attempt.settle(key)
        await attempt.release()
        return ending

    async def _carried_out(self, attempt: Attempt, agreed: Sequence[Step]) -> Ending:
        judgement, plan = self._judge(attempt), await attempt.look()
        if isinstance(plan, Refusal):
            says = f"{plan.reason}: {plan.says}"
            await attempt.journal("undo-refused", says, before=plan.state)
            return Ending("undo-refused", says)
        ending = None
        strictest = judgement if judgement.stance in (Stance.REFUSE, Stance.EXEMPT) else None
        strictest = strictest or guards.judge_touched(plan.touches, attempt.own, self._limits)
        strictest = strictest or await self._sentry.judge(attempt, plan, acting=judgement.stance is Stance.ACT) or judgement
        if strictest.stance is not Stance.ACT:
            ending = Ending("undo-refused", f"{strictest.reason}: {strictest.says}")
        elif [step.as_dict() for step in plan.steps] != [step.as_dict() for step in agreed]:
            ending = Ending("undo-refused", "changed-since-shown: live state asks for other steps than were agreed to")
        if ending is not None:
            await attempt.journal(ending.outcome, ending.reason)
            return ending
        if plan.steps:
            await attempt.journal("undo-started", None)
        after = await attempt.carry_out(plan)
        await attempt.journal("undone", None, after=after)
        return Ending("undone")

    def _judge(self, attempt: Attempt) -> Judgement:
        # Asked for now and by a person: an undo does not age as a task on a queue does, and no mode that lets the executor do less by itself holds it.
        now = self._means.clock()
        limits = self._limits.under(Mode.AUTO)
        return guards.judge(self._task.target, self._task.params, self._task.finding, now, now, attempt.own, limits)

    async def _attempt(self) -> Attempt:
        own = await self._means.identity(self._task.target.account)

        async def planned(clients: Clients) -> Plan | Refusal:
            return await self._task.action.undo(self._task, self._done, clients)

        return Attempt(self._means, self._task, planned, own, f"{self._means.owner}:undo", approver=self._approver)
