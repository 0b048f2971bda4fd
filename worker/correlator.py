"""Correlations over records that arrive late, twice, out of order and at several workers.

In go the hits of one message (a watched rule, and the record that it matched); out come what correlations found by them. Sightings are kept
in the store, so that it does not matter who saw which: a sighting is written before its window is read, so of two workers at least
one sees both. Whatever is found bears an id made of correlation, group and span, so that finding it again is no second finding.

A window is read only where that may find what nobody has told yet: not where what it holds is too little however it lies (the store
counts it without reading it), nor where every span in question has been told, which the store knows by that id. So a storm costs hardly
more the longer it lasts.

Open correlations are judged at once. Closing ones (`detect/correlation.py`) are scheduled and judged by `due` once their span has been
over for the lateness bound. Records later than that still count for open ones as long as their window is kept, and are counted as late for closing ones.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

import orjson

from worker.detect.correlation import Correlation, Kind, timed
from worker.detect.rulebook import Matches, Rulebook, keep
from worker.detect.windows import ends, judge, may_hold, span_start
from worker.model import Closing, Occurrence, Record, Sighting
from worker.state.store import Store

SLOTS_COUNTED = 100_000
KEYS_KNOWN = 50_000
"""Sightings remembered in the process, so that a second delivery does not count against the bounds on its slot."""
MOST_READ = 20_000
"""Sightings of one window read at a time, some 30 MB of records."""
MOST_PAGES = 5
"""So many times; what a closing correlation has beyond that is not judged, because half of it would be."""
MOST_SPANS = 10
"""So many are asked for whether they have been told; records of one message may lie years apart."""
MOST_DUE = 1_000
ABANDONED_AFTER = timedelta(days=1)
"""A span of a correlation that is not known here may be another worker's, which has other rules for the moment, for so long."""
EARLIEST, LATEST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)

CLOSED = "closed|"

Hit = tuple[str, Record]
"""The id of a watched rule, and the record that it matched."""


