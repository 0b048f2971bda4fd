"""From the bytes of a CloudTrail object to the records that matter: pure.

In come compressed (or plain) bytes and the interest that anybody has; out goes a `Trail`: the interesting records, how many there were at all,
and everything that could not be read, by reason. It never raises on bad input, and a bad record never hides a good one: what a
truncated gzip or a broken JSON still holds is found.

Fast path: one inflate (`inflate.py`), one msgspec projection of every record on eventSource, eventName and userIdentity.type, and only where
one is wanted a second pass that cuts out its bytes for orjson. Anything out of the ordinary takes the exact path (`wrappers.py`), slower,
with the same result: wrappers, JSON lines, odd types, broken JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import orjson

from worker.ingest.inflate import inflate
from worker.ingest.tally import Tally
from worker.ingest.wrappers import BOM, events, loads, unwrap
from worker.model import Fault, Interest, Origin, Record


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
    """The records of one object that `interest` wants."""
    tally = Tally()
    data = inflate(body, bounds.inflated_bytes, tally)
    trail = None if tally.faults else _project(data, origin, interest, bounds)
    return trail or _walk(data, origin, interest, bounds, tally)


def select(told: Sequence[Mapping[str, Any]], origin: Origin, interest: Interest, bounds: Bounds) -> Trail:
    """The records among events that a message carries itself, as EventBridge's `detail`."""
    tally = Tally()
    found = [one for event in told for one in unwrap(dict(event), "", tally)]
    return _picked(found, 0, origin, interest, bounds, tally)


# The fast path.


class _Identity(msgspec.Struct, gc=False):
    type: str | None = None


class _Head(msgspec.Struct, gc=False):
    eventSource: str | None = None  # noqa: N815  # CloudTrail's name
    eventName: str = ""  # noqa: N815
    userIdentity: _Identity | None = None  # noqa: N815


class _Heads(msgspec.Struct):
    Records: list[_Head]


class _Raws(msgspec.Struct):
    Records: list[msgspec.Raw]


_heads = msgspec.json.Decoder(_Heads)
_raws = msgspec.json.Decoder(_Raws)


def _project(data: bytes, origin: Origin, interest: Interest, bounds: Bounds) -> Trail | None:
    """The trail of an ordinary file; None for anything else, whose reading is `_walk`'s."""
    if not data.isascii() and not _is_utf8(data):
        return None
    try:
        heads = _heads.decode(data).Records
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    wanted = _wanted(heads, interest)
    if wanted is None:
        return None
    if not wanted:
        return Trail(seen=len(heads), inflated_bytes=len(data))
    tally = Tally()
    records: list[Record] = []
    raws = _raws.decode(data).Records
    for number in wanted:
        place = f"record {number + 1} of {len(heads)}"
        try:
            event = loads(bytes(raws[number]))
        except json.JSONDecodeError as error:
            tally.fault("invalid-json", f"{place}: {error}")
            continue
        if _fits(event, bounds, place, tally, len(raws[number])):
            records.append(Record(event, origin))
    return Trail(tuple(records), len(heads), len(data), tuple(tally.faults.values()))


def _wanted(heads: list[_Head], interest: Interest) -> list[int] | None:
    """The places of the wanted records, or None where one has no event name and so is for `_walk` to judge."""
    known: dict[tuple[str | None, str, str | None], bool] = {}
    wanted: list[int] = []
    for number, head in enumerate(heads):
        identity = head.userIdentity
        told = (head.eventSource, head.eventName, None if identity is None else identity.type)
        wants = known.get(told)
        if wants is None:
            if not head.eventName:
                return None
            wants = known[told] = interest.wants(*told)
        if wants:
            wanted.append(number)
    return wanted


def _fits(event: Mapping[str, Any], bounds: Bounds, place: str, tally: Tally, at_most: int | None = None) -> bool:
    if at_most is not None and at_most <= bounds.record_bytes:
        return True
    try:
        size = len(orjson.dumps(event))
    except TypeError:  # nested deeper than orjson writes; the bound on the object holds it anyway
        return True
    if size > bounds.record_bytes:
        tally.fault(
            "record-too-large", f"{place} has {size} bytes, more than the {bounds.record_bytes} allowed (TRAILMEND_MAX_RECORD_BYTES)"
        )
        return False
    return True


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


# The exact path.


def _walk(data: bytes, origin: Origin, interest: Interest, bounds: Bounds, tally: Tally) -> Trail:
    return _picked(events(data.removeprefix(BOM), tally), len(data), origin, interest, bounds, tally)


def _picked(
    told: Iterable[tuple[str, dict[str, Any]]], inflated_bytes: int, origin: Origin, interest: Interest, bounds: Bounds, tally: Tally
) -> Trail:
    records: list[Record] = []
    seen = 0
    for place, event in told:
        seen += 1
        record = Record(event, origin)
        source = event.get("eventSource")
        wants = interest.wants(source if isinstance(source, str) else None, record.name, record.identity_type)
        if wants and _fits(event, bounds, place, tally):
            records.append(record)
    return Trail(tuple(records), seen, inflated_bytes, tuple(tally.faults.values()), dict(tally.skipped))
