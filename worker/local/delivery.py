"""How CloudTrail delivers: records in, the S3 objects that would hold them out.

Records are gathered by account and region, cut into small objects of the sizes measured on real trails (a median of 6 records, a tenth over
16), gzipped, and put under the keys CloudTrail uses. A share of all events is delivered a second time, in another object, as happens in
real trails. Pure: the same dice give the same bytes.
Key format: https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-examples.html
"""

from __future__ import annotations

import gzip
import json
import string
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import log
from random import Random
from typing import Any

from worker.local.records import Record, stamp

DELIVERED_TWICE = 0.25
MEDIAN_RECORDS = 6
SPREAD = 0.765
"""Sigma of the log-normal size: it puts the 90th percentile at 16 records and the 99th at 36, for the measured 16 and 37."""

BURST_SECONDS = 10


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object as S3 is to hold it."""

    key: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Delivery:
    """What CloudTrail delivered: the objects, how many of them are logs, the records in them, and how many of these are second copies."""

    objects: tuple[StoredObject, ...]
    logs: int
    records: int
    copies: int


def deliver(dice: Random, records: Iterable[Record]) -> Delivery:
    """Pack records (any order) into objects, by account and region and time."""
    piles: defaultdict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        piles[record["recipientAccountId"], record["awsRegion"]].append(record)
    objects: list[StoredObject] = []
    total = copies = 0
    for (account, region), pile in sorted(piles.items()):
        late: list[Record] = []
        for batch in _batches(dice, sorted(pile, key=_when)):
            again = [record for record in batch if dice.random() < DELIVERED_TWICE]
            objects.append(_log_file(dice, account, region, [*batch, *late]))
            total += len(batch) + len(late)
            copies += len(late)
            late = again
        if late:
            objects.append(_log_file(dice, account, region, late))
            total += len(late)
            copies += len(late)
    return Delivery(tuple(objects), len(objects), total, copies)


def digest(dice: Random, account: str, region: str, at: datetime) -> StoredObject:
    """The digest file of an hour, which a trail with file validation puts beside its logs and which is no log.

    https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-validation-digest-file-structure.html
    """
    begin = at - timedelta(hours=1)
    content: dict[str, Any] = {
        "awsAccountId": account,
        "digestStartTime": stamp(begin),
        "digestEndTime": stamp(at),
        "digestS3Object": f"AWSLogs/{account}/CloudTrail-Digest/{region}",
        "digestPublicKeyFingerprint": f"{dice.getrandbits(128):032x}",
        "digestSignatureAlgorithm": "SHA256withRSA",
        "newestEventTime": stamp(at),
        "oldestEventTime": stamp(begin),
        "previousDigestHashValue": f"{dice.getrandbits(256):064x}",
        "previousDigestHashAlgorithm": "SHA-256",
        "logFiles": [],
    }
    key = f"AWSLogs/{account}/CloudTrail-Digest/{region}/{at:%Y/%m/%d}/{account}_CloudTrail-Digest_{region}_trail_{region}_{at:%Y%m%dT%H%M%SZ}.json.gz"
    return StoredObject(key, gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0))


def folder_marker(account: str) -> StoredObject:
    """The empty object that the S3 console makes for a folder, and that is no log either."""
    return StoredObject(f"AWSLogs/{account}/CloudTrail/", b"")


def _when(record: Record) -> str:
    return str(record["eventTime"])


def _moment(record: Record) -> datetime:
    return datetime.fromisoformat(record["eventTime"])


def _batches(dice: Random, records: Sequence[Record]) -> Iterator[list[Record]]:
    """Cut, but never through a burst of writes: what one hand does within seconds is delivered together, as in the real chains seen."""
    batch: list[Record] = []
    size = _size(dice)
    for record in records:
        if batch and ((len(batch) >= size and not _one_burst(batch, record)) or _moment(record) - _moment(batch[0]) > timedelta(hours=1)):
            yield batch
            batch, size = [], _size(dice)
        batch.append(record)
    if batch:
        yield batch


def _size(dice: Random) -> int:
    return max(1, round(dice.lognormvariate(log(MEDIAN_RECORDS), SPREAD)))


def _one_burst(batch: Sequence[Record], record: Record) -> bool:
    close = timedelta(seconds=BURST_SECONDS)
    return any(
        not before["readOnly"] and not record["readOnly"] and before["userIdentity"].get("arn") == record["userIdentity"].get("arn")
        for before in batch
        if _moment(record) - _moment(before) <= close
    )


def _log_file(dice: Random, account: str, region: str, records: Sequence[Record]) -> StoredObject:
    # A file is named by the minute of its delivery, in steps of five, after the last event in it.
    last = max(_moment(record) for record in records)
    at = datetime.fromtimestamp((last.timestamp() // 300 + 1) * 300, UTC)
    tail = "".join(dice.choices(string.ascii_letters + string.digits, k=16))
    key = f"AWSLogs/{account}/CloudTrail/{region}/{at:%Y/%m/%d}/{account}_CloudTrail_{region}_{at:%Y%m%dT%H%MZ}_{tail}.json.gz"
    # The gzip header's time is left out, so that a story is the same to the byte whenever it is told.
    return StoredObject(key, gzip.compress(json.dumps({"Records": list(records)}, separators=(",", ":")).encode(), mtime=0))
