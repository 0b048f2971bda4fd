"""From the bytes of a CloudTrail object to the records that matter: pure.

In come compressed (or plain) bytes and the interest that anybody has; out goes a `Trail`: the interesting records, how many there were at all,
and everything that could not be read, by reason. It never raises on bad input, and a bad record never hides a good one: what a
truncated gzip or a broken JSON still holds is found.

One inflate (`inflate.py`), then a sieve that looks at eventSource, eventName and userIdentity.type of each record; only a wanted record is built. A plain
text goes by in one pass that proves it whole (`skim`); any other through one parse that checks every byte and builds nothing (`lazy.py`) and
one walk over whatever holds and wraps the records (`documents.py`, `wrappers.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from worker.ingest.documents import lists
from worker.ingest.inflate import inflate
from worker.ingest.lazy import OBJECTS, each, event_of, member
from worker.ingest.skim import Skimmed, Skimmer
from worker.ingest.tally import Tally
from worker.ingest.wrappers import Items, Place, parsed, records
from worker.model import Fault, Interest, Origin, Record

PIECE_BYTES = 2 * 2**20
"""Texts longer than this are parsed piece by piece: what a parse of that much works on still fits the processor's cache."""
RECORDS_A_PIECE = 1_000
"""Wanted records that are handed on together, where there are that many."""
MOST_DULL = 50_000
LONGEST_DULL = 256
"""Names of AWS have some forty characters. What is longer is asked about each time, so that nobody fills the memory with it."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that one object may inflate to, and that one interesting record may have as compact JSON; bytes."""

    inflated_bytes: int
    record_bytes: int


@dataclass(frozen=True, slots=True)
class Trail:
    """What one object held. `seen` counts all records; `skipped` counts by reason what is no log on purpose (digest, insight)."""

    records: tuple[Record, ...] = ()
    seen: int = 0
    inflated_bytes: int = 0
    faults: tuple[Fault, ...] = ()
    skipped: Mapping[str, int] | None = None


def read(body: bytes, origin: Origin, interest: Interest, bounds: Bounds) -> Trail:
    """The records of one object that `interest` wants, all at once."""
    *before, last = pieces(body, origin, interest, bounds)
    if not before:
        return last
    found = tuple(record for one in (*before, last) for record in one.records)
    return Trail(found, last.seen + sum(one.seen for one in before), last.inflated_bytes, last.faults, last.skipped)


def pieces(
    body: bytes, origin: Origin, interest: Interest, bounds: Bounds, room: int | None = None, piece_bytes: int = PIECE_BYTES
) -> Iterator[Trail]:
    """The same in pieces, so that an object of any size needs little beside its text. The last one tells size, faults and skips.

    Raises `MoreRoomError`, before the first piece, where the text has more than `room` bytes (None: as many as the bound allows).
    """
    tally = Tally()
    data = inflate(body, bounds.inflated_bytes, tally, room)
    sieve = _sieve(interest)
    skimmed = sieve.skimmer.skim(data)
    if skimmed is not None and not skimmed.wanted:
        yield Trail((), skimmed.records, len(data), tally.faults, {})
        return
    reader = _Reader(sieve, origin, bounds, tally)
    if skimmed is None:
        every_list = lists(data, tally, piece_bytes)
    else:
        reader.seen = skimmed.records - len(skimmed.wanted)
        every_list = _wanted(data, skimmed, piece_bytes)
    for items in every_list:
        reader.take(items)
        if len(reader.found) >= RECORDS_A_PIECE:
            yield Trail(tuple(reader.found), reader.seen)
            reader = _Reader(reader.sieve, origin, bounds, tally)
    yield Trail(tuple(reader.found), reader.seen, len(data), tally.faults, dict(tally.skipped))


def _wanted(data: bytes | bytearray, skimmed: Skimmed, piece_bytes: int) -> Iterator[Items]:
    """The records of a plain text that may be wanted, told of as `lists` would: who reads in pieces does not know of how many."""
    view, total = memoryview(data), None if len(data) > piece_bytes else skimmed.records
    for number, begin, end in skimmed.wanted:
        yield Items("", (parsed(view[begin:end]),), number, total)


def select(told: Sequence[Mapping[str, Any]], origin: Origin, interest: Interest, bounds: Bounds) -> Trail:
    """The records among events that a message carries itself, as EventBridge's `detail`."""
    tally = Tally()
    reader = _Reader(_sieve(interest), origin, bounds, tally)
    for event in told:
        reader.take(Items("", (dict(event),), first=0))
    return Trail(tuple(reader.found), reader.seen, 0, tally.faults, dict(tally.skipped))


class _Sieve:
    """Knows which (source, name, identity type) nobody wants, by having asked once. Those are most of all records, and few in kind."""

    def __init__(self, interest: Interest) -> None:
        self.interest = interest
        self.dull: set[tuple[str | None, str, str | None]] = set()
        self.skimmer = Skimmer()

    def wants(self, event: Any) -> bool:
        source, name, identity = member(event, "eventSource"), event["eventName"], member(event, "userIdentity")
        source = source if isinstance(source, str) else None
        kind = member(identity, "type") if isinstance(identity, OBJECTS) else None
        kind = kind if isinstance(kind, str) else None
        if self.interest.wants(source, name, kind):
            return True
        kinds = source, name, kind
        if kinds not in self.dull and sum(map(len, filter(None, kinds))) <= LONGEST_DULL:
            if len(self.dull) >= MOST_DULL:
                self.skimmer = Skimmer()
                self.dull.clear()
            self.dull.add(kinds)
            self.skimmer.add(*kinds)
        return False


_sieve = lru_cache(maxsize=4)(_Sieve)


class _Reader:
    """Takes lists of items and keeps what is wanted of them."""

    def __init__(self, sieve: _Sieve, origin: Origin, bounds: Bounds, tally: Tally) -> None:
        self.sieve = sieve
        self.found: list[Record] = []
        self.seen = 0
        self._origin = origin
        self._bounds = bounds
        self._tally = tally

    def take(self, items: Items) -> None:
        dull, looked_at = self.sieve.dull, 0
        for number, item in enumerate(each(items.values), items.first):
            try:
                if (item["eventSource"], item["eventName"], item["userIdentity"]["type"]) in dull:
                    continue
            except (KeyError, TypeError, ValueError):
                pass  # no ordinary record: looked at below
            looked_at += 1
            for place, event in records(item, Place(items.within, number, items.total), self._tally):
                self.seen += 1
                if self.sieve.wants(event):
                    self._keep(event, place)
        self.seen += len(items.values) - looked_at

    def _keep(self, told: Any, place: Place) -> None:
        try:
            event, size = event_of(told)
        except ValueError as error:  # a number of thousands of digits, which Python does not make
            self._tally.fault("invalid-json", f"{place}: {error}")
            return
        if size > self._bounds.record_bytes:
            self._tally.fault(
                "record-too-large",
                f"{place} has {size} bytes, more than the {self._bounds.record_bytes} allowed (TRAILMEND_MAX_RECORD_BYTES)",
            )
            return
        self.found.append(Record(event, self._origin))
