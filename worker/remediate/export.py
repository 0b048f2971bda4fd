"""The journal's export: what the store's journal has and the bucket has not is written there, line after line, with no gap.

In go a store and an archive. Where the export stands is read from the archive, and nowhere else kept: so a crash between any two steps is harmless. One
process of a fleet exports, by a claim; should two, S3 takes each object's name once, and the other goes on behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from worker.observe.metrics import Metrics
from worker.remediate import exported
from worker.remediate.archive import Archive, ArchiveError, Kept
from worker.remediate.exported import Comparison, Line, SpoiltError
from worker.state.store import Claim, Store, StoreError

EVERY_SECONDS = 60.0
LEASE = timedelta(minutes=5)
MOST_BYTES = 8 * 2**20
"""Of one object; a line of its own, with a fleet's plan, may be longer."""
MOST_COUNTED = 1_000
_ADVICE = "see `trailmend tasks verify-journal --exported`, and set another prefix to go on"
FAILURES = (ArchiveError, SpoiltError, StoreError)


@dataclass(slots=True)
class Export:
    """The export of a store's journal. `retain` is how long what is written is locked."""

    store: Store
    archive: Archive
    retain: timedelta
    clock: Callable[[], datetime]
    _last: tuple[int, str] | None = field(default=None, init=False)
    _known: int = field(default=0, init=False)

    async def once(self) -> int:
        """Export all that is new; answers its lines. Raises one of `FAILURES`: `SpoiltError` too where the store's journal is not the exported one."""
        written, refused_at = 0, -1
        while (stands := (last := await self._stands())[0]) != refused_at:
            lines = await self._beyond(*last)
            self._known = stands
            async for first, body, count, head in exported.batches(stands + 1, lines, MOST_BYTES):
                if not await self.archive.write(first, body, self.clock() + self.retain):
                    refused_at = first - 1  # another was there before us, and the export stands further on
                    self.doubt()
                    break
                self._last, self._known = (first + count - 1, head), first + count - 1
                written += count
            else:
                return written
        raise SpoiltError(f"{self.archive.place}{exported.name(stands + 1)} is neither there nor to be written")

    def doubt(self) -> None:
        """Read from the archive again where the export stands: a write may have failed, or another process may have written."""
        self._last = None

    async def _stands(self) -> tuple[int, str]:
        """The number of the last line that is exported (0: there is none), and its hash."""
        if self._last is None:
            kept = await self.archive.kept()
            told = exported.unpack(kept[-1].first, await self.archive.read(kept[-1])) if kept else []
            self._last = (kept[-1].first - 1 + len(told), told[-1][1]) if told else (0, "")
        return self._last

    async def _beyond(self, stands: int, head: str) -> AsyncIterator[Line]:
        """The store's lines beyond the last exported one, which must be there as it was exported: else they are another journal's."""
        if stands == 0:
            return self.store.journal()
        lines = self.store.journal(stands - 1)
        ours = await anext(lines, None)
        if ours is None or ours[1] != head:
            self._known = 0
            why = "is not in the store: lines were cut off its end" if ours is None else "is another in the store"
            raise SpoiltError(f"line {stands} was exported to {self.archive.place} and {why}, or it is another journal's; {_ADVICE}")
        return lines

    async def left(self) -> int | None:
        """How many lines are not known to be exported, counted up to a number and to one that cannot be read; None where the store does not answer."""
        left = 0
        try:
            async for _ in self.store.journal(self._known):
                left += 1
                if left == MOST_COUNTED:
                    break
        except StoreError:
            return None
        except Exception:  # noqa: BLE001  # whatever a damaged line raises
            return left + 1
        return left


async def watch(export: Export, metrics: Metrics, owner: str, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
    """Export what is new, now and then, unless another process sees to that, until cancelled. `owner` names the process."""
    while True:
        try:
            if await export.store.claim("journal export", owner, export.clock(), LEASE) is Claim.WON:
                metrics.journal_exported(await export.once())
            else:
                export.doubt()
                metrics.journal_exported(0)
        except SpoiltError as error:
            export.doubt()
            # To be told, though the store may have no line left that was not exported.
            metrics.journal_export_failed(max(await export.left() or 0, 1), str(error))
        except FAILURES as error:
            export.doubt()
            metrics.journal_export_failed(await export.left(), str(error))
        except Exception as error:  # noqa: BLE001  # a damaged line, or a defect of ours, must not take the tasks in hand down with it
            export.doubt()
            metrics.journal_export_failed(await export.left(), f"{type(error).__name__}: {error}", exc_info=error)
        await sleep(EVERY_SECONDS)


async def check(archive: Archive, store: Store) -> tuple[int, Comparison]:
    """Hold what was exported against the store's journal; answers the number of the first exported line too (0: there is none).

    Raises one of `FAILURES`: `SpoiltError` where an object is missing, was written over or deleted. Those at the beginning may be gone, once their
    time is over.
    """
    kept = await archive.kept()
    if not kept:
        return 0, await exported.compare(1, _lines(archive, kept), store.journal())
    first = kept[0].first
    return first, await exported.compare(first, _lines(archive, kept), store.journal(first - 1))


async def _lines(archive: Archive, kept: Sequence[Kept]) -> AsyncIterator[Line]:
    due = kept[0].first if kept else 1
    for one in kept:
        if one.first != due:
            raise SpoiltError(f"s3://{archive.place.bucket}/{one.key} does not follow line {due - 1}: an object is missing or too much")
        if one.versions > 1:
            raise SpoiltError(f"s3://{archive.place.bucket}/{one.key} has {one.versions} versions: it was written over, or deleted")
        for line in exported.unpack(one.first, await archive.read(one)):
            due += 1
            yield line
