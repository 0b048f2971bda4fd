"""Objects as CloudTrail delivers them: tiny, of the sizes measured on real trails, of real records where `../shared/data` has them.

The shared objects are of one busy hour (a median of 20 records), so the records are theirs and the sizes those of 3,927 original
objects: a median of 6 records, a tenth over 16. Most objects hold nothing that anybody wants and serve in every round; those that do
are made anew for each, with ids of their own, because a worker tells a second copy of an event from the first and does less for it.
"""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import log
from pathlib import Path
from typing import Any

from benchmarks.answers import REGION
from benchmarks.corpus import loose_records, worker_interest
from worker.local import records
from worker.local.delivery import MEDIAN_RECORDS, SPREAD

BUCKET = "org-trail-bench"
FRESH = timedelta(minutes=10)
"""CloudTrail delivers within some minutes, so wanted events are that old; others' times are nobody's business."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round's objects and what they hold. `file` has their names (bucket/key), one a line, for the stub.

    `deleted` tells for each instance profile that is deleted in them the number of the object that says so.
    """

    file: Path
    objects: int
    records: int
    wanted: int
    deleted: Mapping[str, int]


class Traffic:
    """Writes objects under `folder`/s3, where the stub finds them. `share` of all records are wanted ones."""

    def __init__(self, folder: Path, dice: random.Random, share: float, *, mendable: bool = False) -> None:
        interest = worker_interest()
        told = loose_records()
        wanted = [interest.wants(one.get("eventSource"), one["eventName"], (one.get("userIdentity") or {}).get("type")) for one in told]
        self.dull = [one for one, by_somebody in zip(told, wanted, strict=True) if not by_somebody]
        self._wanted = [one for one, by_somebody in zip(told, wanted, strict=True) if by_somebody]
        accounts = Counter(one.get("recipientAccountId") or "111122223333" for one in told)
        self.account = accounts.most_common(1)[0][0]
        self.folder = folder / "s3"
        self._lists = folder
        self._dice = dice
        self._share = share
        self._mendable = mendable
        self._drawn = 0

    def rounds(self, count: int, objects: int) -> list[Round]:
        """As many rounds of as many objects. The quiet ones are the same in each."""
        sizes = [max(1, round(self._dice.lognormvariate(log(MEDIAN_RECORDS), SPREAD))) for _ in range(objects)]
        hits = [sum(self._dice.random() < self._share for _ in range(size)) for size in sizes]
        quiet = ["" if found else self._write(size, ()) for size, found in zip(sizes, hits, strict=True)]
        return [self._round(sizes, hits, quiet) for _ in range(count)]

    def _round(self, sizes: Sequence[int], hits: Sequence[int], quiet: Sequence[str]) -> Round:
        names: list[str] = []
        deleted: dict[str, int] = {}
        for number, (size, found) in enumerate(zip(sizes, hits, strict=True)):
            wanted = [self._event() for _ in range(found)]
            names.append(self._write(size, wanted) if wanted else quiet[number])
            deleted |= {one["requestParameters"]["instanceProfileName"]: number for one in wanted if self._mendable}
        self._drawn += 1
        file = self._lists / f"round-{self._drawn}.txt"
        file.write_text("\n".join(names), encoding="utf-8")
        return Round(file, len(names), sum(sizes), sum(hits), deleted)

    def _event(self) -> dict[str, Any]:
        at = datetime.now(UTC) - FRESH * self._dice.random()
        if self._mendable:
            return self._deletion(at)
        fresh = {"eventTime": records.stamp(at), "eventID": records.uuid(self._dice), "requestID": records.uuid(self._dice)}
        return {**self._dice.choice(self._wanted), **fresh}

    def _deletion(self, at: datetime) -> dict[str, Any]:
        """Somebody deletes an instance profile, each time another: a finding with a task."""
        key, user = records.unique_id(self._dice, "AKIA"), records.unique_id(self._dice, "AIDA")
        caller = records.iam_user(self.account, "mallory", user, key, address="198.51.100.7", agent="aws-cli/2.22.12")
        parameters = {"instanceProfileName": f"profile-{self._dice.getrandbits(64):016x}"}
        return records.api_call(self._dice, caller, at, "iam", "DeleteInstanceProfile", parameters)

    def _write(self, size: int, wanted: Sequence[dict[str, Any]]) -> str:
        """An object of neighbouring records, as one account's are, with the wanted ones among them; answers its name."""
        start = self._dice.randrange(len(self.dull))
        told = [self.dull[(start + step) % len(self.dull)] for step in range(size - len(wanted))]
        for one in wanted:
            told.insert(self._dice.randint(0, len(told)), one)
        day, mark = datetime.now(UTC), f"{self._dice.getrandbits(80):020x}"
        name = (
            f"{BUCKET}/AWSLogs/{self.account}/CloudTrail/{REGION}/{day:%Y/%m/%d}/"
            f"{self.account}_CloudTrail_{REGION}_{day:%Y%m%dT%H%M}Z_{mark[:16]}.json.gz"
        )
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(json.dumps({"Records": told}, separators=(",", ":")).encode()))
        return name
