"""An errand: a task that a person asks for by hand, is shown, and agrees to.

    guard -> plan from live state -> guard again -> shown and agreed to -> claim -> guard and plan once more -> journal -> calls -> read back -> journal

It is done in every mode but `off`, for modes say what the executor does by itself; whoever asked stands in the journal as approver. What it promises
beside what an `Attempt` does: no step is taken that was not shown. An errand that was cut short is begun again by asking again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from worker.modes import Mode
from worker.remediate import guards
from worker.remediate.attempt import FAILURES, Attempt, BusyError, HaltedError, Means, reason
from worker.remediate.guards import Identity, Judgement, Limits, Stance
from worker.remediate.sentry import Sentry
from worker.remediate.steps import Clients, Plan, Refusal, Step
from worker.remediate.tasks import TaskMessage
from worker.remediate.undo import Ending
from worker.state.store import Claim

VERDICTS = ("planned", "as-wanted", "exempt", "refused", "withheld")
"""What may be said of an errand before it is done. Withheld is what could not be undone while the settings do not allow it."""


@dataclass(frozen=True, slots=True)
class Prospect:
    """What would be done. `why` tells people what speaks against it, None where nothing does; `plan` is None where nobody got as far."""

    verdict: str
    why: str | None = None
    plan: Plan | None = None


@dataclass(frozen=True, slots=True)
class Errand:
    """One errand. `own` is who we are in the account of its target, `approver` the ARN of whoever asked for it."""

    means: Means
    limits: Limits
    task: TaskMessage
    planned: Callable[[Clients], Awaitable[Plan | Refusal]]
    own: Identity
    approver: str
    sentry: Sentry

    async def prospect(self) -> Prospect:
        """What would be done, to be shown and agreed to. Raises one of `FAILURES`."""
        return await self._prospect(self._attempt(), acting=False)

    async def carry_out(self, agreed: Sequence[Step]) -> Ending:
        """Do what was agreed to and nothing else: `applied`, `already-done`, or why not; `busy` where another is at work. Raises `StoreError`."""
        halted = await self.means.halt.reason()
        if halted is not None:
            return Ending("stopped", halted)
        if self._attempt().mode is Mode.OFF:
            return Ending("off", f"the mode of {self.task.action.name} in {self.task.target.account} is off")
        attempt = self._attempt()
        claim = await attempt.claim(self.task.claim, self.task.lock)
        if claim is Claim.SETTLED:
            return Ending("already-done", "it was done before")
        if claim is Claim.BUSY:
            return Ending("busy", "somebody is at work on its target, or died at it: try again in 5 minutes")
        try:
            ending = await self._carried_out(attempt, agreed)
        except BusyError as error:
            # Nothing was begun, and it may be asked again at once: that is no line of the journal.
            ending = Ending("busy", reason(error))
        except FAILURES as error:
            ending = Ending("stopped" if isinstance(error, HaltedError) else "failed", reason(error))
            await attempt.journal(ending.outcome, ending.reason)
        if ending.outcome in ("applied", "already-done"):
            await attempt.settle(self.task.claim)
        await attempt.release()
        return ending

    async def _carried_out(self, attempt: Attempt, agreed: Sequence[Step]) -> Ending:
        found = await self._prospect(attempt, acting=True)
        if found.plan is not None and found.verdict == "as-wanted":
            await attempt.journal("already-done", None, after=found.plan.state)
            return Ending("already-done")
        if found.plan is None or found.verdict != "planned":
            await attempt.journal("shadowed" if found.verdict == "withheld" else found.verdict, found.why)
            return Ending(found.verdict, found.why)
        shown = [step.as_dict() for step in agreed]
        new = [step.says for step in found.plan.steps if not step.is_among(shown)]
        if new:
            ending = Ending("refused", f"changed-since-shown: live state asks for what was not agreed to: {'; '.join(new)}")
            await attempt.journal(ending.outcome, ending.reason)
            return ending
        await attempt.begin()
        await attempt.journal("applied", None, after=await attempt.carry_out(found.plan))
        return Ending("applied")

    async def _prospect(self, attempt: Attempt, *, acting: bool) -> Prospect:
        against = guards_say(attempt, self.limits)
        if against is not None:
            return _held(against)
        plan = await attempt.look()
        if isinstance(plan, Refusal):
            return Prospect("refused", f"{plan.reason}: {plan.says}")
        against = await live_guards_say(attempt, plan, self.limits, self.sentry, acting=acting)
        if against is not None:
            return _held(against, plan)
        return Prospect("planned" if plan.steps else "as-wanted", None, plan)

    def _attempt(self) -> Attempt:
        return Attempt(self.means, self.task, self.planned, self.own, f"{self.means.owner}:{self.task.id}", approver=self.approver)


def guards_say(attempt: Attempt, limits: Limits) -> Judgement | None:
    """What speaks against an errand before anything is read from AWS, or None."""
    # Asked for now: an errand does not age as a task on a queue does, and no mode speaks against what a person agrees to.
    task, now = attempt.task, attempt.means.clock()
    judged = guards.judge(task.target, task.params, task.finding, now, now, attempt.own, limits)
    return judged if judged.stance in (Stance.REFUSE, Stance.EXEMPT) else None


async def live_guards_say(attempt: Attempt, plan: Plan, limits: Limits, sentry: Sentry, *, acting: bool) -> Judgement | None:
    """What speaks against the plan of an errand, or None. Raises one of `FAILURES`; `acting` is as of `Sentry.judge`."""
    touched = guards.judge_touched(plan.touches, attempt.own, limits) or await sentry.judge(attempt, plan, acting=acting)
    if touched is not None:
        return touched
    return guards.judge_loss(limits) if plan.irreversible else None


def _held(against: Judgement, plan: Plan | None = None) -> Prospect:
    verdict = {Stance.REFUSE: "refused", Stance.EXEMPT: "exempt"}.get(against.stance, "withheld")
    return Prospect(verdict, f"{against.reason}: {against.says}", plan)
