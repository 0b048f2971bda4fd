"""What waits for people to agree to it: the task as it will be worked, what they were shown, and what they said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any


class Answer(StrEnum):
    """What one person says to a task that waits."""

    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True)
class Decision:
    """One person's answer. `approver` is the ARN that GetCallerIdentity answers them."""

    approver: str
    answer: Answer
    why: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Approval:
    """A task that is done once `needed` people have said yes, and not at all once one has said no or `expires_at` has passed.

    `task` is the whole task as the journal keeps it, `steps` the plan as the journal keeps it, `effects` and `undoing` are sentences for people.
    `executors` are the ARNs that ask, and may not answer. A task that is asked again has another `asked_at`, and decisions of its own.
    """

    task: Mapping[str, Any]
    asked_at: datetime
    expires_at: datetime
    needed: int
    steps: tuple[Mapping[str, Any], ...]
    effects: tuple[str, ...]
    undoing: str
    executors: tuple[str, ...]
    decisions: tuple[Decision, ...] = ()

    @property
    def id(self) -> str:
        """The task's id."""
        return str(self.task["id"])
