"""What the journal tells: of a task all its lines, whether it can be undone and from what, and whether the journal itself is whole.

In go the lines of a store's journal, out come values; nothing else is read but what the store knows of a task's calls. A newcomer who adds an outcome says in `History.done` what it means
for an undo.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker.model import JournalEntry, awaited_key, call_key
from worker.remediate.steps import Done
from worker.state import canonical
from worker.state.store import Store

Lines = AsyncIterator[tuple[JournalEntry, str, str]]
"""Journal entries in order, each with its hash and that of the one before it, as a store answers them."""


@dataclass(frozen=True, slots=True)
class History:
    """The lines of one task, at least one, in order."""

    id: str
    lines: tuple[JournalEntry, ...]

    @property
    def task(self) -> Mapping[str, Any]:
        """The task as it was worked."""
        task: Mapping[str, Any] = self.lines[-1].body["task"]
        return task

    @property
    def outcome(self) -> str:
        """What became of it at last."""
        return self.lines[-1].outcome

    @property
    def at(self) -> datetime:
        """When the last line was written."""
        return self.lines[-1].at

    @property
    def request_ids(self) -> tuple[str, ...]:
        """Those of its calls that AWS carried out, an undo's too, in order."""
        told = (one for line in self.lines for one in line.body["request_ids"] if one is not None)
        return tuple(dict.fromkeys(told))

    def done(self) -> Done | str:
        """The state before its first call and after its last, or in words why there is nothing to undo."""
        before: Mapping[str, Any] | None = None
        after: Mapping[str, Any] | None = None
        for line in self.lines:
            if line.outcome == "undone":
                return f"it was undone on {line.at:%Y-%m-%d %H:%M:%SZ}"
            if line.outcome == "enrolled":
                return "an MFA device is not taken from its user here: DeactivateMFADevice and DeleteVirtualMFADevice do it"
            if line.outcome == "abandoned":
                return "it was abandoned, and its user left without the device"
            if line.outcome == "started":
                before = line.body["before"] if before is None else before
                after = None
            elif line.body.get("after") is not None:
                # However it ended: what it left is known.
                after = line.body["after"]
        if before is None:
            return f"it changed nothing: {self.outcome}"
        if after is None:
            return f"it began and did not come to its end ({self.outcome}): it can be undone once it has"
        begun = [step for line in self.lines if line.outcome == "started" for step in line.body["plan"]]
        lost = dict.fromkeys(step["says"] for step in begun if step.get("irreversible"))
        return f"no call could undo it: {'; '.join(lost)}" if lost else Done(before, after)


@dataclass(frozen=True, slots=True)
class Seen:
    """How many of some calls CloudTrail has told of (`confirmed`), is to tell of, did not tell of in time, how many it was not asked about, and
    how many nobody remembers.
    """

    confirmed: int
    awaited: int
    missed: int
    unasked: int
    forgotten: int

    @property
    def in_words(self) -> str:
        """For people: what is none of is left out."""
        told = {
            "confirmed": self.confirmed,
            "not told of yet": self.awaited,
            "unconfirmed": self.missed,
            "not asked for": self.unasked,
            "too old to be remembered": self.forgotten,
        }
        return ", ".join(f"{count} {what}" for what, count in told.items() if count) + f" of {sum(told.values())} calls"


async def seen(request_ids: Sequence[str], store: Store) -> Seen:
    """What CloudTrail has told of calls, as the store knows it. Raises `StoreError`.

    The worker that reads CloudTrail writes nothing into the journal: it reads what strangers may have written, and the journal is the executor's alone.
    """
    known = await store.settled([key for one in request_ids for key in (call_key(one), awaited_key(one))])
    waiting = {one.request_id: one.missed for one in await store.expected(request_ids)}
    missed = sum(waiting.values())
    rest = [one for one in request_ids if one not in waiting]
    forgotten = sum(call_key(one) not in known for one in rest)
    confirmed = sum(call_key(one) in known and awaited_key(one) in known for one in rest)
    return Seen(confirmed, len(waiting) - missed, missed, len(rest) - forgotten - confirmed, forgotten)


async def histories(lines: Lines, id_begins: str) -> list[History]:
    """The tasks whose id begins so, in the order of their first lines. Raises `StoreError`."""
    found: dict[str, list[JournalEntry]] = {}
    async for entry, _, _ in lines:
        if entry.task_id.startswith(id_begins):
            found.setdefault(entry.task_id, []).append(entry)
    return [History(one, tuple(entries)) for one, entries in found.items()]


@dataclass(frozen=True, slots=True)
class Audit:
    """The journal looked through: its number of good lines, the hash of the last of them, and what is wrong, if anything."""

    count: int
    head: str
    fault: str | None = None


async def audit(lines: Lines, known: str | None = None) -> Audit:
    """Compute every hash again. Raises `StoreError`.

    A line that was changed, taken out of the middle or put in shows. Lines cut off the end do not, but to whoever kept the hash of a later
    line: `known` is such a one, which must be among the hashes.
    """
    count, head, seen = 0, "", known is None
    while True:
        try:
            entry, mark, previous = await anext(lines)
            again = canonical.link(previous, canonical.line(entry))
        except StopAsyncIteration:
            break
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return Audit(count, head, f"line {count + 1} cannot be read: {type(error).__name__}: {error}")
        if previous != head:
            return Audit(count, head, f"line {count + 1} does not follow line {count}: a line was taken out or put in before it")
        if mark != again:
            return Audit(count, head, f"line {count + 1}, of task {entry.task_id}, is not what it was when it was written")
        count, head, seen = count + 1, mark, seen or mark == known
    return Audit(count, head, None if seen else f"no line has the hash {known}: lines were cut off the end, or it is another journal's")
