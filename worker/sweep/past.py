"""What the journal tells a sweep of the past, read once: which keys Trailmend made inactive, and what it did about passwords.

An action that asks the journal reads all of it, which for every one of a thousand users would take longer than the sweep. So the few lines that
they look for are kept, and those that the sweep itself writes are added. What other processes write meanwhile is not seen: read it anew before acting.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime

from worker.dispatch.plan import LEAST_PASSWORD_POLICY
from worker.model import JournalEntry
from worker.remediate.actions.enforce_password_policy import raised
from worker.remediate.history import Lines
from worker.sweep.swept import PASSWORD_POLICY, PASSWORD_RESET
from worker.sweep.wants import Passwords


@dataclass(slots=True)
class Past:
    """The lines that change access keys, in order; by account when a password policy was last found weak and raised; by user when a reset was required."""

    keys: list[JournalEntry] = field(default_factory=list)
    weak: dict[str, datetime] = field(default_factory=dict)
    resets: dict[tuple[str, str], datetime] = field(default_factory=dict)

    async def read(self, lines: Lines) -> None:
        """Read the whole journal, in place of what was read before. Raises `StoreError`."""
        self.keys, self.weak, self.resets = [], {}, {}
        async for entry, _, _ in lines:
            self.note(entry)

    def note(self, entry: JournalEntry) -> None:
        """Add a line."""
        task, steps = entry.body["task"], entry.body.get("plan") or ()
        if any(step["api"] == "UpdateAccessKey" for step in steps):
            self.keys.append(entry)
        user = task["target"]["account"], task["target"]["name"]
        if task["action"] == PASSWORD_POLICY and entry.outcome == "started":
            before = entry.body["before"]["policy"]
            if before != raised(before, LEAST_PASSWORD_POLICY):
                self.weak[user[0]] = entry.at
        elif task["action"] == PASSWORD_RESET and entry.outcome in ("applied", "already-done"):
            self.resets[user] = entry.at
        elif task["action"] == PASSWORD_RESET and entry.outcome == "undone":
            self.resets.pop(user, None)

    def passwords(self, account: str, *, weak: bool) -> Passwords:
        """What is known of the passwords of an account whose policy is weak now, or is not."""
        until = self.weak.get(account)
        renewed = frozenset(name for (of, name), at in self.resets.items() if of == account and until is not None and at >= until)
        return Passwords(weak, until, renewed)

    async def lines(self) -> AsyncIterator[tuple[JournalEntry, str, str]]:
        """The lines about keys, as a store's journal gives them, but without their hashes."""
        for entry in list(self.keys):
            yield entry, "", ""
