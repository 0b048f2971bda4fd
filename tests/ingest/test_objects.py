"""Objects are fetched by their exact key, whatever it looks like, and what cannot be fetched says why."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime

import boto3
import pytest
from aiobotocore.session import get_session

from tests.conftest import PATIENCE_SECONDS
from worker.aws import Accounts
from worker.budget import Budget
from worker.ingest.objects import ObjectError, Objects
from worker.model import Notice
from worker.settings import Settings

KEYS = [
    "AWSLogs/111122223333/CloudTrail/us-east-1/2026/11/23/x.json.gz",
    "with space+plus=é%20.json",
    "logs//AWSLogs/empty-segment.json",
    "/leading.json",
    "up/../down.json",
    "weird*?#[]{}'\"<>&.json",
]


@pytest.fixture(params=["lane", "sdk"])
async def objects(request, embedded_aws):
    """By the fast lane, and the long way."""
    boto3.client("s3").create_bucket(Bucket="logs")
    async with Accounts(get_session(), Settings()) as accounts:
        proxied = {} if request.param == "lane" else {"HTTPS_PROXY": "http://127.0.0.1:9"}  # never asked: it closes the lane
        yield Objects(accounts, {**os.environ, **proxied}, 1000, Budget(2000), lambda: datetime.now(UTC))


async def fetched(objects, notice):
    async with objects.fetch(notice) as found:
        return found.body


@pytest.mark.parametrize("key", KEYS)
async def test_every_key_gives_its_own_object(objects, key):
    """Also a key that obstore would refuse, or silently mend into another, gives the bytes that were put there."""
    boto3.client("s3").put_object(Bucket="logs", Key=key, Body=key.encode())
    assert await fetched(objects, Notice("logs", key)) == key.encode()


async def test_the_version_that_the_notice_names_is_fetched(objects):
    """An overwritten object is read as it was when the notice was sent."""
    s3 = boto3.client("s3")
    s3.put_bucket_versioning(Bucket="logs", VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket="logs", Key="k", Body=b"first")["VersionId"]
    s3.put_object(Bucket="logs", Key="k", Body=b"second")
    assert await fetched(objects, Notice("logs", "k", version=first)) == b"first"
    assert await fetched(objects, Notice("logs", "k")) == b"second"


@pytest.mark.parametrize("key", ["not-there.json", "not//there.json"])
@pytest.mark.parametrize("bucket", ["logs", "no-such-bucket"])
async def test_a_missing_object_is_told(objects, bucket, key):
    """Bucket and key stand in the error, whichever part fetched it."""
    with pytest.raises(ObjectError) as told:
        await fetched(objects, Notice(bucket, key))
    assert told.value.reason == "object-missing"
    assert f"s3://{bucket}/{key}" in str(told.value)


@pytest.mark.parametrize(("key", "size"), [("big.json", None), ("big//.json", None), ("big.json", 1001)])
async def test_an_object_over_the_bound_is_not_fetched(objects, key, size):
    """The bound holds by the notice's size and by what S3 says."""
    boto3.client("s3").put_object(Bucket="logs", Key=key, Body=b"x" * 1001)
    with pytest.raises(ObjectError) as told:
        await fetched(objects, Notice("logs", key, size=size))
    assert told.value.reason == "object-too-large"


async def test_an_endpoint_that_does_not_answer_may_pass(embedded_aws):
    """An unreachable S3 is a passing fault."""
    async with Accounts(get_session(), Settings()) as accounts:
        nowhere = Objects(accounts, {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, 1000, Budget(2000), lambda: datetime.now(UTC))
        with pytest.raises(ObjectError) as told:
            await fetched(nowhere, Notice("logs", "k"))
    assert (told.value.reason, told.value.passing) == ("object-unreachable", True)


@pytest.mark.parametrize("bucket", ["../other", "logs/../other", "logs?x=", "logs k", "logs\r\nhost: elsewhere\r\n\r\n", "lögs", "-"])
async def test_a_bucket_that_is_none_is_a_fault_and_no_more(objects, bucket):
    """Whatever a message names as bucket is asked for as that, or refused."""
    boto3.client("s3").create_bucket(Bucket="other")
    boto3.client("s3").put_object(Bucket="other", Key="k", Body=b"secret")
    with pytest.raises(ObjectError):
        await fetched(objects, Notice(bucket, "k"))


@pytest.mark.parametrize("key", ["plain.json", "odd//key.json"])
async def test_objects_beyond_the_budget_wait(objects, key):
    """Of three objects of 800 bytes in a budget of 2,000 the third is fetched when one of the others is let go of."""
    boto3.client("s3").put_object(Bucket="logs", Key=key, Body=b"x" * 800)
    async with objects.fetch(Notice("logs", key)):
        async with objects.fetch(Notice("logs", key)):
            third = asyncio.create_task(fetched(objects, Notice("logs", key)))
            assert not (await asyncio.wait([third], timeout=0.3))[0]
        assert len(await asyncio.wait_for(third, PATIENCE_SECONDS)) == 800
