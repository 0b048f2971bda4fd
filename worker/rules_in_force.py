"""The rules in force: one rulebook at a time, read again when its files change or somebody asks, and never exchanged for a faulty set.

In go what loads a rulebook, and the folders to watch; out comes `book`, which whoever works asks for once per message, so that a message
is worked by one rulebook from beginning to end. A set with a fault is refused whole: every fault is told, the old book stays, and the
gauge `trailmend_rules_refused` stands until a set is taken.

What is watched are the files that loading would read, through links, so that a ConfigMap's exchange of its folder counts as a change.
A change is taken up once two looks in a row see the same: a set that is still being written is left alone. What is faulty is not tried
again until it changes or somebody asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path

from worker.detect.document import RuleFault
from worker.detect.library import RuleFaults, files
from worker.detect.rulebook import Rulebook
from worker.observe.metrics import Metrics

LOOK_EVERY_SECONDS = 5.0

State = frozenset[tuple[str, ...]]
"""What is on disk, for comparison alone: each file's path and whatever would change with its content or with the right to read it."""


class RulesInForce:
    """`book` is the rulebook in force. Reading it the first time happens here, and raises `RuleFaults`."""

    def __init__(
        self,
        load: Callable[[], Rulebook],
        watched: Sequence[Path],
        metrics: Metrics,
        clock: Callable[[], datetime],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._load = load
        self._watched = watched
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._one_at_a_time = asyncio.Lock()
        # Looked at before it is read: what changes while it is read shows as a change afterwards.
        self._tried = on_disk(watched)
        self.book = load()
        metrics.rules_loaded(len(self.book.rules), len(self.book.correlations), len(self.book.unindexed), clock())
        self._tell_unindexed()

    async def reload(self) -> None:
        """Read the rules again, in a thread, and put them in force unless they have a fault. Does not raise."""
        async with self._one_at_a_time:
            self._tried = await asyncio.to_thread(on_disk, self._watched)
            try:
                book = await asyncio.to_thread(self._load)
            except RuleFaults as refused:
                self._metrics.rules_refused(refused.faults)
            except Exception as error:  # noqa: BLE001  # whatever it is: the rules in force go on
                self._metrics.rules_refused([RuleFault("the rules", None, f"{type(error).__name__}: {error}")])
            else:
                self.book = book
                self._metrics.rules_reloaded(len(book.rules), len(book.correlations), len(book.unindexed), self._clock())
                self._tell_unindexed()

    async def watch(self) -> None:
        """Reload on change, until cancelled."""
        before = self._tried
        while True:
            await self._sleep(LOOK_EVERY_SECONDS)
            now = await asyncio.to_thread(on_disk, self._watched)
            if now == before and now != self._tried:
                await self.reload()
            before = now

    async def reload_when(self, asked: asyncio.Event) -> None:
        """Reload whenever the event is set, until cancelled. Who asks while the rules are being read has them read once more."""
        while True:
            await asked.wait()
            asked.clear()
            await self.reload()

    def _tell_unindexed(self) -> None:
        for rule in self.book.unindexed:
            self._metrics.life(
                "rule_unindexed", rule=rule.rule.id, hint="it names no event source or name, so that every record is built for it"
            )


def on_disk(folders: Sequence[Path]) -> State:
    """What the rule files in the folders are at this moment. Does not raise: what cannot be looked at is part of the answer."""
    faults: list[RuleFault] = []
    seen: set[tuple[str, ...]] = set()
    try:
        for path in files(folders, faults):
            seen.add((str(path), _state(path)))
    except (OSError, RuntimeError) as error:  # a RuntimeError is a link that leads to itself
        seen.add((repr(error),))
    return frozenset(seen | {("", str(fault)) for fault in faults})


def _state(path: Path) -> str:
    try:
        told = path.stat()
    except OSError as error:
        return repr(error)
    return f"{told.st_dev} {told.st_ino} {told.st_size} {told.st_mtime_ns} {told.st_ctime_ns}"
