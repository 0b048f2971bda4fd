"""Every sink takes what it is given, in order, tells what it did not take, and the fake keeps the same promises."""

from __future__ import annotations

import asyncio
import io
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import boto3
import orjson
import pytest
from aiobotocore.session import get_session

from tests.dispatch.receiver import receiving
from tests.fakes import ClosedLane, MemorySink
from worker.addresses import Address, address
from worker.aws import Accounts
from worker.dispatch.aws_targets import EventBridgeSink
from worker.dispatch.outbox import Sink
from worker.dispatch.sinks import FileSink, Outside, StdoutSink, open_sink
from worker.dispatch.sqs import SqsSink
from worker.model import Outgoing
from worker.settings import Settings


def item(number: int, size: int = 0) -> Outgoing:
    return Outgoing(f"id-{number}", "group", json.dumps({"number": number, "pad": "x" * size}).encode())


@asynccontextmanager
async def opened(to: str | Address, secrets: tuple[bytes, ...] = ()) -> AsyncIterator[Sink]:
    """The sink behind an address, as the worker opens it."""
    async with Accounts(get_session(), Settings()) as accounts, AsyncExitStack() as stack:
        outside = Outside(accounts, os.environ, lambda: datetime.now(UTC), io.BytesIO(), stack, secrets)
        yield await open_sink(address(to) if isinstance(to, str) else to, outside)


def subscribed(topic: str, queue: str) -> None:
    """Let a topic send to a queue what it is told, as it is."""
    sns, arn = boto3.client("sns"), f"arn:aws:sqs:us-east-1:000000000000:{queue}"
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"})


def numbers(bodies):
    return sorted(json.loads(body)["number"] for body in bodies)


def drained(url: str) -> list[str]:
    sqs, found = boto3.client("sqs"), []
    while told := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        found += [message["Body"] for message in told]
        for message in told:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


@pytest.fixture(params=["memory", "stdout", "file", "sqs", "fifo", "sqs by the SDK", "sns", "eventbridge", "stepfunctions", "webhook"])
async def sink(request, tmp_path):
    """A sink, and what it holds when asked."""
    if request.param == "memory":
        memory = MemorySink()
        yield memory, lambda: [one.body for one in memory.taken]
    elif request.param == "stdout":
        stream = io.BytesIO()
        yield StdoutSink(stream), lambda: stream.getvalue().splitlines()
    elif request.param == "file":
        path = tmp_path / "out.jsonl"
        yield FileSink(path), lambda: path.read_bytes().splitlines()
    elif request.param == "webhook":
        async with receiving() as receiver, opened(f"webhook+{receiver.url}", (b"x" * 24,)) as webhook:
            yield webhook, lambda: [body for _, body in receiver.taken]
    else:
        request.getfixturevalue("embedded_aws")
        async with opened(made(request.param)) as made_here:
            if request.param == "sqs by the SDK":
                assert isinstance(made_here, SqsSink)
                made_here._lane = ClosedLane()
            yield made_here, executions if request.param == "stepfunctions" else lambda: drained(queue_url())


def made(kind: str) -> str:
    """A sink of a kind in the embedded AWS, whose items end in a queue or in executions; answers its address."""
    attributes: Any = {"FifoQueue": "true"} if kind == "fifo" else {}
    url = boto3.client("sqs").create_queue(QueueName="q.fifo" if kind == "fifo" else "q", Attributes=attributes)["QueueUrl"]
    if kind == "sns":
        topic = boto3.client("sns").create_topic(Name="findings")["TopicArn"]
        subscribed(topic, "q")
        return topic
    if kind == "eventbridge":
        events = boto3.client("events")
        bus = events.create_event_bus(Name="security")["EventBusArn"]
        pattern = json.dumps({"source": ["trailmend"], "detail-type": ["Trailmend Finding"]})
        events.put_rule(Name="all", EventBusName="security", EventPattern=pattern)
        target: Any = {"Id": "q", "Arn": "arn:aws:sqs:us-east-1:000000000000:q", "InputPath": "$.detail"}
        events.put_targets(Rule="all", EventBusName="security", Targets=[target])
        return bus
    if kind == "stepfunctions":
        return state_machine()
    return url


