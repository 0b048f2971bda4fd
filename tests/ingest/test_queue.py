"""The queue in memory and the real one keep the same promises."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest
from aiobotocore.session import get_session
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import ClosedLane, MemoryQueue, metrics
from worker.http1 import Answer
from worker.ingest.queue import Queue, ReceiveError
from worker.lane import Lane
from worker.model import Message


def lane(client):
    return Lane(get_session(), client.meta.endpoint_url, "sqs", "us-east-1", {}, lambda: datetime.now(UTC))


@pytest.fixture(params=["memory", "lane", "sdk"])
async def queue(request):
    """A queue with two visible messages, by either part, and the real one both ways: by the fast lane and through the SDK."""
    if request.param == "memory":
        made = MemoryQueue(visibility_seconds=30, poll_seconds=0.2)
        await made.put("one")
        await made.put("two")
        yield made
        return
    request.getfixturevalue("embedded_aws")
    async with get_session().create_client("sqs") as client:
        url = (await client.create_queue(QueueName="q"))["QueueUrl"]
        for body in ("one", "two"):
            await client.send_message(QueueUrl=url, MessageBody=body)
        way = lane(client) if request.param == "lane" else ClosedLane()
        yield Queue(client, way, url, "main", 30, metrics())
        way.close()


async def test_a_received_message_is_nobody_elses(queue):
    """Until its visibility ends a message is delivered once; it tells its body, id and count."""
    messages = [*await queue.receive(1), *await queue.receive(1)]
    assert sorted(message.body for message in messages) == ["one", "two"]
    assert [message.receives for message in messages] == [1, 1]
    assert all(message.sent_at is not None for message in messages)
    assert len({message.id for message in messages}) == 2


async def test_a_message_given_back_comes_again(queue):
    """Visibility 0 gives a message back at once, and its count goes up."""
    messages = await queue.receive(10)
    await queue.extend(messages, 0)
    again = await queue.receive(10)
    assert sorted(message.body for message in again) == sorted(message.body for message in messages)
    assert {message.receives for message in again} == {2}


async def test_a_deleted_message_never_comes_again(queue):
    """A delete answers the ids that are gone, and they stay gone."""
    messages = await queue.receive(10)
    if len(messages) < 2:
        messages += await queue.receive(10)
    assert await queue.delete(messages) == {message.id for message in messages}
    assert await queue.depths() == {"main": {"visible": 0, "in_flight": 0, "delayed": 0}}


async def test_depths_tell_visible_from_in_flight(queue):
    """One received of two: one in flight, one visible."""
    await queue.receive(1)
    assert (await queue.depths())["main"] == {"visible": 1, "in_flight": 1, "delayed": 0}


async def test_a_queue_that_is_not_there_is_a_receive_error(embedded_aws):
    """The error names the queue and says what AWS said."""
    async with get_session().create_client("sqs") as client:
        way = lane(client)
        with pytest.raises(ReceiveError, match=r"no-such-queue.*NonExistentQueue"):
            await Queue(client, way, f"{embedded_aws}/000000000000/no-such-queue", "main", 30, metrics()).receive(1)
        way.close()


async def test_the_dead_letter_queues_depth_is_told(embedded_aws):
    """The depth of the queue that messages are redriven to is there without naming it."""
    async with get_session().create_client("sqs") as client:
        dead = (await client.create_queue(QueueName="dead"))["QueueUrl"]
        policy = '{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":"3"}'
        url = (await client.create_queue(QueueName="q", Attributes={"RedrivePolicy": policy}))["QueueUrl"]
        await client.send_message(QueueUrl=dead, MessageBody="poison")
        depths = await Queue(client, ClosedLane(), url, "main", 30, metrics()).depths()
    assert depths["dlq"]["visible"] == 1


async def test_receiving_can_be_cancelled(queue):
    """A long poll ends when its task is cancelled."""
    await queue.receive(10)
    polling = asyncio.create_task(queue.receive(10))
    await asyncio.sleep(0.01)
    polling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await polling


class Scripted(ClosedLane):
    """A lane that answers a body, and a client that says what it was asked."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.asked: list[str] = []

    async def post(self, target, body, **_):
        return Answer(200, {}, self.body)

    async def receive_message(self, **request):
        self.asked.append("receive")
        return {"Messages": [{"MessageId": "sdk", "ReceiptHandle": "r"}]}

    async def delete_message_batch(self, **request):
        self.asked.append("delete")
        return {"Failed": [{"Id": "0", "Code": "ReceiptHandleIsInvalid"}]}


TEXT = st.text(max_size=5)
VALUES = st.none() | st.booleans() | st.integers() | TEXT
MESSAGE = st.fixed_dictionaries(
    {},
    optional={
        "MessageId": VALUES,
        "ReceiptHandle": VALUES,
        "Body": VALUES,
        "Attributes": VALUES
        | st.dictionaries(st.sampled_from(["SentTimestamp", "ApproximateReceiveCount"]), VALUES | st.sampled_from(["1", "-9", "9" * 40])),
    },
)


@given(
    st.binary(max_size=60)
    | st.builds(lambda told: json.dumps({"Messages": told}).encode(), st.lists(MESSAGE | VALUES, max_size=3) | VALUES)
)
def test_whatever_the_lane_answers_is_messages_or_is_asked_again(body):
    """An answer that is no answer never raises, and never loses anything: the SDK asks again."""
    scripted = Scripted(body)
    messages = asyncio.run(Queue(scripted, scripted, "http://127.0.0.1/q", "main", 30, metrics()).receive(10))
    assert all(isinstance(message, Message) for message in messages)
    assert scripted.asked == ["receive"] or all(message.id != "sdk" for message in messages)


@pytest.mark.parametrize("body", [b'{"Failed": [{"Id": "0"}]}', b"<html>", b"[]"])
async def test_a_delete_that_does_not_go_smoothly_is_asked_of_the_sdk(body):
    """What the SDK says is what counts: a failed entry is not gone."""
    scripted = Scripted(body)
    queue = Queue(scripted, scripted, "http://127.0.0.1/q", "main", 30, metrics())
    messages = [Message("one", "", "r1", None, 1), Message("two", "", "r2", None, 1)]
    assert await queue.delete(messages) == {"two"}
    assert scripted.asked == ["delete"]
