"""What CloudTrail tells of the demo's executor: a record for each call that the journal has, by the request id that AWS gave. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from random import Random
from typing import Any

from worker.local.delivery import Delivery, deliver
from worker.local.records import Caller, Record, api_call, assumed_role, unique_id
from worker.local.story import WEB_ACCOUNT
from worker.model import MARK
from worker.remediate.history import History

AGENT = f"aiobotocore/3.10.0 md/Botocore#1.43.116 ua/2.1 os/linux md/arch#x86_64 lang/python#3.12.6 {MARK}"
ADDRESS = "192.0.2.77"


def trace(seed: int, now: datetime, role: str, tasks: Sequence[History]) -> Delivery:
    """The objects that CloudTrail would put into S3; `role` is the one by which the executor entered the member account."""
    dice = Random(seed)  # noqa: S311  # it makes a story, not a secret
    names = unique_id(dice, "AROA"), role, MARK, unique_id(dice, "ASIA")
    caller = assumed_role(
        WEB_ACCOUNT, names[1], names[0], names[2], names[3], address=ADDRESS, agent=AGENT, since=now, source_identity=MARK
    )
    return deliver(dice, _records(dice, caller, now, tasks))


def calls(tasks: Sequence[History]) -> list[tuple[Mapping[str, Any], str]]:
    """Every step that was taken, with its request id."""
    applied = [line.body for task in tasks for line in task.lines if line.outcome == "applied"]
    return [pair for body in applied for pair in zip(body["plan"], body["request_ids"], strict=True)]


def _records(dice: Random, caller: Caller, now: datetime, tasks: Sequence[History]) -> Iterator[Record]:
    for step, request_id in calls(tasks):
        parameters = {f"{name[0].lower()}{name[1:]}": value for name, value in step["parameters"].items()}
        region = step["region"] or "us-east-1"
        yield {**api_call(dice, caller, now, step["service"], step["api"], parameters, region=region), "requestID": request_id}
