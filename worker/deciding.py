"""One person's answer to a task that waits: shown what it is about, asked, told why it may not count, and put into the store.

In go what waits, who is asked and the two ends of a terminal. Nothing but the store is changed: an executor sees the answer there within seconds.
Who answers is what GetCallerIdentity says, so that takes credentials of one's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TextIO

from rich.console import Console

from worker.model import Answer, Approval, Decision
from worker.modes import Mode
from worker.remediate.approvals import agreeing, barred
from worker.remediate.attempt import FAILURES, Means, reason
from worker.tasks_view import asked

WORDS = {Answer.YES: "approve", Answer.NO: "reject"}
"""What somebody types who means it. A bare `y` is typed too fast."""
MOST_CHARACTERS = 1000
"""Of a reason; what is beyond is cut off."""


class AskedWronglyError(Exception):
    """What was asked for cannot be made out. The text says why."""


class NotDoneError(Exception):
    """The command did not do what it is for. The text says why."""


@dataclass(frozen=True, slots=True)
class Ballot:
    """Where one answer is given."""

    means: Means
    people: Console
    stdin: TextIO

    async def cast(self, approval: Approval, answer: Answer, why: str | None, *, agreed: bool) -> None:
        """Have it answered. Raises `AskedWronglyError`, `NotDoneError` and `StoreError`."""
        word, why = WORDS[answer], (why or "").strip()
        if not self.stdin.isatty() and not (agreed and why):
            raise AskedWronglyError(f"there is no terminal to be asked at: give --why TEXT and --yes to {word} it beforehand")
        try:
            approver = (await self.means.identity(None)).arn
        except FAILURES as error:
            raise NotDoneError(f"nobody knows who you are: {reason(error)}") from error
        self._hold(approval, approver, answer)
        for line in asked(approval, self.means.clock()):
            self.people.print(line, soft_wrap=True)
        why = (why or self._line("Why? "))[:MOST_CHARACTERS]
        if not why:
            raise NotDoneError("not counted: it is recorded why, and nothing was given")
        if not agreed and self._line(f"Type '{word}' to answer as {approver}: ") != word:
            raise NotDoneError("not counted: nothing was answered")
        # Reading and typing take their time, and the time limit may have ended.
        self._hold(approval, approver, answer)
        stands = await self.means.store.decide(approval, Decision(approver, answer, why, self.means.clock()))
        if stands is None:
            raise NotDoneError("not counted: it was asked again or has ended meanwhile, see `trailmend tasks list`")
        self.people.print(_outcome(stands, answer), soft_wrap=True)

    def _hold(self, approval: Approval, approver: str, answer: Answer) -> None:
        """Raises `NotDoneError` where an answer would not count."""
        action, account = approval.task["action"], approval.task["target"]["account"]
        if self.means.modes.of(action, account) is Mode.OFF:
            raise NotDoneError(f"not counted: the mode of {action} in {account} is off")
        hindrance = barred(approval, approver, answer, self.means.clock())
        if hindrance is not None:
            raise NotDoneError(f"not counted: {hindrance}")

    def _line(self, question: str) -> str:
        self.people.print(question, end="")
        return self.stdin.readline().strip()


def _outcome(approval: Approval, answer: Answer) -> str:
    if answer is Answer.NO:
        return "rejected: it will not be done"
    missing = approval.needed - len(agreeing(approval))
    if missing > 0:
        return f"counted: one more person has to agree until {approval.expires_at:%Y-%m-%d %H:%M:%SZ}"
    return "approved: an executor will look at live state once more and do it"
