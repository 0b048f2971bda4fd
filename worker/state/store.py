"""The port to everything that outlives a process: claims, profile memory, the windows of correlations, the outbox, approvals, calls that
CloudTrail is to tell of, and the journal.

Two implementations keep these promises and pass the same contract tests: `sqlite.py` (embedded, one host) and `dynamodb.py` (shared by
a fleet). Only matches reach the store, so it is small. Every method may raise `StoreError`; the message in hand is then left to come
back. Time is handed in, never read.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from worker.model import Approval, Backlog, Census, Closing, Decision, Delivery, Expectation, JournalEntry, ProfileEvent, Sighting


class StoreError(Exception):
    """The store could not answer. The text says which one, what was asked and what to do."""


class Claim(StrEnum):
    """What became of an attempt to claim a key."""

    WON = "won"
    """Ours until the lease ends: do the work, then `settle`."""
    BUSY = "busy"
    """Another owner's lease runs: come back later."""
    SETTLED = "settled"
    """Done before, by whomever: do nothing."""


class Store(Protocol):
    """Claims, profile memory, windows, outbox, approvals and journal. Keys are strings that we make: ids, or a sink's name with an id."""

    async def claim(self, key: str, owner: str, now: datetime, lease: timedelta) -> Claim:
        """Claim the right to do what `key` stands for.

        Of any number of concurrent callers exactly one wins. A claim whose lease has ended (`lease_until <= now`) can be won
        again; the same owner claiming its own running claim wins and extends it.
        """

    async def settle(self, keys: Sequence[str], owner: str, now: datetime) -> None:
        """Mark the work of these keys as done for good. Idempotent; also for keys that were never claimed.

        A key whose running lease is another owner's is settled all the same: the work has been done.
        """

    async def release(self, key: str, owner: str) -> None:
        """Give a claim back unsettled, so that anyone may win it at once. No effect unless `owner` holds it and it is unsettled."""

    async def settled(self, keys: Sequence[str]) -> frozenset[str]:
        """Those of the keys that are settled."""

    async def learn(self, events: Sequence[ProfileEvent]) -> None:
        """Remember profile events. Idempotent by (account, profile, event key); any order and any number of times.

        One whose key is remembered already takes its place.
        """

    async def recall(self, account: str, profile: str) -> Sequence[ProfileEvent]:
        """All that is remembered of a profile, by event time, then event key."""

    async def latest(self, account: str, profile: str, limit: int) -> Sequence[ProfileEvent]:
        """What is remembered of a profile, the last key first: at most `limit` of it."""

    def remembered(self, under: str, before: datetime) -> AsyncIterator[ProfileEvent]:
        """The events from before a time of every account and every name that begins with `under`, in no order.

        Those that are forgotten meanwhile may come or not.
        """

    async def forget(self, events: Sequence[ProfileEvent]) -> None:
        """Forget events, by (account, profile, event key). No effect for unknown ones."""

    async def sight(self, sightings: Sequence[Sighting], keep_until: datetime) -> None:
        """Remember sightings until a time at least. Idempotent by (window, key); any order and any number of times; the later `keep_until` stays."""

    async def sightings(self, window: str, since: datetime, until: datetime, limit: int) -> Sequence[Sighting]:
        """What is remembered of a window from `since` to `until`, both included, by time, then key: the first `limit` of them.

        Sees everything whose `sight` has returned, in whichever process.
        """

    async def census(self, window: str, since: datetime, until: datetime) -> Census:
        """How many sightings `sightings` would find, had it no limit; for a small part of what reading them costs."""

    async def schedule(self, closings: Sequence[Closing]) -> None:
        """Remember what is to be judged later. Idempotent by key; the first `due_at` stays."""

    async def due(self, now: datetime, limit: int) -> Sequence[Closing]:
        """At most `limit` of what is due (`due_at <= now`), the longest due first."""

    async def unschedule(self, keys: Sequence[str]) -> None:
        """Forget closings by their keys. No effect for unknown ones."""

    async def post(self, delivery: Delivery, owner: str, now: datetime) -> None:
        """Put a delivery into the outbox and settle its key: both, or neither. No effect where the key is settled already."""

    async def posted(self, sink: str, now: datetime, limit: int) -> Sequence[Delivery]:
        """At most `limit` of a sink's deliveries that are due (`due_at <= now`), the longest due first."""

    async def postpone(self, delivery: Delivery, due_at: datetime) -> Delivery | None:
        """Count an attempt and move `due_at`; answers the delivery as it stands now.

        None where it does not stand as handed in: it was taken, or put off by another. So of any number of concurrent callers exactly one
        gets it, and has it to itself until `due_at`.
        """

    async def unpost(self, delivery: Delivery) -> None:
        """Take a delivery out of the outbox. No effect unless it stands there as handed in."""

    async def backlogs(self) -> Sequence[Backlog]:
        """What waits in the outbox, by sink."""

    async def ask(self, approval: Approval, instead: Approval | None = None) -> bool:
        """Have a task wait for people: where none of its id waits, or in the place of the one that was asked before. Answers whether it does.

        It begins without decisions, whatever is handed in. Of any number of concurrent callers exactly one is answered True.
        """

    async def approval(self, task_id: str) -> Approval | None:
        """The task of an id that waits, or None."""

    async def approvals(self) -> Sequence[Approval]:
        """Every task that waits, by `expires_at`, then id. The decisions of each are by their time, then approver."""

    async def decide(self, approval: Approval, decision: Decision) -> Approval | None:
        """Add a decision to what waits as it was asked; answers it as it stands then, or None where it was asked again since or waits no more.

        Of any number that decide at once each counts. One approver has one decision, the first; only a no takes the place of a yes.
        """

    async def withdraw(self, approval: Approval) -> None:
        """Have a task wait no more. No effect where it was asked again since, or waits no more."""

    async def expect(self, call: Expectation, owner: str, now: datetime, *, spent: Sequence[str] = ()) -> None:
        """Expect CloudTrail to tell of a call and settle its key and those of `spent`: all of it, or nothing.

        No effect where its key is settled already.
        """

    async def expected(self, request_ids: Sequence[str]) -> Sequence[Expectation]:
        """Those of the calls that CloudTrail has not told of, missed ones too, in no order."""

    async def overdue(self, now: datetime, limit: int) -> Sequence[Expectation]:
        """At most `limit` of what is due (`due_at <= now`) and not missed yet, the longest due first."""

    async def miss(self, call: Expectation) -> bool:
        """Mark an expectation as missed. True for exactly one of any number of callers, and for none once it was confirmed."""

    async def confirm(self, call: Expectation) -> bool:
        """Expect it no longer. True for exactly one of any number of callers; False also where it does not stand as handed in, missed or not."""

    async def append(self, entry: JournalEntry) -> str:
        """Append to the journal and answer the entry's hash.

        hash = SHA-256 over the previous entry's hash and the entry's canonical JSON, so no line can be changed or taken out
        without every later hash telling.
        """

    def journal(self, after: int = 0) -> AsyncIterator[tuple[JournalEntry, str, str]]:
        """Every entry in order but for the first `after`, each with its hash and the hash of the one before it ("" for the first)."""

    async def prune(self, claims_before: datetime, events_before: datetime, now: datetime) -> Mapping[str, int]:
        """Forget claims settled and calls due before the one time, profile events from before the other and sightings kept until before `now`.

        The journal is kept. Answers how many of each went: `{"claims": n, "profile_events": n, "sightings": n}`.
        """

    async def close(self) -> None:
        """Release files and connections. The store is not used after it."""
