"""SQS, the edge that sends: findings and tasks go in, and what the queue did not take is told, never raised.

Standard and FIFO. As on the edge that receives, a call goes by the fast lane (`lane.py`) where all goes well, and through the SDK where it does not: a send
of one finding of 8 KB costs 0.24 ms of CPU on the lane and 1.7 through the SDK. A batch that is answered in part is read entry by entry.
Batches and limits: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-batch-api-actions.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
from botocore.exceptions import BotoCoreError, ClientError

from worker.aws import explain
from worker.lane import Lane
from worker.model import Outgoing

BATCH_ENTRIES = 10
BATCH_BYTES = 256 * 1024
"""The smaller of the limits that SQS has had for a whole batch; https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html"""
REFUSED_BY_SQS = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}
"""The characters of JSON text that SQS takes in no message, as JSON's escapes for them; https://www.w3.org/TR/REC-xml/#charsets"""
ANSWER_SECONDS = 5.0
MOST_ANSWER_BYTES = 2**20


class SqsSink:
    """An SQS queue; one whose name ends in .fifo gets a deduplication id and a group."""

    kind = "sqs"
    calls = ("sqs:SendMessageBatch",)

    def __init__(self, client: Any, lane: Lane, url: str) -> None:
        self.key = url
        self._client = client
        self._lane = lane
        self._fifo = url.endswith(".fifo")

    async def put(self, items: Sequence[Outgoing]) -> Mapping[str, str]:
        failed: dict[str, str] = {}
        for batch in _batches(items):
            request = {"QueueUrl": self.key, "Entries": [self._entry(number, item) for number, item in enumerate(batch)]}
            if await self._quickly(request, len(batch)):
                continue
            try:
                answer = await self._client.send_message_batch(**request)
            except (ClientError, BotoCoreError, OSError, TimeoutError) as error:
                failed.update(dict.fromkeys((item.id for item in batch), explain(error).text))
                continue
            for one in answer.get("Failed", []):
                failed[batch[int(one["Id"])].id] = f"{one.get('Code')}: {one.get('Message', '')}"
        return failed

    async def _quickly(self, request: Mapping[str, Any], count: int) -> bool:
        """Whether the fast lane answers that every one was taken."""
        answer = await self._lane.post(
            "AmazonSQS.SendMessageBatch", orjson.dumps(request), seconds=ANSWER_SECONDS, most_bytes=MOST_ANSWER_BYTES
        )
        if answer is None:
            return False
        try:
            told = orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            return False
        return isinstance(told, dict) and not told.get("Failed") and len(told.get("Successful") or ()) == count

    def _entry(self, number: int, item: Outgoing) -> dict[str, str]:
        entry = {"Id": str(number), "MessageBody": item.body.decode().translate(REFUSED_BY_SQS)}
        if self._fifo:
            entry |= {"MessageGroupId": item.group, "MessageDeduplicationId": item.id}
        return entry


def _batches(items: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    batch: list[Outgoing] = []
    size = 0
    for item in items:
        if batch and (len(batch) == BATCH_ENTRIES or size + len(item.body) > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item.body)
    if batch:
        yield batch
