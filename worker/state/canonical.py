"""The forms in which both stores write a moment, a key, a journal line and a sighting, so that what one wrote the other could read.

Pure. A moment is whole microseconds since 1970 (exact, ordered, the same in SQLite's INTEGER and DynamoDB's N). A journal line is
JSON in one canonical spelling: members sorted, no spaces, ASCII only, so its hash depends on what it says and nothing else. A sighting is
compressed JSON and holds its whole record, of which only the largest lose members; beside it stands its aspect, by which it can be counted unread.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from worker.model import Answer, Approval, Census, Decision, JournalEntry, Origin, Record, Sighting

MOST_PACKED_BYTES = 300_000
"""DynamoDB takes 400 KB an item, names and keys included
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html). One record in thousands comes near."""
LEFT_OUT_FIRST = ("responseElements", "requestParameters", "additionalEventData")
"""In this order: a correlation asks who did what and when, and these say how. Its values and groups were read before."""
MOST_MEMBERS, LARGEST_MEMBER_BYTES = 100, 2_500
"""What stays of an event that is too large without these three as well, so that it fits whatever it holds."""

LONGEST_ASPECT = 500
"""Characters. What is longer is left untold: it stands in an index."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of a moment that carries its zone. Raises `TypeError` for one that does not."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(micros: int) -> datetime:
    """The moment, in UTC, that `micros` made."""
    return _EPOCH + micros * _MICROSECOND


def dump(value: Mapping[str, Any]) -> str:
    """The canonical JSON of a JSON-ready mapping. Raises `TypeError` or `ValueError` for anything that JSON has no word for."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def load(text: str) -> dict[str, Any]:
    """What `dump` wrote."""
    value: dict[str, Any] = json.loads(text)
    return value


# Approvals.


def asking(approval: Approval) -> str:
    """An approval without its decisions, as `to_approval` reads it."""
    return dump(
        {
            "task": approval.task,
            "asked_at": micros(approval.asked_at),
            "expires_at": micros(approval.expires_at),
            "needed": approval.needed,
            "steps": list(approval.steps),
            "effects": list(approval.effects),
            "undoing": approval.undoing,
            "executors": list(approval.executors),
        }
    )


def to_approval(text: str, decisions: Iterable[Decision]) -> Approval:
    """What `asking` was made of, with its decisions by their time."""
    told = load(text)
    return Approval(
        told["task"],
        moment(told["asked_at"]),
        moment(told["expires_at"]),
        told["needed"],
        tuple(told["steps"]),
        tuple(told["effects"]),
        told["undoing"],
        tuple(told["executors"]),
        tuple(sorted(decisions, key=lambda one: (one.at, one.approver))),
    )


def decision(approver: str, answer: str, why: str, at: int) -> Decision:
    """A decision out of its parts; `at` is as `micros` makes it."""
    return Decision(approver, Answer(answer), why, moment(at))


# The journal.


def line(entry: JournalEntry) -> str:
    """The canonical JSON of a journal entry."""
    at = entry.at.astimezone(UTC).isoformat(timespec="microseconds")
    return dump({"task_id": entry.task_id, "at": at, "outcome": entry.outcome, "body": entry.body})


def entry(line: str) -> JournalEntry:
    """The journal entry that `line` wrote."""
    value = load(line)
    return JournalEntry(value["task_id"], datetime.fromisoformat(value["at"]), value["outcome"], value["body"])


def link(previous: str, line: str) -> str:
    """The hash of a journal line: SHA-256 over the hash before it ("" for the first), a line feed, and the line, in hexadecimal."""
    return hashlib.sha256(f"{previous}\n{line}".encode("ascii")).hexdigest()


# Sightings.


def pack(sighting: Sighting) -> bytes:
    """All of a sighting but its window and time, which stand beside it: zlib over JSON, at most `MOST_PACKED_BYTES` of it.

    Where the whole would be larger, members of the event are left out. Reading it back then gives another record, but of the same key.
    """
    record = sighting.record
    told = {
        "rule": sighting.rule,
        "item": sighting.item,
        "group": sighting.group,
        "values": sighting.values,
        "origin": [record.origin.bucket, record.origin.key, record.origin.path, record.origin.message],
        "record_key": record.key,
    }
    packed = b""
    for event in _ever_less(record.event):
        try:
            packed = zlib.compress(orjson.dumps({**told, "event": event}))
        except orjson.JSONEncodeError:  # nested deeper than orjson writes (254), though it reads 1,024
            continue
        if len(packed) <= MOST_PACKED_BYTES:
            break
    return packed


def unpack(packed: bytes, window: str, time: datetime) -> Sighting:
    """The sighting that `pack` wrote."""
    told = orjson.loads(zlib.decompress(packed))
    record = Record(told["event"], Origin(*told["origin"]))
    # Left as it was computed from the whole event, which may have lost members that the key is made of.
    vars(record)["key"] = told["record_key"]
    return Sighting(window, told["rule"], told["item"], time, record, tuple(told["group"]), tuple(told["values"]))


def aspect(sighting: Sighting) -> str | None:
    """What conditions count of a sighting, its rule and values, as text; None where that would be long."""
    told = orjson.dumps((sighting.rule, sighting.values)).decode()
    return told if len(told) <= LONGEST_ASPECT else None


def census(counted: Iterable[tuple[str | None, int, datetime]]) -> Census:
    """The census of counts and latest times by what `aspect` wrote. The same may come several times."""
    counts, latest = Counter[str | None](), None
    for aspect, count, time in counted:
        counts[aspect] += count
        latest = time if latest is None else max(latest, time)
    untold = counts.pop(None, 0)
    told = ((orjson.loads(aspect), count) for aspect, count in counts.items() if aspect is not None)
    return Census({(rule, tuple(values)): count for (rule, values), count in told}, untold, latest)


def _ever_less(event: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield event
    for count in range(1, len(LEFT_OUT_FIRST) + 1):
        yield {name: value for name, value in event.items() if name not in LEFT_OUT_FIRST[:count]}
    small = [name for name, value in event.items() if _is_small({"event": {name: value}})]
    yield {name: event[name] for name in small[:MOST_MEMBERS]}


def _is_small(member: Mapping[str, Any]) -> bool:
    # As deep in it as it will stand, so that what can be written here can be written there.
    try:
        return len(orjson.dumps(member)) <= LARGEST_MEMBER_BYTES
    except orjson.JSONEncodeError:
        return False