def state_machine() -> str:
    definition = json.dumps({"StartAt": "Done", "States": {"Done": {"Type": "Succeed"}}})
    role = "arn:aws:iam::000000000000:role/states"
    states: Any = boto3.client("stepfunctions")
    return str(states.create_state_machine(name="mend", definition=definition, roleArn=role)["stateMachineArn"])


def executions() -> list[str]:
    """The inputs of all executions."""
    states = boto3.client("stepfunctions")
    (machine,) = states.list_state_machines()["stateMachines"]
    found = states.get_paginator("list_executions").paginate(stateMachineArn=machine["stateMachineArn"])
    arns = [one["executionArn"] for page in found for one in page["executions"]]
    return [states.describe_execution(executionArn=arn)["input"] for arn in arns]


def queue_url() -> str:
    (url,) = boto3.client("sqs").list_queues()["QueueUrls"]
    return url


async def test_all_that_is_put_is_there(sink):
    """Twenty-five items, more than one batch of SQS, arrive whole."""
    put, held = sink
    assert await put.put([item(number) for number in range(25)]) == {}
    assert numbers(held()) == list(range(25))


async def test_any_character_of_a_record_gets_through(sink):
    """What SQS takes in no message arrives as its JSON escape."""
    put, held = sink
    told = "\ufffe\uffff\u0000\u007f\U0001f600é"
    assert await put.put([Outgoing("id-1", "group", orjson.dumps({"told": told}))]) == {}
    assert [json.loads(body)["told"] for body in held()] == [told]


async def test_large_items_are_spread_over_batches(sink):
    """Items that together pass SQS's size of a batch arrive all the same."""
    put, held = sink
    assert await put.put([item(number, 60_000) for number in range(10)]) == {}
    assert numbers(held()) == list(range(10))


