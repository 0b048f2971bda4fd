"""What is measured on: the real logs of `../shared/data` where they are, records of our own making otherwise."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from worker.detect.library import load
from worker.enrich import profile
from worker.ingest import trail
from worker.model import Interest
from worker.remediate import calls

SHARED = Path(__file__).parents[2] / "shared" / "data"
BOUNDS = trail.Bounds(2**29, 2**20)
MADE_UP = 2_000


def worker_interest() -> Interest:
    """What a worker with the shipped rules wants: for them, for the profile memory, and of its own calls."""
    return load([], shipped=True).interest | profile.INTEREST | calls.INTEREST


def whole_objects() -> Iterator[bytes]:
    """Real objects as they are, then the records that came without one, in objects of twenty."""
    yield from (path.read_bytes() for path in _object_files())
    collected = _collected()
    for start in range(0, len(collected), 20):
        yield gzip.compress(json.dumps({"Records": collected[start : start + 20]}).encode())


def loose_records() -> list[dict[str, Any]]:
    """The same records, out of their objects: those that have an event name."""
    told = [event for body in whole_objects() for event in json.loads(gzip.decompress(body)).get("Records", [])]
    return [event for event in told if event.get("eventName")]


def _object_files() -> list[Path]:
    return sorted((SHARED / "cloudtrail").rglob("*.json.gz"))


def _collected() -> list[dict[str, Any]]:
    if not SHARED.is_dir():
        return [_made_up(number) for number in range(MADE_UP)]
    return [json.loads(line) for path in sorted((SHARED / "cloudtrail").glob("*/records.jsonl")) for line in path.read_text().splitlines()]


def _made_up(number: int) -> dict[str, Any]:
    names = ("DescribeInstances", "GetObject", "AssumeRole", "ListUsers", "DeleteInstanceProfile")
    sources = ("ec2", "s3", "sts", "iam", "iam")
    return {
        "eventID": f"e-{number}",
        "eventTime": "2026-11-24T12:00:00Z",
        "eventSource": f"{sources[number % 5]}.amazonaws.com",
        "eventName": names[number % 5],
        "userIdentity": {"type": "IAMUser", "arn": f"arn:aws:iam::111122223333:user/user-{number % 7}"},
        "userAgent": "aws-cli/2.22.12",
        "requestParameters": {"name": f"n{number}"},
    }