class Counted(Protocol):
    """What is told of sightings; `observe/metrics.py` has it."""

    def sighted(self, rule_id: str, count: int) -> None: ...

    def sighting_dropped(self, rule_id: str, reason: str, count: int) -> None: ...

    def window_closed(self, rule_id: str, outcome: str) -> None: ...

    def fault(self, stage: str, reason: str, *, detail: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """A span that was due, and what was found in it. Call `Correlator.closed` once that has been told."""

    closing: Closing
    matches: tuple[Matches, ...]


class Correlator:
    """Keeps the windows of all correlations. `lateness` is how long after its span a closing correlation waits for late records."""

    def __init__(self, store: Store, clock: Callable[[], datetime], metrics: Counted, lateness: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._lateness = lateness
        self._in_slot: OrderedDict[tuple[Hashable, ...], int] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    async def observe(self, book: Rulebook, hits: Iterable[Hit]) -> list[Matches]:
        """What open correlations find by these hits. Raises `StoreError`; then nothing is lost, because the same hits will come again."""
        seen: dict[str, list[Sighting]] = {one.rule.id: [] for one in book.correlations}
        for rule, record in hits:
            for one in book.watching.get(rule, ()):
                seen[one.rule.id] += one.sightings(rule, record)
                if not timed(record):
                    self._metrics.sighting_dropped(one.rule.id, "untimed", 1)
        return await self._follow(book, seen)

    async def due(self, book: Rulebook) -> AsyncIterator[Judged]:
        """The spans whose time to be judged has come, judged, at most `MOST_DUE` of them. Raises `StoreError`."""
        known, now = {one.fingerprint: one for one in book.correlations}, self._clock()
        for closing in await self._store.due(now, MOST_DUE):
            one = known.get(closing.correlation)
            if one is None and now - closing.due_at < ABANDONED_AFTER:
                continue
            try:
                yield Judged(closing, tuple(await self._judge(book, one, closing)))
            except ValueError as error:
                self._metrics.fault("close", "unexpected", detail=f"{one.rule.id if one else 'gone'}: {error}")

    async def closed(self, closing: Closing, owner: str) -> None:
        """What was found in the span has been told: it is never judged again. Raises `StoreError`."""
        await self._store.settle([CLOSED + closing.key], owner, self._clock())
        await self._store.unschedule([closing.key])

    # Open.

    async def _follow(self, book: Rulebook, seen: dict[str, list[Sighting]]) -> list[Matches]:
        """From sightings to findings; what is found is a sighting for the correlations that watch the finder, which stand after it."""
        found: dict[str, Matches] = {}
        for one in book.correlations:
            fresh = await self._kept(one, seen[one.rule.id])
            if not fresh:
                continue
            outer = book.watching.get(one.rule.id, ())
            for occurrence in [] if one.closing else await self._occurrences(book, one, fresh):
                matches = book.correlated(one, occurrence)
                for other in outer if matches.hits else ():
                    seen[other.rule.id] += other.outer_sightings(occurrence)
                keep(found, occurrence, matches)
        return list(found.values())

    async def _kept(self, one: Correlation, sightings: Sequence[Sighting]) -> list[Sighting]:
        """Those of the sightings that are in the store now: not the late ones and not those of a span that is full."""
        fresh = await self._in_time(one, sightings) if one.closing else sightings
        fresh = self._not_crowded(one, fresh)
        if not fresh:
            return []
        now = self._clock()
        newest = max(now, *(sighting.time for sighting in fresh))
        await self._store.sight(fresh, _later(newest, 2 * one.timespan + self._lateness))
        if one.closing:
            spans = {(sighting.window, span_start(sighting.time, one.timespan)) for sighting in fresh}
            await self._store.schedule([self._closing(one, window, start, now) for window, start in spans])
        self._metrics.sighted(one.rule.id, len(fresh))
        return fresh

    def _not_crowded(self, one: Correlation, sightings: Sequence[Sighting]) -> list[Sighting]:
        kept = []
        for sighting in sightings:
            slot, most = _slot(one, sighting)
            known = f"{sighting.window}|{sighting.key}"
            count = self._in_slot.pop(slot, 0)
            self._in_slot[slot] = count + (known not in self._known)
            if count < most or known in self._known:
                kept.append(sighting)
                self._known[known] = None
        for bounded, most_kept in ((self._in_slot, SLOTS_COUNTED), (self._known, KEYS_KNOWN)):
            while len(bounded) > most_kept:
                bounded.popitem(last=False)
        if len(kept) < len(sightings):
            self._metrics.sighting_dropped(one.rule.id, "crowded", len(sightings) - len(kept))
        return kept

    async def _occurrences(self, book: Rulebook, one: Correlation, fresh: Sequence[Sighting]) -> list[Occurrence]:
        """What the windows of fresh sightings hold from each of these on, for one timespan: further on nothing has changed."""
        found: list[Occurrence] = []
        windows: dict[str, list[Sighting]] = {}
        for sighting in fresh:
            windows.setdefault(sighting.window, []).append(sighting)
        for window, within in windows.items():
            last = max(one.time for one in within)
            first = await self._untold(one, window, min(one.time for one in within), last, watched=one.rule.id in book.watching)
            if first is None:
                continue
            held, whole = await self._read(window, _earlier(first, one.timespan), _later(last, one.timespan))
            if not whole:
                self._metrics.sighting_dropped(one.rule.id, "crowded", 1)
            found += ends(one, held, first, every=book.every_end(one))
        return found

    async def _untold(self, one: Correlation, window: str, first: datetime, last: datetime, *, watched: bool) -> datetime | None:
        """From when on, `first` or later, a window may hold an end that has not been told; None for nowhere.

        Of a correlation that others watch every end counts, told or not: each is a sighting of theirs.
        """
        census = await self._store.census(window, _earlier(first, one.timespan), _later(last, one.timespan))
        if census.latest is None or not may_hold(one, census):
            return None
        begins = span_start(first, one.timespan)
        count = (span_start(census.latest, one.timespan) - begins) // one.timespan + 1
        if watched or count > MOST_SPANS:
            return first
        spans = {Occurrence(one.rule.id, window, start, {}, ()).id: start for start in (begins + n * one.timespan for n in range(count))}
        told = await self._store.settled(list(spans))
        return next((max(first, start) for key, start in spans.items() if key not in told), None)

    async def _read(self, window: str, since: datetime, until: datetime) -> tuple[list[Sighting], bool]:
        """What a window holds, page by page, and whether that is all of it."""
        held: list[Sighting] = []
        for _ in range(MOST_PAGES):
            page = await self._store.sightings(window, since, until, MOST_READ)
            held += page
            if len(page) < MOST_READ:
                return held, True
            if page[-1].time == since:  # one second that is larger than a page
                break
            since = page[-1].time
        return held, False

    # Closing.

    async def _in_time(self, one: Correlation, sightings: Sequence[Sighting]) -> list[Sighting]:
        keys = [
            CLOSED + self._closing(one, sighting.window, span_start(sighting.time, one.timespan), EARLIEST).key for sighting in sightings
        ]
        over = await self._store.settled(list(dict.fromkeys(keys)))
        fresh = [sighting for sighting, key in zip(sightings, keys, strict=True) if key not in over]
        if len(fresh) < len(sightings):
            self._metrics.sighting_dropped(one.rule.id, "late", len(sightings) - len(fresh))
        return fresh

    def _closing(self, one: Correlation, window: str, start: datetime, now: datetime) -> Closing:
        # From whichever is later, the end of the span or its first record's arrival: a backlog of hours is read in no order at all.
        return Closing(one.fingerprint, window, start, _later(max(_later(start, one.timespan), now), self._lateness))

    async def _judge(self, book: Rulebook, one: Correlation | None, closing: Closing) -> list[Matches]:
        if one is None:  # its rule was changed or taken away since
            self._metrics.window_closed("gone", "abandoned")
            return []
        held, whole = await self._read(closing.window, closing.start, _later(closing.start, one.timespan))
        if not whole:
            self._metrics.window_closed(one.rule.id, "crowded")
            return []
        found = judge(one, closing.start, held)
        self._metrics.window_closed(one.rule.id, "nothing" if found is None else "found")
        if found is None:
            return []
        matches = book.correlated(one, found)
        seen: dict[str, list[Sighting]] = {other.rule.id: [] for other in book.correlations}
        for other in book.watching.get(one.rule.id, ()) if matches.hits else ():
            seen[other.rule.id] += other.outer_sightings(found)
        return [matches, *await self._follow(book, seen)]


def _slot(one: Correlation, sighting: Sighting) -> tuple[tuple[Hashable, ...], int]:
    """A short time of one group in which a storm is thinned out, and how many sightings of it are kept.

    What is kept finds all that the rest would: of equal steps in one slot as many as the correlation has steps, of equal values one, of
    counted events as many as it counts to. Slots are a second, or as short a part of the timespan as keeps a window readable; in a storm an event at
    the far end of its window may be missed by that much.
    """
    if one.closing:
        return (sighting.window, span_start(sighting.time, one.timespan)), MOST_READ * MOST_PAGES
    if one.kind in (Kind.TEMPORAL, Kind.TEMPORAL_ORDERED):
        parts, most, apart = 500, len(one.rules), sighting.rule
    elif one.kind is Kind.VALUE_COUNT:
        parts, most, apart = 200, 1, orjson.dumps(sighting.values).decode()
    else:
        parts, most, apart = 20, int(one.threshold.count) + 1, ""
    return (sighting.window, apart, span_start(sighting.time, max(one.timespan / parts, timedelta(seconds=1)))), most


def _later(time: datetime, by: timedelta) -> datetime:
    return time + by if time < LATEST - by else LATEST


def _earlier(time: datetime, by: timedelta) -> datetime:
    return time - by if time > EARLIEST + by else EARLIEST
