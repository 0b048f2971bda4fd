"""The forms in which both stores write a moment, a key and a journal line, so that what one wrote the other could read.

Pure. A moment is whole microseconds since 1970 (exact, ordered, the same in SQLite's INTEGER and DynamoDB's N). A journal line is
JSON in one canonical spelling: members sorted, no spaces, ASCII only, so its hash depends on what it says and nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from worker.model import JournalEntry

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
