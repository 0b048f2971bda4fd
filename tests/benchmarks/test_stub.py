"""The stub that the whole worker is measured against: what it hands out, what it counts, and that an SDK takes it for SQS, S3 and STS."""

import asyncio
import gzip
import json

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError

from benchmarks.fleet import Fleet
from benchmarks.results import record
from benchmarks.stub import Ledger
from tests.conftest import PATIENCE_SECONDS

SHARE = 0.05


@pytest.fixture(scope="module")
def fleet():
    """One for all: each test has a queue of its own."""
    with Fleet(SHARE, mendable=True) as fleet:
        yield fleet


def _client(fleet, service):
    return AioSession().create_client(
        service,
        region_name="us-east-1",
        endpoint_url=fleet.endpoint,
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="bench",
        config=AioConfig(proxies={}, s3={"addressing_style": "path"}, read_timeout=10, retries={"mode": "standard", "max_attempts": 1}),
    )


async def _receive(sqs, fleet, queue, wait=0):
    answer = await sqs.receive_message(
        QueueUrl=fleet.url(queue), MaxNumberOfMessages=10, WaitTimeSeconds=wait, VisibilityTimeout=120, MessageSystemAttributeNames=["All"]
    )
    return answer.get("Messages", [])


async def test_every_message_is_handed_out_once_and_names_an_object_that_is_there(fleet):
    """Every message is handed out once, in tens, and names an object that S3 gives; the records in them are as many as the round says."""
    [given] = fleet.traffic.rounds(1, 25)
    fleet.offer("whole", given)
    keys, records, sizes = set(), 0, []
    async with _client(fleet, "sqs") as sqs, _client(fleet, "s3") as s3:
        for _ in range(4):
            messages = await _receive(sqs, fleet, "whole")
            sizes.append(len(messages))
            for message in messages:
                [told] = json.loads(message["Body"])["Records"]
                keys.add(told["s3"]["object"]["key"])
                answer = await s3.get_object(Bucket=told["s3"]["bucket"]["name"], Key=told["s3"]["object"]["key"])
                async with answer["Body"] as stream:
                    body = await stream.read()
                assert len(body) == told["s3"]["object"]["size"]
                records += len(json.loads(gzip.decompress(body))["Records"])
    assert sizes == [10, 10, 5, 0]
    assert len(keys) == 25
    assert records == given.records


async def test_a_round_is_over_when_the_last_message_is_deleted(fleet):
    """A round has no time before every message is deleted; deleting one twice does not count twice."""
    fleet.offer("over", fleet.traffic.rounds(1, 3)[0])
    async with _client(fleet, "sqs") as sqs:
        entries = [{"Id": str(n), "ReceiptHandle": one["ReceiptHandle"]} for n, one in enumerate(await _receive(sqs, fleet, "over"))]
        for batch in (entries[:2], entries[:2]):
            answer = await sqs.delete_message_batch(QueueUrl=fleet.url("over"), Entries=batch)
            assert [one["Id"] for one in answer["Successful"]] == ["0", "1"]
        assert fleet.told("over")["left"] == 1
        assert fleet.told("over")["seconds"] is None
        await sqs.delete_message_batch(QueueUrl=fleet.url("over"), Entries=entries[2:])
    assert fleet.told("over")["left"] == 0
    assert fleet.told("over")["seconds"] > 0


async def test_an_idle_receive_is_answered_when_a_message_comes(fleet):
    """A receive on an empty queue is held, and gets the message that is offered meanwhile."""
    [given] = fleet.traffic.rounds(1, 1)
    async with _client(fleet, "sqs") as sqs:
        receiving = asyncio.create_task(_receive(sqs, fleet, "later", wait=20))
        while not fleet.told("later")["requests"].get("ReceiveMessage"):
            await asyncio.sleep(0.01)
        assert not receiving.done()
        await asyncio.to_thread(fleet.offer, "later", given)
        assert len(await asyncio.wait_for(receiving, PATIENCE_SECONDS)) == 1


async def test_an_idle_receive_is_answered_when_the_pace_has_a_message(fleet):
    """A held receive gets the next message of a paced round when its time comes, though nothing else happens on the stub."""
    [given] = fleet.traffic.rounds(1, 2)
    async with _client(fleet, "sqs") as sqs:
        assert await _receive(sqs, fleet, "paced") == []
        fleet.offer("paced", given, per_second=0.5)
        assert len(await _receive(sqs, fleet, "paced")) == 1
        assert len(await _receive(sqs, fleet, "paced", wait=20)) == 1


async def test_what_enriches_is_refused_and_the_account_told(fleet):
    """STS tells whose account it is; IAM refuses in the way that an SDK understands."""
    async with _client(fleet, "sts") as sts, _client(fleet, "iam") as iam:
        assert (await sts.get_caller_identity())["Account"] == fleet.traffic.account
        with pytest.raises(ClientError, match="AccessDenied"):
            await iam.get_user(UserName="mallory")


def test_a_message_that_is_given_back_ends_the_round_and_comes_again():
    """A message left for later does not hold up the round's time, and is received again after the seconds it was left for; a heartbeat is neither."""
    ledger = Ledger()
    ledger.visibility_seconds = 120
    ledger.offer([(0.0, b"r", b'{"ApproximateReceiveCount":"1"}')])
    assert ledger.take(10, ledger.began) is not None
    ledger.extend({b"r": 120})
    assert not ledger.ended
    ledger.extend({b"r": 30})
    assert ledger.ended
    assert ledger.take(10, ledger.due() - 0.1) is None
    assert b'"ApproximateReceiveCount":"2"' in (ledger.take(10, ledger.due()) or b"")
    ledger.delete([b"r"])
    assert not ledger.left


def test_messages_at_a_pace_are_there_when_their_time_comes():
    """A paced round hands a message out from its own time on, and not before."""
    ledger = Ledger()
    ledger.offer([(0.0, b"a", b"first"), (1.0, b"b", b"second")])
    assert b"first" in (ledger.take(10, ledger.began) or b"")
    assert ledger.take(10, ledger.began + 0.9) is None
    assert b"second" in (ledger.take(10, ledger.began + 1.0) or b"")


def test_each_section_of_the_results_is_replaced_alone(tmp_path):
    """A section's new rows take the place of its old ones; the others stay."""
    path = tmp_path / "results.json"
    record("cores", [{"ratio": 1.5}], path)
    record("objects", [{"ratio": 4.0}], path)
    record("cores", [{"ratio": 1.7}], path)
    assert json.loads(path.read_text()) == {"cores": [{"ratio": 1.7}], "objects": [{"ratio": 4.0}]}
