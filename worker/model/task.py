"""What goes out: tasks, what was withheld and why, messages for sinks and what sinks have yet to take, and lines of the journal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker.model.fact import EnrichedFinding
from worker.model.ids import stable_id


@dataclass(frozen=True, slots=True)
class Target:
    """What a task acts on: an account as a whole (its name is its id), or an IAM user, role, access key or instance profile in one."""

    type: str
    name: str
    account: str
    arn: str | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to mend. `params` is JSON-ready and holds what the action needs and live state can no longer tell."""

    action: str
    target: Target
    params: Mapping[str, Any]
    finding: EnrichedFinding

    @property
    def id(self) -> str:
        target = self.target
        return stable_id("task", self.finding.finding.id, self.action, target.type, target.account, target.name)


@dataclass(frozen=True, slots=True)
class Withheld:
    """An action that the rule asks for and the facts speak against, with the reason in words for whoever is on call.

    `cause` is one of a closed set, for the metric: denied, dry-run, authorised, replaced, not-applicable, unknown-target, unknown-action.
    """

    action: str
    cause: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message on its way to a sink: `id` also deduplicates where the sink can, `group` orders (FIFO), `body` is UTF-8 JSON without a line break.

    `what` it is: a finding or a task.
    """

    id: str
    group: str
    body: bytes
    what: str = "finding"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a sink has yet to take. `sink` is the sink's key and `kind` its kind; `item` is the finding, update or task that it tells.

    It was tried `attempts` times since it was posted, and is to be tried again at `due_at`.
    """

    sink: str
    kind: str
    item: str
    outgoing: Outgoing
    posted_at: datetime
    due_at: datetime
    attempts: int = 0

    @property
    def key(self) -> str:
        """What is settled once the sink, or the outbox, has it."""
        return f"{self.sink}|{self.item}"


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many deliveries a sink has yet to take, and when the first of them was posted."""

    sink: str
    kind: str
    count: int
    oldest: datetime


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One line of the remediation journal: what was asked, what was done, and the state before and after."""

    task_id: str
    at: datetime
    outcome: str
    body: Mapping[str, Any]
