"""The queue in memory and the real one keep the same promises."""

from __future__ import annotations

import asyncio

import pytest
from aiobotocore.session import get_session

from tests.fakes import MemoryQueue, metrics
from worker.ingest.queue import Queue, ReceiveError


@pytest.fixture(params=["memory", "sqs"])
async def queue(request):
    """A queue with two visible messages, by either part."""
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
        yield Queue(client, url, "main", 30, metrics())


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
        with pytest.raises(ReceiveError, match=r"no-such-queue.*NonExistentQueue"):
            await Queue(client, f"{embedded_aws}/000000000000/no-such-queue", "main", 30, metrics()).receive(1)


async def test_the_dead_letter_queues_depth_is_told(embedded_aws):
    """The depth of the queue that messages are redriven to is there without naming it."""
    async with get_session().create_client("sqs") as client:
        dead = (await client.create_queue(QueueName="dead"))["QueueUrl"]
        policy = '{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":"3"}'
        url = (await client.create_queue(QueueName="q", Attributes={"RedrivePolicy": policy}))["QueueUrl"]
        await client.send_message(QueueUrl=dead, MessageBody="poison")
        depths = await Queue(client, url, "main", 30, metrics()).depths()
    assert depths["dlq"]["visible"] == 1


async def test_receiving_can_be_cancelled(queue):
    """A long poll ends when its task is cancelled."""
    await queue.receive(10)
    polling = asyncio.create_task(queue.receive(10))
    await asyncio.sleep(0.01)
    polling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await polling
