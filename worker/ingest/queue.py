"""SQS, the edge that receives, holds and deletes: messages go in and out, and what SQS refuses is told, never raised past here.

Promises: a receive asks for no more than the caller has hands for; a batch answer that fails in part is read entry by entry; a delete that fails
is counted and left, because the message comes again and is then recognised. The calls made for every message go by the fast lane
(`lane.py`) where all goes well, and through the SDK where it does not.
Batches and limits: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-batch-api-actions.html
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from botocore.exceptions import BotoCoreError, ClientError

from worker.aws import explain
from worker.lane import Lane
from worker.model import Message
from worker.observe.metrics import Metrics

QUEUE_CALLS = ("sqs:ReceiveMessage", "sqs:DeleteMessageBatch", "sqs:ChangeMessageVisibilityBatch", "sqs:GetQueueAttributes")
DEAD_LETTER_CALLS = ("sqs:GetQueueUrl", "sqs:GetQueueAttributes")
AWS_CALLS = (*QUEUE_CALLS, *DEAD_LETTER_CALLS)

BATCH = 10
LONG_POLL_SECONDS = 20
ANSWER_SECONDS = 30.0
MOST_ANSWER_BYTES = 32 * 2**20
"""Ten messages of at most 1 MiB, with what escapes add."""
STATES = {
    "visible": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}

AWS_ERRORS = (ClientError, BotoCoreError, OSError, TimeoutError)


class ReceiveError(Exception):
    """A receive failed. The text says on which queue and why."""


class Queue:
    """One SQS queue. `name` is its part here (main or tasks), the label of its metrics. `client` is an aiobotocore SQS client."""

    def __init__(self, client: Any, lane: Lane, url: str, name: str, visibility_seconds: int, metrics: Metrics) -> None:
        self.url = url
        self.name = name
        self.visibility_seconds = visibility_seconds
        self._client = client
        self._lane = lane
        self._metrics = metrics
        self._asked = False

    async def receive(self, most: int) -> list[Message]:
        """Up to `most` (1 to 10) messages, waiting for the first as long as SQS lets one wait. Raises `ReceiveError`.

        The very first receive does not wait: that the queue can be read is known at once, and whoever waits for a ready worker need not wait for it.
        """
        wait_seconds, self._asked = LONG_POLL_SECONDS if self._asked else 0, True
        request = {
            "QueueUrl": self.url,
            "MaxNumberOfMessages": min(most, BATCH),
            "WaitTimeSeconds": wait_seconds,
            "VisibilityTimeout": self.visibility_seconds,
            "MessageSystemAttributeNames": ["SentTimestamp", "ApproximateReceiveCount"],
        }
        answer = await self._quickly("ReceiveMessage", request)
        messages = None if answer is None else _messages(answer)
        if messages is not None:
            return messages
        try:
            answer = await self._client.receive_message(**request)
        except AWS_ERRORS as error:
            raise ReceiveError(f"{self.url}: {explain(error).text}") from error
        return [_message(told) for told in answer.get("Messages", [])]

    async def delete(self, messages: Sequence[Message]) -> frozenset[str]:
        """Delete up to ten messages. Answers the ids of those that are gone."""
        entries = [{"Id": str(n), "ReceiptHandle": message.receipt} for n, message in enumerate(messages)]
        failed = await self._batch("DeleteMessageBatch", self._client.delete_message_batch, entries)
        for number, told in failed.items():
            self._metrics.queues.delete_failed(self.name, messages[number].id, told)
        self._metrics.queues.deleted(self.name, len(messages) - len(failed))
        return frozenset(message.id for number, message in enumerate(messages) if number not in failed)

    async def extend(self, messages: Sequence[Message], seconds: int) -> None:
        """Let messages stay invisible for `seconds` from now; 0 gives them back at once. Failures are counted."""
        for start in range(0, len(messages), BATCH):
            batch = messages[start : start + BATCH]
            entries = [{"Id": str(n), "ReceiptHandle": message.receipt, "VisibilityTimeout": seconds} for n, message in enumerate(batch)]
            for number, told in (
                await self._batch("ChangeMessageVisibilityBatch", self._client.change_message_visibility_batch, entries)
            ).items():
                self._metrics.queues.hold_failed(self.name, batch[number].id, told)

    async def depths(self) -> Mapping[str, Mapping[str, int]]:
        """How many messages wait here, and on the queue they are redriven to (`dlq`, or `tasks_dlq`), as SQS estimates it, by state."""
        try:
            here = await self._attributes(self.url)
            depths = {self.name: _states(here)}
            redrive = json.loads(here.get("RedrivePolicy", "{}"))
            arn = redrive.get("deadLetterTargetArn")
            if arn is not None:
                account, _, name = arn.rpartition(":")
                dead = await self._client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account.rpartition(":")[2])
                depths["dlq" if self.name == "main" else f"{self.name}_dlq"] = _states(await self._attributes(dead["QueueUrl"]))
        except AWS_ERRORS as error:
            self._metrics.fault("depths", "queue-depth-unknown", queue=self.name, detail=f"{self.url}: {explain(error).text}")
            return {}
        return depths

    async def _attributes(self, url: str) -> Mapping[str, str]:
        wanted = [*STATES.values(), "RedrivePolicy"]
        answer = await self._client.get_queue_attributes(QueueUrl=url, AttributeNames=wanted)
        attributes: Mapping[str, str] = answer.get("Attributes", {})
        return attributes

    async def _batch(self, operation: str, call: Callable[..., Awaitable[Any]], entries: list[dict[str, Any]]) -> Mapping[int, str]:
        """Make one batch call; answers the failed entries' numbers and why."""
        quick = await self._quickly(operation, {"QueueUrl": self.url, "Entries": entries})
        if quick is not None and not quick.get("Failed"):
            return {}
        try:
            answer = await call(QueueUrl=self.url, Entries=entries)
        except AWS_ERRORS as error:
            told = explain(error).text
            return {int(entry["Id"]): told for entry in entries}
        return {int(one["Id"]): f"{one.get('Code')}: {one.get('Message', '')}" for one in answer.get("Failed", [])}

    async def _quickly(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """What the fast lane answers; None where it answers nothing that can be understood, and the long way has to be gone."""
        answer = await self._lane.post(
            f"AmazonSQS.{operation}", orjson.dumps(request), seconds=ANSWER_SECONDS, most_bytes=MOST_ANSWER_BYTES
        )
        if answer is None:
            return None
        try:
            told = orjson.loads(answer.body or b"{}")
        except orjson.JSONDecodeError:
            return None
        return told if isinstance(told, dict) else None


def _messages(answer: Mapping[str, Any]) -> list[Message] | None:
    try:
        return [_message(told) for told in answer.get("Messages") or ()]
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _message(told: Mapping[str, Any]) -> Message:
    attributes = told.get("Attributes", {})
    sent = attributes.get("SentTimestamp")
    return Message(
        id=told["MessageId"],
        body=str(told.get("Body", "")),
        receipt=told["ReceiptHandle"],
        sent_at=datetime.fromtimestamp(int(sent) / 1000, UTC) if sent else None,
        receives=int(attributes.get("ApproximateReceiveCount", "1")),
    )


def _states(attributes: Mapping[str, str]) -> dict[str, int]:
    return {state: int(attributes.get(name, "0")) for state, name in STATES.items()}