async def test_a_fifo_queue_takes_an_item_once(embedded_aws):
    """The item's id deduplicates where the queue can."""
    url = boto3.client("sqs").create_queue(QueueName="once.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]
    async with opened(url) as fifo:
        for _ in range(3):
            assert await fifo.put([item(1)]) == {}
    assert numbers(drained(url)) == [1]


async def test_a_queue_that_is_not_there_takes_nothing_and_says_so(embedded_aws):
    """Each item comes back with the reason."""
    async with opened(f"{embedded_aws}/000000000000/nowhere") as nowhere:
        failed = await nowhere.put([item(1), item(2)])
    assert failed.keys() == {"id-1", "id-2"}
    assert "NonExistentQueue" in failed["id-1"]


async def test_a_file_that_cannot_be_written_takes_nothing_and_says_so(tmp_path):
    """The path stands in the reason."""
    failed = await FileSink(tmp_path / "no" / "such" / "folder.jsonl").put([item(1)])
    assert "folder.jsonl" in failed["id-1"]


async def test_half_a_line_of_a_killed_process_spoils_no_other(tmp_path):
    """It is ended where it is, and what comes after it are lines of their own."""
    path = tmp_path / "findings.jsonl"
    path.write_bytes(b'{"whole": 1}\n{"ha')
    sink = FileSink(path)
    assert await sink.put([Outgoing("a", "g", b'{"a": 1}'), Outgoing("b", "g", b'{"b": 1}')]) == {}
    assert path.read_bytes().splitlines() == [b'{"whole": 1}', b'{"ha', b'{"a": 1}', b'{"b": 1}']


async def test_two_writers_of_one_file_keep_their_lines(tmp_path):
    """Long lines, longer than any buffer, put at the same time: each is whole."""
    path = tmp_path / "findings.jsonl"
    sinks = [FileSink(path) for _ in range(2)]
    items = [[Outgoing(f"{letter}{number}", "g", letter.encode() * 100_000) for number in range(5)] for letter in "xy"]
    await asyncio.gather(*(sink.put([item]) for sink, of in zip(sinks, items, strict=True) for item in of))
    assert sorted(path.read_bytes().splitlines()) == [b"x" * 100_000] * 5 + [b"y" * 100_000] * 5


async def test_a_closed_standard_output_takes_nothing_and_says_so():
    """A pipe whose reader went away is a failed delivery, not a crash."""
    stream = io.BytesIO()
    stream.close()
    assert (await StdoutSink(stream).put([item(1)])).keys() == {"id-1"}


async def test_urls_name_their_sinks(tmp_path):
    """Each scheme of FINDING_SINKS opens its sink; a file's path may be escaped."""
    async with opened("stdout:") as stdout, opened(f"file://{tmp_path}/with%20space.jsonl") as file:
        assert stdout.kind == "stdout"
        assert await file.put([item(1)]) == {}
    assert (tmp_path / "with space.jsonl").exists()


@pytest.mark.parametrize("fifo", [False, True])
async def test_a_topic_sends_on_and_a_fifo_topic_takes_an_item_once(fifo, embedded_aws):
    """To the queues that subscribe to it; the item's id deduplicates where the topic can."""
    attributes: Any = {"FifoQueue": "true"} if fifo else {}
    name = "t.fifo" if fifo else "t"
    url = boto3.client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    topic = boto3.client("sns").create_topic(Name=name, Attributes={"FifoTopic": "true"} if fifo else {})["TopicArn"]
    subscribed(topic, name)
    async with opened(topic) as sns:
        for _ in range(2):
            assert await sns.put([item(1)]) == {}
    assert numbers(drained(url)) == ([1] if fifo else [1, 1])


async def test_an_item_starts_one_execution_however_often_it_is_put(embedded_aws):
    """The execution is named by the item; that there is one of the name already counts as taken."""
    async with opened(state_machine()) as states:
        for _ in range(3):
            assert await states.put([item(1), item(2)]) == {}
    assert numbers(executions()) == [1, 2]


@pytest.mark.parametrize(
    "arn",
    [
        "arn:aws:sns:us-east-1:000000000000:nowhere",
        "arn:aws:states:us-east-1:000000000000:stateMachine:nowhere",
    ],
)
async def test_what_is_not_there_takes_nothing_and_says_so(arn, embedded_aws):
    """Each item comes back with AWS's reason."""
    async with opened(arn) as nowhere:
        failed = await nowhere.put([item(1), item(2)])
    assert failed.keys() == {"id-1", "id-2"}
    assert "NotFound" in failed["id-1"] or "DoesNotExist" in failed["id-1"]


async def test_what_a_bus_refuses_is_told_though_it_answers(embedded_aws):
    """EventBridge answers 200 with the fault of each entry inside."""

    class Refusing:
        async def put_events(self, **_):
            return {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "ThrottlingException", "ErrorMessage": "slower"}]}

    assert await EventBridgeSink(Refusing(), "arn:bus").put([item(1)]) == {"id-1": "ThrottlingException: slower"}


@pytest.mark.parametrize("kind", ["sns", "eventbridge", "stepfunctions"])
async def test_an_item_too_large_for_aws_says_so_and_keeps_no_other(kind, embedded_aws):
    """256 KB are the limit of all three."""
    async with opened(made(kind)) as target:
        failed = await target.put([item(1, 262_000), item(2)])
    assert failed.keys() == {"id-1"}
    assert "262144" in failed["id-1"]


async def test_a_queue_is_sent_to_without_the_sdk(embedded_aws):
    """Where all goes well the fast lane does it all."""
    url = boto3.client("sqs").create_queue(QueueName="q")["QueueUrl"]
    async with opened(url) as sink:
        assert isinstance(sink, SqsSink)
        sink._client = None
        assert await sink.put([item(number) for number in range(25)]) == {}
    assert numbers(drained(url)) == list(range(25))
