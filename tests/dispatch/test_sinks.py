"""Every sink takes what it is given, in order, tells what it did not take, and the fake keeps the same promises."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import boto3
import orjson
import pytest
from aiobotocore.session import get_session

from tests.fakes import MemorySink
from worker.aws import Accounts
from worker.dispatch.sinks import FileSink, StdoutSink, open_sink
from worker.model import Outgoing
from worker.settings import Settings


def item(number: int, size: int = 0) -> Outgoing:
    return Outgoing(f"id-{number}", "group", json.dumps({"number": number, "pad": "x" * size}).encode())


def numbers(bodies):
    return sorted(json.loads(body)["number"] for body in bodies)


def drained(url: str) -> list[str]:
    sqs, found = boto3.client("sqs"), []
    while told := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        found += [message["Body"] for message in told]
        for message in told:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


@pytest.fixture(params=["memory", "stdout", "file", "sqs", "fifo"])
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
    else:
        request.getfixturevalue("embedded_aws")
        name: str
        attributes: Any
        name, attributes = ("q", {}) if request.param == "sqs" else ("q.fifo", {"FifoQueue": "true"})
        url = boto3.client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        async with Accounts(get_session(), Settings()) as accounts:
            yield await open_sink(url, accounts, io.BytesIO()), lambda: drained(url)


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
    async with Accounts(get_session(), Settings()) as accounts:
        fifo = await open_sink(url, accounts, io.BytesIO())
        for _ in range(3):
            assert await fifo.put([item(1)]) == {}
    assert numbers(drained(url)) == [1]


async def test_a_queue_that_is_not_there_takes_nothing_and_says_so(embedded_aws):
    """Each item comes back with the reason."""
    async with Accounts(get_session(), Settings()) as accounts:
        nowhere = await open_sink(f"{embedded_aws}/000000000000/nowhere", accounts, io.BytesIO())
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
    async with Accounts(get_session(), Settings()) as accounts:
        assert (await open_sink("stdout:", accounts, io.BytesIO())).kind == "stdout"
        made = await open_sink(f"file://{tmp_path}/with%20space.jsonl", accounts, io.BytesIO())
        assert await made.put([item(1)]) == {}
    assert (tmp_path / "with space.jsonl").exists()
