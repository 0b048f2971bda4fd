"""Every shape of notification, through a real queue of the embedded AWS, leads to the finding, and its message is deleted."""

from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from tests.integration.conftest import ACCOUNT, Estate, deletion, log_file, until_true


async def finds(estate: Estate, name: str) -> None:
    """The worker finds the deletion, dispatches its task and leaves nothing behind."""
    async with estate.worker():
        await until_true(lambda: estate.found() == [name] and estate.depth(estate.queue) == 0)
    assert estate.depth(estate.dead) == 0
    (task,) = [json.loads(body) for body in estate.bodies(estate.tasks)]
    assert (task["action"], task["target"]["name"]) == ("restore-instance-profile", name)


def subscribe(estate: Estate, *, raw: bool) -> str:
    sns = boto3.client("sns")
    topic: str = sns.create_topic(Name="notices")["TopicArn"]
    attributes = {"RawMessageDelivery": "true"} if raw else {}
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=estate.arn("main"), Attributes=attributes)
    return topic


async def test_s3_straight_to_the_queue(estate):
    """S3 -> SQS, set up as a bucket notification; S3's test event is passed over."""
    configuration = {"QueueConfigurations": [{"QueueArn": estate.arn("main"), "Events": ["s3:ObjectCreated:*"]}]}
    estate.s3.put_bucket_notification_configuration(Bucket="logs", NotificationConfiguration=configuration)
    estate.put("direct", log_file(deletion("direct")))
    await finds(estate, "direct")


@pytest.mark.parametrize("raw", [False, True], ids=["enveloped", "raw"])
async def test_s3_through_sns(estate, raw):
    """S3 -> SNS -> SQS, with SNS's envelope or raw."""
    topic = subscribe(estate, raw=raw)
    configuration = {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]}
    estate.s3.put_bucket_notification_configuration(Bucket="logs", NotificationConfiguration=configuration)
    estate.put("sns", log_file(deletion("sns")))
    await finds(estate, "sns")


@pytest.mark.parametrize("raw", [False, True], ids=["enveloped", "raw"])
async def test_cloudtrails_own_notice(estate, raw):
    """CloudTrail -> SNS -> SQS: s3Bucket and s3ObjectKey."""
    key = estate.put("trail", log_file(deletion("trail")))
    notice = {"s3Bucket": "logs", "s3ObjectKey": [key]}
    boto3.client("sns").publish(TopicArn=subscribe(estate, raw=raw), Message=json.dumps(notice))
    await finds(estate, "trail")


def rule_to_queue(estate: Estate, pattern: dict[str, object]) -> None:
    events = boto3.client("events")
    events.put_rule(Name="to-queue", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="to-queue", Targets=[{"Id": "queue", "Arn": estate.arn("main")}])


async def test_s3_through_eventbridge(estate):
    """S3 -> EventBridge -> SQS: Object Created, with the key as it is."""
    key = estate.put("bridge+1", log_file(deletion("bridge")))
    rule_to_queue(estate, {"detail-type": ["Object Created"]})
    detail = {"version": "0", "bucket": {"name": "logs"}, "object": {"key": key, "size": 100}, "reason": "PutObject"}
    entry: Any = {"Source": "aws.s3", "DetailType": "Object Created", "Detail": json.dumps(detail)}
    boto3.client("events").put_events(Entries=[entry])
    await finds(estate, "bridge")


async def test_an_api_call_through_eventbridge(estate):
    """CloudTrail -> EventBridge -> SQS: the record itself, with no object to fetch."""
    rule_to_queue(estate, {"detail-type": ["AWS API Call via CloudTrail"]})
    entry: Any = {"Source": "aws.iam", "DetailType": "AWS API Call via CloudTrail", "Detail": json.dumps(deletion("call"))}
    boto3.client("events").put_events(Entries=[entry])
    await finds(estate, "call")
    assert "message" in estate.findings()[0]["object"]


async def test_one_message_with_several_objects(estate):
    """A message may name many objects, and one event may stand in two of them: it is found once."""
    keys = [estate.put("one", log_file(deletion("one"))), estate.put("two", log_file(deletion("two"), deletion("one")))]
    estate.send(
        {"Records": [{"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "logs"}, "object": {"key": key}}} for key in keys]}
    )
    async with estate.worker():
        await until_true(lambda: estate.found() == ["one", "two"] and estate.depth(estate.queue) == 0)
    assert len(estate.bodies(estate.tasks)) == 2


async def test_the_same_event_by_two_channels_is_found_once(estate):
    """The same event from S3 and from EventBridge is one finding and one task."""
    estate.notify(estate.put("both", log_file(deletion("both"))))
    estate.send({"detail-type": "AWS API Call via CloudTrail", "source": "aws.iam", "account": ACCOUNT, "detail": deletion("both")})
    async with estate.worker():
        await until_true(lambda: estate.depth(estate.queue) == 0)
    assert estate.found() == ["both"]
    assert len(estate.bodies(estate.tasks)) == 1
