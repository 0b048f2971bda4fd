"""What a correlation found, made by hand: a finding of the last of some records, with all of them as its occurrence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from worker.detect.subject import actor_of, subject_of
from worker.model import Finding, Level, Occurrence, Origin, Record, Rule, Sighting

START = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
ACCOUNT = "111122223333"
STORM = Rule("00000000-0000-4000-8000-000000000005", "Many deleted", Level.CRITICAL)
DELETED = "00000000-0000-4000-8000-000000000001"


def deletion(number: int, *, second: float | None = None, who: str = "mallory", account: str = ACCOUNT, **more: Any) -> Record:
    """Somebody deletes profile `p<number>`, `number` seconds after the start if no other is given."""
    at = START + timedelta(seconds=number if second is None else second)
    arn = f"arn:aws:iam::{account}:user/{who}"
    event = {
        "eventID": f"event-{number}",
        "eventSource": "iam.amazonaws.com",
        "eventName": "DeleteInstanceProfile",
        "eventTime": at.isoformat().replace("+00:00", "Z"),
        "awsRegion": "us-east-1",
        "recipientAccountId": account,
        "userIdentity": {"type": "IAMUser", "arn": arn, "userName": who, "accountId": account},
        "requestParameters": {"instanceProfileName": f"p{number}"},
        **more,
    }
    return Record(event, Origin(bucket="logs", key=f"log-{number}.json.gz"))


def finding(record: Record, rule: Rule = STORM) -> Finding:
    """What one rule found."""
    return Finding(rule, record, actor_of(record), subject_of(record))


def together(records: Sequence[Record], rule: Rule = STORM, group: Mapping[str, str] | None = None, seen_by: str = DELETED) -> Finding:
    """What a correlation found in records, each seen by one rule."""
    return occurred([sighting(record, seen_by) for record in records], rule, group)


def sighting(record: Record, seen_by: str = DELETED, item: str | None = None) -> Sighting:
    """One rule's sighting of a record."""
    assert record.time is not None
    return Sighting("window", seen_by, item or record.key, record.time, record)


def occurred(sightings: Sequence[Sighting], rule: Rule = STORM, group: Mapping[str, str] | None = None) -> Finding:
    """What a correlation found in sightings."""
    record = sightings[-1].record
    occurrence = Occurrence(rule.id, "window", START, dict(group or {}), tuple(sightings))
    return Finding(rule, record, actor_of(record), subject_of(record), occurrence)
