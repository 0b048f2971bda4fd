"""SNS, EventBridge and Step Functions: findings and tasks go in one by one, and what was not taken is told, never raised.

Each is told apart by its ARN, which also names its region. What can recognise a second copy is given the item's id to do so: a FIFO topic as
deduplication id, a state machine as the execution's name. EventBridge cannot; its event's `detail` has the id for whoever must know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from botocore.exceptions import BotoCoreError, ClientError

from worker.aws import explain
from worker.dispatch.sqs import REFUSED_BY_SQS
from worker.model import Outgoing

MOST_BYTES = 256 * 1024
"""Of a message, an event with its envelope, and an execution's input, alike:
https://docs.aws.amazon.com/general/latest/gr/sns.html, https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html,
https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""
ENVELOPE_BYTES = 1024
"""More than source, detail type and the like take of it."""
SOURCE = "trailmend"


class _Target:
    """Something of AWS with an ARN that takes one item a call."""

    kind: str
    calls: ClassVar[tuple[str, ...]]

    def __init__(self, client: Any, arn: str) -> None:
        self.key = arn
        self._client = client

    async def put(self, items: Sequence[Outgoing]) -> Mapping[str, str]:
        failed: dict[str, str] = {}
        for item in items:
            if len(item.body) > MOST_BYTES - ENVELOPE_BYTES:
                failed[item.id] = f"{len(item.body)} bytes are more than {self.kind} takes ({MOST_BYTES})"
                continue
            try:
                refusal = await self._put(item)
            except (ClientError, BotoCoreError, OSError, TimeoutError) as error:
                refusal = explain(error).text
            if refusal is not None:
                failed[item.id] = refusal
        return failed

    async def _put(self, item: Outgoing) -> str | None:
        raise NotImplementedError


class SnsSink(_Target):
    """An SNS topic; one whose name ends in .fifo gets a deduplication id and a group."""

    kind = "sns"
    calls = ("sns:Publish",)

    async def _put(self, item: Outgoing) -> str | None:
        fifo = {"MessageGroupId": item.group, "MessageDeduplicationId": item.id} if self.key.endswith(".fifo") else {}
        # Most of its subscribers are queues, which take no more characters than SQS does.
        await self._client.publish(TopicArn=self.key, Message=item.body.decode().translate(REFUSED_BY_SQS), **fifo)
        return None


class EventBridgeSink(_Target):
    """An event bus: source `trailmend`, detail type `Trailmend Finding` or `Trailmend Task`, the item itself as detail."""

    kind = "eventbridge"
    calls = ("events:PutEvents",)

    async def _put(self, item: Outgoing) -> str | None:
        entry = {
            "EventBusName": self.key,
            "Source": SOURCE,
            "DetailType": f"Trailmend {item.what.capitalize()}",
            "Detail": item.body.decode(),
        }
        # A bus answers 200 for what it refused as well.
        (told,) = (await self._client.put_events(Entries=[entry]))["Entries"]
        return None if told.get("EventId") else f"{told.get('ErrorCode')}: {told.get('ErrorMessage', '')}"


class StepFunctionsSink(_Target):
    """A state machine: an execution named by the item's id, its input the item. For 90 days a standard one starts no second of that name."""

    kind = "stepfunctions"
    calls = ("stepfunctions:StartExecution",)

    async def _put(self, item: Outgoing) -> str | None:
        try:
            await self._client.start_execution(stateMachineArn=self.key, name=item.id, input=item.body.decode())
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "ExecutionAlreadyExists":
                raise
        return None
