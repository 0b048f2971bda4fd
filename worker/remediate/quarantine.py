"""Where refused task messages go: to the dead-letter queue of the task queue, at once, with the reason beside them.

A message that is no valid task stays none however often it is received, so it is not left to its redrive, which takes hours and hides it among
tasks that failed. Its body goes unchanged, and the attributes `trailmend-refused` (the reason) and `trailmend-detail` tell why. Only what SQS
acknowledged may be deleted; a crash in between puts it there twice, which does no harm. Where there is no such queue, or it takes nothing, the message
is left to its redrive.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from worker.aws import explain
from worker.model import Message

AWS_CALLS = ("sqs:GetQueueAttributes", "sqs:GetQueueUrl", "sqs:SendMessage")

LONGEST_DETAIL = 300
NONE = "the task queue has no dead-letter queue"


class Quarantine:
    """The dead-letter queue of one task queue. `client` is an aiobotocore SQS client."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url
        self._finding = asyncio.Lock()
        self._dead: str | None = None

    async def find(self) -> str | None:
        """Learn where the queue is redriven to. Answers None where that is known now, else why not."""
        async with self._finding:
            return None if self._dead is not None else await self._find()

    async def _find(self) -> str | None:
        try:
            told = await self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["RedrivePolicy"])
            arn = json.loads(told.get("Attributes", {}).get("RedrivePolicy", "{}")).get("deadLetterTargetArn")
            if arn is None:
                return NONE
            owner, _, name = str(arn).rpartition(":")
            dead = await self._client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=owner.rpartition(":")[2])
        except (ClientError, BotoCoreError, OSError, TimeoutError) as error:
            return explain(error).text
        self._dead = str(dead["QueueUrl"])
        return None

    async def put(self, message: Message, reason: str, detail: str) -> str | None:
        """Send a refused message there. Answers None where SQS has it, else why not. Does not raise."""
        if not message.body:
            return "its body is empty, and SQS takes none"
        if self._dead is None and (unknown := await self.find()) is not None:
            return unknown
        attributes = {"trailmend-refused": reason, "trailmend-detail": _told(detail)}
        request: dict[str, Any] = {
            "QueueUrl": self._dead,
            "MessageBody": message.body,
            "MessageAttributes": {name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()},
        }
        if self._url.endswith(".fifo"):
            request |= {"MessageGroupId": "refused", "MessageDeduplicationId": message.id}
        try:
            await self._client.send_message(**request)
        except (ClientError, BotoCoreError, OSError, TimeoutError) as error:
            self._dead = None  # it may be another queue by now
            return explain(error).text
        return None


def _told(detail: str) -> str:
    """In letters that SQS takes: what is wrong with a message may quote it."""
    return "".join(letter if letter.isprintable() else "?" for letter in detail[:LONGEST_DETAIL]).strip() or "?"
